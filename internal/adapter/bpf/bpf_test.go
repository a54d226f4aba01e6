package bpf_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/need"
)

func TestOpenRefusesNonsense(t *testing.T) {
	tests := []struct {
		name    string
		options bpf.Options
	}{
		{"unknown sensor", bpf.Options{Off: []string{"telepathy"}}},
		{"negative ring", bpf.Options{RingBytes: -4096}},
		{"no power of two", bpf.Options{RingBytes: 3 << 20}},
		{"less than a page", bpf.Options{RingBytes: 1024}},
		{"more than a host has", bpf.Options{RingBytes: bpf.MaxRingBytes * 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := bpf.Open(t.Context(), tt.options, quiet())
			if !fault.Is(err, fault.Invalid) || fault.Remedy(err) == "" {
				t.Errorf("got %v (remedy %q), want an invalid option with a remedy", err, fault.Remedy(err))
			}
		})
	}
}

func TestSwitchedOff(t *testing.T) {
	s, err := bpf.Open(t.Context(), bpf.Options{Off: bpf.Names()}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	var want []asset.Sensor
	for _, name := range bpf.Names() {
		want = append(want, asset.Sensor{Name: name, State: asset.SensorOff, Reason: "switched off by configuration"})
	}
	if d := cmp.Diff(s.Status(), want); d != "" {
		t.Errorf("status (-got +want):\n%s", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx, func([]event.Event) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Run without sensors ended with %v, want the context's error", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Without rights every sensor says that it failed, why, and what to do.
func TestWithoutRights(t *testing.T) {
	need.Root(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "status")
	cmd.Env = []string{helperEnv + "=1"}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []asset.Sensor
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(bpf.Names()) {
		t.Errorf("status of %d sensors, want %d", len(got), len(bpf.Names()))
	}
	for _, s := range got {
		if s.State != asset.SensorFailed || !strings.Contains(s.Reason, "not permitted") || !strings.Contains(s.Remedy, "CAP_BPF") {
			t.Errorf("status without rights: %+v", s)
		}
	}
}

func TestRunOnce(t *testing.T) {
	w := watch(t)
	start(t, nil, "exit=0").finish() // until Run reads, nothing comes
	w.wait("event", func(event.Event) bool { return true })
	if err := w.sensors.Run(t.Context(), func([]event.Event) {}); !fault.Is(err, fault.Conflict) {
		t.Errorf("second Run: %v, want a conflict", err)
	}
}

func TestRunEndsWithClose(t *testing.T) {
	s := open(t, bpf.Options{})
	done := make(chan error)
	go func() { done <- s.Run(context.Background(), func([]event.Event) {}) }()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !fault.Is(err, fault.Unavailable) {
		t.Errorf("Run ended with %v, want unavailable", err)
	}
	if got := s.Status()[0]; got.State != asset.SensorOff {
		t.Errorf("after Close the sensor is %s, want off", got.State)
	}
}

// What goes on happening does not keep Run from ending: here each batch that it hands
// over makes another.
func TestRunEndsOnBusyHost(t *testing.T) {
	const endless = 50
	o := processAlone()
	o.Settings.Window = -1
	s := open(t, o)
	start(t, nil, "exit=0").finish() // so that there is something to hand over
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	batches := 0
	err := s.Run(ctx, func([]event.Event) {
		if batches++; batches < endless {
			if err := exec.CommandContext(t.Context(), "/bin/true").Run(); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v, want the context's error", err)
	}
	if batches == 0 || batches >= endless {
		t.Errorf("%d batches were handed over, want some and less than %d", batches, endless)
	}
}

// While nobody reads, a ring of one page fills: every record is counted as sent
// or lost, and what was sent arrives. A second set of sensors with room enough
// says how much happened, on this host where others run programs too.
func TestFlood(t *testing.T) {
	const execs, perExec = 200, 3
	each := processAlone()
	each.Settings.Window = -1
	roomy := open(t, each)
	each.RingBytes = os.Getpagesize()
	tiny := open(t, each)

	outer, before := total(t, roomy), total(t, tiny)
	inner := total(t, roomy)
	for range execs {
		if err := exec.CommandContext(t.Context(), "/bin/true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	inner = total(t, roomy) - inner
	happened := total(t, tiny) - before
	outer = total(t, roomy) - outer

	if happened < inner || happened > outer || happened < execs*perExec {
		t.Errorf("sent and lost are %d, want from %d to %d and at least %d", happened, inner, outer, execs*perExec)
	}
	if got := roomy.Status()[0].Lost; got != 0 {
		t.Errorf("%d records lost with a ring of %d bytes", got, bpf.DefaultRingBytes)
	}
	if got := tiny.Status()[0].Lost; got == 0 {
		t.Error("no record lost with a ring of one page")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel() // read what is there
	var arrived uint64
	if err := roomy.Run(ctx, func(batch []event.Event) { arrived += uint64(len(batch)) }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if arrived < inner {
		t.Errorf("%d events arrived, want at least the %d that were sent", arrived, inner)
	}
}

func total(t *testing.T, s *bpf.Sensors) uint64 {
	t.Helper()
	st := s.Status()[0]
	return st.Events + st.Lost
}
