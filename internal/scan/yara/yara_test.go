package yara_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/yara"
)

// compile returns rules, of which none may be refused.
func compile(t testing.TB, text string) *yara.Rules {
	t.Helper()
	r, refused, err := yara.Compile([]yara.Source{{Name: "a.yar", Text: text}})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range refused {
		t.Errorf("refused: %s", x)
	}
	return r
}

func met(t testing.TB, r *yara.Rules, path, content string) string {
	t.Helper()
	rules, err := r.Scan(context.Background(), yara.File{Path: path, Size: int64(len(content))}, strings.NewReader(content), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range rules {
		names = append(names, x.Name)
	}
	return strings.Join(names, " ")
}

func one(strings, condition string) string {
	if strings != "" {
		strings = "strings: " + strings
	}
	return "rule r { " + strings + " condition: " + condition + " }"
}

func TestStrings(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString
	for _, tc := range []struct {
		name, strings, content string
		want                   bool
	}{
		{"text", `$a = "needle"`, "in a needle's eye", true},
		{"text, other case", `$a = "needle"`, "in a Needle's eye", false},
		{"nocase", `$a = "nEEdle" nocase`, "in a NeedLE's eye", true},
		{"two bytes", `$a = "ab"`, "xxab", true},
		{"two bytes at the end alone", `$a = "ab"`, "ab", true},
		{"three bytes, nocase", `$a = "abc" nocase`, "xxAbC", true},
		{"escapes", `$a = "a\x00\t\\\"b"`, "a\x00\t\\\"b", true},
		{"wide", `$a = "needle" wide`, "xn\x00e\x00e\x00d\x00l\x00e\x00", true},
		{"wide alone", `$a = "needle" wide`, "needle", false},
		{"wide and ascii", `$a = "needle" wide ascii`, "needle", true},
		{"fullword", `$a = "needle" fullword`, "a needle.", true},
		{"fullword within", `$a = "needle" fullword`, "needles", false},
		{"fullword, once within and once alone", `$a = "needle" fullword`, "needles needle", true},
		{"fullword wide", `$a = "needle" wide fullword`, "n\x00e\x00e\x00d\x00l\x00e\x00s\x00", false},
		{"xor", `$a = "needle" xor`, xored("needle", 0x5a), true},
		{"xor with a key", `$a = "needle" xor(0x5a)`, xored("needle", 0x5b), false},
		{"xor with keys", `$a = "needle" xor(0x50-0x60)`, xored("needle", 0x5b), true},
		{"base64", `$a = "a needle" base64`, encoded([]byte("here is a needle, see")), true},
		{"base64, shifted", `$a = "a needle" base64`, encoded([]byte("xhere is a needle, see")), true},
		{"base64, shifted twice", `$a = "a needle" base64`, encoded([]byte("xyhere is a needle, see")), true},
		{"base64 has not the text", `$a = "a needle" base64`, "here is a needle", false},
		{"hex", `$a = { 6E 65 65 64 }`, "a needle", true},
		{"hex with open bytes", `$a = { 6E ?? 65 64 6? ?5 }`, "a needle", true},
		{"hex with a byte that it is not", `$a = { 6E 65 65 ~64 6C 65 }`, "a needle", false},
		{"hex with a jump", `$a = { 6E 65 [1-3] 6C 65 }`, "a needle", true},
		{"hex with a jump that is too short", `$a = { 6E 65 [0-1] 6C 65 }`, "a needle", false},
		{"hex with alternatives", `$a = { 6E 65 ( 65 64 | 61 74 ?? ) 6C 65 }`, "neatale and neatxle", true},
		{"hex with comments", "$a = { 6E /* e */ 65 // and\n 65 64 }", "a needle", true},
		{"bytes that are no text", `$a = { FF FE 80 ?? 81 }`, "\xff\xfe\x80\xc3\x81", true},
		{"expression", `$a = /ne{2}d[a-l]e/`, "a needle", true},
		{"expression, other case", `$a = /ne{2}d[a-l]e/i`, "a NEEDLE", true},
		{"expression with a long tail", `$a = /need.{0,10}end/`, "needle to the end", true},
		{"expression over lines", `$a = /need.{0,10}end/`, "needle\nend", false},
		{"expression over lines, with s", `$a = /need.{0,10}end/s`, "needle\nend", true},
		{"expression at the beginning", `$a = /^needle/`, "needle", true},
		{"expression not at the beginning", `$a = /^needle/`, "a needle", false},
		{"expression at the end", `$a = /needle$/`, "a needle", true},
		{"expression with bytes", `$a = /\xffneed\x80/`, "\xffneed\x80", true},
		{"expression with borders", `$a = /\bneedle\b/`, "needle", true},
		{"expression with a fixed end", `$a = /[a-z]+dle/`, "a needle", true},
		{"expression with alternatives", `$a = /(pin|needle|nail)s?/ fullword`, "some needles", true},
		{"expression with alternatives, within a word", `$a = /(pin|needle|nail)/ fullword`, "some needles", false},
		{"expression, {,n}", `$a = /ne{,3}dle/`, "needle", true},
		{"expression with a slash", `$a = /a\/needle/`, "a/needle", true},
		{"expression, wide", `$a = /ne+dle/ wide`, "n\x00e\x00e\x00d\x00l\x00e\x00", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := compile(t, one(tc.strings, "$a"))
			if got := met(t, r, "f", tc.content) == "r"; got != tc.want {
				t.Errorf("met: %v, want %v", got, tc.want)
			}
			// The same far into a file, where it lies over the ends of what is read.
			if strings.Contains(tc.name, "beginning") {
				return
			}
			for _, at := range []int{4093, 128<<10 - 3, 300_001} {
				long := strings.Repeat("\x00", at) + "\x00" + tc.content
				if got := met(t, r, "f", long) == "r"; got != tc.want {
					t.Errorf("at %d it is met: %v, want %v", at, got, tc.want)
				}
			}
		})
	}
}

func xored(s string, key byte) string {
	b := []byte(s)
	for i := range b {
		b[i] ^= key
	}
	return string(b)
}

func TestConditions(t *testing.T) {
	const content = "MZ one two one three\x00\x01\x02\x03\x04one" // 32 bytes
	const texts = `$mz = "MZ" $one = "one" $two = "two" $none = "never there" $re = /th[a-z]+e/ `
	const all = " and (any of them or true)" // uses all of them
	for _, tc := range []struct {
		condition string
		want      bool
	}{
		{"true", true},
		{"false", false},
		{"not false and (false or true)", true},
		{"$one and not $none", true},
		{"$mz at 0", true},
		{"$one at 0", false},
		{"$one at 3 and $one at 11", true},
		{"$one in (4..12)", true},
		{"$one in (4..10)", false},
		{"#one == 3 and #none == 0", true},
		{"#one in (0..12) == 2", true},
		{"@one == 3 and @one[2] == 11", true},
		{"@one[4] == 11", false},
		{"not @one[4] == 11", false}, // what is not known is neither
		{"not defined @one[4]", true},
		{"!re[1] == 5", true},
		{"2 of ($one, $two, $none)", true},
		{"all of ($one, $two, $none)", false},
		{"any of ($n*)", false},
		{"none of ($n*)", true},
		{"4 of them", true},
		{"5 of them", false},
		{"80% of them", true},
		{"81% of them", false},
		{"any of ($o*) in (25..40)", true},
		{"all of ($mz, $one) in (0..2)", false},
		{"any of them at 3", true},
		{"filesize == 32", false},
		{"filesize < 1KB and filesize > 20", true},
		{"uint16(0) == 0x5A4D", true},
		{"uint16be(0) == 0x4D5A", true},
		{"uint8(20) == 0", true},
		{"uint32(20) == 0x03020100 and int32be(20) == 0x00010203", true},
		{"uint8(1000) == 0", false},
		{"uint8(filesize - 1) == 0x65", true},
		{"uint8(@one[3]) == 0x6f", true},
		{"1 + 2 * 3 == 7 and (1 | 6) == 7 and 7 \\ 2 == 3 and 7 % 4 == 3 and ~0 == -1 and 1 << 4 == 16", true},
		{"1 \\ (filesize - filesize) == 1", false},
		{"for any of ($o*, $t*) : ( # >= 3 )", true},
		{"for all of ($o*, $t*) : ( # >= 3 )", false},
		{"for any of them : ( $ at 11 )", true},
		{"for all i in (1..#one) : ( @one[i] > 2 )", true},
		{"for any i in (1, 2, 3) : ( @one[i] == 11 )", true},
		{"for 2 i in (1..3) : ( @one[i] < 12 )", true},
		{"for any i in (0..3) : ( for all j in (0..1) : ( uint8(i + j) != 0x4d ) )", true},
		{`filename == "f.php" and extension == ".php" and filepath contains "/www/"`, true},
		{`filename icontains "F." and filepath istartswith "/VAR" and filename endswith "php"`, true},
		{`filepath matches /\/WWW\/.*\.php$/i`, true},
		{`filepath matches /^www/`, false},
	} {
		t.Run(tc.condition, func(t *testing.T) {
			r := compile(t, one(texts, "("+tc.condition+")"+all))
			if got := met(t, r, "var/www/f.php", content) == "r"; got != tc.want {
				t.Errorf("met: %v, want %v", got, tc.want)
			}
		})
	}
}

// Of a file whose beginning alone is looked at, what only its rest could decide is
// not decided; its size is known.
func TestCutFiles(t *testing.T) {
	seen := strings.Repeat(".", 100) + "one" + strings.Repeat(".", 9000) + "last"
	const texts = `$one = "one" $two = "two" $end = /last$/ $word = "last" fullword `
	for _, tc := range []struct {
		condition string
		whole     bool // what it is of a file that ends there
		cut       bool // and of one of which that is the beginning
	}{
		{"$one", true, true},
		{"not $one", false, false},
		{"$two", false, false},
		{"not $two", true, false},
		{"not ($two or $one)", false, false},
		{"not ($two or false)", true, false},
		{"not ($two and $one)", true, false},
		{"not ($two and false)", true, true},
		{"$two or $one", true, true},
		{"$one and not $two", true, false},
		{"none of ($two)", true, false},
		{"none of ($one)", false, false},
		{"any of ($one, $two)", true, true},
		{"not any of ($two)", true, false},
		{"all of ($one, $two)", false, false},
		{"not all of ($one, $two)", true, false},
		{"2 of ($one, $two)", false, false},
		{"not 2 of ($one, $two)", true, false},
		{"not 3 of ($one, $two)", true, true},
		{"for all of ($one, $two) : ($)", false, false},
		{"for none of ($two) : ($)", true, false},
		{"for all i in (1, 2) : (@one[i] == 100)", false, false},
		{"for any i in (1, 2) : (@one[i] == 100)", true, true},
		{"not for all i in (1..3) : (#one < i)", true, true},
		{"for all i in (1, 2) : (#one <= i)", true, false},
		{"#one == 1", true, false},
		{"#one >= 1", true, true},
		{"1 <= #one", true, true},
		{"#one < 1", false, false},
		{"not #one < 1", true, true},
		{"#one > 1", false, false},
		{"not #one > 1", true, false},
		{"#one != 0", true, true},
		{"#one + 1 == 2", true, false},
		{"not #two", true, false},
		{"#one in (0..200) == 1", true, true},
		{"#one in (0..filesize) == 1", true, false},
		{"$one at 100", true, true},
		{"not $one at 101", true, true},
		{"not $one at 20000", true, false},
		{"not $one in (200..300)", true, true},
		{"not $one in (200..filesize)", true, false},
		{"none of ($one, $two) in (200..300)", true, true},
		{"not uint8(20000) == 1", false, false},
		{"filesize > 20000", false, true},
		{"filesize == 30000", false, true},
		{"$end", true, false},
		{"$word", true, false},
		{"missing", true, false},
		{"not missing", false, false},
		{"none of (missing)", false, false},
	} {
		t.Run(tc.condition, func(t *testing.T) {
			source := "rule missing { strings: $two = \"two\" condition: not $two }\nrule a { strings: " + texts + "condition: (" + tc.condition + ") and (any of them or true) }"
			rules := compile(t, source)
			for what, c := range map[string]struct {
				size int
				want bool
			}{"whole": {len(seen), tc.whole}, "cut": {30_000, tc.cut}} {
				met, err := rules.Scan(t.Context(), yara.File{Path: "f", Size: int64(c.size)}, strings.NewReader(seen), nil)
				if err != nil {
					t.Fatal(err)
				}
				got := slices.ContainsFunc(met, func(r *yara.Rule) bool { return r.Name == "a" })
				if got != c.want {
					t.Errorf("of a file that is %s: %v, want %v", what, got, c.want)
				}
			}
		})
	}
}

// A file that costs too much is cut there, too, and a loop that ends with it has
// told nothing.
func TestCostlyFilesAreCut(t *testing.T) {
	rules := compile(t, `rule costs { strings: $a = /ab[a-z ]{0,1000}[0-9]x/ condition: $a }
rule missing { strings: $b = "never" condition: not $b }
rule listed { strings: $a = "ba" condition: for all i in (1, 2, 3) : (@a[i] >= 0) }
rule there { strings: $b = "bab" condition: $b }`)
	content := strings.Repeat("ab", 1<<20)
	met, err := rules.Scan(t.Context(), yara.File{Path: "f", Size: int64(len(content))}, strings.NewReader(content), nil)
	if !errors.Is(err, yara.ErrCostly) {
		t.Fatalf("error %v, want that it is costly", err)
	}
	var got []string
	for _, r := range met {
		got = append(got, r.Name)
	}
	if want := []string{"there"}; !slices.Equal(got, want) {
		t.Errorf("rules %v are met, want %v", got, want)
	}
}

func TestRules(t *testing.T) {
	r := compile(t, `
import "pe"
/* private ones are not told of */
private rule inner { strings: $a = "inner" condition: $a }
rule outer : one two { meta: title = "An outer one" score = 75 sure = true condition: inner and filesize > 2 }
rule both { condition: inner and outer }
rule several { condition: any of (outer, bo*) }
`)
	if got := met(t, r, "f", "the inner one"); got != "outer both several" {
		t.Errorf("met are %q", got)
	}
	if got := met(t, r, "f", "nothing"); got != "" {
		t.Errorf("met are %q, want none", got)
	}
	told := r.Rules()
	if len(told) != 3 || r.Len() != 4 {
		t.Fatalf("%d of %d rules are told of, want 3 of 4", len(told), r.Len())
	}
	want := []yara.Meta{{Name: "title", Value: "An outer one"}, {Name: "score", Value: "75"}, {Name: "sure", Value: "true"}}
	if d := cmp.Diff(told[0].Meta, want); d != "" || told[0].Line != 5 || strings.Join(told[0].Tags, " ") != "one two" {
		t.Errorf("rule %+v, meta (-got +want):\n%s", told[0], d)
	}
}

// A global rule holds for its own file alone.
func TestGlobalRules(t *testing.T) {
	r, refused, err := yara.Compile([]yara.Source{
		{Name: "a", Text: `global private rule small { condition: filesize < 4 } rule a { condition: true }`},
		{Name: "b", Text: `rule a { condition: true }`}, // the name is free in another file
	})
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	if got := met(t, r, "f", "abc"); got != "a a" {
		t.Errorf("met are %q, want both", got)
	}
	if got := met(t, r, "f", "abcdef"); got != "a" {
		t.Errorf("met are %q, want that of the other file", got)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct{ rule, want string }{
		{`rule x { condition: pe.number_of_sections > 2 }`, "a.yar:2: rule x: the module pe is not known"},
		{`rule x { strings: $a = "abc" condition: true }`, "string $a is not used"},
		{`rule x { strings: $a = "a" condition: $a }`, "no two fixed bytes"},
		{`rule x { strings: $a = { 4D 5A [10-] 50 45 } condition: $a }`, "a jump without an end"},
		{`rule x { strings: $a = { 4D 5A [10-9999] 50 45 } condition: $a }`, "a jump of 9999 bytes"},
		{`rule x { strings: $a = /[a-z]+/ condition: $a }`, "no two fixed bytes"},
		{`rule x { strings: $a = /abc(/ condition: $a }`, "its expression cannot be had"},
		{`rule x { strings: $a = /abc(?=d)/ condition: $a }`, "(? in its expression is not known"},
		{`rule x { strings: $a = { 4D 5 } condition: $a }`, "is no byte"},
		{`rule x { condition: entrypoint == 3 }`, "entrypoint is not known"},
		{`rule x { condition: later }`, "later is neither a rule"},
		{`rule x { condition: $a }`, "there is no string $a"},
		{`rule x { condition: any of them }`, "of nothing"},
		{`rule x { condition: "a" > 3 }`, "of different kinds"},
		{`rule x { condition: 1.5 > 1 }`, "a number with a fraction"},
		{`rule x { condition: for any i in (1..2) : ( i }`, `"}" where ) should be`},
		{`rule good { condition: true }`, "there is a rule of that name"},
		{`rule all { condition: true }`, "where a rule's name should be"},
		{`include "other.yar"`, "include"},
		{`rule x { strings: $a = "abc" nocase xor condition: $a }`, "do not go together"},
		{"rule x { strings: $a = \"abc\n condition: $a }", "does not end in its line"},
		{`global rule x { condition: elf.type == 1 }`, "a global rule of its file was refused"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			text := "rule good { condition: true }\n" + tc.rule + "\nrule after { condition: true }\n"
			r, refused, err := yara.Compile([]yara.Source{{Name: "a.yar", Text: text}})
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, x := range refused {
				all = append(all, x.String())
			}
			if !strings.Contains(strings.Join(all, "\n"), tc.want) {
				t.Errorf("refused: %q, want %q", all, tc.want)
			}
			want := "good after"
			if strings.HasPrefix(tc.rule, "global") {
				want = ""
			}
			if got := met(t, r, "f", "x"); got != want {
				t.Errorf("met are %q, want %q: the rest of the file stands", got, want)
			}
		})
	}
}

// A part that is passed over is not looked at, and what is behind it has its place.
func TestSkippedParts(t *testing.T) {
	r := compile(t, one(`$a = "before and" $b = "within this" $c = "and behind" $d = "thisand"`, "$a and not $b and @c == 26 and not $d"))
	const content = "before and within this... and behind"
	for name, in := range map[string]io.Reader{"copied": strings.NewReader(content), "skipped": &skipper{Reader: strings.NewReader(content)}, "a byte at a time": iotest.OneByteReader(strings.NewReader(content))} {
		rules, err := r.Scan(context.Background(), yara.File{Size: int64(len(content))}, in, []yara.Span{{From: 0, To: 0}, {From: 11, To: 26}})
		if err != nil || len(rules) != 1 {
			t.Errorf("%s: %d rules are met, error %v", name, len(rules), err)
		}
	}
}

type skipper struct{ *strings.Reader }

func (s *skipper) Skip(n int64) { s.Seek(n, io.SeekCurrent) }

// What is made to cost much ends, and that is said.
func TestHostileFilesEnd(t *testing.T) {
	r := compile(t, one(`$a = /aaaa.{0,1000}.{0,1000}b/ $b = "zzzz"`, "#a > 3 or $b"))
	content := "zzzz" + strings.Repeat("a", 8<<20)
	rules, err := r.Scan(context.Background(), yara.File{Size: int64(len(content))}, strings.NewReader(content), nil)
	if !errors.Is(err, yara.ErrCostly) || len(rules) != 1 {
		t.Errorf("%d rules, error %v, want one and that it costs too much", len(rules), err)
	}
}

func TestErrorsOfTheReader(t *testing.T) {
	r := compile(t, one(`$a = "abcd"`, "$a"))
	broken := errors.New("broken off")
	_, err := r.Scan(context.Background(), yara.File{Size: 9}, io.MultiReader(strings.NewReader("abcd"), iotest.ErrReader(broken)), nil)
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the reader", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Scan(ctx, yara.File{Size: 4}, strings.NewReader("abcd"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}

// The content of a small file is handed over if it meets a rule.
func TestWhole(t *testing.T) {
	r := compile(t, one(`$a = "abcd"`, "$a"))
	for content, want := range map[string]int{"xxabcd": 6, "nothing": 0, "abcd" + strings.Repeat("x", 1<<20): 0} {
		got := 0
		_, err := r.Scan(context.Background(), yara.File{Size: int64(len(content)), Whole: func(b []byte) { got = len(b) }}, strings.NewReader(content), nil)
		if err != nil || got != want {
			t.Errorf("%d bytes were handed over of %d, want %d; error %v", got, len(content), want, err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`rule a : b { meta: c = "d" strings: $a = "e" wide $b = { 41 ( 42 | ?? ) [1-3] 43 } $c = /a[b-c]{2,3}\x41/i condition: all of them or #a > 3 and for any i in (1..#b) : ( @b[i] == uint16(0) ) }`)
	f.Add("global private rule x { condition: filesize < 3KB and not x }\nimport \"pe\"\nrule y { condition: for 50% of them : ( $ in (1..2) ) }")
	f.Fuzz(func(t *testing.T, text string) {
		r, _, err := yara.Compile([]yara.Source{{Name: "a", Text: text}})
		if err != nil {
			return
		}
		for _, content := range []string{text, "MZ\x00\x00", strings.Repeat("ab", 300)} {
			_, err := r.Scan(context.Background(), yara.File{Path: "a/b.c", Size: int64(len(content))}, strings.NewReader(content), nil)
			if err != nil && !errors.Is(err, yara.ErrCostly) {
				t.Error(err)
			}
		}
	})
}

// What is found does not depend on how the file comes.
func FuzzScan(f *testing.F) {
	r := compile(f, `
rule a { strings: $a = "needle" nocase $b = { 41 42 ?? 43 [0-4] 44 } $c = /[a-f]{2}xy+z/ $d = "wide" wide fullword condition: #a > 1 or #b == 2 or $c or @d > 3 }
rule b { strings: $a = "ab" $b = /\bfoo(bar|baz)?\b/ condition: #a == #b or uint16(2) == 3 }
`)
	f.Add([]byte("needle NEEDLE ABxCxxD cdxyyz foo foobar w\x00i\x00d\x00e\x00"), uint16(3))
	f.Fuzz(func(t *testing.T, content []byte, at uint16) {
		padded := append(bytes.Repeat([]byte{' '}, int(at)*3), content...)
		run := func(in io.Reader) (names []string) {
			rules, err := r.Scan(context.Background(), yara.File{Size: int64(len(padded))}, in, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range rules {
				names = append(names, x.Name)
			}
			return names
		}
		if d := cmp.Diff(run(bytes.NewReader(padded)), run(iotest.OneByteReader(bytes.NewReader(padded)))); d != "" {
			t.Error(d)
		}
	})
}
