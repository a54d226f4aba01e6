package match_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

var types = map[string]string{"Debian": "deb", "Alpine": "apk", "AlmaLinux": "rpm", "Go": "golang", "PyPI": "pypi", "npm": "npm", "Maven": "maven",
	"NuGet": "nuget", "Packagist": "composer"}

// installed draws packages: of those that advisories speak of, in versions that
// they mention, and for each of them as many that nobody speaks of.
func installed(r *rand.Rand, feeds map[string][]advisory.Advisory, n, unknown int) *inventory.Inventory {
	var names []string
	for name := range feeds {
		names = append(names, name)
	}
	slices.Sort(names)
	inv := &inventory.Inventory{}
	for len(inv.Packages) < n {
		feed := names[r.IntN(len(names))]
		a := feeds[feed][r.IntN(len(feeds[feed]))]
		if len(a.Affected) == 0 {
			continue
		}
		x := a.Affected[r.IntN(len(a.Affected))]
		p := inventory.Package{Type: types[feed], Name: x.Package, Ecosystem: x.Ecosystem, Version: mentioned(r, x)}
		if r.IntN(unknown+1) > 0 {
			p.Name = fmt.Sprintf("%s-%d", p.Name, r.IntN(1000))
		}
		p.Places = []inventory.Place{{Path: fmt.Sprintf("/p/%d", len(inv.Packages))}}
		inv.Packages = append(inv.Packages, p)
	}
	return inv
}

func mentioned(r *rand.Rand, x advisory.Affected) string {
	all := append([]string(nil), x.Versions...)
	for _, g := range x.Ranges {
		for _, v := range []string{g.Introduced, g.Fixed, g.Last} {
			if v != "" && v != "0" {
				all = append(all, v)
			}
		}
	}
	if len(all) == 0 {
		return "1.0.0"
	}
	return all[r.IntN(len(all))]
}

func BenchmarkMatch(b *testing.B) {
	path, inventories := drawn(b)
	runtime.GC() // the feeds themselves, or what they take would be measured
	for _, name := range slices.Sorted(maps.Keys(inventories)) {
		for _, brief := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s, brief %v", name, brief), func(b *testing.B) {
				db, err := vulndb.Open(path)
				must(b, err)
				defer db.Close()
				b.ReportAllocs()
				var got match.Result
				for b.Loop() {
					if got, err = match.Match(b.Context(), db, inventories[name], match.Options{Brief: brief}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(got.Vulnerabilities)), "findings")
			})
		}
	}
}

// drawn builds a database of all feeds and draws inventories from them.
func drawn(b *testing.B) (path string, inventories map[string]*inventory.Inventory) {
	all := feeds(b)
	inventories = map[string]*inventory.Inventory{}
	for _, n := range []int{2_000, 100_000} {
		r := rand.New(rand.NewPCG(1, 2))
		inventories[fmt.Sprint(n, " packages, few findings")] = installed(r, all, n, 999)
		inventories[fmt.Sprint(n, " packages, many findings")] = installed(r, all, n, 19)
	}
	return build(b, all), inventories
}
