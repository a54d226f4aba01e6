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
const callers = 2

// BenchmarkWarmDecide decides on tasks of two containers whose images are known, with
// so many vulnerabilities each, by
// the first policy that castellan admit init writes, with a store that keeps every
// verdict. It tells decisions a second and the time that 99 of 100 stay below.
func BenchmarkWarmDecide(b *testing.B) {
	for _, c := range []struct {
		name            string
		vulnerabilities int
		differ          bool // each request from all others
	}{{"alike 20", 20, false}, {"alike 400", 400, false}, {"different 20", 20, true}, {"different 400", 400, true}} {
		b.Run(c.name, func(b *testing.B) {
			vulnerabilities := c.vulnerabilities
			h := start(b)
			h.set(string(admit.First()), 0)
			many := make([]finding.Severity, vulnerabilities)
			for i := range many {
				many[i] = finding.Severity(1 + i%4)
			}
			for _, of := range []string{"a", "b"} {
				h.scan(digest(of), digest(of), many...)
			}
			var serial atomic.Int64
			var mu sync.Mutex
			var took []time.Duration
			b.SetParallelism(callers)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				var own []time.Duration
				for pb.Next() {
					r := ask(fmt.Sprint("r", serial.Add(1)), "shop", digest("a"))
					r.Task.Containers = append(r.Task.Containers, admission.Container{Name: "side", Image: admission.Image{
						Reference: "reg.example/side:1", Registry: "reg.example", Repository: "side", Digest: digest("b")}})
					if c.differ {
						r.Task.Containers[0].Command = []string{r.ID}
					}
					began := time.Now()
					v, err := h.s.Decide(context.Background(), h.admin, r)
					own = append(own, time.Since(began))
					if err != nil || v.Outcome == "" || v.Declared {
						b.Errorf("got %+v, %v", v, err)
						return
					}
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, own...)
			})
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "decisions/s")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(h.s.Lost()), "lost")
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
