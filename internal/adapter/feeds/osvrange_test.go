package feeds

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
)

func between(from, fixed string) advisory.Range {
	return advisory.Range{Introduced: from, Fixed: fixed}
}

func TestRangesOfEvents(t *testing.T) {
	in, fix, up, lim := introduced, fixed, last, limit
	for _, tc := range []struct {
		name   string
		semver bool
		events []event
		want   []advisory.Range
	}{
		{"one", false, []event{{in, "0"}, {fix, "1.2"}}, []advisory.Range{{Fixed: "1.2"}}},
		{"without end", false, []event{{in, "1.0"}}, []advisory.Range{{Introduced: "1.0"}}},
		{"last affected", false, []event{{in, "0"}, {up, "2.1.214"}}, []advisory.Range{{Last: "2.1.214"}}},
		{"two", false, []event{{in, "1"}, {fix, "2"}, {in, "3"}, {fix, "4"}}, []advisory.Range{between("1", "2"), between("3", "4")}},
		{"two in the other order", false, []event{{in, "3"}, {fix, "4"}, {in, "1"}, {fix, "2"}}, []advisory.Range{between("3", "4"), between("1", "2")}},
		{"the end first", false, []event{{fix, "1.10"}, {in, "1.9"}}, []advisory.Range{between("1.9", "1.10")}},
		{"sorted by kind", false, []event{{in, "1"}, {in, "10"}, {fix, "2"}, {fix, "11"}}, []advisory.Range{between("1", "2"), between("10", "11")}},
		{"sorted by kind, with epochs", false, []event{{in, "0"}, {in, "1:0"}, {fix, "9-1"}, {fix, "1:2-1"}}, []advisory.Range{between("", "9-1"), between("1:0", "1:2-1")}},
		{"several fixes", false, []event{{in, "0"}, {fix, "1"}, {fix, "2"}}, []advisory.Range{{Fixed: "1"}}},
		{"no introduction", false, []event{{fix, "1"}}, []advisory.Range{{Fixed: "1"}}},
		{"in no version", false, []event{{in, "1"}, {fix, "1"}}, nil},
		{"nothing", false, nil, nil},
		{"limit", false, []event{{in, "1"}, {lim, "2"}}, []advisory.Range{between("1", "2")}},
		{"no limit", false, []event{{in, "1"}, {lim, "*"}}, []advisory.Range{{Introduced: "1"}}},
		{"pre-releases", true, []event{{fix, "1.0.0"}, {in, "1.0.0-rc.1"}}, []advisory.Range{between("1.0.0-rc.1", "1.0.0")}},
		{"fixed in a pre-release of the first", true, []event{{in, "0"}, {fix, "0.0.0-2016"}}, []advisory.Range{{Fixed: "0.0.0-2016"}}},
		{"not really semantic", true, []event{{in, "3.0.0a"}, {up, "3.0.1"}, {in, "0"}, {up, "2.4.2"}}, []advisory.Range{{Introduced: "3.0.0a", Last: "3.0.1"}, {Last: "2.4.2"}}},
		{"fixed before it was introduced", true, []event{{in, "2.0.0"}, {fix, "1.0.0"}}, []advisory.Range{{Introduced: "2.0.0"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := appendRanges(nil, slices.Clone(tc.events), tc.semver)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// vulnerable is the evaluation algorithm of the OSV schema, word by word.
func vulnerable(v string, events []event) bool {
	before, limited := false, false
	for _, e := range events {
		if e.kind == limit {
			limited = true
			before = before || e.version == "*" || compareSemver(v, e.version) < 0
		}
	}
	if limited && !before {
		return false
	}
	events = slices.DeleteFunc(slices.Clone(events), func(e event) bool { return e.kind == limit })
	zero := func(e event) bool { return e.kind == introduced && e.version == "0" } // "sorts before any other version"
	slices.SortStableFunc(events, func(a, b event) int {
		if zero(a) || zero(b) {
			rank := map[bool]int{true: 0, false: 1}
			return rank[zero(a)] - rank[zero(b)]
		}
		return compareSemver(a.version, b.version)
	})
	is := false
	for _, e := range events {
		c := compareSemver(v, e.version)
		switch {
		case zero(e) || e.kind == introduced && c >= 0:
			is = true
		case e.kind == fixed && c >= 0:
			is = false
		case e.kind == last && c > 0:
			is = false
		}
	}
	return is
}

func inRanges(v string, ranges []advisory.Range) bool {
	return slices.ContainsFunc(ranges, func(r advisory.Range) bool {
		return (r.Introduced == "" || compareSemver(v, r.Introduced) >= 0) &&
			(r.Fixed == "" || compareSemver(v, r.Fixed) < 0) && (r.Last == "" || compareSemver(v, r.Last) <= 0)
	})
}

// TestRangesMeanWhatTheSchemaSays holds every list of at most four events, of all
// kinds and in all orders, against the schema's own algorithm; but not those that
// it forbids: without an introduction, or with both fixed and last_affected.
func TestRangesMeanWhatTheSchemaSays(t *testing.T) {
	var choices []event
	for k := introduced; k <= limit; k++ {
		for _, v := range []string{"0", "0.0.0-a", "1.0.0-a", "1"} {
			choices = append(choices, event{k, v})
		}
	}
	var events []event
	tried := 0
	var try func(depth int)
	try = func(depth int) {
		has := func(k kind) bool { return slices.ContainsFunc(events, func(e event) bool { return e.kind == k }) }
		if has(introduced) && !(has(fixed) && has(last)) {
			tried++
			ranges := appendRanges(nil, slices.Clone(events), true)
			for _, s := range []string{"0.0.0-Z", "0.0.0-a", "0.0.0-b", "0.0.0", "1.0.0-a", "1.0.0-b", "1.0.0", "2.0.0"} {
				if got, want := inRanges(s, ranges), vulnerable(s, events); got != want {
					t.Fatalf("version %s of %v: in %v is %v, want %v", s, events, ranges, got, want)
				}
			}
		}
		if depth == 0 {
			return
		}
		for _, e := range choices {
			events = append(events, e)
			try(depth - 1)
			events = events[:len(events)-1]
		}
	}
	try(4)
	if tried < 30_000 {
		t.Errorf("only %d lists were tried", tried)
	}
}

func TestOrders(t *testing.T) {
	for _, tc := range []struct {
		name   string
		order  func(a, b string) int
		sorted []string
	}{
		{"semantic", compareSemver, []string{
			"0", "0.1.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
			"1.0.0", "1.0.1", "1.9.0", "1.10.0", "2.0.0", "18446744073709551616.0.0"}},
		{"by numbers", natural, []string{"0", "1.9", "1.10", "1.10.1", "2", "1:0.1", "2:0"}},
	} {
		for i, a := range tc.sorted {
			for j, b := range tc.sorted {
				want := 0
				if i != j {
					want = map[bool]int{true: -1, false: 1}[i < j]
				}
				t.Run(fmt.Sprintf("%s %s %s", tc.name, a, b), func(t *testing.T) {
					if got := tc.order(a, b); got != want {
						t.Errorf("order(%s, %s) = %d, want %d", a, b, got, want)
					}
				})
			}
		}
	}
	if compareSemver("v1.0.0+a", "1.0+b") != 0 {
		t.Error("a leading v, build metadata and missing zeros count")
	}
}
