package behaviour_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// work is events of twenty groups as services have them: programs, files with names
// that change, connections, names.
func work(n int) []event.Event {
	all := make([]event.Event, n)
	for i := range all {
		g := i % 20
		e := event.Event{
			WorkloadID: container(g + 1), Group: fmt.Sprintf("shop/service-%02d/app", g),
			Process: event.Process{Key: event.Key{PID: uint32(100 + i%50), Start: 9}, Name: "app", Executable: "/usr/bin/app"},
		}
		switch i / 20 % 4 {
		case 0:
			e.Kind = event.KindExec
			e.Process.Executable = fmt.Sprintf("/usr/bin/tool-%d", i/80%30)
			e.Exec = &event.Exec{Args: []string{"x"}, Origin: event.OriginImage, Ancestors: []event.Ancestor{{Executable: "/usr/bin/app"}}}
		case 1:
			e.Kind = event.KindFileCreate
			e.File = &event.File{Path: fmt.Sprintf("/tmp/upload-%08x/part", i), FileSystem: "overlay"}
		case 2:
			e.Kind = event.KindConnect
			e.Connection = &event.Connection{Protocol: "tcp", Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i / 80)}), 5432),
				Peer: event.Peer{Kind: event.PeerWorkload, Group: "shop/db/postgres"}}
		default:
			e.Kind = event.KindQuery
			e.DNS = &event.DNS{Protocol: "udp", Name: fmt.Sprintf("api-%d.example.com", i/80%40), Type: "A"}
		}
		all[i] = e
	}
	return all
}

// BenchmarkStoredEvents reads events from a real store and learns from them, or holds
// them against profiles: what the server does with each. It tells events a second.
func BenchmarkStoredEvents(b *testing.B) {
	for _, c := range []struct {
		name string
		mode profile.Mode
	}{{"learn", profile.Discover}, {"compare", profile.Monitor}} {
		b.Run(c.name, func(b *testing.B) {
			const batch, batches = 2_000, 20
			h := start(b)
			for g := range 20 {
				w := asset.Workload{ID: container(g + 1), AgentID: agentID, Group: asset.Group(fmt.Sprintf("shop/service-%02d/app", g)), State: asset.Running}
				h.workloads(w)
			}
			h.happen(work(batch)...)
			if c.mode != profile.Discover {
				for g := range 20 {
					_, err := h.s.SetMode(b.Context(), h.admin, asset.Group(fmt.Sprintf("shop/service-%02d/app", g)), decisionFor(c.mode))
					h.must(err)
				}
			}
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				h.halt() // so that storing is not measured
				for range batches {
					h.seq = h.stored(work(batch))
				}
				b.StartTimer()
				h.run(h.s.Log)
				last := h.last
				h.eventually("all is known", func() bool { return h.s.Progress().Position >= last })
			}
			b.ReportMetric(float64(b.N*batch*batches)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
