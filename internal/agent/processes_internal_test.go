package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// looks counts how often it is asked.
type looks struct {
	paths map[uint32]string
	asked int
}

func (l *looks) Executable(k event.Key) string {
	l.asked++
	return l.paths[k.PID]
}

func keyOf(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid) * 1e9} }

func told(kind event.Kind, pid uint32) event.Event {
	return event.Event{Kind: kind, Time: time.Unix(int64(pid), 0), Process: event.Process{Key: keyOf(pid)}}
}

func began(pid uint32, path string) event.Event {
	e := told(event.KindExec, pid)
	e.Process.Executable, e.Exec = path, &event.Exec{}
	return e
}

func TestEveryKindIsCompleted(t *testing.T) {
	host := &looks{paths: map[uint32]string{20: "/bin/before"}}
	for _, tt := range []struct {
		name, want string
		e          event.Event
		asked      int
	}{
		{"file of a known process", "/bin/shop", told(event.KindFileWrite, 10), 0},
		{"connection of a known process", "/bin/shop", told(event.KindConnect, 10), 0},
		{"memory of one that ended", "/bin/gone", told(event.KindMemfd, 11), 0},
		{"question of one that nobody told of", "/bin/before", told(event.KindQuery, 20), 1},
		{"of one that is not to be found", "", told(event.KindMount, 21), 1},
		{"of no process", "", event.Event{Kind: event.KindThrottle}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host.asked = 0
			p := newProcesses(host)
			for _, e := range []event.Event{began(10, "/bin/shop"), began(11, "/bin/gone"), told(event.KindExit, 11)} {
				p.observe(&e)
			}
			for range 3 {
				e := tt.e
				p.observe(&e)
				if e.Process.Executable != tt.want {
					t.Errorf("runs %q, want %q", e.Process.Executable, tt.want)
				}
			}
			if host.asked != tt.asked {
				t.Errorf("the host was asked %d times, want %d", host.asked, tt.asked)
			}
		})
	}
}

func TestOtherProcessOfAPrivilegeHasOneKey(t *testing.T) {
	p := newProcesses(nil)
	p.merge([]event.Running{{Process: event.Process{Key: keyOf(5)}}})
	e := told(event.KindPtrace, 6)
	e.Privilege = &event.Privilege{Process: event.Key{PID: 5, Start: 5e9 + 1_234}}
	p.observe(&e)
	if e.Privilege.Process != keyOf(5) {
		t.Errorf("the other process is %v, want %v", e.Privilege.Process, keyOf(5))
	}
}

// What is counted is completed, and neither begins nor ends a process.
func TestRepeatsLeaveTheTableAlone(t *testing.T) {
	p := newProcesses(nil)
	for _, e := range []event.Event{began(10, "/bin/shop"), began(11, "/bin/true"), told(event.KindExit, 11)} {
		p.observe(&e)
	}
	for _, e := range []event.Event{began(11, "/bin/true"), told(event.KindFork, 12), told(event.KindExit, 10), told(event.KindExit, 11)} {
		want := map[uint32]string{10: "/bin/shop", 11: "/bin/true"}[e.Process.Key.PID]
		e.Count = 1
		p.observe(&e)
		if e.Process.Executable != want {
			t.Errorf("%s of %d runs %q, want %q", e.Kind, e.Process.Key.PID, e.Process.Executable, want)
		}
	}
	all := p.list(10)
	if len(all) != 1 || all[0].Process.Key != keyOf(10) {
		t.Errorf("the table holds %v, want %v alone", all, keyOf(10))
	}
}

// A fork that is told late does not undo an exec.
func TestLateForkTellsLess(t *testing.T) {
	p := newProcesses(nil)
	e := began(10, "/bin/shop")
	p.observe(&e)
	fork := told(event.KindFork, 10)
	p.observe(&fork)
	if got := p.list(1)[0].Process.Executable; got != "/bin/shop" || fork.Process.Executable != "/bin/shop" {
		t.Errorf("the table says %q, the event %q, want /bin/shop", got, fork.Process.Executable)
	}
}

func TestPastIsBounded(t *testing.T) {
	p := newPast()
	for pid := range uint32(3 * maxPast) {
		p.add(keyOf(pid), fmt.Sprint(pid), nil)
	}
	if len(p.ran) != maxPast {
		t.Errorf("%d are remembered, want %d", len(p.ran), maxPast)
	}
	for pid, want := range map[uint32]bool{3*maxPast - 1: true, 2 * maxPast: true, 2*maxPast - 1: false} {
		if _, known := p.find(keyOf(pid), time.Time{}); known != want {
			t.Errorf("%d is remembered: %v, want %v", pid, known, want)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	p := newProcesses(nil)
	for pid := range uint32(1_000) {
		e := began(pid+1, "/bin/shop")
		p.observe(&e)
	}
	e := told(event.KindFileWrite, 500)
	for b.Loop() {
		e.Process.Executable = ""
		p.observe(&e)
	}
}

// lists is a Lister that has one process, or an error.
type lists struct{ err error }

func (l lists) Running(context.Context) ([]event.Running, error) {
	return []event.Running{{Process: event.Process{Key: event.Key{PID: 7, Start: 7_654_321}}}}, l.err
}

// ticks is a Host whose one process has a start in ticks.
type ticks struct{ Host }

func (ticks) Processes(context.Context) ([]event.Running, error) {
	return []event.Running{{Process: event.Process{Key: event.Key{PID: 7}}}}, nil
}

func TestExactStartsAreAskedForFirst(t *testing.T) {
	for _, tt := range []struct {
		name   string
		lister Lister
		want   uint64
	}{
		{"sensors", lists{}, 7_654_321},
		{"sensors are off", lists{err: errors.New("no sensor runs")}, 0},
		{"no sensors", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &Agent{parts: Parts{Host: ticks{}, Lister: tt.lister}, log: slog.New(slog.DiscardHandler)}
			got, err := a.running(t.Context())
			if err != nil || len(got) != 1 || got[0].Process.Key.Start != tt.want {
				t.Errorf("got %v, %v, want one process that began at %d", got, err, tt.want)
			}
		})
	}
}

// A program that was refused is not what the process runs.
func TestRefusedExecIsNotRun(t *testing.T) {
	p := newProcesses(nil)
	key := event.Key{PID: 7, Start: 1}
	p.observe(&event.Event{Kind: event.KindExec, Process: event.Process{Key: key, Executable: "/bin/sh"}, Exec: &event.Exec{Args: []string{"sh"}}})
	refused := event.Event{Kind: event.KindExec, Reaction: event.ReactionDenied, Process: event.Process{Key: key, Executable: "/tmp/x"}, Exec: &event.Exec{Args: []string{"x"}}}
	p.observe(&refused)
	exit := event.Event{Kind: event.KindExit, Process: event.Process{Key: key}, Exit: &event.Exit{}}
	p.observe(&exit)
	if exit.Process.Executable != "/bin/sh" {
		t.Errorf("the process ran %q, want /bin/sh", exit.Process.Executable)
	}
}

// Of a program that was refused the parent's path is found out, as of any other.
func TestRefusedExecHasAParent(t *testing.T) {
	p := newProcesses(nil)
	shell := event.Key{PID: 7, Start: 1}
	p.observe(&event.Event{Kind: event.KindExec, Process: event.Process{Key: shell, Executable: "/bin/dash"}, Exec: &event.Exec{Args: []string{"sh"}}})
	refused := event.Event{
		Kind: event.KindExec, Reaction: event.ReactionKilled, Process: event.Process{Key: event.Key{PID: 8, Start: 2}, Parent: shell, Executable: "/tmp/x"},
		Exec: &event.Exec{Args: []string{"x"}, Ancestors: []event.Ancestor{{Key: shell, Name: "backup.sh"}}},
	}
	p.observe(&refused)
	if got := refused.Exec.Ancestors[0]; got.Executable != "/bin/dash" || got.Name != "backup.sh" {
		t.Errorf("its parent is %+v", got)
	}
}

// A fork may be told when the child first does something: its parent is another program
// by then. It runs what the parent ran when it was made.
func TestAForkThatIsToldLateRunsWhatItsParentRan(t *testing.T) {
	p := newProcesses(nil)
	start := time.Unix(1_000, 0)
	ran := func(path string, at time.Duration) {
		e := began(10, path)
		e.Time = start.Add(at)
		p.observe(&e)
	}
	forked := func(pid uint32, at time.Duration, want string) {
		t.Helper()
		e := told(event.KindFork, pid)
		e.Time, e.Process.Parent = start.Add(at), keyOf(10)
		p.observe(&e)
		if e.Process.Executable != want {
			t.Errorf("forked at %s it runs %q, want %q", at, e.Process.Executable, want)
		}
	}
	ran("/bin/sh", 0)
	ran("/usr/bin/env", 2*time.Second)
	ran("/usr/sbin/nginx", 4*time.Second)
	forked(11, 5*time.Second, "/usr/sbin/nginx")
	forked(12, 3*time.Second, "/usr/bin/env")
	forked(13, time.Second, "/bin/sh")
	for n := range 100 {
		ran("/bin/sh", time.Duration(10+n)*time.Second)
	}
	if n := len(p.before[10]); n > maxReplaced {
		t.Errorf("%d programs are remembered", n)
	}
	end := told(event.KindExit, 10)
	p.observe(&end)
	if len(p.before) != 0 {
		t.Errorf("%d processes that ended are remembered", len(p.before))
	}
}

// What a process repeated is told up to a minute later: by the program that did it, though
// another one took its place, or it has ended. What a runtime does to set a container up is
// not the container's.
func TestWhatIsToldLateWasDoneByWhatRanThen(t *testing.T) {
	p := newProcesses(nil)
	start := time.Unix(1_000, 0)
	ran := func(path string, at time.Duration) {
		e := began(10, path)
		e.Time = start.Add(at)
		p.observe(&e)
	}
	repeated := func(from, to time.Duration, want string) {
		t.Helper()
		e := told(event.KindMount, 10)
		e.Time, e.Last, e.Count = start.Add(from), start.Add(to), 3
		p.observe(&e)
		if e.Process.Executable != want {
			t.Errorf("what was repeated from %s to %s is of %q, want %q", from, to, e.Process.Executable, want)
		}
	}
	all := func() {
		t.Helper()
		repeated(time.Second, 2*time.Second, "/usr/sbin/runc")
		repeated(time.Second, 5*time.Second, "/usr/bin/java")
		repeated(4*time.Second, 4*time.Second, "/usr/bin/java")
		refused := event.Event{
			Kind: event.KindExec, Time: start.Add(2 * time.Second), Reaction: event.ReactionKilled, Process: event.Process{Key: keyOf(11), Executable: "/tmp/x"},
			Exec: &event.Exec{Ancestors: []event.Ancestor{{Key: keyOf(10)}}},
		}
		p.observe(&refused)
		if got := refused.Exec.Ancestors[0].Executable; got != "/usr/sbin/runc" {
			t.Errorf("what was refused was the doing of %q", got)
		}
	}
	ran("/usr/sbin/runc", 0)
	ran("/usr/bin/java", 3*time.Second)
	all()
	end := told(event.KindExit, 10)
	p.observe(&end)
	all()
}

// What a process executed may have been lost: its name, which the kernel tells anew each
// time, shows that what is known of it is out of date.
func TestAnExecThatWasLostIsNotTheProgramBefore(t *testing.T) {
	named := func(e event.Event, name string) event.Event {
		e.Process.Name = name
		return e
	}
	child := func(pid, parent uint32, name string) event.Event {
		e := began(pid, "/usr/bin/strip")
		e.Process.Parent = keyOf(parent)
		e.Exec.Ancestors = []event.Ancestor{{Key: keyOf(parent), Name: name}}
		return e
	}
	for _, tt := range []struct {
		name, called, want string
		runs               string // what the host says that the parent runs
		like               bool   // that it executed was told, but not what
	}{
		{"nothing was lost", "sh", "/usr/bin/dash", "/usr/bin/dash", false},
		{"it lives", "install", "/usr/bin/install", "/usr/bin/install", false},
		{"it has ended", "install", "", "", false},
		{"it gave itself a name", "worker", "/usr/bin/dash", "/usr/bin/dash", false},
		{"it is like another that was lost, and lives", "install", "/usr/bin/install", "/usr/bin/install", true},
		{"it is like another that was lost, and has ended", "install", "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := &looks{paths: map[uint32]string{11: tt.runs}}
			p := newProcesses(host)
			shell, fork := named(began(10, "/usr/bin/dash"), "sh"), named(told(event.KindFork, 11), "sh")
			fork.Process.Parent = keyOf(10)
			if tt.like {
				fork = named(fork, tt.called)
			}
			p.observe(&shell)
			p.observe(&fork)
			host.asked = 0
			for pid := uint32(12); pid < 14; pid++ {
				e := child(pid, 11, tt.called)
				p.observe(&e)
				if got := e.Exec.Ancestors[0].Executable; got != tt.want {
					t.Errorf("its parent runs %q, want %q", got, tt.want)
				}
			}
			if tt.runs != "" && host.asked > 1 {
				t.Errorf("the host was asked %d times", host.asked)
			}
		})
	}
}
