package kernel_test

import (
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/asset"
)

const (
	mountsV1 = "30 24 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n" +
		"31 30 0:27 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n"
	mountsHybrid = mountsV1 + "32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
	mountsV2     = "31 24 0:27 / /sys/fs/cgroup rw shared:10 master:2 - cgroup2 cgroup2 rw\n"
	allCaps      = "CapEff:\t000001ffffffffff\n"
)

// machine is a fake host; New makes the rest of it whole.
type machine struct {
	mounts, lsm, caps, pidNamespace string
	noBTF                           bool
}

func (m machine) host(t *testing.T, probe func(string) error) *kernel.Host {
	t.Helper()
	proc, sys := t.TempDir(), t.TempDir()
	in := func(parts ...string) string { return filepath.Join(proc, filepath.Join(parts...)) }
	write(t, in("sys/kernel/osrelease"), "6.1.0-1-test\n")
	write(t, in("sys/kernel/random/boot_id"), "17d94007-3878-4036-a8da-b876eaa9b26b\n")
	write(t, in("meminfo"), "MemTotal:        2048 kB\nMemFree:            1 kB\n")
	write(t, in("self/status"), "Name:\tagent\n"+def(m.caps, allCaps))
	write(t, in("1/mountinfo"), m.mounts)
	write(t, in("1/root/usr/lib/os-release"), "NAME=x\nPRETTY_NAME=\"Test \\\"OS\\\" 1\"\n")
	link(t, "../usr/lib/os-release", in("1/root/etc/os-release"))
	link(t, def(m.pidNamespace, "pid:[4026531836]"), in("1/ns/pid"))
	write(t, filepath.Join(sys, "devices/system/cpu/online"), "0-3,6\n")
	if !m.noBTF {
		write(t, filepath.Join(sys, "kernel/btf/vmlinux"), "")
	}
	if m.lsm != "-" {
		write(t, filepath.Join(sys, "kernel/security/lsm"), def(m.lsm, "lockdown,capability,bpf"))
	}
	return kernel.New(kernel.Options{Proc: proc, Sys: sys, Probe: probe})
}

func granted(string) error { return nil }

// refused refuses the kinds of BPF program in list.
func refused(list ...string) func(string) error {
	return func(kind string) error {
		for _, k := range list {
			if k == kind {
				return errors.New("operation not permitted")
			}
		}
		return nil
	}
}

func TestDescribeWhole(t *testing.T) {
	got, rungs := machine{mounts: mountsV2}.host(t, granted).Describe(t.Context())
	want := asset.Host{
		OS: `Test "OS" 1`, Kernel: "6.1.0-1-test", Arch: runtime.GOARCH,
		BootID: "17d94007-3878-4036-a8da-b876eaa9b26b", CPUs: 5, Memory: 2 << 20,
		Cgroup: "v2", BTF: true, LSMs: []string{"lockdown", "capability", "bpf"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Describe (-want +got):\n%s", diff)
	}
	controls := map[string]string{}
	for _, r := range rungs {
		controls[r.Control] = r.Best
		if !r.Enforces || !strings.Contains(r.Why, "are held by it") {
			t.Errorf("%s: enforces %v, why %q; want that groups are held by it", r.Control, r.Enforces, r.Why)
		}
	}
	wantRungs := map[string]string{
		"exec": "BPF LSM (refused before it starts)", "file": "BPF LSM",
		"network": "cgroup BPF (connect, sendmsg, bind)", "privilege": "BPF LSM",
	}
	if diff := cmp.Diff(wantRungs, controls); diff != "" {
		t.Errorf("rungs (-want +got):\n%s", diff)
	}
}

func TestDescribeEmpty(t *testing.T) {
	h := kernel.New(kernel.Options{Proc: t.TempDir(), Sys: t.TempDir()})
	got, rungs := h.Describe(t.Context())
	if len(got.Missing) < 4 {
		t.Errorf("missing = %q, want a sentence for rights, BTF, security modules and cgroups", got.Missing)
	}
	if len(rungs) != 4 {
		t.Errorf("%d rungs, want 4", len(rungs))
	}
}

func TestDescribeCgroup(t *testing.T) {
	tests := []struct{ name, mounts, want string }{
		{"v1", mountsV1, "v1"},
		{"hybrid", mountsHybrid, "hybrid"},
		{"v2", mountsV2, "v2"},
		{"none", "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n", ""},
		{"a path that looks like a type", `24 1 8:1 / /a\040-\040cgroup2 rw - ext4 x rw` + "\n", ""},
		{"cut", "24 1 8:1 / / rw -", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := machine{mounts: tt.mounts}.host(t, granted).Describe(t.Context())
			if got.Cgroup != tt.want {
				t.Errorf("cgroup = %q, want %q", got.Cgroup, tt.want)
			}
		})
	}
}

func TestDescribeMissing(t *testing.T) {
	tests := []struct {
		name    string
		machine machine
		probe   func(string) error
		want    []string // parts of the only sentence
	}{
		{"nothing", machine{mounts: mountsV2}, granted, nil},
		{"BTF", machine{mounts: mountsV2, noBTF: true}, granted, []string{"no BTF at ", "CONFIG_DEBUG_INFO_BTF"}},
		{"all rights", machine{mounts: mountsV2, caps: "CapEff:\t0000000000000000\n"}, granted,
			[]string{"SYS_PTRACE, PERFMON, BPF", "as root"}},
		{"one right", machine{mounts: mountsV2, caps: "CapEff:\t0000000000200000\n"}, granted,
			[]string{"lacks the capabilities SYS_PTRACE:"}},
		{"securityfs", machine{mounts: mountsV2, lsm: "-"}, granted, []string{"mount -t securityfs none "}},
		{"BPF LSM", machine{mounts: mountsV2, lsm: "capability,apparmor"}, granted,
			[]string{"(capability,apparmor)", "lsm="}},
		{"trampolines", machine{mounts: mountsV2}, refused("lsm"), []string{"was refused", "can't be denied"}},
		{"cgroups", machine{}, granted, []string{"no cgroup file system"}},
		{"host processes", machine{mounts: mountsV2, pidNamespace: "pid:[4026532190]"}, granted, []string{"--pid=host"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := tt.machine.host(t, tt.probe).Describe(t.Context())
			if tt.want == nil {
				if len(got.Missing) != 0 {
					t.Errorf("missing = %q, want nothing", got.Missing)
				}
				return
			}
			if len(got.Missing) != 1 {
				t.Fatalf("missing = %q, want one sentence", got.Missing)
			}
			for _, part := range tt.want {
				if !strings.Contains(got.Missing[0], part) {
					t.Errorf("missing = %q, want it to say %q", got.Missing[0], part)
				}
			}
		})
	}
}

// fanotify and Landlock are asked of the real kernel, so only what does not
// depend on them is expected.
func TestDescribeRungs(t *testing.T) {
	tests := []struct {
		name, control string
		machine       machine
		probe         func(string) error
		best, why     string // best is empty where the real kernel decides
	}{
		{"LSM refused", "exec", machine{mounts: mountsV2}, refused("lsm"),
			"signal at exec (killed before its first instruction)", "a BPF security module program was refused (operation not permitted)"},
		{"LSM not active", "exec", machine{mounts: mountsV2, lsm: "capability"}, granted,
			"signal at exec (killed before its first instruction)", "BPF is not among the active security modules"},
		{"LSM tried on a kernel without types", "exec", machine{mounts: mountsV2}, nil,
			"", "a BPF security module program was refused (read BTF: "},
		{"cgroup refused", "network", machine{mounts: mountsV2}, refused("cgroup"), "TCX in the task's network namespace", "was refused"},
		{"no cgroup v2", "network", machine{mounts: mountsV1}, refused("tcx"), "report only", "nothing that could enforce was found"},
		{"files without LSM", "file", machine{mounts: mountsV2, lsm: "capability"}, granted, "report only", "BPF is not among the active security modules"},
		{"calls without LSM", "privilege", machine{mounts: mountsV2, lsm: "capability"}, granted, "signal at the system call", "are held by it"},
		{"profiles alone", "privilege", machine{mounts: mountsV2, lsm: "apparmor", noBTF: true}, granted,
			"seccomp and AppArmor profiles at start", "seccomp and AppArmor are active"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, rungs := tt.machine.host(t, tt.probe).Describe(t.Context())
			for _, r := range rungs {
				if r.Control != tt.control {
					continue
				}
				if tt.best != "" && r.Best != tt.best {
					t.Errorf("best = %q, want %q", r.Best, tt.best)
				}
				if !strings.Contains(r.Why, tt.why) {
					t.Errorf("why = %q, want it to say %q", r.Why, tt.why)
				}
				return
			}
			t.Errorf("no rung for %s", tt.control)
		})
	}
}

func TestUsage(t *testing.T) {
	got := kernel.New(kernel.Options{}).Usage()
	if got.CPUSeconds <= 0 || got.RSS < 1<<20 || got.Goroutines < 1 {
		t.Errorf("Usage = %+v, want CPU time, at least 1 MiB and a goroutine", got)
	}
}
