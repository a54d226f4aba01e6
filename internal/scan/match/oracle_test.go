package match_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
	"github.com/castellan-security/castellan/internal/scan/version"
)

// oracle matches without any index: every package with every advisory, every
// range by comparing versions.
type oracle []advisory.Advisory

// hits returns the advisories that hold a package, sorted.
func (all oracle) hits(p *inventory.Package) (ids []string) {
	for i := range all {
		a := &all[i]
		if !a.Withdrawn.IsZero() {
			continue
		}
		for j := range a.Affected {
			if holds(p, &a.Affected[j]) {
				ids = append(ids, a.ID)
				break
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func holds(p *inventory.Package, x *advisory.Affected) bool {
	base := func(e string) string { b, _, _ := strings.Cut(e, ":"); return b }
	if x.Ecosystem[0] != p.Ecosystem[0] { // most are not even of the same letter
		return false
	}
	if base(x.Ecosystem) != base(p.Ecosystem) || x.Ecosystem != p.Ecosystem && x.Ecosystem != base(x.Ecosystem) && p.Ecosystem != base(p.Ecosystem) {
		return false
	}
	name, v := p.FullName(), p.Version
	if x.Of == advisory.OfSource {
		if p.Source.Name != "" {
			name = p.Source.Name
		}
		if p.Source.Version != "" {
			v = p.Source.Version
		}
	}
	if advisory.Normalize(p.Ecosystem, name) != advisory.Normalize(x.Ecosystem, x.Package) || !inVersions(v, x) {
		return false
	}
	fix := lowestFix(v, x)
	return version.OrderOf(x.Ecosystem) != version.RPM || fix == "" || strings.Contains(fix, ".module") == strings.Contains(p.Version, ".module")
}

func inVersions(v string, x *advisory.Affected) bool {
	order := version.OrderOf(x.Ecosystem)
	for _, r := range x.Ranges {
		from, to := r.Introduced == "" || r.Introduced == "0", r.Fixed == "" && r.Last == ""
		if c, err := order.Compare(v, r.Introduced); !from && err == nil && c >= 0 {
			from = true
		}
		if c, err := order.Compare(v, r.Fixed); r.Fixed != "" && err == nil && c < 0 {
			to = true
		}
		if c, err := order.Compare(v, r.Last); r.Fixed == "" && r.Last != "" && err == nil && c <= 0 {
			to = true
		}
		if from && to {
			return true
		}
	}
	return slices.ContainsFunc(x.Versions, func(w string) bool {
		c, err := order.Compare(v, w)
		return v == w || err == nil && c == 0
	})
}

func lowestFix(v string, x *advisory.Affected) (best string) {
	order := version.OrderOf(x.Ecosystem)
	for _, r := range x.Ranges {
		if c, err := order.Compare(r.Fixed, v); r.Fixed == "" || err != nil || c <= 0 || inVersions(r.Fixed, x) {
			continue
		}
		if c, _ := order.Compare(r.Fixed, best); best == "" || c < 0 {
			best = r.Fixed
		}
	}
	return best
}

// compare matches an inventory in both ways.
func compare(t *testing.T, all oracle, feeds map[string][]advisory.Advisory, inv *inventory.Inventory) {
	t.Helper()
	db := database(t, feeds)
	r, err := match.Match(t.Context(), db, inv, match.Options{Brief: true})
	must(t, err)
	got := map[string][]string{}
	for _, v := range r.Vulnerabilities {
		for _, a := range v.Advisories {
			got[v.Package.Places[0].Path] = append(got[v.Package.Places[0].Path], a.ID)
		}
	}
	total, wrong := 0, 0
	for i := range inv.Packages {
		p := &inv.Packages[i]
		ids := got[p.Places[0].Path]
		slices.Sort(ids)
		ids = slices.Compact(ids)
		want := all.hits(p)
		total += len(want)
		if diff := cmp.Diff(want, ids); diff != "" && wrong < 5 {
			wrong++
			t.Errorf("%s %s of %s (source %+v) differs (-want +got):\n%s", p.Name, p.Version, p.Ecosystem, p.Source, diff)
		}
	}
	if total == 0 {
		t.Error("no package has an advisory: nothing was compared")
	}
	t.Logf("%d packages, %d advisories of them", len(inv.Packages), total)
}

// pools are versions that are close to each other, some of them the same.
var pools = map[string][]string{
	"Debian:12":   {"0~1", "1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1:0.5-1", "1.0a-1"},
	"Debian":      {"0~1", "1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1:0.5-1", "1.0a-1"},
	"Alpine:v3.9": {"1.0_rc1-r0", "1.0-r0", "1.0-r1", "1.0a-r0", "1.1-r0"},
	"Red Hat:9":   {"1.0~a-1.el9", "1.0-1.el9", "1.0-1.module+el9", "0:1.0-1.el9", "1.0-2.el9", "1:0.1-1.el9", "1.0-2.module+el9"},
	"npm":         {"1.0.0-alpha.1", "1.0.0", "v1.0.0", "1.0.1", "1.1.0", "2.0.0", "latest"},
	"PyPI":        {"1.0.dev1", "1.0a1", "1.0", "1.0.0", "1.0.post1", "1.1", "2", "odd one"},
	"Maven":       {"1.0-SNAPSHOT", "1.0", "1", "1.0.Final", "1.0-sp", "1.0.1", "2"},
	"GIT":         {"v1", "v2", "v3"},
}

func TestLikeBruteForce(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			var all oracle
			for i := range 150 {
				all = append(all, random(r, i))
			}
			inv := &inventory.Inventory{}
			for i := range 300 {
				e := pick(r, []string{"Debian:12", "Debian:11", "Debian", "Alpine:v3.9", "Red Hat:9", "npm", "PyPI", "Maven", "GIT"})
				versions := pools[e]
				if e == "Debian:11" {
					versions = pools["Debian"]
				}
				p := inventory.Package{Type: typeOf(e), Name: pick(r, packages), Version: pick(r, versions), Ecosystem: e,
					Places: []inventory.Place{{Path: fmt.Sprint(i)}}}
				if p.Type == "deb" || p.Type == "apk" || p.Type == "rpm" {
					p.Source = inventory.Source{Name: pick(r, append(packages, "")), Version: pick(r, append(versions, ""))}
				}
				inv.Packages = append(inv.Packages, p)
			}
			compare(t, all, map[string][]advisory.Advisory{"s": all}, inv)
		})
	}
}

var packages = []string{"a", "b", "c", "d.e"}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func typeOf(ecosystem string) string {
	switch base, _, _ := strings.Cut(ecosystem, ":"); base {
	case "Debian":
		return "deb"
	case "Alpine":
		return "apk"
	case "Red Hat":
		return "rpm"
	}
	return "generic"
}

func random(r *rand.Rand, i int) advisory.Advisory {
	a := advisory.Advisory{ID: fmt.Sprintf("A-%03d", i)}
	ecosystems := []string{"Debian:12", "Debian", "Alpine:v3.9", "Red Hat:9", "npm", "PyPI", "Maven", "GIT"}
	for range 1 + r.IntN(4) {
		e := pick(r, ecosystems)
		x := advisory.Affected{Ecosystem: e, Package: pick(r, packages)}
		if t := typeOf(e); t != "generic" {
			x.Of = advisory.OfSource + advisory.Of(r.IntN(2))
		}
		ordered := slices.DeleteFunc(slices.Clone(pools[e]), func(v string) bool { return v == "latest" })
		for range r.IntN(4) {
			g := advisory.Range{Introduced: pick(r, append(ordered, "0", "", ""))}
			switch r.IntN(3) {
			case 0:
				g.Fixed = pick(r, ordered)
			case 1:
				g.Last = pick(r, ordered)
			}
			if e == "GIT" {
				g = advisory.Range{} // commits have no order
			}
			x.Ranges = append(x.Ranges, g)
		}
		for range r.IntN(3) {
			x.Versions = append(x.Versions, pick(r, pools[e]))
		}
		a.Affected = append(a.Affected, x)
	}
	return a
}

// TestLikeBruteForceOnFeeds does the same with real advisories.
func TestLikeBruteForceOnFeeds(t *testing.T) {
	if testing.Short() {
		t.Skip("reading whole feeds takes seconds")
	}
	all := feeds(t)
	var list oracle
	for _, feed := range all {
		list = append(list, feed...)
	}
	inv := installed(rand.New(rand.NewPCG(1, 2)), all, 500, 1)
	compare(t, list, all, inv)
}

// TestManyPackages holds a large inventory, which is matched in parts at once, to
// what its packages come to in small ones.
func TestManyPackages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var all oracle
	for i := range 100 {
		all = append(all, random(r, i))
	}
	db := database(t, map[string][]advisory.Advisory{"s": all})
	inv := &inventory.Inventory{}
	for i := range 20_000 {
		inv.Packages = append(inv.Packages, inventory.Package{Type: "npm", Name: fmt.Sprintf("x%d", i), Version: "1.0.0", Ecosystem: "npm"})
		if i%50 == 0 {
			inv.Packages = append(inv.Packages, inventory.Package{Type: "npm", Name: pick(r, packages), Version: pick(r, pools["npm"]), Ecosystem: "npm",
				Places: []inventory.Place{{Path: fmt.Sprint(i)}}},
				inventory.Package{Type: "conan", Name: fmt.Sprint(i), Version: "1"})
		}
	}
	whole, err := match.Match(t.Context(), db, inv, match.Options{})
	must(t, err)
	var parts []string
	for part := range slices.Chunk(inv.Packages, 1000) {
		one, err := match.Match(t.Context(), db, &inventory.Inventory{Packages: part}, match.Options{})
		must(t, err)
		for _, v := range one.Vulnerabilities {
			parts = append(parts, v.Fingerprint)
		}
	}
	var got []string
	for _, v := range whole.Vulnerabilities {
		got = append(got, v.Fingerprint)
	}
	slices.Sort(got)
	slices.Sort(parts)
	if len(got) < 100 || !slices.Equal(got, parts) {
		t.Errorf("%d findings of the whole, %d of its parts", len(got), len(parts))
	}
	again, err := match.Match(t.Context(), db, inv, match.Options{})
	must(t, err)
	if diff := cmp.Diff(whole, again); diff != "" {
		t.Errorf("matching again differs (-first +second):\n%s", diff)
	}
	for _, g := range whole.Gaps {
		if g.Ecosystem == "conan" && (g.Packages != 400 || !slices.Equal(g.Examples, []string{"0 1", "50 1", "100 1", "150 1", "200 1"})) {
			t.Errorf("gap %+v, want all 400, the first as examples", g)
		}
	}
}
