package bpf

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/need"
)

// While there is no room to note a process, everything is told at once.
func TestNothingIsLostWithoutRoomToNote(t *testing.T) {
	need.Root(t)
	need.BPF(t, "tp_btf")
	var off []string
	for _, name := range Names() {
		if name != "process" {
			off = append(off, name)
		}
	}
	s, err := Open(t.Context(), Options{Off: off}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if st := s.Status()[0]; st.State != asset.SensorRunning {
		t.Fatalf("sensor is %s: %s", st.State, st.Reason)
	}
	fillUntold(t, s)

	const n = 50
	argument := t.Name()
	for range n {
		if err := exec.CommandContext(t.Context(), "/bin/true", argument).Run(); err != nil {
			t.Fatal(err)
		}
	}
	if err := forgetUntold(s.on.maps); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	execs := map[event.Key]bool{}
	forks := map[event.Key]int{}
	exits := map[event.Key]int{}
	var sum uint64
	err = s.Run(ctx, func(batch []event.Event) {
		for _, e := range batch {
			mine := e.Exec != nil && len(e.Exec.Args) == 2 && e.Exec.Args[1] == argument
			if mine {
				sum += e.Times()
			}
			switch {
			case mine && e.Count == 0:
				execs[e.Process.Key] = true
			case e.Kind == event.KindFork:
				forks[e.Process.Key]++
			case e.Exit != nil:
				exits[e.Process.Key]++
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if sum != n {
		t.Errorf("%d execs told or counted, want %d", sum, n)
	}
	if len(execs) != n {
		// Processes of this host that were noted before have ended and left room.
		t.Logf("%d of %d execs told one by one", len(execs), n)
		return
	}
	for key := range execs {
		// A fork that found room is not told when its exec is.
		if forks[key] > 1 || exits[key] != 1 {
			t.Errorf("%v: %d forks and %d exits told, want at most one fork and one exit", key, forks[key], exits[key])
		}
	}
}

// fillUntold notes processes that there aren't until nothing has room.
func fillUntold(t *testing.T, s *Sensors) {
	t.Helper()
	m := s.on.maps[untoldMap]
	var b beginning
	for i := range m.MaxEntries() + 1 {
		if err := m.Put(&processKey{Start: 1, Tgid: i}, &b); err != nil {
			if i < m.MaxEntries()/2 {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the map takes more than it should")
}
