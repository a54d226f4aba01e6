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
	Local      netip.AddrPort
	Remote     netip.AddrPort
	NetNS      uint32 // inode number of the network namespace; 0 where that is not known
	// Incoming says that the peer began: its port then tells nothing, and
	// behind address translation its address is a gateway's or a host's. Who
	// connected is exact at the other end.
	Incoming bool
	At       time.Time // by the agent's clock
	// Begins says that the connection was made at that very moment: whoever had
	// ended by then it was not.
	Begins bool
	// Until is when the last of many connections was made that are asked about
	// together; zero for one alone.
	Until time.Time
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
	x.mu.RLock()
	defer x.mu.RUnlock()
	p := x.resolve(q)
	if q.Until.After(q.At) {
		q.At = q.Until
		p = common(p, x.resolve(q))
	}
	return p
}

// common is what can be said of many connections of which the first was with
// one and the last with another. Where nobody was in the beginning, all were with
// whoever came; where nobody is known at the end, somebody unknown had come.
func common(first, last event.Peer) event.Peer {
	switch {
	case first.Kind != event.PeerWorkload && last.Kind == event.PeerWorkload:
		return last
	case first.Kind != event.PeerWorkload:
		return first
	}
	p := event.Peer{Kind: event.PeerWorkload}
	if first.WorkloadID == last.WorkloadID {
		p.WorkloadID = first.WorkloadID
	}
	if first.Group == last.Group {
		p.Group = first.Group
	}
	if first.AgentID == last.AgentID {
		p.AgentID = first.AgentID
	}
	if first.Port == last.Port {
		p.Port = first.Port
	}
	return p
}

func (x *Index) resolve(q Question) event.Peer {
	a := q.Remote.Addr().Unmap().WithZone("")
	if !a.IsValid() {
		return event.Peer{}
	}
	if isService(a) {
		return event.Peer{Kind: event.PeerService}
	}
	if p, ok := x.other(q); ok {
		return p
	}
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
// namespace, else whoever else is in it, else the workload itself.
func (x *Index) inside(q Question) event.Peer {
	in := space{agent: q.AgentID}
	w := x.workloads[q.WorkloadID]
	if w != nil {
		in = w.space
	} else if q.WorkloadID != "" {
		return event.Peer{Kind: event.PeerSelf}
	}
	if p, ok := x.listening(q, in); ok {
		return p
	}
	if in.owner == "" {
		// The engine's proxy answers at published ports on loopback, too.
		if p, ok := x.publishedAt(q, q.AgentID, q.Remote.Addr().Unmap()); ok {
			return p
		}
		if w != nil {
			return event.Peer{Kind: event.PeerHost, AgentID: q.AgentID}
		}
	} else if members := x.spaces[in]; len(members) > 1 {
		return among(q, members)
	}
	return event.Peer{Kind: event.PeerSelf}
}

// claimed answers for an address that a workload has or had.
func (x *Index) claimed(q Question, c claim) (event.Peer, bool) {
	near := nearest(x.claims[c], q)
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
	members = nearest(members, q)
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
// "cluster/service"; nothing of containers that are of no task.
func taskOf(members []*workload) string {
	common := ""
	for _, w := range members {
		owner := string(w.group)
		if i := strings.LastIndexByte(owner, '/'); i >= 0 {
			owner = owner[:i]
		}
		if w.ecs.TaskARN == "" || common != "" && common != owner {
			return ""
		}
		common = owner
	}
	return common
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
	if host == q.AgentID && q.WorkloadID == "" {
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
	near := nearest(at, q)
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

// peer is w as seen by who asks.
func peer(q Question, w *workload, port uint16) event.Peer {
	if w.id == q.WorkloadID {
		return event.Peer{Kind: event.PeerSelf, Port: port}
	}
	return event.Peer{Kind: event.PeerWorkload, WorkloadID: w.id, Group: string(w.group), AgentID: w.agent, Port: port}
}
