package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

// bury makes a delivery that was given up a dead letter.
func (w *writer) bury(ctx context.Context, t store.NotifyTry) error {
	var body []byte
	err := w.row(ctx, "SELECT body FROM notifications WHERE id = ?", []any{t.ID}, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // its target was removed
	}
	if err != nil {
		return err
	}
	var n notice.Notification
	if err := json.Unmarshal(body, &n); err != nil {
		n.Title = "a notification that can't be read"
	}
	if _, err := w.exec(ctx, `INSERT INTO notifications_dead (id, target, notices, created, died, tries, severity, title, reason, remedy, body)
		SELECT id, target, notices, created, ?, tries + 1, ?, ?, ?, ?, body FROM notifications WHERE id = ?`,
		nanos(t.At), int64(n.Severity), n.Title, t.Error, t.Remedy, t.ID); err != nil {
		return err
	}
	if err := w.loseDead(ctx, "SELECT number FROM notifications_dead WHERE target = ? ORDER BY number DESC LIMIT -1 OFFSET ?", t.Target, store.MaxDeadOf); err != nil {
		return err
	}
	return w.loseDead(ctx, "SELECT number FROM notifications_dead ORDER BY number DESC LIMIT -1 OFFSET ?", store.MaxDead)
}

// loseDead removes the dead letters that a query names, and counts them as lost.
func (w *writer) loseDead(ctx context.Context, which string, args ...any) error {
	if _, err := w.exec(ctx, `UPDATE notify_targets SET lost = min(?, lost + (SELECT coalesce(sum(d.notices), 0) FROM notifications_dead d
		WHERE d.target = notify_targets.id AND d.number IN (`+which+`)))`, append([]any{math.MaxInt32}, args...)...); err != nil {
		return err
	}
	_, err := w.exec(ctx, "DELETE FROM notifications_dead WHERE number IN ("+which+")", args...)
	return err
}

// Dead implements store.DeadLetters.
func (d *DB) Dead(ctx context.Context, target int64) (all []notice.Dead, err error) {
	where, args := "", []any(nil)
	if target != 0 {
		where, args = "WHERE d.target = ? ", []any{target}
	}
	err = d.read(ctx, "read dead letters", func(s *snapshot) error {
		return s.query(ctx, `SELECT d.id, d.target, t.name, d.title, d.severity, d.notices, d.created, d.died, d.tries, d.reason, d.remedy
			FROM notifications_dead d CROSS JOIN notify_targets t ON t.id = d.target `+where+"ORDER BY d.number DESC", args,
			func(r *sql.Rows) (bool, error) {
				var x notice.Dead
				var created, died int64
				err := r.Scan(&x.ID, &x.Target, &x.Name, &x.Title, &x.Severity, &x.Notices, &created, &died, &x.Tries, &x.Reason, &x.Remedy)
				x.Created, x.Died = fromNanos(created), fromNanos(died)
				all = append(all, x)
				return true, err
			})
	})
	return all, err
}

// deadWhere is the condition of a query.
func deadWhere(q store.DeadQuery) (where string, args []any) {
	switch {
	case q.ID != "":
		return "id = ?", []any{q.ID}
	case q.Target != 0:
		return "target = ?", []any{q.Target}
	}
	return "number > 0", nil
}

// RetryDead implements store.DeadLetters. They are due in the order in which they
// were given up.
func (d *DB) RetryDead(ctx context.Context, q store.DeadQuery, now time.Time) (int, error) {
	where, args := deadWhere(q)
	var n int64
	err := d.write(ctx, "retry dead letters", func(ctx context.Context, w *writer) error {
		var first int64
		if err := w.row(ctx, "SELECT coalesce(min(number), 0) FROM notifications_dead WHERE "+where, args, &first); err != nil {
			return err
		}
		var err error
		n, err = w.exec(ctx, `INSERT INTO notifications (id, target, notices, created, tries, next, body)
			SELECT id, target, notices, ? + number - ?, 0, ?, body FROM notifications_dead WHERE `+where, append([]any{nanos(now), first, nanos(now)}, args...)...)
		if err != nil {
			return fmt.Errorf("make dead letters deliveries: %w", err)
		}
		_, err = w.exec(ctx, "DELETE FROM notifications_dead WHERE "+where, args...)
		return err
	})
	return int(n), err
}

// DropDead implements store.DeadLetters.
func (d *DB) DropDead(ctx context.Context, q store.DeadQuery) (int, error) {
	where, args := deadWhere(q)
	var n int64
	err := d.write(ctx, "drop dead letters", func(ctx context.Context, w *writer) (err error) {
		n, err = w.exec(ctx, "DELETE FROM notifications_dead WHERE "+where, args...)
		return err
	})
	return int(n), err
}
