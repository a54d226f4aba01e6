package bpf_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// What runs is listed as the sensor told it when it began, to the nanosecond.
func TestRunning(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	id := newID(t)
	dir := cgroup(t, v2, "castellan-test-running/docker/"+id)
	h := start(t, nil, "overlay="+newRoot(t), "exec=/bin/tool", "tool", "wait", "\xff two words", "exit=0")
	put(t, dir, h.pid())
	if _, err := h.stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	began := w.wait("exec", func(e event.Event) bool {
		return e.Kind == event.KindExec && e.WorkloadID == id && len(e.Exec.Args) == 4
	})

	running, err := w.sensors.Running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	self := false
	var got []event.Running
	for _, r := range running {
		self = self || r.Process.Key.PID == uint32(os.Getpid()) && r.Origin == event.OriginHost
		if r.WorkloadID == id {
			got = append(got, r)
		}
	}
	if !self {
		t.Error("we ourselves are not listed")
	}
	want := []event.Running{{WorkloadID: id, Process: began.Process, Args: began.Exec.Args, Origin: event.OriginImage, Started: began.Time}}
	near := cmp.Comparer(func(a, b time.Time) bool { return a.Sub(b).Abs() < patience })
	if d := cmp.Diff(got, want, near); d != "" {
		t.Errorf("running in the container (-got +want):\n%s", d)
	}
	h.finish()
}

// Who has ended and was not asked after does not run.
func TestRunningLeavesOutTheDead(t *testing.T) {
	w := watchEach(t)
	attr := &os.ProcAttr{Files: []*os.File{nil, nil, nil}, Sys: &syscall.SysProcAttr{}}
	p, err := os.StartProcess("/bin/true", []string{"true"}, attr)
	if err != nil {
		t.Fatal(err)
	}
	w.exit(p.Pid)
	running, err := w.sensors.Running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range running {
		if r.Process.Key.PID == uint32(p.Pid) {
			t.Errorf("%d has ended and is listed: %+v", p.Pid, r)
		}
		if r.Process.Name == "" || r.Process.Key.Start == 0 && r.Process.Key.PID != 1 {
			t.Errorf("listed without a name or start: %+v", r.Process)
		}
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestRunningNeedsSensors(t *testing.T) {
	s, err := bpf.Open(t.Context(), bpf.Options{Off: bpf.Names()}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.Running(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	on := open(t, processAlone())
	if err := on.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := on.Running(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after Close: got %v, want unavailable", err)
	}
}
