// Package exfil finds data that is sent out in bulk.
package exfil

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxPeers = 4096 // pairs of a container and a peer
	maxBytes = 1 << 50
	// A peer without a name that the group has from its first minute on belongs to
	// its set-up: a replica, a collector.
	settled = time.Minute
	// What is sent is this many times what is received: others are downloads, or
	// conversations.
	mostlySent = 4
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "network-sent-out", Theme: "network", Title: "Much data was sent to a peer that the group did not have", Severity: finding.High,
		Tactic: threat.Exfiltration, Techniques: []string{"T1048", "T1567", "T1041"}, Kinds: []event.Kind{event.KindConnect, event.KindClose, event.KindExec},
		Meaning:    "A container sent far more than it received over connections that it began, to a public peer that is new to its group, or has no name, or by a program that did not come with the image; or it carried data in pings.",
		FalseAlarm: "The first backup to a new place, and uploads to one that is called by its address. What is sent to who began the connection is a download and is not counted, nor is what goes to AWS.",
		Tuning:     "Add the end of the peer's name, or its address, to harmless, or raise bytes; what a connection sent is known when it ends.",
		Remedy:     "Cut the container's network, look at who the peer is, and find which files the process had open.",
	},
		pattern.Int("bytes", 50<<20, "bytes that were sent within the while"),
		pattern.Int("ping_bytes", 1<<20, "bytes that were sent in pings to one address within the while"),
		pattern.Duration("within", time.Hour, "that while"),
		pattern.Duration("learn", time.Hour, "how long peers of a new group are taken as its normal"),
		pattern.List("harmless", "ends of names, and addresses, that may be sent to", ".amazonaws.com", ".amazonaws.com.cn", ".aws.dev", ".api.aws", ".on.aws"),
	)
}

type sending struct {
	bytes, pings  uint64
	within, learn time.Duration
	harmless      []string
	known         *pattern.Known
	foreign       *pattern.Foreign
	peers         *keep.Map[peer, *sent]
}

type peer struct {
	workload pattern.Workload
	name     string // the domain, or the address
	ping     bool
}

type sent struct {
	out, in pattern.Rate
	trail   pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &sending{
		bytes: uint64(v.Int("bytes", 1, maxBytes)), pings: uint64(v.Int("ping_bytes", 1, maxBytes)), within: v.Duration("within", 24*time.Hour),
		learn: v.Duration("learn", 30*24*time.Hour), harmless: v.List("harmless"), known: pattern.NewKnown(), foreign: pattern.NewForeign(),
	}
	d.peers = keep.New[peer, *sent](maxPeers, d.within)
	exec := func(s *rule.Subject) *rule.Match { d.foreign.Exec(s.Event); return nil }
	connect := func(s *rule.Subject) *rule.Match { d.age(s.Event); return nil }
	return pattern.Learned(about, d.known, pattern.On(d.end, event.KindClose), pattern.On(connect, event.KindConnect), pattern.On(exec, event.KindExec)), v.Err()
}

// age returns how long the group was known when it spoke with a public peer first.
func (d *sending) age(e *event.Event) time.Duration {
	c := e.Connection
	if c == nil || c.Incoming || rule.Place(c.Remote.Addr()) != event.PeerPublic {
		return 0
	}
	return d.known.Age(e, domain(c))
}

// domain names a peer so that the machines of one service are one.
func domain(c *event.Connection) string {
	if c.Name != "" {
		return rule.Domain(c.Name)
	}
	return pattern.Destination(c)
}

func (d *sending) end(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	if c == nil || c.Incoming || c.BytesSent == 0 {
		return nil
	}
	ping := c.Protocol == "icmp"
	if place := rule.Place(c.Remote.Addr()); place != event.PeerPublic && (!ping || place == event.PeerSelf) || pattern.EndsAny(pattern.Destination(c), d.harmless) {
		return nil
	}
	age := d.age(e)
	k := peer{pattern.WorkloadOf(e), domain(c), ping}
	at, ok := d.peers.Get(k, e.Time)
	if !ok {
		at = d.peers.Put(k, &sent{}, e.Time)
	}
	t := *at
	_, to := pattern.Span(e)
	out, in := t.out.Add(to, d.within, c.BytesSent), t.in.Add(to, d.within, c.BytesReceived)
	t.trail.Add(e)
	why := ""
	switch {
	case ping && out >= d.pings:
		why = "in pings"
	case ping || out < d.bytes || out/mostlySent < in:
		return nil
	case d.foreign.Is(s.Tree, e.AgentID, s.Process, e.Time):
		why = "by a program that did not come with the image"
	case age >= d.learn:
		why = "which is new to the group"
	case c.Name == "" && age >= settled:
		why = "which has no name"
	default:
		return nil
	}
	says := fmt.Sprintf("%s sent %d MiB to %s, %s", pattern.Who(s), out>>20, pattern.Destination(c), why)
	m := rule.MatchOf(s, says, k.name)
	m.Before = t.trail.Before(e)
	d.peers.Delete(k)
	return m
}
