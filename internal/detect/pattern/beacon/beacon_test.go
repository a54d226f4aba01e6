package beacon_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect/engine"
	"github.com/castellan-security/castellan/internal/detect/pattern/beacon"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
)

var start = time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)

// calls has a container call a peer with a name at intervals, and returns whether the
// rule fires.
func calls(t *testing.T, name string, age time.Duration, n int, interval func(int) time.Duration) bool {
	t.Helper()
	d, err := beacon.New(beacon.About())
	if err != nil {
		t.Fatal(err)
	}
	e, at, fired := engine.New(engine.Options{Rules: []rule.Detector{d}}), start, false
	see := func(kind event.Kind, peer, name string, sent uint64) {
		fired = len(e.Observe(&event.Event{AgentID: "a", WorkloadID: "w", Group: "g", Kind: kind, Time: at,
			Process:    event.Process{Key: event.Key{PID: 7, Start: 7}, Executable: "/app/x"},
			Connection: &event.Connection{Protocol: "tcp", Remote: netip.MustParseAddrPort(peer), Name: name, BytesSent: sent}})) > 0 || fired
	}
	see(event.KindConnect, "198.51.100.1:443", "shop.example", 0)
	at = at.Add(age)
	for i := range n {
		at = at.Add(interval(i))
		see(event.KindConnect, "203.0.113.9:443", name, 0)
		see(event.KindClose, "203.0.113.9:443", name, 600+uint64(i%3))
	}
	return fired
}

func TestIntervals(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	jitter := func(mean time.Duration, share float64) func(int) time.Duration {
		return func(int) time.Duration {
			return time.Duration(float64(mean) * (1 + share*(2*random.Float64()-1)))
		}
	}
	const name = "c2.evil.example"
	for _, tc := range []struct {
		what     string
		name     string
		age      time.Duration
		n        int
		interval func(int) time.Duration
		fires    bool
	}{
		{"a minute, varied by 30 %", name, 2 * time.Hour, 40, jitter(time.Minute, 0.3), true},
		{"an hour, varied by 10 %", name, 2 * time.Hour, 30, jitter(time.Hour, 0.1), true},
		{"every tenth is missed", name, 2 * time.Hour, 40, func(i int) time.Duration { return time.Minute << (i % 10 / 9) }, true},
		{"too few", name, 2 * time.Hour, 20, jitter(time.Minute, 0), false},
		{"the group has it from the beginning", name, time.Minute, 40, jitter(time.Minute, 0), false},
		{"from the beginning, but without a name", "", time.Minute, 40, jitter(time.Minute, 0), true},
		{"by chance", name, 2 * time.Hour, 400, func(int) time.Duration { return time.Duration(random.ExpFloat64() * float64(time.Minute)) }, false},
		{"faster than any beacon", name, 2 * time.Hour, 400, jitter(time.Second, 0), false},
		{"longer than any beacon", name, 2 * time.Hour, 40, jitter(3*time.Hour, 0), false},
		{"a cloud's queue", "sqs.eu-central-1.amazonaws.com", 2 * time.Hour, 40, jitter(20*time.Second, 0), false},
		{"a service of metrics", "intake.logs.datadoghq.com", 2 * time.Hour, 40, jitter(15*time.Second, 0), false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			if got := calls(t, tc.name, tc.age, tc.n, tc.interval); got != tc.fires {
				t.Errorf("fires: %v, want %v", got, tc.fires)
			}
		})
	}
}

func TestParametersThatAreNoneAreRefused(t *testing.T) {
	for name, value := range map[string]string{"beats": "0", "longest": "-1s", "harmless_ports": "[70000]", "bytes": "many"} {
		about := beacon.About()
		for i := range about.Parameters {
			if about.Parameters[i].Name == name {
				about.Parameters[i].Value = value
			}
		}
		if _, err := beacon.New(about); err == nil {
			t.Error(fmt.Sprint(name, " can be ", value))
		}
	}
}
