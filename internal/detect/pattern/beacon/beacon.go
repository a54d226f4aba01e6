// Package beacon finds programs that report to somebody outside at regular intervals
// and wait for orders.
package beacon

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxPeers  = 4096           // pairs of a container and a public peer
	keepPeer  = 26 * time.Hour // a beat an hour is 24 beats a day
	maxBeats  = 64             // of a peer, the newest
	leastBeat = 5 * time.Second
	// Most of the intervals are within half of the middle one: of a beacon whose
	// interval varies by 30 % all are, of calls by chance a third is.
	mostEven = 0.85
	// What is sent each time is about the same.
	mostSpread = 0.5
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "network-beacon", Theme: "network", Title: "A machine outside is called at regular intervals", Severity: finding.Medium,
		Tactic: threat.CommandAndControl, Techniques: []string{"T1071.001", "T1571"}, Kinds: []event.Kind{event.KindConnect, event.KindClose, event.KindExec},
		Meaning:    "Short connections with about the same few bytes go to one public peer at an interval that hardly varies, and the peer has no name, or is new to the group, or the program did not come with the image.",
		FalseAlarm: "Health checks and pushes of metrics to a service that was added while the containers ran, or to one that is called by its address.",
		Tuning:     "Add the end of the service's name, or its address, to harmless; learn is how long a group's peers are taken as its normal.",
		Remedy:     "Look at who the peer is and which program calls it; cut the container off if nobody knows it.",
	},
		pattern.Int("beats", 20, "intervals in a row"),
		pattern.Int("bytes", 10<<10, "bytes that a call sends at most, on average"),
		pattern.Duration("longest", 2*time.Hour, "the longest interval"),
		pattern.Duration("learn", time.Hour, "how long peers of a new group are taken as its normal"),
		pattern.List("harmless", "ends of names, and addresses, that are called so", ".amazonaws.com", ".amazonaws.com.cn", ".aws.dev", ".api.aws", ".on.aws", ".ntp.org", ".datadoghq.com", ".datadoghq.eu", ".newrelic.com", ".sentry.io", ".grafana.net", ".honeycomb.io"),
		pattern.List("harmless_ports", "ports that are called so: names, time", "53", "123", "853"),
	)
}

type beacons struct {
	beats    int
	bytes    float64
	longest  time.Duration
	learn    time.Duration
	harmless []string
	ports    map[uint16]bool
	known    *pattern.Known
	foreign  *pattern.Foreign
	peers    *keep.Map[peer, *called]
}

type peer struct {
	workload pattern.Workload
	name     string // or the address where there is none
	address  netip.Addr
	port     uint16
}

// called are the newest calls of a peer.
type called struct {
	last      time.Time
	intervals []float32 // seconds
	next      int       // where the next goes once there are maxBeats
	age       time.Duration
	// Of the calls that ended: how many, and the sums of the bytes that they sent,
	// and of their squares.
	n, sent, squares float64
	told             int // beats until it is looked at again
	trail            pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &beacons{
		beats: int(v.Int("beats", 5, maxBeats)), bytes: float64(v.Int("bytes", 1, 1<<40)), longest: v.Duration("longest", 24*time.Hour),
		learn: v.Duration("learn", 30*24*time.Hour), harmless: v.List("harmless"), ports: v.Ports("harmless_ports"),
		known: pattern.NewKnown(), foreign: pattern.NewForeign(), peers: keep.New[peer, *called](maxPeers, keepPeer),
	}
	exec := func(s *rule.Subject) *rule.Match { d.foreign.Exec(s.Event); return nil }
	return pattern.Learned(about, d.known, pattern.On(d.connect, event.KindConnect), pattern.On(d.end, event.KindClose), pattern.On(exec, event.KindExec)), v.Err()
}

// of returns the peer of a connection that this container began with the internet.
func (d *beacons) of(e *event.Event) (peer, bool) {
	c := e.Connection
	if c == nil || c.Incoming || c.Protocol != "tcp" && c.Protocol != "udp" || d.ports[c.Remote.Port()] || rule.Place(c.Remote.Addr()) != event.PeerPublic {
		return peer{}, false
	}
	p := peer{workload: pattern.WorkloadOf(e), name: c.Name, port: c.Remote.Port()}
	if c.Name == "" {
		p.address = c.Remote.Addr().Unmap()
	}
	return p, true
}

func (d *beacons) connect(s *rule.Subject) *rule.Match {
	e := s.Event
	k, ok := d.of(e)
	if !ok || !pattern.Vain(e.Connection) && e.Connection.Error != "" {
		return nil
	}
	at, ok := d.peers.Get(k, e.Time)
	if !ok {
		if pattern.EndsAny(pattern.Destination(e.Connection), d.harmless) {
			return nil
		}
		age := d.known.Age(e, pattern.Destination(e.Connection))
		at = d.peers.Put(k, &called{last: e.Time, age: age}, e.Time)
		(*at).trail.Add(e)
		return nil
	}
	c := *at
	c.trail.Add(e)
	if !c.beat(e) || len(c.intervals) < d.beats {
		return nil
	}
	if c.told > 0 {
		c.told--
		return nil
	}
	period, even := c.regular()
	if !even || period < leastBeat || period > d.longest || !c.small(d.bytes) {
		return nil
	}
	why := ""
	switch {
	case k.name == "":
		why = "it has no name"
	case d.foreign.Is(s.Tree, e.AgentID, s.Process, e.Time):
		why = "the program did not come with the image"
	case c.age >= d.learn:
		why = "it is new to the group"
	default:
		return nil
	}
	n := len(c.intervals)
	says := fmt.Sprintf("%s calls %s at port %d every %s, %d times now; %s", pattern.Who(s), pattern.Destination(e.Connection), k.port, period.Round(time.Second), n+1, why)
	m := rule.MatchOf(s, says, pattern.Destination(e.Connection))
	m.Before, m.Count = c.trail.Before(e), uint64(n)
	c.told = n
	return m
}

// beat notes calls of a peer, and says whether their interval can be told.
func (c *called) beat(e *event.Event) bool {
	_, to := pattern.Span(e)
	n := int(min(e.Times(), maxBeats))
	passed := to.Sub(c.last)
	if passed <= 0 {
		return false // its count came after the next
	}
	c.last = to
	each := float32(passed.Seconds() / float64(e.Times()))
	for range n {
		if len(c.intervals) < maxBeats {
			c.intervals = append(c.intervals, each)
			continue
		}
		c.intervals[c.next] = each
		c.next = (c.next + 1) % maxBeats
	}
	return true
}

// regular returns the middle of the intervals, and whether the others are near it.
func (c *called) regular() (time.Duration, bool) {
	sorted := slices.Clone(c.intervals)
	slices.Sort(sorted)
	middle := sorted[len(sorted)/2]
	near := 0
	for _, i := range sorted {
		if i >= middle/2 && i <= middle*3/2 {
			near++
		}
	}
	return time.Duration(float64(middle) * float64(time.Second)), float64(near) >= mostEven*float64(len(sorted))
}

// small says that the calls sent few bytes, each about as many. Calls that nobody
// answers end without having sent any.
func (c *called) small(most float64) bool {
	if c.n == 0 {
		return true
	}
	mean := c.sent / c.n
	return mean <= most && math.Sqrt(max(c.squares/c.n-mean*mean, 0)) <= mostSpread*mean
}

// end notes what a call sent.
func (d *beacons) end(s *rule.Subject) *rule.Match {
	if d.peers.Len() == 0 {
		return nil
	}
	e := s.Event
	k, ok := d.of(e)
	if !ok {
		return nil
	}
	if at, ok := d.peers.Get(k, e.Time); ok {
		n := float64(e.Times())
		each := float64(e.Connection.BytesSent) / n
		c := *at
		c.n, c.sent, c.squares = c.n+n, c.sent+each*n, c.squares+each*each*n
	}
	return nil
}
