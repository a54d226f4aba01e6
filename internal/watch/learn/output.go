package learn

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

// Profile returns what was learned, on top of what the learner was given. It shares
// nothing with the learner.
func (l *Learner) Profile() *profile.Profile {
	s := l.main
	for _, line := range slices.Sorted(maps.Keys(l.entered.commands)) {
		if c := l.entered.commands[line]; c.regular() {
			if s == l.main {
				s = newSeen()
				s.add(l.main)
			}
			s.add(c.seen)
		}
	}
	w := writer{l: l, order: l.order()}
	p := &profile.Profile{Group: l.group}
	for _, i := range w.order {
		v := l.versions[i]
		p.Versions = append(p.Versions, profile.Version{Digest: v.Digest, Reference: v.Reference, First: at(v.First), Last: at(v.Last)})
	}
	p.Executables = w.executables(s)
	p.Writes, p.Reads = w.files(s.writes.instances(), widen.Rotating, widen.Beside), w.files(s.reads, exactly, nothing)
	p.Listens = w.listens(s)
	p.Peers, p.Callers = w.peers(s.peers, widen.Networks), w.peers(s.callers, widen.Callers)
	p.Names = w.names(s)
	p.Capabilities, p.Privileges, p.Calls = w.rest(s)
	p.Limits, p.UsesSeen = l.usage.limits(), s.usesSeen
	if l.given != nil {
		p = Merge(l.given, p)
		p.Group = l.group
	}
	p.Writes, p.Reads = widest(p.Writes), widest(p.Reads)
	return p
}

// widest leaves out what the entries beside it stand for, and adds its evidence to
// theirs: a name that was seen before others showed what changes in it. What is a
// person's stays as it was written, and takes nothing in that goes when it is undone.
func widest(files []profile.File) []profile.File {
	wide, covered := []int(nil), func(w, f *profile.File) bool {
		return w.Path != f.Path && f.Source != profile.Person && coversPath(w.Path, f.Path)
	}
	for i := range files {
		if f := &files[i]; !f.Path.Exact() && f.Source != profile.Person {
			wide = append(wide, i)
		}
	}
	of := func(f *profile.File) int { // the widest: nothing stands for that
		best := -1
		for _, w := range wide {
			if covered(&files[w], f) && (best < 0 || covered(&files[w], &files[best])) {
				best = w
			}
		}
		return best
	}
	var out []profile.File
	at, gone := map[int]int{}, map[int]int{}
	for i := range files {
		if w := of(&files[i]); w >= 0 {
			gone[i] = w
			continue
		}
		at[i] = len(out)
		out = append(out, files[i])
	}
	for _, i := range slices.Sorted(maps.Keys(gone)) {
		joinFile(&out[at[gone[i]]], &files[i])
	}
	return out
}

// writer writes what was seen as a profile.
type writer struct {
	l     *Learner
	order []int
}

func (w writer) evidence(m *mark, entry string) profile.Evidence {
	return w.l.evidence(m, w.order, entry)
}

func (w writer) executables(s *seen) []profile.Executable {
	var out []profile.Executable
	for k, e := range alike(s.execs) {
		x := profile.Executable{
			Path: profile.Pattern(k.path), Origin: k.origin, Digest: e.digest, Parents: patterns(e.parents),
			Users: slices.Sorted(maps.Keys(e.users)), Evidence: w.evidence(&e.mark, k.path),
		}
		if len(x.Parents) == maxParents {
			x.Parents = nil // there may be more than were kept: whoever
		}
		if len(x.Users) == maxUsers {
			x.Users = nil
		}
		x.Contents = slices.Clone(e.contents)
		x.Scripts, x.Loose = w.scripts(s, e)
		x.Loads = patterns(e.loads)
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b profile.Executable) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Origin, b.Origin))
	})
	return out
}

// scripts are what an interpreter was asked to run. Those of the image are widened as
// files are; those that are not are named exactly.
func (w writer) scripts(s *seen, e *execMark) (all, loose []profile.Pattern) {
	t := newTree(false)
	for _, x := range e.scripts {
		if slices.Contains(e.loose, x) || written(s, x) || w.l.givenWritten(x) || widen.Temporary(x) {
			loose = append(loose, profile.Pattern(x))
			continue
		}
		t.add(x, &mark{Count: 1})
	}
	t.each(func(p profile.Pattern, _ *mark) { all = append(all, p) })
	if e.more {
		all = []profile.Pattern{"/**"} // any of the image
	}
	all = append(all, loose...)
	slices.Sort(all)
	return all, loose
}

// givenWritten reports whether the profile that the learner began with has a file as
// written.
func (l *Learner) givenWritten(path string) bool {
	return l.given != nil && slices.ContainsFunc(l.given.Writes, func(f profile.File) bool { return f.Path.Match(path) })
}

// written reports whether a file was seen to be written.
func written(s *seen, path string) bool {
	n := s.writes.root
	for _, name := range profile.Pattern(path).Names() {
		if n.deep != nil {
			return true
		}
		kid := n.kids[s.writes.key(n, name)]
		if kid == nil {
			return false
		}
		n = kid
	}
	return n.mark != nil
}

// exactly lets a path stand for itself.
func exactly(path string) string { return path }

// nothing lies beside a path.
func nothing(string, []string) []string { return nil }

// files are what was done to files, by what widened says that each path stands for, and
// what may be done beside each.
func (w writer) files(t *tree, widened func(string) string, beside func(string, []string) []string) []profile.File {
	sum, more := map[string]*mark{}, map[string]*mark{}
	t.each(func(p profile.Pattern, m *mark) {
		add(sum, widened(string(p)), m)
		for _, other := range beside(string(p), m.Programs) {
			add(more, other, m)
		}
	})
	for p, m := range more {
		if sum[p] == nil {
			sum[p] = m
		}
	}
	var out []profile.File
	for p, m := range sum {
		out = append(out, profile.File{Path: profile.Pattern(p), Programs: patterns(m.Programs), Evidence: w.evidence(m, p)})
	}
	slices.SortFunc(out, func(a, b profile.File) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

func patterns(list []string) []profile.Pattern {
	var out []profile.Pattern
	for _, s := range list {
		out = append(out, profile.Pattern(s))
	}
	return out
}

// ephemeral are the ports that a kernel gives by itself; more than manyPorts of
// them with one peer are all of them, and more than manyOwn with itself: a program that
// asks for any port and is told of it by another, as Varnish is by its command line.
var ephemeral = profile.Ports{First: 32768, Last: 65535}

const (
	manyPorts = 3
	manyOwn   = 1
)

// chosen are the ports that a program may take without a privilege. One that takes more
// than manyChosen of UDP chooses each by chance, so that nobody can guess it: resolvers
// of the DNS ask so.
var chosen = profile.Ports{First: 1024, Last: 65535}

const manyChosen = 16

// mayBeChosen reports whether a port is one that a program may have chosen by chance.
func (k portKey) mayBeChosen() bool { return k.protocol == "udp" && chosen.Has(k.port) }

// chooses reports whether ports of UDP were chosen by chance.
func (s *seen) chooses() bool {
	n := 0
	for k := range s.listens {
		if k.mayBeChosen() {
			n++
		}
	}
	return n > manyChosen
}

// portsOf returns for each port the range that stands for it.
func portsOf(ports []uint16, many int) func(uint16) profile.Ports {
	slices.Sort(ports)
	n := 0
	for _, p := range slices.Compact(ports) {
		if ephemeral.Has(p) {
			n++
		}
	}
	return func(p uint16) profile.Ports {
		if n > many && ephemeral.Has(p) {
			return ephemeral
		}
		return profile.Ports{First: p, Last: p}
	}
}

func (w writer) listens(s *seen) []profile.Listen {
	byProtocol := map[string][]uint16{}
	for k := range s.listens {
		byProtocol[k.protocol] = append(byProtocol[k.protocol], k.port)
	}
	type key struct {
		protocol string
		ports    profile.Ports
	}
	sum := map[key]*mark{}
	chooses := s.chooses()
	for k, m := range s.listens {
		ports := portsOf(byProtocol[k.protocol], manyPorts)(k.port)
		if chooses && k.mayBeChosen() {
			ports = chosen
		}
		add(sum, key{k.protocol, ports}, m)
	}
	var out []profile.Listen
	for k, m := range sum {
		out = append(out, profile.Listen{Protocol: k.protocol, Port: k.ports, Evidence: w.evidence(m, "")})
	}
	slices.SortFunc(out, func(a, b profile.Listen) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port.First, b.Port.First))
	})
	return out
}

func add[K comparable](sum map[K]*mark, k K, m *mark) {
	if sum[k] == nil {
		sum[k] = &mark{}
	}
	sum[k].add(m)
}

func (w writer) peers(set map[peerKey]*mark, networks func([]netip.Addr) map[netip.Addr]netip.Prefix) []profile.Peer {
	var names []string
	addresses := map[portKey][]netip.Addr{}
	for k := range set {
		if k.name != "" {
			names = append(names, k.name)
		}
		if k.address.IsValid() {
			addresses[k.portKey] = append(addresses[k.portKey], k.address)
		}
	}
	domains, prefixes := widen.Domains(names), map[portKey]map[netip.Addr]netip.Prefix{}
	for k, list := range addresses {
		prefixes[k] = networks(list)
	}
	type who struct {
		protocol string
		peer     string
	}
	entries, ports := map[peerKey]profile.Peer{}, map[who][]uint16{}
	for k := range set {
		p := profile.Peer{Protocol: k.protocol, Group: k.group, Kind: k.kind, Name: domains[k.name]}
		if k.address.IsValid() {
			p.Network = prefixes[k.portKey][k.address]
		}
		entries[k] = p
		ports[who{k.protocol, End(p)}] = append(ports[who{k.protocol, End(p)}], k.port)
	}
	sum, first := map[string]*mark{}, map[string]profile.Peer{}
	for k, m := range set {
		p := entries[k]
		if k.port != 0 {
			many := manyPorts
			if k.kind == event.PeerSelf {
				many = manyOwn
			}
			p.Port = portsOf(ports[who{k.protocol, End(p)}], many)(k.port)
		}
		add(sum, PeerKey(p), m)
		first[PeerKey(p)] = p
	}
	var out []profile.Peer
	for k, m := range sum {
		p := first[k]
		p.Evidence = w.evidence(m, "")
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b profile.Peer) int { return cmp.Compare(PeerKey(a), PeerKey(b)) })
	return out
}

func (w writer) names(s *seen) []profile.Name {
	domains := widen.Domains(slices.Collect(maps.Keys(s.names)))
	sum := map[string]*mark{}
	for name, m := range s.names {
		one := *m
		one.Sample = name
		add(sum, domains[name], &one)
	}
	var out []profile.Name
	for _, name := range slices.Sorted(maps.Keys(sum)) {
		out = append(out, profile.Name{Name: name, Evidence: w.evidence(sum[name], name)})
	}
	return out
}

func (w writer) rest(s *seen) (caps []profile.Capability, privileges []profile.Privilege, calls []profile.Call) {
	both := map[string]*mark{}
	for _, set := range []map[string]*mark{s.capabilities, s.used} {
		for name, m := range set {
			add(both, name, m)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(both)) {
		c := profile.Capability{Name: name, Evidence: w.evidence(both[name], "")}
		c.Used = s.used[name] != nil
		caps = append(caps, c)
	}
	for k, m := range s.privileges {
		privileges = append(privileges, profile.Privilege{Kind: k.kind, Detail: k.detail, Evidence: w.evidence(m, "")})
	}
	slices.SortFunc(privileges, func(a, b profile.Privilege) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
	})
	for _, name := range slices.Sorted(maps.Keys(s.calls)) {
		calls = append(calls, profile.Call{Name: name, Evidence: w.evidence(s.calls[name], "")})
	}
	return caps, privileges, calls
}

// End says who a peer is, without protocol and port.
func End(p profile.Peer) string {
	switch {
	case p.Group != "":
		return "group " + string(p.Group)
	case p.Name != "":
		return "name " + p.Name
	case p.Network.IsValid():
		return "network " + p.Network.String()
	}
	return "kind " + string(p.Kind)
}

// PeerKey names a peer for sorting and comparing: the same for the same peer.
func PeerKey(p profile.Peer) string {
	return End(p) + " " + p.Protocol + " " + portText(p.Port)
}

func portText(p profile.Ports) string {
	b := make([]byte, 0, 11)
	for _, n := range []uint16{p.First, p.Last} {
		for div := uint16(10000); div > 0; div /= 10 {
			b = append(b, byte('0'+n/div%10))
		}
		b = append(b, '-')
	}
	return string(b[:11])
}
