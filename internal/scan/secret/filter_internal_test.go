package secret

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// everywhere are the places of words, as a search for each of them finds them.
func everywhere(words []string, b []byte) (all []hitAt) {
	var low []byte
	for _, c := range b {
		low = append(low, lower(c))
	}
	for id, w := range words {
		for i := 0; i+len(w) <= len(low); i++ {
			if bytes.HasPrefix(low[i:], []byte(w)) {
				all = append(all, hitAt{id, i})
			}
		}
	}
	return all
}

type hitAt struct{ id, at int }

func sorted(all []hitAt) []hitAt {
	slices.SortFunc(all, func(a, b hitAt) int { return (a.at-b.at)*1000 + a.id - b.id })
	return slices.Compact(all)
}

func FuzzFilter(f *testing.F) {
	e, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("the KEY is in -----BEGIN and q~ akia ghp_ at the endey"))
	f.Add([]byte("ey"))
	f.Add([]byte(strings.Join(e.words, "x")))
	f.Add([]byte(strings.Join(e.words, "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got []hitAt
		e.filter.each(b, func(id, at int) { got = append(got, hitAt{id, at}) })
		if want := sorted(everywhere(e.words, b)); !slices.Equal(sorted(got), want) {
			t.Errorf("found %v, want %v", got, want)
		}
		got = nil
		e.sure.each(b, func(id, at int) { got = append(got, hitAt{id, at}) })
		want := slices.DeleteFunc(everywhere(e.words, b), func(h hitAt) bool {
			return len(e.words[h.id]) <= gram || !slices.ContainsFunc(e.byWord[h.id], func(a aim) bool { return a.probe != nil && a.probe.sure })
		})
		if want = sorted(want); !slices.Equal(sorted(got), want) {
			t.Errorf("sparsely found %v, want %v", got, want)
		}
	})
}
