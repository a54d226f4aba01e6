package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// LeaseScan implements store.ScanJobs. Writers take turns, so no two agents get
// the same image.
func (d *DB) LeaseScan(ctx context.Context, l store.Lease) (v store.Image, err error) {
	err = d.write(ctx, "lease a scan", func(ctx context.Context, w *writer) error {
		number, asked, err := w.scanFor(ctx, l)
		if err != nil {
			return err
		}
		v, err = w.lease(ctx, number, asked, l)
		return err
	})
	if err != nil {
		return store.Image{}, err
	}
	return v, nil
}

// lease gives a job to who asks for it, and returns the image.
func (w *writer) lease(ctx context.Context, number int64, asked int, l store.Lease) (store.Image, error) {
	if _, err := w.exec(ctx, `UPDATE images SET state = ?, pending = 1, job = ?, agent = ?,
		tries = CASE pending WHEN 1 THEN tries + 1 ELSE 1 END, next = ?, asked = ?
		WHERE number = ?`, string(store.ScanRunning), l.Job, l.AgentID, nanos(l.Until), asked, number); err != nil {
		return store.Image{}, err
	}
	st, err := w.stmt(ctx, "SELECT "+imageColumns+" FROM images WHERE number = ?")
	if err != nil {
		return store.Image{}, err
	}
	return scanImage(st.QueryRowContext(ctx, number).Scan)
}

// LeaseImage implements store.ScanJobs.
func (d *DB) LeaseImage(ctx context.Context, imageID string, l store.Lease) (v store.Image, err error) {
	err = d.write(ctx, "lease the scan of an image", func(ctx context.Context, w *writer) error {
		var number int64
		var asked int
		var wanted, outdated bool
		err := w.row(ctx, `SELECT number, asked, pending = 1 AND next <= ? OR pending = 0 AND scanned = 0,
			pending = 0 AND scanned = 1 AND analysis < ? AND asked < ? FROM images WHERE id = ?`,
			[]any{nanos(l.Now), l.Analysis, l.Analysis, imageID}, &number, &asked, &wanted, &outdated)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return noImage(imageID)
		case err != nil:
			return err
		case outdated:
			asked = l.Analysis
		case !wanted:
			return fault.New(fault.Conflict, "image %s is scanned, or somebody is at it", imageID)
		}
		v, err = w.lease(ctx, number, asked, l)
		return err
	})
	if err != nil {
		return store.Image{}, err
	}
	return v, nil
}

// scanFor returns the image that a lease is given, and the analysis that it is
// asked for: 0 where any will do.
func (w *writer) scanFor(ctx context.Context, l store.Lease) (number int64, asked int, err error) {
	// What waits for a newer analysis is of no use to an agent without it.
	err = w.row(ctx, `SELECT number, asked FROM images i WHERE pending = 1 AND next <= ? AND asked <= ?
		AND (agent <> ? OR tries = 0 OR next <= ?)
		AND EXISTS (SELECT 1 FROM workloads w WHERE w.image = i.id AND w.rank IN (0, 1) AND w.agent = ?)
		ORDER BY idle, seen, id LIMIT 1`,
		[]any{nanos(l.Now), l.Analysis, l.AgentID, nanos(l.Now.Add(-store.ScanPatience)), l.AgentID}, &number, &asked)
	if errors.Is(err, sql.ErrNoRows) && l.Analysis > 0 {
		asked = l.Analysis
		err = w.row(ctx, `SELECT number FROM images i WHERE scanned = 1 AND analysis < ? AND asked < ? AND pending = 0
			AND EXISTS (SELECT 1 FROM workloads w WHERE w.image = i.id AND w.rank IN (0, 1) AND w.agent = ?)
			ORDER BY idle, seen, id LIMIT 1`, []any{l.Analysis, l.Analysis, l.AgentID}, &number)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = fault.New(fault.NotFound, "no image of agent %s waits for a scan", l.AgentID)
	}
	return number, asked, err
}

// MoveScanEnd implements store.ScanJobs.
func (d *DB) MoveScanEnd(ctx context.Context, imageID, job string, until time.Time) error {
	return d.write(ctx, "move the end of a scan", func(ctx context.Context, w *writer) error {
		number, _, err := w.jobOf(ctx, imageID, job)
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, "UPDATE images SET next = ? WHERE number = ?", nanos(until), number)
		return err
	})
}

// ScanFailed implements store.ScanJobs.
func (d *DB) ScanFailed(ctx context.Context, imageID, job, why string, next time.Time) error {
	return d.write(ctx, "end a scan", func(ctx context.Context, w *writer) error {
		number, _, err := w.jobOf(ctx, imageID, job)
		if err != nil {
			return err
		}
		if next.IsZero() {
			_, err = w.exec(ctx, `UPDATE images SET (state, tries, error) =
				(SELECT 'done', 0, '' WHERE scanned = 1 AND asked > analysis UNION ALL SELECT 'failed', tries, ? LIMIT 1),
				pending = 0, job = '', next = 0 WHERE number = ?`, why, number)
			return err
		}
		_, err = w.exec(ctx, "UPDATE images SET state = ?, job = '', next = ?, error = ? WHERE number = ?",
			string(store.ScanWaiting), nanos(next), why, number)
		return err
	})
}

// ReleaseScan implements store.ScanJobs.
func (d *DB) ReleaseScan(ctx context.Context, imageID, job, why string, next time.Time) error {
	return d.write(ctx, "give a scan back", func(ctx context.Context, w *writer) error {
		number, _, err := w.jobOf(ctx, imageID, job)
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, "UPDATE images SET state = ?, job = '', next = ?, error = ?, tries = max(tries - 1, 0) WHERE number = ?",
			string(store.ScanWaiting), nanos(next), why, number)
		return err
	})
}

// ScanGone implements store.ScanJobs. next keeps when it was gone.
func (d *DB) ScanGone(ctx context.Context, imageID, job string, now time.Time) error {
	return d.write(ctx, "end a scan", func(ctx context.Context, w *writer) error {
		number, _, err := w.jobOf(ctx, imageID, job)
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, `UPDATE images SET state = CASE scanned WHEN 1 THEN 'done' ELSE 'gone' END, pending = 0, job = '', tries = 0,
			error = '', next = CASE scanned WHEN 1 THEN 0 ELSE ? END WHERE number = ?`, nanos(now), number)
		return err
	})
}

// SweepVain implements store.ScanJobs.
func (d *DB) SweepVain(ctx context.Context, able map[string]int) (ended []string, err error) {
	agents, err := json.Marshal(able)
	if err != nil {
		return nil, fmt.Errorf("encode agents: %w", err)
	}
	err = d.write(ctx, "end scans in vain", func(ctx context.Context, w *writer) (err error) {
		// asked as analysis has it asked for anew, once somebody can.
		ended, err = w.changed(ctx, `UPDATE images SET state = 'done', pending = 0, tries = 0, next = 0, error = '', asked = analysis
			WHERE pending = 1 AND job = '' AND scanned = 1 AND asked > 0 AND NOT EXISTS (SELECT 1 FROM workloads w
			JOIN json_each(?) a ON a.key = w.agent WHERE w.image = images.id AND w.rank IN (0, 1) AND a.value >= images.asked)
			AND NOT `+held+` RETURNING id`, string(agents))
		return err
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

// ScanAgain implements store.ScanJobs.
func (d *DB) ScanAgain(ctx context.Context, imageID string, now time.Time) error {
	return d.write(ctx, "ask for a scan", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, `UPDATE images SET state = 'waiting', pending = 1, job = '', tries = 0, error = '', next = ?, asked = 0
			WHERE id = ?`, nanos(now), imageID)
		if err == nil && n == 0 {
			return noImage(imageID)
		}
		if err != nil {
			return err
		}
		return w.entriesAgain(ctx, imageID, nanos(now))
	})
}

// held holds for an image that a registry has.
const held = `EXISTS (SELECT 1 FROM registry_platforms p CROSS JOIN registry_images e ON e.number = p.entry
	WHERE p.image = images.id AND e.idle = 0)`

// alive holds for an image of which an agent that is not silent has a workload
// that has not ended, or not long ago. Its arguments are a time and the silent
// agents as JSON.
const alive = `EXISTS (SELECT 1 FROM workloads w WHERE w.image = images.id AND (w.ended = 0 OR w.ended >= ?)
	AND w.agent NOT IN (SELECT value FROM json_each(?)))`

// SweepGone implements store.ScanJobs.
func (d *DB) SweepGone(ctx context.Context, g store.Gone) (gone, back []string, err error) {
	silent, err := json.Marshal(append([]string{}, g.Silent...))
	if err != nil {
		return nil, nil, fmt.Errorf("encode the silent agents: %w", err)
	}
	before := nanos(g.Before)
	err = d.write(ctx, "give up images that are gone", func(ctx context.Context, w *writer) (err error) {
		back, err = w.changed(ctx, `UPDATE images SET state = 'waiting', pending = 1, tries = 0, error = '', next = ?
			WHERE state = 'gone' AND `+alive+` AND (next = 0 OR EXISTS (SELECT 1 FROM workloads w WHERE w.image = images.id
			AND (w.ended = 0 OR w.ended > images.next))) RETURNING id`, nanos(g.Now), before, string(silent))
		if gone = nil; err != nil || g.OnlyBack {
			return err
		}
		// What is scanned already stays as it was.
		gone, err = w.changed(ctx, `UPDATE images SET state = CASE scanned WHEN 1 THEN 'done' ELSE 'gone' END, pending = 0, next = 0,
			tries = 0, error = CASE scanned WHEN 1 THEN '' ELSE error END, asked = CASE scanned WHEN 1 THEN analysis ELSE asked END
			WHERE pending = 1 AND job = '' AND seen < ? AND next < ? AND NOT `+held+` AND NOT `+alive+` RETURNING id`, before, before, before, string(silent))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return gone, back, nil
}

// changed runs a statement that returns the ids of what it has changed.
func (w *writer) changed(ctx context.Context, query string, args ...any) (ids []string, err error) {
	st, err := w.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// ScanTotals implements store.ScanJobs.
func (d *DB) ScanTotals(ctx context.Context, database string, analysis int) (t store.ScanTotals, err error) {
	t.States = map[store.ScanState]int{}
	err = d.read(ctx, "count scans", func(s *snapshot) error {
		for _, state := range [...]store.ScanState{store.ScanWaiting, store.ScanRunning, store.ScanDone, store.ScanFailed, store.ScanGone} {
			var n int
			if err := s.row(ctx, "SELECT count(id) FROM images WHERE state = ?", []any{string(state)}, &n); err != nil {
				return err
			}
			t.States[state] = n
		}
		if err := s.row(ctx, "SELECT count(id) FROM images WHERE scanned = 1 AND database <> ?", []any{database}, &t.Unmatched); err != nil {
			return err
		}
		return s.row(ctx, "SELECT count(id) FROM images WHERE scanned = 1 AND analysis < ? AND asked < ? AND pending = 0",
			[]any{analysis, analysis}, &t.Outdated)
	})
	return t, err
}

// NoteUses implements store.Uses.
func (d *DB) NoteUses(ctx context.Context, imageID string, paths []string) (fresh bool, err error) {
	if len(paths) == 0 {
		return false, nil
	}
	err = d.write(ctx, "note files in use", func(ctx context.Context, w *writer) error {
		fresh = false
		var number, have int64
		err := w.row(ctx, "SELECT number FROM images WHERE id = ?", []any{imageID}, &number)
		if errors.Is(err, sql.ErrNoRows) {
			return noImage(imageID)
		}
		if err != nil {
			return err
		}
		if err := w.row(ctx, "SELECT count(path) FROM image_uses WHERE image = ?", []any{number}, &have); err != nil {
			return err
		}
		for _, p := range paths {
			if have >= store.MaxUses {
				return nil
			}
			n, err := w.exec(ctx, "INSERT INTO image_uses (image, path) VALUES (?,?) ON CONFLICT DO NOTHING", number, p)
			if err != nil {
				return err
			}
			fresh, have = fresh || n > 0, have+n
		}
		return nil
	})
	return fresh, err
}

// Uses implements store.Uses.
func (d *DB) Uses(ctx context.Context, imageID string) (paths []string, err error) {
	err = d.read(ctx, "read files in use", func(s *snapshot) error {
		return s.query(ctx, "SELECT u.path FROM images i CROSS JOIN image_uses u ON u.image = i.number WHERE i.id = ? ORDER BY u.path",
			[]any{imageID}, func(r *sql.Rows) (bool, error) {
				var p string
				err := r.Scan(&p)
				paths = append(paths, p)
				return true, err
			})
	})
	return paths, err
}
