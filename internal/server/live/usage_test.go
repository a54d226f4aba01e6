package live_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/live"
)

func TestUsage(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tables := live.NewTables(func() time.Time { return now })
	sample := func(id string, at time.Time, cpu time.Duration) asset.Sample {
		return asset.Sample{WorkloadID: id, Time: at, CPU: cpu}
	}
	report := func(samples ...asset.Sample) {
		tables.Apply("AGENT", link.Report{Agent: asset.Agent{Boot: "BOOT"}, Samples: samples})
	}
	first := sample("a", now, time.Second)
	report(first)
	if d := cmp.Diff([]live.WorkloadUsage{{Sample: first}}, tables.Usage(), cmpopts.IgnoreUnexported(live.WorkloadUsage{})); d != "" {
		t.Errorf("after one sample (-want +got):\n%s", d)
	}

	now = now.Add(10 * time.Second)
	second := sample("a", now, 6*time.Second)
	report(second)
	report(second, first) // a report that came twice, and an old one
	want := []live.WorkloadUsage{{Sample: second, Rates: &asset.Rates{CPU: 0.5}}}
	if d := cmp.Diff(want, tables.Usage(), cmpopts.IgnoreUnexported(live.WorkloadUsage{})); d != "" {
		t.Errorf("after two samples (-want +got):\n%s", d)
	}

	now = now.Add(2 * time.Minute)
	if got := tables.Usage(); len(got) != 0 {
		t.Errorf("two minutes later it still uses %v", got)
	}
}
