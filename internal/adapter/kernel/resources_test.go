package kernel_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
)

// recordedID is the container in the recorded hosts.
var recordedID = strings.Repeat("4f2a", 16)

// recordedHost unpacks a recorded host and returns it with its folder.
func recordedHost(t *testing.T, name string) (*kernel.Host, string) {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "resources", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := txtar.Write(archive, dir); err != nil {
		t.Fatal(err)
	}
	return kernel.New(kernel.Options{Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys")}), dir
}

func workload(id string, pid int) asset.Workload {
	return asset.Workload{ID: id, State: asset.Running, PID: pid}
}

// rewrite replaces a file of a recorded host.
func rewrite(t *testing.T, dir, pattern, text string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s is %d files: %v", pattern, len(found), err)
	}
	if err := os.WriteFile(found[0], []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSamplesOfRecordedHosts(t *testing.T) {
	base := asset.Sample{
		WorkloadID: recordedID, CPU: 6123456789, Throttled: 3 * time.Second, CPULimit: 500, Memory: 30 << 20,
		MemoryLimit: 64 << 20, Pids: 5, DiskRead: 4096, DiskWritten: 8192, NetworkReceived: 1 << 20,
		NetworkSent: 1 << 19, OOMKills: 2,
	}
	tests := []struct {
		name   string
		change func(*asset.Sample)
	}{
		{"v1", func(*asset.Sample) {}},
		{"v2", func(s *asset.Sample) { s.CPU, s.DiskRead = 6123456*time.Microsecond, 4196 }},
		{"hybrid", func(s *asset.Sample) {
			s.CPULimit, s.MemoryLimit, s.PidsLimit, s.DiskRead, s.DiskWritten = 0, 0, 100, 0, 0
			s.Missing = []string{"disk_read_bytes", "disk_written_bytes"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, _ := recordedHost(t, tt.name)
			got, events := h.Samples(t.Context(), []asset.Workload{workload(recordedID, 4242)})
			want := base
			tt.change(&want)
			// A folder's size is the number of descriptors on a proc file system only.
			ignore := cmpopts.IgnoreFields(asset.Sample{}, "Time", "Descriptors")
			if d := cmp.Diff(got, []asset.Sample{want}, ignore); d != "" {
				t.Errorf("samples (-got +want):\n%s", d)
			}
			if got[0].Time.IsZero() || len(events) > 0 {
				t.Errorf("at %v with events %+v", got[0].Time, events)
			}
		})
	}
}

func TestSamplesOfWhatIsNotThere(t *testing.T) {
	h, _ := recordedHost(t, "v2")
	other := strings.Repeat("00ff", 16)
	stopped := workload(recordedID, 4242)
	stopped.State = asset.Exited
	got, events := h.Samples(t.Context(), []asset.Workload{workload(other, 4242), workload(recordedID, 99), stopped})
	if len(got) != 2 || len(events) > 0 {
		t.Fatalf("%d samples and %d events, want 2 and 0", len(got), len(events))
	}
	for _, s := range got {
		const all = 13
		if len(s.Missing) != all {
			t.Errorf("%s: missing %q, want all %d fields", s.WorkloadID, s.Missing, all)
		}
		if d := cmp.Diff(s, asset.Sample{WorkloadID: s.WorkloadID, Time: s.Time, Missing: s.Missing}); d != "" {
			t.Errorf("something is told all the same (-got +want):\n%s", d)
		}
	}
}

func TestResourceEvents(t *testing.T) {
	h, dir := recordedHost(t, "v2")
	all := []asset.Workload{workload(recordedID, 4242)}
	next := func() []event.Event {
		t.Helper()
		_, events := h.Samples(t.Context(), all)
		for i := range events {
			if e := events[i]; e.WorkloadID != recordedID || e.Process.Key != (event.Key{PID: 4242, Start: 2_500_000_000}) || e.Process.Name != "nginx" {
				t.Errorf("event is of %q, %+v", e.WorkloadID, e.Process)
			}
		}
		return events
	}
	check := func(what string, want ...event.Event) {
		t.Helper()
		ignore := cmpopts.IgnoreFields(event.Event{}, "Time", "Last", "WorkloadID", "Process")
		if d := cmp.Diff(next(), want, ignore, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(event.Resource{}, "Used")); d != "" {
			t.Errorf("%s (-got +want):\n%s", what, d)
		}
	}
	memory := func(kind event.Kind, count uint64) event.Event {
		return event.Event{Kind: kind, Count: count, Resource: &event.Resource{What: "memory", Limit: 64 << 20}}
	}
	const group = "sys/fs/cgroup/*/*/*/"
	check("the first time")
	rewrite(t, dir, group+"memory.events", "oom_kill 3\n")
	check("one more kill", memory(event.KindOOM, 0))
	check("and no further")
	rewrite(t, dir, group+"memory.events", "oom_kill 5\n")
	check("two more kills", memory(event.KindOOM, 2))

	rewrite(t, dir, group+"memory.current", strconv.Itoa(83<<20))
	check("memory comes close to its limit", memory(event.KindLimit, 0))
	check("and stays there")
	rewrite(t, dir, group+"memory.current", strconv.Itoa(76<<20))
	check("a little less")
	rewrite(t, dir, group+"memory.current", strconv.Itoa(83<<20))
	check("and as much again")
	rewrite(t, dir, group+"memory.current", strconv.Itoa(40<<20))
	check("much less")
	rewrite(t, dir, group+"memory.current", strconv.Itoa(83<<20))
	check("as much again after that", memory(event.KindLimit, 0))

	rewrite(t, dir, group+"pids.max", "5\n")
	check("processes", event.Event{Kind: event.KindLimit, Resource: &event.Resource{What: "pids", Limit: 5}})

	rewrite(t, dir, group+"cpu.stat", "usage_usec 7000000\nthrottled_usec 900000000\n")
	check("throttled", event.Event{Kind: event.KindThrottle, Resource: &event.Resource{What: "cpu", Limit: 500}})
	rewrite(t, dir, group+"cpu.stat", "usage_usec 7000000\nthrottled_usec 9000000000\n")
	check("throttled within the same minute")

	all[0].State, all[0].OOMKilled = asset.Exited, true
	check("ended for want of memory", memory(event.KindOOM, 0))
	check("which is told once")
}

// groups makes a container's cgroups in the hierarchies of version 1 where they
// are usually mounted, and returns them by controller.
func groups(t *testing.T, id string) map[string]string {
	t.Helper()
	dirs := map[string]string{}
	for _, controller := range []string{"memory", "cpu", "cpuacct", "pids", "blkio"} {
		root := filepath.Join("/sys/fs/cgroup", controller)
		if _, err := os.Stat(filepath.Join(root, "tasks")); err != nil {
			t.Skipf("no hierarchy of version 1 for %s here: skipped, see the recorded hosts for the others", controller)
		}
		parent := filepath.Join(root, "castellan-test-"+id[:8])
		dir := filepath.Join(parent, id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			until(t, "removal of "+dir, func() bool { return os.Remove(dir) == nil })
			if err := os.Remove(parent); err != nil {
				t.Error(err)
			}
		})
		dirs[controller] = dir
	}
	return dirs
}

func set(t *testing.T, dir, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// until asks again and again until something is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 30 s", what)
		}
		<-tick.C
	}
}

// shell starts a shell that does what it is sent, and ends with the test.
func shell(t *testing.T) (*exec.Cmd, func(line string)) {
	t.Helper()
	sh := exec.Command("sh")
	in, err := sh.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sh.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = sh.Wait() // it was killed
	})
	return sh, func(line string) {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSamplesOfThisHost(t *testing.T) {
	need.Root(t)
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		t.Fatal(err)
	}
	id := hex.EncodeToString(raw[:])
	dirs := groups(t, id) // removed when the shell has ended
	sh, do := shell(t)
	for _, dir := range dirs {
		set(t, dir, "cgroup.procs", strconv.Itoa(sh.Process.Pid))
	}
	h := kernel.New(kernel.Options{})
	all := []asset.Workload{workload(id, sh.Process.Pid)}
	var last asset.Sample
	told := map[event.Kind]event.Event{}
	look := func() {
		t.Helper()
		samples, events := h.Samples(t.Context(), all)
		if len(samples) != 1 {
			t.Fatalf("%d samples, want 1", len(samples))
		}
		last = samples[0]
		for _, e := range events {
			told[e.Kind] = e
		}
	}
	look()
	if len(last.Missing) > 0 {
		t.Errorf("missing %q", last.Missing)
	}
	if last.Pids != 1 || last.PidsLimit != 0 || last.MemoryLimit != 0 || last.CPULimit != 0 {
		t.Errorf("without limits: %+v", last)
	}
	before := last.Descriptors
	do("exec 5</dev/null 6</dev/null 7</dev/null")
	until(t, "opened files", func() bool { look(); return last.Descriptors == before+3 })

	set(t, dirs["pids"], "pids.max", "20")
	set(t, dirs["memory"], "memory.limit_in_bytes", strconv.Itoa(16<<20))
	set(t, dirs["cpu"], "cpu.cfs_quota_us", "10000")
	do("tail /dev/zero") // keeps the last line, which never ends
	until(t, "kill for want of memory", func() bool { look(); return last.OOMKills > 0 })
	if e, ok := told[event.KindOOM]; !ok || e.Resource.Limit != 16<<20 || e.Process.Key.PID != uint32(sh.Process.Pid) || e.Process.Name != "sh" {
		t.Errorf("told of the kill: %+v", e)
	}
	if last.MemoryLimit != 16<<20 || last.PidsLimit != 20 || last.CPULimit != 100 {
		t.Errorf("limits: %+v", last)
	}
	do("while :; do :; done")
	used := last.CPU
	until(t, "throttling", func() bool { look(); return told[event.KindThrottle].Resource != nil })
	if r := told[event.KindThrottle].Resource; r.Limit != 100 || last.Throttled == 0 || last.CPU < used {
		t.Errorf("throttled: %+v, %+v", r, last)
	}
}

// What it costs to sample one container of this host.
func BenchmarkSamples(b *testing.B) {
	need.Root(b)
	h := kernel.New(kernel.Options{})
	file, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || bytes.Contains(file, []byte("docker")) {
		b.Skip("this process is in a container itself")
	}
	id := strings.Repeat("00ff", 16)
	for _, controller := range []string{"memory", "cpu", "cpuacct", "pids", "blkio"} {
		parent := filepath.Join("/sys/fs/cgroup", controller, "castellan-bench")
		dir := filepath.Join(parent, id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Skip("no such hierarchy here")
		}
		own := strconv.Itoa(os.Getpid())
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(own), 0); err != nil {
			b.Fatal(err)
		}
		home := "/"
		for line := range strings.Lines(string(file)) {
			if _, rest, _ := strings.Cut(strings.TrimSpace(line), ":"); strings.HasPrefix(rest, controller+":") {
				_, home, _ = strings.Cut(rest, ":")
			}
		}
		b.Cleanup(func() {
			root := filepath.Join("/sys/fs/cgroup", controller, home)
			if err := os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte(own), 0); err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(dir); err != nil {
				b.Error(err)
			}
			if err := os.Remove(parent); err != nil {
				b.Error(err)
			}
		})
	}
	all := []asset.Workload{workload(id, os.Getpid())}
	for b.Loop() {
		if samples, _ := h.Samples(b.Context(), all); len(samples) != 1 || len(samples[0].Missing) > 0 {
			b.Fatalf("%+v", samples)
		}
	}
}
