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
		{"plain", "/usr/bin/env", "/usr/bin/env"},
		{"empty", "", ""},
		{"other scripts", "фасад 店舗 naïve é", "фасад 店舗 naïve é"},
		{"escape sequence", "a\x1b[31mb", `a\x1b[31mb`},
		{"lines and tabs", "a\nb\tc\rd", `a\nb\tc\rd`},
		{"delete", "a\x7f", `a\x7f`},
		{"right to left override", "\u202egnp.exe", `\u202egnp.exe`},
		{"isolates", "\u2066a\u2069", `\u2066a\u2069`},
		{"zero width", "ad\u200bmin\ufeff", `ad\u200bmin\ufeff`},
		{"soft hyphen", "ad\u00admin", `ad\u00admin`},
		{"line separators", "a\u2028b\u2029c\u0085", `a\u2028b\u2029c\u0085`},
		{"no-break and blank letters", "a\u00a0b\u3164c\u2800", `a\u00a0b\u3164c\u2800`},
		{"variation selector", "a\ufe0f", `a\ufe0f`},
		{"tag characters", "a\U000e0041", `a\U000e0041`},
		{"private use", "\ue000", `\ue000`},
		{"few marks", "a\u0301\u0323", "a\u0301\u0323"},
		{"piled marks", "a" + strings.Repeat("\u0301", 6), "a" + strings.Repeat("\u0301", 4) + `\u0301\u0301`},
		{"not UTF-8", "a\xff\xfeb", "a\ufffd\ufffdb"},
		{"replacement character itself", "\ufffd", "\ufffd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := untrusted.Text(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTextIsBounded(t *testing.T) {
	got := untrusted.Text(strings.Repeat("é", untrusted.MaxShown))
	if len(got) > untrusted.MaxShown+64 || !strings.HasSuffix(got, "more bytes") || !utf8.ValidString(got) {
		t.Errorf("got %d bytes ending in %q", len(got), got[len(got)-20:])
	}
}

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"ls -l /tmp", []string{"ls", "-l", "/tmp"}},
		{"sh -c 'rm -rf /'", []string{"sh", "-c", "rm -rf /"}},
		{"echo '' 'a b' 'it'\\''s'", []string{"echo", "", "a b", "it's"}},
		{"curl 'http://x/?a=$(id)'", []string{"curl", "http://x/?a=$(id)"}},
		{"", nil},
	} {
		if got := untrusted.CommandLine(tc.args); got != tc.want {
			t.Errorf("%q: got %s, want %s", tc.args, got, tc.want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "/bin/sh", "\u202e\x00\x1b", "a\u0301\u0301\u0301\u0301\u0301\u0301", "\xff\xfe", strings.Repeat("x", untrusted.MaxShown+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := untrusted.Text(s)
		if !utf8.ValidString(got) {
			t.Fatalf("not UTF-8: %q", got)
		}
		for _, r := range got {
			if unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Fatalf("%q shows %U", s, r)
			}
		}
		if len(got) > 10*untrusted.MaxShown+64 {
			t.Fatalf("%d bytes become %d", len(s), len(got))
		}
	})
}
