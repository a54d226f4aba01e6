package node_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/node"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	e := &analyse.Entry{Path: path, Mode: 0o644, Size: int64(len(content))}
	a := node.Analyser{}
	if !a.Wants(e, []byte(content[:min(len(content), analyse.HeadSize)])) {
		return []string{"not wanted"}, nil
	}
	var shown analyse.Shown
	err := a.Take(context.Background(), e, strings.NewReader(content), &shown)
	var lines []string
	for _, p := range shown.Packages {
		s := fmt.Sprintf("%s %s %s", p.FullName(), p.Version, p.Found)
		if p.Dev {
			s += " dev"
		}
		if p.Indirect {
			s += " indirect"
		}
		if len(p.Licenses) > 0 {
			s += " " + strings.Join(p.Licenses, ",")
		}
		for _, place := range p.Places {
			s += " " + place.Path
		}
		if p.Type != "npm" || p.Ecosystem != "npm" {
			s += " " + p.Type + " " + p.Ecosystem
		}
		lines = append(lines, s)
	}
	return lines, err
}

func TestManifests(t *testing.T) {
	const plain = `{"name":"a","version":"1.0.0","license":"MIT"}`
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"installed", "app/node_modules/a/package.json", plain, []string{"a 1.0.0 installed MIT"}},
		{"at the root", "node_modules/a/package.json", plain, []string{"a 1.0.0 installed MIT"}},
		{"with a scope", "app/node_modules/@s/a/package.json", `{"version":"v2.0.0-rc.1","name":"@s/a","licenses":[{"type":"MIT","url":"x"},"ISC"]}`, []string{"@s/a 2.0.0-rc.1 installed MIT,ISC"}},
		{"by Bower", "www/bower_components/a/package.json", plain, []string{"a 1.0.0 installed MIT"}},
		{"by pnpm", "app/node_modules/.pnpm/a@1.0.0/node_modules/a/package.json", plain, []string{"a 1.0.0 installed MIT"}},
		{"an alias", "app/node_modules/b/package.json", plain, []string{"a 1.0.0 installed MIT"}},
		{"license as an object", "node_modules/a/package.json", `{"name":"a","version":"1","license":{"type":"MIT","url":"x"}}`, []string{"a 1 installed MIT"}},
		{"byte order mark", "node_modules/a/package.json", "\ufeff" + plain, []string{"a 1.0.0 installed MIT"}},
		{"the application's", "app/package.json", plain, []string{"not wanted"}},
		{"within a package", "node_modules/a/dist/package.json", plain, []string{"not wanted"}},
		{"a test's", "node_modules/a/test/fixtures/x-1/package.json", plain, nil},
		{"no name", "node_modules/a/package.json", `{"type":"module"}`, nil},
		{"no version", "node_modules/a/package.json", `{"name":"a"}`, nil},
		{"not a name", "node_modules/a/package.json", `{"name":"../../etc","version":"1"}`, nil},
		{"version is a number", "node_modules/a/package.json", `{"name":"a","version":1}`, nil},
		{"unpacked", "opt/yarn-v1.22.22/package.json", `{"name":"yarn","version":"1.22.22"}`, []string{"yarn 1.22.22 installed"}},
		{"unpacked, another name", "opt/app-v1.22.22/package.json", `{"name":"yarn","version":"1.22.22"}`, nil},
		{"Debian's", "usr/share/nodejs/@s/a/package.json", `{"name":"@s/a","version":"1"}`, []string{"@s/a 1 installed"}},
		{"Debian's, within", "usr/share/nodejs/x/package.json", plain, nil},
		{"a lock file of a dependency", "node_modules/a/yarn.lock", "x", []string{"not wanted"}},
		{"another file", "node_modules/a/index.js", "x", []string{"not wanted"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := take(tc.path, tc.content)
			if err != nil {
				t.Errorf("Take() = %v", err)
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
	if _, err := take("node_modules/a/package.json", `{"name":"a",`); err == nil {
		t.Error("a broken manifest is no error")
	}
	if (node.Analyser{}).Wants(&analyse.Entry{Path: "node_modules/a/package.json", Mode: fs.ModeDir}, nil) {
		t.Error("a folder is wanted")
	}
}

// TestLockFiles reads lock files that the tools wrote for one project.
func TestLockFiles(t *testing.T) {
	flagged := []string{"@types/node 18.0.0 declared dev", "debug 4.3.4 declared", "lodash 4.17.20 declared",
		"minimist 1.2.8 declared dev indirect", "mkdirp 0.5.5 declared dev", "ms 2.1.2 declared indirect"}
	noRoots := []string{"@types/node 18.0.0 declared dev", "debug 4.3.4 declared", "lodash 4.17.20 declared",
		"minimist 1.2.8 declared dev", "mkdirp 0.5.5 declared dev", "ms 2.1.2 declared"}
	licensed := []string{"@types/node 18.0.0 declared dev MIT", "debug 4.3.4 declared MIT", "lodash 4.17.20 declared MIT",
		"minimist 1.2.8 declared dev indirect MIT", "mkdirp 0.5.5 declared dev MIT", "ms 2.1.2 declared indirect MIT"}
	plain := []string{"@types/node 18.0.0 declared", "debug 4.3.4 declared", "lodash 4.17.20 declared",
		"minimist 1.2.8 declared", "mkdirp 0.5.5 declared", "ms 2.1.2 declared"}
	for _, tc := range []struct {
		sample, name string
		want         []string
	}{
		{"package-lock-v1.json", "package-lock.json", noRoots},
		{"package-lock-v2.json", "npm-shrinkwrap.json", licensed},
		{"package-lock-v3.json", "package-lock.json", licensed},
		{"yarn-v1.lock", "yarn.lock", plain},
		{"yarn-berry.lock", "yarn.lock", plain},
		{"pnpm-v5.yaml", "pnpm-lock.yaml", flagged},
		{"pnpm-v6.yaml", "pnpm-lock.yaml", flagged},
		{"pnpm-v9.yaml", "pnpm-lock.yaml", flagged},
	} {
		t.Run(tc.sample, func(t *testing.T) {
			b, err := os.ReadFile("testdata/" + tc.sample)
			if err != nil {
				t.Fatal(err)
			}
			got, err := take("src/"+tc.name, string(b))
			if err != nil {
				t.Errorf("Take() = %v", err)
			}
			if diff := cmp.Diff(sorted(got), tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

func TestLockFileForms(t *testing.T) {
	for _, tc := range []struct {
		name, file, content string
		want                []string
	}{
		{"npm 1, nested", "package-lock.json", `{"dependencies":{"a":{"version":"1.0.0","dependencies":{"b":{"version":"2.0.0","dev":true}}},"b":{"version":"2.0.0"},
			"c":{"version":"npm:d@3.0.0"},"e":{"version":"file:../e"},"f":{"version":"git+ssh://git@example.com/f.git#abc"}}}`,
			[]string{"a 1.0.0 declared", "b 2.0.0 declared", "d 3.0.0 declared", "f  declared"}},
		{"npm 3, workspaces", "package-lock.json", `{"packages":{"":{"workspaces":["w"]},"node_modules/w":{"resolved":"w","link":true},"w":{"name":"w","version":"1.0.0","dependencies":{"a":"^1"}},
			"node_modules/a":{"version":"1.1.0"},"w/node_modules/a":{"version":"1.2.0","devOptional":true},"node_modules/a/node_modules/b":{"version":"1.0.0"}}}`,
			[]string{"a 1.1.0 declared", "a 1.2.0 declared", "b 1.0.0 declared indirect"}},
		{"yarn 1, others", "yarn.lock", "a@^1, \"a@^1.2\":\n  version \"1.2.3\"\n\n\"b@file:./b\":\n  version \"0.0.0\"\n\n\"c@https://example.com/c.tgz\":\n  version \"3.0.0\"\n",
			[]string{"a 1.2.3 declared", "c 3.0.0 declared"}},
		{"yarn 1, fetched under another name", "yarn.lock", "a@^1:\n  version \"1.2.3\"\n  resolved \"https://registry.example.com/repo/@fork/a/-/a-1.2.3.tgz#abc\"\n\nb@^2:\n  version \"2.0.0\"\n  resolved \"https://registry.example.com/@s%2fc/-/c-2.0.0.tgz\"\n\nd@x/d#1:\n  version \"3.0.0\"\n  resolved \"https://codeload.example.com/x/d/tar.gz/1\"\n",
			[]string{"@fork/a 1.2.3 declared", "@s/c 2.0.0 declared", "d 3.0.0 declared"}},
		{"yarn berry, others", "yarn.lock", "__metadata:\n  version: 8\n\n\"p@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \"p@workspace:.\"\n  linkType: soft\n\n" +
			"\"a@patch:a@npm%3A1.0.0#~/x.patch\":\n  version: 1.0.0\n  resolution: \"a@patch:a@npm%3A1.0.0#~/x.patch::version=1.0.0\"\n  linkType: hard\n",
			[]string{"a 1.0.0 declared"}},
		{"pnpm, others", "pnpm-lock.yaml", "lockfileVersion: '6.0'\npackages:\n\n  /@s/a@1.0.0(b@2.0.0):\n    dev: false\n\n  github.com/x/y/abc:\n    name: y\n    version: 3.0.0\n\n  file:../local:\n    resolution: {directory: ../local}\n    name: local\n",
			[]string{"@s/a 1.0.0 declared", "y 3.0.0 declared"}},
		{"pnpm 5, peers", "pnpm-lock.yaml", "lockfileVersion: 5.3\ndependencies:\n  a_b: 1.0.0_c@2.0.0\npackages:\n  /a_b/1.0.0_c@2.0.0:\n    dev: false\n  /@s/d/1.0.0_a_b@1.0.0:\n    dev: true\n",
			[]string{"a_b 1.0.0 declared", "@s/d 1.0.0 declared dev indirect"}},
		{"pnpm 5, hosts", "pnpm-lock.yaml", "packages:\n  registry.example.com/a/1.1.0:\n  registry.example.com/@s/b/1.3.0_c@2.0.0:\n  github.com/x/y:\n  /d/1.4.0_@types+e@7.1.14:\n  nonsense:\n",
			[]string{"a 1.1.0 declared", "@s/b 1.3.0 declared", "d 1.4.0 declared"}},
		{"pnpm 9, from elsewhere", "pnpm-lock.yaml", "packages:\n  a@https://example.com/a.tgz:\n    version: 2.0.0\n  b@https://example.com/b.tgz:\n    resolution: {}\n",
			[]string{"a 2.0.0 declared", "b  declared"}},
		{"yarn 1, quoted", "yarn.lock", "a@^1:\n  \"version\" \"1.2.3\"\n", []string{"a 1.2.3 declared"}},
		{"bun", "bun.lock", "{\n  \"lockfileVersion\": 1, // text\n  \"workspaces\": {\"\": {\"dependencies\": {\"a\": \"^1\"}, \"devDependencies\": {\"@s/d\": \"1\",},},},\n" +
			"  \"packages\": {\n    \"a\": [\"a@1.0.0\", \"\", {\"dependencies\": {\"b\": \"2\"}}, \"sha512-x\"],\n    \"b\": [\"b@2.0.0\", \"\", {}, \"x\"],\n    \"@s/d\": [\"@s/d@1.0.0\", \"\", {}, \"x\"],\n" +
			"    \"w\": [\"w@workspace:packages/w\", {}],\n    \"g\": [\"g@github:x/g#abc\", {}, \"y\"],\n  },\n}\n",
			[]string{"a 1.0.0 declared", "b 2.0.0 declared indirect", "@s/d 1.0.0 declared dev", "g  declared indirect"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := take(tc.file, tc.content)
			if err != nil {
				t.Errorf("Take() = %v", err)
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
	for _, name := range []string{"package-lock.json", "bun.lock"} {
		if got, err := take(name, `{"packages":{"node_modules/a":{"version":"1.0.0"},"node`); err == nil {
			t.Errorf("a broken %s is no error: %q", name, got)
		}
	}
}

func TestYarnCache(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range map[string]string{
		"node_modules/@s/a/package.json":      `{"name":"@s/a","version":"1.0.0"}`,
		"node_modules/@s/a/dist/package.json": `{"name":"x","version":"1.0.0"}`,
		"node_modules/@s/a/index.js":          strings.Repeat("code", 1000),
	} {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := take("app/.yarn/cache/@s-a-npm-1.0.0-abc.zip", b.String())
	want := []string{"@s/a 1.0.0 installed /app/.yarn/cache/@s-a-npm-1.0.0-abc.zip!node_modules/@s/a/package.json"}
	if diff := cmp.Diff(got, want); err != nil || diff != "" {
		t.Errorf("%v; got, want: %s", err, diff)
	}
}

func FuzzLocks(f *testing.F) {
	names := []string{"package-lock.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "node_modules/a/package.json"}
	for i, sample := range []string{"package-lock-v2.json", "yarn-v1.lock", "pnpm-v9.yaml"} {
		b, err := os.ReadFile("testdata/" + sample)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, string(b))
	}
	f.Fuzz(func(t *testing.T, kind int, content string) {
		_, _ = take(names[uint(kind)%uint(len(names))], content)
	})
}

func BenchmarkWants(b *testing.B) {
	a := node.Analyser{}
	entries := []*analyse.Entry{{Path: "usr/lib/x86_64-linux-gnu/libssl.so.3"}, {Path: "app/node_modules/express/lib/router/index.js"}, {Path: "app/node_modules/express/package.json"}}
	head := []byte("x")
	for i := 0; b.Loop(); i++ {
		a.Wants(entries[i%len(entries)], head)
	}
}

func BenchmarkManifest(b *testing.B) {
	content := `{"name":"express","version":"4.18.2","description":"` + strings.Repeat("x", 800) + `","license":"MIT","dependencies":{` + strings.Repeat(`"accepts":"~1.3.8",`, 30) + `"x":"1"}}`
	e := &analyse.Entry{Path: "node_modules/express/package.json", Size: int64(len(content))}
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		var shown analyse.Shown
		if err := (node.Analyser{}).Take(context.Background(), e, strings.NewReader(content), &shown); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLock(b *testing.B) {
	var s strings.Builder
	s.WriteString(`{"packages":{"":{"dependencies":{"p1":"1"}}`)
	for i := range 5000 {
		fmt.Fprintf(&s, `,"node_modules/p%d":{"version":"1.0.0","resolved":"https://example.com/p/-/p-1.0.0.tgz","integrity":"sha512-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","dev":true,"engines":{"node":">=6"}}`, i)
	}
	s.WriteString("}}")
	b.SetBytes(int64(s.Len()))
	for b.Loop() {
		if _, err := take("package-lock.json", s.String()); err != nil {
			b.Fatal(err)
		}
	}
}

func sorted(lines []string) []string { return slices.Sorted(slices.Values(lines)) }
