package guest_test

import (
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/event"
)

// What the agent says about a host is right on every cgroup layout. Both
// kernels list BPF among their security modules; the one for arm64 has no
// trampolines (Linux 6.4 has them there), so that only trying tells.
func TestHostDescribe(t *testing.T) {
	best := map[string]string{
		"exec": "BPF LSM (refused before it starts)", "file": "BPF LSM", "privilege": "BPF LSM",
	}
	missing := ""
	if runtime.GOARCH == "arm64" {
		best = map[string]string{
			"exec": "signal at exec (killed before its first instruction)", "file": "report only",
			"privilege": "signal at the system call",
		}
		missing = "BPF is an active security module, but a BPF security module program was refused"
	}
	for _, l := range commonLayouts() {
		t.Run(l.name, func(t *testing.T) {
			l.mount(t)
			host, rungs := kernel.New(kernel.Options{}).Describe(t.Context())
			if host.Cgroup != l.mode {
				t.Errorf("cgroup = %q, want %q", host.Cgroup, l.mode)
			}
			if !host.BTF || !slices.Contains(host.LSMs, "bpf") || !slices.Contains(host.LSMs, "apparmor") {
				t.Errorf("BTF %v, security modules %q, want BTF, bpf and apparmor", host.BTF, host.LSMs)
			}
			if got := strings.Join(host.Missing, "; "); !strings.HasPrefix(got, missing) || (missing == "") != (got == "") {
				t.Errorf("missing = %q, want %q and nothing else", got, missing)
			}
			want := maps.Clone(best)
			want["network"] = "cgroup BPF (connect, sendmsg, bind)"
			if l.v2 == "" {
				want["network"] = "report only"
			}
			got := map[string]string{}
			for _, r := range rungs {
				got[r.Control] = r.Best
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rungs (-want +got):\n%s", diff)
			}
		})
	}
}

// A process is found with its container on every cgroup layout, and one of the
// host without.
func TestHostProcesses(t *testing.T) {
	for _, l := range commonLayouts() {
		t.Run(l.name, func(t *testing.T) {
			c := newContainer(t, newID(t), l.mount(t))
			pid := c.wait(t)
			got, err := kernel.New(kernel.Options{}).Processes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			found := process(t, got, pid)
			if found.WorkloadID != c.id || found.Process.Executable != "/bin/subject" || found.Process.ContainerPID != 1 {
				t.Errorf("found %+v, want /bin/subject as process 1 of container %s", found, c.id)
			}
			if self := process(t, got, 1); self.WorkloadID != "" || self.Origin != event.OriginHost {
				t.Errorf("process 1: container %q, origin %q, want one of the host", self.WorkloadID, self.Origin)
			}
		})
	}
}

func process(t *testing.T, all []event.Running, pid int) event.Running {
	t.Helper()
	for _, r := range all {
		if int(r.Process.Key.PID) == pid {
			return r
		}
	}
	t.Fatalf("process %d is not among the %d listed", pid, len(all))
	return event.Running{}
}
