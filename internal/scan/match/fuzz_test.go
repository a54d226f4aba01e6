package match_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// FuzzMatch changes bytes of a database behind its header, which is all that
// opening looks at, and matches with what is left: an error or findings that can
// be written as JSON, never a panic.
func FuzzMatch(f *testing.F) {
	whole, err := os.ReadFile(build(f, map[string][]advisory.Advisory{
		"debian": {
			{ID: "DSA-1", Upstream: []string{"CVE-2023-1000", "CVE-2023-1001"}, Summary: "s", Affected: []advisory.Affected{source("openssl", "9")}},
			{ID: "CVE-2023-1001", Rating: advisory.High, Affected: []advisory.Affected{changed(source("openssl", "2"), func(a *advisory.Affected) { a.Note, a.Arches = "n", []string{"amd64"} })}}},
		"osv": {{ID: "PYSEC-1", Aliases: []string{"CVE-2023-1001", "GHSA-a"}, Summary: "s", References: []advisory.Reference{{Kind: "web", URL: "u"}},
			Scores: []advisory.Score{{Vector: v31High, By: "x"}}, Weaknesses: []string{"CWE-1"},
			Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "p", Ranges: []advisory.Range{{Fixed: "2"}, {Introduced: "3", Last: "4"}}, Versions: []string{"7"}}}}},
	}, func(b *vulndb.Builder) {
		must(f, b.AddExploited(vulndb.Source{Name: "kev"}, []advisory.Exploited{{CVE: "CVE-2023-1001"}}))
	}))
	must(f, err)
	inv := &inventory.Inventory{Packages: []inventory.Package{deb("libssl3", "1", "openssl", ""), pypi("p", "1"), pypi("p", "7"), pypi("p", "odd one")}}
	const header = 648 // bytes, of which a digest is checked
	f.Add(uint32(0), []byte{0})
	for at := header; at < len(whole); at += 7 {
		f.Add(uint32(at), []byte{0xFF, 0x7F})
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		data := bytes.Clone(whole)
		copy(data[header+int(at)%(len(data)-header):], change)
		db, err := vulndb.FromBytes(data)
		if err != nil {
			return
		}
		r, err := match.Match(t.Context(), db, inv, match.Options{All: true})
		if err != nil {
			return
		}
		if _, err := json.Marshal(r.Vulnerabilities); err != nil {
			t.Errorf("findings cannot be written: %v", err)
		}
	})
}
