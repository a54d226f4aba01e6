package learn

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

// minStamped is how many programs that did not come with the image show that a folder has
// another name each time: one may be a version, which somebody chose.
const minStamped = 2

// alike puts programs that did not come with the image, and whose paths differ only in what
// changes from time to time, into one: Varnish compiles its settings at each start into
// vcl_boot.1796042527.039832/vgc.so, and libraries of Java are unpacked into /tmp under a
// name of chance. What is put together is new; the rest is s's.
func alike(s map[execKey]*execMark) map[execKey]*execMark {
	of := map[execKey][]execKey{}
	for k := range s {
		if k.origin != event.OriginWritten && k.origin != event.OriginMount {
			continue
		}
		if p := likeness(k.path); p != k.path {
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

// likeness returns the path of a program that did not come with the image with what changes
// in it as "*". Of what lies in folders for temporary files, where anybody may write, only
// libraries have that.
func likeness(path string) string {
	if widen.Temporary(path) {
		return unpacked(path)
	}
	return stamped(path)
}

// minLetters is how many letters a library's pattern has, besides its ending.
const minLetters = 3

// unpacked returns a path in a folder for temporary files with what chance has made in it
// as "*", if it is that of a library, or as it is.
func unpacked(path string) string {
	names := strings.Split(path, "/")
	for i, n := range names {
		names[i] = widen.Shape(n, true)
	}
	name, ending := names[len(names)-1], ""
	if i := strings.Index(name, ".so"); i >= 0 {
		name, ending = name[:i], name[i+len(".so"):]
	} else if stem, ok := strings.CutSuffix(name, ".tmp"); ok && strings.HasPrefix(name, "jna") {
		name = stem // Java Native Access
	} else {
		return path
	}
	letters := 0
	for _, c := range name {
		if unicode.IsLetter(c) {
			letters++
		}
	}
	if letters < minLetters || ending != "" && ending[0] != '.' {
		return path
	}
	return strings.Join(names, "/")
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
