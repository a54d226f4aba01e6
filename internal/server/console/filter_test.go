package console

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

func TestEventFilterRoundTrip(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, in, want string // want is the address in its own order; "" is the same as in
		query          store.EventQuery
	}{
		{"nothing", "/events", "", store.EventQuery{}},
		{"empty fields of a form", "/events?text=&since=&kind=", "/events", store.EventQuery{}},
		{"kinds", "/events?kind=process.exec&kind=process.exit", "", store.EventQuery{Kinds: []event.Kind{event.KindExec, event.KindExit}}},
		{"kinds with a comma", "/events?kind=process.exec,process.exit", "/events?kind=process.exec&kind=process.exit", store.EventQuery{Kinds: []event.Kind{event.KindExec, event.KindExit}}},
		{"order", "/events?since=1h&text=a+b&kind=process.fork", "/events?kind=process.fork&text=a+b&since=1h", store.EventQuery{Kinds: []event.Kind{event.KindFork}, Text: "a b", Since: now.Add(-time.Hour)}},
		{"group with signs", "/events?group=shop%2Fa%26b%2Fc", "", store.EventQuery{Group: "shop/a&b/c"}},
		{"process", "/events?agent=a1&process=12-345", "", store.EventQuery{AgentID: "a1", Process: event.Key{PID: 12, Start: 345}}},
		{"origins", "/events?origin=written&origin=memory", "", store.EventQuery{Origins: []event.Origin{event.OriginWritten, event.OriginMemory}}},
		{"flags", "/events?entered=true", "", store.EventQuery{Entered: true}},
		{"flags off", "/events?entered=false&host=0", "/events", store.EventQuery{}},
		{"host", "/events?host=true", "", store.EventQuery{HostOnly: true}},
		{"workload, executable, until", "/events?workload=w1&executable=%2Ftmp%2F%2A&until=2026-11-23T11%3A00%3A00Z", "", store.EventQuery{WorkloadID: "w1", Executable: "/tmp/*", Until: now.Add(-time.Hour)}},
		{"what is not a filter", "/events?done=x&utm=1", "/events", store.EventQuery{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, err := url.Parse(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			f := eventFilter(u.Query())
			want := tc.want
			if want == "" {
				want = tc.in
			}
			if got := f.address(); got != want {
				t.Errorf("got address %s, want %s", got, want)
			}
			q, err := query.Events(f.values(), now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(q, tc.query); diff != "" {
				t.Errorf("query (-got +want):\n%s", diff)
			}
			again, err := url.Parse(f.address())
			if err != nil {
				t.Fatal(err)
			}
			if got := eventFilter(again.Query()).address(); got != want {
				t.Errorf("a second time: got %s, want %s", got, want)
			}
		})
	}
}

func TestFilterChips(t *testing.T) {
	f := eventFilter(url.Values{"kind": {"process.exec"}, "entered": {"true"}, "text": {"sh"}})
	want := []chip{
		{"kind", "process.exec", "/events?text=sh&entered=true"},
		{"text", "sh", "/events?kind=process.exec&entered=true"},
		{"entered", "yes", "/events?kind=process.exec&text=sh"},
	}
	if diff := cmp.Diff(f.chips(), want); diff != "" {
		t.Errorf("chips (-got +want):\n%s", diff)
	}
	if got, want := f.address("before", "17", "text", ""), "/events?kind=process.exec&entered=true&before=17"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
