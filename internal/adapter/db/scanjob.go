package db

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// LeaseScan implements store.ScanJobs. Writers take turns, so no two agents get
// the same image.
func (d *DB) LeaseScan(ctx context.Context, l store.Lease) (v store.Image, err error) {
	err = d.write(ctx, "lease a scan", func(ctx context.Context, w *writer) error {
		var number int64
		err := w.row(ctx, `SELECT number FROM images i WHERE pending = 1 AND next <= ?
			AND (agent <> ? OR tries = 0 OR next <= ?)
			AND EXISTS (SELECT 1 FROM workloads w WHERE w.image = i.id AND w.rank IN (0, 1) AND w.agent = ?)
			ORDER BY idle, seen, id LIMIT 1`,
			[]any{nanos(l.Now), l.AgentID, nanos(l.Now.Add(-store.ScanPatience)), l.AgentID}, &number)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no image of agent %s waits for a scan", l.AgentID)
		}
		if err != nil {
			return err
		}
		if _, err := w.exec(ctx, "UPDATE images SET state = ?, job = ?, agent = ?, tries = tries + 1, next = ? WHERE number = ?",
			string(store.ScanRunning), l.Job, l.AgentID, nanos(l.Until), number); err != nil {
			return err
		}
		st, err := w.stmt(ctx, "SELECT "+imageColumns+" FROM images WHERE number = ?")
		if err != nil {
			return err
		}
		v, err = scanImage(st.QueryRowContext(ctx, number).Scan)
		return err
	})
	if err != nil {
		return store.Image{}, err
	}
	return v, nil
}

// ScanFailed implements store.ScanJobs.
func (d *DB) ScanFailed(ctx context.Context, imageID, job, why string, next time.Time) error {
	return d.write(ctx, "end a scan", func(ctx context.Context, w *writer) error {
		number, _, err := w.jobOf(ctx, imageID, job)
		if err != nil {
			return err
		}
		state, pending := store.ScanWaiting, 1
		if next.IsZero() {
			state, pending = store.ScanFailed, 0
		}
		_, err = w.exec(ctx, "UPDATE images SET state = ?, pending = ?, job = '', next = ?, error = ? WHERE number = ?",
			string(state), pending, nanos(next), why, number)
		return err
	})
}

const sqlScanAgain = `UPDATE images SET state = 'waiting', pending = 1, job = '', tries = 0, error = '', next = ? WHERE `

// ScanAgain implements store.ScanJobs.
func (d *DB) ScanAgain(ctx context.Context, imageID string, now time.Time) error {
	return d.write(ctx, "ask for a scan", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, sqlScanAgain+"id = ?", nanos(now), imageID)
		if err == nil && n == 0 {
			return noImage(imageID)
		}
		return err
	})
}

// Outdated implements store.ScanJobs.
func (d *DB) Outdated(ctx context.Context, analysis int, now time.Time) (n int, err error) {
	err = d.write(ctx, "ask for scans anew", func(ctx context.Context, w *writer) error {
		changed, err := w.exec(ctx, sqlScanAgain+`number IN
			(SELECT number FROM images WHERE scanned = 1 AND analysis < ?) AND pending = 0`, nanos(now), analysis)
		n = int(changed)
		return err
	})
	return n, err
}

// ScanCounts implements store.ScanJobs.
func (d *DB) ScanCounts(ctx context.Context, database string) (counts map[store.ScanState]int, unmatched int, err error) {
	counts = map[store.ScanState]int{}
	err = d.read(ctx, "count scans", func(s *snapshot) error {
		for _, state := range [...]store.ScanState{store.ScanWaiting, store.ScanRunning, store.ScanDone, store.ScanFailed} {
			var n int
			if err := s.row(ctx, "SELECT count(id) FROM images WHERE state = ?", []any{string(state)}, &n); err != nil {
				return err
			}
			counts[state] = n
		}
		return s.row(ctx, "SELECT count(id) FROM images WHERE scanned = 1 AND database <> ?", []any{database}, &unmatched)
	})
	return counts, unmatched, err
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
