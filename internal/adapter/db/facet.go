package db

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"slices"
)

// Lists over all images look through a million findings, of which most are the
// same ones again in another image. What such a list can be asked by is therefore
// kept once, as a facet: a weakness in a package of that name, what is published
// of it, its severity, probability and fixed version, whether it is exploited, in
// use, accepted. Of an image the numbers of its facets are kept in one row, with
// the time at which each was first found there. Both are written in the
// transaction that writes the findings they are of. Sums over all images
// (weakness.go) look at each facet once, with the filter, and at each number of
// each image, which is two or three bytes and takes nanoseconds; single findings
// are found by their facets (finding_query.go).
//
// Nothing is counted in advance, so that nothing can be counted wrongly, and so
// that a container that starts or ends changes no sums.

// memo is what the writer remembers of rows that are looked up for every finding.
type memo struct {
	details, facets map[digest]int64
	// free are numbers of facets that nothing has, to be given again: a list
	// over all images costs what the numbers reach to.
	free []int64
	// bodies are those that verdicts of admission share, by the SHA-256 of each.
	bodies map[[sha256.Size]byte]int64
}

// maxMemo bounds each of its maps, to some 5 MiB.
const maxMemo = 50_000

func (m *memo) forget() { *m = memo{} }

func (m *memo) noteDetail(d digest, id int64) { m.details = noted(m.details, d, id) }
func (m *memo) noteFacet(d digest, n int64)   { m.facets = noted(m.facets, d, n) }

func noted(m map[digest]int64, d digest, id int64) map[digest]int64 {
	if m == nil || len(m) >= maxMemo {
		m = map[digest]int64{}
	}
	m[d] = id
	return m
}

// freeNumber returns one that nothing has, or nil: SQLite then takes the next.
func (m *memo) freeNumber() any {
	if len(m.free) == 0 {
		return nil
	}
	n := m.free[len(m.free)-1]
	m.free = m.free[:len(m.free)-1]
	return n
}

// facet returns the number of a finding's facet, and makes it if there is none.
func (w *writer) facet(ctx context.Context, l *line, detail int64) (number int64, err error) {
	v, text := l.v, findingText(l.v)
	s := summer{b: append([]byte{}, l.shared[:]...)}
	for _, t := range [...]string{v.ID, v.Package.Name, v.Fixed, text} {
		s.text(t)
	}
	s.number(rankOf(v)) // severity, probability, exploited, in use
	s.truth(l.fixable())
	s.truth(v.Accepted != nil)
	hash := s.sum()
	if n, ok := w.memo.facets[hash]; ok {
		return n, nil
	}
	err = w.row(ctx, "SELECT number FROM facets WHERE hash = ?", []any{hash[:]}, &number)
	if errors.Is(err, sql.ErrNoRows) {
		number, err = w.insert(ctx, `INSERT INTO facets (number, hash, weakness, package, fixed, severity, fixable, exploited, in_use,
			accepted, rank, detail, search) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, w.memo.freeNumber(), hash[:], v.ID, v.Package.Name, v.Fixed, int64(v.Severity), l.fixable(),
			v.KEV != nil, v.InUse, v.Accepted != nil, rankOf(v), detail, text)
	}
	if err != nil {
		return 0, err
	}
	w.memo.noteFacet(hash, number)
	return number, nil
}

// facetOf is a facet of an image, and when it was first found in it.
type facetOf struct{ number, first int64 }

// putImageFacets makes them all that an image has.
func (w *writer) putImageFacets(ctx context.Context, image int64, hash []byte, facets []facetOf) error {
	_, err := w.exec(ctx, `INSERT INTO image_facets (image, hash, facets) VALUES (?,?,?)
		ON CONFLICT (image) DO UPDATE SET hash = excluded.hash, facets = excluded.facets`, image, hash, packFacets(facets))
	return err
}

// packFacets writes the times at which something was found, of which there are
// few, each as its distance from the one before; then the facets in the order of
// their numbers, each as its distance from the one before and the place of its
// time.
func packFacets(facets []facetOf) []byte {
	slices.SortFunc(facets, func(a, b facetOf) int { return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.first, b.first)) })
	facets = slices.CompactFunc(facets, func(a, b facetOf) bool { return a.number == b.number })
	var times []int64
	for _, f := range facets {
		times = append(times, f.first)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	packed := binary.AppendUvarint(make([]byte, 0, 3*len(facets)+16), uint64(len(times)))
	last := int64(0)
	for _, t := range times {
		packed = binary.AppendVarint(packed, t-last)
		last = t
	}
	last = 0
	for _, f := range facets {
		packed = binary.AppendUvarint(packed, uint64(f.number-last))
		at, _ := slices.BinarySearch(times, f.first)
		packed = binary.AppendUvarint(packed, uint64(at))
		last = f.number
	}
	return packed
}

// eachFacet calls see with what packFacets wrote, and reports whether it is whole.
func eachFacet(packed []byte, see func(number, first int64)) bool {
	many, size := binary.Uvarint(packed)
	if size <= 0 || many > uint64(len(packed)) {
		return false
	}
	packed = packed[size:]
	times, last := make([]int64, many), int64(0)
	for i := range times {
		distance, size := binary.Varint(packed)
		if size <= 0 {
			return false
		}
		packed = packed[size:]
		last += distance
		times[i] = last
	}
	number := int64(0)
	for len(packed) > 0 {
		distance, size := binary.Uvarint(packed)
		if size <= 0 {
			return false
		}
		at, more := binary.Uvarint(packed[size:])
		if more <= 0 || at >= many {
			return false
		}
		packed = packed[size+more:]
		if number += int64(distance); number <= 0 {
			return false
		}
		see(number, times[at])
	}
	return true
}

// pruneFacets removes those that no image has any more.
func pruneFacets(ctx context.Context, w *writer) (int64, bool, error) {
	dead, err := w.ids(ctx, `SELECT f.number FROM facets f
		WHERE NOT EXISTS (SELECT 1 FROM vulnerabilities v WHERE v.facet = f.number) ORDER BY f.number LIMIT ?`, pruneRows)
	if err != nil {
		return 0, false, err
	}
	all, err := w.ids(ctx, "SELECT number FROM facets ORDER BY number")
	if err != nil {
		return 0, false, err
	}
	done, next := 0, int64(1)
	var free []int64
	for _, n := range all {
		for ; next < n && len(free) < maxMemo; next++ {
			free = append(free, next)
		}
		next = n + 1
		if done == len(dead) || dead[done] != n {
			continue
		}
		if _, err := w.exec(ctx, "DELETE FROM facets WHERE number = ?", n); err != nil {
			return 0, false, err
		}
		done++
		next = n // free now
	}
	if done > 0 {
		w.memo.facets = nil
	}
	w.memo.free = free
	return 0, done == pruneRows, nil
}
