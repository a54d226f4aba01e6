package learn_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

func TestLimitsFromWhatIsUsed(t *testing.T) {
	l := learn.New("g")
	before := asset.Sample{}
	for i := range 60 {
		if got := l.Profile().Limits; got != (profile.Limits{}) {
			t.Fatalf("%d samples give %+v", i, got)
		}
		s := asset.Sample{WorkloadID: "a", Time: start.Add(time.Duration(i) * time.Second), Pids: 30, Memory: 300 << 20, Descriptors: 10,
			CPU: time.Duration(i) * 500 * time.Millisecond, DiskWritten: uint64(i) * (9 << 20)}
		if i == 30 {
			s.Pids = 40
		}
		l.Usage(s, before)
		before = s
	}
	for i := range 50 {
		l.Take(connection("a", start.Add(time.Duration(i)*time.Millisecond), 0, 0), nil)
	}
	// Two hundred that are alike, over ten seconds, are twenty a second.
	l.Take(connection("b", start, 200, 9*time.Second), nil)
	want := profile.Limits{Processes: 256, Memory: 2 << 30, CPU: 2048, Descriptors: 1024, WriteBytes: 64 << 20, NewConnections: 1024, Source: profile.Learned}
	if diff := cmp.Diff(l.Profile().Limits, want); diff != "" {
		t.Errorf("limits (-got +want):\n%s", diff)
	}
}

// connection is one that a workload began, or count that are alike within span.
func connection(workload string, at time.Time, count uint64, span time.Duration) *event.Event {
	e := &event.Event{Kind: event.KindConnect, WorkloadID: workload, Time: at, Count: count,
		Connection: &event.Connection{Protocol: "tcp", Remote: netip.MustParseAddrPort("10.0.0.1:5432")}}
	if span > 0 {
		e.Last = at.Add(span)
	}
	return e
}

func TestNewConnectionsAreCountedByTheSecond(t *testing.T) {
	for _, tc := range []struct {
		name   string
		events []*event.Event
		want   uint64
	}{
		{"one", []*event.Event{connection("a", start, 0, 0)}, 128},
		{"a burst", []*event.Event{connection("a", start, 0, 0), connection("a", start, 999, 100*time.Millisecond)}, 16384},
		{"spread over ten seconds", []*event.Event{connection("a", start, 1000, 9*time.Second)}, 2048},
		{"several at once add up", []*event.Event{connection("a", start, 100, 9*time.Second), connection("a", start.Add(2*time.Second), 100, 9*time.Second)}, 512},
		{"of several containers the most counts", []*event.Event{connection("a", start, 100, 0), connection("b", start, 20, 0)}, 2048},
		{"a count of an hour", []*event.Event{connection("a", start, 3600, time.Hour)}, 128},
		{"long ago", []*event.Event{connection("a", start.Add(time.Hour), 50, 0), connection("a", start, 50, 0)}, 1024},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := learn.New("g")
			for range 60 {
				l.Usage(asset.Sample{WorkloadID: "a", Pids: 1}, asset.Sample{})
			}
			for _, e := range tc.events {
				l.Take(e, nil)
			}
			if got := l.Profile().Limits.NewConnections; got != tc.want {
				t.Errorf("%d connections a second are allowed, want %d", got, tc.want)
			}
		})
	}
}
