package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxTold is how many packages and fixed versions a weakness is told with.
	maxTold = 5
	// facetRows is how many facets are read to find them, summaryRows of how many
	// of these the details, to find a summary.
	facetRows, summaryRows = 50, 10
	// millionth is the unit in which probabilities are kept.
	millionth = 1e-6
	// maxReach bounds the numbers of facets, of which a tally holds four bytes
	// each. Free ones are given again, so that more than a few times as many as
	// there are facets means that the file is damaged.
	maxReach = 32 << 20
)

// tally adds up facets over images.
type tally struct {
	// facets are those that were asked for, in the order of their numbers; at is
	// the place in it of each number from first on, counted from 1.
	facets     []facetSum
	at         []int32
	first      int64
	weaknesses []weaknessSum
	images     int
}

type facetSum struct {
	number, rank, first int64
	weakness            int // place in weaknesses
	fixable             bool
	images              int
}

// weaknessSum is kept small: there may be as many as facets.
type weaknessSum struct {
	id                string
	rank, first       int64
	images, workloads int
	last              int // the image that was added last, counted from 1
	epss              int64
	severity          finding.Severity

	exploited, inUse, fixable bool
}

// weakness is what is told of it, without what people know it by.
func (w *weaknessSum) weakness() store.Weakness {
	return store.Weakness{ID: w.id, Images: w.images, Workloads: w.workloads, First: fromNanos(w.first), Severity: w.severity,
		EPSS: float64(w.epss) * millionth, Exploited: w.exploited, InUse: w.inUse, Fixable: w.fixable}
}

// Weaknesses implements store.ImageReads; see facet.go for how.
func (d *DB) Weaknesses(ctx context.Context, q store.VulnerabilityQuery) (ws []store.Weakness, err error) {
	err = d.read(ctx, "read weaknesses", func(s *snapshot) error {
		f, err := s.filterFacets(ctx, q)
		if err != nil {
			return err
		}
		var t tally
		if err := t.readFacets(ctx, s, f, q.ID == "" && q.Package == ""); err != nil {
			return err
		}
		if err := t.readImages(ctx, s, q); err != nil {
			return err
		}
		page := t.page(q)
		told := t.facetsOf(page)
		for _, i := range page {
			w := t.weaknesses[i].weakness()
			if err := s.describe(ctx, &w, told[i]); err != nil {
				return err
			}
			ws = append(ws, w)
		}
		return nil
	})
	return ws, err
}

// readFacets reads those that are asked for. most says that it may be most of
// them, which are read faster in their own order than in that of an index.
func (t *tally) readFacets(ctx context.Context, s *snapshot, f fragments, most bool) error {
	places := map[string]int{}
	from := "facets v"
	if most {
		from += " NOT INDEXED"
	}
	query := "SELECT v.number, v.weakness, v.rank, v.fixable FROM " + from + " WHERE " + strings.Join(f.parts, " AND ")
	err := s.query(ctx, query, f.args, func(r *sql.Rows) (bool, error) {
		var x facetSum
		var id sql.RawBytes
		if err := r.Scan(&x.number, &id, &x.rank, &x.fixable); err != nil {
			return false, err
		}
		place, ok := places[string(id)]
		if !ok {
			place = len(t.weaknesses)
			t.weaknesses = append(t.weaknesses, weaknessSum{id: string(id)})
			places[t.weaknesses[place].id] = place
		}
		x.weakness = place
		t.facets = append(t.facets, x)
		return true, nil
	})
	if err != nil || len(t.facets) == 0 {
		return err
	}
	slices.SortFunc(t.facets, func(a, b facetSum) int { return cmp.Compare(a.number, b.number) })
	t.first = t.facets[0].number
	reach := t.facets[len(t.facets)-1].number - t.first
	if reach < 0 || reach >= maxReach {
		return corrupt(s.d.path, fmt.Errorf("facet %d", t.first+reach))
	}
	t.at = make([]int32, reach+1)
	for i := range t.facets {
		t.at[t.facets[i].number-t.first] = int32(i + 1)
	}
	return nil
}

// readImages adds up the images that are asked for.
func (t *tally) readImages(ctx context.Context, s *snapshot, q store.VulnerabilityQuery) error {
	if len(t.facets) == 0 {
		return nil
	}
	var f fragments
	f.add("i.idle >= 0")
	if q.Running {
		f.add("i.idle = 0")
	}
	f.owner("i.owner", q.Owner)
	if q.ImageID != "" {
		f.add("i.id = ?", q.ImageID)
	}
	query := "SELECT i.running, f.facets FROM images i CROSS JOIN image_facets f ON f.image = i.number WHERE " + strings.Join(f.parts, " AND ")
	return s.query(ctx, query, f.args, func(r *sql.Rows) (bool, error) {
		var running int
		var packed sql.RawBytes
		if err := r.Scan(&running, &packed); err != nil {
			return false, err
		}
		if !t.add(packed, running) {
			return false, corrupt(s.d.path, errors.New("decode what is wrong with an image"))
		}
		return true, nil
	})
}

// add adds one image, and reports whether its row is whole.
func (t *tally) add(packed []byte, running int) bool {
	t.images++
	return eachFacet(packed, func(number, first int64) {
		at := number - t.first
		if at < 0 || at >= int64(len(t.at)) || t.at[at] == 0 {
			return // not asked for
		}
		x := &t.facets[t.at[at]-1]
		if x.images++; x.images == 1 || first < x.first {
			x.first = first
		}
		// Several facets of one weakness in one image are one image.
		if w := &t.weaknesses[x.weakness]; w.last != t.images {
			w.last = t.images
			w.images++
			w.workloads += running
		}
	})
}

// page returns the places of the weaknesses that are to be shown, in the order in
// which they deserve attention.
func (t *tally) page(q store.VulnerabilityQuery) []int {
	for i := range t.facets {
		if x := &t.facets[i]; x.images > 0 {
			t.weaknesses[x.weakness].take(x)
		}
	}
	var order []int
	for i := range t.weaknesses {
		if t.weaknesses[i].images > 0 {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &t.weaknesses[a], &t.weaknesses[b]
		return cmp.Or(cmp.Compare(y.rank, x.rank), cmp.Compare(x.id, y.id))
	})
	order = order[min(max(q.Offset, 0), len(order)):]
	return order[:min(pageSizeOf(q.Limit), len(order))]
}

// take takes in a facet that some image has.
func (w *weaknessSum) take(x *facetSum) {
	severity, epss, exploited, inUse := parseRank(x.rank)
	if w.first == 0 || x.first < w.first {
		w.first = x.first
	}
	w.rank, w.severity, w.epss = max(w.rank, x.rank), max(w.severity, severity), max(w.epss, epss)
	w.exploited, w.inUse, w.fixable = w.exploited || exploited, w.inUse || inUse, w.fixable || x.fixable
}

// facetsOf returns the numbers of the facets of some weaknesses that some image
// has, those that deserve attention most first.
func (t *tally) facetsOf(weaknesses []int) map[int][]int64 {
	some := make(map[int][]*facetSum, len(weaknesses))
	for _, i := range weaknesses {
		some[i] = nil
	}
	for i := range t.facets {
		x := &t.facets[i]
		if list, ok := some[x.weakness]; ok && x.images > 0 {
			some[x.weakness] = append(list, x)
		}
	}
	numbers := make(map[int][]int64, len(some))
	for i, list := range some {
		slices.SortStableFunc(list, func(a, b *facetSum) int { return cmp.Compare(b.rank, a.rank) })
		for _, x := range list {
			numbers[i] = append(numbers[i], x.number)
		}
	}
	return numbers
}

// describe adds what people know a weakness by.
func (s *snapshot) describe(ctx context.Context, w *store.Weakness, facets []int64) error {
	for i, number := range facets[:min(len(facets), facetRows)] {
		var name, fixed string
		var detail int64
		err := s.row(ctx, "SELECT package, fixed, detail FROM facets WHERE number = ?", []any{number}, &name, &fixed, &detail)
		if err == nil && w.Summary == "" && i < summaryRows {
			err = s.row(ctx, "SELECT coalesce(json_extract(body, '$.summary'), '') FROM details WHERE id = ?", []any{detail}, &w.Summary)
		}
		if err != nil {
			return err
		}
		if len(w.Packages) < maxTold && !slices.Contains(w.Packages, name) {
			w.Packages = append(w.Packages, name)
		}
		if f := name + " " + fixed; fixed != "" && len(w.Fixed) < maxTold && !slices.Contains(w.Fixed, f) {
			w.Fixed = append(w.Fixed, f)
		}
	}
	return nil
}
