package db_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// someFindings are of an image: weaknesses of these numbers, each in a package.
func someFindings(image string, severity finding.Severity, weaknesses ...int) store.ImageFindings {
	f := store.ImageFindings{ImageID: image, Database: "one", Matched: fleetStart}
	for _, n := range weaknesses {
		v := finding.Vulnerability{ID: fmt.Sprint("CVE-", n), Aliases: []string{fmt.Sprint("GHSA-", n)}, Severity: severity, State: finding.Fixable, Summary: fmt.Sprint("About ", n)}
		v.Package.Name = fmt.Sprint("package-", n)
		v.Print()
		f.Vulnerabilities = append(f.Vulnerabilities, v)
	}
	return f
}

func twoImages(t *testing.T) *db.DB {
	t.Helper()
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	must := mustOf(t)
	ended := fleetStart.Add(-2 * time.Hour)
	must(d.PutWorkloads(t.Context(), []asset.Workload{
		{ID: "w1", AgentID: "a", State: asset.Exited, Finished: &ended, Image: asset.Image{ID: "one"}},
		{ID: "w2", AgentID: "a", State: asset.Running, Image: asset.Image{ID: "two"}},
	}))
	_, err := d.NoteImages(t.Context(), []store.Image{{ID: "one"}, {ID: "two"}}, ended)
	must(err)
	must(d.PutFindings(t.Context(), someFindings("one", finding.High, 1, 2)))
	must(d.PutFindings(t.Context(), someFindings("two", finding.High, 2)))
	return d
}

// TestPruneLeavesNothingOfAnImage: what it shares with others stays, the rest goes,
// and what comes again is found again.
func TestPruneLeavesNothingOfAnImage(t *testing.T) {
	d, must := twoImages(t), mustOf(t)
	rows := func() string {
		t.Helper()
		var all []int64
		for _, of := range []string{"id) FROM images", "image) FROM image_facets", "number) FROM facets", "id) FROM details", "alias) FROM aliases", "number) FROM vulnerabilities"} {
			all = append(all, count(t, d, "SELECT count("+of))
		}
		return fmt.Sprint(all)
	}
	if got := rows(); got != "[2 2 2 2 2 3]" {
		t.Errorf("before: %s", got)
	}
	_, err := d.Prune(t.Context(), store.Retention{Workloads: time.Hour}, fleetStart)
	must(err)
	if got := rows(); got != "[1 1 1 1 1 1]" {
		t.Errorf("after: %s", got)
	}
	must(d.PutFindings(t.Context(), someFindings("two", finding.High, 1, 2, 3)))
	if got := rows(); got != "[1 1 3 3 3 3]" {
		t.Errorf("again: %s", got)
	}
	if highest := count(t, d, "SELECT max(number) FROM facets"); highest != 3 {
		t.Errorf("the highest facet is %d, want 3: free numbers are given again", highest)
	}
	ws, err := d.Weaknesses(t.Context(), store.VulnerabilityQuery{})
	must(err)
	if len(ws) != 3 || ws[0].ID != "CVE-1" || ws[0].Images != 1 || ws[0].Workloads != 1 || ws[0].Summary != "About 1" {
		t.Errorf("got %+v", ws)
	}
}

// TestFailedWriteLeavesNoMemory: numbers of facets that were not stored after all
// are not used.
func TestFailedWriteLeavesNoMemory(t *testing.T) {
	d, must := twoImages(t), mustOf(t)
	must(d.Exec(t.Context(), `CREATE TRIGGER refuse BEFORE UPDATE OF counts ON images BEGIN SELECT RAISE(ABORT, 'no'); END`))
	if err := d.PutFindings(t.Context(), someFindings("two", finding.High, 2, 7)); err == nil {
		t.Fatal("no error")
	}
	must(d.Exec(t.Context(), `DROP TRIGGER refuse`))
	must(d.PutFindings(t.Context(), someFindings("two", finding.High, 2, 8, 7)))
	for _, id := range []string{"CVE-7", "GHSA-8"} {
		ws, err := d.Weaknesses(t.Context(), store.VulnerabilityQuery{ID: id})
		must(err)
		if len(ws) != 1 || ws[0].Images != 1 || len(ws[0].Packages) != 1 || ws[0].Packages[0] != "package-"+id[len(id)-1:] {
			t.Errorf("%s: got %+v", id, ws)
		}
	}
}

func TestDamagedFacetsAreCorrupt(t *testing.T) {
	for _, damage := range []string{
		"UPDATE image_facets SET facets = x'01'",
		"UPDATE facets SET number = 1 << 40 WHERE weakness = 'CVE-1'",
	} {
		d := twoImages(t)
		mustOf(t)(d.Exec(t.Context(), damage))
		if _, err := d.Weaknesses(t.Context(), store.VulnerabilityQuery{}); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: got %v, want corrupt", damage, err)
		}
	}
}
