package kernel_test

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/profile"
)

const heldGroup asset.Group = "shop/store/web"

func limitRules(a profile.Answer, l profile.Limits) profile.Rules {
	r := profile.Rules{Group: heldGroup, Revision: 1, Limits: l, Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		r.Answers[c] = a
	}
	return r
}

func limiter(t *testing.T, o kernel.Options, file string) *kernel.Limiter {
	t.Helper()
	l, err := kernel.New(o).Limiter(file)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unifiedHost is a host with cgroups of version 2, as files.
func unifiedHost(t *testing.T, id string, files map[string]string) (o kernel.Options, dir string) {
	t.Helper()
	proc, sys := t.TempDir(), t.TempDir()
	dir = filepath.Join(sys, "fs/cgroup/ecs.slice/task", "docker-"+id+".scope")
	for name, content := range map[string]string{
		filepath.Join(proc, "1/mountinfo"):    "30 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
		filepath.Join(sys, "block/sda/dev"):   "8:0\n",
		filepath.Join(sys, "block/loop0/dev"): "7:0\n",
	} {
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, []byte(content), 0o644))
	}
	must(t, os.MkdirAll(dir, 0o755))
	for name, content := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	return kernel.Options{Proc: proc, Sys: sys}, dir
}

func newContainerID(t *testing.T) string {
	t.Helper()
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(raw[:])
}

func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		out[e.Name()] = strings.TrimSpace(string(b))
	}
	return out
}

// What is written in cgroups of version 2, only where it is narrower than what the
// engine set; what was before is given back, also by a program that starts anew.
func TestLimitsOfVersion2(t *testing.T) {
	id := newContainerID(t)
	before := map[string]string{"pids.max": "max", "memory.high": "1048576", "cpu.max": "max 100000", "io.max": "", "cgroup.procs": ""}
	o, dir := unifiedHost(t, id, before)
	file := filepath.Join(t.TempDir(), "limits.json")
	l := limiter(t, o, file)
	limits := profile.Limits{Processes: 64, Memory: 8 << 20, CPU: 1500, WriteBytes: 10 << 20}
	if err := l.Hold(id, heldGroup); !fault.Is(err, fault.NotFound) {
		t.Errorf("without rules: %v", err)
	}
	must(t, l.Set(limitRules(profile.Deny, limits)))
	must(t, l.Hold(id, heldGroup))
	want := map[string]string{"pids.max": "64", "memory.high": "1048576", "cpu.max": "150000 100000", "io.max": "8:0 wbps=10485760", "cgroup.procs": ""}
	if d := cmp.Diff(filesIn(t, dir), want); d != "" {
		t.Errorf("limited (-got +want):\n%s", d)
	}
	if held, err := l.Containers(); err != nil || held[id] != heldGroup {
		t.Errorf("held: %v, %v", held, err)
	}

	// A program that starts anew knows what was before.
	l = limiter(t, o, file)
	if groups, err := l.Groups(); err != nil || !cmp.Equal(groups, []asset.Group{heldGroup}) {
		t.Errorf("groups: %v, %v", groups, err)
	}
	must(t, l.Remove(heldGroup))
	want = map[string]string{"pids.max": "max", "memory.high": "1048576", "cpu.max": "max 100000", "io.max": "8:0 wbps=max", "cgroup.procs": ""}
	if d := cmp.Diff(filesIn(t, dir), want); d != "" {
		t.Errorf("let go (-got +want):\n%s", d)
	}
	if held, err := limiter(t, o, file).Containers(); err != nil || len(held) != 0 {
		t.Errorf("held after all was let go: %v, %v", held, err)
	}
}

// Rules that only look limit nothing, and changed ones take effect at once.
func TestLimitsFollowTheRules(t *testing.T) {
	id := newContainerID(t)
	o, dir := unifiedHost(t, id, map[string]string{"pids.max": "max"})
	l := limiter(t, o, filepath.Join(t.TempDir(), "limits.json"))
	for _, step := range []struct {
		answer profile.Answer
		most   uint64
		want   string
	}{
		{profile.Audit, 10, "max"}, {profile.Deny, 10, "10"}, {profile.Deny, 20, "20"}, {profile.Deny, 0, "max"}, {profile.Deny, 5, "5"}, {profile.Off, 5, "max"},
	} {
		must(t, l.Set(limitRules(step.answer, profile.Limits{Processes: step.most})))
		must(t, l.Hold(id, heldGroup))
		if got := filesIn(t, dir)["pids.max"]; got != step.want {
			t.Errorf("%s %d: pids.max is %s, want %s", step.answer, step.most, got, step.want)
		}
	}
	// A container that is not there yet is limited when it is.
	later := newContainerID(t)
	must(t, l.Set(limitRules(profile.Deny, profile.Limits{Processes: 7})))
	must(t, l.Hold(later, heldGroup))
	if held, err := l.Containers(); err != nil || held[later] != "" {
		t.Errorf("held: %v, %v", held, err)
	}
	begin := func() string {
		dir := filepath.Join(filepath.Dir(dir), later)
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "pids.max"), []byte("max"), 0o644))
		must(t, l.Hold(later, heldGroup))
		return filesIn(t, dir)["pids.max"]
	}
	if got := begin(); got != "7" {
		t.Errorf("pids.max is %s, want 7", got)
	}
	// One that is started again has a new cgroup.
	must(t, os.Rename(filepath.Join(filepath.Dir(dir), later), filepath.Join(filepath.Dir(dir), "former")))
	if got := begin(); got != "7" {
		t.Errorf("started again: pids.max is %s, want 7", got)
	}
}

// A start that was killed after it had written down what was before, and before it had set
// all limits, or given back all of them, is made up for by the next; containers that are
// gone by then are forgotten.
func TestLimitsThatWereSetByHalf(t *testing.T) {
	id, gone := newContainerID(t), newContainerID(t)
	before := map[string]string{"pids.max": "max", "memory.high": "max", "cpu.max": "max 100000", "io.max": "", "cgroup.procs": ""}
	o, dir := unifiedHost(t, id, before)
	file := filepath.Join(t.TempDir(), "limits.json")
	rules := limitRules(profile.Deny, profile.Limits{Processes: 64, Memory: 8 << 20, CPU: 1500, WriteBytes: 10 << 20})
	l := limiter(t, o, file)
	must(t, l.Set(rules))
	other := filepath.Join(filepath.Dir(dir), "docker-"+gone+".scope")
	must(t, os.Mkdir(other, 0o755))
	must(t, os.WriteFile(filepath.Join(other, "pids.max"), []byte("max"), 0o644))
	must(t, l.HoldAll(map[string]asset.Group{id: heldGroup, gone: heldGroup}))
	want := filesIn(t, dir)
	for _, lacking := range []string{"pids.max", "memory.high", "cpu.max", "io.max"} {
		must(t, os.WriteFile(filepath.Join(dir, lacking), []byte(before[lacking]), 0o644))
	}
	must(t, os.RemoveAll(other))

	l = limiter(t, o, file)
	must(t, l.Set(rules))
	if d := cmp.Diff(filesIn(t, dir), want); d != "" {
		t.Errorf("limited by the next start (-got +want):\n%s", d)
	}
	must(t, l.Remove(heldGroup))
	delete(before, "io.max") // a file of the kernel has no line for what is not limited
	got := filesIn(t, dir)
	delete(got, "io.max")
	if d := cmp.Diff(got, before); d != "" {
		t.Errorf("let go (-got +want):\n%s", d)
	}
	b, err := os.ReadFile(file)
	must(t, err)
	if string(b) != "{}" {
		t.Errorf("written down is %s, want nobody", b)
	}
}

// Another program that gives containers back what they had, as who releases a host does
// while the agent is stopped, is noticed.
func TestLimitsThatAnotherGaveBackAreLost(t *testing.T) {
	id := newContainerID(t)
	o, dir := unifiedHost(t, id, map[string]string{"pids.max": "max"})
	file := filepath.Join(t.TempDir(), "limits.json")
	rules := limitRules(profile.Deny, profile.Limits{Processes: 64})
	l := limiter(t, o, file)
	if l.Lost() {
		t.Error("lost before there was anything")
	}
	must(t, l.Set(rules))
	must(t, l.Hold(id, heldGroup))
	if l.Lost() {
		t.Error("what this program wrote is lost")
	}
	must(t, limiter(t, o, file).Remove(heldGroup))
	if !l.Lost() || l.Lost() {
		t.Error("that another gave back what was is not said once")
	}
	if held, err := l.Containers(); err != nil || len(held) != 0 {
		t.Errorf("held: %v, %v", held, err)
	}
	must(t, l.Set(rules))
	must(t, l.Hold(id, heldGroup))
	if got := filesIn(t, dir)["pids.max"]; got != "64" {
		t.Errorf("pids.max is %s, want 64", got)
	}
}

func TestDamagedLimiterFileIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits.json")
	must(t, os.WriteFile(file, []byte("{"), 0o600))
	if _, err := kernel.New(kernel.Options{}).Limiter(file); !fault.Is(err, fault.Corrupt) || fault.Remedy(err) == "" {
		t.Errorf("got %v, want Corrupt with a remedy", err)
	}
}

// On this host: a shell that would exhaust it is held back, and given back what it
// had.
func TestLimitsOfThisHost(t *testing.T) {
	need.Root(t)
	id := newContainerID(t)
	dirs := groups(t, id)
	sh, do := shell(t)
	for _, dir := range dirs {
		set(t, dir, "cgroup.procs", strconv.Itoa(sh.Process.Pid))
	}
	t.Cleanup(func() { // those whose parent died of the limit
		b, err := os.ReadFile(filepath.Join(dirs["pids"], "cgroup.procs"))
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid != sh.Process.Pid {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		}
	})
	l := limiter(t, kernel.Options{}, filepath.Join(t.TempDir(), "limits.json"))
	must(t, l.Set(limitRules(profile.Deny, profile.Limits{Processes: 5, Memory: 64 << 20, CPU: 500, Descriptors: 32, WriteBytes: 1 << 20})))
	must(t, l.Hold(id, heldGroup))
	read := func(controller, name string) string {
		b, err := os.ReadFile(filepath.Join(dirs[controller], name))
		must(t, err)
		return strings.TrimSpace(string(b))
	}
	until(t, "descriptors", func() bool { return descriptorsOf(t, sh.Process.Pid) == "32" })
	if got := []string{read("pids", "pids.max"), read("memory", "memory.limit_in_bytes"), read("cpu", "cpu.cfs_quota_us")}; !cmp.Equal(got, []string{"5", "67108864", "50000"}) {
		t.Errorf("limits are %v", got)
	}
	do("(for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done) 2>/dev/null")
	until(t, "refused processes", func() bool {
		b, err := os.ReadFile(filepath.Join(dirs["pids"], "pids.events"))
		return err == nil && !strings.Contains(string(b), "max 0\n")
	})
	must(t, l.Forget(id))
	if got := []string{read("pids", "pids.max"), read("cpu", "cpu.cfs_quota_us")}; !cmp.Equal(got, []string{"max", "-1"}) {
		t.Errorf("let go, limits are %v", got)
	}
	until(t, "descriptors", func() bool { return descriptorsOf(t, sh.Process.Pid) != "32" })
}

// descriptorsOf returns the soft limit of a process.
func descriptorsOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			return strings.Fields(rest)[0]
		}
	}
	return ""
}
