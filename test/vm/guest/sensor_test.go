package guest_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/test/vm/guest"
)

// newID returns a container id as an engine makes them.
func newID(t *testing.T) string {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// watch keeps what the sensors tell until the test ends.
type watch struct {
	sensors *bpf.Sensors

	mu     sync.Mutex
	events []event.Event
}

// sense runs these sensors until the test ends, all if none is named: an emulated
// machine takes seconds to verify each.
func sense(t *testing.T, names ...string) *watch {
	t.Helper()
	var off []string
	if len(names) > 0 {
		off = slices.DeleteFunc(bpf.Names(), func(name string) bool { return slices.Contains(names, name) })
	}
	sensors, err := bpf.Open(t.Context(), bpf.Options{Off: off}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if len(sensors.Status()) == 0 {
		t.Fatal("there is no sensor")
	}
	for _, s := range sensors.Status() {
		if s.State != asset.SensorRunning && !slices.Contains(off, s.Name) {
			t.Fatalf("sensor %s is %s: %s", s.Name, s.State, s.Reason)
		}
	}
	w := &watch{sensors: sensors}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sensors.Run(ctx, w.add) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		for _, s := range sensors.Status() {
			if s.Lost != 0 {
				t.Errorf("sensor %s lost %d records", s.Name, s.Lost)
			}
		}
		if err := sensors.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return w
}

func (w *watch) add(batch []event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, batch...)
}

// find returns the first event that fits, nil if there is none yet.
func (w *watch) find(fits func(event.Event) bool) *event.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.events, fits)
	if i < 0 {
		return nil
	}
	e := w.events[i]
	return &e
}

// await polls for the first event that fits.
func (w *watch) await(t *testing.T, what string, fits func(event.Event) bool) event.Event {
	t.Helper()
	var e *event.Event
	eventually(t, what, func() bool { e = w.find(fits); return e != nil })
	return *e
}

// exec polls for the exec with these arguments.
func (w *watch) exec(t *testing.T, args ...string) event.Event {
	t.Helper()
	return w.await(t, "exec of "+args[0], func(e event.Event) bool {
		return e.Kind == event.KindExec && e.Exec != nil && slices.Equal(e.Exec.Args, args)
	})
}

// exit polls for the end of a process.
func (w *watch) exit(t *testing.T, k event.Key) event.Exit {
	t.Helper()
	e := w.await(t, "exit of "+k.String(), func(e event.Event) bool {
		return e.Kind == event.KindExit && e.Exit != nil && e.Process.Key == k
	})
	return *e.Exit
}

// seen is what of an exec and its exit is the same in every run.
type seen struct {
	Workload, Executable string
	Origin               event.Origin
	Code                 int
}

func (w *watch) seen(t *testing.T, args ...string) seen {
	t.Helper()
	e := w.exec(t, args...)
	return seen{e.WorkloadID, e.Process.Executable, e.Exec.Origin, w.exit(t, e.Process.Key).Code}
}

// The process sensor keys what runs to its container on every cgroup layout,
// and tells files of the image from those written later.
func TestSensorContainer(t *testing.T) {
	for _, l := range commonLayouts() {
		t.Run(l.name, func(t *testing.T) {
			c := newContainer(t, newID(t), l.mount(t))
			w := sense(t, "process")
			c.run(t, "exit", "7")
			c.run(t, "drop", "/tmp/dropped", "exit", "3")
			exitCode(t, guest.Subject, "exit", "9")

			want := seen{Workload: c.id, Executable: "/bin/subject", Origin: event.OriginImage, Code: 7}
			if diff := cmp.Diff(want, w.seen(t, "/bin/subject", "exit", "7")); diff != "" {
				t.Errorf("program of the image (-want +got):\n%s", diff)
			}
			want = seen{Workload: c.id, Executable: "/tmp/dropped", Origin: event.OriginWritten, Code: 3}
			if diff := cmp.Diff(want, w.seen(t, "/tmp/dropped", "exit", "3")); diff != "" {
				t.Errorf("program written later (-want +got):\n%s", diff)
			}
			want = seen{Executable: "/bin/subject", Origin: event.OriginHost, Code: 9}
			if diff := cmp.Diff(want, w.seen(t, "/bin/subject", "exit", "9")); diff != "" {
				t.Errorf("program of the host (-want +got):\n%s", diff)
			}
		})
	}
}

// A program that has no file but memory is known by that.
func TestSensorMemory(t *testing.T) {
	l := layouts()[0]
	c := newContainer(t, newID(t), l.mount(t))
	w := sense(t, "process")
	c.run(t, "memory", "exit", "4")
	got := w.seen(t, "payload", "exit", "4")
	if got.Workload != c.id || got.Origin != event.OriginMemory || got.Code != 4 {
		t.Errorf("saw %+v, want origin %q in container %s with code 4", got, event.OriginMemory, c.id)
	}
}

// Sensor and /proc mean the same process, though /proc knows only the tick in
// which it began.
func TestSensorKeyFitsProc(t *testing.T) {
	l := layouts()[0]
	c := newContainer(t, newID(t), l.mount(t))
	w := sense(t, "process")
	pid := c.wait(t)
	e := w.exec(t, "/bin/subject", "wait")
	running, err := kernel.New(kernel.Options{}).Processes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := process(t, running, pid)
	if !r.Process.Key.Same(e.Process.Key) {
		t.Errorf("/proc has %v, the sensor %v, want the same process", r.Process.Key, e.Process.Key)
	}
	if apart := e.Time.Sub(r.Started); apart < -2*patience || apart > 2*patience {
		t.Errorf("/proc says it began %v before the sensor saw it", apart)
	}
}
