package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// directing is a world whose server gives directives, and whose sensors take
// settings.
type directing struct {
	*world
	give chan link.Directive
	lose chan error // ends the stream

	mu      sync.Mutex
	refuse  error // of the next Apply
	calls   []time.Time
	applied []asset.AgentSettings
}

func (d *directing) Directives(ctx context.Context, who link.Caller, take func(link.Directive)) error {
	d.mu.Lock()
	d.calls = append(d.calls, time.Now())
	d.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-d.lose:
			return err
		case w := <-d.give:
			take(w)
		}
	}
}

func (d *directing) Apply(_ context.Context, s asset.AgentSettings) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return d.refuse
	}
	d.applied = append(d.applied, s)
	return nil
}

func (d *directing) asked() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]time.Time(nil), d.calls...)
}

func underDirection(t *testing.T, play func(t *testing.T, d *directing)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &directing{
			world: &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)},
			give:  make(chan link.Directive), lose: make(chan error),
		}
		a := agent.New(agent.Config{ID: "A"}, agent.Parts{Engine: d, Sensors: d, Host: d, Server: d, Tuner: d}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		settle(time.Second)
		play(t, d)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

func settingsOff(id string, sensors ...string) link.Directive {
	return link.Directive{ID: id, Kind: link.DirectiveSettings, Settings: &asset.AgentSettings{SensorsOff: sensors}}
}

func TestSettingsAreAppliedOnceAndReported(t *testing.T) {
	underDirection(t, func(t *testing.T, d *directing) {
		d.give <- settingsOff("1", "dns")
		d.give <- settingsOff("1", "dns") // the same wish, after a reconnection
		settle(time.Second)
		d.give <- link.Directive{ID: "2", Kind: "of a newer server"}
		d.give <- link.Directive{ID: "3", Kind: link.DirectiveSettings} // without settings
		if diff := cmp.Diff([]asset.AgentSettings{{SensorsOff: []string{"dns"}}}, d.applied); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"dns"}, d.last().Agent.Settings.SensorsOff); diff != "" {
			t.Errorf("reported (-want +got):\n%s", diff)
		}
		d.mu.Lock()
		d.refuse = errors.New("the kernel does not want to")
		d.mu.Unlock()
		d.give <- settingsOff("4", "file")
		settle(time.Minute)
		if diff := cmp.Diff([]string{"dns"}, d.last().Agent.Settings.SensorsOff); diff != "" {
			t.Errorf("reported after what could not be applied (-want +got):\n%s", diff)
		}
		d.mu.Lock()
		d.refuse = nil
		d.mu.Unlock()
		d.give <- settingsOff("4", "file") // as it comes with the next connection
		settle(time.Minute)
		if diff := cmp.Diff([]string{"file"}, d.last().Agent.Settings.SensorsOff); diff != "" {
			t.Errorf("reported at the second try (-want +got):\n%s", diff)
		}
	})
}

func TestSnapshotOnDemand(t *testing.T) {
	underDirection(t, func(t *testing.T, d *directing) {
		snapshots := func() (n int) {
			d.world.mu.Lock()
			defer d.world.mu.Unlock()
			for _, r := range d.reports {
				if r.Snapshot && r.Complete {
					n++
				}
			}
			return n
		}
		d.engine <- asset.Inventory{Complete: true, Engine: asset.Engine{Connected: true}}
		settle(time.Minute)
		before := snapshots()
		asked := link.Directive{ID: "s1", Kind: link.DirectiveSnapshot}
		d.give <- asked
		d.give <- asked // the same wish
		settle(time.Minute)
		if got := snapshots() - before; got != 1 {
			t.Errorf("%d snapshots were sent, want 1", got)
		}
	})
}

func TestDirectivesAreAskedForAgainWithPauses(t *testing.T) {
	underDirection(t, func(t *testing.T, d *directing) {
		for range 8 {
			d.lose <- fault.New(fault.Unavailable, "connection refused")
		}
		settle(10 * time.Second)
		calls := d.asked()
		if len(calls) != 9 {
			t.Fatalf("asked %d times, want 9", len(calls))
		}
		for i := 1; i < len(calls); i++ {
			pause := calls[i].Sub(calls[i-1])
			if least, most := min(100*time.Millisecond<<(i-1), 5*time.Second), 10*time.Second; i > 1 && (pause < least || pause > most) {
				t.Errorf("pause %d is %s, want %s to %s", i, pause, least, most)
			}
		}
		d.lose <- fault.New(fault.Denied, "revoked")
		settle(29 * time.Second)
		if got := len(d.asked()); got != 9 {
			t.Errorf("asked %d times within half a minute of being refused, want 9", got)
		}
		settle(31 * time.Second)
		if got := len(d.asked()); got != 10 {
			t.Errorf("asked %d times within a minute of being refused, want 10", got)
		}
		settle(2 * time.Minute) // a stream that stood makes the pauses short again
		d.lose <- fault.New(fault.Unavailable, "connection refused")
		settle(time.Second)
		if got := len(d.asked()); got != 11 {
			t.Errorf("asked %d times after a long stream, want 11", got)
		}
	})
}
