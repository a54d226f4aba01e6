package python_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/python"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	e := &analyse.Entry{Path: path, Mode: 0o644, Size: int64(len(content))}
	a := python.Analyser{}
	if !a.Wants(e, []byte(content[:min(len(content), analyse.HeadSize)])) {
		return []string{"not wanted"}, nil
	}
	var shown analyse.Shown
	err := a.Take(context.Background(), e, strings.NewReader(content), &shown)
	var lines []string
	for _, p := range shown.Packages {
		s := fmt.Sprintf("%s:%s %s %s [%s]", p.Type, p.FullName(), p.Version, p.Found, p.Ecosystem)
		if p.Dev {
			s += " dev"
		}
		if p.Indirect {
			s += " indirect"
		}
		for _, l := range p.Licenses {
			s += " " + l
		}
		for _, place := range p.Places {
			s += " " + place.Path
		}
		lines = append(lines, s)
	}
	return lines, err
}

const flask = "Metadata-Version: 2.1\nName: Flask_Login\nVersion: 2.0.1\nLicense: BSD-3-Clause\nClassifier: License :: OSI Approved :: BSD License\n\nVersion: 9\n"

func TestTake(t *testing.T) {
	const site = "usr/lib/python3/site-packages/"
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"dist-info", site + "Flask_Login-2.0.1.dist-info/METADATA", flask, []string{"pypi:flask-login 2.0.1 installed [PyPI] BSD-3-Clause"}},
		{"egg-info folder", site + "x.egg-info/PKG-INFO", flask, []string{"pypi:flask-login 2.0.1 installed [PyPI] BSD-3-Clause"}},
		{"egg-info file", site + "x-2.0.1.egg-info", flask, []string{"pypi:flask-login 2.0.1 installed [PyPI] BSD-3-Clause"}},
		{"egg folder", site + "x.egg/EGG-INFO/PKG-INFO", flask, []string{"pypi:flask-login 2.0.1 installed [PyPI] BSD-3-Clause"}},
		{"expression", "a.dist-info/METADATA", "Name: a\r\nVersion: 1\r\nLicense-Expression: MIT OR Apache-2.0\r\nLicense: x\r\n", []string{"pypi:a 1 installed [PyPI] MIT OR Apache-2.0"}},
		{"text of a licence", "a.dist-info/METADATA", "Name: a\nVersion: 1\nLicense: MIT License\n        Permission is hereby\nClassifier: License :: OSI Approved :: MIT License\n", []string{"pypi:a 1 installed [PyPI] MIT License"}},
		{"no name", "a.dist-info/METADATA", "Version: 1\n", nil},
		{"no version", "a.dist-info/METADATA", "Name: a\n", nil},
		{"not a name", "a.dist-info/METADATA", "Name: ../a\nVersion: 1\n", nil},
		{"another METADATA", "var/METADATA", flask, []string{"not wanted"}},
		{"conda", "opt/conda/conda-meta/numpy-1.24.3-py311.json", `{"arch":"x86_64","channel":"https://conda.example.com/pkgs/main/linux-64","files":["a","b"],"license":"BSD-3-Clause","name":"numpy","subdir":"linux-64","version":"1.24.3"}`,
			[]string{"conda:numpy 1.24.3 installed [] BSD-3-Clause"}},
		{"requirements", "src/requirements-dev.txt", "\ufeff# comment\n-r base.txt\nDjango==3.2.1  # why\nrequests[socks]>=2,<3\na == 1.0 ; python_version < '3'\nb===2 --hash=sha256:x\nc==1.*\nd @ https://example.com/d.zip\n" +
			"https://example.com/e.zip\ng==1.0 \\\n    --hash=sha256:x \\\n    --hash=sha256:y\n\nh (==3)\ni!=1\nj==1,==2\n./local\n",
			[]string{"pypi:django 3.2.1 declared [PyPI]", "pypi:requests  declared [PyPI]", "pypi:a 1.0 declared [PyPI]", "pypi:b 2 declared [PyPI]", "pypi:c  declared [PyPI]",
				"pypi:d  declared [PyPI]", "pypi:g 1.0 declared [PyPI]", "pypi:h 3 declared [PyPI]", "pypi:i  declared [PyPI]", "pypi:j  declared [PyPI]"}},
		{"requirements with a loose end", "requirements.txt", "a==1 -C x\nb==2 \\", []string{"pypi:a 1 declared [PyPI]", "pypi:b 2 declared [PyPI]"}},
		{"requirements in a folder", "src/requirements/base.txt", "a==1", []string{"pypi:a 1 declared [PyPI]"}},
		{"requirements of what is installed", site + "a/requirements.txt", "a==1", []string{"not wanted"}},
		{"another text", "src/readme.txt", "a==1", []string{"not wanted"}},
		{"Pipfile.lock", "src/Pipfile.lock", `{"_meta":{"hash":{"sha256":"x"}},"default":{"a":{"hashes":["x"],"version":"==1.0"},"g":{"git":"https://example.com/g.git","ref":"x"}},"develop":{"B_c":{"version":"==2.0"}}}`,
			[]string{"pypi:a 1.0 declared [PyPI]", "pypi:g  declared [PyPI]", "pypi:b-c 2.0 declared [PyPI] dev"}},
		{"poetry.lock 1", "src/poetry.lock", "[[package]]\nname = \"a\"\nversion = \"1.0\"\ncategory = \"main\"\n\n[package.dependencies]\nb = \"*\"\n\n[[package]]\nname = \"b\"\nversion = \"2.0\"\ncategory = \"dev\"\n\n" +
			"[[package]]\nname = \"c\"\nversion = \"3.0\"\n[package.source]\ntype = \"directory\"\nurl = \"../c\"\n\n[metadata]\npython-versions = \"*\"\n[metadata.files]\na = [\n    {file = \"a.whl\", hash = \"x\"},\n]\n",
			[]string{"pypi:a 1.0 declared [PyPI]", "pypi:b 2.0 declared [PyPI] dev"}},
		{"poetry.lock 2", "src/poetry.lock", "[[package]]\nname = \"a\"\nversion = \"1.0\"\ngroups = [\"dev\"]\nfiles = [\n    {file = \"[a].whl\"},\n]\n\n[[package]]\nname = \"b\"\nversion = \"2.0\"\ngroups = [\"main\", \"dev\"]\n",
			[]string{"pypi:a 1.0 declared [PyPI] dev", "pypi:b 2.0 declared [PyPI]"}},
		{"pdm.lock", "src/pdm.lock", "[[package]]\nname = \"a\"\nversion = \"1.0\"\ngroups = [\"default\"]\n\n[[package]]\nname = \"b\"\nversion = \"2.0\"\ngroups = [\"test\"]\n",
			[]string{"pypi:a 1.0 declared [PyPI]", "pypi:b 2.0 declared [PyPI] dev"}},
		{"pylock.toml", "src/pylock.toml", "lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nversion = \"1.0\"\n[[packages.wheels]]\nname = \"a.whl\"\n", []string{"pypi:a 1.0 declared [PyPI]"}},
		{"uv.lock", "src/uv.lock", "version = 1\n\n[[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = { registry = \"https://example.com\" }\ndependencies = [\n    { name = \"b\", marker = \"x\" },\n]\n\n" +
			"[[package]]\nname = \"b\"\nversion = \"2.0\"\nsource = { registry = \"https://example.com\" }\n\n[[package]]\nname = \"c\"\nversion = \"3.0\"\nsource = { registry = \"https://example.com\" }\n\n" +
			"[[package]]\nname = \"app\"\nversion = \"0.1.0\"\nsource = { virtual = \".\" }\ndependencies = [\n    { name = \"a\" },\n]\n\n[package.dev-dependencies]\ndev = [\n    { name = \"c\" },\n]\n\n[package.metadata]\nrequires-dist = [{ name = \"a\" }]\n",
			[]string{"pypi:a 1.0 declared [PyPI]", "pypi:b 2.0 declared [PyPI] indirect", "pypi:c 3.0 declared [PyPI] dev"}},
		{"wheel", "root/pip-24.0-py3-none-any.whl", wheel("pip-24.0.dist-info/METADATA", "Name: pip\nVersion: 24.0\nLicense: MIT\n"),
			[]string{"pypi:pip 24.0 installed [PyPI] MIT /root/pip-24.0-py3-none-any.whl!pip-24.0.dist-info/METADATA"}},
		{"egg", "root/x.egg", wheel("EGG-INFO/PKG-INFO", "Name: x\nVersion: 1\n"), []string{"pypi:x 1 installed [PyPI] /root/x.egg!EGG-INFO/PKG-INFO"}},
		{"wheel, vendored", "root/x.whl", wheel("x/_vendor/y.dist-info/METADATA", "Name: y\nVersion: 1\n"), nil},
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
}

func wheel(name, content string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range [][2]string{{"pkg/__init__.py", "import x\n"}, {name, content}} {
		e, err := w.Create(f[0])
		if err != nil {
			panic(err)
		}
		if _, err := e.Write([]byte(f[1])); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func TestBrokenFiles(t *testing.T) {
	whole := wheel("a.dist-info/METADATA", "Name: a\nVersion: 1\n")
	for path, content := range map[string]string{
		"a.whl":                whole[:len(whole)-60],
		"Pipfile.lock":         `{"default":{"a":`,
		"conda-meta/a.json":    `{"name":`,
		"poetry.lock":          "[[package]]\nname = [\n",
		"src/uv.lock":          "[[package]]\nname = \"\"\"\n",
		"a.dist-info/METADATA": "Name: " + strings.Repeat("a", analyse.MaxName+1) + "\nVersion: 1\n",
	} {
		if got, err := take(path, content); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}

// TestRecord: the libraries and programs of a distribution are known by the path of
// its metadata.
func TestRecord(t *testing.T) {
	const site = "usr/lib/python3.13/site-packages/"
	for _, tc := range []struct {
		name, path, content string
		want                []analyse.Owned
	}{
		{"of a wheel", site + "PyYAML-6.0.1.dist-info/RECORD",
			"PyYAML-6.0.1.dist-info/RECORD,,\n_yaml/__init__.py,sha256=x,1402\nyaml/_yaml.cpython-313-x86_64-linux-gnu.so,sha256=x,2226\n../../../bin/yaml,sha256=x,1\n/usr/bin/absolute,,\n",
			[]analyse.Owned{{Type: "pypi", Name: "/" + site + "PyYAML-6.0.1.dist-info/METADATA", Files: []string{
				"/usr/bin/absolute", "/usr/bin/yaml", "/" + site + "yaml/_yaml.cpython-313-x86_64-linux-gnu.so",
			}}}},
		{"with commas and quotes", site + "a-1.dist-info/RECORD", "\"a,\"\"b\"\".so\",sha256=x,1\n\"cut.so\n,\n\n",
			[]analyse.Owned{{Type: "pypi", Name: "/" + site + "a-1.dist-info/METADATA", Files: []string{"/" + site + `a,"b".so`}}}},
		{"out of the root", "a-1.dist-info/RECORD", "../../../../usr/bin/x,,\n", []analyse.Owned{{Type: "pypi", Name: "/a-1.dist-info/METADATA", Files: []string{"/usr/bin/x"}}}},
		{"of an egg", site + "lxml-5.egg-info/installed-files.txt", "../lxml/etree.so\nPKG-INFO\n../lxml/__init__.py\n",
			[]analyse.Owned{{Type: "pypi", Name: "/" + site + "lxml-5.egg-info/PKG-INFO", Files: []string{"/" + site + "lxml/etree.so"}}}},
		{"of scripts alone", site + "six-1.dist-info/RECORD", "six.py,sha256=x,1\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &analyse.Entry{Path: tc.path, Mode: 0o644, Size: int64(len(tc.content))}
			if !(python.Analyser{}).Wants(e, []byte(tc.content)) {
				t.Fatal("not wanted")
			}
			var shown analyse.Shown
			if err := (python.Analyser{}).Take(t.Context(), e, strings.NewReader(tc.content), &shown); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, shown.Owned); diff != "" {
				t.Errorf("owned (-want +got):\n%s", diff)
			}
		})
	}
	if got, _ := take("var/RECORD", "a.so,,\n"); len(got) != 1 || got[0] != "not wanted" {
		t.Errorf("another RECORD: %v", got)
	}
}

func TestRecordThatIsTooLong(t *testing.T) {
	var b strings.Builder
	for i := range 20_001 {
		fmt.Fprintf(&b, "a%d.so,,\n", i)
	}
	if _, err := take("a-1.dist-info/RECORD", b.String()); err == nil {
		t.Error("no error")
	}
}

func FuzzTake(f *testing.F) {
	paths := []string{"a.dist-info/METADATA", "requirements.txt", "Pipfile.lock", "poetry.lock", "uv.lock", "conda-meta/a.json", "a.whl", "a.dist-info/RECORD", "a.egg-info/installed-files.txt"}
	f.Add(0, flask)
	f.Add(1, "a==1 ; x\n-r b\n")
	f.Add(3, "[[package]]\nname = \"a\"\nversion = \"1.0\"\n[package.source]\ntype=\"git\"\n")
	f.Add(4, "[[package]]\nname = \"a\"\nsource = { virtual = \".\" }\ndependencies = [{ name = \"b\" }]\n")
	f.Add(7, "a.so,sha256=x,1\n\"b,\"\"c.so\",,\n../../../bin/d,,\n")
	f.Add(8, "../a.so\n")
	f.Add(6, wheel("a.dist-info/METADATA", flask))
	f.Fuzz(func(_ *testing.T, i int, content string) {
		_, _ = take(paths[uint(i)%uint(len(paths))], content)
	})
}

func BenchmarkWants(b *testing.B) {
	a := python.Analyser{}
	entries := []*analyse.Entry{{Path: "usr/lib/x86_64-linux-gnu/libssl.so.3"}, {Path: "usr/lib/python3/site-packages/django/db/models.py"}, {Path: "usr/lib/python3/site-packages/a.dist-info/METADATA"}}
	head := []byte("x")
	for i := 0; b.Loop(); i++ {
		a.Wants(entries[i%len(entries)], head)
	}
}
