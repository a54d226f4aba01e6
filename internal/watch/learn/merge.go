package learn

import (
	"cmp"
	"slices"

	"github.com/castellan-security/castellan/internal/profile"
)

// Merge returns what two profiles permit together, with base's group and revision.
// Entries that one of base's patterns covers add to its evidence; those of people
// keep their comment. Neither argument is changed.
func Merge(base, more *profile.Profile) *profile.Profile {
	p := Clone(base)
	p.Versions = mergeVersions(p.Versions, more.Versions)
	p.Executables = mergeList(p.Executables, more.Executables, sameExecutable, joinExecutable, func(a, b profile.Executable) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Origin, b.Origin))
	})
	for _, f := range []struct{ to, from *[]profile.File }{{&p.Writes, &more.Writes}, {&p.Reads, &more.Reads}} {
		*f.to = mergeList(*f.to, *f.from, func(a, b profile.File) bool { return a.Path.Covers(b.Path) }, joinFile,
			func(a, b profile.File) int { return cmp.Compare(a.Path, b.Path) })
	}
	p.Listens = mergeList(p.Listens, more.Listens, func(a, b profile.Listen) bool {
		return a.Protocol == b.Protocol && covers(a.Port, b.Port)
	}, func(a *profile.Listen, b profile.Listen) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
		func(a, b profile.Listen) int {
			return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port.First, b.Port.First), cmp.Compare(a.Port.Last, b.Port.Last))
		})
	for _, f := range []struct{ to, from *[]profile.Peer }{{&p.Peers, &more.Peers}, {&p.Callers, &more.Callers}} {
		*f.to = mergeList(*f.to, *f.from, samePeer, func(a *profile.Peer, b profile.Peer) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
			func(a, b profile.Peer) int { return cmp.Compare(PeerKey(a), PeerKey(b)) })
	}
	p.Names = mergeList(p.Names, more.Names, func(a, b profile.Name) bool { return NameCovers(a.Name, b.Name) },
		func(a *profile.Name, b profile.Name) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
		func(a, b profile.Name) int { return cmp.Compare(a.Name, b.Name) })
	p.Capabilities = mergeList(p.Capabilities, more.Capabilities, func(a, b profile.Capability) bool { return a.Name == b.Name },
		func(a *profile.Capability, b profile.Capability) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
		func(a, b profile.Capability) int { return cmp.Compare(a.Name, b.Name) })
	p.Privileges = mergeList(p.Privileges, more.Privileges, func(a, b profile.Privilege) bool {
		return a.Kind == b.Kind && (a.Detail == b.Detail || a.Detail == "")
	}, func(a *profile.Privilege, b profile.Privilege) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
		func(a, b profile.Privilege) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
		})
	p.Calls = mergeList(p.Calls, more.Calls, func(a, b profile.Call) bool { return a.Name == b.Name },
		func(a *profile.Call, b profile.Call) { a.Evidence = joinEvidence(a.Evidence, b.Evidence) },
		func(a, b profile.Call) int { return cmp.Compare(a.Name, b.Name) })
	if p.Limits.Source != profile.Person && more.Limits != (profile.Limits{}) {
		p.Limits = more.Limits
	}
	return p
}

// mergeList adds the entries of more to those of base that cover them, or beside
// them.
func mergeList[T any](base, more []T, covers func(a, b T) bool, join func(*T, T), order func(a, b T) int) []T {
	n := len(base)
	for _, m := range more {
		i := slices.IndexFunc(base[:n], func(b T) bool { return covers(b, m) })
		if i < 0 {
			base = append(base, m)
			continue
		}
		join(&base[i], m)
	}
	slices.SortStableFunc(base, order)
	return base
}

func sameExecutable(a, b profile.Executable) bool {
	return a.Path.Covers(b.Path) && a.Origin == b.Origin
}

func joinExecutable(a *profile.Executable, b profile.Executable) {
	if a.Digest != b.Digest {
		a.Digest = ""
	}
	a.Parents = either(a.Parents, b.Parents)
	a.Users = either(a.Users, b.Users)
	a.Scripts = union(a.Scripts, b.Scripts)
	a.Loose = union(a.Loose, b.Loose)
	a.Evidence = joinEvidence(a.Evidence, b.Evidence)
}

func joinFile(a *profile.File, b profile.File) {
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
