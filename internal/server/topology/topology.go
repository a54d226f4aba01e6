// Package topology says who a network address is: which workload, which host of
// the fleet, a service of the platform, or somebody outside.
//
// It is an index in memory of what all agents tell of their hosts and
// containers, and it answers for a moment: addresses are given to one container
// after the other. Where the other end of a connection was seen as well, it
// answers by that: see Index.Connects. It is not for what was connected (the store's flows), nor for
// names (the sensors hear what the DNS said).
//
// An agent can claim any address for its own host and containers. A claim that
// contradicts another one makes the address nobody's, so that the worst a
// hostile agent can do is to hide who a peer is, or to take an address that no
// other agent has.
package topology

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

// Limits of what is remembered: some 80 MiB when all are reached.
const (
	// maxWorkloads bounds the workloads of all agents together; beyond it new
	// ones stay unknown until others have ended.
	maxWorkloads = 50_000
	// maxAddresses and maxPorts bound those of one workload or host: a host has
	// one address for each interface that is moved or bridged.
	maxAddresses = 256
	maxPorts     = 256
	// maxListeners bounds the ports of all namespaces together, and maxHeard
	// those who opened one port at different addresses.
	maxListeners = 100_000
	maxHeard     = 16
	// maxWaiting bounds the workloads whose ports are known before they are.
	maxWaiting = 2_000
	// maxEnds bounds the ends of connections: 10 MiB.
	maxEnds = 200_000
	// keepEnded is how long a workload that ended still has its address: what
	// a short-lived container did is reported after its end.
	keepEnded = 5 * time.Minute
	// skew is how far clocks of two hosts may be apart without a connection
	// seeming to come before its peer.
	skew = time.Minute
	// startLag is how long after its first process an engine may say that a
	// container started: the clock is the same, but it has much to do before.
	startLag = 10 * time.Second
	// endLag is how much earlier than its last process an engine may say that a
	// container ended: the moment is that of the end, read at two clocks.
	endLag = 100 * time.Millisecond
	// sweepEvery is how often those that ended are cleared away.
	sweepEvery = time.Minute
)

// Index knows who has which address. It is safe for concurrent use.
type Index struct {
	mu        sync.RWMutex
	hosts     map[string][]netip.Addr     // agent → addresses of its host
	holders   map[netip.Addr][]string     // address → agents whose host has it
	workloads map[string]*workload        // id → what is known of it
	claims    map[claim][]*workload       // address → who has or had it
	groups    map[asset.Group][]*workload // group → who is of it
	published map[publication][]*workload // port of a host → who answers there
	spaces    map[space][]*workload       // network namespace → who is in it
	listeners map[listener][]heard        // port of a namespace → who opened it
	waiting   [2]map[string]waiting       // workload → its ports, until it is known; since the last sweep, and before
	hostNetNS map[string]uint32           // agent → its host's network namespace, as events name it
	ends      ends
	swept     time.Time
	changes   atomic.Uint64
}

// claim is an address and how far it counts: agent is empty for one that the
// whole network routes, else the address means something on that host alone.
type claim struct {
	agent string
	addr  netip.Addr
}

type publication struct {
	agent    string
	protocol string
	port     uint16
}

// space is a network namespace: that of the workload owner, or of the host
// itself when owner is empty.
type space struct{ agent, owner string }

// workload is what is kept of one.
type workload struct {
	id, agent string
	group     asset.Group
	ecs       asset.ECS
	mode      string
	space     space // the network namespace it is in: its own, another's, or the host's
	addresses []netip.Addr
	ports     []asset.Port
	claimed   []claim
	opened    []opened
	pause     bool
	from      time.Time
	until     time.Time // zero while it runs
}

// New returns an index that knows nobody.
func New() *Index {
	return &Index{
		hosts:     map[string][]netip.Addr{},
		holders:   map[netip.Addr][]string{},
		workloads: map[string]*workload{},
		claims:    map[claim][]*workload{},
		groups:    map[asset.Group][]*workload{},
		published: map[publication][]*workload{},
		spaces:    map[space][]*workload{},
		listeners: map[listener][]heard{},
		waiting:   [2]map[string]waiting{{}, {}},
		hostNetNS: map[string]uint32{},
		ends:      newEnds(),
	}
}

// PutHost takes over the addresses of an agent's host; those it had before and
// that are not among them are its own no more.
func (x *Index) PutHost(agentID string, addresses []netip.Addr) {
	fresh := plain(addresses)
	x.mu.Lock()
	defer x.mu.Unlock()
	if slices.Equal(x.hosts[agentID], fresh) {
		return
	}
	x.dropHost(agentID)
	for _, a := range fresh {
		x.holders[a] = append(x.holders[a], agentID)
	}
	x.hosts[agentID] = fresh
	x.changes.Add(1)
}

func (x *Index) dropHost(agentID string) {
	for _, a := range x.hosts[agentID] {
		x.holders[a] = without(x.holders[a], agentID)
		if len(x.holders[a]) == 0 {
			delete(x.holders, a)
		}
	}
	delete(x.hosts, agentID)
}

// Forget drops what an agent told of its host. Its workloads go as they end.
func (x *Index) Forget(agentID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropHost(agentID)
	delete(x.hostNetNS, agentID)
}

// Put takes over workloads as they are now, each of the agent it names.
func (x *Index) Put(ws []asset.Workload, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range ws {
		x.put(&ws[i], now)
	}
	if now.Sub(x.swept) >= sweepEvery || x.swept.After(now) {
		x.sweep(now)
	}
}

func (x *Index) put(w *asset.Workload, now time.Time) {
	old := x.workloads[w.ID]
	if old == nil && len(x.workloads) >= maxWorkloads {
		return
	}
	n := fresh(w, now)
	if old != nil {
		if w.Partial || !n.until.IsZero() && len(n.addresses) == 0 {
			// The engine no longer tells the address and ports of what has ended.
			n.addresses, n.ports, n.mode, n.space = old.addresses, old.ports, old.mode, old.space
		}
		if w.Partial {
			n.ecs, n.group, n.pause = old.ecs, old.group, old.pause
		}
		x.release(old)
	}
	if moved(old, n) {
		x.changes.Add(1)
	}
	x.workloads[n.id] = n
	x.groups[n.group] = append(x.groups[n.group], n)
	x.spaces[n.space] = append(x.spaces[n.space], n)
	x.claim(n)
	x.place(n, old)
	for _, p := range n.publications() {
		x.published[p] = append(x.published[p], n)
	}
	// How far the addresses count of who shares its namespace is known by now.
	for _, m := range x.spaces[space{n.agent, n.id}] {
		if m != n {
			x.unclaim(m)
			x.claim(m)
		}
	}
}

// fresh is what is kept of w.
func fresh(w *asset.Workload, now time.Time) *workload {
	n := &workload{
		id: w.ID, agent: w.AgentID, group: w.Group, ecs: w.ECS, mode: w.Settings.NetworkMode,
		space: space{w.AgentID, spaceOf(w)}, addresses: plain(w.Settings.Addresses),
		ports: w.Settings.Ports[:min(len(w.Settings.Ports), maxPorts)],
		pause: strings.HasPrefix(w.ECS.Container, pauseContainer), from: w.Created,
	}
	if w.Started != nil {
		n.from = *w.Started
	}
	if w.State == asset.Exited || w.State == asset.Lost {
		n.until = now
		if w.Finished != nil {
			n.until = *w.Finished
		}
	}
	return n
}

// pauseContainer begins the name that ECS gives a container which holds the
// network namespace of an awsvpc task, or of one container of a task on a bridge.
const pauseContainer = "~internal~ecs~pause"

// spaceOf says whose network namespace a workload is in.
func spaceOf(w *asset.Workload) string {
	mode := w.Settings.NetworkMode
	if mode == "host" {
		return ""
	}
	if owner, ok := strings.CutPrefix(mode, "container:"); ok && owner != "" {
		return owner
	}
	return w.ID
}

const modeNone = "none" // without any network of the engine's

// claim makes a workload found by its addresses. Who shares the namespace of
// another one is found by that one's address, unless the engine did not tell it:
// then by its own, which came out of the namespace.
func (x *Index) claim(w *workload) {
	routed := x.routed(w)
	for _, a := range w.addresses {
		c := claim{agent: w.agent, addr: a}
		if routed {
			c.agent = ""
		}
		w.claimed = append(w.claimed, c)
		x.claims[c] = append(x.claims[c], w)
	}
}

func (x *Index) unclaim(w *workload) {
	for _, c := range w.claimed {
		if x.claims[c] = without(x.claims[c], w); len(x.claims[c]) == 0 {
			delete(x.claims, c)
		}
	}
	w.claimed = nil
}

// routed reports whether the workload's addresses are those of an interface
// that was moved to it: an awsvpc task, whose pause container is in no network
// of the engine's ("none") and whose others share the pause's. Addresses of a
// bridge mean something on their host alone, and are given anew on every host;
// so are those of a task whose pause containers are on a bridge.
func (x *Index) routed(w *workload) bool {
	if w.mode == modeNone {
		return true
	}
	if !w.sharing() || w.ecs.TaskARN == "" {
		return false
	}
	owner := x.workloads[w.space.owner]
	return owner == nil || owner.agent != w.agent || owner.mode == modeNone
}

// sharing reports whether a workload is in the network namespace of another.
func (w *workload) sharing() bool { return w.space.owner != "" && w.space.owner != w.id }

func (w *workload) publications() []publication {
	var out []publication
	for _, p := range w.ports {
		if p.HostPort != 0 {
			out = append(out, publication{agent: w.agent, protocol: p.Protocol, port: p.HostPort})
		}
	}
	return out
}

// release takes a workload out of everything that leads to it.
func (x *Index) release(w *workload) {
	x.unclaim(w)
	for _, p := range w.publications() {
		if x.published[p] = without(x.published[p], w); len(x.published[p]) == 0 {
			delete(x.published, p)
		}
	}
	if x.spaces[w.space] = without(x.spaces[w.space], w); len(x.spaces[w.space]) == 0 {
		delete(x.spaces, w.space)
	}
	if x.groups[w.group] = without(x.groups[w.group], w); len(x.groups[w.group]) == 0 {
		delete(x.groups, w.group)
	}
	delete(x.workloads, w.id)
}

func (x *Index) sweep(now time.Time) {
	x.swept = now
	for _, w := range x.workloads {
		if !w.until.IsZero() && now.Sub(w.until) > keepEnded+skew {
			x.release(w)
			x.changes.Add(1) // its addresses lead nowhere now
		}
	}
	x.sweepListeners()
	x.ends.age(now)
}

// plain returns the addresses that can be somebody's: not those that mean
// something else on every host.
func plain(addresses []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addresses {
		a = a.Unmap().WithZone("")
		if len(out) < maxAddresses && a.IsValid() && !a.IsLoopback() && !a.IsUnspecified() &&
			!a.IsMulticast() && !a.IsLinkLocalUnicast() && !isService(a) {
			out = append(out, a)
		}
	}
	return out
}

// without returns list less v; the place of what is taken away is not kept.
func without[T comparable](list []T, v T) []T {
	return slices.DeleteFunc(list, func(have T) bool { return have == v })
}
