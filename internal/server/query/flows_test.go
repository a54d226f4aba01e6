package query_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

func values(t *testing.T, s string) url.Values {
	t.Helper()
	v, err := url.ParseQuery(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFlows(t *testing.T) {
	for in, want := range map[string]store.FlowQuery{
		"": {Since: now.Add(-24 * time.Hour), Until: now, Limit: store.MaxFlows},
		"workload=w&group=g&since=7d&until=1h&limit=5": {
			WorkloadID: "w", Group: "g", Since: now.Add(-7 * 24 * time.Hour), Until: now.Add(-time.Hour), Limit: 5,
		},
	} {
		got, err := query.Flows(values(t, in), now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
	for in, names := range map[string]string{"limit=5001": "limit", "since=1h&until=2h": "until", "since=x": "since"} {
		if _, err := query.Flows(values(t, in), now); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), names) {
			t.Errorf("%q: got %v, want invalid and %s named", in, err, names)
		}
	}
}

func TestSamples(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"": 2 * time.Second, "since=15m": 0, "since=15m&step=10s": 10 * time.Second, "since=24h": 44 * time.Second,
	} {
		since, until, step, err := query.Samples(values(t, in), now)
		if err != nil || step != want {
			t.Errorf("%q: got step %s, %v, want %s", in, step, err, want)
		}
		if step != 0 && until.Sub(since)/step > store.MaxSamples {
			t.Errorf("%q: %s in steps of %s are too many", in, until.Sub(since), step)
		}
	}
	for in, names := range map[string]string{"step=1ms": "step", "since=7d&step=1s": "step", "since=1h&until=2h": "until", "step=-1s": "step"} {
		if _, _, _, err := query.Samples(values(t, in), now); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), names) {
			t.Errorf("%q: got %v, want invalid and %s named", in, err, names)
		}
	}
}
