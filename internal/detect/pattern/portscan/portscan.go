// Package portscan finds who tries the ports of a machine, fast or slowly.
package portscan

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

// Bounds of what is remembered.
const (
	maxPeers = 2048 // tried in vain, or new, at once
	maxPorts = 1024 // of one peer
	maxSpan  = 7 * 24 * time.Hour
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "scan-port-sweep", Theme: "scan", Title: "The ports of a machine were tried", Severity: finding.High,
		Tactic: threat.Discovery, Techniques: []string{"T1046"}, Kinds: []event.Kind{event.KindConnect},
		Meaning:    "A container called many ports of one address, most of them in vain, or more than any service uses; the slow variant over hours.",
		FalseAlarm: "Clients of FTP, RPC and media servers that get a port for each transfer; monitors that look at many services of a machine. Ports from 32768 on, which engines publish containers at, and peers that took a connection of the group before are not counted.",
		Tuning:     "Raise ports, open or slow_ports in groups of monitors, or add the monitor's program to monitors.",
		Remedy:     "Find the process and how it came in, look at what answered, and close the security group to what the service does not need.",
	},
		pattern.Int("ports", 15, "ports of one address within the while, at least half of them in vain"),
		pattern.Int("open", 40, "ports of one address within the while, whether or not they answered"),
		pattern.Duration("within", time.Minute, "that while"),
		pattern.Int("slow_ports", 30, "ports in vain within the long while"),
		pattern.Duration("slow_within", 12*time.Hour, "the long while"),
		pattern.List("monitors", "programs that look at ports as their work", "blackbox_exporter", "smokeping", "zabbix_server", "zabbix_proxy", "nagios", "check_tcp", "uptime-kuma"),
	)
}

type scan struct {
	about              *threat.Rule
	ports, open, slow  int
	within, slowWithin time.Duration
	monitors           map[string]bool
	answered           *pattern.Answered
	tries              *keep.Map[peer, *tried]
}

type peer struct {
	workload pattern.Workload
	address  netip.Addr
}

// tried are the ports of one peer.
type tried struct {
	vain, slow, open pattern.Spread
	trail            pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &scan{about: about,
		ports: int(v.Int("ports", 2, maxPorts)), open: int(v.Int("open", 2, maxPorts)), slow: int(v.Int("slow_ports", 2, maxPorts)),
		within: v.Duration("within", time.Hour), slowWithin: v.Duration("slow_within", maxSpan),
		monitors: v.Set("monitors"), answered: pattern.NewAnswered(),
	}
	d.tries = keep.New[peer, *tried](maxPeers, max(d.slowWithin, d.within))
	return pattern.Detector(about, pattern.On(d.look, event.KindConnect)), v.Err()
}

func (d *scan) look(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	if c == nil || c.Remote.Port() == 0 || c.Remote.Port() >= pattern.Ephemeral || c.Protocol != "tcp" && c.Protocol != "udp" {
		return nil
	}
	vain := pattern.Vain(c)
	if !vain && c.Error != "" || d.answered.Has(e) {
		return nil
	}
	place := rule.Place(c.Remote.Addr())
	if !vain {
		d.answered.Note(e)
		if place == event.PeerSelf {
			return nil // the own services
		}
	}
	if d.monitors[s.Process.Program] {
		return nil
	}
	k := peer{pattern.WorkloadOf(e), c.Remote.Addr().Unmap()}
	at, ok := d.tries.Get(k, e.Time)
	if !ok {
		at = d.tries.Put(k, &tried{}, e.Time)
	}
	t := *at
	t.trail.Add(e)
	port := uint64(c.Remote.Port())
	n, slow := 0, 0
	if vain {
		n, slow = t.vain.Add(port, e.Time, d.within, d.open), t.slow.Add(port, e.Time, d.slowWithin, d.slow)
	} else {
		n = t.vain.Len()
	}
	open := t.open.Len()
	if !vain {
		open = t.open.Add(port, e.Time, d.within, d.open)
	}
	over, within := n+open, d.within
	switch {
	case over >= d.ports && n*2 >= over, over >= d.open:
	case slow >= d.slow:
		over, n, within = slow, slow, d.slowWithin
	default:
		return nil
	}
	says := fmt.Sprintf("%s tried %d ports of %s within %s, %d of them in vain", pattern.Who(s), over, k.address, within, n)
	m := rule.MatchOf(s, says, k.address.String())
	m.Before, m.Count = t.trail.Before(e), uint64(over)
	d.tries.Delete(k)
	return m
}
