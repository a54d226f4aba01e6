package bpf

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/profile"
)

// walks reads the edges as the kernel's program does.
func (t *ruleTable) walks(list guardExecPathList, path string) bool {
	e, ok := t.edges[guardExecEdgeKey{State: uint32(list), Kind: uint32(guardExecEdgeKindEDGE_START)}]
	for _, name := range profile.Pattern(path).Names() {
		if !ok {
			return false
		}
		has := func(f guardExecEdgeFlag) bool { return e.Flags&uint8(f) != 0 }
		var next guardExecEdge
		ok = false
		if has(guardExecEdgeFlagEDGE_NAMES) {
			next, ok = t.edges[guardExecEdgeKey{Hash: hashOf(t.key, name), State: e.State, Kind: uint32(guardExecEdgeKindEDGE_NAME)}]
		}
		if !ok && has(guardExecEdgeFlagEDGE_OTHERS) {
			next, ok = t.edges[guardExecEdgeKey{Hash: t.fitting(e, name), State: e.State, Kind: uint32(guardExecEdgeKindEDGE_MASK)}]
		}
		e = next
		if ok && e.Flags&uint8(guardExecEdgeFlagEDGE_DEEP) != 0 {
			return true
		}
	}
	return ok && e.Flags&uint8(guardExecEdgeFlagEDGE_ACCEPT) != 0
}

func (t *ruleTable) fitting(e guardExecEdge, name string) (set uint64) {
	for i := range e.Affixes {
		a := t.edges[guardExecEdgeKey{Hash: uint64(i), State: e.State, Kind: uint32(guardExecEdgeKindEDGE_AFFIX)}]
		if len(name) < int(a.PrefixLen)+int(a.SuffixLen) {
			continue
		}
		if hashOf(t.key, name[:a.PrefixLen]) == a.Prefix && hashOf(t.key, name[len(name)-int(a.SuffixLen):]) == a.Suffix {
			set |= 1 << i
		}
	}
	return set
}

func TestAutomatonIsThePatterns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	name := func(some ...string) string { return some[r.IntN(len(some))] }
	for range 3_000 {
		var patterns []profile.Pattern
		for range 1 + r.IntN(8) {
			var p strings.Builder
			for range 1 + r.IntN(4) {
				p.WriteString("/" + name("a", "b", "ab", "aab", "a*", "*a", "a*b", "aa*aa", "ab*", "*b", "*", "aab*b", "aa*b"))
			}
			if r.IntN(4) == 0 {
				p.WriteString("/**")
			}
			patterns = append(patterns, profile.Pattern(p.String()))
		}
		checkAutomaton(t, patterns, func() string {
			var p strings.Builder
			for range 1 + r.IntN(5) {
				p.WriteString("/" + name("a", "b", "ab", "aab", "aaa", "aaaa", "aaaab", "ba", "c", "aba", "abb", "aabb"))
			}
			return p.String()
		})
		if t.Failed() {
			return
		}
	}
}

// checkAutomaton holds a table against the patterns themselves.
func checkAutomaton(t *testing.T, patterns []profile.Pattern, path func() string) {
	t.Helper()
	table := newRuleTable([2]uint64{1, 2}, 0)
	if err := table.add(guardExecPathListLIST_WRITES, patterns); err != nil {
		t.Fatalf("%q: %v", patterns, err)
	}
	for range 40 {
		p := path()
		want := slices.ContainsFunc(patterns, func(one profile.Pattern) bool { return one.Match(p) })
		if got := table.walks(guardExecPathListLIST_WRITES, p); got != want {
			t.Errorf("%q of %q: %v, want %v", p, patterns, got, want)
		}
	}
}

func FuzzAutomaton(f *testing.F) {
	f.Add("/a/*\n/a/b*c/**\n/", "/a/bc/d")
	f.Add("/x*\n/*x\n/xx*xx\n/**", "/xxx")
	f.Add("/tmp/a*\n/tmp/*/b", "/tmp/ab/b")
	f.Fuzz(func(t *testing.T, text, path string) {
		var patterns []profile.Pattern
		for line := range strings.Lines(text) {
			p := profile.Pattern(strings.TrimSuffix(line, "\n"))
			if p.Check() == nil {
				patterns = append(patterns, p)
			}
		}
		if profile.Pattern(strings.ReplaceAll(path, "*", "x")).Check() != nil {
			return // no path that a kernel shows
		}
		if slices.ContainsFunc(profile.Pattern(path).Names(), func(n string) bool { return len(n) > maxName }) {
			return
		}
		table := newRuleTable([2]uint64{1, 2}, 0)
		if table.add(guardExecPathListLIST_WRITES, patterns) != nil {
			return // too much for a kernel
		}
		want := slices.ContainsFunc(patterns, func(one profile.Pattern) bool { return one.Match(path) })
		if got := table.walks(guardExecPathListLIST_WRITES, path); got != want {
			t.Errorf("%q of %q: %v, want %v", path, patterns, got, want)
		}
	})
}

func TestAutomatonHasBounds(t *testing.T) {
	var many []profile.Pattern
	for i := range maxAffixes + 1 {
		many = append(many, profile.Pattern(fmt.Sprintf("/tmp/%c%c*", 'a'+i/26, 'a'+i%26)))
	}
	table := newRuleTable([2]uint64{1, 2}, 0)
	if err := table.add(guardExecPathListLIST_WRITES, many); err == nil {
		t.Error("more affixes than a kernel looks at pass")
	}
	var deep []profile.Pattern
	for i := range 24 {
		deep = append(deep, profile.Pattern("/"+strings.Repeat("*/", i)+"a"+strings.Repeat("/*", 24-i)+"/x"+fmt.Sprint(i)))
	}
	if err := newRuleTable([2]uint64{1, 2}, 0).add(guardExecPathListLIST_WRITES, deep); err == nil {
		t.Error("an automaton without bounds passes")
	}
	plain := make([]profile.Pattern, profile.MaxPatterns)
	for i := range plain {
		plain[i] = profile.Pattern(fmt.Sprintf("/srv/%d/data/%d", i%97, i))
	}
	if err := newRuleTable([2]uint64{1, 2}, 0).add(guardExecPathListLIST_WRITES, plain); err != nil {
		t.Errorf("as many plain patterns as rules may have: %v", err)
	}
}
