package need_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/need"
)

// recorder is a test that remembers how it ended.
type recorder struct {
	testing.TB
	outcome, message string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) { r.end("skip", format, args) }

func (r *recorder) Fatalf(format string, args ...any) { r.end("fail", format, args) }

func (r *recorder) end(outcome, format string, args []any) {
	r.outcome, r.message = outcome, fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// run runs f as a test of its own and returns how it ended.
func run(t *testing.T, f func(testing.TB)) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
		r.outcome = "pass"
	}()
	<-done
	return r
}

// programs makes a folder with empty executables of these names and makes it
// the whole PATH.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	return dir
}

func TestProgram(t *testing.T) {
	absent := "castellan-no-such-program"
	tests := []struct {
		name     string
		program  string
		remedy   []string
		require  string
		outcome  string
		mentions []string
	}{
		{name: "present", program: "tool", outcome: "pass"},
		{name: "absent", program: absent, outcome: "skip",
			mentions: []string{"no " + absent + " program", "apt-get install " + absent}},
		{name: "absent with remedy", program: absent, remedy: []string{"build it"}, outcome: "skip",
			mentions: []string{"to get it: build it"}},
		{name: "absent and required", program: absent, require: "root, program", outcome: "fail",
			mentions: []string{"no " + absent + " program", need.RequireEnv}},
		{name: "absent and something else required", program: absent, require: "root,docker", outcome: "skip"},
		{name: "absent and mistyped requirement", program: absent, require: "dokcer", outcome: "fail",
			mentions: []string{`"dokcer" is not one of root, docker`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := programs(t, "tool")
			t.Setenv(need.RequireEnv, tt.require)
			var path string
			got := run(t, func(tb testing.TB) { path = need.Program(tb, tt.program, tt.remedy...) })
			if got.outcome != tt.outcome {
				t.Errorf("outcome = %s (%s), want %s", got.outcome, got.message, tt.outcome)
			}
			for _, m := range tt.mentions {
				if !strings.Contains(got.message, m) {
					t.Errorf("message = %q, want it to mention %q", got.message, m)
				}
			}
			if want := filepath.Join(dir, "tool"); tt.outcome == "pass" && path != want {
				t.Errorf("path = %q, want %q", path, want)
			}
		})
	}
}

func TestBrowserPrefersChromium(t *testing.T) {
	dir := programs(t, "google-chrome", "chromium")
	var path string
	got := run(t, func(tb testing.TB) { path = need.Browser(tb) })
	if want := filepath.Join(dir, "chromium"); got.outcome != "pass" || path != want {
		t.Errorf("Browser = %q (%s), want %q", path, got.outcome, want)
	}
}

func TestVM(t *testing.T) {
	dir := programs(t, "qemu-system-x86_64")
	cache := t.TempDir()
	t.Setenv(need.CacheEnv, cache)
	t.Setenv(need.RequireEnv, "")

	var got need.Machine
	r := run(t, func(tb testing.TB) { got = need.VM(tb, "amd64") })
	if r.outcome != "skip" || !strings.Contains(r.message, "test/setup/vm.sh amd64") {
		t.Errorf("VM without a kernel: %s (%s), want a skip that names test/setup/vm.sh amd64", r.outcome, r.message)
	}

	folder := filepath.Join(cache, "vm", "amd64")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "release"), []byte("6.1.0-1-cloud-amd64\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r = run(t, func(tb testing.TB) { got = need.VM(tb, "amd64") })
	if r.outcome != "pass" {
		t.Fatalf("VM with a kernel: %s (%s), want pass", r.outcome, r.message)
	}
	want := need.Machine{
		Arch:    "amd64",
		QEMU:    filepath.Join(dir, "qemu-system-x86_64"),
		Kernel:  filepath.Join(folder, "vmlinuz"),
		Modules: filepath.Join(folder, "modules"),
		Release: "6.1.0-1-cloud-amd64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("VM (-want +got):\n%s", diff)
	}
}

func TestVMRequired(t *testing.T) {
	programs(t, "qemu-system-x86_64")
	t.Setenv(need.CacheEnv, t.TempDir())
	t.Setenv(need.RequireEnv, "vm")
	if got := run(t, func(tb testing.TB) { need.VM(tb, "amd64") }); got.outcome != "fail" {
		t.Errorf("VM without a kernel and required: %s (%s), want fail", got.outcome, got.message)
	}
}

// Whoever runs this, root passes exactly when it is root.
func TestRoot(t *testing.T) {
	want := "skip"
	if os.Geteuid() == 0 {
		want = "pass"
	}
	t.Setenv(need.RequireEnv, "")
	if got := run(t, func(tb testing.TB) { need.Root(tb) }); got.outcome != want {
		t.Errorf("Root as uid %d: %s (%s), want %s", os.Geteuid(), got.outcome, got.message, want)
	}
}
