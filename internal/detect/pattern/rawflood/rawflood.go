// Package rawflood finds who makes packets by hand.
//
// No sensor sees what a raw socket sends: a flood of SYN packets gives no events. What
// is seen is who opens such a socket, and how it came there.
package rawflood

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
	maxWorkloads = 1024
	maxSockets   = 10_000
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "network-raw-made", Theme: "network", Title: "A program that makes packets by hand was brought in", Severity: finding.High,
		Tactic: threat.Impact, Techniques: []string{"T1498.001", "T1040", "T1557"}, Kinds: []event.Kind{event.KindExec, event.KindRaw},
		Meaning:    "A raw or packet socket was opened by a program that did not come with the image, or by an interpreter, or one process opened very many: floods of half-open connections, forged answers and fast scans are sent so.",
		FalseAlarm: "Scripts that ping by themselves, and network tools that are installed after the start.",
		Tuning:     "Add programs to programs, or take an interpreter out of interpreters, in groups with such scripts.",
		Remedy:     "Stop the task, and take NET_RAW from it: nothing but such tools needs it. What was sent is not seen; look at the flow logs of the VPC.",
	},
		pattern.Int("sockets", 50, "raw sockets of one container in a minute, by whichever program"),
		pattern.List("interpreters", "programs that run what somebody wrote", "python", "perl", "ruby", "php", "node", "lua", "tclsh", "scapy"),
		pattern.List("programs", "programs that may", "ping", "ping6", "fping", "traceroute", "mtr", "mtr-packet", "arping", "dhclient", "dhcpcd", "udhcpc", "keepalived", "smokeping", "blackbox_exporter", "ip", "ss", "iptables", "ip6tables"),
	)
}

type raw struct {
	sockets                uint64
	interpreters, programs map[string]bool
	foreign                *pattern.Foreign
	opened                 *keep.Map[pattern.Workload, *opened]
}

type opened struct {
	rate  pattern.Rate
	trail pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &raw{sockets: uint64(v.Int("sockets", 2, maxSockets)), interpreters: v.Set("interpreters"), programs: v.Set("programs"), foreign: pattern.NewForeign()}
	d.opened = keep.New[pattern.Workload, *opened](maxWorkloads, 2*time.Minute)
	exec := func(s *rule.Subject) *rule.Match { d.foreign.Exec(s.Event); return nil }
	return pattern.Detector(about, pattern.On(exec, event.KindExec), pattern.On(d.look, event.KindRaw)), v.Err()
}

func (d *raw) look(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	if c == nil || c.Error != "" || c.Protocol == "icmp" || e.Failed() != "" {
		return nil
	}
	why := ""
	switch foreign := d.foreign.Is(s.Tree, e.AgentID, s.Process, e.Time); {
	case foreign:
		why = "it did not come with the image"
	case d.programs[s.Process.Program]:
		return nil
	case d.interpreters[s.Process.Program]:
		why = "it is a script"
	default:
		k := pattern.WorkloadOf(e)
		at, ok := d.opened.Get(k, e.Time)
		if !ok {
			at = d.opened.Put(k, &opened{}, e.Time)
		}
		o := *at
		o.trail.Add(e)
		n := o.rate.AddEvent(e, time.Minute)
		if n < d.sockets {
			return nil
		}
		m := rule.MatchOf(s, fmt.Sprintf("%s, or others of its container, opened %d raw sockets in a minute", pattern.Who(s), n), "sockets")
		m.Before, m.Count = o.trail.Before(e), n
		d.opened.Delete(k)
		return m
	}
	return rule.MatchOf(s, fmt.Sprintf("%s opened a %s socket; %s", pattern.Who(s), c.Protocol, why), "program")
}
