package lock_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse/lock"
	"github.com/castellan-security/castellan/internal/scan/analysetest"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	return analysetest.Lines(lock.Analyser{}, path, content)
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"mix.lock", "mix.lock", "%{\n  \"plug\": {:hex, :plug, \"1.14.0\", \"abc\", [:mix], [{:mime, \"~> 1.0\", [hex: :mime]}], \"hexpm\", \"def\"},\n  \"other\": {:git, \"https://example.com/o.git\", \"abc\", []},\n}\n",
			[]string{"hex:plug 1.14.0 declared [Hex]", "hex:other  declared [Hex]"}},
		{"mix.lock, without quotes", "mix.lock", "%{\n  plug: {:hex, :plug, \"1.10.0\", \"abc\", [:mix], [], \"hexpm\"},\n}\n", []string{"hex:plug 1.10.0 declared [Hex]"}},
		{"rebar.lock", "rebar.lock", "{\"1.2.0\",\n[{<<\"cowboy\">>,{pkg,<<\"cowboy\">>,<<\"2.9.0\">>},0},\n {<<\"cowlib\">>,{pkg,<<\"cowlib\">>,<<\"2.11.0\">>},1}]}.\n[\n{pkg_hash,[\n {<<\"cowboy\">>, <<\"ABC\">>}]}\n].\n",
			[]string{"hex:cowboy 2.9.0 declared [Hex]", "hex:cowlib 2.11.0 declared [Hex] indirect"}},
		{"pubspec.lock", "app/pubspec.lock", "packages:\n  http:\n    dependency: \"direct main\"\n    description:\n      name: http\n      url: \"https://example.com\"\n    source: hosted\n    version: \"0.13.5\"\n  lints:\n    dependency: \"direct dev\"\n    source: hosted\n    version: \"2.0.0\"\n  meta:\n    dependency: transitive\n    source: hosted\n    version: \"1.9.0\"\n  flutter:\n    dependency: \"direct main\"\n    source: sdk\n    version: \"0.0.0\"\nsdks:\n  dart: \">=2.18.0\"\n",
			[]string{"pub:http 0.13.5 declared [Pub]", "pub:lints 2.0.0 declared [Pub] dev", "pub:meta 1.9.0 declared [Pub] indirect"}},
		{"Package.resolved 1", "Package.resolved", `{"object":{"pins":[{"package":"NIO","repositoryURL":"https://GitHub.com/apple/swift-nio.git","state":{"branch":null,"revision":"abc","version":"2.40.0"}}]},"version":1}`,
			[]string{"swift:github.com/apple/swift-nio 2.40.0 declared [SwiftURL]"}},
		{"Package.resolved 2", "Package.resolved", `{"pins":[{"identity":"a","kind":"remoteSourceControl","location":"git@github.com:x/a.git","state":{"revision":"abc","version":"1.0.0"}},{"identity":"b","location":"/local/b","state":{}}],"version":2}`,
			[]string{"swift:github.com/x/a 1.0.0 declared [SwiftURL]"}},
		{"Podfile.lock", "ios/Podfile.lock", "PODS:\n  - Alamofire (5.6.2)\n  - Firebase/Core (9.0.0):\n    - Firebase/Other (= 9.0.0)\n  - Firebase/Other (9.0.0)\n  - \"Util+X (1.0)\"\n\nDEPENDENCIES:\n  - Alamofire (~> 5.6)\n  - Firebase/Core\n\nSPEC CHECKSUMS:\n  Alamofire: abc\n",
			[]string{"cocoapods:Alamofire 5.6.2 declared []", "cocoapods:Firebase 9.0.0 declared []", "cocoapods:Util+X 1.0 declared [] indirect"}},
		{"conan.lock 2", "conan.lock", `{"version":"0.5","requires":["zlib/1.2.11#abc%1674","fmt/9.0.0@user/channel#x"],"build_requires":["cmake/3.25#x"],"python_requires":[]}`,
			[]string{"conan:zlib 1.2.11 declared [ConanCenter]", "conan:fmt 9.0.0 declared [ConanCenter]", "conan:cmake 3.25 declared [ConanCenter] dev"}},
		{"conan.lock 1", "conan.lock", `{"graph_lock":{"nodes":{"0":{"ref":"app/1.0","path":"conanfile.py"},"1":{"pref":"zlib/1.2.11#abc:def"}}},"version":"0.4"}`, []string{"conan:zlib 1.2.11 declared [ConanCenter]"}},
		{"conanfile.txt", "conanfile.txt", "[requires]\nzlib/1.2.11#abc # why\nfmt/[>=9 <10]\nboost/1.80.0@user/channel\n\n[tool_requires]\ncmake/3.25\n[options]\nzlib/*:shared=True\n",
			[]string{"conan:zlib 1.2.11 declared [ConanCenter]", "conan:fmt  declared [ConanCenter]", "conan:boost 1.80.0 declared [ConanCenter]", "conan:cmake 3.25 declared [ConanCenter] dev"}},
		{"stack.yaml.lock", "stack.yaml.lock", "packages:\n- completed:\n    hackage: aeson-pretty-0.8.9@sha256:abc,123\n    pantry-tree:\n      size: 1\n  original:\n    hackage: aeson-pretty-0.8.9\n- completed:\n    hackage: b-1.0@sha256:abc,1\n",
			[]string{"hackage:aeson-pretty 0.8.9 declared [Hackage]", "hackage:b 1.0 declared [Hackage]"}},
		{"cabal.project.freeze", "cabal.project.freeze", "active-repositories: x:merge\nconstraints: any.a ==1.0,\n             a +flag,\n             any.b-c ==2.0 || ==2.1,\n             any.d ==3.0.1,\nindex-state: x\n",
			[]string{"hackage:a 1.0 declared [Hackage]", "hackage:d 3.0.1 declared [Hackage]"}},
		{"renv.lock", "renv.lock", `{"R":{"Version":"4.2.3"},"Packages":{"a":{"Package":"a","Version":"1.0-2","Source":"Repository","Repository":"CRAN"},"b":{"Package":"b","Version":"2.0","Source":"GitHub"}}}`,
			[]string{"cran:a 1.0-2 declared [CRAN]", "cran:b 2.0 declared []"}},
		{"installed R package", "usr/lib/R/library/stats/DESCRIPTION", "Package: stats\nVersion: 4.2.3\nPriority: base\nLicense: Part of R 4.2.3\n", []string{"cran:stats 4.2.3 installed [] Part of R 4.2.3"}},
		{"installed R package of CRAN", "usr/local/lib/R/site-library/x/DESCRIPTION", "Package: x\nVersion: 1.0\n", []string{"cran:x 1.0 installed [CRAN]"}},
		{"sources of an R package", "src/DESCRIPTION", "Package: x\nVersion: 1.0\n", nil},
		{"R package of a project's own library", "app/renv/library/R-4.2/x86_64-pc-linux-gnu/x/DESCRIPTION", "Package: x\nVersion: 1.0\nBuilt: R 4.2.3; ; 2024-01-01 00:00:00 UTC; unix\n", []string{"cran:x 1.0 installed [CRAN]"}},
		{"rebar.lock, damaged", "rebar.lock", " {<<\"idna\">>,{pkg,<<\"idpkg,<<\"parse_trans\">>,<<\"3.3.1\">>},0},\n", nil},
		{"workflow", "src/.github/workflows/ci.yml", "jobs:\n  a:\n    steps:\n      - uses: actions/checkout@v4.1.1\n      - name: x\n        uses: \"actions/setup-go@v5\"\n      - uses: a/b/sub@0123abc # v2.3.4\n      - uses: ./local\n      - uses: docker://alpine:3\n",
			[]string{"github:actions/checkout v4.1.1 declared [GitHub Actions]", "github:actions/setup-go  declared [GitHub Actions]", "github:a/b v2.3.4 declared [GitHub Actions]"}},
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

func TestBrokenFiles(t *testing.T) {
	for path, content := range map[string]string{
		"renv.lock": `{"Packages":{"a":`, "conan.lock": "x", "Package.resolved": `{"pins":[{`,
	} {
		if got, err := take(path, content); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}

func FuzzTake(f *testing.F) {
	paths := []string{"mix.lock", "rebar.lock", "pubspec.lock", "Package.resolved", "Podfile.lock", "conan.lock", "conanfile.txt", "DESCRIPTION", "stack.yaml.lock", "cabal.project.freeze", "renv.lock", ".github/workflows/a.yml"}
	f.Add(0, "\"plug\": {:hex, :plug, \"1.14.0\"},\n")
	f.Add(1, "{<<\"a\">>,{pkg,<<\"a\">>,<<\"2.9.0\">>},0},\n")
	f.Add(3, `{"pins":[{"location":"git@github.com:x/a.git","state":{"version":"1.0.0"}}]}`)
	f.Add(4, "PODS:\n  - A/B (1):\n    - C\nDEPENDENCIES:\n  - A\n")
	f.Add(9, "- uses: a/b@v1.2.3 # x\n")
	f.Fuzz(func(_ *testing.T, i int, content string) {
		_, _ = take(paths[uint(i)%uint(len(paths))], content)
	})
}
