package guest_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/test/vm/guest"
)

// Code does not come in by the odd ways either.
func TestTricksBringNothingIn(t *testing.T) {
	if runtime.GOARCH == "amd64" && !refusing() {
		t.Fatal("BPF is no security module of this kernel")
	}
	noTricks(t)
}

func TestTricksBringNothingInBySignals(t *testing.T) {
	if !refusing() {
		t.Skip("by signals it is done already")
	}
	withoutModule(t)
	noTricks(t)
}

// mapsCopy is a script that ends with 5 if a copy of a library is mapped as code.
const mapsCopy = "while read l; do case $l in *r-xp*/tmp/l/*) exit 5;; esac; done < /proc/self/maps; exit 3"

func tricks(libc, linker string) []attempt {
	const own = guest.Subject
	return []attempt{
		{name: "by a descriptor of its path alone", steps: []string{"copy=" + own + ",/tmp/x", "opath=/tmp/x,exit,5"}},
		{name: "a program that the profile lacks by such", steps: []string{"opath=" + otherProgram + ",exit,5"}},
		{name: "by the root in proc", steps: []string{"copy=" + own + ",/tmp/x", "exec=/proc/self/root/tmp/x,exit,5"}},
		{name: "by a mount that is attached nowhere", steps: []string{"copy=" + own + ",/tmp/x", "tree=/tmp/x,exit,5"}},
		{name: "a program that the profile lacks by such a mount", steps: []string{"tree=" + otherProgram + ",exit,5"}},
		{name: "in memory that is a file system", steps: []string{"ramfs=/mnt", "copy=" + own + ",/mnt/x", "exec=/mnt/x,exit,5"}},
		{name: "on a file system that the container serves", steps: []string{"served=x,exit,5"}},
		{name: "by many threads at once", steps: []string{"copy=" + own + ",/tmp/x", "many=/tmp/x,exit,5"}},
		{name: "bound over a program while that is started", steps: []string{"raced=" + own}},
		{name: "for a kind of files", steps: []string{"copy=" + own + ",/tmp/x", "registered=file,exit,/tmp/x,F", "exec=/plain"}},
		{name: "a file of a kind that a program runs", steps: []string{"put=/tmp/x,CAST,exit=5", "registered=open,CAST,/bin/python3.11,O", "exec=/tmp/x,/tmp/x"}, lsm: true},
		{name: "a script whose interpreter came with it", steps: []string{"copy=" + own + ",/tmp/x", "put=/tmp/y,#!/tmp/x script,exit=5", "exec=/tmp/y"}},
		{name: "a script whose interpreter is a script", steps: []string{"put=/tmp/x,#!/script,exit=5", "exec=/tmp/x"}, lsm: true},
		{name: "a script with a long first line", steps: []string{"put=/tmp/x,#!" + strings.Repeat(" ", 180) + own + " script,exit=5", "exec=/tmp/x"}, lsm: true},
		{name: "a script with an option in its first line", steps: []string{"put=/tmp/x,#!\t/bin/python3.11 -u,exit=5", "exec=/tmp/x,/tmp/x"}, lsm: true},
		{name: "a script without a first line", steps: []string{"put=/tmp/x,:,exit 5", "exec=" + shellProgram + ",-c,/tmp/x"}, shell: true, lsm: true},
		{name: "a program changed in memory", steps: []string{"changed=" + otherProgram, "exit=5"}},
		{name: "a program that can be changed in memory", steps: []string{"changeable=" + otherProgram, "exit=5"}},
		{name: "written memory behind a file", steps: []string{"behind=" + otherProgram, "exit=5"}},
		{name: "written memory before a hole", steps: []string{"hole", "exit=5"}},
		{name: "shared memory of System V attached again", steps: []string{"reattach", "exit=5"}},
		{name: "a linker below another root", steps: []string{"put=/tmp/r/bin/sh,", "bind=" + shellProgram + ",/tmp/r/bin/sh", "copy=" + loader + ",/tmp/r" + linker, "chroot=/tmp/r", "exec=/bin/sh,-c,exit 5"}, shell: true},
		{name: "a linker bound over that of the image", steps: []string{"copy=" + loader + ",/tmp/x", "bind=/tmp/x," + linker, "exec=" + shellProgram + ",-c,exit 5"}, shell: true},
		{name: "another program by a link to the linker", steps: []string{"symlink=" + loader + ",/tmp/x", "exec=/tmp/x," + otherShell + ",-c,exit 5"}, shell: true},
		{name: "another program by the linker under another name", steps: []string{"put=/tmp/x,", "bind=" + loader + ",/tmp/x", "exec=/tmp/x," + otherShell + ",-c,exit 5"}, shell: true},
		{name: "a library in the place of one of the image", steps: []string{"copy=" + libc + ",/tmp/l/libc.so.6", "environ=LD_LIBRARY_PATH,/tmp/l", "execenv=" + shellProgram + ",-c," + mapsCopy}, shell: true},
		{name: "a library that is loaded before all", steps: []string{"copy=" + libc + ",/tmp/l/x.so", "environ=LD_PRELOAD,/tmp/l/x.so", "execenv=" + shellProgram + ",-c," + mapsCopy}, shell: true},
		{name: "a library that looks at the linker", steps: []string{"copy=" + libc + ",/tmp/l/x.so", "environ=LD_AUDIT,/tmp/l/x.so", "execenv=" + shellProgram + ",-c," + mapsCopy}, shell: true},
	}
}

// oddTricks are by calls that hardly anybody makes.
func oddTricks() []attempt {
	const own = guest.Subject
	const python, many = "/bin/python3.11", 60
	copied := "copy=" + own + ",/tmp/x"
	return []attempt{
		{name: "by its working folder", steps: []string{copied, "chdir=/tmp", "exec=/proc/self/cwd/x,exit,5"}},
		{name: "by a call that follows no link", steps: []string{copied, "nofollow=/tmp/x,exit,5"}},
		{name: "in memory that is for programs", steps: []string{"executable=x,exit,5"}},
		{name: "handed over by a socket", steps: []string{"handed=x,exit,5"}},
		{name: "by its number in its file system", steps: []string{"tmpfs=/mnt", "copy=" + own + ",/mnt/x", "handle=/mnt/x,exit,5"}},
		{name: "exchanged with a program", steps: []string{copied, "exchange=/tmp/x," + own, "exec=" + own + ",exit,5"}},
		{name: "a program with a hole", steps: []string{"punch=" + otherShell, "exec=" + otherShell + ",-c,exit 5"}, shell: true},
		{name: "a program written by shared memory", steps: []string{"rewritten=" + shellProgram, "exec=" + shellProgram + ",-c,exit 5"}, shell: true},
		{name: "a program written by the kernel", steps: []string{"ranged=" + otherShell + "," + shellProgram, "exec=" + shellProgram + ",-c,exit 5"}, shell: true},
		{name: "a mount attached over a program", steps: []string{copied, "attach-over=/tmp/x," + own, "exec=" + own + ",exit,5"}},
		{name: "mapped from an overlay of its own", steps: []string{copied, "unshare", "tmpfs=/mnt", "overlay=/mnt,/tmp," + filepath.Dir(own), "map=/mnt/x", "exit=5"}},
		{name: "written memory that was moved", steps: []string{"moved", "exit=5"}},
		{name: "written memory by another call", steps: []string{"keyed", "exit=5"}, amd64: true},
		{name: "written memory from its end", steps: []string{"grown", "exit=5"}},
		{name: "memory of an io_uring", steps: []string{"ringcode", "exit=5"}},
		{name: "memory of a performance event", steps: []string{"perfcode", "exit=5"}},
		{name: "written memory by a child that shares it", steps: []string{"lent", "exit=5"}, lsm: true, amd64: true},
		{name: "its own memory by a child that shares it", steps: []string{"lentfile", "exit=5"}, lsm: true, amd64: true},
		{name: "its own memory by an io_uring", steps: []string{"ring=/proc/self/mem", "exit=5"}, lsm: true},
		{name: "its own memory by a descriptor of its path", steps: []string{"reopened=/proc/self/mem", "exit=5"}},
		{name: "by its folder as the root", steps: []string{copied, "chroot=/tmp", "exec=/x,exit,5"}},
		{name: "a program that the profile lacks by a root in proc", steps: []string{"chdir=/proc/self/root/bin", "chroot=.", "exec=/other,exit,5"}},
		{name: "shared memory written when it is code", steps: []string{"codefirst", "exit=5"}},
		{name: "memory of large pages", steps: []string{"hugecode", "exit=5"}},
		{name: "written memory by a wide number", steps: []string{"wide", "exit=5"}},
		{name: "its own memory by a wide number", steps: []string{"widefile", "exit=5"}},
		{name: "by a 32-bit call", steps: []string{copied, "narrow=exec,/tmp/x,exit,5"}, amd64: true},
		{name: "written memory by a 32-bit call", steps: []string{"narrow=protect", "exit=5"}, amd64: true},
		{name: "memory to write and run by a 32-bit call", steps: []string{"narrow=map", "exit=5"}, amd64: true},
		{name: "the same by the oldest 32-bit call", steps: []string{"narrow=oldmap", "exit=5"}, amd64: true, lsm: true},
		{name: "shared memory by a 32-bit call", steps: []string{"narrow=attach", "exit=5"}, amd64: true, lsm: true},
		{name: "its own memory by a 32-bit call", steps: []string{"narrow=write,/proc/self/mem", "exit=5"}, amd64: true},
		{name: "a script by its number", steps: []string{"put=/tmp/x.py,,exit=5", "numbered=" + python + ",/tmp/x.py,/proc/self/fd"}, lsm: true},
		{name: "a script by the root in proc", steps: []string{"put=/tmp/x.py,,exit=5", "exec=" + python + ",/proc/self/root/tmp/x.py"}, lsm: true},
		{name: "a script by the working folder", steps: []string{"put=/tmp/x.py,,exit=5", "chdir=/tmp", "exec=" + python + ",/proc/self/cwd/x.py"}, lsm: true},
		{name: "a script behind many options", steps: []string{"put=/tmp/x.py,,exit=5", "exec=" + python + strings.Repeat(",-u", many) + ",/tmp/x.py"}, lsm: true},
		{name: "a script behind a long option", steps: []string{"put=/tmp/x.py,,exit=5", "exec=" + python + ",-W" + strings.Repeat("x", 5000) + ",/tmp/x.py"}, lsm: true},
		{name: "a script of a shell under another name", steps: []string{"put=/tmp/x,exit 5", "execas=" + shellProgram + ",cat,/tmp/x"}, shell: true, lsm: true},
		{name: "a script by a long way", steps: []string{"put=/tmp/x.py,,exit=5", "exec=" + python + "," + strings.Repeat("/tmp/..", 100) + "/tmp/x.py"}, lsm: true},
	}
}

func noTricks(t *testing.T) {
	roots := layouts()[3].mount(t)
	rules := ours()
	rules.Paths = append(rules.Paths, "/plain")
	h := hold(t, pins(t), execRules(rules))
	forgetKinds(t)
	libc, linker := "", ""
	if hasShell() {
		libc, linker = inImage(t, "/lib/*/libc.so.6"), inImage(t, "/lib*/ld-*.so*")
	}
	for _, a := range append(tricks(libc, linker), oddTricks()...) {
		t.Run(a.name, func(t *testing.T) {
			if a.shell && !hasShell() {
				t.Skip("no shell for this processor")
			}
			if a.amd64 && runtime.GOARCH != "amd64" {
				t.Skip("this processor lacks the call, or the guest's program a way to make it")
			}
			c := h.new(t, roots)
			got := c.run(t, append([]string{"steps"}, a.steps...)...)
			if a.lsm && !refusing() {
				if got != ran {
					t.Errorf("ended with %d, want %d: the documents say that it is not held", got, ran)
				}
				return
			}
			if got == ran || got == 0 || !a.shell && !stopped(got) {
				t.Errorf("ended with %d", got)
			}
			h.tells(t, c.id)
		})
	}
}

// inImage returns where in every image a file is.
func inImage(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(guest.Image + pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("the images have no %s: %v", pattern, err)
	}
	return strings.TrimPrefix(found[0], guest.Image)
}

// forgetKinds has the kernel forget which programs run which files when the test ends:
// that is one list for all of the machine.
func forgetKinds(t *testing.T) {
	t.Helper()
	at := t.TempDir()
	if err := unix.Mount("binfmt_misc", at, "binfmt_misc", 0, ""); err != nil {
		t.Fatalf("mount binfmt_misc: %v", err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(filepath.Join(at, "status"), []byte("-1"), 0); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
}
