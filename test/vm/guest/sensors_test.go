package guest_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Every sensor of this build loads and attaches on this kernel.
func TestSensorsRun(t *testing.T) {
	sensors, err := bpf.Open(t.Context(), bpf.Options{}, slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: verbose,
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer sensors.Close()
	status := sensors.Status()
	for _, name := range bpf.Names() {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(status, func(s asset.Sensor) bool { return s.Name == name })
			if i < 0 {
				t.Fatal("it has no status")
			}
			if s := status[i]; s.State != asset.SensorRunning {
				t.Errorf("it is %s: %s", s.State, s.Reason)
			}
		})
	}
}

// verbose writes errors with all that they know: a refused program's with what
// the verifier said of it.
func verbose(_ []string, a slog.Attr) slog.Attr {
	err, ok := a.Value.Any().(error)
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		err = refused
	}
	if ok {
		a.Value = slog.StringValue(fmt.Sprintf("%+v", err))
	}
	return a
}

// Every sensor tells what a container's program does.
func TestSensorsTell(t *testing.T) {
	told := map[string]func(event.Event) bool{
		"process": func(e event.Event) bool {
			return e.Kind == event.KindExec && slices.Equal(e.Exec.Args, []string{"/bin/subject", "act"})
		},
		"file": func(e event.Event) bool {
			return e.Kind == event.KindFileCreate && e.File.Path == "/acted"
		},
		"memory": func(e event.Event) bool {
			return e.Kind == event.KindExecProtect && e.Memory.Call == "mmap" && slices.Contains(e.Memory.Protection, "write")
		},
		"privilege": func(e event.Event) bool {
			return e.Kind == event.KindUnshare && slices.Contains(e.Privilege.Flags, "newuts")
		},
		"network": func(e event.Event) bool {
			return e.Kind == event.KindConnect && e.Connection.Protocol == "tcp" && e.Connection.Error == ""
		},
		"dns": func(e event.Event) bool {
			return e.Kind == event.KindQuery && e.DNS.Name == "acted.example"
		},
		"resource": func(e event.Event) bool { return e.Kind == event.KindOOM },
	}
	c := newContainer(t, newID(t), layouts()[0].mount(t))
	w := sense(t)
	if code := c.run(t, "act"); code != 0 {
		t.Fatalf("the subject ended with %d, want 0", code)
	}
	limitMemory(t, c)
	c.run(t, "exhaust", mostMemory)
	for _, name := range bpf.Names() {
		t.Run(name, func(t *testing.T) {
			fits := told[name]
			if fits == nil {
				t.Fatal("nothing is done that it would tell")
			}
			w.await(t, "what it tells", func(e event.Event) bool { return e.WorkloadID == c.id && fits(e) })
		})
	}
}

// What a container may have in tests of memory, and what its program takes.
const (
	memoryLimit = 32 << 20
	mostMemory  = "134217728"
)

// limitMemory sets the limit of a container's memory, whose controller is of version 1.
func limitMemory(t *testing.T, c container) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.cgroups[0], "memory.limit_in_bytes"), []byte(strconv.Itoa(memoryLimit)), 0); err != nil {
		t.Fatal(err)
	}
}

// Whose limit was reached is told wherever the memory controller is one of version 1. This
// guest's does not come back to version 2 once it was one of version 1.
func TestOutOfMemory(t *testing.T) {
	for _, l := range commonLayouts() {
		if len(l.v1) == 0 {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			c := newContainer(t, newID(t), l.mount(t))
			limitMemory(t, c)
			w := sense(t, "resource")
			c.run(t, "exhaust", mostMemory)
			e := w.await(t, "a kill for want of memory", func(e event.Event) bool {
				return e.Kind == event.KindOOM && e.WorkloadID == c.id
			})
			r := e.Resource
			// Pages that are asked for count before they are refused.
			if r.Scope != event.ScopeContainer || r.Limit != memoryLimit || r.Used > 2*memoryLimit || r.Used < memoryLimit/2 || r.Resident < memoryLimit/2 {
				t.Errorf("told %+v, want a limit of %d of the container, and nearly all used", r, memoryLimit)
			}
		})
	}
}
