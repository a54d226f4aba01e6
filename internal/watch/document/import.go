package document

import (
	"cmp"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

// Import returns what was read as the profile that follows current: entries that
// permit the same as one of current keep what they rest on, the others are a
// person's. What current has and the text has not is gone. Group and revision are
// current's, whose may be nil.
func Import(current, read *profile.Profile) *profile.Profile {
	p := learn.Clone(read)
	if current == nil {
		return p
	}
	p.UsesSeen = current.UsesSeen
	p.Group, p.Revision, p.Versions = current.Group, current.Revision, slices.Clone(current.Versions)
	keep(p.Executables, current.Executables, executableKey)
	keep(p.Writes, current.Writes, fileKey)
	keep(p.Reads, current.Reads, fileKey)
	keep(p.Listens, current.Listens, func(l *profile.Listen) (string, *profile.Evidence) {
		return portText(l.Protocol, l.Port), &l.Evidence
	})
	keep(p.Peers, current.Peers, peerKey)
	keep(p.Callers, current.Callers, peerKey)
	keep(p.Names, current.Names, func(n *profile.Name) (string, *profile.Evidence) { return n.Name, &n.Evidence })
	keep(p.Capabilities, current.Capabilities, func(n *profile.Capability) (string, *profile.Evidence) { return n.Name, &n.Evidence })
	keep(p.Privileges, current.Privileges, func(n *profile.Privilege) (string, *profile.Evidence) {
		return string(n.Kind) + "\x00" + n.Detail, &n.Evidence
	})
	keep(p.Calls, current.Calls, func(n *profile.Call) (string, *profile.Evidence) { return n.Name, &n.Evidence })
	if same := p.Limits; same != (profile.Limits{}) {
		same.Source = current.Limits.Source
		if same == current.Limits {
			p.Limits = same
		}
	}
	return p
}

// keep gives entries the evidence of those that are the same. One whose comment
// somebody changed keeps the new comment.
func keep[T any](list, current []T, key func(*T) (string, *profile.Evidence)) {
	have := map[string]profile.Evidence{}
	for i := range current {
		k, e := key(&current[i])
		have[k] = *e
	}
	for i := range list {
		k, e := key(&list[i])
		old, ok := have[k]
		if !ok {
			continue
		}
		comment := e.Comment
		*e = old
		e.Comment = comment
	}
}

func executableKey(x *profile.Executable) (string, *profile.Evidence) {
	return string(x.Path) + "\x00" + string(x.Origin) + "\x00" + x.Digest + "\x00" + list(parents(x.Parents)) + numbers(x.Users) + list(x.Scripts) + list(x.Loose) + list(x.Loads), &x.Evidence
}

func fileKey(f *profile.File) (string, *profile.Evidence) {
	return string(f.Path) + "\x00" + list(f.Programs), &f.Evidence
}

func peerKey(p *profile.Peer) (string, *profile.Evidence) { return learn.PeerKey(*p), &p.Evidence }

// arranged returns a sorted copy.
func arranged(p *profile.Profile) *profile.Profile {
	p = learn.Clone(p)
	arrange(p)
	return p
}

// arrange sorts a profile as learning does.
func arrange(p *profile.Profile) {
	slices.SortStableFunc(p.Executables, func(a, b profile.Executable) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Origin, b.Origin))
	})
	for _, l := range [][]profile.File{p.Writes, p.Reads} {
		slices.SortStableFunc(l, func(a, b profile.File) int { return cmp.Compare(a.Path, b.Path) })
	}
	slices.SortStableFunc(p.Listens, func(a, b profile.Listen) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port.First, b.Port.First), cmp.Compare(a.Port.Last, b.Port.Last))
	})
	for _, l := range [][]profile.Peer{p.Peers, p.Callers} {
		slices.SortStableFunc(l, func(a, b profile.Peer) int { return cmp.Compare(learn.PeerKey(a), learn.PeerKey(b)) })
	}
	slices.SortStableFunc(p.Names, func(a, b profile.Name) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(p.Capabilities, func(a, b profile.Capability) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(p.Privileges, func(a, b profile.Privilege) int {
		return cmp.Or(cmp.Compare[event.Kind](a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
	})
	slices.SortStableFunc(p.Calls, func(a, b profile.Call) int { return cmp.Compare(a.Name, b.Name) })
}

// Each calls do with the evidence of every entry of a profile, and a word for what
// it is.
func Each(p *profile.Profile, do func(what string, e *profile.Evidence)) { learn.Each(p, do) }
