// Package hostscan finds who looks for machines: by one port at many addresses, or by
// some ports at some addresses.
package hostscan

import (
	"fmt"
	"strconv"
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
	maxSweeps = 2048 // pairs of a container and a port
	maxNets   = 1024 // containers that called anything in vain
	maxHosts  = 1024 // of a sweep
	maxSpan   = 7 * 24 * time.Hour
	// A net is of several machines and several ports: one service that is down is not.
	leastHosts, leastPorts = 5, 3
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "scan-host-sweep", Theme: "scan", Title: "Many machines were tried in vain", Severity: finding.High,
		Tactic: threat.Discovery, Techniques: []string{"T1046", "T1018"}, Kinds: []event.Kind{event.KindConnect},
		Meaning:    "A container called one port of many addresses, or several ports of several addresses, and was refused or not answered; services know their peers.",
		FalseAlarm: "Monitoring and service discovery with many targets that never answered. Peers that took a connection of the group in the last day are not counted.",
		Tuning:     "Add programs to monitors, or raise hosts, slow_hosts and endpoints in groups of monitoring; public_ports are ports at which public addresses are not counted, as crawlers, mail servers and resolvers meet dead ones.",
		Remedy:     "Find the process and how it came in, and look at which machines answered it.",
	},
		pattern.Int("hosts", 20, "addresses at one port within the while, in vain"),
		pattern.Int("endpoints", 30, "pairs of address and port within the while, in vain, of 5 addresses and 3 ports at least"),
		pattern.Duration("within", 2*time.Minute, "that while"),
		pattern.Int("slow_hosts", 60, "addresses at one port within the long while, in vain"),
		pattern.Duration("slow_within", 12*time.Hour, "the long while"),
		pattern.List("public_ports", "ports at which public addresses are not counted", "25", "53", "80", "123", "443", "465", "587", "853", "8080", "8443"),
		pattern.List("monitors", "programs that call many machines as their work", "prometheus", "vmagent", "blackbox_exporter", "telegraf", "zabbix_server", "zabbix_proxy", "nagios", "icinga2", "smokeping", "consul", "serf", "agent", "otelcol", "otelcol-contrib", "alloy", "grafana-agent", "datadog-agent"),
	)
}

type scan struct {
	hosts, endpoints, slow int
	within, slowWithin     time.Duration
	public                 map[uint16]bool
	monitors               map[string]bool
	answered               *pattern.Answered
	sweeps                 *keep.Map[port, *sweep]
	nets                   *keep.Map[pattern.Workload, *net]
}

type port struct {
	workload pattern.Workload
	number   uint16
}

// sweep are the addresses at one port.
type sweep struct {
	fast, slow pattern.Spread
	trail      pattern.Trail
}

// net is all that a container called in vain.
type net struct {
	endpoints, hosts, ports pattern.Spread
	trail                   pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &scan{
		hosts: int(v.Int("hosts", 2, maxHosts)), endpoints: int(v.Int("endpoints", 2, maxHosts)), slow: int(v.Int("slow_hosts", 2, maxHosts)),
		within: v.Duration("within", time.Hour), slowWithin: v.Duration("slow_within", maxSpan),
		public: v.Ports("public_ports"), monitors: v.Set("monitors"), answered: pattern.NewAnswered(),
	}
	d.sweeps = keep.New[port, *sweep](maxSweeps, max(d.slowWithin, d.within))
	d.nets = keep.New[pattern.Workload, *net](maxNets, d.within)
	return pattern.Detector(about, pattern.On(d.look, event.KindConnect)), v.Err()
}

func (d *scan) look(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	if c == nil || c.Protocol != "tcp" || c.Remote.Port() == 0 {
		return nil
	}
	if c.Error == "" {
		if !d.answered.Has(e) {
			d.answered.Note(e)
		}
		return nil
	}
	if !pattern.Vain(c) || d.monitors[s.Process.Program] {
		return nil
	}
	switch rule.Place(c.Remote.Addr()) {
	case event.PeerSelf, event.PeerUnknown:
		return nil
	case event.PeerPublic:
		if d.public[c.Remote.Port()] {
			return nil
		}
	}
	if d.answered.Has(e) {
		return nil
	}
	if m := d.sweep(s); m != nil {
		return m
	}
	return d.net(s)
}

// sweep looks at the addresses that were called at one port.
func (d *scan) sweep(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	k := port{pattern.WorkloadOf(e), c.Remote.Port()}
	at, ok := d.sweeps.Get(k, e.Time)
	if !ok {
		at = d.sweeps.Put(k, &sweep{}, e.Time)
	}
	w := *at
	w.trail.Add(e)
	host := pattern.HashAddr(c.Remote.Addr())
	n, within := w.fast.Add(host, e.Time, d.within, d.hosts), d.within
	slow := w.slow.Add(host, e.Time, d.slowWithin, d.slow)
	switch {
	case n >= d.hosts:
	case slow >= d.slow:
		n, within = slow, d.slowWithin
	default:
		return nil
	}
	says := fmt.Sprintf("%s tried %d addresses at port %d in vain within %s, the last was %s", pattern.Who(s), n, k.number, within, c.Remote.Addr().Unmap())
	m := rule.MatchOf(s, says, strconv.Itoa(int(k.number)))
	m.Before, m.Count = w.trail.Before(e), uint64(n)
	d.sweeps.Delete(k)
	return m
}

// net looks at all that a container called.
func (d *scan) net(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	if c.Remote.Port() >= pattern.Ephemeral {
		return nil
	}
	k := pattern.WorkloadOf(e)
	at, ok := d.nets.Get(k, e.Time)
	if !ok {
		at = d.nets.Put(k, &net{}, e.Time)
	}
	w := *at
	w.trail.Add(e)
	hosts := w.hosts.Add(pattern.HashAddr(c.Remote.Addr()), e.Time, d.within, d.endpoints)
	ports := w.ports.Add(uint64(c.Remote.Port()), e.Time, d.within, d.endpoints)
	n := w.endpoints.Add(pattern.HashPeer(c.Remote), e.Time, d.within, d.endpoints)
	if n < d.endpoints || hosts < leastHosts || ports < leastPorts {
		return nil
	}
	says := fmt.Sprintf("%s, or others of its container, tried %d ports of %d addresses in vain within %s, the last was %s", pattern.Who(s), n, hosts, d.within, c.Remote)
	m := rule.MatchOf(s, says, "net")
	m.Before, m.Count = w.trail.Before(e), uint64(n)
	d.nets.Delete(k)
	return m
}
