package detect_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/trial"
	"github.com/castellan-security/castellan/internal/event"
)

// ordinaryWork is what containers of a shop do all day, each line with its share of a
// hundred events.
var ordinaryWork = []struct {
	share int
	event trial.Event
}{
	{10, trial.Event{"on": "file.write", "exe": "/usr/sbin/nginx", "path": "/var/log/nginx/access.log"}},
	{2, trial.Event{"on": "file.read", "exe": "/usr/bin/python3.11", "pid": 101, "path": "/etc/ssl/private/shop.key"}},
	{2, trial.Event{"on": "file.rename", "exe": "/usr/bin/python3.11", "pid": 101, "path": "/srv/media/.{n}.part", "to": "/srv/media/{n}.jpg"}},
	{10, trial.Event{"on": "file.write", "exe": "/usr/lib/postgresql/16/bin/postgres", "pid": 102, "path": "/var/lib/postgresql/data/base/16384/{n}"}},
	{4, trial.Event{"on": "file.create", "exe": "/usr/bin/python3.11", "pid": 101, "path": "/tmp/upload-{n}"}},
	{4, trial.Event{"on": "file.delete", "exe": "/usr/bin/python3.11", "pid": 101, "path": "/tmp/upload-{n}"}},
	{20, trial.Event{"on": "network.accept", "exe": "/usr/sbin/nginx", "local": "10.0.1.5:443", "remote": "203.0.113.9:40{n}"}},
	{13, trial.Event{"on": "network.connect", "exe": "/usr/bin/python3.11", "pid": 101, "local": "10.0.1.6:52{n}", "remote": "10.0.2.7:5432"}},
	{18, trial.Event{"on": "network.close", "exe": "/usr/bin/python3.11", "pid": 101, "local": "10.0.1.6:52{n}", "remote": "10.0.2.7:5432"}},
	{3, trial.Event{"on": "dns.query", "exe": "/usr/bin/python3.11", "pid": 101, "name": "orders.shop.internal"}},
	{3, trial.Event{"on": "dns.answer", "exe": "/usr/bin/python3.11", "pid": 101, "name": "orders.shop.internal"}},
	{3, trial.Event{"on": "process.fork", "exe": "/usr/bin/dash", "pid": 103, "parent": 101}},
	{3, trial.Event{"on": "process.exec", "exe": "/usr/bin/curl", "pid": 103, "parent": 101, "run": "curl -sf http://localhost:8080/health"}},
	{3, trial.Event{"on": "process.exit", "exe": "/usr/bin/curl", "pid": 103, "parent": 101}},
	{1, trial.Event{"on": "privilege.user", "exe": "/usr/sbin/nginx", "target": "101"}},
}

// mixed are so many events of ordinary work in ten containers, mixed evenly; only are
// those of kinds that begin so.
func mixed(b testing.TB, n int, only string) []*event.Event {
	b.Helper()
	for _, w := range ordinaryWork {
		if !slices.Contains(event.Kinds(), event.Kind(w.event["on"].(string))) {
			b.Fatalf("there is no kind %s", w.event["on"])
		}
	}
	var out []*event.Event
	for round := 0; len(out) < n; round++ {
		for i, w := range ordinaryWork {
			if !strings.HasPrefix(w.event["on"].(string), only) || (round*37+i*11)%100 >= w.share {
				continue
			}
			short := trial.Event{"workload": fmt.Sprint("w", round%10)}
			for k, v := range w.event {
				if s, ok := v.(string); ok {
					v = strings.ReplaceAll(s, "{n}", fmt.Sprint(10+round%89))
				}
				short[k] = v
			}
			all, err := trial.Events([]trial.Event{short}, start)
			if err != nil {
				b.Fatal(err)
			}
			// Ten containers have processes of their own.
			e := all[0]
			for _, key := range []*event.Key{&e.Process.Key, &e.Process.Parent} {
				if key.PID > 1 {
					key.PID += uint32(round%10) * 1000
				}
			}
			out = append(out, e)
		}
	}
	return out[:n]
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
	observeAll(b, mixed(b, 10_000, ""))
}

// BenchmarkObserveKind is the same for each kind of event.
func BenchmarkObserveKind(b *testing.B) {
	done := map[string]bool{}
	for _, w := range ordinaryWork {
		kind := w.event["on"].(string)
		if done[kind] {
			continue
		}
		done[kind] = true
		b.Run(kind, func(b *testing.B) { observeAll(b, mixed(b, 1000, kind)) })
	}
}
