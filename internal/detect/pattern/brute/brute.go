// Package brute finds who guesses passwords: many short conversations at a port where
// one logs in, each as small as a login that is refused.
package brute

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxPeers    = 4096
	maxAttempts = 100_000
	longest     = 20 * time.Second // of one conversation: servers wait after a wrong password
	maxReply    = 1 << 20
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "access-guessing", Theme: "access", Title: "Passwords are being guessed", Severity: finding.High,
		Tactic: threat.CredentialAccess, Techniques: []string{"T1110.001", "T1110"}, Kinds: []event.Kind{event.KindClose},
		Meaning:    "A container had very many short conversations with one peer at a port where one logs in, or one peer had them with it, each as small as a login that is refused.",
		FalseAlarm: "Applications without a pool that log in for each request and ask for hardly anything; monitors that log in to see whether they can.",
		Tuning:     "ports has for each port how many bytes a refused login gets; lower that, or raise attempts, in groups of such applications. Whether a login was refused is not seen, only how much was said; over TLS all logins are larger and are not found.",
		Remedy:     "Look at the log of the server that was asked for logins that succeeded, change those passwords, and let the security group admit only who needs it.",
	},
		pattern.Int("attempts", 60, "conversations within the while"),
		pattern.Duration("within", 5*time.Minute, "that while"),
		pattern.List("ports", "ports where one logs in, each with the bytes that a refused login gets at most",
			"21:512", "22:4096", "23:512", "110:256", "143:512", "389:128", "445:1024", "1433:512", "1521:1024", "3306:220", "3389:4096", "5432:260", "5900:64", "5985:1024", "6379:96", "27017:700"),
	)
}

type guesses struct {
	attempts uint64
	within   time.Duration
	ports    map[uint16]uint64
	peers    *keep.Map[peer, *tried]
}

type peer struct {
	workload pattern.Workload
	address  netip.Addr
	port     uint16
	incoming bool
}

type tried struct {
	rate  pattern.Rate
	trail pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &guesses{attempts: uint64(v.Int("attempts", 2, maxAttempts)), within: v.Duration("within", 24*time.Hour), ports: map[uint16]uint64{}}
	for _, text := range v.List("ports") {
		port, bytes, _ := strings.Cut(text, ":")
		p, err := strconv.ParseUint(port, 10, 16)
		n, errBytes := strconv.ParseUint(bytes, 10, 32)
		if err != nil || errBytes != nil || p == 0 || n > maxReply {
			return nil, fmt.Errorf("parameter ports has %.40q: want port:bytes", text)
		}
		d.ports[uint16(p)] = n
	}
	d.peers = keep.New[peer, *tried](maxPeers, d.within)
	return pattern.Detector(about, pattern.On(d.look, event.KindClose)), v.Err()
}

func (d *guesses) look(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	if c == nil || c.Protocol != "tcp" || c.Resumed {
		return nil
	}
	port, client, server := c.Remote.Port(), c.BytesSent, c.BytesReceived
	if c.Incoming {
		port, client, server = c.Local.Port(), c.BytesReceived, c.BytesSent
	}
	most, login := d.ports[port]
	n := e.Times()
	// Health checks say nothing, or get no answer.
	if !login || client == 0 || server == 0 || server/n > most || c.Duration/time.Duration(n) > longest {
		return nil
	}
	if rule.Place(c.Remote.Addr()) == event.PeerSelf {
		return nil
	}
	k := peer{pattern.WorkloadOf(e), c.Remote.Addr().Unmap(), port, c.Incoming}
	at, ok := d.peers.Get(k, e.Time)
	if !ok {
		at = d.peers.Put(k, &tried{}, e.Time)
	}
	t := *at
	t.trail.Add(e)
	tries := t.rate.AddEvent(e, d.within)
	if tries < d.attempts {
		return nil
	}
	says := fmt.Sprintf("%s talked %d times with %s at port %d within %s, each time as little as a refused login", pattern.Who(s), tries, k.address, port, d.within)
	if c.Incoming {
		says = fmt.Sprintf("%s talked %d times with %s at port %d within %s, each time as little as a refused login", k.address, tries, pattern.Who(s), port, d.within)
	}
	m := rule.MatchOf(s, says, k.address.String(), strconv.Itoa(int(port)))
	m.Before, m.Count = t.trail.Before(e), tries
	d.peers.Delete(k)
	return m
}
