package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/trust/policy"
)

func TestParseRepository(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"nginx", "docker.io/library/nginx"},
		{"acme/web", "docker.io/acme/web"},
		{"docker.io/nginx", "docker.io/library/nginx"},
		{"index.docker.io/acme/web", "docker.io/acme/web"},
		{"registry-1.docker.io/library/nginx", "docker.io/library/nginx"},
		{"GHCR.IO/acme/web", "ghcr.io/acme/web"},
		{"ghcr.io:443/acme/web", "ghcr.io/acme/web"},
		{"localhost/web", "localhost/web"},
		{"localhost:5000/web", "localhost:5000/web"},
		{"a.example/a__b/c-d.e--f", "a.example/a__b/c-d.e--f"},
		{"", ""},
	} {
		if got, err := policy.ParseRepository(tc.in); err != nil || string(got) != tc.want {
			t.Errorf("%q: got %q, %v, want %q", tc.in, got, err, tc.want)
		}
	}
	for _, bad := range []string{
		"Registry/web", "Localhost/web", "nginx:latest", "nginx@sha256:00", "a.example/", "a.example", "a.example/A", "a.example/a//b", "a.example/../b", "a.example/a..b", "a.example/-a", "a.example/a_.b",
		"a.example/a___b", "a.example./b", "a..example/b", "a.example:x/b", "a.example:/b", "a.example:123456/b", "ghcr.io:0443/acme/web", "a.example:05000/b", "a.example:0/b", "[::1]:5000/b", "a b/c", "a.example/b\n", "a.example/b\x00",
		"аcme.example/b", "a.example/" + strings.Repeat("x", 600), "/a", "http://a.example/b", "a.example/b?c", "a.example/b%2fc", "*", "ghcr.io/*",
	} {
		if got, err := policy.ParseRepository(bad); err == nil {
			t.Errorf("%q: got %q, want an error", bad, got)
		}
	}
}

func TestPatternMatches(t *testing.T) {
	for _, tc := range []struct{ pattern, yes, no string }{
		{"nginx", "nginx docker.io/nginx index.docker.io/library/nginx", "acme/nginx nginx2 ghcr.io/library/nginx"},
		{"ghcr.io/acme/*", "ghcr.io/acme/web GHCR.io/acme/web ghcr.io:443/acme/web", "ghcr.io/acme ghcr.io/acme/web/x ghcr.io/acme-evil/web ghcr.io.evil.example/acme/web ghcr.io:5000/acme/web"},
		{"ghcr.io/acme*", "ghcr.io/acme ghcr.io/acme-evil", "ghcr.io/acme-evil/web ghcr.io/acme/web"},
		{"ghcr.io/acme/**", "ghcr.io/acme/web ghcr.io/acme/a/b/c", "ghcr.io/acme ghcr.io/acme-evil/web ghcr.io/acmeevil/a"},
		{"ghcr.io/acme/**/web", "ghcr.io/acme/a/web ghcr.io/acme/a/b/web ghcr.io/acme/web/web", "ghcr.io/acme/web ghcr.io/acme/a/web/x ghcr.io/acme/a/xweb"},
		{"ghcr.io/*/web", "ghcr.io/acme/web", "ghcr.io/a/b/web ghcr.io/web"},
		{"ghcr.io/a*c*e/x", "ghcr.io/ace/x ghcr.io/abcde/x ghcr.io/acece/x", "ghcr.io/ac/x ghcr.io/abcd/x"},
		{"*.example.com/**", "a.example.com/x", "example.com/x a.b.example.com/x a.example.com:5000/x a.example.com.evil.example/x evilexample.com/x"},
		{"123456789012.dkr.ecr.*.amazonaws.com/shop/*", "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/web",
			"123456789012.dkr.ecr.a.b.amazonaws.com/shop/web 210987654321.dkr.ecr.eu-central-1.amazonaws.com/shop/web"},
		{"localhost:*/web", "localhost:5000/web", "localhost/web evil:5000/web"},
		{"localhost:5*0/web", "localhost:5000/web localhost:50/web", "localhost:4000/web"},
		{"acme/*", "acme/web docker.io/acme/web", "ghcr.io/acme/web"},
		{"**", "nginx ghcr.io/a/b/c localhost:5000/x", ""},
		{"**/web", "ghcr.io/web ghcr.io/a/b/web acme/web", "ghcr.io/web/x"},
	} {
		p, err := policy.ParsePattern(tc.pattern)
		if err != nil {
			t.Fatalf("%s: %v", tc.pattern, err)
		}
		check := func(names string, want bool) {
			for name := range strings.FieldsSeq(names) {
				r, err := policy.ParseRepository(name)
				if err != nil {
					t.Fatal(err)
				}
				if got := p.Matches(r); got != want {
					t.Errorf("%s matches %s: got %v, want %v", tc.pattern, name, got, want)
				}
			}
		}
		check(tc.yes, true)
		check(tc.no, false)
	}
}

func TestWhatIsInNoRegistryIsMatchedByAllAlone(t *testing.T) {
	for pattern, want := range map[string]bool{"**": true, "docker.io/**": false, "**/x": false} {
		p, err := policy.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Matches(""); got != want {
			t.Errorf("%s: got %v, want %v", pattern, got, want)
		}
	}
}

func TestParsePatternRefuses(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                   "1 to 512 bytes",
		"*":                  "could mean much",
		"ghcr.io/acme**":     `"acme/**" is all below acme`,
		"*/web":              "may be a registry or an owner",
		"docker.io/*":        "matches nothing",
		"ghcr.io/web:latest": "can't be part of a path",
		"ghcr.io/*:latest":   "can't be part of a path",
		"ghcr.io/A*":         "can't be part of a path",
		"ghcr.io/a?b":        "can't be part of a path",
		"ghcr.*":             "without a path",
		"ghcr.io/a//*":       "can't be part of a path",
		"exa mple.*/x":       "no name of a registry",
	} {
		if _, err := policy.ParsePattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", pattern, err, want)
		}
	}
}

// Patterns that take expression engines that try one way after the other longer
// than anybody waits.
func TestPatternsAreCheap(t *testing.T) {
	pattern := "ghcr.io/" + strings.Repeat("a*", 200) + "b"
	p, err := policy.ParsePattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	r, err := policy.ParseRepository("ghcr.io/" + strings.Repeat("a", 450))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if p.Matches(r) {
		t.Error("it matches")
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("took %s", d)
	}
}

func TestComparingPatternsIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(base + "signers: {s: {key: a}}\nimages:\n")
	for i := range policy.MaxRules {
		name := ""
		for j := range 60 {
			name += "*" + string(rune('a'+(i*7+j*j*(i+3))%26))
		}
		b.WriteString("  - {match: 'ghcr.io/" + name + "', require: [{signers: [s]}]}\n")
	}
	begin := time.Now()
	_, err := policy.Read([]byte(b.String()), "p.yaml", world(t))
	if err == nil || !strings.Contains(err.Error(), "takes too long") {
		t.Errorf("got %v", err)
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("took %s", d)
	}
}

// What is told by parts must be what is told by names.
func TestComparingPatterns(t *testing.T) {
	all := []string{
		"nginx", "docker.io/library/*", "docker.io/**", "**", "**/web", "ghcr.io/acme/**", "ghcr.io/acme/*", "ghcr.io/*/web", "ghcr.io/acme/web",
		"ghcr.io/acme/**/web", "ghcr.io/**/web", "*.io/acme/web", "*.io/**", "ghcr.io/acme/w*", "ghcr.io/acme/*b", "ghcr.io/a*/**", "quay.io/**/x/*",
	}
	names := []string{
		"docker.io/library/nginx", "docker.io/library/redis", "docker.io/acme/web", "ghcr.io/acme/web", "ghcr.io/acme/wb", "ghcr.io/acme/x", "ghcr.io/acme/a/web",
		"ghcr.io/acme/a/b/web", "ghcr.io/acme/a/b", "ghcr.io/other/web", "ghcr.io/web", "ghcr.io/a/x", "quay.io/acme/web", "quay.io/a/x/y", "quay.io/a/b/x/y", "quay.io/x/y", "a.example/web", "a.example/b",
	}
	for _, x := range all {
		for _, y := range all {
			a, err := policy.ParsePattern(x)
			if err != nil {
				t.Fatal(err)
			}
			b, err := policy.ParsePattern(y)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				r := policy.Repository(name)
				if a.Matches(r) && b.Matches(r) && !a.Meets(b) {
					t.Errorf("%s and %s both match %s and do not meet", x, y, name)
				}
				if a.Matches(r) && !b.Matches(r) && a.Within(b) {
					t.Errorf("%s is within %s, and %s shows that it isn't", x, y, name)
				}
			}
			if a.Meets(b) != b.Meets(a) || x == y && !a.Within(b) {
				t.Errorf("%s and %s: comparing depends on the order", x, y)
			}
		}
	}
	for _, tc := range []struct {
		a, b          string
		meets, within bool
	}{
		{"ghcr.io/acme/*", "ghcr.io/acme/**", true, true},
		{"ghcr.io/acme/**", "ghcr.io/acme/*", true, false},
		{"ghcr.io/acme/**/web", "ghcr.io/acme/**", true, true},
		{"ghcr.io/acme/**", "ghcr.io/acme/web/**", true, false},
		{"ghcr.io/acme/*/web", "ghcr.io/acme/a/*", true, false},
		{"ghcr.io/acme/web", "ghcr.io/acme/w*b", true, true},
		{"ghcr.io/acme/*", "ghcr.io/acme", false, false},
		{"ghcr.io/**/a/b", "ghcr.io/**/a/c", false, false},
		{"ghcr.io/a/**", "ghcr.io/b/**", false, false},
		{"*.io/a/**", "ghcr.io/a/**", true, false},
		{"ghcr.io/a*/x", "ghcr.io/*a/x", true, false},
		{"**", "**/web", true, false},
	} {
		a, err := policy.ParsePattern(tc.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := policy.ParsePattern(tc.b)
		if err != nil {
			t.Fatal(err)
		}
		if m, w := a.Meets(b), a.Within(b); m != tc.meets || w != tc.within {
			t.Errorf("%s, %s: meets %v, within %v", tc.a, tc.b, m, w)
		}
	}
}

// A long policy of a usual form is read without taking too long.
func TestManyPatterns(t *testing.T) {
	var b strings.Builder
	b.WriteString(base + "signers: {s: {key: a}}\nimages:\n")
	for i := range policy.MaxRules {
		fmt.Fprintf(&b, "  - {match: ['*.dkr.ecr.*.amazonaws.com/team-%d/**', 'ghcr.io/team-%d/*/web-*'], require: [{signers: [s]}]}\n", i, i)
	}
	begin := time.Now()
	if _, err := policy.Read([]byte(b.String()), "p.yaml", world(t)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d patterns in %s", 2*policy.MaxRules, time.Since(begin))
}

func TestText(t *testing.T) {
	const workflow = "https://github.com/acme/*/.github/workflows/release.yml@refs/tags/*"
	for _, tc := range []struct {
		form    string
		regexp  bool
		in      string
		matches bool
	}{
		{workflow, false, "https://github.com/acme/web/.github/workflows/release.yml@refs/tags/v1", true},
		{workflow, false, "https://github.com/acme/web/.github/workflows/release.yml@refs/tags/v1/x", false},
		{workflow, false, "https://github.com/acme/web/x/.github/workflows/release.yml@refs/tags/v1", false},
		{workflow, false, "https://githubxcom/acme/web/.github/workflows/release.yml@refs/tags/v1", false},
		{workflow, false, "x https://github.com/acme/web/.github/workflows/release.yml@refs/tags/v1", false},
		{"https://github.com/acme/**", false, "https://github.com/acme/a/b\nc", true},
		{"*@acme.example", false, "me@acme.example", true},
		{"*@acme.example", false, "me@acme.example.evil.example", false},
		{"a.b", false, "a.b", true},
		{"a.b", false, "axb", false},
		{"a", false, "", false},
		{"**", false, "", false},
		{`a|b`, true, "ab", false},
		{`a|b`, true, "b", true},
		{`a|b`, true, "xb", false},
		{`^a$`, true, "a", true},
		{`(?m)^a$`, true, "a\nevil", false},
		{`a`, true, "a\n", false},
	} {
		form := policy.Glob
		if tc.regexp {
			form = policy.Regexp
		}
		text, err := form(tc.form)
		if err != nil {
			t.Fatal(err)
		}
		if got := text.Matches(tc.in); got != tc.matches {
			t.Errorf("%s matches %q: got %v", tc.form, tc.in, got)
		}
	}
	for _, bad := range []string{"(", "a)|(b", strings.Repeat("a", 2000), "", "(a{1000}){1000}"} {
		if _, err := policy.Regexp(bad); err == nil {
			t.Errorf("%.20s: want an error", bad)
		}
	}
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"C=DE,O=Acme,CN=x":      "C:DE O:Acme CN:x",
		"c=DE, o=Acme ,cn = x":  "C:DE O:Acme CN:x",
		`O=Acme\, Inc.`:         "O:Acme, Inc.",
		`CN=\20a\ `:             "CN: a ",
		`CN=M\c3\bcller`:        "CN:Müller",
		"S=Bayern":              "ST:Bayern",
		"2.5.4.3=x":             "CN:x",
		"OID.2.5.4.10=x":        "O:x",
		"1.2.3=x":               "1.2.3:x",
		"CN=a=b":                "CN:a=b",
		`1.2.3=#0C01,CN=\#0c01`: "1.2.3:(0c01) CN:#0c01",
	} {
		got, err := policy.ParseName(in)
		var parts []string
		for _, a := range got {
			if a.BER {
				a.Value = "(" + a.Value + ")"
			}
			parts = append(parts, a.Type+":"+a.Value)
		}
		if s := strings.Join(parts, " "); err != nil || s != want {
			t.Errorf("%s: got %q, %v, want %q", in, s, err, want)
		}
	}
	for _, bad := range []string{"", "CN", "=x", "CN=", "CN=a,", "CN=a+O=b", "CN=#", "CN=#0", "CN=#zz", `CN=a\`, `CN=a\zz`, `CN="a"`, "CN=a<b", "C N=a", "CN=a,,O=b", strings.Repeat("CN=a,", 100) + "CN=a"} {
		if got, err := policy.ParseName(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("ghcr.io/acme/**", "ghcr.io/acme/web")
	f.Add("**/a*b", "a/b")
	f.Add("*.example:*/x", "a.example:1/x")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		r, err := policy.ParseRepository(name)
		if err == nil {
			if again, err := policy.ParseRepository(string(r)); err != nil || again != r {
				t.Fatalf("%q becomes %q, and that %q, %v", name, r, again, err)
			}
		}
		p, err := policy.ParsePattern(pattern)
		if err != nil {
			return
		}
		if !strings.Contains(pattern, "*") && !p.Matches(policy.Repository(p.Full)) {
			t.Fatalf("%q does not match itself", pattern)
		}
		p.Matches(r)
	})
}

func FuzzParseName(f *testing.F) {
	f.Add(`CN=a\, b,O=c`)
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := policy.ParseName(s); err == nil && len(name) == 0 {
			t.Fatalf("%q has no parts and no error", s)
		}
	})
}
