package behaviour

import (
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/profile"
)

// asPerson returns the entries of a profile as those of a person.
func asPerson(p *profile.Profile, actor, comment string, now time.Time) *profile.Profile {
	e := profile.Evidence{Source: profile.Person, First: now.UTC(), Last: now.UTC(), Actor: actor, Comment: comment}
	c := *p
	c.Executables = withEvidence(p.Executables, func(x *profile.Executable) { x.Evidence = e })
	c.Writes = withEvidence(p.Writes, func(x *profile.File) { x.Evidence = e })
	c.Reads = withEvidence(p.Reads, func(x *profile.File) { x.Evidence = e })
	c.Listens = withEvidence(p.Listens, func(x *profile.Listen) { x.Evidence = e })
	c.Peers = withEvidence(p.Peers, func(x *profile.Peer) { x.Evidence = e })
	c.Callers = withEvidence(p.Callers, func(x *profile.Peer) { x.Evidence = e })
	c.Names = withEvidence(p.Names, func(x *profile.Name) { x.Evidence = e })
	c.Capabilities = withEvidence(p.Capabilities, func(x *profile.Capability) { x.Evidence = e })
	c.Privileges = withEvidence(p.Privileges, func(x *profile.Privilege) { x.Evidence = e })
	c.Calls = withEvidence(p.Calls, func(x *profile.Call) { x.Evidence = e })
	return &c
}

func withEvidence[T any](list []T, set func(*T)) []T {
	list = slices.Clone(list)
	for i := range list {
		set(&list[i])
	}
	return list
}

// missing returns what of more a profile does not have: of programs that it has, the
// parents, users and scripts, and code that it loads, that it lacks.
func missing(had, more *profile.Profile) *profile.Profile {
	out := subtract(more, had)
	for i := range more.Executables {
		m := more.Executables[i]
		j := slices.IndexFunc(had.Executables, func(h profile.Executable) bool { return sameProgram(h, m) })
		if j < 0 {
			continue
		}
		h := &had.Executables[j]
		m.Parents, m.Users = lacking(m.Parents, h.Parents), lacking(m.Users, h.Users)
		m.Scripts, m.Loose = lacking(m.Scripts, h.Scripts), lacking(m.Loose, h.Loose)
		m.Loads = lacking(m.Loads, h.Loads)
		if m.Digest == h.Digest || h.Digest == "" {
			m.Digest = ""
		}
		m.Evidence = profile.Evidence{} // it stays, whatever becomes of the rest
		out.Executables = append(out.Executables, m)
	}
	return out
}

// without returns a profile less what missing has found.
func without(p, added *profile.Profile) *profile.Profile {
	whole := *added
	whole.Executables = slices.DeleteFunc(slices.Clone(added.Executables), func(x profile.Executable) bool { return x.Source == "" })
	out := subtract(p, &whole)
	for i := range out.Executables {
		x := &out.Executables[i]
		for _, a := range added.Executables {
			if a.Source == "" && sameProgram(*x, a) {
				x.Parents, x.Users = lacking(x.Parents, a.Parents), lacking(x.Users, a.Users)
				x.Scripts, x.Loose = lacking(x.Scripts, a.Scripts), lacking(x.Loose, a.Loose)
				x.Loads = lacking(x.Loads, a.Loads)
			}
		}
	}
	return out
}

func sameProgram(a, b profile.Executable) bool { return a.Path == b.Path && a.Origin == b.Origin }

// subtract returns p less the entries that o has too.
func subtract(p, o *profile.Profile) *profile.Profile {
	out := *p
	out.Executables = less(p.Executables, o.Executables, sameProgram)
	file := func(a, b profile.File) bool { return a.Path == b.Path }
	out.Writes, out.Reads = less(p.Writes, o.Writes, file), less(p.Reads, o.Reads, file)
	out.Listens = less(p.Listens, o.Listens, func(a, b profile.Listen) bool { return a.Protocol == b.Protocol && a.Port == b.Port })
	peer := func(a, b profile.Peer) bool {
		a.Evidence, b.Evidence = profile.Evidence{}, profile.Evidence{}
		return a.Protocol == b.Protocol && a.Port == b.Port && a.Group == b.Group && a.Name == b.Name && a.Network == b.Network && a.Kind == b.Kind
	}
	out.Peers, out.Callers = less(p.Peers, o.Peers, peer), less(p.Callers, o.Callers, peer)
	out.Names = less(p.Names, o.Names, func(a, b profile.Name) bool { return a.Name == b.Name })
	out.Capabilities = less(p.Capabilities, o.Capabilities, func(a, b profile.Capability) bool { return a.Name == b.Name })
	out.Privileges = less(p.Privileges, o.Privileges, func(a, b profile.Privilege) bool { return a.Kind == b.Kind && a.Detail == b.Detail })
	out.Calls = less(p.Calls, o.Calls, func(a, b profile.Call) bool { return a.Name == b.Name })
	return &out
}

func less[T any](list, gone []T, same func(a, b T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool {
		return slices.ContainsFunc(gone, func(g T) bool { return same(x, g) })
	})
}

// lacking returns what of list the other one does not have.
func lacking[T comparable](list, have []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return slices.Contains(have, x) })
}
