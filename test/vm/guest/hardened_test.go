package guest_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/test/vm/guest"
)

// What castellan harden writes for AppArmor is loaded, and holds a program to the
// profile: what was learned is done, the rest refused, and hostile names are names.
func TestHardenedProfileIsEnforced(t *testing.T) {
	hardenedWorld(t)
	policy, err := os.ReadFile(guest.Hardened)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/sys/kernel/security/apparmor/.replace", policy, 0); err != nil {
		t.Fatalf("load profile: %v", err)
	}
	twin := strings.NewReplacer("?", "z", "[a-c]", "b", "{d,e}", "d", "^", "", "@{PROC}", "/proc")
	for _, tt := range []struct {
		name string
		do   []string
		want syscall.Errno
	}{
		{"reads what is not sensitive", []string{"read", "/etc/plain"}, 0},
		{"reads a secret that was learned", []string{"read", "/run/secrets/kept"}, 0},
		{"reads another secret", []string{"read", "/run/secrets/other"}, syscall.EACCES},
		{"reads a secret that begins like it", []string{"read", "/run/secrets/kep"}, syscall.EACCES},
		{"reads a secret that goes on behind it", []string{"read", "/run/secrets/kept2"}, syscall.EACCES},
		{"reads a secret that differs within", []string{"read", "/run/secrets/kipt"}, syscall.EACCES},
		{"reads the shadow file", []string{"read", "/etc/shadow"}, syscall.EACCES},
		{"reads a key", []string{"read", "/home/a/.ssh/id_rsa"}, syscall.EACCES},
		{"writes what a pattern stands for", []string{"write", "/tmp/x-1"}, 0},
		{"makes a folder that a pattern stands for", []string{"mkdir", "/tmp/x-2"}, 0},
		{"writes beside it", []string{"write", "/tmp/y-1"}, syscall.EACCES},
		{"writes below it", []string{"write", "/tmp/x-2/below"}, syscall.EACCES},
		{"writes below a hostile name", []string{"write", guest.Weird + "/a/b"}, 0},
		{"writes where the name would be a glob", []string{"write", twin.Replace(guest.Weird) + "/a/b"}, syscall.EACCES},
		{"writes a name that ends with a backslash", []string{"write", `/srv/end\`}, 0},
		{"writes that name without it", []string{"write", "/srv/end"}, syscall.EACCES},
		{"writes one file", []string{"write", "/srv/one"}, 0},
		{"writes another", []string{"write", "/srv/two"}, syscall.EACCES},
		{"writes what it reads", []string{"write", "/etc/plain"}, syscall.EACCES},
		{"writes over its program", []string{"write", "/opt/allowed-1"}, syscall.EACCES},
		{"writes to the host's kernel", []string{"write", "/proc/sys/kernel/core_pattern"}, syscall.EACCES},
		{"writes to nowhere", []string{"write", "/dev/null"}, 0},
		{"runs what was learned", []string{"run", "/opt/allowed-1"}, 0},
		{"runs what was not", []string{"run", "/opt/other"}, syscall.EACCES},
		{"runs what it wrote", []string{"run", "/tmp/x-program"}, syscall.EACCES},
		{"runs a file in memory", []string{"memfd"}, syscall.EACCES},
		{"maps a library of the image", []string{"map", "/opt/other"}, 0},
		{"maps what it wrote as code", []string{"map", "/tmp/x-program"}, syscall.EACCES},
		{"mounts", []string{"mount", "/mnt"}, syscall.EACCES},
		{"gives a file away", []string{"chown", "/tmp/x-1"}, syscall.EPERM},
		{"leaves its namespaces", []string{"unshare"}, syscall.EPERM},
		{"opens a TCP socket", []string{"socket", "tcp"}, 0},
		{"opens a raw socket", []string{"socket", "raw"}, syscall.EACCES},
		{"opens a packet socket", []string{"socket", "packet"}, syscall.EACCES},
		{"signals a process that is not of its container", []string{"signal", "1"}, syscall.EACCES},
	} {
		t.Run(tt.name, func(t *testing.T) {
			free := exitCode(t, guest.Subject, tt.do...)
			if free != 0 {
				t.Errorf("not confined: %v, want none", syscall.Errno(free))
			}
			confined := append([]string{"confined", "castellan-vm.test.subject", guest.Subject}, tt.do...)
			if got := syscall.Errno(exitCode(t, guest.Subject, confined...)); got != tt.want {
				t.Errorf("confined: %v, want %v", got, tt.want)
			}
		})
	}
	t.Run("the engine starts what is not listed, as the report says", func(t *testing.T) {
		if got := exitCode(t, guest.Subject, "confined", "castellan-vm.test.subject", "/opt/other", "exit", "7"); got != 7 {
			t.Errorf("exit code %d, want 7", got)
		}
	})
	t.Run("the engine ends it", hardenedIsEnded)
}

// hardenedWorld makes what the program comes upon.
func hardenedWorld(t *testing.T) {
	t.Helper()
	program, err := os.ReadFile(guest.Subject)
	if err != nil {
		t.Fatal(err)
	}
	twin := strings.NewReplacer("?", "z", "[a-c]", "b", "{d,e}", "d", "^", "", "@{PROC}", "/proc").Replace(guest.Weird)
	files := map[string][]byte{"/opt/allowed-1": program, "/opt/other": program, "/tmp/x-program": program}
	for _, name := range []string{
		"/etc/plain", "/etc/shadow", "/run/secrets/kept", "/run/secrets/other", "/run/secrets/kep", "/run/secrets/kept2", "/run/secrets/kipt",
		"/home/a/.ssh/id_rsa", "/tmp/x-1", "/tmp/y-1", guest.Weird + "/a/c", twin + "/a/b", `/srv/end\`, "/srv/end", "/srv/one", "/srv/two",
	} {
		files[name] = []byte("x")
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
}

// hardenedIsEnded has a confined program be ended by one that is not, as an
// engine does.
func hardenedIsEnded(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), guest.Subject, "confined", "castellan-vm.test.subject", guest.Subject, "wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("it says %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("end it: %v", err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("it ended with %v, want by the signal", err)
	}
}
