package incidents_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/threat"
)

// BenchmarkTake takes reports of ten threats each, of which one is new, in a hundred
// incidents that have grown: what a server does in a storm.
func BenchmarkTake(b *testing.B) {
	h := open(b)
	n := 0
	report := func() {
		var all []*threat.Threat
		for k := range 10 {
			n++
			t := hit(fmt.Sprintf("rule-%d", k), n%100, time.Duration(n)*time.Millisecond)
			if k == 0 {
				t.Rule = fmt.Sprintf("rule-%d", n)
				t.Print = threat.PrintOf(t.Rule, t.AgentID, t.WorkloadID, t.Root)
			}
			all = append(all, t)
		}
		h.take(all...)
	}
	for range 1_000 {
		report()
	}
	for len(h.told) > 0 {
		<-h.told
	}
	for b.Loop() {
		report()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10, "µs/threat")
}
