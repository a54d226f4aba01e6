package bpf

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"
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

// liveOn starts a program n times that lives until the test ends; its execs are alike.
func liveOn(t *testing.T, n int) (argument string, pids map[uint32]bool) {
	t.Helper()
	argument, pids = "1000000."+strconv.FormatUint(bootNow(), 10), map[uint32]bool{}
	for range n {
		c := exec.CommandContext(t.Context(), "/bin/sleep", argument)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Wait() }) // killed with the test's context
		pids[uint32(c.Process.Pid)] = true
	}
	return argument, pids
}

// openProcess opens the process sensor alone.
func openProcess(t *testing.T) *Sensors {
	t.Helper()
	need.Root(t)
	need.BPF(t, "tp_btf")
	off := slices.DeleteFunc(Names(), func(name string) bool { return name == "process" })
	s, err := Open(t.Context(), Options{Off: off}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// notedAs returns the processes that are noted as repeats.
func notedAs(t *testing.T, s *Sensors, pids map[uint32]bool) []*beginning {
	t.Helper()
	noted, err := readUntold(s.on.maps[untoldMap])
	if err != nil {
		t.Fatal(err)
	}
	var out []*beginning
	for key, b := range noted {
		if pids[key.Tgid] && b.kind() == processKindKIND_REPEAT {
			out = append(out, b)
		}
	}
	return out
}

// While the reader is behind, what a process is like is not known yet: it is told when
// that has come.
func TestRepeatWaitsForWhatItIsLike(t *testing.T) {
	s := openProcess(t)
	argument, pids := liveOn(t, 3)
	d := newDecoder(NewClock(nil))
	d.window = s.all[0].window
	tell := func(last bool) (told []event.Event) {
		t.Helper()
		err := tellUntold(s.on.maps, d, last, func(e event.Event) {
			if pids[e.Process.Key.PID] {
				told = append(told, e)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	for due := 0; due < 2; { // the first one's record lies in the ring buffer
		if told := tell(false); len(told) > 0 {
			t.Fatalf("told before it is known: %+v", told)
		}
		due = 0
		for _, b := range notedAs(t, s, pids) {
			if b.isDue(bootNow()) {
				due++
			}
		}
	}
	if told := tell(false); len(told) > 0 {
		t.Fatalf("told before it is known: %+v", told)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var sum uint64
	err := s.Run(ctx, func(batch []event.Event) {
		for _, e := range batch {
			if e.Exec != nil && len(e.Exec.Args) == 2 && e.Exec.Args[1] == argument {
				sum++
				delete(pids, e.Process.Key.PID)
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if sum != 3 || len(pids) > 0 {
		t.Errorf("%d execs told, want 3; not these: %v", sum, pids)
	}
}

// What a process is like was lost: then it is told that there is such a process, and
// that something was lost.
func TestRepeatOfWhatWasLostIsTold(t *testing.T) {
	s := openProcess(t)
	_, pids := liveOn(t, 2)
	for len(notedAs(t, s, pids)) == 0 {
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
	}
	b := notedAs(t, s, pids)[0]
	d := newDecoder(NewClock(nil))
	d.window = s.all[0].window
	if !b.waits(d.window, b.time()) || b.waits(d.window, b.time()+uint64(waitForLike)) {
		t.Error("it does not wait, or for ever")
	}
	var told []event.Event
	if err := tellUntold(s.on.maps, d, true, func(e event.Event) {
		if pids[e.Process.Key.PID] {
			told = append(told, e)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0].Kind != event.KindFork || told[0].Process.Name != "sleep" || d.window.lost == 0 {
		t.Errorf("told %+v, %d lost, want a process called sleep", told, d.window.lost)
	}
}
