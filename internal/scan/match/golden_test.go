package match_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// TestGolden matches a small image with a few real advisories, and holds all that
// comes of it to the byte. CASTELLAN_GOLDEN=write rewrites the file.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/advisories/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata: %d files, %v", len(files), err)
	}
	feeds := map[string][]advisory.Advisory{}
	for _, name := range files {
		f, err := os.Open(name)
		must(t, err)
		prefix, _, _ := strings.Cut(filepath.Base(name), "-")
		feeds[map[string]string{"PYSEC": "osv/PyPI", "GO": "osv/Go", "DSA": "osv/Debian"}[prefix]] =
			append(feeds[map[string]string{"PYSEC": "osv/PyPI", "GO": "osv/Go", "DSA": "osv/Debian"}[prefix]], read(t, f))
		must(t, f.Close())
	}
	// What these feeds lack, the scores, somebody else says.
	feeds["nvd"] = []advisory.Advisory{
		{ID: "CVE-2023-0286", Scores: []advisory.Score{{Vector: "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:N/A:H", By: "nvd"}}, Weaknesses: []string{"CWE-843"}},
		{ID: "CVE-2023-39325", Scores: []advisory.Score{{Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", By: "nvd"}}, Weaknesses: []string{"CWE-770"}},
	}
	db := database(t, feeds, func(b *vulndb.Builder) {
		must(t, b.AddExploited(vulndb.Source{Name: "kev"}, []advisory.Exploited{{CVE: "CVE-2023-0286", Name: "made up for this test", Added: time.Unix(1.7e9, 0)}}))
		must(t, b.AddProbabilities(vulndb.Source{Name: "epss"}, time.Unix(1.7e9, 0), seq([]advisory.Probability{{CVE: "CVE-2023-39325", EPSS: 0.5, Percentile: 0.75}})))
	})
	bullseye := deb("libssl1.1", "1.1.1n-0+deb11u2", "openssl", "")
	bullseye.Ecosystem = "Debian:11"
	inv := &inventory.Inventory{OS: inventory.OS{ID: "debian", Version: "11"}, Packages: []inventory.Package{
		bullseye,
		{Type: "golang", Name: "golang.org/x/net", Version: "v0.0.0-20190620200207-3b0461eec859", Ecosystem: "Go", Found: inventory.Compiled,
			Places: []inventory.Place{{Path: "/usr/local/bin/server", Layer: 3}}},
		pypi("urllib3", "1.23"),
		pypi("urllib3", "1.26.17"),
	}}
	inventory.SortPackages(inv.Packages)
	r, err := match.Match(t.Context(), db, inv, match.Options{})
	must(t, err)
	got, err := json.MarshalIndent(r.Vulnerabilities, "", " ")
	must(t, err)
	got = append(got, '\n')
	const golden = "testdata/merged.golden.json"
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		must(t, os.WriteFile(golden, got, 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s (-want +got):\n%s", golden, cmp.Diff(string(want), string(got)))
	}
}
