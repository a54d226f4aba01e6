package db

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// toldImages is how many images a line is told with.
const toldImages = 3

// FindingsIn implements store.FindingReads.
func (d *DB) FindingsIn(ctx context.Context, q store.FindingQuery) (found []store.Finding, err error) {
	err = d.read(ctx, "read findings", func(s *snapshot) error {
		f, err := filterFindings(q)
		if err != nil {
			return err
		}
		// The gravest of one image, or those of all in the order of their lines.
		from, order := "findings f CROSS JOIN image_findings n ON n.finding = f.number CROSS JOIN images i ON i.number = n.image",
			"f.severity DESC, f.first DESC, f.number"
		f.add("n.accepted = ?", q.Accepted)
		if q.ImageID != "" {
			from, order = "image_findings n CROSS JOIN findings f ON f.number = n.finding CROSS JOIN images i ON i.number = n.image",
				"n.severity DESC, n.finding"
			f.add("n.image = (SELECT number FROM images WHERE id = ?)", q.ImageID)
		}
		filterImages(&f, q)
		query := "SELECT i.id, n.body FROM " + from + " WHERE " + strings.Join(f.parts, " AND ") + " ORDER BY " + order + " LIMIT ? OFFSET ?"
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit), max(q.Offset, 0)), func(r *sql.Rows) (bool, error) {
			var id string
			var body []byte
			if err := r.Scan(&id, &body); err != nil {
				return false, err
			}
			one, err := s.parseFinding(body)
			one.ImageID = id
			found = append(found, one)
			return true, err
		})
	})
	return found, err
}

func (s *snapshot) parseFinding(body []byte) (f store.Finding, err error) {
	if err := json.Unmarshal(body, &f); err != nil {
		return f, corrupt(s.d.path, fmt.Errorf("decode a finding: %w", err))
	}
	return f, nil
}

// filterFindings puts what a query asks of a finding, f, into conditions.
func filterFindings(q store.FindingQuery) (f fragments, err error) {
	if len(q.Text) > maxTextBytes {
		return f, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
	}
	f.add("f.kind = ?", string(q.Kind))
	if q.Key != "" {
		f.add("f.key = ?", q.Key)
	}
	if q.Severity > finding.Unknown {
		f.add("f.severity >= ?", int64(q.Severity))
	}
	if q.Text != "" {
		f.add(`f.search LIKE ? ESCAPE '\'`, likePattern(q.Text))
	}
	return f, nil
}

// filterImages adds what it asks of the image, i.
func filterImages(f *fragments, q store.FindingQuery) {
	if q.Running {
		f.add("i.idle = 0")
	}
	f.owner("i.owner", q.Owner)
}

// holder is an image that can have findings.
type holder struct {
	store.FindingImage
	seen int64
}

// holders reads the images that a query asks for, by their numbers.
func (s *snapshot) holders(ctx context.Context, q store.FindingQuery) (map[int64]*holder, error) {
	var f fragments
	f.add("i.idle >= 0")
	filterImages(&f, q)
	if q.ImageID != "" {
		f.add("i.id = ?", q.ImageID)
	}
	all := map[int64]*holder{}
	err := s.query(ctx, "SELECT i.number, i.id, i.owner, i.running, i.seen FROM images i WHERE "+strings.Join(f.parts, " AND "), f.args,
		func(r *sql.Rows) (bool, error) {
			var number int64
			h := &holder{}
			if err := r.Scan(&number, &h.ID, &h.Owner, &h.Running, &h.seen); err != nil {
				return false, err
			}
			all[number] = h
			return true, nil
		})
	return all, err
}

// FindingLines implements store.FindingReads.
func (d *DB) FindingLines(ctx context.Context, q store.FindingQuery) (lines []store.FindingLine, err error) {
	err = d.read(ctx, "read findings over images", func(s *snapshot) error {
		images, err := s.holders(ctx, q)
		if err != nil {
			return err
		}
		numbers, err := s.lineNumbers(ctx, q)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			l, err := s.findingLine(ctx, n, q.Accepted, images)
			if err != nil {
				return err
			}
			lines = append(lines, l)
		}
		return nil
	})
	return lines, err
}

// lineNumbers returns the findings of one page.
func (s *snapshot) lineNumbers(ctx context.Context, q store.FindingQuery) (numbers []int64, err error) {
	f, err := filterFindings(q)
	if err != nil {
		return nil, err
	}
	var has fragments
	has.add("n.finding = f.number")
	has.add("n.accepted = ?", q.Accepted)
	filterImages(&has, q)
	if q.ImageID != "" {
		has.add("i.id = ?", q.ImageID)
	}
	f.add("EXISTS (SELECT 1 FROM image_findings n CROSS JOIN images i ON i.number = n.image WHERE "+strings.Join(has.parts, " AND ")+")", has.args...)
	query := "SELECT f.number FROM findings f WHERE " + strings.Join(f.parts, " AND ") +
		" ORDER BY f.severity DESC, f.first DESC, f.number LIMIT ? OFFSET ?"
	err = s.query(ctx, query, append(f.args, pageSizeOf(q.Limit), max(q.Offset, 0)), func(r *sql.Rows) (bool, error) {
		var n int64
		err := r.Scan(&n)
		numbers = append(numbers, n)
		return true, err
	})
	return numbers, err
}

// findingLine adds one finding up over images.
func (s *snapshot) findingLine(ctx context.Context, number int64, accepted bool, images map[int64]*holder) (l store.FindingLine, err error) {
	var first int64
	type has struct {
		number int64
		*holder
	}
	var some []has
	err = s.query(ctx, "SELECT image, first FROM image_findings WHERE finding = ? AND accepted = ?", []any{number, accepted},
		func(r *sql.Rows) (bool, error) {
			var image, at int64
			if err := r.Scan(&image, &at); err != nil {
				return false, err
			}
			h := images[image]
			if h == nil {
				return true, nil
			}
			l.Images++
			l.Workloads += h.Running
			if first == 0 || at < first {
				first = at
			}
			some = append(some, has{image, h})
			return true, nil
		})
	if err != nil || len(some) == 0 {
		return l, err
	}
	slices.SortFunc(some, func(a, b has) int {
		return cmp.Or(cmp.Compare(b.Running, a.Running), cmp.Compare(b.seen, a.seen), cmp.Compare(a.ID, b.ID))
	})
	var body []byte
	if err := s.row(ctx, "SELECT body FROM image_findings WHERE image = ? AND finding = ?", []any{some[0].number, number}, &body); err != nil {
		return l, err
	}
	if l.Finding, err = s.parseFinding(body); err != nil {
		return l, err
	}
	l.ImageID, l.First = some[0].ID, fromNanos(first)
	for _, h := range some[:min(len(some), toldImages)] {
		if h.Reference == "" {
			if err := s.row(ctx, "SELECT coalesce(json_extract(body, '$.references[0]'), '') FROM images WHERE number = ?", []any{h.number}, &h.Reference); err != nil {
				return l, err
			}
		}
		l.In = append(l.In, h.FindingImage)
	}
	return l, nil
}
