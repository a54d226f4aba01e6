package gate_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/finding"
)

// callers is how many ask at once for each processor.
const callers = 3

// warm is a service that knows two images with so many vulnerabilities each, by the
// first policy that castellan admit init writes, with a store that keeps every
// verdict.
type warm struct {
	*house
	b      *testing.B
	serial atomic.Int64

	mu   sync.Mutex
	took []time.Duration
}

func newWarm(b *testing.B, vulnerabilities int) *warm {
	h := start(b)
	h.set(string(admit.First()), 0)
	many := make([]finding.Severity, vulnerabilities)
	for i := range many {
		many[i] = finding.Severity(1 + i%4)
	}
	for _, of := range []string{"a", "b"} {
		h.scan(digest(of), digest(of), many...)
	}
	return &warm{house: h, b: b}
}

// ask decides on a task of two containers, and returns how long that took.
func (w *warm) ask(differ bool) time.Duration {
	r := ask(fmt.Sprint("r", w.serial.Add(1)), "shop", digest("a"))
	r.Task.Containers = append(r.Task.Containers, admission.Container{Name: "side", Image: admission.Image{
		Reference: "reg.example/side:1", Registry: "reg.example", Repository: "side", Digest: digest("b")}})
	if differ {
		r.Task.Containers[0].Command = []string{r.ID}
	}
	began := time.Now()
	v, err := w.s.Decide(context.Background(), w.admin, r)
	took := time.Since(began)
	if err != nil || v.Outcome == "" || v.Declared {
		w.b.Errorf("got %+v, %v", v, err)
	}
	return took
}

func (w *warm) note(own []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took = append(w.took, own...)
}

// report tells decisions a second and the time that 99 of 100 stay below.
func (w *warm) report() {
	slices.Sort(w.took)
	w.b.ReportMetric(float64(len(w.took))/w.b.Elapsed().Seconds(), "decisions/s")
	w.b.ReportMetric(float64(w.took[len(w.took)*99/100].Microseconds()), "p99-µs")
	w.b.ReportMetric(float64(w.s.Lost()), "lost")
}

// BenchmarkWarmDecide asks as fast as answers come.
func BenchmarkWarmDecide(b *testing.B) {
	for _, c := range []struct {
		name            string
		vulnerabilities int
		differ          bool // each request from all others
	}{{"alike 20", 20, false}, {"alike 400", 400, false}, {"different 20", 20, true}, {"different 400", 400, true}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWarm(b, c.vulnerabilities)
			b.SetParallelism(callers)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				var own []time.Duration
				for pb.Next() {
					own = append(own, w.ask(c.differ))
				}
				w.note(own)
			})
			b.StopTimer()
			w.report()
		})
	}
}

// BenchmarkPacedDecide asks so many times a second, each request different.
func BenchmarkPacedDecide(b *testing.B) {
	for _, rate := range []int{1_000, 3_000, 5_000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			w := newWarm(b, 400)
			b.ResetTimer()
			began := time.Now()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range 4 * callers {
				wg.Go(func() {
					var own []time.Duration
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
						own = append(own, w.ask(true))
					}
					w.note(own)
				})
			}
			wg.Wait()
			b.StopTimer()
			w.report()
		})
	}
}

// BenchmarkColdDecide decides after a new comparison of the image with advisories:
// what is known of it is gathered anew from the store.
func BenchmarkColdDecide(b *testing.B) {
	h := start(b)
	h.set(string(admit.First()), 0)
	many := make([]finding.Severity, 400)
	for i := range many {
		many[i] = finding.Severity(1 + i%4)
	}
	var took []time.Duration
	for i := range b.N {
		b.StopTimer()
		h.pass(time.Second)
		h.scan(digest("a"), digest("a"), many...)
		b.StartTimer()
		began := time.Now()
		v, err := h.s.Decide(context.Background(), h.admin, ask(fmt.Sprint("r", i), "shop", digest("a")))
		took = append(took, time.Since(began))
		if err != nil || v.Declared {
			b.Fatalf("got %+v, %v", v, err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
