package bpf_test

import (
	"os"
	"slices"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// What a container calls is told once, by the names that seccomp profiles have;
// what others call is not.
func TestFirstCalls(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	id, other := newID(t), newID(t)
	if err := w.sensors.Learn([]string{id}); err != nil {
		t.Fatal(err)
	}
	for _, one := range []string{id, other} {
		h := start(t, nil, "memfd=/bin/true", "true")
		put(t, cgroup(t, v2, "castellan-test-calls-"+one[:8]+"/docker/"+one), h.pid())
		h.finish()
	}
	w.wait("memfd_create", func(e event.Event) bool {
		return e.Kind == event.KindCalls && e.WorkloadID == id && slices.Contains(e.Calls.Names, "memfd_create")
	})
	w.stop() // tells the rest
	told, _ := w.seen(func(e event.Event) bool { return e.Kind == event.KindCalls })
	var names []string
	for _, e := range told {
		if e.WorkloadID != id {
			t.Errorf("calls of %q are told: %v", e.WorkloadID, e.Calls.Names)
		}
		if e.Time.IsZero() {
			t.Error("the event has no time")
		}
		names = append(names, e.Calls.Names...)
	}
	for _, want := range []string{"memfd_create", "execve", "write", "brk", "mmap"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
	if slices.Sort(names); len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("a call is told twice: %v", names)
	}
	if slices.Contains(names, "mount") {
		t.Errorf("mount was not called, and is told: %v", names)
	}
}

// Nothing is paid for while nobody learns, and places are used again.
func TestLearnersComeAndGo(t *testing.T) {
	s := open(t, processAlone())
	all := make([]string, bpf.MaxLearners)
	for round := range 3 {
		for i := range all {
			all[i] = newID(t)
		}
		if err := s.Learn(all); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if err := s.Learn(append(all, newID(t))); fault.Of(err) != fault.Invalid {
		t.Errorf("one container too many: got %v, want Invalid", err)
	}
	if err := s.Learn([]string{"../x"}); fault.Of(err) != fault.Invalid {
		t.Errorf("no id: got %v, want Invalid", err)
	}
	if err := s.Learn(nil); err != nil {
		t.Error(err)
	}
	if n := len(s.Status()); n != len(bpf.Names()) {
		t.Errorf("got %d sensors", n)
	}
}

// BenchmarkFirstCalls tells what a cheap system call costs while a container is
// learned from: ÷ is with to without, in one run.
func BenchmarkFirstCalls(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	s, err := bpf.Open(b.Context(), processAlone(), quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for name, learned := range map[string][]string{"nobody": nil, "another": {"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}} {
		if err := s.Learn(learned); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				os.Getppid()
			}
		})
	}
}
