package db_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// schemaFile makes a data file of statements in testdata: one that an earlier
// build has written.
func schemaFile(t *testing.T, name string) string {
	t.Helper()
	statements, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "castellan.db")
	file, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"PRAGMA page_size = 8192; PRAGMA auto_vacuum = incremental; PRAGMA journal_mode = wal", string(statements)} {
		if _, err := file.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMigrateFromFirst: what the first schema holds is there after the
// upgrade, and goes on.
func TestMigrateFromFirst(t *testing.T) {
	d := openFor(t, db.Options{Path: schemaFile(t, "schema1.sql")})
	at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	page, err := d.Events(t.Context(), store.EventQuery{})
	if err != nil || len(page.Events) != 3 {
		t.Fatalf("got %d events, %v; want 3", len(page.Events), err)
	}
	want := event.Event{
		ID: 1, Version: 1, AgentID: "agent-a", Boot: "boot-a", Seq: 1<<33 + 7, Time: at, Received: at.Add(time.Second),
		Kind: event.KindExec, WorkloadID: "w1", Group: "prod/shop/web",
		Process: event.Process{
			Key: event.Key{PID: 12, Start: 34}, ContainerPID: 7, Parent: event.Key{PID: 1, Start: 99},
			Name: "sh", Executable: "/bin/sh", UID: 1000, EUID: 1, GID: 2,
		},
		Exec: &event.Exec{
			Requested: "/entry.sh", Args: []string{"sh", "-c", "ä"}, ArgsTruncated: true, Cwd: "/srv", Origin: event.OriginWritten,
			Deleted: true, Inode: 1 << 40, Device: 44, Capabilities: 0xa80425fb, Entered: true,
			Ancestors: []event.Ancestor{{Key: event.Key{PID: 9, Start: 5}, Name: "runc", Executable: "/usr/bin/runc"}},
		},
	}
	if diff := cmp.Diff(page.Events[2], want); diff != "" {
		t.Errorf("the oldest (-got +want):\n%s", diff)
	}
	next := want
	next.Seq, next.ID, next.Exec, next.Kind = want.Seq+3, 0, nil, event.KindFileWrite
	next.File = &event.File{Path: "/etc/shadow"}
	if err := d.AppendEvents(t.Context(), []event.Event{want, next}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		q    store.EventQuery
		want int
	}{
		"all, nothing twice": {store.EventQuery{}, 4}, "old and new of a workload": {store.EventQuery{WorkloadID: "w1"}, 3},
		"path": {store.EventQuery{Path: "/etc/*"}, 1}, "no path of old ones": {store.EventQuery{Path: "/bin/sh"}, 0},
		"old text": {store.EventQuery{Text: "-c"}, 1}, "new text": {store.EventQuery{Text: "shadow"}, 1},
	} {
		page, err := d.Events(t.Context(), c.q)
		if err != nil || len(page.Events) != c.want {
			t.Errorf("%s: got %d events, %v; want %d", name, len(page.Events), err, c.want)
		}
	}
	words := count(t, d, "SELECT value FROM counters WHERE name = 'word'")
	if n := count(t, d, "SELECT count(id) FROM terms WHERE dimension = 8"); n != words {
		t.Errorf("%d words are counted, %d are there", words, n)
	}
	if _, err := d.NoteImages(t.Context(), []store.Image{{ID: "sha256:w"}}, at); err != nil {
		t.Fatal(err)
	}
	if v, err := d.Image(t.Context(), "sha256:w"); err != nil || v.Running != 1 {
		t.Errorf("image of an old workload: %+v, %v; want one that runs", v, err)
	}
	users, err := d.Users(t.Context())
	if err != nil || len(users) != 1 {
		t.Errorf("got %d users, %v; want 1", len(users), err)
	}
}

// downTo takes a file back to an earlier schema.
func downTo(t *testing.T, path string, version int64) {
	t.Helper()
	file, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p, err := goose.NewProvider(goose.DialectSQLite3, file, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

// TestFindingsOfBeforeFacets: they are compared anew, and were found when they
// were.
func TestFindingsOfBeforeFacets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "castellan.db")
	must := mustOf(t)
	d := openFor(t, db.Options{Path: path})
	must(d.PutWorkloads(t.Context(), []asset.Workload{{ID: "w", AgentID: "a", Image: asset.Image{ID: "one"}}}))
	_, err := d.NoteImages(t.Context(), []store.Image{{ID: "one"}}, fleetStart)
	must(err)
	_, err = d.LeaseScan(t.Context(), store.Lease{AgentID: "a", Job: "j", Now: fleetStart, Until: fleetStart.Add(time.Hour)})
	must(err)
	must(d.PutInventory(t.Context(), "one", "j", inventory.Inventory{}, fleetStart))
	must(d.PutFindings(t.Context(), someFindings("one", finding.High, 1)))
	must(d.Close())
	downTo(t, path, 3)
	d = openFor(t, db.Options{Path: path})
	ids, err := d.Unmatched(t.Context(), "one", 5)
	must(err)
	if len(ids) != 1 {
		t.Errorf("%d images are to be compared anew, want 1", len(ids))
	}
	// Until it is compared nothing of what it has is taken for unused.
	_, err = d.Prune(t.Context(), store.Retention{Workloads: time.Hour}, fleetStart)
	must(err)
	if vs, err := d.Vulnerabilities(t.Context(), store.VulnerabilityQuery{ImageID: "one"}); err != nil || len(vs) != 1 {
		t.Errorf("before it is compared it has %d findings (%v), want 1", len(vs), err)
	}
	f := someFindings("one", finding.High, 1, 2)
	f.Matched = fleetStart.Add(time.Hour)
	must(d.PutFindings(t.Context(), f))
	ws, err := d.Weaknesses(t.Context(), store.VulnerabilityQuery{})
	must(err)
	if len(ws) != 2 || !ws[0].First.Equal(fleetStart) || !ws[1].First.Equal(f.Matched) {
		t.Errorf("got %+v", ws)
	}
	vs, err := d.Vulnerabilities(t.Context(), store.VulnerabilityQuery{})
	must(err)
	if len(vs) != 2 {
		t.Errorf("%d findings, want 2", len(vs))
	}
}

// TestDecisionsOfBeforeFindings: an acceptance of a vulnerability is one still, and
// images are compared anew, which finds their faults.
func TestDecisionsOfBeforeFindings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "castellan.db")
	must := mustOf(t)
	d := openFor(t, db.Options{Path: path})
	must(d.PutWorkloads(t.Context(), []asset.Workload{{ID: "w", AgentID: "a", Image: asset.Image{ID: "one"}}}))
	_, err := d.NoteImages(t.Context(), []store.Image{{ID: "one"}}, fleetStart)
	must(err)
	_, err = d.LeaseScan(t.Context(), store.Lease{AgentID: "a", Job: "j", Now: fleetStart, Until: fleetStart.Add(time.Hour)})
	must(err)
	must(d.PutInventory(t.Context(), "one", "j", inventory.Inventory{}, fleetStart))
	must(d.PutFindings(t.Context(), someFindings("one", finding.High, 1)))
	made, err := d.PutAcceptance(t.Context(), store.Acceptance{Vulnerability: "CVE-1", Package: "p", Reason: "r", By: "user:a", Created: fleetStart, Expires: fleetStart})
	must(err)
	_, err = d.PutAcceptance(t.Context(), store.Acceptance{Kind: store.KindSecret, Rule: "jwt", Created: fleetStart, Expires: fleetStart})
	must(err)
	must(d.Close())
	downTo(t, path, 4)
	d = openFor(t, db.Options{Path: path})
	all, err := d.Acceptances(t.Context())
	must(err)
	if diff := cmp.Diff([]store.Acceptance{made}, all); diff != "" {
		t.Errorf("acceptances (-want +got):\n%s", diff)
	}
	if ids, err := d.Unmatched(t.Context(), "one", 5); err != nil || len(ids) != 1 {
		t.Errorf("%d images are to be compared anew (%v), want 1", len(ids), err)
	}
	must(d.PutFindings(t.Context(), store.ImageFindings{ImageID: "one", Matched: fleetStart, Findings: []store.Finding{{Kind: store.KindFault, Key: "k"}}}))
	if ls, err := d.FindingLines(t.Context(), store.FindingQuery{Kind: store.KindFault}); err != nil || len(ls) != 1 {
		t.Errorf("%d faults (%v), want 1", len(ls), err)
	}
}

// TestWeaknessesOfBeforeMoves: what ran before the upgrade is no news after it, what
// comes then is.
func TestWeaknessesOfBeforeMoves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "castellan.db")
	must := mustOf(t)
	at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	found := func(d *db.DB, ids ...string) {
		var vs []finding.Vulnerability
		for _, id := range ids {
			v := finding.Vulnerability{ID: id, Package: inventory.Package{Type: "deb", Name: "zlib", Version: "1"}, Severity: finding.High, State: finding.Unfixed}
			v.Print()
			vs = append(vs, v)
		}
		must(d.PutFindings(t.Context(), store.ImageFindings{ImageID: "i", Vulnerabilities: vs}))
	}
	d := openFor(t, db.Options{Path: path})
	must(d.PutWorkloads(t.Context(), []asset.Workload{{ID: "w", AgentID: "a", State: asset.Running, Image: asset.Image{ID: "i", Reference: "shop"}}}))
	_, err := d.NoteImages(t.Context(), []store.Image{{ID: "i"}}, at)
	must(err)
	found(d, "CVE-1")
	must(d.NoteTrend(t.Context(), at))
	must(d.Close())
	downTo(t, path, 9)
	d = openFor(t, db.Options{Path: path})
	must(d.NoteTrend(t.Context(), at.AddDate(0, 0, 1)))
	found(d, "CVE-1", "CVE-2")
	must(d.NoteTrend(t.Context(), at.AddDate(0, 0, 1)))
	days, err := d.Trend(t.Context(), store.KindVulnerability, at.AddDate(0, 0, 1))
	must(err)
	if len(days) != 1 || days[0].Open != 2 || days[0].New != 1 {
		t.Errorf("after the upgrade: %+v, want one new of two", days)
	}
}
