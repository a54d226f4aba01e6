package learn

import (
	"cmp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/profile"
)

// Merge returns what two profiles permit together, with base's group and revision.
// Entries that one of base's patterns covers add to its evidence; those of people
// keep their comment. Neither argument is changed.
func Merge(base, more *profile.Profile) *profile.Profile {
	p := Clone(base)
	p.Versions, p.UsesSeen = mergeVersions(p.Versions, more.Versions), p.UsesSeen || more.UsesSeen
	p.Executables = merger[profile.Executable]{
		key:    func(x *profile.Executable) string { return string(x.Path) + "\x00" + string(x.Origin) },
		wide:   func(x *profile.Executable) bool { return !x.Path.Exact() },
		covers: sameExecutable, join: joinExecutable,
	}.merge(p.Executables, more.Executables)
	files := merger[profile.File]{
		key:    func(f *profile.File) string { return string(f.Path) },
		wide:   func(f *profile.File) bool { return !f.Path.Exact() },
		covers: func(a, b *profile.File) bool { return coversPath(a.Path, b.Path) }, join: joinFile,
	}
	p.Writes, p.Reads = files.merge(p.Writes, more.Writes), files.merge(p.Reads, more.Reads)
	p.Listens = merger[profile.Listen]{
		key:    func(l *profile.Listen) string { return l.Protocol + " " + portText(l.Port) },
		wide:   func(l *profile.Listen) bool { return l.Port.First != l.Port.Last },
		covers: func(a, b *profile.Listen) bool { return a.Protocol == b.Protocol && covers(a.Port, b.Port) },
		join:   func(a, b *profile.Listen) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
	}.merge(p.Listens, more.Listens)
	peers := merger[profile.Peer]{
		key: func(q *profile.Peer) string { return PeerKey(*q) },
		wide: func(q *profile.Peer) bool {
			return q.Port.First != q.Port.Last || q.Port.IsZero() || q.Network.IsValid() && !q.Network.IsSingleIP() || strings.HasPrefix(q.Name, "*.")
		},
		covers: func(a, b *profile.Peer) bool { return samePeer(*a, *b) },
		join:   func(a, b *profile.Peer) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
	}
	p.Peers, p.Callers = peers.merge(p.Peers, more.Peers), peers.merge(p.Callers, more.Callers)
	p.Names = merger[profile.Name]{
		key:    func(n *profile.Name) string { return n.Name },
		wide:   func(n *profile.Name) bool { return strings.HasPrefix(n.Name, "*.") },
		covers: func(a, b *profile.Name) bool { return NameCovers(a.Name, b.Name) },
		join:   func(a, b *profile.Name) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
	}.merge(p.Names, more.Names)
	p.Capabilities = merger[profile.Capability]{
		key:  func(c *profile.Capability) string { return c.Name },
		join: func(a, b *profile.Capability) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
	}.merge(p.Capabilities, more.Capabilities)
	p.Privileges = merger[profile.Privilege]{
		key:    func(v *profile.Privilege) string { return string(v.Kind) + "\x00" + v.Detail },
		wide:   func(v *profile.Privilege) bool { return v.Detail == "" },
		covers: func(a, b *profile.Privilege) bool { return a.Kind == b.Kind },
		join:   func(a, b *profile.Privilege) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
	}.merge(p.Privileges, more.Privileges)
	p.Calls = merger[profile.Call]{
		key:  func(c *profile.Call) string { return c.Name },
		join: func(a, b *profile.Call) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
	}.merge(p.Calls, more.Calls)
	if p.Limits.Source != profile.Person && more.Limits != (profile.Limits{}) {
		p.Limits = more.Limits
	}
	return p
}

// merger says how entries of one kind are joined.
type merger[T any] struct {
	key    func(*T) string // the same for what permits the same
	wide   func(*T) bool   // it may cover others than itself; nil: none does
	covers func(a, b *T) bool
	join   func(a, b *T)
}

// merge adds the entries of more to those of base that are the same or cover them, or
// beside them, sorted by their keys.
func (m merger[T]) merge(base, more []T) []T {
	at, wide := make(map[string]int, len(base)), []int(nil)
	for i := range base {
		at[m.key(&base[i])] = i
		if m.wide != nil && m.wide(&base[i]) {
			wide = append(wide, i)
		}
	}
	for j := range more {
		one := &more[j]
		i, same := at[m.key(one)]
		if !same {
			k := slices.IndexFunc(wide, func(w int) bool { return m.covers(&base[w], one) })
			if k < 0 {
				base = append(base, *one)
				continue
			}
			i = wide[k]
		}
		m.join(&base[i], one)
	}
	slices.SortStableFunc(base, func(a, b T) int { return cmp.Compare(m.key(&a), m.key(&b)) })
	return base
}

// coversPath is Covers, quick to say no.
func coversPath(a, b profile.Pattern) bool {
	star := strings.IndexByte(string(a), '*')
	return star < 0 && a == b || star >= 0 && strings.HasPrefix(string(b), string(a[:star])) && a.Covers(b)
}

func sameExecutable(a, b *profile.Executable) bool {
	return a.Origin == b.Origin && coversPath(a.Path, b.Path)
}

func joinExecutable(a, b *profile.Executable) {
	if a.Digest != b.Digest {
		a.Digest = ""
	}
	a.Parents = either(a.Parents, b.Parents)
	a.Users = either(a.Users, b.Users)
	a.Scripts = union(a.Scripts, b.Scripts)
	a.Loose = union(a.Loose, b.Loose)
	a.Loads = union(a.Loads, b.Loads)
	a.Evidence = joinEvidence(a.Evidence, b.Evidence)
}

func joinFile(a, b *profile.File) {
	a.Programs = union(a.Programs, b.Programs)
	a.Evidence = joinEvidence(a.Evidence, b.Evidence)
}

// either is union where no entries at all stand for everybody.
func either[T cmp.Ordered](a, b []T) []T {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	return union(a, b)
}

func union[T cmp.Ordered](a, b []T) []T {
	if len(a) == 0 && len(b) == 0 {
		return nil
	}
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

// joinEvidence adds what was seen to an entry that is there already, whose source
// stays.
func joinEvidence(a, b profile.Evidence) profile.Evidence {
	if !b.First.IsZero() && (a.First.IsZero() || b.First.Before(a.First)) {
		a.First = b.First
	}
	if b.Last.After(a.Last) {
		a.Last, a.Latest = b.Last, b.Latest
	}
	a.Count += b.Count
	a.Used = a.Used || b.Used
	a.Contents = joinContents(a.Contents, b.Contents)
	a.Hosts = union(a.Hosts, b.Hosts)
	a.Hosts = a.Hosts[:min(len(a.Hosts), profile.MaxHosts)]
	if a.Version == "" {
		a.Version = b.Version
	}
	if a.Sample == "" {
		a.Sample = b.Sample
	}
	return a
}

func mergeVersions(a, b []profile.Version) []profile.Version {
	for _, v := range b {
		i := slices.IndexFunc(a, func(o profile.Version) bool { return o.Digest == v.Digest })
		if i < 0 {
			a = append(a, v)
			continue
		}
		if v.First.Before(a[i].First) {
			a[i].First = v.First
		}
		if v.Last.After(a[i].Last) {
			a[i].Last, a[i].Reference = v.Last, v.Reference
		}
	}
	slices.SortStableFunc(a, func(x, y profile.Version) int {
		return cmp.Or(x.First.Compare(y.First), cmp.Compare(x.Digest, y.Digest))
	})
	return a
}

func covers(a, b profile.Ports) bool {
	return a.First <= b.First && b.Last <= a.Last
}

func samePeer(a, b profile.Peer) bool {
	if a.Protocol != b.Protocol || !a.Port.IsZero() && !covers(a.Port, b.Port) {
		return false
	}
	if a.Network.IsValid() && b.Network.IsValid() {
		return a.Network.Bits() <= b.Network.Bits() && a.Network.Contains(b.Network.Addr())
	}
	if a.Name != "" && b.Name != "" {
		return NameCovers(a.Name, b.Name)
	}
	return End(a) == End(b)
}

// NameCovers reports whether a DNS name or "*.DOMAIN" stands for all of another.
func NameCovers(a, b string) bool {
	if a == b {
		return true
	}
	return len(a) > 2 && a[:2] == "*." && len(b) > len(a)-1 && b[len(b)-len(a)+1:] == a[1:]
}

// Clone returns a copy whose lists are its own.
func Clone(p *profile.Profile) *profile.Profile {
	c := *p
	c.Versions = slices.Clone(p.Versions)
	c.Executables = slices.Clone(p.Executables)
	c.Writes, c.Reads = slices.Clone(p.Writes), slices.Clone(p.Reads)
	c.Listens, c.Names = slices.Clone(p.Listens), slices.Clone(p.Names)
	c.Peers, c.Callers = slices.Clone(p.Peers), slices.Clone(p.Callers)
	c.Capabilities, c.Privileges, c.Calls = slices.Clone(p.Capabilities), slices.Clone(p.Privileges), slices.Clone(p.Calls)
	return &c
}

// Entries counts the entries of a profile.
func Entries(p *profile.Profile) int {
	n := 0
	Each(p, func(string, *profile.Evidence) { n++ })
	return n
}

// Each calls do with the evidence of every entry, and a word for what it is.
func Each(p *profile.Profile, do func(what string, e *profile.Evidence)) {
	for i := range p.Executables {
		do("executables", &p.Executables[i].Evidence)
	}
	for i := range p.Writes {
		do("writes", &p.Writes[i].Evidence)
	}
	for i := range p.Reads {
		do("reads", &p.Reads[i].Evidence)
	}
	for i := range p.Listens {
		do("listens", &p.Listens[i].Evidence)
	}
	for i := range p.Peers {
		do("peers", &p.Peers[i].Evidence)
	}
	for i := range p.Callers {
		do("callers", &p.Callers[i].Evidence)
	}
	for i := range p.Names {
		do("names", &p.Names[i].Evidence)
	}
	for i := range p.Capabilities {
		do("capabilities", &p.Capabilities[i].Evidence)
	}
	for i := range p.Privileges {
		do("privileges", &p.Privileges[i].Evidence)
	}
	for i := range p.Calls {
		do("calls", &p.Calls[i].Evidence)
	}
}
