package learn

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

func (n *entered) state() ([]commandState, []sessionState) {
	var commands []commandState
	for _, line := range slices.Sorted(maps.Keys(n.commands)) {
		c := n.commands[line]
		commands = append(commands, commandState{Line: c.line, Check: c.check, Runs: c.runs, Times: c.times, Seen: c.seen.state()})
	}
	var sessions []sessionState
	for k, s := range n.sessions {
		sessions = append(sessions, sessionState{Workload: k.workload, Process: k.process, Command: s.line, Last: s.last})
	}
	slices.SortFunc(sessions, func(a, b sessionState) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Process.PID, b.Process.PID), cmp.Compare(a.Process.Start, b.Process.Start))
	})
	return commands, sessions
}

func (s *seen) state() seenState {
	out := seenState{
		Writes: s.writes.root.state(), Reads: s.reads.root.state(), Names: s.names, Capabilities: s.capabilities,
		Used: s.used, UsesSeen: s.usesSeen,
		Calls: s.calls, Dropped: s.dropped, Peers: peerStates(s.peers), Callers: peerStates(s.callers),
	}
	for k, e := range s.execs {
		out.Execs = append(out.Execs, execState{
			Path: k.path, Origin: k.origin, Digest: e.digest, Several: e.several, Parents: e.parents,
			Users: slices.Sorted(maps.Keys(e.users)), Scripts: e.scripts, Loose: e.loose, Loads: e.loads, More: e.more, Mark: e.mark,
			Contents: e.contents,
		})
	}
	slices.SortFunc(out.Execs, func(a, b execState) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Origin, b.Origin))
	})
	for k, m := range s.listens {
		out.Listens = append(out.Listens, portState{k.protocol, k.port, *m})
	}
	slices.SortFunc(out.Listens, func(a, b portState) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	for k, m := range s.privileges {
		out.Privileges = append(out.Privileges, privilegeState{k.kind, k.detail, *m})
	}
	slices.SortFunc(out.Privileges, func(a, b privilegeState) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
	})
	return out
}

func peerStates(set map[peerKey]*mark) []peerState {
	var out []peerState
	for k, m := range set {
		out = append(out, peerState{k.protocol, k.port, k.group, k.name, k.address, k.kind, *m})
	}
	slices.SortFunc(out, func(a, b peerState) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return out
}

// seen makes the set again, within the bounds of one.
func (o seenState) seen() *seen {
	s := newSeen()
	for _, e := range o.Execs {
		if !clean(e.Path) {
			continue
		}
		one := &execMark{mark: e.Mark, digest: e.Digest, several: e.Several, users: map[uint32]bool{}, parents: e.Parents, scripts: e.Scripts, loose: e.Loose, loads: e.Loads, more: e.More,
			contents: joinContents(nil, e.Contents)}
		for _, u := range e.Users {
			one.users[u] = true
		}
		s.putExec(execKey{e.Path, e.Origin}, one)
	}
	s.writes.restore(o.Writes)
	s.reads.restore(o.Reads)
	for _, x := range o.Listens {
		put(s, s.listens, portKey{x.Protocol, x.Port}, &x.Mark, maxListens, droppedPorts)
	}
	restorePeers(s, s.peers, o.Peers)
	restorePeers(s, s.callers, o.Callers)
	for name, m := range o.Names {
		restoreMark(s, s.names, name, m, maxQueries)
	}
	for name, m := range o.Capabilities {
		restoreMark(s, s.capabilities, name, m, maxCapabilities)
	}
	for name, m := range o.Used {
		restoreMark(s, s.used, name, m, maxCapabilities)
	}
	s.usesSeen = o.UsesSeen
	for name, m := range o.Calls {
		restoreMark(s, s.calls, name, m, maxCalls)
	}
	for _, x := range o.Privileges {
		put(s, s.privileges, privilegeKey{x.Kind, x.Detail}, &x.Mark, maxPrivileges, droppedCalls)
	}
	maps.Copy(s.dropped, o.Dropped)
	return s
}

func restoreMark(s *seen, set map[string]*mark, name string, m *mark, most int) {
	if m != nil {
		put(s, set, name, m, most, droppedCalls)
	}
}

func restorePeers(s *seen, set map[peerKey]*mark, list []peerState) {
	for _, x := range list {
		put(s, set, peerKey{portKey{x.Protocol, x.Port}, x.Group, x.Name, x.Address, x.Kind}, &x.Mark, maxPeers, droppedPeers)
	}
}

func (n *node) state() *nodeState {
	out := &nodeState{Mark: n.mark, Deep: n.deep, Any: n.any, Joined: slices.Sorted(maps.Keys(n.joined)), Number: slices.Sorted(maps.Keys(n.numbered)), Signs: sorted(n.signs)}
	for k, kid := range n.kids {
		if out.Kids == nil {
			out.Kids = map[string]*nodeState{}
		}
		out.Kids[k] = kid.state()
	}
	return out
}

// restore makes the tree again. Names that can't be are left out, and what is more
// than a tree holds.
func (t *tree) restore(s *nodeState) {
	if s != nil {
		t.nodes = 0
		t.root = t.restored(s, nil)
	}
}

func (t *tree) restored(s *nodeState, folder []string) *node {
	t.nodes++
	n := &node{mark: s.Mark, deep: s.Deep, any: s.Any, place: widen.At(folder)}
	if t.exact {
		n.place = widen.Place{Temporary: n.place.Temporary}
	}
	for _, form := range s.Joined {
		if n.joined == nil {
			n.joined = map[string]bool{}
		}
		n.joined[form] = true
	}
	for _, p := range s.Number {
		if n.numbered == nil {
			n.numbered = map[string]bool{}
		}
		n.numbered[p] = true
	}
	if t.sign(n, folder, s.Signs...); n.deep != nil || len(folder) >= profile.MaxDepth {
		return n
	}
	for _, k := range slices.Sorted(maps.Keys(s.Kids)) {
		if k == "" || strings.ContainsAny(k, "/\x00") || s.Kids[k] == nil || t.nodes >= maxNodes || len(n.kids) >= maxNames || n.any && k != "*" {
			continue
		}
		if n.kids == nil {
			n.kids = map[string]*node{}
		}
		n.kids[k] = t.restored(s.Kids[k], join(folder, k))
	}
	n.any = n.any && n.kids["*"] != nil
	return n
}
