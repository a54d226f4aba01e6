package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// imageBody is what is kept of an image that nobody asks for by.
type imageBody struct {
	References []string            `json:"references"`
	Digest     string              `json:"digest,omitempty"`
	Platform   inventory.Platform  `json:"platform,omitzero"`
	OS         inventory.OS        `json:"os,omitzero"`
	Layers     int                 `json:"layers,omitempty"`
	Packages   int                 `json:"packages,omitempty"`
	Problems   []inventory.Problem `json:"problems,omitempty"`
}

// NoteImages implements store.ScanJobs.
func (d *DB) NoteImages(ctx context.Context, seen []store.Image, now time.Time) (fresh []string, err error) {
	if len(seen) == 0 {
		return nil, nil
	}
	err = d.write(ctx, "note images", func(ctx context.Context, w *writer) error {
		fresh = nil
		for i := range seen {
			isNew, err := w.noteImage(ctx, &seen[i], now)
			if err != nil {
				return err
			}
			if isNew {
				fresh = append(fresh, seen[i].ID)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fresh, nil
}

func (w *writer) noteImage(ctx context.Context, v *store.Image, now time.Time) (fresh bool, err error) {
	var text string
	err = w.row(ctx, "SELECT body FROM images WHERE id = ?", []any{v.ID}, &text)
	fresh = errors.Is(err, sql.ErrNoRows)
	if err != nil && !fresh {
		return false, err
	}
	var b imageBody
	if !fresh {
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			return false, fmt.Errorf("decode image %s: %w", v.ID, err)
		}
	}
	b.References = mergeReferences(v.References, b.References)
	if v.Digest != "" {
		b.Digest = v.Digest
	}
	body, err := json.Marshal(b)
	if err != nil {
		return false, fmt.Errorf("encode image %s: %w", v.ID, err)
	}
	if err := w.nameDigest(ctx, v.ID, v.Digest); err != nil {
		return false, err
	}
	if !fresh {
		if string(body) == text {
			return false, nil
		}
		_, err := w.exec(ctx, "UPDATE images SET body = ?, search = ? WHERE id = ?", string(body), imageText(v.ID, b), v.ID)
		return false, err
	}
	_, err = w.exec(ctx, `INSERT INTO images (id, search, seen, workloads, running, idle, pending, scanned, state, job,
		agent, tries, next, error, done, analysis, matched, database, gaps, attention, counts, body)
		VALUES (?,?,?,0,0,1,1,0,?,'','',0,?,'',0,0,0,'',0,0,'{}',?)`,
		v.ID, imageText(v.ID, b), nanos(now), string(store.ScanWaiting), nanos(now), string(body))
	if err != nil {
		return false, err
	}
	return true, w.countWorkloads(ctx, v.ID)
}

// mergeReferences puts new names before those that are known.
func mergeReferences(fresh, known []string) []string {
	all := slices.Concat(fresh, known)
	out := make([]string, 0, min(len(all), store.MaxReferences))
	for _, r := range all {
		if r != "" && len(out) < store.MaxReferences && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// imageText is what ImageQuery.Text looks at.
func imageText(id string, b imageBody) string {
	return strings.Join(append(slices.Clone(b.References), id, b.Digest), "\n")
}

// countWorkloads brings an image's number of workloads up to date, if it is
// known.
func (w *writer) countWorkloads(ctx context.Context, image string) error {
	if image == "" {
		return nil
	}
	_, err := w.exec(ctx, `UPDATE images SET
		workloads = (SELECT count(w.image) FROM workloads w WHERE w.image = images.id),
		running = (SELECT count(w.image) FROM workloads w WHERE w.image = images.id AND w.rank = 0),
		idle = NOT EXISTS (SELECT 1 FROM workloads w WHERE w.image = images.id AND w.rank = 0)
		WHERE id = ?`, image)
	return err
}

const imageColumns = `id, seen, workloads, running, state, job, agent, tries, next, error, done, analysis, matched,
	database, gaps, counts, owner, body`

// scanImage reads the columns above.
func scanImage(scan func(...any) error) (v store.Image, err error) {
	var seen, next, done, matched int64
	var state string
	var counts, body []byte
	s := &v.Scan
	if err := scan(&v.ID, &seen, &v.Workloads, &v.Running, &state, &s.Job, &s.Agent, &s.Tries, &next, &s.Error,
		&done, &s.Analysis, &matched, &s.Database, &s.Gaps, &counts, &v.Owner, &body); err != nil {
		return store.Image{}, err
	}
	v.Seen, s.State, s.Next, s.Done, s.Matched = fromNanos(seen), store.ScanState(state), fromNanos(next), fromNanos(done), fromNanos(matched)
	var b imageBody
	if err := errors.Join(json.Unmarshal(counts, &v.Counts), json.Unmarshal(body, &b)); err != nil {
		return store.Image{}, fmt.Errorf("decode image %s: %w", v.ID, err)
	}
	v.References, v.Digest, v.Platform, v.OS, v.Layers, v.Packages, v.Problems = b.References, b.Digest, b.Platform, b.OS, b.Layers, b.Packages, b.Problems
	return v, nil
}

// Image implements store.ImageReads.
func (d *DB) Image(ctx context.Context, id string) (v store.Image, err error) {
	err = d.read(ctx, "read image", func(s *snapshot) error {
		err := s.query(ctx, "SELECT "+imageColumns+" FROM images WHERE id = ?", []any{id}, func(r *sql.Rows) (bool, error) {
			v, err = scanImage(r.Scan)
			return true, err
		})
		if err == nil && v.ID == "" {
			return noImage(id)
		}
		return err
	})
	return v, err
}

func noImage(id string) error { return fault.New(fault.NotFound, "no image %q", id) }

// Images implements store.ImageReads. An After that retention has removed
// meanwhile is Invalid: start again from the first page.
func (d *DB) Images(ctx context.Context, q store.ImageQuery) (vs []store.Image, err error) {
	if len(q.Text) > maxTextBytes {
		return nil, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
	}
	err = d.read(ctx, "read images", func(s *snapshot) error {
		var f fragments
		if q.State != "" {
			f.add("state = ?", string(q.State))
		}
		if q.Running {
			f.add("idle = 0")
		} else {
			f.add("idle >= 0")
		}
		f.owner("owner", q.Owner)
		if q.Text != "" {
			f.add(`search LIKE ? ESCAPE '\'`, likePattern(q.Text))
		}
		if q.After != "" {
			var idle, attention, seen int64
			err := s.row(ctx, "SELECT idle, attention, seen FROM images WHERE id = ?", []any{q.After}, &idle, &attention, &seen)
			if errors.Is(err, sql.ErrNoRows) {
				return fault.New(fault.Invalid, "no image %q to continue behind", q.After)
			}
			if err != nil {
				return err
			}
			f.add(`(idle > ? OR idle = ? AND (attention < ? OR attention = ? AND (seen < ? OR seen = ? AND id > ?)))`,
				idle, idle, attention, attention, seen, seen, q.After)
		}
		query := "SELECT " + imageColumns + " FROM images WHERE " + strings.Join(f.parts, " AND ") +
			" ORDER BY idle, attention DESC, seen DESC, id LIMIT ?"
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit)), func(r *sql.Rows) (bool, error) {
			v, err := scanImage(r.Scan)
			vs = append(vs, v)
			return true, err
		})
	})
	return vs, err
}

// Inventory implements store.ImageReads.
func (d *DB) Inventory(ctx context.Context, imageID string) (inv inventory.Inventory, err error) {
	err = d.read(ctx, "read inventory", func(s *snapshot) error {
		var body []byte
		err := s.row(ctx, "SELECT n.body FROM images i JOIN inventories n ON n.image = i.number WHERE i.id = ?", []any{imageID}, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no inventory of image %q", imageID)
		}
		if err != nil {
			return err
		}
		inv, err = unpackInventory(d.path, body)
		return err
	})
	return inv, err
}

// pruneImages forgets images of which no workload and no registry's entry is kept
// any more, a few at once, with all that was found in them.
func (w *writer) pruneImages(ctx context.Context, cut int64) (int64, bool, error) {
	const images = 20
	numbers, err := w.ids(ctx, `SELECT number FROM images WHERE workloads = 0 AND seen < ?
		AND NOT EXISTS (SELECT 1 FROM registry_platforms p WHERE p.image = images.id) LIMIT ?`, cut, images)
	if err != nil {
		return 0, false, err
	}
	for _, n := range numbers {
		if _, err := w.exec(ctx, "DELETE FROM image_digests WHERE image = (SELECT id FROM images WHERE number = ?)", n); err != nil {
			return 0, false, err
		}
		for _, statement := range [...]string{
			"DELETE FROM vulnerabilities WHERE image = ?", "DELETE FROM inventories WHERE image = ?",
			"DELETE FROM image_facets WHERE image = ?", "DELETE FROM image_findings WHERE image = ?", "DELETE FROM image_uses WHERE image = ?", "DELETE FROM images WHERE number = ?",
			"DELETE FROM news WHERE image = ?", "DELETE FROM notices_told WHERE image = ?",
		} {
			if _, err := w.exec(ctx, statement, n); err != nil {
				return 0, false, err
			}
		}
	}
	return int64(len(numbers)), len(numbers) == images, nil
}

// recountWorkloads brings the numbers of workloads up to date after some were
// removed.
func recountWorkloads(ctx context.Context, w *writer) (int64, bool, error) {
	_, err := w.exec(ctx, `UPDATE images SET workloads = (SELECT count(w.image) FROM workloads w WHERE w.image = images.id)
		WHERE workloads <> (SELECT count(w.image) FROM workloads w WHERE w.image = images.id)`)
	return 0, false, err
}

// pruneDetails removes what is said of weaknesses that no image has any more.
func pruneDetails(ctx context.Context, w *writer) (int64, bool, error) {
	// Findings from before there were facets have their details still.
	var old bool
	if err := w.row(ctx, "SELECT EXISTS (SELECT 1 FROM vulnerabilities WHERE facet = 0)", nil, &old); err != nil || old {
		return 0, false, err
	}
	n, err := w.exec(ctx, `DELETE FROM details WHERE id IN (SELECT d.id FROM details d
		WHERE NOT EXISTS (SELECT 1 FROM facets f WHERE f.detail = d.id) LIMIT ?)`, pruneRows)
	if err != nil || n > 0 {
		// Aliases stay until the last of these is gone: with a detail they are not
		// written again.
		w.memo.details = nil
		return 0, n > 0, err
	}
	m, err := w.exec(ctx, `DELETE FROM aliases WHERE (alias, weakness) IN (SELECT a.alias, a.weakness FROM aliases a
		WHERE NOT EXISTS (SELECT 1 FROM facets f WHERE f.weakness = a.weakness) LIMIT ?)`, pruneRows)
	return 0, m == pruneRows, err
}
