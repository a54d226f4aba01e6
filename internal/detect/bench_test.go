package detect_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/trial"
	"github.com/castellan-security/castellan/internal/event"
)

// ordinaryWork are so many events of ordinary work of kinds that begin so.
func ordinaryWork(b testing.TB, n int, only string) []*event.Event {
	b.Helper()
	events, err := trial.Ordinary(n, only, start)
	if err != nil {
		b.Fatal(err)
	}
	return events
}

// observeAll has all rules look at events again and again, 10,000 in a second of the
// events' time.
func observeAll(b *testing.B, events []*event.Event) {
	e, err := detect.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	threats, at := 0, start
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		ev := events[i%len(events)]
		at = at.Add(100 * time.Microsecond)
		ev.Time, ev.Seq = at, uint64(i)
		threats += len(e.Observe(ev))
	}
	b.StopTimer()
	if threats > b.N/1000 {
		b.Errorf("ordinary work gives %d threats in %d events: it measures what is told", threats, b.N)
	}
	var looked uint64
	for _, s := range e.Stats() {
		looked += s.Looked
	}
	b.ReportMetric(float64(looked)/float64(b.N), "rules/op")
}

// BenchmarkObserve is what an event of ordinary work costs with all built-in rules.
// 10,000 a second of 5,000 ns each are 5 % of a core.
func BenchmarkObserve(b *testing.B) {
	observeAll(b, ordinaryWork(b, 10_000, ""))
}

// BenchmarkObserveKind is the same for each kind of event.
func BenchmarkObserveKind(b *testing.B) {
	for _, k := range trial.OrdinaryKinds() {
		b.Run(string(k), func(b *testing.B) { observeAll(b, ordinaryWork(b, 1000, string(k))) })
	}
}

// BenchmarkNew is what a change of rules costs an agent.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := detect.New(nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKept is what the rules keep of the heap: before the first event, and after
// ordinary work, which asks for some of the conditions.
func BenchmarkKept(b *testing.B) {
	for _, after := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("after=%d", after), func(b *testing.B) {
			events := ordinaryWork(b, max(after, 1), "")[:after]
			var kept int64
			for b.Loop() {
				before := live()
				e, err := detect.New(nil)
				if err != nil {
					b.Fatal(err)
				}
				for _, ev := range events {
					e.Observe(ev)
				}
				kept = live() - before
				runtime.KeepAlive(e)
			}
			b.ReportMetric(float64(kept)/1024, "KiB-kept")
		})
	}
}

// live is how much of the heap is in use, in bytes.
func live() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // for what finalizers held
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
