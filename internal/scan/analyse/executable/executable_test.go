package executable_test

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/executable"
)

// analyser is one for all files, as in a scan.
var analyser = executable.New()

// take analyses a file on disk as a layer would offer it.
func take(t testing.TB, path string) ([]inventory.Package, bool) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, analyse.HeadSize)
	n, _ := f.ReadAt(head, 0)
	e := &analyse.Entry{Path: strings.TrimPrefix(path, "/"), Mode: 0o755}
	a := analyser
	if !a.Wants(e, head[:n]) {
		return nil, false
	}
	var shown analyse.Shown
	if err := a.Take(context.Background(), e, f, &shown); err != nil {
		t.Errorf("Take(%s) = %v", path, err)
	}
	return shown.Packages, true
}

// expected is what the standard library reads from the same file.
func expected(info *buildinfo.BuildInfo) []inventory.Package {
	var all []inventory.Package
	add := func(name, version string) {
		if name != "" && version != "" && version != "(devel)" {
			all = append(all, inventory.Package{Type: "golang", Name: name, Version: version, Ecosystem: "Go", Found: inventory.Compiled})
		}
	}
	add("stdlib", executable.GoVersion(info.GoVersion))
	if strings.HasPrefix(info.Path, "cmd/") && info.Main.Path == "" {
		add("toolchain", executable.GoVersion(info.GoVersion))
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Replace != nil {
			m = m.Replace
		}
		add(m.Path, m.Version)
	}
	return all
}

// check compares what Take shows with what debug/buildinfo reads, and returns
// how many packages there are.
func check(t testing.TB, path string) int {
	t.Helper()
	got, wanted := take(t, path)
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		if wanted && slices.ContainsFunc(got, func(p inventory.Package) bool { return p.Type == "golang" }) {
			t.Errorf("%s: got %d packages, want none: %v", path, len(got), err)
		}
		return 0
	}
	if diff := gocmp.Diff(got, expected(info)); diff != "" {
		t.Errorf("%s: got, want: %s", path, diff)
	}
	return len(got)
}

func TestProgramsOfThisMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("reads all programs of this machine")
	}
	files, withGo := 0, 0
	for _, folder := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/libexec", "/usr/local/go/bin", "/usr/local/go/pkg/tool"} {
		_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			files++
			if check(t, path) > 0 {
				withGo++
			}
			return nil
		})
	}
	t.Logf("%d files, %d of them built by Go", files, withGo)
	if withGo == 0 {
		t.Skip("no program built by Go on this machine")
	}
}

// goBuild builds a small program with modules of its own and returns its path.
func goBuild(t *testing.T, env, args []string) string {
	t.Helper()
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not on this machine")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/app\n\ngo 1.17\n\nrequire (\n\texample.com/dep v1.2.3\n\texample.com/moved v0.1.0\n)\n\n" +
			"replace example.com/dep => ./dep\n\nreplace example.com/moved v0.1.0 => example.com/fork v0.2.0\n",
		"main.go":                           "package main\n\nimport (\n\t\"example.com/dep\"\n\t\"example.com/moved\"\n)\n\nfunc main() { println(dep.Name, moved.Name) }\n",
		"dep/go.mod":                        "module example.com/dep\n",
		"dep/dep.go":                        "package dep\n\nvar Name = \"dep\"\n",
		"vendor/modules.txt":                "# example.com/dep v1.2.3 => ./dep\n## explicit\nexample.com/dep\n# example.com/moved v0.1.0 => example.com/fork v0.2.0\n## explicit; go 1.17\nexample.com/moved\n# example.com/dep => ./dep\n",
		"vendor/example.com/dep/dep.go":     "package dep\n\nvar Name = \"dep\"\n",
		"vendor/example.com/moved/moved.go": "package moved\n\nvar Name = \"moved\"\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "app")
	cmd := exec.Command(goCommand, append(append([]string{"build", "-mod=vendor", "-o", out}, args...), ".")...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOENV=off", "GOWORK=off", "GOTOOLCHAIN=local"), env...)
	if b, err := cmd.CombinedOutput(); err != nil {
		if bytes.Contains(b, []byte("GOPROXY=off")) || bytes.Contains(b, []byte("toolchain not available")) {
			t.Skipf("an older toolchain is not on this machine: %s", b)
		}
		t.Fatalf("%v: %s", err, b)
	}
	return out
}

func TestBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	for _, tc := range []struct {
		name      string
		env, args []string
	}{
		{"plain", nil, nil},
		{"stripped, trimmed, without build id", nil, []string{"-trimpath", "-ldflags=-s -w -buildid="}},
		{"position independent", nil, []string{"-buildmode=pie"}},
		{"arm64", []string{"GOARCH=arm64"}, nil},
		{"big endian", []string{"GOARCH=s390x"}, nil},
		{"windows", []string{"GOOS=windows"}, nil},
		{"darwin", []string{"GOOS=darwin", "GOARCH=arm64"}, nil},
		{"before 1.18", []string{"GOTOOLCHAIN=go1.17.13", "GOPROXY=off"}, nil},
		{"before 1.18, windows", []string{"GOTOOLCHAIN=go1.17.13", "GOPROXY=off", "GOOS=windows"}, nil},
		{"before 1.18, position independent", []string{"GOTOOLCHAIN=go1.17.13", "GOPROXY=off"}, []string{"-buildmode=pie", "-ldflags=-s -w"}},
		{"before 1.18, darwin", []string{"GOTOOLCHAIN=go1.17.13", "GOPROXY=off", "GOOS=darwin"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// The dependency that is replaced by a folder has no version.
			if got := check(t, goBuild(t, tc.env, tc.args)); got != 2 {
				t.Errorf("%d packages, want 2: the standard library and the fork", got)
			}
		})
	}
}

func TestGoVersion(t *testing.T) {
	for in, want := range map[string]string{
		"go1.21.3":                        "1.21.3",
		"go1.20":                          "1.20.0",
		"go1.22rc1":                       "1.22.0-rc.1",
		"go1.19beta2":                     "1.19.0-beta.2",
		"go1.20.5 X:boringcrypto":         "1.20.5",
		"go1.21.6 (Red Hat 1.21.6-1.el9)": "1.21.6",
		"go1.22.5-1":                      "1.22.5",
		"go1.13.15b4":                     "1.13.15",
		"devel go1.23-9d4dae5 Tue Feb 6":  "1.23.0-devel",
		"go1.25-20250209-RC00 cl/1 X:a":   "1.25.0-devel",
		"devel +5e34c1a Thu":              "",
		"unknown":                         "",
		"go":                              "",
		"gopher":                          "",
		"go1.99999999999999999999999.3":   "1.9999999999.0",
		"go1.21rc99999999999999999999":    "1.21.0",
	} {
		if got := executable.GoVersion(in); got != want {
			t.Errorf("GoVersion(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWants(t *testing.T) {
	pad := func(s string) []byte { return append([]byte(s), make([]byte, analyse.HeadSize-len(s))...) }
	pe := pad("MZ")
	pe[0x3c], pe[0x80], pe[0x81] = 0x80, 'P', 'E'
	for _, tc := range []struct {
		name string
		mode fs.FileMode
		head []byte
		want bool
	}{
		{"ELF without a mode bit", 0o644, pad("\x7fELF\x02\x01\x01"), true},
		{"ELF, a device", fs.ModeDevice, pad("\x7fELF"), false},
		{"too short", 0o755, []byte("\x7fELF\x02\x01\x01"), false},
		{"PE", 0o644, pe, true},
		{"begins like PE", 0o644, pad("MZ is a text"), false},
		{"Mach-O", 0o644, pad("\xcf\xfa\xed\xfe"), true},
		{"universal", 0o644, pad("\xca\xfe\xba\xbe\x00\x00\x00\x02"), true},
		{"Java class", 0o644, pad("\xca\xfe\xba\xbe\x00\x00\x00\x34"), false},
		{"script", 0o755, pad("#!/bin/sh"), false},
		{"folder", fs.ModeDir | 0o755, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (executable.Analyser{}).Wants(&analyse.Entry{Path: "x", Mode: tc.mode}, tc.head); got != tc.want {
				t.Errorf("Wants() = %v, want %v", got, tc.want)
			}
		})
	}
}

// A program that UPX packed says that nothing can be known of it.
func TestPackedPrograms(t *testing.T) {
	packed := program(t, inlineInfo("go1.21.3", testModules))
	copy(packed[0xec:], "UPX!")
	var shown analyse.Shown
	err := (executable.Analyser{}).Take(context.Background(), &analyse.Entry{}, bytes.NewReader(packed), &shown)
	want := analyse.Shown{Problems: []inventory.Problem{{What: "packed with UPX: what the program was built from cannot be read"}}}
	if diff := gocmp.Diff(shown, want); diff != "" || err != nil {
		t.Errorf("%v (-got +want):\n%s", err, diff)
	}
}

func TestBrokenPrograms(t *testing.T) {
	whole := program(t, inlineInfo("go1.21.3", testModules))
	for _, size := range []int{256, 300, 0x1000, 0x1010, 0x1030, len(whole) - 1} {
		var shown analyse.Shown
		if err := (executable.Analyser{}).Take(context.Background(), &analyse.Entry{}, bytes.NewReader(whole[:size]), &shown); err != nil {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
	var shown analyse.Shown
	broken := os.ErrClosed
	r := iotest.DataErrReader(bytes.NewReader(whole[:0x1010]))
	if err := (executable.Analyser{}).Take(context.Background(), &analyse.Entry{}, multi(r, iotest.ErrReader(broken)), &shown); err != broken {
		t.Errorf("Take() of a broken stream = %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (executable.Analyser{}).Take(ctx, &analyse.Entry{}, bytes.NewReader(whole), &shown); err != context.Canceled {
		t.Errorf("Take() after cancel = %v, want %v", err, context.Canceled)
	}
}

func sorted(ps []inventory.Package) []string {
	var names []string
	for _, p := range ps {
		names = append(names, p.Type+" "+p.Name+" "+p.Version+" "+p.Ecosystem)
	}
	slices.SortFunc(names, cmp.Compare[string])
	return names
}
