package db_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	benchImages     = 1_000
	benchFindings   = 400   // of each image
	benchWeaknesses = 2_000 // of all images
)

// BenchmarkImages asks what the pages ask, of a fleet with a thousand images.
func BenchmarkImages(b *testing.B) {
	d := openFor(b, db.Options{Path: filepath.Join(b.TempDir(), "bench.db"), ProcessCrashOnly: true})
	ids := fillImages(b, d)
	ctx := b.Context()
	for _, c := range []struct {
		name string
		do   func(i int) error
	}{
		{"list", func(int) error { _, err := d.Images(ctx, store.ImageQuery{}); return err }},
		{"one image", func(i int) error {
			_, err := d.Vulnerabilities(ctx, store.VulnerabilityQuery{ImageID: ids[i%len(ids)]})
			return err
		}},
		{"fleet", func(int) error { _, err := d.Weaknesses(ctx, store.VulnerabilityQuery{}); return err }},
		{"fleet, filtered", func(int) error {
			_, err := d.Weaknesses(ctx, store.VulnerabilityQuery{Severity: finding.High, Running: true, Text: "zlib"})
			return err
		}},
		{"fleet, next page", func(int) error { _, err := d.Weaknesses(ctx, store.VulnerabilityQuery{Offset: 300}); return err }},
		{"fleet, one package", func(int) error {
			_, err := d.Weaknesses(ctx, store.VulnerabilityQuery{Package: "zlib7"})
			return err
		}},
		{"one weakness", func(i int) error {
			_, err := d.Vulnerabilities(ctx, store.VulnerabilityQuery{ID: fmt.Sprintf("CVE-2026-%d", i%benchWeaknesses)})
			return err
		}},
		{"secrets of the fleet", func(int) error {
			_, err := d.FindingLines(ctx, store.FindingQuery{Kind: store.KindSecret})
			return err
		}},
		{"faults that all images have", func(int) error {
			_, err := d.FindingLines(ctx, store.FindingQuery{Kind: store.KindFault})
			return err
		}},
		{"secrets, filtered, to their end", func(int) error {
			_, err := d.FindingLines(ctx, store.FindingQuery{Kind: store.KindSecret, Running: true, Text: "nosuch"})
			return err
		}},
		{"day counted", func(int) error { return d.NoteTrend(ctx, fleetStart) }},
		{"compared anew, one changed", func(i int) error {
			f := benchFinding(0)
			f.Vulnerabilities[0].InUse = i%2 == 0
			return d.PutFindings(ctx, store.ImageFindings{ImageID: ids[0], Database: fmt.Sprint(i), Vulnerabilities: f.Vulnerabilities, Findings: f.Findings})
		}},
		{"compared anew, all changed", func(i int) error {
			f := benchFinding(7)
			for k := range f.Vulnerabilities {
				f.Vulnerabilities[k].EPSS = &advisory.Probability{EPSS: float32(i%2) / 2}
			}
			return d.PutFindings(ctx, store.ImageFindings{ImageID: ids[7], Database: fmt.Sprint(i), Vulnerabilities: f.Vulnerabilities, Findings: f.Findings})
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := c.do(i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkManyFacets asks what the page of vulnerabilities asks where hardly any
// two images have the same ones: 40,000 weaknesses in a hundred images.
func BenchmarkManyFacets(b *testing.B) {
	d := openFor(b, db.Options{Path: filepath.Join(b.TempDir(), "bench.db"), ProcessCrashOnly: true})
	fillFleet(b, d, 100, func(image int) store.ImageFindings {
		var f store.ImageFindings
		for n := range benchFindings {
			f.Vulnerabilities = append(f.Vulnerabilities, benchVulnerability(benchFindings*image+n, image))
		}
		return f
	})
	for _, c := range []struct {
		name string
		q    store.VulnerabilityQuery
	}{
		{"all", store.VulnerabilityQuery{}},
		{"grave", store.VulnerabilityQuery{Severity: finding.High}},
		{"text", store.VulnerabilityQuery{Text: "zlib1"}},
		{"of an image", store.VulnerabilityQuery{ImageID: fmt.Sprintf("sha256:%064d", 7)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if ws, err := d.Weaknesses(b.Context(), c.q); err != nil || len(ws) == 0 {
					b.Fatalf("%d weaknesses, %v", len(ws), err)
				}
			}
		})
	}
}

func fillImages(b *testing.B, d *db.DB) (ids []string) {
	b.Helper()
	return fillFleet(b, d, benchImages, benchFinding)
}

// fillFleet makes a fleet of images with what is wrong with each.
func fillFleet(b *testing.B, d *db.DB, images int, findings func(image int) store.ImageFindings) (ids []string) {
	b.Helper()
	ctx, must := b.Context(), func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	for n := range images {
		id := fmt.Sprintf("sha256:%064d", n)
		ids = append(ids, id)
		must(d.PutWorkloads(ctx, []asset.Workload{{ID: fmt.Sprint("w", n), AgentID: "a", State: asset.Running, Image: asset.Image{ID: id}}}))
		_, err := d.NoteImages(ctx, []store.Image{{ID: id, References: []string{fmt.Sprintf("shop/app-%d:1", n)}}}, fleetStart)
		must(err)
		v, err := d.LeaseScan(ctx, store.Lease{AgentID: "a", Job: "j", Now: fleetStart, Until: fleetStart.Add(time.Hour)})
		must(err)
		must(d.PutInventory(ctx, v.ID, "j", inventory.Inventory{}, fleetStart))
		f := findings(n)
		f.ImageID, f.Database, f.Matched = id, "one", fleetStart
		must(d.PutFindings(ctx, f))
	}
	return ids
}

func benchFinding(image int) store.ImageFindings {
	var f store.ImageFindings
	for n := range benchFindings {
		f.Vulnerabilities = append(f.Vulnerabilities, benchVulnerability((5*n+image)%benchWeaknesses, image))
	}
	f.Findings = benchJudged(image)
	return f
}

// benchVulnerability is weakness w in an image.
func benchVulnerability(w, image int) finding.Vulnerability {
	v := finding.Vulnerability{
		ID: fmt.Sprintf("CVE-2026-%d", w), Severity: finding.Severity(w % 6), InUse: (w+image)%10 == 0, State: finding.Fixable, Fixed: "1.2.13",
		Summary: "A summary of usual length that says what an attacker can do with this, and under which circumstances.",
		Remedy:  "move zlib1g to 1.2.13", References: []string{"https://example.org/advisories/one", "https://example.org/two"},
		Package:    inventory.Package{Type: "deb", Name: fmt.Sprintf("zlib%d", w%50), Version: "1.2.11", Places: []inventory.Place{{Path: "/var/lib/dpkg/status", Layer: 1}}},
		Advisories: []finding.Statement{{ID: "DSA-1", Source: "debian", Fixed: "1.2.13"}},
	}
	v.Print()
	return v
}

// benchJudged are 40 secrets of each image, half of them its own, and 10 faults
// that all images have.
func benchJudged(image int) (fs []store.Finding) {
	for n := range 40 {
		key := fmt.Sprintf("shared-%d", n)
		if n%2 == 0 {
			key = fmt.Sprintf("own-%d-%d", image, n)
		}
		fs = append(fs, store.Finding{
			Kind: store.KindSecret, Key: key, Rule: "password", Title: "A password", Severity: finding.Severity(n % 6), Remedy: "revoke it",
			Secret: &finding.Secret{Secret: inventory.Secret{Place: inventory.Place{Path: "/srv/app/config/" + key, Layer: 3}, Rule: "password", Length: 12, Print: key}, Fingerprint: key},
		})
	}
	for n := range 10 {
		fs = append(fs, store.Finding{
			Kind: store.KindFault, Key: fmt.Sprint("fault-", n), Rule: "CAST-IMAGE-001", Title: "Runs as root", Severity: finding.Medium,
			Fault: &finding.Misconfiguration{Check: "CAST-IMAGE-001", Evidence: "no user", Why: "a process that is broken into is root"},
		})
	}
	return fs
}
