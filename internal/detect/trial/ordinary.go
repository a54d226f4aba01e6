package trial

import (
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// ordinaryWork is what containers of a shop do all day, each line with its share of a
// hundred events.
var ordinaryWork = []struct {
	share int
	event Event
}{
	{10, Event{"on": "file.write", "exe": "/usr/sbin/nginx", "path": "/var/log/nginx/access.log"}},
	{2, Event{"on": "file.read", "exe": "/usr/bin/python3.11", "pid": 101, "path": "/etc/ssl/private/shop.key"}},
	{2, Event{"on": "file.rename", "exe": "/usr/bin/python3.11", "pid": 101, "path": "/srv/media/.{n}.part", "to": "/srv/media/{n}.jpg"}},
	{10, Event{"on": "file.write", "exe": "/usr/lib/postgresql/16/bin/postgres", "pid": 102, "path": "/var/lib/postgresql/data/base/16384/{n}"}},
	{4, Event{"on": "file.create", "exe": "/usr/bin/python3.11", "pid": 101, "path": "/tmp/upload-{n}"}},
	{4, Event{"on": "file.delete", "exe": "/usr/bin/python3.11", "pid": 101, "path": "/tmp/upload-{n}"}},
	{20, Event{"on": "network.accept", "exe": "/usr/sbin/nginx", "local": "10.0.1.5:443", "remote": "203.0.113.9:40{n}"}},
	{13, Event{"on": "network.connect", "exe": "/usr/bin/python3.11", "pid": 101, "local": "10.0.1.6:52{n}", "remote": "10.0.2.7:5432"}},
	{18, Event{"on": "network.close", "exe": "/usr/bin/python3.11", "pid": 101, "local": "10.0.1.6:52{n}", "remote": "10.0.2.7:5432"}},
	{3, Event{"on": "dns.query", "exe": "/usr/bin/python3.11", "pid": 101, "name": "orders.shop.internal"}},
	{3, Event{"on": "dns.answer", "exe": "/usr/bin/python3.11", "pid": 101, "name": "orders.shop.internal"}},
	{3, Event{"on": "process.fork", "exe": "/usr/bin/dash", "pid": 103, "parent": 101}},
	{3, Event{"on": "process.exec", "exe": "/usr/bin/curl", "pid": 103, "parent": 101, "run": "curl -sf http://localhost:8080/health"}},
	{3, Event{"on": "process.exit", "exe": "/usr/bin/curl", "pid": 103, "parent": 101}},
	{1, Event{"on": "privilege.user", "exe": "/usr/sbin/nginx", "target": "101"}},
}

// OrdinaryKinds are the kinds of events of ordinary work.
func OrdinaryKinds() []event.Kind {
	var out []event.Kind
	done := map[event.Kind]bool{}
	for _, w := range ordinaryWork {
		if k := event.Kind(w.event["on"].(string)); !done[k] {
			done[k] = true
			out = append(out, k)
		}
	}
	return out
}

// Ordinary returns so many events of ordinary work in ten containers, mixed evenly, for
// measuring what rules cost that find nothing. only leaves those of kinds that begin
// so; there must be such kinds.
func Ordinary(n int, only string, from time.Time) ([]*event.Event, error) {
	var out []*event.Event
	for round := 0; len(out) < n; round++ {
		if round > 100 && len(out) == 0 {
			return nil, fmt.Errorf("no event of ordinary work is of a kind %s…", only)
		}
		for i, w := range ordinaryWork {
			if !strings.HasPrefix(w.event["on"].(string), only) || (round*37+i*11)%100 >= w.share {
				continue
			}
			short := Event{"workload": fmt.Sprint("w", round%10)}
			for k, v := range w.event {
				if s, ok := v.(string); ok {
					v = strings.ReplaceAll(s, "{n}", fmt.Sprint(10+round%89))
				}
				short[k] = v
			}
			all, err := Events([]Event{short}, from)
			if err != nil {
				return nil, err
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
	return out[:n], nil
}
