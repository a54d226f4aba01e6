package link_test

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/spool"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// absent is a server that is away until it is back.
type absent struct {
	mu    sync.Mutex
	here  bool
	taken map[bool]uint64 // by low value or not
	last  uint64
	wrong string
	agent asset.Agent
	idle  chan struct{} // one token after each report without events
}

func (s *absent) Report(_ context.Context, r link.Report) (link.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.here {
		return link.Receipt{}, fault.New(fault.Unavailable, "away")
	}
	for i := range r.Events {
		e := &r.Events[i]
		if e.Seq <= s.last || !same(e, 1) {
			s.wrong = "event " + strconv.FormatUint(e.Seq, 10) + " after " + strconv.FormatUint(s.last, 10)
		}
		s.last = e.Seq
		s.taken[e.Kind.Low()]++
	}
	s.agent = r.Agent
	if len(r.Events) == 0 {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
	return link.Receipt{}, nil
}

func (s *absent) Directives(ctx context.Context, _ link.Caller, _ func(link.Directive)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s *absent) Inventory(context.Context, link.Scanned) error {
	return fault.New(fault.Unavailable, "away")
}

func (s *absent) Verdict(context.Context, link.Verified) error {
	return fault.New(fault.Unavailable, "away")
}

// burst is a machine that senses n events as fast as they are taken.
type burst struct {
	machine
	n    uint64
	over chan struct{}
}

func (b *burst) Run(ctx context.Context, emit func([]event.Event)) error {
	const each = 100
	for n := uint64(0); n < b.n; n += each {
		batch := make([]event.Event, each)
		for i := range batch {
			batch[i] = made(1, n+uint64(i)+1)
		}
		emit(batch)
	}
	close(b.over)
	<-ctx.Done()
	return ctx.Err()
}

// A server that is away while far more is sensed than the spool may hold: what
// is of low value goes first, and what arrives and what is counted as lost make
// up what was sensed, to the event.
func TestServerAwayForLongerThanTheSpoolLasts(t *testing.T) {
	const sensed, limit = 300_000, 16 << 20
	s := &absent{taken: map[bool]uint64{}, idle: make(chan struct{}, 1)}
	m := &burst{machine: machine{placed: make(chan struct{})}, n: sensed, over: make(chan struct{})}
	a := agent.New(agent.Config{ID: "AGENTAGENT", DataDir: t.TempDir(), SpoolSize: limit, Heartbeat: 50 * time.Millisecond},
		agent.Parts{Engine: m, Sensors: m, Host: m, Server: s}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	await(t, m.over)
	s.mu.Lock()
	s.here = true
	s.mu.Unlock()
	await(t, s.idle)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong != "" {
		t.Error(s.wrong)
	}
	var lost uint64
	for _, l := range s.agent.Losses {
		if l.Where != spool.LostSize && l.Count > 0 {
			t.Errorf("lost for another reason: %+v", l)
		}
		lost += l.Count
	}
	low, rest := s.taken[true], s.taken[false]
	t.Logf("sensed %d, arrived %d of low value and %d others, counted as lost %d; %s", sensed, low, rest, lost, peak(t))
	if low+rest+lost != sensed {
		t.Errorf("%d arrived and %d are counted as lost; want %d in all", low+rest, lost, sensed)
	}
	if lost == 0 || rest == 0 || low*20 > rest { // a third of what was sensed is of low value
		t.Errorf("%d of low value and %d others arrived, want hardly any of low value", low, rest)
	}
	if s.last != sensed {
		t.Errorf("newest is %d, want %d", s.last, sensed)
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited %s", patience)
	}
}

// peak returns what the kernel says of this process's memory.
func peak(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmHWM") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}
