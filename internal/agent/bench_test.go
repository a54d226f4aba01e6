package agent_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

// sink is a server that takes everything and counts.
type sink struct {
	world
	mu    sync.Mutex
	count int
	want  int
	full  chan struct{}
}

func (s *sink) Report(_ context.Context, r link.Report) (link.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count += len(r.Events)
	if s.want > 0 && s.count >= s.want {
		close(s.full)
		s.want = 0
	}
	return link.Receipt{}, nil
}

// BenchmarkSensedToAcknowledged is the whole way of an event through an agent,
// without the kernel before it and the link behind it: what one event costs.
func BenchmarkSensedToAcknowledged(b *testing.B) {
	for _, bc := range []struct{ name, dir string }{{"disk", b.TempDir()}, {"memory", ""}} {
		b.Run(bc.name, func(b *testing.B) {
			s := &sink{world: world{sense: make(chan []event.Event), engine: make(chan asset.Inventory)}, full: make(chan struct{}), want: b.N}
			a := agent.New(agent.Config{ID: "A", DataDir: bc.dir, Flush: 1, QueueSize: 1 << 30}, agent.Parts{Engine: s, Sensors: s, Host: s, Server: s}, slog.New(slog.DiscardHandler))
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan error)
			go func() { done <- a.Run(ctx) }()
			batch := make([]event.Event, 50)
			for i := range batch {
				batch[i] = exec(uint32(i+1), "/usr/bin/program", "program", "--option", "value")
				batch[i].WorkloadID = id("a")
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += len(batch) {
				s.sense <- slices.Clone(batch)
			}
			<-s.full
			b.StopTimer()
			stop()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}
