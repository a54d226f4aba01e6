package topology

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Question is whose address a peer's is.
type Question struct {
	AgentID    string // on whose host the connection was seen
	WorkloadID string // who had it; empty for the host itself
	Protocol   string // tcp or udp; a port means something in its protocol alone
	Remote     netip.AddrPort
	// Incoming says that the peer began: its port then tells nothing, and
	// behind address translation its address is a gateway's or a host's. Who
	// connected is exact at the other end.
	Incoming bool
	At       time.Time // by the agent's clock
}

// services are link-local addresses at which the platform answers: the instance
// metadata, the task's metadata and credentials, the resolver and clock of the
// VPC, and the engine's own resolver.
var services = [...]netip.Addr{
	netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("169.254.170.2"),
	netip.MustParseAddr("169.254.169.253"), netip.MustParseAddr("169.254.169.123"),
	netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd00:ec2::253"), netip.MustParseAddr("fd00:ec2::123"),
}

func isService(a netip.Addr) bool { return slices.Contains(services[:], a) }

// carrierGrade is RFC 6598: private, though not in RFC 1918.
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")

// Resolve says who the peer is. An address that contradicting agents claim is
// nobody's: what is not certain is not said.
func (x *Index) Resolve(q Question) event.Peer {
	a := q.Remote.Addr().Unmap().WithZone("")
	if !a.IsValid() {
		return event.Peer{}
	}
	if isService(a) {
		return event.Peer{Kind: event.PeerService}
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if a.IsLoopback() || a.IsUnspecified() { // connecting to 0.0.0.0 is connecting to oneself
		return x.inside(q)
	}
	for _, c := range []claim{{q.AgentID, a}, {"", a}} {
		if p, ok := x.claimed(q, c); ok {
			return p
		}
	}
	if host, ok := x.hostOf(q.AgentID, a); ok {
		return x.atHost(q, host, a)
	}
	if a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || carrierGrade.Contains(a) || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return event.Peer{Kind: event.PeerPrivate}
	}
	return event.Peer{Kind: event.PeerPublic}
}

// inside answers for a loopback address: whoever listens in the same network
// namespace, else the workload itself.
func (x *Index) inside(q Question) event.Peer {
	in := space{agent: q.AgentID}
	if w := x.workloads[q.WorkloadID]; w != nil {
		in = w.space
	} else if q.WorkloadID != "" {
		return event.Peer{Kind: event.PeerSelf}
	}
	if p, ok := x.listening(q, in); ok {
		return p
	}
	if in.owner == "" { // the engine's proxy answers at published ports on loopback, too
		if p, ok := x.publishedAt(q, q.AgentID, q.Remote.Addr().Unmap()); ok {
			return p
		}
	}
	return event.Peer{Kind: event.PeerSelf}
}

// claimed answers for an address that a workload has or had.
func (x *Index) claimed(q Question, c claim) (event.Peer, bool) {
	near := nearest(x.claims[c], q.At)
	if len(near) == 0 {
		return event.Peer{}, false
	}
	one := near[0]
	if !sameSpace(near) {
		if one = x.closest(q, near); one == nil {
			return event.Peer{}, false
		}
	}
	if p, ok := x.listening(q, one.space); ok {
		return p, true
	}
	return among(q, x.spaces[one.space]), true
}

// among picks the one who is meant of several at one address: the only one that
// is not there for the namespace alone, or the only one that exposes the port.
// Else it can only be said whose task it is.
func among(q Question, members []*workload) event.Peer {
	members = nearest(members, q.At)
	if own := slices.DeleteFunc(slices.Clone(members), func(w *workload) bool { return w.pause }); len(own) > 0 {
		members = own
	}
	if len(members) == 1 {
		return peer(q, members[0], 0)
	}
	if !q.Incoming {
		exposes := func(w *workload) bool {
			return slices.ContainsFunc(w.ports, func(p asset.Port) bool { return p.Port == q.Remote.Port() && p.Protocol == q.Protocol })
		}
		var only *workload
		n := 0
		for _, w := range members {
			if exposes(w) {
				only, n = w, n+1
			}
		}
		if n == 1 {
			return peer(q, only, 0)
		}
	}
	return event.Peer{Kind: event.PeerWorkload, Group: taskOf(members), AgentID: members[0].agent}
}

// taskOf is what the groups of a task's containers have in common:
// "cluster/service".
func taskOf(members []*workload) string {
	common := ""
	for _, w := range members {
		owner := string(w.group)
		if i := strings.LastIndexByte(owner, '/'); i >= 0 {
			owner = owner[:i]
		}
		if common != "" && common != owner {
			return ""
		}
		common = owner
	}
	return common
}

// listening answers by who opened the port in a namespace.
func (x *Index) listening(q Question, in space) (event.Peer, bool) {
	if q.Incoming {
		return event.Peer{}, false
	}
	id, ok := x.listeners[listener{space: in, protocol: q.Protocol, port: q.Remote.Port()}]
	w := x.workloads[id]
	if !ok || w == nil || rank(w, q.At) == never {
		return event.Peer{}, false
	}
	return peer(q, w, 0), true
}

// hostOf says which host has an address: the own one before all others, since
// the gateways of bridges are the same everywhere.
func (x *Index) hostOf(agentID string, a netip.Addr) (agent string, ok bool) {
	holders := x.holders[a]
	if slices.Contains(holders, agentID) {
		return agentID, true
	}
	if len(holders) == 1 {
		return holders[0], true
	}
	return "", false
}

// atHost answers for an address of a host: who listens there in the host's own
// namespace, who is published there, else the host.
func (x *Index) atHost(q Question, host string, a netip.Addr) event.Peer {
	if p, ok := x.listening(q, space{agent: host}); ok {
		return p
	}
	if p, ok := x.publishedAt(q, host, a); ok {
		return p
	}
	if from := x.workloads[q.WorkloadID]; host == q.AgentID && (q.WorkloadID == "" || from != nil && from.space.owner == "") {
		return event.Peer{Kind: event.PeerSelf}
	}
	return event.Peer{Kind: event.PeerHost, AgentID: host}
}

// publishedAt answers by the published ports of a host.
func (x *Index) publishedAt(q Question, host string, a netip.Addr) (event.Peer, bool) {
	if q.Incoming {
		return event.Peer{}, false
	}
	there := x.published[publication{agent: host, protocol: q.Protocol, port: q.Remote.Port()}]
	var at []*workload
	for _, w := range there {
		if _, ok := w.behind(q, a); ok {
			at = append(at, w)
		}
	}
	near := nearest(at, q.At)
	if len(near) == 0 {
		return event.Peer{}, false
	}
	inner, _ := near[0].behind(q, a)
	return peer(q, near[0], inner), true
}

// behind returns the workload's own port behind a published one.
func (w *workload) behind(q Question, a netip.Addr) (inner uint16, ok bool) {
	for _, p := range w.ports {
		if p.HostPort == q.Remote.Port() && p.Protocol == q.Protocol &&
			(!p.HostAddr.IsValid() || p.HostAddr.IsUnspecified() || p.HostAddr.Unmap() == a) {
			return p.Port, true
		}
	}
	return 0, false
}

// closest picks one of several workloads that have the same routed address, in
// networks that don't reach each other: that of the same host, else the only
// one of the same cluster, else nobody.
func (x *Index) closest(q Question, near []*workload) *workload {
	for _, w := range near {
		if w.agent == q.AgentID {
			return w
		}
	}
	from := x.workloads[q.WorkloadID]
	if from == nil {
		return nil
	}
	var only *workload
	for _, w := range near {
		if w.ecs.Cluster != from.ecs.Cluster || w.ecs.Account != from.ecs.Account || w.ecs.Region != from.ecs.Region {
			continue
		}
		if only != nil && only.space != w.space {
			return nil
		}
		only = w
	}
	return only
}

func sameSpace(ws []*workload) bool {
	return !slices.ContainsFunc(ws, func(w *workload) bool { return w.agent != ws[0].agent || w.space != ws[0].space })
}

// How well a workload's life fits a moment; less is better.
const (
	then  = iota // it ran
	after        // it had ended a short while before
	soon         // it started a little later, by another clock
	never
)

func rank(w *workload, at time.Time) int {
	switch {
	case w.from.Sub(at) > skew:
		return never
	case !w.until.IsZero() && at.Sub(w.until) > keepEnded:
		return never
	case w.from.After(at):
		return soon
	case !w.until.IsZero() && at.After(w.until):
		return after
	}
	return then
}

// nearest returns those whose life fits the moment best. Of those that had
// ended, the last one counts.
func nearest(ws []*workload, at time.Time) []*workload {
	best, latest := never, time.Time{}
	var out []*workload
	for _, w := range ws {
		r := rank(w, at)
		switch {
		case r == never || r > best:
			continue
		case r < best, r == after && w.until.After(latest):
			out = out[:0]
		case r == after && w.until.Before(latest):
			continue
		}
		best, latest = r, w.until
		out = append(out, w)
	}
	return out
}

// peer is w as seen by who asks.
func peer(q Question, w *workload, port uint16) event.Peer {
	if w.id == q.WorkloadID {
		return event.Peer{Kind: event.PeerSelf, Port: port}
	}
	return event.Peer{Kind: event.PeerWorkload, WorkloadID: w.id, Group: string(w.group), AgentID: w.agent, Port: port}
}
