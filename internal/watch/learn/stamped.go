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

// minFamily is how many folders of such names show that what comes before the stamp is
// another each time too: vcl_reload1.1796042591, vcl_reload2.1796042618.
const minFamily = 3

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
	together(of)
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

// together puts those paths into one that differ in one stamped folder alone, if there are
// many and their names begin alike.
func together(of map[execKey][]execKey) {
	type family struct {
		above, below string
		origin       event.Origin
	}
	names := map[family][]string{}
	for k := range of {
		if above, name, below, ok := aroundStamp(k.path); ok {
			f := family{above, below, k.origin}
			names[f] = append(names[f], name)
		}
	}
	for f, all := range names {
		begin := beginning(all)
		if len(all) < minFamily || letters(begin) < minLetters {
			continue
		}
		to := execKey{f.above + begin + "*" + f.below, f.origin}
		var from []execKey
		for _, name := range all {
			k := execKey{f.above + name + f.below, f.origin}
			from = append(from, of[k]...)
			delete(of, k)
		}
		of[to] = from
	}
}

// aroundStamp splits a path at the one folder that has "*"; false if it has none or several.
func aroundStamp(path string) (above, name, below string, ok bool) {
	star := strings.IndexByte(path, '*')
	if star < 0 || widen.Temporary(path) {
		return "", "", "", false
	}
	from, to := strings.LastIndexByte(path[:star], '/')+1, star+strings.IndexByte(path[star:], '/')
	if to < star || strings.Contains(path[to:], "*") {
		return "", "", "", false
	}
	return path[:from], path[from:to], path[to:], true
}

// beginning returns what all names begin with, up to a number.
func beginning(names []string) string {
	common, _, _ := strings.Cut(names[0], "*")
	for _, n := range names[1:] {
		for !strings.HasPrefix(n, common) {
			common = common[:len(common)-1]
		}
	}
	return strings.TrimRight(common, "0123456789")
}

func letters(s string) (n int) {
	for _, c := range s {
		if unicode.IsLetter(c) {
			n++
		}
	}
	return n
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

// minLetters is how many letters a pattern has at least that say what it is: that of a
// library besides its ending, that of folders in its beginning.
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
	if letters(name) < minLetters || ending != "" && ending[0] != '.' {
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
