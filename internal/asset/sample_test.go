package asset_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
)

func TestRates(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	before := asset.Sample{Time: at, CPU: 10 * time.Second, DiskRead: 1000, NetworkSent: 500}
	for _, tc := range []struct {
		name string
		now  asset.Sample
		want asset.Rates
	}{
		{"ten seconds later", asset.Sample{Time: at.Add(10 * time.Second), CPU: 15 * time.Second, Throttled: time.Second, DiskRead: 3000, NetworkSent: 500},
			asset.Rates{CPU: 0.5, Throttled: 0.1, DiskRead: 200}},
		{"started anew", asset.Sample{Time: at.Add(10 * time.Second), CPU: time.Second, DiskRead: 100},
			asset.Rates{CPU: 0.1, DiskRead: 10}},
		{"the same moment", asset.Sample{Time: at, CPU: 15 * time.Second}, asset.Rates{}},
		{"a clock set back", asset.Sample{Time: at.Add(-time.Second), CPU: 15 * time.Second}, asset.Rates{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, tc.now.Since(before)); d != "" {
				t.Errorf("rates (-want +got):\n%s", d)
			}
		})
	}
}
