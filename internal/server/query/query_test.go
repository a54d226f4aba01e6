package query_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func TestEvents(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		name, in string
		want     store.EventQuery
	}{
		{"nothing", "", store.EventQuery{}},
		{"kinds with commas and repeated", "kind=process.exec,process.exit&kind=process.fork",
			store.EventQuery{Kinds: []event.Kind{event.KindExec, event.KindExit, event.KindFork}}},
		{"all kinds of a sensor", "kind=dns.*,resource&kind=dns.query",
			store.EventQuery{Kinds: []event.Kind{event.KindQuery, event.KindAnswer, event.KindOOM, event.KindThrottle, event.KindLimit}}},
		{"path and peer", "path=/etc/*&peer=10.0.0.1:443", store.EventQuery{Path: "/etc/*", Peer: "10.0.0.1:443"}},
		{"where", "agent=A&workload=w&group=a/b/c", store.EventQuery{AgentID: "A", WorkloadID: "w", Group: "a/b/c"}},
		{"host", "host=true", store.EventQuery{HostOnly: true}},
		{"a ticked box", "entered=on", store.EventQuery{Entered: true}},
		{"process", "agent=A&process=12-34", store.EventQuery{AgentID: "A", Process: event.Key{PID: 12, Start: 34}}},
		{"origins", "origin=written,unknown", store.EventQuery{Origins: []event.Origin{event.OriginWritten, event.OriginUnknown}}},
		{"times", "since=15m&until=2026-11-23T09:59:00Z", store.EventQuery{Since: now.Add(-15 * time.Minute), Until: at("2026-11-23T09:59:00Z")}},
		{"days", "since=7d", store.EventQuery{Since: now.Add(-7 * 24 * time.Hour)}},
		{"paging", "before=9&after=3&limit=50", store.EventQuery{Before: 9, After: 3, Limit: 50}},
		{"text and path", "text=curl+http&executable=/bin/*", store.EventQuery{Text: "curl http", Executable: "/bin/*"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := url.ParseQuery(c.in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := query.Events(v, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEventsRefusesAndNamesTheParameter(t *testing.T) {
	for _, c := range []struct{ in, names string }{
		{"kind=file.open", "kind"},
		{"kind=fil*", "kind"},
		{"kind=.*", "kind"},
		{"path=" + strings.Repeat("x", 4097), "path"},
		{"origin=mars", "origin"},
		{"host=perhaps", "host"},
		{"host=1&workload=w", "host"},
		{"process=12-34", "process"},
		{"agent=A&process=12", "process"},
		{"agent=A&process=-1-2", "process"},
		{"agent=A&process=99999999999-2", "process"},
		{"since=yesterday", "since"},
		{"since=-5m", "since"},
		{"since=999999d", "since"},
		{"since=1h&until=2h", "until"},
		{"limit=1001", "limit"},
		{"limit=-1", "limit"},
		{"limit=ten", "limit"},
		{"before=1e3", "before"},
		{"text=" + strings.Repeat("x", 257), "text"},
		{"text=%ff", "text"},
		{"group=%00", "group"},
		{"kind=" + strings.Repeat("process.exec,", 100), "kind"},
	} {
		t.Run(c.in[:min(len(c.in), 30)], func(t *testing.T) {
			v, err := url.ParseQuery(c.in)
			if err != nil {
				t.Fatal(err)
			}
			_, err = query.Events(v, now)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "parameter "+c.names+":") {
				t.Errorf("got %v, want invalid, naming %s", err, c.names)
			}
		})
	}
}

func TestWorkloads(t *testing.T) {
	v := url.Values{"state": {"running,paused"}, "cluster": {"shop"}, "image": {"sha256:12"}, "text": {"store"}, "after": {"abc"}, "limit": {"7"}}
	got, err := query.Workloads(v)
	if err != nil {
		t.Fatal(err)
	}
	want := store.WorkloadQuery{Cluster: "shop", ImageID: "sha256:12", States: []asset.State{asset.Running, asset.Paused}, Text: "store", After: "abc", Limit: 7}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
	if _, err := query.Workloads(url.Values{"state": {"dead"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("unknown state: got %v, want invalid", err)
	}
}

func TestMatch(t *testing.T) {
	e := event.Event{
		AgentID: "A", WorkloadID: "w", Group: "a/b/c", Kind: event.KindExec, Time: now,
		Process: event.Process{Key: event.Key{PID: 1, Start: 2}, Name: "curl", Executable: "/usr/bin/curl"},
		Exec:    &event.Exec{Args: []string{"curl", "--silent", "http://Example.com/x_y"}, Origin: event.OriginWritten, Entered: true},
	}
	for _, c := range []struct {
		in   string
		want bool
	}{
		{"", true},
		{"kind=process.exec", true}, {"kind=process.exit", false},
		{"agent=A", true}, {"agent=B", false},
		{"workload=w", true}, {"workload=v", false},
		{"group=a/b/c", true}, {"group=a/b", false},
		{"host=1", false},
		{"executable=/usr/bin/curl", true}, {"executable=/usr/bin", false}, {"executable=/usr/*", true}, {"executable=/bin/*", false},
		{"agent=A&process=1-2", true}, {"agent=A&process=1-3", false},
		{"origin=written,image", true}, {"origin=image", false},
		{"entered=1", true},
		{"text=curl", true}, {"text=CURL+exam", true}, {"text=ample", false}, {"text=silent+missing", false}, {"text=//exam", true}, {"text=_y", false}, {"text=x_", true}, {"text=y", false},
		{"since=1m", true}, {"until=1m", false}, {"since=2026-11-23T10:00:00Z", true}, {"until=2026-11-23T10:00:00Z", false},
	} {
		v, err := url.ParseQuery(c.in)
		if err != nil {
			t.Fatal(err)
		}
		q, err := query.Events(v, now)
		if err != nil {
			t.Fatalf("%s: %v", c.in, err)
		}
		if got := query.Match(q)(&e); got != c.want {
			t.Errorf("%q: got %v, want %v", c.in, got, c.want)
		}
	}
	exit := e
	exit.Kind, exit.Exec = event.KindExit, nil
	if query.Match(store.EventQuery{Entered: true})(&exit) {
		t.Error("an exit is no exec that entered")
	}
}

func FuzzEvents(f *testing.F) {
	f.Add("kind=process.exec&since=15m&process=1-2&agent=x")
	f.Add("since=2026-11-23T10:00:00Z&until=1h&limit=10&before=9223372036854775807")
	f.Add("text=%00&origin=,,,&since=106751d&until=-9223372036854775808ns")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		q, err := query.Events(v, now)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("got kind %v, want invalid", fault.Of(err))
			}
			return
		}
		if q.Limit < 0 || q.Limit > store.MaxPage || q.Before < 0 || q.After < 0 {
			t.Fatalf("accepted out of bounds: %+v", q)
		}
		if !q.Process.IsZero() && q.AgentID == "" {
			t.Fatal("accepted a process without its host")
		}
		query.Match(q)(&event.Event{Exec: &event.Exec{Args: []string{s}}})
	})
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"15m", "7d", "1h30m", "2026-11-23T10:00:00+02:00", "-1s", "1e9h", "65535d", ".5d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := query.Time(s, now)
		if err != nil {
			return
		}
		if d, derr := query.Duration(s); derr == nil && !got.Equal(now.Add(-d)) {
			t.Fatalf("%q: got %s, want %s ago", s, got, d)
		}
	})
}
