package pull_test

import (
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/pull"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	for _, tc := range []struct {
		name, doc string
		want      []string
	}{
		{"ends", "a\nb\r\n\nc", []string{"a", "b", "", "c"}},
		{"ends with an end", "a\n", []string{"a"}},
		{"empty", "", nil},
		{"long", "a\n" + long + "\nb\n", []string{"a", long[:64<<10], "b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := pull.NewLines(strings.NewReader(tc.doc), 0, 1e6)
			var got []string
			for {
				b, err := l.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if l.Cut != (len(b) == 64<<10) {
					t.Errorf("Cut = %v at %d bytes", l.Cut, len(b))
				}
				got = append(got, string(b))
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

const yamlDoc = `%YAML 1.2
---
# comment
lockfileVersion: '9.0'
packages:

  /@babel/core@7.0.0(peer@1.0.0):
    resolution: {integrity: sha512-a==, tarball: "x: y"}
    dev: true # really
    'quoted key': "tab\there"
    text: |
      key: not one

      more
    anchored: &a 1.0
  ? a-very-long-key
  :
    version: "1:2"
PODS:
  - Alamofire (5.0)
  - Foo (1.0):
    - Bar
- uses: actions/checkout@v4
-
https://x: y
empty: ''
it: 'isn''t'
`

func TestYAML(t *testing.T) {
	want := []pull.YAMLLine{
		{Key: "lockfileVersion", Value: "9.0"},
		{Key: "packages"},
		{Indent: 2, Key: "/@babel/core@7.0.0(peer@1.0.0)"},
		{Indent: 4, Key: "resolution", Value: `{integrity: sha512-a==, tarball: "x: y"}`},
		{Indent: 4, Key: "dev", Value: "true"},
		{Indent: 4, Key: "quoted key", Value: "tab\there"},
		{Indent: 4, Key: "text"},
		{Indent: 4, Key: "anchored", Value: "1.0"},
		{Indent: 2, Key: "a-very-long-key"},
		{Indent: 2},
		{Indent: 4, Key: "version", Value: "1:2"},
		{Key: "PODS"},
		{Indent: 2, Item: true, Value: "Alamofire (5.0)"},
		{Indent: 2, Item: true, Key: "Foo (1.0)"},
		{Indent: 4, Item: true, Value: "Bar"},
		{Item: true, Key: "uses", Value: "actions/checkout@v4"},
		{Item: true},
		{Key: "https://x", Value: "y"},
		{Key: "empty"},
		{Key: "it", Value: "isn't"},
	}
	var got []pull.YAMLLine
	err := pull.NewYAML(strings.NewReader(yamlDoc), 0, 1e6).Each(func(l pull.YAMLLine) error {
		got = append(got, l)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

const tomlDoc = `version = 3
# comment
[[package]]
name = "serde" # the name
dependencies = [
  "a [b", # one
  'c',
]
source = { registry = "https://x", other = {a = "}"}, n = 1 }
text = """
name = "not a key"
"""
  [package.dependencies]
"quoted.key" = { version = ">=1", markers = "x == \"y\"" }
a.b = 'c:\d'
[metadata.files]
`

func TestTOML(t *testing.T) {
	want := []pull.TOMLLine{
		{Key: "version", Value: "3"},
		{Table: "package", Header: true},
		{Table: "package", Key: "name", Value: `"serde"`},
		{Table: "package", Key: "dependencies", Value: "[\n  \"a [b\", \n  'c',\n]"},
		{Table: "package", Key: "source", Value: `{ registry = "https://x", other = {a = "}"}, n = 1 }`},
		{Table: "package", Key: "text", Value: "\"\"\"\nname = \"not a key\"\n\"\"\""},
		{Table: "package.dependencies", Header: true},
		{Table: "package.dependencies", Key: "quoted.key", Value: `{ version = ">=1", markers = "x == \"y\"" }`},
		{Table: "package.dependencies", Key: "a.b", Value: `'c:\d'`},
		{Table: "metadata.files", Header: true},
	}
	var got []pull.TOMLLine
	err := pull.NewTOML(iotest.HalfReader(strings.NewReader(tomlDoc)), 0, 1e6).Each(func(l pull.TOMLLine) error {
		got = append(got, l)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

func TestTOMLValues(t *testing.T) {
	source := `{ registry = "https://x", other = {a = "}"}, "n" = 1, list = ["a", 'b"'] }`
	for _, tc := range []struct{ key, want string }{
		{"registry", `"https://x"`}, {"other", `{a = "}"}`}, {"n", "1"}, {"list", `["a", 'b"']`}, {"a", ""},
	} {
		if got, ok := pull.TOMLField(source, tc.key); got != tc.want || ok != (tc.want != "") {
			t.Errorf("TOMLField(%s) = %q, %v, want %q", tc.key, got, ok, tc.want)
		}
	}
	if diff := cmp.Diff(pull.TOMLTexts(`["a", 'b"', {x = "c\n"}, 1]`), []string{"a", `b"`, "c\n"}); diff != "" {
		t.Errorf("TOMLTexts: got, want: %s", diff)
	}
	for value, want := range map[string]string{`"a\"b"`: `a"b`, `'c:\d'`: `c:\d`, "1": "", "": "", `"open`: "", `"`: ""} {
		if got := pull.TOMLText(value); got != want {
			t.Errorf("TOMLText(%s) = %q, want %q", value, got, want)
		}
	}
}

func TestTOMLTables(t *testing.T) {
	doc := "a = 1\n[[package]]\nname = \"a\"\n[package.source]\ntype = \"git\"\n[[package]]\nname = \"b\"\n[metadata]\nname = \"c\"\n[[package]]\n"
	var got []map[string]string
	err := pull.NewTOML(strings.NewReader(doc), 0, 1e6).Tables("package", func(m map[string]string) error {
		got = append(got, maps.Clone(m))
		return nil
	})
	want := []map[string]string{{"name": `"a"`, "source.type": `"git"`}, {"name": `"b"`}, {}}
	if diff := cmp.Diff(got, want); err != nil || diff != "" {
		t.Errorf("%v; got, want: %s", err, diff)
	}
}

func FuzzYAML(f *testing.F) {
	f.Add(yamlDoc)
	f.Fuzz(func(t *testing.T, doc string) {
		n := 0
		if err := pull.NewYAML(strings.NewReader(doc), 0, 1e6).Each(func(l pull.YAMLLine) error {
			n += len(l.Key) + len(l.Value)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n > len(doc)*4 { // an escape may grow, \L is three bytes
			t.Fatalf("%d bytes of keys and values from %d", n, len(doc))
		}
	})
}

func FuzzTOML(f *testing.F) {
	f.Add(tomlDoc)
	f.Fuzz(func(t *testing.T, doc string) {
		n := 0
		_ = pull.NewTOML(strings.NewReader(doc), 0, 1e6).Each(func(l pull.TOMLLine) error {
			n += len(l.Key) + len(l.Value)
			pull.TOMLText(l.Value)
			pull.TOMLTexts(l.Value)
			pull.TOMLField(l.Value, "a")
			return nil
		})
		if n > len(doc)*4 {
			t.Fatalf("%d bytes of keys and values from %d", n, len(doc))
		}
	})
}

func BenchmarkYAML(b *testing.B) {
	doc := strings.Repeat("  /@babel/core@7.0.0:\n    resolution: {integrity: sha512-aaaaaaaaaaaaaaaaaaaaaaa==}\n    dev: true\n", 10000)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if err := pull.NewYAML(strings.NewReader(doc), 0, 1e8).Each(func(pull.YAMLLine) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
