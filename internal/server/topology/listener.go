package topology

import (
	"net/netip"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
)

// listener is a port of a namespace.
type listener struct {
	space    space
	protocol string
	port     uint16
}

// heard is who opened a port.
type heard struct {
	addr     netip.Addr // at which; the zero value is every one
	workload string     // empty for the host itself
}

// opened is a port as the event of its opening tells it.
type opened struct {
	protocol string
	port     uint16
	addr     netip.Addr // as of heard
	netns    uint32
}

// waiting are ports of a workload that its agent's engine has not told of yet,
// so that nobody knows in which namespace they are.
type waiting struct {
	agent string
	ports []opened
}

// Listens takes over that a port was opened: where several share an address,
// the port says who of them is meant. The event must be of the agent it names.
func (x *Index) Listens(e *event.Event) {
	c := e.Connection
	if e.Kind != event.KindListen || c == nil || c.Local.Port() == 0 {
		return
	}
	o := opened{protocol: c.Protocol, port: c.Local.Port(), addr: boundTo(c.Local.Addr()), netns: c.NetNS}
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.workloads[e.WorkloadID]
	switch {
	case e.WorkloadID == "":
		// The host's processes are in other namespaces, too, as the engine's
		// resolver is in those of containers. Which one is the host's a workload
		// in host mode has shown; before that nobody listens there but the host.
		if o.netns != 0 && o.netns == x.hostNetNS[e.AgentID] {
			x.open(space{agent: e.AgentID}, "", o)
		}
	case w == nil:
		x.wait(e.WorkloadID, e.AgentID, o)
	case w.agent == e.AgentID:
		if len(w.opened) < maxPorts && !slices.Contains(w.opened, o) {
			w.opened = append(w.opened, o)
		}
		x.open(w.space, w.id, o)
	}
}

func (x *Index) open(in space, workload string, o opened) {
	if in.owner == "" && workload != "" && o.netns != 0 {
		x.hostNetNS[in.agent] = o.netns
	}
	l := listener{space: in, protocol: o.protocol, port: o.port}
	have, there := x.listeners[l]
	if !there && len(x.listeners) >= maxListeners {
		return
	}
	x.listeners[l] = hear(have, heard{o.addr, workload})
}

// wait keeps a port until the workload is known, for some minutes.
func (x *Index) wait(workload, agent string, o opened) {
	w := x.waiting[0][workload]
	if w.agent != agent {
		if len(x.waiting[0]) >= maxWaiting {
			return
		}
		w = waiting{agent: agent}
	}
	if len(w.ports) < maxHeard && !slices.Contains(w.ports, o) {
		w.ports = append(w.ports, o)
		x.waiting[0][workload] = w
	}
}

// place opens the ports of a workload where it is now known to be; before is what
// was known of it, nil for nothing.
func (x *Index) place(w, before *workload) {
	if before != nil {
		if w.opened = before.opened; w.space == before.space {
			return
		}
	}
	for i := range x.waiting {
		if held := x.waiting[i][w.id]; held.agent == w.agent {
			w.opened = append(w.opened, held.ports...)
			delete(x.waiting[i], w.id)
		}
	}
	for _, o := range w.opened {
		x.open(w.space, w.id, o)
	}
}

// hear adds the latest who opened a port: nobody else has it at this address any
// more, and where that is every address, at none.
func hear(have []heard, h heard) []heard {
	if !h.addr.IsValid() {
		return []heard{h}
	}
	have = slices.DeleteFunc(slices.Clone(have), func(o heard) bool { return o.addr == h.addr })
	if len(have) == maxHeard {
		have = have[1:]
	}
	return append(have, h)
}

// boundTo is the address that a socket was bound to; the zero value for all.
func boundTo(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// listening answers by who opened the port in a namespace.
func (x *Index) listening(q Question, in space) (event.Peer, bool) {
	if q.Incoming {
		return event.Peer{}, false
	}
	at := q.Remote.Addr().Unmap().WithZone("")
	switch {
	case at.IsUnspecified() && at.Is4():
		at = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case at.IsUnspecified():
		at = netip.IPv6Loopback()
	}
	var found heard
	for _, h := range x.listeners[listener{space: in, protocol: q.Protocol, port: q.Remote.Port()}] {
		if h.addr == at || !h.addr.IsValid() { // the one for all, if there is one, stands first
			found = h
		}
	}
	w := x.workloads[found.workload]
	if w == nil || rank(w, q) == never {
		return event.Peer{}, false
	}
	return peer(q, w, 0), true
}

// sweepListeners forgets those of workloads that are gone, or never came.
func (x *Index) sweepListeners() {
	x.waiting = [2]map[string]waiting{{}, x.waiting[0]}
	for l, list := range x.listeners {
		left := slices.DeleteFunc(list, func(h heard) bool {
			_, there := x.workloads[h.workload]
			return h.workload != "" && !there
		})
		if len(left) == 0 {
			delete(x.listeners, l)
			continue
		}
		x.listeners[l] = left
	}
}
