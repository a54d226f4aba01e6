package bpf_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/event"
)

func TestExit(t *testing.T) {
	w := watchEach(t)
	tests := []struct {
		name  string
		words []string
		want  event.Exit
	}{
		{"success", []string{"exit=0"}, event.Exit{}},
		{"code", []string{"exit=42"}, event.Exit{Code: 42}},
		{"killed", []string{"signal=9"}, event.Exit{Signal: 9}},
		{"terminated", []string{"signal=15"}, event.Exit{Signal: 15}},
		{"after threads ended", []string{"threads=8", "exit=5"}, event.Exit{Code: 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := start(t, nil, tt.words...)
			h.finish()
			got := w.exit(h.pid())
			if d := cmp.Diff(*got.Exit, tt.want, cmpopts.IgnoreFields(event.Exit{}, "Lifetime", "CoreDumped")); d != "" {
				t.Errorf("exit (-got +want):\n%s", d)
			}
			if got.Exit.Lifetime <= 0 {
				t.Errorf("lifetime %v, want more than none", got.Exit.Lifetime)
			}
		})
	}
}

// A process tells its beginning and its end once, however many threads it has
// and however they end: one by one, or all of them at the same moment.
func TestThreadsDoNotCount(t *testing.T) {
	w := watchEach(t)
	var all []*helper
	for range 20 {
		all = append(all, start(t, nil, "threads=16", "signal=9"))
	}
	all = append(all, start(t, nil, "threads=16", "exit=0"))
	for _, h := range all {
		h.finish()
	}
	last := start(t, nil, "exit=0") // what comes late has come before this
	last.finish()
	w.exit(last.pid())
	for _, h := range all {
		for _, kind := range []event.Kind{event.KindFork, event.KindExec, event.KindExit} {
			got, _ := w.seen(func(e event.Event) bool { return e.Kind == kind && e.Process.Key.PID == uint32(h.pid()) })
			if len(got) != 1 {
				t.Errorf("%s was told %d times, want once", kind, len(got))
			}
		}
		threads, _ := w.seen(func(e event.Event) bool {
			return e.Kind == event.KindFork && e.Process.Parent.PID == uint32(h.pid())
		})
		if len(threads) != 0 {
			t.Errorf("%d threads were told as processes", len(threads))
		}
	}
}

func TestForkWithoutExec(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	id := newID(t)
	h := startIn(t, v2, "castellan-test-fork/docker/"+id, "fork=6", "exit=0")
	h.finish()
	pid, err := strconv.Atoi(strings.TrimSpace(h.stdout.String()))
	if err != nil {
		t.Fatal(err)
	}
	fork := w.wait("fork", func(e event.Event) bool {
		return e.Kind == event.KindFork && e.Process.Key.PID == uint32(pid)
	})
	if fork.WorkloadID != id || fork.Process.Parent.PID != uint32(h.pid()) {
		t.Errorf("fork of workload %q by %d, want %q by %d", fork.WorkloadID, fork.Process.Parent.PID, id, h.pid())
	}
	exit := w.exit(pid)
	if exit.Process.Key != fork.Process.Key || exit.Exit.Code != 6 {
		t.Errorf("exit of %v with %d, want %v with 6", exit.Process.Key, exit.Exit.Code, fork.Process.Key)
	}
}

func TestContainerPID(t *testing.T) {
	w := watchEach(t)
	h := start(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, "exec=/bin/true", "true")
	h.finish()
	if got := w.exec(h.pid()).Process.ContainerPID; got != 1 {
		t.Errorf("process id in its own namespace: %d, want 1", got)
	}
}
