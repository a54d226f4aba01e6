package vm_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/test/vm"
	"github.com/castellan-security/castellan/test/vm/guest"
)

// bootLimit is how long one boot with all its tests may take: ten minutes
// emulated beside other tests, and more on slower machines.
const bootLimit = 25 * time.Minute

// Both machines run at once: each takes one processor.
func TestGuestAMD64(t *testing.T) {
	t.Parallel()
	runGuest(t, "amd64")
}

// The same on the processor of Graviton, which takes longer to emulate: it
// proves the arm64 objects. test/setup/vm.sh arm64 sets it up.
func TestGuestARM64(t *testing.T) {
	t.Parallel()
	runGuest(t, "arm64")
}

// A machine without anything to run panics, and that is told.
func TestBootTellsPanic(t *testing.T) {
	m := need.VM(t, "amd64")
	initramfs := filepath.Join(t.TempDir(), "initramfs")
	var empty bytes.Buffer
	if err := vm.NewArchive(&empty).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(initramfs, empty.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	console, err := vm.Boot(ctx, m, initramfs)
	if err == nil || console == nil || !console.Panic || !strings.Contains(console.Tail(), "Kernel panic") {
		t.Errorf("Boot without an init: %v, want a panic", err)
	}
}

// runGuest boots one machine, and reports the tests that ran inside as
// subtests of t.
func runGuest(t *testing.T, arch string) {
	m := need.VM(t, arch)
	goTool := need.Program(t, "go", "see https://go.dev/doc/install")
	parser := need.Program(t, "apparmor_parser", "apt-get install apparmor")
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()

	built := build(ctx, t, goTool, arch)
	initramfs := filepath.Join(t.TempDir(), "initramfs")
	pack(t, m, initramfs, built, compile(ctx, t, parser, "guest/confined.apparmor"), compile(ctx, t, parser, hardened(t)))
	limit := fmt.Sprintf("-test.timeout=%v", bootLimit)
	console, err := vm.Boot(ctx, m, initramfs, append(selected(), "-test.v=test2json", limit)...)
	if console == nil {
		t.Fatal(err)
	}
	results := console.Results()
	replay(t, results, "")
	if err != nil {
		t.Fatalf("%v; the console's last lines:\n%s", err, console.Tail())
	}
	if len(results) == 0 {
		t.Errorf("no test ran in the guest; the console's last lines:\n%s", console.Tail())
	}
	if console.End != "0" && !t.Failed() {
		t.Errorf("the guest ended with %s; the console's last lines:\n%s", console.End, console.Tail())
	}
}

// selected hands the guest what -run says below the test of its machine: with
// -run TestGuestAMD64/TestSensorTells the guest runs only that. A space would
// end the argument on the kernel's command line, and is an underscore in the
// name of a test anyway.
func selected() []string {
	_, pattern, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	if !ok || pattern == "" {
		return nil
	}
	return []string{"-test.run=" + strings.ReplaceAll(pattern, " ", "_")}
}

// binaries are the programs of the guest.
type binaries struct{ init, tests, subject string }

func build(ctx context.Context, t *testing.T, goTool, arch string) binaries {
	t.Helper()
	lookAtSources(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	b := binaries{init: in("init"), tests: in("tests"), subject: in("subject")}
	const flags = "-ldflags=-s -w"
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch}
	run(ctx, t, env, goTool, "test", "-c", flags, "-o", b.tests, "./guest")
	run(ctx, t, env, goTool, "build", flags, "-o", b.init, "./guest/init")
	run(ctx, t, env, goTool, "build", flags, "-o", b.subject, "./guest/subject")
	return b
}

// lookAtSources walks over what the guest is built from. Go's test cache keeps
// the result of a test while the files that it looked at stay the same, and does
// not see what other programs read, here the compiler.
func lookAtSources(t *testing.T) {
	t.Helper()
	const root = "../.."
	for _, name := range []string{"go.mod", "go.sum", "internal", "test/vm"} {
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if _, err = os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return nil // another program's scratch file
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// hardened writes what castellan harden writes for AppArmor, and returns the file.
func hardened(t *testing.T) string {
	t.Helper()
	p := guest.HardenedProfile()
	r, err := harden.Compile(&p, harden.Options{Outputs: []harden.Output{harden.AppArmor}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), r.Files[0].Name)
	if err := os.WriteFile(file, []byte(r.Files[0].Content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// compile turns an AppArmor profile into the binary form that the kernel
// takes; it needs no kernel with AppArmor, and so is told what the guest's has:
// without that, the parser leaves out what an old kernel would not hold.
func compile(ctx context.Context, t *testing.T, parser, profile string) []byte {
	t.Helper()
	return run(ctx, t, nil, parser, "--stdout", "--skip-kernel-load", "--skip-cache", "--kernel-features", "/etc/apparmor.d/abi/3.0", profile)
}

func run(ctx context.Context, t *testing.T, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, &complaints)
	}
	return out
}

// pack writes the initial RAM file system.
func pack(t *testing.T, m need.Machine, file string, b binaries, policy, hardened []byte) {
	t.Helper()
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	a := vm.NewArchive(out)
	a.Device("dev/console", 5, 1)
	a.Dir("tmp")
	a.File(guest.Marker, 0o644, nil)
	a.File(guest.Policy, 0o644, policy)
	a.File(guest.Hardened, 0o644, hardened)
	a.File("init", 0o755, content(t, b.init))
	a.File(guest.Tests, 0o755, content(t, b.tests))
	a.File(guest.Subject, 0o755, content(t, b.subject))
	for name, file := range shell(t, m.Arch) {
		a.File(guest.Image+name, 0o755, content(t, file))
	}
	modules, err := vm.Modules(m.Modules, "overlay", "binfmt_misc", "fuse")
	if err != nil {
		t.Fatal(err)
	}
	for i, module := range modules {
		a.File(fmt.Sprintf("%s/%02d-%s", guest.Modules, i, filepath.Base(module)), 0o644, content(t, module))
	}
	if err := a.Close(); err != nil {
		t.Fatalf("write initramfs: %v", err)
	}
}

// shell returns where in an image this machine's shell and what it is linked with
// belong; nothing for other processors than its own.
func shell(t *testing.T, arch string) map[string]string {
	t.Helper()
	if arch != runtime.GOARCH {
		return nil
	}
	const dash = "/bin/dash"
	f, err := elf.Open(dash)
	if err != nil {
		t.Fatalf("read Debian's shell: %v", err)
	}
	defer f.Close()
	files := map[string]string{"/bin/sh": dash, "/bin/other-sh": dash}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b, err := io.ReadAll(p.Open())
		if err != nil {
			t.Fatalf("read what links Debian's shell: %v", err)
		}
		loader := strings.TrimRight(string(b), "\x00")
		files[loader], files["/lib/ld.so"] = loader, loader
	}
	libraries, err := filepath.Glob("/lib/*/libc.so.6")
	if err != nil || len(libraries) == 0 {
		t.Fatalf("no C library is at /lib/*/libc.so.6: %v", err)
	}
	files[libraries[0]] = libraries[0]
	return files
}

func content(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// replay reports the guest's tests directly below the one called above, "" for
// the outermost, as subtests of t.
func replay(t *testing.T, results []vm.Result, above string) {
	for _, r := range results {
		name, below := strings.CutPrefix(r.Name, above)
		if !below || name == "" || strings.Contains(name, "/") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			replay(t, results, r.Name+"/")
			t.Logf("took %s in the guest", r.Took)
			for _, line := range r.Output {
				t.Log(line)
			}
			switch r.Outcome {
			case "PASS":
			case "SKIP":
				t.Skip("skipped in the guest")
			case "FAIL":
				t.Error("failed in the guest")
			default:
				t.Error("did not come to its end in the guest")
			}
		})
	}
}
