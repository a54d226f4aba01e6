package detect_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// recorded is what agents told of a shop at its ordinary work: see testdata/README.md.
type recorded struct {
	events []event.Event
	// start is how many of them are of its start; the rest is work that goes on and on.
	start int
}

// startTakes is how long the shop in the recording starts up.
const startTakes = 30 * time.Second

func readRecorded(t testing.TB, file string) (r recorded) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		r.events = append(r.events, e)
	}
	if err := lines.Err(); err != nil || len(r.events) == 0 {
		t.Fatalf("%d events, %v", len(r.events), err)
	}
	slices.SortStableFunc(r.events, func(a, b event.Event) int { return a.Time.Compare(b.Time) })
	begin := r.events[0].Time.Add(startTakes)
	r.start, _ = slices.BinarySearchFunc(r.events, begin, func(e event.Event, at time.Time) int { return e.Time.Compare(at) })
	if r.start == 0 || r.start == len(r.events) {
		t.Fatalf("all %d events are of one part", len(r.events))
	}
	return r
}

// replay plays a part of a recording, in its containers of some deployment. Time and
// processes that began in it are moved by as much; those from before are the same.
func replay(events []event.Event, deployment, turn int, at time.Time, take func(*event.Event)) (end time.Time) {
	began := events[0].Time
	move := at.Sub(began)
	born := map[event.Key]bool{}
	for i := range events {
		if e := &events[i]; e.Kind == event.KindFork || e.Kind == event.KindExec {
			born[e.Process.Key] = true
		}
	}
	key := func(k *event.Key) {
		if k.PID == 0 {
			return
		}
		later := uint64(deployment) * uint64(24*time.Hour)
		if born[*k] {
			later += uint64(turn)
		}
		k.Start += later
	}
	for i := range events {
		e := events[i].Clone()
		e.Time = e.Time.Add(move)
		if !e.Last.IsZero() {
			e.Last = e.Last.Add(move)
		}
		if e.WorkloadID != "" {
			e.WorkloadID = fmt.Sprintf("%s-%d", e.WorkloadID, deployment)
		}
		key(&e.Process.Key)
		key(&e.Process.Parent)
		take(&e)
		end = e.Time
	}
	return end
}

// A day of the shop's ordinary work, with four deployments and less to do at night,
// makes no incident above low.
func TestADayOfOrdinaryWorkIsQuiet(t *testing.T) {
	r := readRecorded(t, "testdata/shop.jsonl.gz")
	engine, book := engineWith(t), detect.NewBook()
	day := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	seen, loud, rules := 0, map[string]string{}, map[string]int{}
	tell := func(all []threat.Threat, now time.Time) {
		for i := range all {
			rules[all[i].Rule]++
			if s := book.Take(&all[i], now); s != nil {
				if in := s.Incident(now); in.Severity > finding.Low {
					loud[in.Title+" in "+all[i].Group] = all[i].Rule + ": " + all[i].Summary
				}
			}
		}
	}
	take := func(e *event.Event) {
		seen++
		tell(engine.Observe(e), e.Time)
	}
	at, turn := day, 0
	for deployment := range 4 {
		at = replay(r.events[:r.start], deployment, 0, at, take)
		for until := day.Add(time.Duration(deployment+1) * 6 * time.Hour); at.Before(until); turn++ {
			at = replay(r.events[r.start:], deployment, turn+1, at, take)
			if hour := at.Hour(); hour < 6 || hour > 22 {
				at = at.Add(10 * time.Minute) // who sleeps buys nothing
			}
			book.Forget(at)
		}
	}
	tell(engine.Rest(), at)
	t.Logf("%d events of a day; threats by rule: %v", seen, rules)
	if seen < 100_000 {
		t.Errorf("a day has %d events: it is not one", seen)
	}
	for _, title := range slices.Sorted(maps.Keys(loud)) {
		t.Errorf("ordinary work is told as %s\n\t%s", title, loud[title])
	}
}
