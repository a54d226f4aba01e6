package guest_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/test/vm/guest"
)

const cgroupRoot = "/sys/fs/cgroup"

// layout is how a host mounts its cgroups, and where its engine puts
// containers.
type layout struct {
	name string
	v1   []string // controllers of version 1, each with a hierarchy of its own
	v2   string   // where version 2 is mounted; empty if it is not
	// apart says that the engine makes its cgroups in version 1 alone, as older
	// ones do on hybrid hosts.
	apart bool
	mode  string // as asset.Host names it
}

func layouts() []layout {
	controllers := []string{"memory", "pids", "devices", "cpu"}
	unified := filepath.Join(cgroupRoot, "unified")
	return []layout{
		{name: "v1", v1: controllers, mode: "v1"},
		{name: "hybrid", v1: controllers, v2: unified, mode: "hybrid"},
		{name: "hybrid with containers in v1 alone", v1: controllers, v2: unified, apart: true, mode: "hybrid"},
		{name: "v2", v2: cgroupRoot, mode: "v2"},
	}
}

// commonLayouts are those for what is the same code on every processor: all of them on one,
// and elsewhere those of Amazon Linux 2 and 2023, whose emulation takes long enough.
func commonLayouts() []layout {
	all := layouts()
	if runtime.GOARCH == "amd64" {
		return all
	}
	return []layout{all[0], all[len(all)-1]}
}

// mount sets the layout up until the test ends, and returns the roots of the
// hierarchies in which its engine makes cgroups.
func (l layout) mount(t *testing.T) []string {
	t.Helper()
	var roots []string
	if len(l.v1) > 0 {
		mountAt(t, cgroupRoot, "tmpfs", "")
	}
	for _, controller := range l.v1 {
		root := filepath.Join(cgroupRoot, controller)
		mountAt(t, root, "cgroup", controller)
		roots = append(roots, root)
	}
	if l.v2 != "" {
		mountAt(t, l.v2, "cgroup2", "")
		if !l.apart {
			roots = append(roots, l.v2)
		}
	}
	return roots
}

// mountAt mounts until the test ends. A controller that the last layout used
// comes free only after a while.
func mountAt(t *testing.T, target, kind, data string) {
	t.Helper()
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	eventually(t, "mount "+kind+" "+data, func() bool {
		err := unix.Mount(kind, target, kind, 0, data)
		if err != nil && !isErrno(err, unix.EBUSY) {
			t.Fatalf("mount %s at %s: %v", kind, target, err)
		}
		return err == nil
	})
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

// container stands in for what an engine makes: cgroups that carry its id, and
// a root of overlay layers with the subject in the lowest one.
type container struct {
	id      string
	cgroups []string
	root    string
}

// newContainer makes a container below the roots of a layout's hierarchies.
func newContainer(t *testing.T, id string, roots []string) container {
	t.Helper()
	c := container{id: id, root: overlay(t)}
	for _, root := range roots {
		dir := filepath.Join(root, "docker", id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		c.cgroups = append(c.cgroups, dir)
		t.Cleanup(func() {
			removeCgroup(t, dir)
			if all, err := os.ReadDir(filepath.Dir(dir)); err != nil || !slices.ContainsFunc(all, fs.DirEntry.IsDir) {
				removeCgroup(t, filepath.Dir(dir))
			}
		})
	}
	return c
}

// removeCgroup waits for the last process to leave. Who does not is said and killed, so
// that it is one test's trouble and not that of all after it.
func removeCgroup(t *testing.T, dir string) {
	t.Helper()
	gone := func() bool {
		err := unix.Rmdir(dir)
		return err == nil || isErrno(err, unix.ENOENT)
	}
	if waited(gone) {
		return
	}
	t.Errorf("remove %s: not within %v; in it are:\n%s", dir, patience, inCgroup(dir))
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		t.Log(err)
	}
	if !waited(gone) {
		t.Errorf("remove %s: its processes do not die:\n%s", dir, inCgroup(dir))
	}
}

// inCgroup says what is in a cgroup: its processes, with what they do, and the cgroups
// below it.
func inCgroup(dir string) string {
	var b strings.Builder
	list, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	for _, pid := range strings.Fields(string(list)) {
		for _, name := range []string{"cmdline", "status", "wchan", "stack"} {
			text, err := os.ReadFile(filepath.Join("/proc", pid, name))
			fmt.Fprintf(&b, "%s %s: %s %v\n", pid, name, bytes.ReplaceAll(text, []byte{0}, []byte{' '}), err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	for _, e := range entries {
		if e.IsDir() {
			fmt.Fprintf(&b, "%s/\n%s", e.Name(), inCgroup(filepath.Join(dir, e.Name())))
		}
	}
	return b.String()
}

// shadow is a sensitive file, which the second layer of the image has.
const shadow = "/etc/shadow"

// overlay mounts a root file system of two image layers and an empty upper one.
func overlay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"base/bin", "base/proc", "top/etc", "upper", "work", "root"} {
		if err := os.MkdirAll(in(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	subject, err := os.ReadFile(guest.Subject)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(in("base"), guest.Subject), subject, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(interpreters(), otherProgram) {
		if err := os.Link(filepath.Join(in("base"), guest.Subject), filepath.Join(in("base"), name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(in("base"), guest.Interpreters), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, line := range commandLines() {
		at := filepath.Join(in("base"), guest.Interpreters, line.args[0])
		if err := os.Link(filepath.Join(in("base"), guest.Subject), at); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"script": "#!" + guest.Subject + " script\nexit=5\n",
		"plain":  "exit 5\n",
		"app":    "\nexit=5\n",
		"reads":  "read line < $1\nexit ${line#v=}\n",
	} {
		if err := os.WriteFile(filepath.Join(in("base"), name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(guest.Image); err == nil {
		if err := os.CopyFS(in("base"), os.DirFS(guest.Image)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(in("top"), shadow), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	mountAt(t, in("root"), "overlay", "lowerdir="+in("top")+":"+in("base")+",upperdir="+in("upper")+",workdir="+in("work"))
	return in("root")
}

// command is a program of the container, first in its own pid and mount
// namespaces.
func (c container) command(t *testing.T, args ...string) *exec.Cmd {
	return c.program(t, guest.Subject, args...)
}

// program is any program of the container, as command.
func (c container) program(t *testing.T, name string, args ...string) *exec.Cmd {
	enter := append([]string{"enter", strings.Join(c.cgroups, ","), c.root, name}, args...)
	cmd := exec.CommandContext(t.Context(), guest.Subject, enter...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	cmd.Stderr = os.Stdout
	return cmd
}

// run runs the subject in the container and returns its exit code.
func (c container) run(t *testing.T, args ...string) int {
	t.Helper()
	cmd := c.command(t, args...)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("run subject: %v", err)
	}
	return cmd.ProcessState.ExitCode()
}

// wait starts a process of the container that runs until the test ends, and
// returns its process id.
func (c container) wait(t *testing.T) int {
	t.Helper()
	cmd := c.command(t, "wait")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, cmd, input) })
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the waiting process said %q (%v), want ready", line, err)
	}
	return cmd.Process.Pid
}

// end lets a waiting process go.
func end(t *testing.T, cmd *exec.Cmd, input io.Closer) {
	if err := input.Close(); err != nil {
		t.Errorf("close its input: %v", err)
	}
	// Wait's error is that the test's context, which ended, killed it.
	if err := cmd.Wait(); cmd.ProcessState == nil {
		t.Errorf("wait for process %d: %v", cmd.Process.Pid, err)
	}
}
