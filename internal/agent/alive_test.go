package agent_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// manager is a service manager that waits for word for ten seconds.
type manager struct {
	mu   sync.Mutex
	said []string
}

func (m *manager) say(what string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, what)
	return nil
}

// heard returns what was said since it was last asked.
func (m *manager) heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	said := m.said
	m.said = nil
	return said
}

func (m *manager) Ready() error         { return m.say("ready") }
func (m *manager) Alive() error         { return m.say("alive") }
func (m *manager) Stopping() error      { return m.say("stopping") }
func (m *manager) Every() time.Duration { return 5 * time.Second }

// hurdle blocks an agent that goes on only when it is taken away.
type hurdle struct {
	mu     sync.Mutex
	closed chan struct{} // nil: nothing is in the way
}

func (h *hurdle) put() (away func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = make(chan struct{})
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		close(h.closed)
		h.closed = nil
	})
}

func (h *hurdle) pass() {
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed != nil {
		<-closed
	}
}

// hindered is a world with hurdles.
type hindered struct {
	*world
	inspect, use hurdle
}

func (h *hindered) Executable(event.Key) string {
	h.inspect.pass()
	return "/a"
}

func (h *hindered) Usage() asset.Usage {
	h.use.pass()
	return asset.Usage{}
}

// TestAliveIsSaidOnlyWhenItIsTrue has an agent that cannot do its work any more fall
// silent, so that its service manager starts it anew.
func TestAliveIsSaidOnlyWhenItIsTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &hindered{world: &world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)}}
		m := &manager{}
		a := agent.New(agent.Config{ID: "A", Heartbeat: 24 * time.Hour}, agent.Parts{Engine: w, Sensors: w, Host: w, Server: w, Inspector: w, Supervisor: m},
			slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()

		says := func(when string, after time.Duration, want ...string) {
			t.Helper()
			settle(after)
			got := m.heard()
			slices.Sort(got) // the first two come together
			if !slices.Equal(got, want) {
				t.Errorf("%s it said %q, want %q", when, got, want)
			}
		}
		says("at its start", time.Second, "alive", "ready")
		says("in ten seconds", 10*time.Second, "alive", "alive")

		// All within the minute after which the table of processes is compared: who
		// waits for a lock keeps the time of the bubble from going on.
		away := w.inspect.put()
		w.sense <- []event.Event{{Kind: event.KindExit, Time: time.Now(), Process: event.Process{Key: event.Key{PID: 7, Start: 1}}}}
		says("with its sensors' events on their way", 20*time.Second, "alive", "alive", "alive", "alive")
		says("with them stuck", 20*time.Second)
		away()
		says("with them on their way again", 5*time.Second, "alive")

		away = w.use.put()
		says("when it can't say how it is", time.Minute)
		away()
		says("when it can again", 0, "alive", "alive") // one tick has waited

		stop()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
		says("at its end", 0, "stopping")
	})
}
