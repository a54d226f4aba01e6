package guest_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/test/vm"
	"github.com/castellan-security/castellan/test/vm/guest"
)

const (
	// patience is how long a test polls for what happens by itself; an emulated
	// processor is slow.
	patience = 20 * time.Second
	// fewestPolls is how often it looks at least, however long that takes.
	fewestPolls = 100
)

func TestMain(m *testing.M) {
	_, err := os.Stat(guest.Marker)
	if id := os.Getenv(holdEnv); err == nil && id != "" {
		fmt.Println(holdUntilKilled(id))
		return
	}
	if err != nil || os.Getpid() != 1 {
		fmt.Println("these tests run only inside the virtual machine: go test ./test/vm")
		return
	}
	status := m.Run()
	fmt.Printf("%s%d\n", vm.EndMark, status)
	// With -no-reboot this ends the emulator, on every architecture.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		fmt.Println("stop guest:", err)
	}
}

// exitCode runs a program to its end and returns its exit code.
func exitCode(t *testing.T, program string, args ...string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		if len(out) > 0 {
			t.Logf("%s: %s", program, out)
		}
		return ended.ExitCode()
	}
	if err != nil {
		t.Fatalf("run %s: %v", program, err)
	}
	return 0
}

// eventually polls until done, and fails the test after its patience.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	if !waited(done) {
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// waited polls until done, or for as long as it is patient, and says whether it is done.
// A machine that stood still is asked often enough all the same.
func waited(done func() bool) bool {
	end := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for polls := 0; !done(); polls++ {
		if polls >= fewestPolls && time.Now().After(end) {
			return false
		}
		<-tick.C
	}
	return true
}

func isErrno(err error, want syscall.Errno) bool { return errors.Is(err, want) }
