// Package minerload finds mining by what it does: a connection with a pool that stays
// for long and carries little, while the processor is used up.
package minerload

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxWorkloads = 1024
	maxLines     = 16 // connections of one that may be with a pool
	keepLine     = 24 * time.Hour
	// A pool sends work every half minute or so, and takes a result now and then:
	// some hundred bytes each, both ways.
	leastRate, mostRate = 1.0, 4096.0 // bytes a second, both ways together
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "miner-behaviour", Theme: "miner", Title: "A container behaves like a miner", Severity: finding.High,
		Tactic: threat.Impact, Techniques: []string{"T1496", "T1071"}, Kinds: []event.Kind{event.KindConnect, event.KindClose, event.KindThrottle, event.KindExec},
		Meaning:    "A container holds a connection with a public peer at a port of mining pools, or one that a program that did not come with the image made, while its processor is used up; or such a connection at a pool's port stayed long and carried little.",
		FalseAlarm: "Programs that keep a quiet connection with a peer at such a port, such as gateways of chat and of blockchains.",
		Tuning:     "Take the port from ports, or silence the rule for the peer.",
		Remedy:     "Stop the task, look at what the process is and how it came in. That the processor is used up is only seen in containers with a limit of it.",
	},
		pattern.List("ports", "ports of pools", "1111", "2222", "3333", "3334", "4444", "5555", "5556", "6666", "7777", "8888", "9999", "10001", "10032", "10128", "10343", "13531", "14433", "14444", "20128", "20535", "20580", "33333", "45560", "45700"),
		pattern.Duration("held", time.Minute, "how long the connection is there when the processor is used up"),
		pattern.Duration("quiet", 10*time.Minute, "how long a connection with a pool's port is there at least, whatever the processor does"),
	)
}

type miners struct {
	ports       map[uint16]bool
	held, quiet time.Duration
	foreign     *pattern.Foreign
	workloads   *keep.Map[pattern.Workload, *lines]
}

// lines are connections that may be with a pool, oldest first.
type lines []line

type line struct {
	process event.Key
	who     string
	remote  netip.AddrPort
	name    string
	since   time.Time
	foreign bool
	trail   pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &miners{ports: v.Ports("ports"), held: v.Duration("held", 24*time.Hour), quiet: v.Duration("quiet", 24*time.Hour), foreign: pattern.NewForeign()}
	d.workloads = keep.New[pattern.Workload, *lines](maxWorkloads, keepLine)
	exec := func(s *rule.Subject) *rule.Match { d.foreign.Exec(s.Event); return nil }
	return pattern.Detector(about, pattern.On(exec, event.KindExec), pattern.On(d.connect, event.KindConnect), pattern.On(d.end, event.KindClose), pattern.On(d.throttle, event.KindThrottle)), v.Err()
}

// candidate says that a connection may be with a pool.
func (d *miners) candidate(s *rule.Subject) (foreign, ok bool) {
	c := s.Event.Connection
	if c == nil || c.Incoming || c.Error != "" || c.Protocol != "tcp" || rule.Place(c.Remote.Addr()) != event.PeerPublic {
		return false, false
	}
	foreign = d.foreign.Is(s.Tree, s.Event.AgentID, s.Process, s.Event.Time)
	return foreign, foreign || d.ports[c.Remote.Port()]
}

func (d *miners) connect(s *rule.Subject) *rule.Match {
	foreign, ok := d.candidate(s)
	if !ok {
		return nil
	}
	e, k := s.Event, pattern.WorkloadOf(s.Event)
	at, ok := d.workloads.Get(k, e.Time)
	if !ok {
		at = d.workloads.Put(k, &lines{}, e.Time)
	}
	l := line{process: e.Process.Key, who: pattern.Who(s), remote: e.Connection.Remote, name: e.Connection.Name, since: e.Time, foreign: foreign}
	l.trail.Add(e)
	all := *at
	if len(*all) == maxLines {
		*all = append((*all)[:0], (*all)[1:]...)
	}
	*all = append(*all, l)
	return nil
}

// throttle looks at what the container holds while its processor is used up. The event
// is of the container: which process uses it is not told.
func (d *miners) throttle(s *rule.Subject) *rule.Match {
	e := s.Event
	at, ok := d.workloads.Get(pattern.WorkloadOf(e), e.Time)
	if !ok {
		return nil
	}
	for i := range **at {
		l := &(**at)[i]
		if e.Time.Sub(l.since) < d.held {
			continue
		}
		says := fmt.Sprintf("%s holds a connection with %s %s for %s, and the container's processor is used up", l.who, l.remote, l.name, e.Time.Sub(l.since).Round(time.Second))
		m := rule.MatchOf(s, says, l.remote.String())
		m.Before = l.trail.Before(e)
		m.Peers = []threat.Peer{{Address: l.remote, Name: l.name, Peer: event.Peer{Kind: event.PeerPublic}}}
		l.since = e.Time // the next time is told if it goes on
		return m
	}
	return nil
}

func (d *miners) end(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	if d.workloads.Len() == 0 || c == nil || c.Incoming {
		return nil
	}
	if at, ok := d.workloads.Get(pattern.WorkloadOf(e), e.Time); ok {
		all := **at
		for i := range all {
			if all[i].process == e.Process.Key && all[i].remote == c.Remote {
				**at = append(all[:i], all[i+1:]...)
				break
			}
		}
	}
	if _, ok := d.candidate(s); !ok || !d.ports[c.Remote.Port()] || e.Times() > 1 || c.Duration < d.quiet {
		return nil
	}
	rate := float64(c.BytesSent+c.BytesReceived) / c.Duration.Seconds()
	if rate < leastRate || rate > mostRate || c.BytesSent == 0 || c.BytesReceived == 0 {
		return nil
	}
	says := fmt.Sprintf("%s held a connection with %s %s for %s, which carried %d bytes", pattern.Who(s), c.Remote, c.Name, c.Duration.Round(time.Second), c.BytesSent+c.BytesReceived)
	return rule.MatchOf(s, says, c.Remote.String())
}
