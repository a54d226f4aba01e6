package db

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unpackFacets(t *testing.T, packed []byte) (all []facetOf) {
	t.Helper()
	if !eachFacet(packed, func(number, first int64) { all = append(all, facetOf{number, first}) }) {
		t.Errorf("%x is not whole", packed)
	}
	return all
}

func TestFacetsComeBack(t *testing.T) {
	for _, tc := range []struct {
		name      string
		put, want []facetOf
	}{
		{"none", nil, nil},
		{"in order", []facetOf{{7, 30}, {1, 20}, {300, 20}}, []facetOf{{1, 20}, {7, 30}, {300, 20}}},
		{"twice is once, as it was first found", []facetOf{{7, 30}, {7, 20}, {7, 25}}, []facetOf{{7, 20}}},
		{"times before 1970 and numbers without end", []facetOf{{math.MaxInt64, -5}, {2, 1 << 60}}, []facetOf{{2, 1 << 60}, {math.MaxInt64, -5}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, unpackFacets(t, packFacets(tc.put)), cmp.AllowUnexported(facetOf{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDamagedFacetsAreTold(t *testing.T) {
	whole := packFacets([]facetOf{{7, 30}, {900, 20}})
	nothing := func(int64, int64) {}
	for n := range whole {
		if cut := whole[:n]; eachFacet(cut, nothing) && len(unpackFacets(t, cut)) == 2 {
			t.Errorf("%x is whole without its end", cut)
		}
	}
	for _, b := range [][]byte{{}, {200}, {1, 2, 5, 9}, {0, 5, 0}, {1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}} {
		if eachFacet(b, nothing) {
			t.Errorf("%x is taken for whole", b)
		}
	}
}

func FuzzEachFacet(f *testing.F) {
	f.Add(packFacets([]facetOf{{7, 30}, {900, 20}}))
	f.Fuzz(func(t *testing.T, packed []byte) {
		var all []facetOf
		if eachFacet(packed, func(number, first int64) { all = append(all, facetOf{number, first}) }) {
			unpackFacets(t, packFacets(all))
		}
	})
}

func TestRanksComeBack(t *testing.T) {
	for _, inUse := range []bool{false, true} {
		for _, exploited := range []bool{false, true} {
			for severity := range int64(6) {
				for _, epss := range []int64{0, 1, 999_999, 1_000_000} {
					rank := severity<<epssBits | epss
					if exploited {
						rank |= 1 << (epssBits + severityBits)
					}
					if inUse {
						rank |= 1 << (epssBits + severityBits + 1)
					}
					s, e, x, u := parseRank(rank)
					if int64(s) != severity || e != epss || x != exploited || u != inUse {
						t.Errorf("rank %x: %v %d %v %v", rank, s, e, x, u)
					}
				}
			}
		}
	}
}
