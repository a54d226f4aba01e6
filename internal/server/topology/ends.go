package topology

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// endsLife is how long the ends of a connection are remembered at least: its
// other end is told with it, and tells its close when that is over.
const endsLife = 2 * time.Minute

// end is a connection as one side has it. The other side has it the other way
// round, unless an address was translated in between.
type end struct {
	agent         string
	netns         uint32 // of loopback addresses, which mean something else in every namespace
	protocol      string
	local, remote netip.AddrPort
}

// ends remembers who had which end of a connection, as a hash: two connections
// with one are one in 2^64 for each pair. There are two generations, and the
// older one goes.
type ends struct {
	seed       maphash.Seed
	young, old map[uint64]string // end → workload; empty for the host
	began      time.Time         // the young one
}

func newEnds() ends {
	return ends{seed: maphash.MakeSeed(), young: map[uint64]string{}, old: map[uint64]string{}}
}

func (s *ends) age(now time.Time) {
	if now.Sub(s.began) >= endsLife || s.began.After(now) {
		s.young, s.old, s.began = map[uint64]string{}, s.young, now
	}
}

func (s *ends) put(e end, workload string) {
	if len(s.young) >= maxEnds/2 {
		s.young, s.old = map[uint64]string{}, s.young
	}
	s.young[maphash.Comparable(s.seed, e)] = workload
}

func (s *ends) get(e end) (workload string, ok bool) {
	h := maphash.Comparable(s.seed, e)
	if workload, ok = s.young[h]; !ok {
		workload, ok = s.old[h]
	}
	return workload, ok
}

// endOf returns one end of a connection; false when it can't be told from
// others.
func endOf(agent, protocol string, netns uint32, local, remote netip.AddrPort) (end, bool) {
	local, remote = plainPort(local), plainPort(remote)
	if !local.IsValid() || !remote.IsValid() || local.Port() == 0 || remote.Port() == 0 ||
		local.Addr().IsUnspecified() || remote.Addr().IsUnspecified() {
		return end{}, false
	}
	if !local.Addr().IsLoopback() && !remote.Addr().IsLoopback() {
		netns = 0
	} else if netns == 0 {
		return end{}, false
	}
	return end{agent, netns, protocol, local, remote}, true
}

func plainPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// Connects takes over who has this end of a connection, which says exactly who
// the peer of the other end is. The event must be of the agent it names, and
// come before the questions about other ends.
func (x *Index) Connects(e *event.Event) {
	c := e.Connection
	if c == nil || c.Error != "" || e.Times() > 1 || e.Kind != event.KindConnect && e.Kind != event.KindAccept {
		return
	}
	one, ok := endOf(e.AgentID, c.Protocol, c.NetNS, c.Local, c.Remote)
	if !ok {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ends.put(one, e.WorkloadID)
}

// other answers by who has the other end of the very connection. Of many that
// are alike there is none.
func (x *Index) other(q Question) (event.Peer, bool) {
	if !q.Until.IsZero() {
		return event.Peer{}, false
	}
	there, ok := endOf(q.AgentID, q.Protocol, q.NetNS, q.Remote, q.Local)
	if !ok {
		return event.Peer{}, false
	}
	id, ok := x.ends.get(there)
	switch w := x.workloads[id]; {
	case !ok, id == "" && !q.Incoming: // the engine's proxy may have accepted it, for whom the port says
		return event.Peer{}, false
	case id == q.WorkloadID:
		return event.Peer{Kind: event.PeerSelf}, true
	case id == "":
		return event.Peer{Kind: event.PeerHost, AgentID: q.AgentID}, true
	case w == nil: // the engine has not told of it yet
		return event.Peer{Kind: event.PeerWorkload, WorkloadID: id, AgentID: q.AgentID}, true
	case w.agent != q.AgentID || rank(w, q) == never:
		return event.Peer{}, false
	default:
		return peer(q, w, 0), true
	}
}
