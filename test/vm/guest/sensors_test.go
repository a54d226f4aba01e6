package guest_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
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
	}
	c := newContainer(t, newID(t), layouts()[0].mount(t))
	w := sense(t)
	if code := c.run(t, "act"); code != 0 {
		t.Fatalf("the subject ended with %d, want 0", code)
	}
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
