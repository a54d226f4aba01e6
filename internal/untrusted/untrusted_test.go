package untrusted_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/untrusted"
)

func TestText(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "/usr/bin/python3 -c 'x'", "/usr/bin/python3 -c 'x'"},
		{"other scripts", "größe 東京 🙂", "größe 東京 🙂"},
		{"escape sequence", "\x1b[31mred", "␛[31mred"},
		{"newline and tab", "a\nb\tc", "a␊b␉c"},
		{"delete", "a\x7f", "a␡"},
		{"right-to-left override", "exe\u202egpj", `exe\u202egpj`},
		{"zero width space", "a\u200bb", `a\u200bb`},
		{"invalid UTF-8", "a\xffb", "a\ufffdb"},
		{"C1 control", "a\u009bb", `a\u009bb`},
		{"blank letter", "a\u3164b", `a\u3164b`},
		{"a tower of marks", "a" + strings.Repeat("\u0301", 6), "a" + strings.Repeat("\u0301", 4) + `\u0301\u0301`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := untrusted.Text(tc.in); got != tc.want {
				t.Errorf("Text(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestLongTextIsCutAloud(t *testing.T) {
	got := untrusted.Text(strings.Repeat("é", 10_000))
	if len(got) > 9_000 || !strings.HasSuffix(got, "more bytes") || !utf8.ValidString(got) {
		t.Errorf("20,000 bytes became %d, ending in %q", len(got), got[len(got)-20:])
	}
}

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []string
		want string
	}{
		{"none", nil, ""},
		{"plain", []string{"ls", "-l", "/tmp"}, "ls -l /tmp"},
		{"blank and quote", []string{"sh", "-c", "echo 'a b'"}, `sh -c 'echo '\''a b'\'''`},
		{"empty argument", []string{"x", ""}, "x ''"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := untrusted.CommandLine(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func FuzzText(f *testing.F) {
	f.Add("\x1b]0;title\x07\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := untrusted.Text(s)
		if !utf8.ValidString(got) {
			t.Fatalf("Text(%q) = %q is not UTF-8", s, got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Fatalf("Text(%q) lets %U through", s, r)
			}
		}
	})
}
