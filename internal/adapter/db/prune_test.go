package db_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

func count(t *testing.T, d *db.DB, statement string) int64 {
	t.Helper()
	n, err := d.Count(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPruneLeavesNothingBehind: with the events go their blocks, postings,
// terms, sums and sources, and what comes later is found all the same.
func TestPruneLeavesNothingBehind(t *testing.T) {
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	fill(t, d, 5_000)
	again := newFleet(2).batch(300)
	for i := range again {
		again[i].Boot = "boot-2"
	}
	if err := d.AppendEvents(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	later := fleetStart.AddDate(1, 0, 0)
	for range 2 {
		if _, err := d.Prune(t.Context(), store.Retention{Events: time.Hour}, later); err != nil {
			t.Fatal(err)
		}
	}
	for table, statement := range map[string]string{
		"events": "SELECT count(id) FROM events", "blocks": "SELECT count(id) FROM blocks",
		"sums": "SELECT count(kind) FROM event_rates",
	} {
		if n := count(t, d, statement); n != 0 {
			t.Errorf("%d %s are left", n, table)
		}
	}
	// What the newest block, which may go on, has posted stays; all else went.
	if n := count(t, d, "SELECT count(id) FROM terms WHERE id NOT IN (SELECT term FROM postings) AND dimension NOT IN (1, 4, 7)"); n != 0 {
		t.Errorf("%d unused terms are left", n)
	}
	if n := count(t, d, "SELECT count(term) FROM postings WHERE block < (SELECT max(block) FROM postings)"); n != 0 {
		t.Errorf("%d postings of removed blocks are left", n)
	}
	if n := count(t, d, "SELECT count(agent) - count(DISTINCT agent) FROM sources"); n != 0 {
		t.Errorf("%d old boots are left", n)
	}

	f := newFleet(3)
	for i := range 3 {
		batch := f.batch(200)
		for j := range batch {
			batch[j].Boot = "boot-3"
		}
		if err := d.AppendEvents(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		for _, q := range []store.EventQuery{
			{AgentID: batch[0].AgentID, Executable: batch[0].Process.Executable},
			{Text: "config", Kinds: []event.Kind{event.KindExec}}, {WorkloadID: batch[0].WorkloadID},
		} {
			if page, err := d.Events(t.Context(), q); err != nil || len(page.Events) == 0 {
				t.Errorf("report %d: %+v finds nothing (%v)", i, q, err)
			}
		}
	}
}

// TestPruneObjects: with the events go marks, flows and samples, the count of
// words stays right, and what comes later is found.
func TestPruneObjects(t *testing.T) {
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	f := newMixed(4)
	sampled := []asset.Sample{{WorkloadID: "only sampled", Time: fleetStart}}
	if err := d.PutSamples(t.Context(), sampled); err != nil {
		t.Fatal(err)
	}
	// More than a segment, so that one is left behind.
	for stored := 0; stored < 70_000; stored += 2_000 {
		if err := d.AppendEvents(t.Context(), f.batch(2_000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"marks", "flows", "samples"} {
		if n := count(t, d, "SELECT count(1) FROM "+table); n == 0 {
			t.Fatalf("no %s to remove", table)
		}
	}
	for range 2 {
		if _, err := d.Prune(t.Context(), store.Retention{Events: time.Hour}, fleetStart.AddDate(1, 0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for what, statement := range map[string]string{
		"marks":   "SELECT count(block) FROM marks WHERE segment < (SELECT max(segment) FROM marks)",
		"flows":   "SELECT count(id) FROM flows",
		"samples": "SELECT count(time) FROM samples",
		"terms":   "SELECT count(id) FROM terms WHERE id NOT IN (SELECT term FROM postings) AND dimension NOT IN (1, 4, 7)",
	} {
		if n := count(t, d, statement); n != 0 {
			t.Errorf("%d %s are left", n, what)
		}
	}
	wantWordCount(t, d)
	batch := f.batch(100)
	if err := d.AppendEvents(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	wantWordCount(t, d)
	for _, e := range batch {
		if e.File == nil {
			continue
		}
		for _, q := range []store.EventQuery{{Path: e.File.Path}, {Text: e.File.Path}} {
			if page, err := d.Events(t.Context(), q); err != nil || len(page.Events) == 0 {
				t.Errorf("%+v finds nothing (%v)", q, err)
			}
		}
	}
	if flows, err := d.Flows(t.Context(), store.FlowQuery{}); err != nil || len(flows) == 0 {
		t.Errorf("no flows (%v)", err)
	}
}

func wantWordCount(t *testing.T, d *db.DB) {
	t.Helper()
	counted := count(t, d, "SELECT value FROM counters WHERE name = 'word'")
	if n := count(t, d, "SELECT count(id) FROM terms WHERE dimension = 8"); n != counted {
		t.Errorf("%d words are counted, %d are there", counted, n)
	}
}

// TestFullDictionary: words that find no room are found all the same.
func TestFullDictionary(t *testing.T) {
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	d.SetMaxWords(100)
	f := newMixed(5)
	var all []event.Event
	for range 10 {
		batch := f.batch(400)
		if err := d.AppendEvents(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		all = append(all, batch...)
	}
	if n := count(t, d, "SELECT count(id) FROM terms WHERE dimension = 8"); n > 100 {
		t.Errorf("%d words are in a dictionary of 100", n)
	}
	wantWordCount(t, d)
	for i, e := range all {
		if e.File == nil || i%50 != 0 {
			continue
		}
		q := store.EventQuery{Text: e.File.Path[1:]}
		if got, _ := pages(t, d, q); !slices.Contains(got, e.ID) {
			t.Errorf("%+v does not find event %d", q, e.ID)
		}
	}
}

// TestFileShrinks: after much was removed the file gets smaller.
func TestFileShrinks(t *testing.T) {
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	fill(t, d, 150_000)
	pages := count(t, d, "PRAGMA page_count")
	if _, err := d.Prune(t.Context(), store.Retention{MaxEvents: 1_000}, fleetStart); err != nil {
		t.Fatal(err)
	}
	if left := count(t, d, "PRAGMA page_count"); left > pages/2 {
		t.Errorf("%d of %d pages are left", left, pages)
	}
}

// TestAppendsDuringPrune: reports are stored while old events go.
func TestAppendsDuringPrune(t *testing.T) {
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	const n = 20_000
	fill(t, d, n)
	pruned := make(chan error, 1)
	go func() {
		_, err := d.Prune(t.Context(), store.Retention{MaxEvents: 100}, fleetStart)
		pruned <- err
	}()
	f := newFleet(9)
	stored := 0
	for {
		batch := f.batch(50)
		for i := range batch {
			batch[i].Boot = "later"
		}
		if err := d.AppendEvents(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		stored += len(batch)
		select {
		case err := <-pruned:
			if err != nil {
				t.Fatal(err)
			}
			if left := count(t, d, "SELECT count(id) FROM events"); left < 100 || left > int64(100+stored) {
				t.Errorf("%d events are left, %d came meanwhile", left, stored)
			}
			return
		default:
		}
	}
}

func TestCancelled(t *testing.T) {
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	fill(t, d, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Events(ctx, store.EventQuery{}); !errors.Is(err, context.Canceled) {
		t.Errorf("query: got %v, want it cancelled", err)
	}
	batch := newFleet(5).batch(10)
	for i := range batch {
		batch[i].Boot = "other"
	}
	// Whether it waits or is stored at once is open; the answer must be true.
	err := d.AppendEvents(ctx, batch)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("append: got %v, want it cancelled or done", err)
	}
	want := int64(110)
	if err != nil {
		want = 100
	}
	wantEvents(t, d, want)
}
