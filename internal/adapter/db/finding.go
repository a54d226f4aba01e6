package db

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// PutInventory implements store.Findings.
func (d *DB) PutInventory(ctx context.Context, imageID, job string, inv inventory.Inventory, now time.Time) error {
	packed, err := packInventory(inv)
	if err != nil {
		return fmt.Errorf("encode the inventory of image %s: %w", imageID, err)
	}
	return d.write(ctx, "store inventory", func(ctx context.Context, w *writer) error {
		number, text, err := w.jobOf(ctx, imageID, job)
		if err != nil {
			return err
		}
		var b imageBody
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			return corrupt(d.path, fmt.Errorf("decode image %s: %w", imageID, err))
		}
		b.OS, b.Packages, b.Problems = inv.OS, len(inv.Packages), inv.Problems
		if inv.Image != nil {
			b.Platform, b.Layers = inv.Image.Platform, len(inv.Image.Layers)
			if err := w.nameDigest(ctx, imageID, inv.Image.Digest); err != nil {
				return err
			}
		}
		body, err := json.Marshal(b)
		if err != nil {
			return fmt.Errorf("encode image %s: %w", imageID, err)
		}
		_, err = w.exec(ctx, `UPDATE images SET state = ?, job = '', pending = 0, scanned = 1, tries = 0, next = 0, error = '',
			done = ?, analysis = ?, matched = 0, database = '', body = ? WHERE number = ?`,
			string(store.ScanDone), nanos(now), inv.Analysis, string(body), number)
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, `INSERT INTO inventories (image, body) VALUES (?,?)
			ON CONFLICT (image) DO UPDATE SET body = excluded.body`, number, packed)
		return err
	})
}

// jobOf returns the image whose job this is.
func (w *writer) jobOf(ctx context.Context, imageID, job string) (number int64, body string, err error) {
	var own string
	err = w.row(ctx, "SELECT number, job, body FROM images WHERE id = ?", []any{imageID}, &number, &own, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", noImage(imageID)
	}
	if err == nil && (job == "" || own != job) {
		err = fault.New(fault.Conflict, "image %s is no longer scanned by this job", imageID)
	}
	return number, body, err
}

// PutFindings implements store.Findings. Findings that are as they were are
// neither encoded nor written again.
func (d *DB) PutFindings(ctx context.Context, f store.ImageFindings) error {
	set := newLines(f.Vulnerabilities)
	countFindings(&set.counts, f.Findings)
	summary, err := json.Marshal(set.counts)
	if err != nil {
		return fmt.Errorf("encode counts: %w", err)
	}
	return d.write(ctx, "store findings", func(ctx context.Context, w *writer) error {
		var number int64
		err := w.row(ctx, "SELECT number FROM images WHERE id = ?", []any{f.ImageID}, &number)
		if errors.Is(err, sql.ErrNoRows) {
			return noImage(f.ImageID)
		}
		if err != nil {
			return err
		}
		if err := w.replaceFindings(ctx, number, f.Matched, set); err != nil {
			return err
		}
		if err := w.replaceImageFindings(ctx, number, nanos(f.Matched), f.Findings); err != nil {
			return err
		}
		if _, err = w.exec(ctx, "UPDATE images SET matched = ?, database = ?, gaps = ?, attention = ?, counts = ? WHERE number = ?",
			nanos(f.Matched), f.Database, f.Gaps, attention(set.counts), string(summary), number); err != nil {
			return err
		}
		return w.gradeEntries(ctx, f.ImageID)
	})
}

// known is a finding as its row has it.
type known struct {
	number, first, facet int64
	hash                 []byte
	// As newsOf needs it.
	weakness, pkg     string
	rank              int64
	fixable, accepted bool
}

func (w *writer) findings(ctx context.Context, image int64) (map[string]known, error) {
	st, err := w.stmt(ctx, `SELECT fingerprint, number, first, facet, hash, weakness, package, rank, fixable, accepted
		FROM vulnerabilities WHERE image = ?`)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, image)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]known{}
	for rows.Next() {
		var print string
		var k known
		if err := rows.Scan(&print, &k.number, &k.first, &k.facet, &k.hash, &k.weakness, &k.pkg, &k.rank, &k.fixable, &k.accepted); err != nil {
			return nil, err
		}
		all[print] = k
	}
	return all, rows.Err()
}

// replaceFindings makes lines all that an image has.
func (w *writer) replaceFindings(ctx context.Context, image int64, now time.Time, set lines) error {
	var was, packed []byte
	err := w.row(ctx, "SELECT hash, facets FROM image_facets WHERE image = ?", []any{image}, &was, &packed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if bytes.Equal(was, set.hash) && eachFacet(packed, func(int64, int64) {}) { // one that is damaged is written again
		return nil
	}
	before, err := w.findings(ctx, image)
	if err != nil {
		return err
	}
	if err := w.putNews(ctx, image, now, before, set, packed == nil); err != nil {
		return err
	}
	facets := make([]facetOf, 0, len(set.all))
	for i := range set.all {
		l := &set.all[i]
		was, there := before[l.v.Fingerprint]
		delete(before, l.v.Fingerprint)
		if !there {
			was.first = nanos(now)
		}
		if was.facet == 0 || !bytes.Equal(was.hash, l.hash[:]) { // its place among equals may be another, which orders nothing that matters
			if was.facet, err = w.putFinding(ctx, image, was, l); err != nil {
				return err
			}
		}
		facets = append(facets, facetOf{was.facet, was.first})
	}
	for _, gone := range before {
		if _, err := w.exec(ctx, "DELETE FROM vulnerabilities WHERE number = ?", gone.number); err != nil {
			return err
		}
	}
	return w.putImageFacets(ctx, image, set.hash, facets)
}

// putFinding writes one finding: over its row, or, where that has no number, into
// a new one. It returns its facet.
func (w *writer) putFinding(ctx context.Context, image int64, was known, l *line) (facet int64, err error) {
	detail, err := w.detail(ctx, l)
	if err != nil {
		return 0, err
	}
	if facet, err = w.facet(ctx, l, detail); err != nil {
		return 0, err
	}
	body, err := l.body()
	if err != nil {
		return 0, err
	}
	v := l.v
	if was.number > 0 { // what its fingerprint is made of stays
		_, err = w.exec(ctx, `UPDATE vulnerabilities SET severity = ?, fixable = ?, exploited = ?, in_use = ?, accepted = ?, rank = ?,
			position = ?, detail = ?, facet = ?, hash = ?, search = ?, body = ? WHERE number = ?`,
			int64(v.Severity), l.fixable(), v.KEV != nil, v.InUse, v.Accepted != nil, rankOf(v), l.place, detail, facet, l.hash[:],
			findingText(v), body, was.number)
		return facet, err
	}
	_, err = w.exec(ctx, `INSERT INTO vulnerabilities (image, fingerprint, weakness, package, severity, fixable, exploited,
		in_use, accepted, rank, position, first, detail, facet, hash, search, body) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		image, v.Fingerprint, v.ID, v.Package.Name, int64(v.Severity), l.fixable(), v.KEV != nil, v.InUse, v.Accepted != nil,
		rankOf(v), l.place, was.first, detail, facet, l.hash[:], findingText(v), body)
	return facet, err
}

// detail returns the row of what is the same in every image, and makes it if
// there is none.
func (w *writer) detail(ctx context.Context, l *line) (id int64, err error) {
	if id, ok := w.memo.details[l.shared]; ok {
		return id, nil
	}
	err = w.row(ctx, "SELECT id FROM details WHERE hash = ?", []any{l.shared[:]}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		id, err = w.addDetail(ctx, l)
	}
	if err != nil {
		return 0, err
	}
	w.memo.noteDetail(l.shared, id)
	return id, nil
}

func (w *writer) addDetail(ctx context.Context, l *line) (int64, error) {
	for _, alias := range l.v.Aliases {
		if _, err := w.exec(ctx, "INSERT INTO aliases (alias, weakness) VALUES (?,?) ON CONFLICT DO NOTHING", alias, l.v.ID); err != nil {
			return 0, err
		}
	}
	body, err := l.detail()
	if err != nil {
		return 0, err
	}
	return w.insert(ctx, "INSERT INTO details (hash, body) VALUES (?,?)", l.shared[:], body)
}

// Unmatched implements store.Findings.
func (d *DB) Unmatched(ctx context.Context, database string, limit int) (ids []string, err error) {
	err = d.read(ctx, "read images to compare", func(s *snapshot) error {
		return s.query(ctx, "SELECT id FROM images WHERE scanned = 1 AND database <> ? ORDER BY idle, seen, id LIMIT ?",
			[]any{database, pageSizeOf(limit)}, func(r *sql.Rows) (bool, error) {
				var id string
				err := r.Scan(&id)
				ids = append(ids, id)
				return true, err
			})
	})
	return ids, err
}
