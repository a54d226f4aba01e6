// Package session finds credentials of a task or an instance that are used from
// elsewhere: by an address that is neither theirs nor known to be the account's, past
// the endpoint of their network, or after the task has ended.
package session

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/detect/cloud"
	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxSessions  = 4096
	maxAddresses = 16 // of one session: translators of addresses have a few
	maxShared    = 2048
	maxSharers   = 2 // sessions that must have an address to make it the account's
	forget       = 36 * time.Hour
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "trail-session-elsewhere", Theme: "trail", Title: "Credentials of a task or an instance were used from elsewhere", Severity: finding.Critical,
		Tactic: threat.CredentialAccess, Techniques: []string{"T1552.005", "T1078.004"}, Kinds: []event.Kind{event.KindCall},
		Meaning:    "A role's credentials are given to one task or instance alone; somebody has taken them out, and calls AWS from another place, or after the task has ended.",
		FalseAlarm: "Networks that leave by addresses that change all the time, such as proxies of others and relays for privacy; a task whose way to AWS is changed while it runs.",
		Tuning:     "Put the addresses by which one's networks leave into own; lengthen learn where a session has many addresses at its start.",
		Remedy:     "Detach the role's sessions, stop the task, and look at how the credentials were taken; look at all that was called from that address.",
	},
		pattern.List("own", "addresses and ranges by which one's own networks leave"),
		pattern.Duration("learn", 10*time.Minute, "for how long after the first call of a session its program may come from further addresses"),
		pattern.Duration("grace", 10*time.Minute, "for how long after the end of a task its credentials may be used"),
	)
}

type sessions struct {
	own          []netip.Prefix
	learn, grace time.Duration
	of           *keep.Map[key, *seen]
	shared       *keep.Map[place, *sharers]
}

// What is remembered has names for memory.go, which writes it down.

type key struct {
	Account string `json:"account"`
	ARN     string `json:"arn"`
}

type place struct {
	Account string     `json:"account"`
	Address netip.Addr `json:"address"`
}

// sharers are sessions that began at an address: what several come from is a way out
// of the account's network.
type sharers struct {
	ARNs []string `json:"arns"`
}

// seen is what is known of a session.
type seen struct {
	Since     time.Time       `json:"since"`
	Addresses []netip.Addr    `json:"addresses"`
	Tools     map[string]bool `json:"tools"`
	Endpoints map[string]bool `json:"endpoints"` // services that were called through an endpoint
	First     threat.Evidence `json:"first"`
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &sessions{
		learn: v.Duration("learn", 24*time.Hour), grace: v.Duration("grace", 24*time.Hour),
		of: newSessions(), shared: newShared(),
	}
	for _, text := range v.List("own") {
		p, err := netip.ParsePrefix(text)
		if a, errAddr := netip.ParseAddr(text); errAddr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("parameter own has %.60q: want an address or a range such as 203.0.113.0/24", text)
		}
		d.own = append(d.own, p.Masked())
	}
	return pattern.Learned(about, d, pattern.On(d.look, event.KindCall)), v.Err()
}

func (d *sessions) look(s *rule.Subject) *rule.Match {
	c := s.Event.Call
	if c == nil || c.Actor.Via != "" {
		return nil // a service of AWS calls on behalf
	}
	kind := c.Actor.Kind()
	address := network(c.Address())
	if kind != event.ActorTask && kind != event.ActorInstance || !address.IsValid() {
		return nil
	}
	now := s.Event.Time
	if c.Home != nil && !c.Home.Ended.IsZero() && now.Sub(c.Home.Ended) > d.grace {
		return d.match(s, nil, fmt.Sprintf("the credentials of %s called %s from %s, %s after the task had ended", &c.Actor, c.Is(), c.Source, now.Sub(c.Home.Ended).Round(time.Minute)))
	}
	k := key{c.Account, c.Actor.ARN}
	at, ok := d.of.Get(k, now)
	if !ok {
		at = d.of.Put(k, &seen{Since: now, Tools: map[string]bool{}, Endpoints: map[string]bool{}, First: threat.EvidenceOf(s.Event)}, now)
	}
	m := d.compare(s, *at, address, ok)
	if m == nil {
		d.note(s, *at, address, now)
	}
	return m
}

// compare says what is wrong with where a call comes from.
func (d *sessions) compare(s *rule.Subject, known *seen, address netip.Addr, before bool) *rule.Match {
	c, now := s.Event.Call, s.Event.Time
	if d.ours(c.Account, address, now) || has(known.Addresses, address) {
		return nil
	}
	if private := rule.Place(c.Address()) == event.PeerPrivate; private {
		return d.inside(s, known, address, before)
	}
	tool := cloud.Tool(c.Agent)
	switch {
	case !before && c.Home != nil && d.atHome(c.Home, address):
		return nil
	case !before:
		return nil // nothing to compare it with
	case c.Endpoint == "" && known.Endpoints[c.Service]:
		return d.match(s, known, fmt.Sprintf("the credentials of %s called %s from %s on the internet, and before through the endpoint of their network", &c.Actor, c.Is(), c.Source))
	case len(known.public()) == 0:
		// It has called private endpoints of other services alone: its way out is not known.
		if known.Tools[tool] {
			return nil
		}
	case known.Tools[tool] && now.Sub(known.Since) <= d.learn && len(known.Addresses) < maxAddresses:
		return nil // translators of addresses have several
	}
	how := ""
	if !known.Tools[tool] {
		how = ", by " + tool + ", which it never did"
	}
	return d.match(s, known, fmt.Sprintf("the credentials of %s called %s from %s%s; before they came from %s", &c.Actor, c.Is(), c.Source, how, listed(known.Addresses)))
}

// inside looks at a private address, which came through an endpoint of a network: a
// task and its host have few.
func (d *sessions) inside(s *rule.Subject, known *seen, address netip.Addr, before bool) *rule.Match {
	c := s.Event.Call
	if c.Home != nil && len(c.Home.Addresses) > 0 {
		if d.atHome(c.Home, address) {
			return nil
		}
		return d.match(s, known, fmt.Sprintf("the credentials of %s called %s from %s, which is neither the task's address nor its host's", &c.Actor, c.Is(), c.Source))
	}
	if !before || len(known.private()) == 0 || s.Event.Time.Sub(known.Since) <= d.learn && known.Tools[cloud.Tool(c.Agent)] {
		return nil
	}
	return d.match(s, known, fmt.Sprintf("the credentials of %s called %s from %s; before they came from %s", &c.Actor, c.Is(), c.Source, listed(known.Addresses)))
}

func (d *sessions) match(s *rule.Subject, known *seen, says string) *rule.Match {
	m := rule.MatchOf(s, says, s.Event.Call.Source)
	if known != nil && known.First.Boot != s.Event.Boot {
		m.Before = []threat.Evidence{known.First}
	}
	return m
}

// note remembers where a session comes from.
func (d *sessions) note(s *rule.Subject, known *seen, address netip.Addr, now time.Time) {
	c := s.Event.Call
	if !has(known.Addresses, address) && len(known.Addresses) < maxAddresses {
		if len(known.Addresses) == 0 && rule.Place(address) == event.PeerPublic {
			d.share(place{c.Account, address}, c.Actor.ARN, now)
		}
		known.Addresses = append(known.Addresses, address)
	}
	if len(known.Tools) < maxAddresses {
		known.Tools[cloud.Tool(c.Agent)] = true
	}
	if c.Endpoint != "" && len(known.Endpoints) < maxAddresses {
		known.Endpoints[c.Service] = true
	}
}

// share notes that a session began at an address.
func (d *sessions) share(p place, arn string, now time.Time) {
	at, ok := d.shared.Get(p, now)
	if !ok {
		at = d.shared.Put(p, &sharers{}, now)
	}
	if s := *at; len(s.ARNs) < maxSharers && !contains(s.ARNs, arn) {
		s.ARNs = append(s.ARNs, arn)
	}
}

// ours says that an address is one by which networks of the account leave.
func (d *sessions) ours(account string, address netip.Addr, now time.Time) bool {
	for _, p := range d.own {
		if p.Contains(address) || p.Overlaps(netip.PrefixFrom(address, min(address.BitLen(), networkBits))) && address.Is6() {
			return true
		}
	}
	at, ok := d.shared.Get(place{account, address}, now)
	return ok && len((*at).ARNs) >= maxSharers
}

func (d *sessions) atHome(h *event.Home, address netip.Addr) bool {
	for _, a := range h.Addresses {
		if network(a.Unmap()) == address {
			return true
		}
	}
	return false
}

// networkBits are those of an address of IPv6 that name a network: the rest is a
// machine's, and may change.
const networkBits = 64

// network returns an address as it is compared.
func network(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() {
		p, err := a.Prefix(networkBits)
		if err == nil {
			return p.Addr()
		}
	}
	return a
}

func (k *seen) public() []netip.Addr  { return k.at(event.PeerPublic) }
func (k *seen) private() []netip.Addr { return k.at(event.PeerPrivate) }

func (k *seen) at(where event.PeerKind) (out []netip.Addr) {
	for _, a := range k.Addresses {
		if rule.Place(a) == where {
			out = append(out, a)
		}
	}
	return out
}

func has(all []netip.Addr, a netip.Addr) bool {
	for _, x := range all {
		if x == a {
			return true
		}
	}
	return false
}

func contains(all []string, s string) bool {
	for _, x := range all {
		if x == s {
			return true
		}
	}
	return false
}

// listed names a few addresses.
func listed(all []netip.Addr) string {
	const few = 3
	var out []string
	for _, a := range all[:min(len(all), few)] {
		out = append(out, a.String())
	}
	if more := len(all) - few; more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return strings.Join(out, ", ")
}
