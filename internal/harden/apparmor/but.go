package apparmor

import (
	"slices"
	"strings"
)

// allBut returns globs that together stand for every name but these: those that
// part from them at some letter, end before them, or go on behind them.
func allBut(names []string) []string {
	slices.Sort(names)
	var globs []string
	part("", slices.Compact(names), &globs)
	return globs
}

// part adds the globs of the names that begin with before and are none of before
// followed by one of rest, which are sorted.
func part(before string, rest []string, globs *[]string) {
	if before != "" && rest[0] != "" {
		*globs = append(*globs, glob(before)) // ends before them
	}
	if len(rest) == 1 && rest[0] == "" {
		*globs = append(*globs, glob(before)+"?*") // goes on behind it
		return
	}
	var next []byte
	for _, r := range rest {
		if r != "" && !slices.Contains(next, r[0]) {
			next = append(next, r[0])
		}
	}
	*globs = append(*globs, glob(before)+other(next))
	for _, c := range next {
		var deeper []string
		for _, r := range rest {
			if after, ok := strings.CutPrefix(r, string([]byte{c})); ok {
				deeper = append(deeper, after)
			}
		}
		part(before+string([]byte{c}), deeper, globs)
	}
}

// other is any name that begins with none of the bytes.
func other(not []byte) string {
	var b strings.Builder
	b.WriteString("[^/")
	for _, c := range not {
		if c == '-' {
			b.WriteByte('\\')
		}
		b.WriteString(glob(string([]byte{c})))
	}
	b.WriteString("]*")
	return b.String()
}
