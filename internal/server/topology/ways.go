package topology

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

// Way is an address at which workloads of a group are reached.
type Way struct {
	Address  netip.Addr
	Protocol string // of Port; empty with no Port
	// Port is a published port behind which the workload's own one is Own; 0 where
	// the workload is reached at its own ports.
	Port, Own uint16
}

// maxWays bounds the ways to one group: a service of a thousand tasks has as many.
const maxWays = 2_000

// Ways returns at which addresses workloads of a group on an agent's host reach
// those of another group, sorted; each address once. Of those that ended a while ago
// it is their own addresses, as long as nobody else has them: who looked a name up
// before goes on to connect there until it looks again.
func (x *Index) Ways(agentID string, from, to asset.Group) []Way {
	x.mu.RLock()
	defer x.mu.RUnlock()
	spaces := map[space]bool{} // in which workloads of from are on that host
	for _, w := range x.groups[from] {
		if w.agent == agentID && w.until.IsZero() {
			spaces[w.space] = true
		}
	}
	seen := map[Way]bool{}
	var ways []Way
	add := func(v Way) {
		if v.Address.IsValid() && len(ways) < maxWays && !seen[v] {
			seen[v] = true
			ways = append(ways, v)
		}
	}
	for _, w := range x.meant(to) {
		if w.until.IsZero() {
			x.waysTo(agentID, w, spaces[w.space], add)
			continue
		}
		for _, c := range w.claimed {
			if (c.agent == "" || c.agent == agentID) && !slices.ContainsFunc(x.claims[c], runs) {
				add(Way{Address: c.addr})
			}
		}
	}
	slices.SortFunc(ways, func(a, b Way) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Own, b.Own), cmp.Compare(a.Protocol, b.Protocol))
	})
	return ways
}

func runs(w *workload) bool { return w.until.IsZero() }

// meant are the workloads of a group, or of all containers of a service where that
// is all that could be said of a peer.
func (x *Index) meant(g asset.Group) []*workload {
	if ws := x.groups[g]; len(ws) > 0 || strings.Count(string(g), "/") != 1 {
		return ws
	}
	var all []*workload
	for of, ws := range x.groups {
		if strings.HasPrefix(string(of), string(g)+"/") {
			all = append(all, ws...)
		}
	}
	return all
}

// waysTo are those to one workload from the host of an agent; together says that
// who asks is in its network namespace.
func (x *Index) waysTo(agentID string, w *workload, together bool, add func(Way)) {
	if together {
		add(Way{Address: netip.AddrFrom4([4]byte{127, 0, 0, 1})})
		add(Way{Address: netip.IPv6Loopback()})
	}
	if routed := x.routed(w); routed || w.agent == agentID {
		for _, a := range w.addresses {
			add(Way{Address: a})
		}
		if owner := x.workloads[w.space.owner]; w.sharing() && owner != nil && owner.agent == w.agent {
			for _, a := range owner.addresses {
				add(Way{Address: a})
			}
		}
	}
	hosts := x.hostsSeen(agentID, w.agent)
	if w.space.owner == "" { // it is in its host's network
		for _, a := range hosts {
			add(Way{Address: a})
		}
		return
	}
	published := w.ports
	if owner := x.workloads[w.space.owner]; w.sharing() && owner != nil {
		published = slices.Concat(published, owner.ports)
	}
	for _, p := range published {
		if p.HostPort == 0 {
			continue
		}
		at := hosts
		if p.HostAddr.IsValid() && !p.HostAddr.IsUnspecified() {
			at = []netip.Addr{p.HostAddr.Unmap()}
			if at[0].IsLoopback() && w.agent != agentID {
				continue
			}
		}
		for _, a := range at {
			add(Way{Address: a, Protocol: p.Protocol, Port: p.HostPort, Own: p.Port})
		}
	}
}

// hostsSeen are the addresses of a host that another one reaches it at: those that
// both have, such as gateways of bridges, are its own there.
func (x *Index) hostsSeen(from, host string) []netip.Addr {
	if from == host {
		return x.hosts[host]
	}
	return slices.DeleteFunc(slices.Clone(x.hosts[host]), func(a netip.Addr) bool { return slices.Contains(x.hosts[from], a) })
}

// Changes is another number when ways may be others.
func (x *Index) Changes() uint64 { return x.changes.Load() }

// moved reports whether ways to or from a workload may be others than before; old
// is nil for one that is new.
func moved(old, w *workload) bool {
	return old == nil || old.group != w.group || old.agent != w.agent || old.space != w.space || old.mode != w.mode ||
		old.until.IsZero() != w.until.IsZero() || !slices.Equal(old.addresses, w.addresses) || !slices.Equal(old.ports, w.ports)
}

// maxHosts bounds the addresses of hosts that are listed: more than a host's kernel
// is given.
const maxHosts = 2_000

// Hosts returns the addresses of the fleet's hosts, sorted.
func (x *Index) Hosts() []netip.Addr {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var all []netip.Addr
	for a := range x.holders {
		all = append(all, a)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all[:min(len(all), maxHosts)]
}
