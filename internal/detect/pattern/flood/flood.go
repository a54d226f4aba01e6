// Package flood finds who floods the network: with connections, or with packets.
package flood

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
	maxPeers = 2048             // pairs of a container and an address
	window   = 10 * time.Second // over which a rate is taken
	maxRate  = 10_000_000
	// Floods of packets are answered by few, if at all.
	mostAnswered = 10
	// A sender of packets that sent fewer than this many has not flooded anybody,
	// however fast it was.
	leastPackets = 10_000
	// Connections of which most fail are a flood or a storm of retries at a rate
	// that a busy client of a database reaches with those that succeed.
	vainShare = 0.5
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "network-flooding", Theme: "network", Title: "A flood is sent to a machine", Severity: finding.High,
		Tactic: threat.Impact, Techniques: []string{"T1498.001", "T1499.002", "T1499.001"}, Kinds: []event.Kind{event.KindConnect, event.KindClose, event.KindFlow},
		Meaning:    "A container opens connections to one address, or sends packets to it that are not answered, at a rate that no ordinary use has; an attack goes out from it, or its retries have no pause.",
		FalseAlarm: "Load tests, crawlers without keep-alive, senders of media, and collectors of logs and figures over UDP at other ports than those in collectors.",
		Tuning:     "Raise the parameters in groups of load tests; add the port of a collector to collectors. Packets through one socket are seen after 10,000 of them; connections of one process to one peer are told as a count after a minute, so a flood of them is seen then at the latest.",
		Remedy:     "Cut the container's network, find what sends, and limit new connections in the group's profile.",
	},
		pattern.Int("connections", 200, "connections a second with one public address, over ten seconds"),
		pattern.Int("private_connections", 3000, "connections a second with one private address"),
		pattern.Int("vain_connections", 300, "connections a second with one private address, at least half of them in vain"),
		pattern.Int("packets", 2000, "packets a second to one public address over UDP or ICMP, hardly answered, 10,000 at least"),
		pattern.Int("private_packets", 4000, "packets a second to one private address, likewise"),
		pattern.List("collectors", "ports to which packets go one way: statsd, syslog, flows, logs, traces, metrics", "514", "2003", "2055", "4739", "5140", "6343", "6831", "6832", "8089", "8125", "8126", "9125", "12201", "24224", "25826"),
		pattern.List("resolvers", "ports that are asked often over UDP", "53", "123"),
	)
}

type flood struct {
	public, private, vain         uint64
	publicPackets, privatePackets float64
	collectors, resolvers         map[uint16]bool
	peers                         *keep.Map[peer, *rates]
}

type peer struct {
	workload pattern.Workload
	address  netip.Addr
}

// rates are of the connections with one address.
type rates struct {
	all, vain pattern.Rate
	trail     pattern.Trail
	// Packets of flows, each with a socket of its own.
	packets, answered pattern.Rate
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	seconds := uint64(window / time.Second)
	d := &flood{
		public: seconds * uint64(v.Int("connections", 1, maxRate)), private: seconds * uint64(v.Int("private_connections", 1, maxRate)),
		vain:          seconds * uint64(v.Int("vain_connections", 1, maxRate)),
		publicPackets: float64(v.Int("packets", 1, maxRate)), privatePackets: float64(v.Int("private_packets", 1, maxRate)),
		collectors: v.Ports("collectors"), resolvers: v.Ports("resolvers"), peers: keep.New[peer, *rates](maxPeers, 2*time.Minute),
	}
	return pattern.Detector(about, pattern.On(d.connect, event.KindConnect), pattern.On(d.end, event.KindClose), pattern.On(d.flow, event.KindFlow)), v.Err()
}

// of returns what is known of an address; nil for what can't be flooded.
func (d *flood) of(e *event.Event) (peer, *rates) {
	c := e.Connection
	if c == nil || c.Incoming || !c.Remote.IsValid() {
		return peer{}, nil
	}
	switch rule.Place(c.Remote.Addr()) {
	case event.PeerSelf, event.PeerUnknown:
		return peer{}, nil
	}
	k := peer{pattern.WorkloadOf(e), c.Remote.Addr().Unmap()}
	at, ok := d.peers.Get(k, e.Time)
	if !ok {
		at = d.peers.Put(k, &rates{}, e.Time)
	}
	return k, *at
}

func (d *flood) connect(s *rule.Subject) *rule.Match {
	e := s.Event
	k, r := d.of(e)
	if r == nil || e.Connection.Protocol == "udp" && d.resolvers[e.Connection.Remote.Port()] {
		return nil
	}
	r.trail.Add(e)
	n := r.all.AddEvent(e, window)
	vain := uint64(0)
	if pattern.Vain(e.Connection) {
		vain = r.vain.AddEvent(e, window)
	} else {
		vain = r.vain.Add(e.Time, window, 0)
	}
	public := rule.Place(k.address) == event.PeerPublic
	switch {
	case public && n >= d.public, !public && n >= d.private:
	case !public && vain >= d.vain && float64(vain) >= vainShare*float64(n):
	default:
		return nil
	}
	what := "connections"
	if e.Connection.Protocol != "tcp" {
		what = e.Connection.Protocol + " flows"
	}
	says := fmt.Sprintf("%s opens %d %s a second with %s", pattern.Who(s), n/uint64(window/time.Second), what, e.Connection.Remote)
	if vain > 0 {
		says += fmt.Sprintf(", %d of %d in vain", vain, n)
	}
	m := rule.MatchOf(s, says, k.address.String())
	m.Before, m.Count = r.trail.Before(e), n
	d.peers.Delete(k)
	return m
}

// packets returns the pair that packets go between, and the rate that is a flood of it;
// nil where packets go one way, or are asked with.
func (d *flood) packets(e *event.Event) (peer, *rates, float64) {
	c := e.Connection
	if c == nil || c.Protocol != "udp" && c.Protocol != "icmp" || d.collectors[c.Remote.Port()] || d.resolvers[c.Remote.Port()] {
		return peer{}, nil, 0
	}
	k, r := d.of(e)
	if r != nil && rule.Place(k.address) == event.PeerPublic {
		return k, r, d.publicPackets
	}
	return k, r, d.privatePackets
}

// flow looks at packets while they go on. They are in the end's as well.
func (d *flood) flow(s *rule.Subject) *rule.Match {
	k, r, least := d.packets(s.Event)
	if r == nil {
		return nil
	}
	r.trail.Add(s.Event)
	c := s.Event.Connection
	rate := float64(c.PacketsSent) / max(c.Duration.Seconds(), 1)
	return d.judge(s, k, r, least, rate, float64(c.PacketsSent), float64(c.PacketsReceived))
}

// end looks at the packets of what has no connections.
func (d *flood) end(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	k, r, least := d.packets(e)
	if r == nil {
		return nil
	}
	r.trail.Add(e)
	sent, received := float64(c.PacketsSent), float64(c.PacketsReceived)
	rate := 0.0
	if e.Times() == 1 && c.Duration > 0 {
		// How long it was open is how long it sent, or more.
		rate = sent / max(c.Duration.Seconds(), 1)
	}
	// Many short flows, or alike ones that were added up.
	n, answered := r.packets.Add(e.Time, window, c.PacketsSent), r.answered.Add(e.Time, window, c.PacketsReceived)
	if sum := float64(n) / window.Seconds(); sum > rate && float64(n) >= leastPackets {
		_, to := pattern.Span(e)
		if lasted := max(to.Sub(e.Time), window).Seconds(); lasted > window.Seconds() {
			sum = sent / lasted
		}
		rate, sent, received = max(rate, sum), float64(n), float64(answered)
	}
	return d.judge(s, k, r, least, rate, sent, received)
}

// judge says that packets which went at a rate are a flood, if they are.
func (d *flood) judge(s *rule.Subject, k peer, r *rates, least, rate, sent, received float64) *rule.Match {
	e, c := s.Event, s.Event.Connection
	if sent < leastPackets || rate < least || received*mostAnswered > sent {
		return nil
	}
	says := fmt.Sprintf("%s sent %.0f packets a second to %s over %s, and was hardly answered", pattern.Who(s), rate, c.Remote, c.Protocol)
	m := rule.MatchOf(s, says, k.address.String())
	m.Before, m.Count = r.trail.Before(e), uint64(sent)
	d.peers.Delete(k)
	return m
}
