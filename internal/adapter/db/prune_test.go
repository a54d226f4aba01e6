package db_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
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
	if n := count(t, d, "SELECT count(id) FROM terms WHERE id NOT IN (SELECT term FROM postings) AND dimension NOT IN (4, 7)"); n != 0 {
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
