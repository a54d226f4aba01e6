package db

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/store"
)

func TestStems(t *testing.T) {
	for text, want := range map[string][]string{
		"":                             nil,
		"/usr/bin/curl":                {"usr", "bin", "curl"},
		"Python3 -c":                   {"python3", "c"},
		"10.200.3.4:8600":              {"10", "200", "3", "4", "860"},
		"x86_64":                       {"x8"},
		"f47ac10b-58cc":                {"f4", "58cc"},
		"--level=3":                    {"level", "3"},
		"ÄÖ straße":                    {"ÄÖ", "straße"},
		strings.Repeat("a", 30):        {strings.Repeat("a", 24)},
		strings.Repeat("a", 23) + "äb": {strings.Repeat("a", 23)},
	} {
		var got []string
		eachStem(text, nil, func(s []byte) { got = append(got, string(s)) })
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// FuzzStem holds what searching for beginnings rests on: whatever a text is
// the beginning of, its stem is the beginning of that one's stem.
func FuzzStem(f *testing.F) {
	f.Add("request00ff", 9)
	f.Add("1234567", 2)
	f.Add("äöüäöüäöüäöüäöü", 13)
	f.Fuzz(func(t *testing.T, word string, cut int) {
		if cut < 0 || cut > len(word) || !utf8.ValidString(word) || !utf8.ValidString(word[:cut]) {
			t.Skip()
		}
		whole, part := string(appendStem(nil, word)), string(appendStem(nil, word[:cut]))
		if len(whole) > maxStem {
			t.Errorf("stem of %q has %d bytes", word, len(whole))
		}
		if !strings.HasPrefix(whole, part) {
			t.Errorf("%q: stem %q does not begin with %q of %q", word, whole, part, word[:cut])
		}
	})
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		holds            bool
	}{
		{"whole", "curl", "curl", true},
		{"beginning", "/usr/bin/curl", "cu", true},
		{"inside", "/usr/bin/curl", "url", false},
		{"second place", "xurl url", "url", true},
		{"case", "EVIL.example", "evil", true},
		{"punctuation first", "http://x", "://", true},
		{"longer", "a", "ab", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := store.Holds(c.text, c.want); got != c.holds {
				t.Errorf("holds(%q, %q) = %v, want %v", c.text, c.want, got, c.holds)
			}
		})
	}
}
