package guest_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/vm/guest"
)

// What an open costs in a container that is held, in one that is not, and without any
// programs. The figures are those of an emulated processor; their ratio is what counts,
// and it is told, not judged: it runs when it is asked for by its name.
func TestWhatAnOpenCosts(t *testing.T) {
	if !strings.Contains(flag.Lookup("test.run").Value.String(), "TestWhatAnOpenCosts") {
		t.Skip("a measurement: go test -v -run TestGuestAMD64/TestWhatAnOpenCosts ./test/vm")
	}
	needLSM(t)
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlFile, bpf.OpenFileGuard)
	c := g.new(t, roots) // nothing is loaded yet
	measure := func(when string, c container) {
		into, err := os.Open(c.cgroups[0])
		if err != nil {
			t.Fatal(err)
		}
		defer into.Close()
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), guest.Subject, "enter", "", c.root, guest.Subject, "steps",
			"timed=read,/bin/subject", "timed=write,/data/id_rsa", "timed=make,/data/new", "timed=read,/data/tls/own.key")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, UseCgroupFD: true, CgroupFD: int(into.Fd())}
		cmd.Stdout = &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		t.Logf("%s: %s", when, strings.Join(strings.Fields(out.String()), " "))
	}
	for range 2 {
		measure("nothing loaded", c)
		g.set(profile.Deny, fileRules())
		other := g.beside(t, c, roots)
		measure("held", other)
		if err := g.Forget(other.id); err != nil {
			t.Fatal(err)
		}
		measure("not held", other)
		if err := g.Remove("a/b/c"); err != nil {
			t.Fatal(err)
		}
	}
}
