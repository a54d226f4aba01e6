package learn

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

// minStamped is how many programs that did not come with the image show that a folder has
// another name each time: one may be a version, which somebody chose.
const minStamped = 2

// alike puts programs that did not come with the image, and whose paths differ only in what
// changes from time to time in the names of their folders, into one: Varnish compiles its
// settings at each start into vcl_boot.1796042527.039832/vgc.so. Where names are temporary
// each counts, since anybody may write there. What is put together is new; the rest is s's.
func alike(s map[execKey]*execMark) map[execKey]*execMark {
	of := map[execKey][]execKey{}
	for k := range s {
		if k.origin != event.OriginWritten && k.origin != event.OriginMount || widen.Temporary(k.path) {
			continue
		}
		if p := stamped(k.path); p != k.path {
			of[execKey{p, k.origin}] = append(of[execKey{p, k.origin}], k)
		}
	}
	out := maps.Clone(s)
	for to, from := range of {
		if len(from) < minStamped {
			continue
		}
		slices.SortFunc(from, func(a, b execKey) int { return cmp.Compare(a.path, b.path) })
		all := newSeen()
		for _, k := range from {
			all.putExec(to, s[k])
			delete(out, k)
		}
		out[to] = all.execs[to]
	}
	return out
}

// stamped returns a path with what changes in the names of its folders as "*".
func stamped(path string) string {
	names := strings.Split(path, "/")
	for i := range names[:len(names)-1] {
		if names[i] != "" {
			names[i] = widen.ShapeProgram(names[i])
		}
	}
	return strings.Join(names, "/")
}
