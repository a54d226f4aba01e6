package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

// PutNotifyTarget implements store.NotifyTargets.
func (d *DB) PutNotifyTarget(ctx context.Context, t notice.Target) (notice.Target, error) {
	t.ID, t.State = 0, notice.State{}
	body, err := json.Marshal(t)
	if err != nil {
		return notice.Target{}, fmt.Errorf("encode target: %w", err)
	}
	err = d.write(ctx, "store target", func(ctx context.Context, w *writer) error {
		var have int
		if err := w.row(ctx, "SELECT count(id) FROM notify_targets", nil, &have); err != nil {
			return err
		}
		if have >= store.MaxNotifyTargets {
			return fault.New(fault.Exhausted, "there are %d targets already", have).With("remove one that is not needed any more")
		}
		var err error
		t.ID, err = w.insert(ctx, `INSERT INTO notify_targets (name, sealed, body, folded, tried, delivered, error, remedy, lost)
			VALUES (?,?,?,0,0,0,'','',0)`, t.Name, t.Sealed, string(body))
		if isUnique(err) {
			return fault.New(fault.Conflict, "there is a target %q already", t.Name).With("choose another name, or remove that one first")
		}
		return err
	})
	if err != nil {
		return notice.Target{}, err
	}
	return t, nil
}

// UpdateNotifyTarget implements store.NotifyTargets.
func (d *DB) UpdateNotifyTarget(ctx context.Context, t notice.Target) error {
	id := t.ID
	t.ID, t.State = 0, notice.State{}
	body, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode target: %w", err)
	}
	return d.write(ctx, "store target", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "UPDATE notify_targets SET name = ?, sealed = ?, body = ? WHERE id = ?", t.Name, t.Sealed, string(body), id)
		switch {
		case isUnique(err):
			return fault.New(fault.Conflict, "there is a target %q already", t.Name).With("choose another name")
		case err != nil:
			return err
		case n == 0:
			return noTarget(id)
		}
		return nil
	})
}

// NotifyTargets implements store.NotifyTargets.
func (d *DB) NotifyTargets(ctx context.Context) (all []notice.Target, err error) {
	err = d.read(ctx, "read targets", func(s *snapshot) error {
		return s.query(ctx, `SELECT t.id, t.sealed, t.body, t.folded, t.tried, t.delivered, t.error, t.remedy, t.lost,
			(SELECT count(n.id) FROM notices n WHERE n.target = t.id), (SELECT count(d.id) FROM notifications_dead d WHERE d.target = t.id), coalesce(x.tries, 0), coalesce(x.next, 0), x.id IS NOT NULL
			FROM notify_targets t LEFT JOIN notifications x ON x.target = t.id ORDER BY t.name, x.created`, nil, func(r *sql.Rows) (bool, error) {
			t, err := scanTarget(r)
			if err != nil {
				return false, corrupt(d.path, err)
			}
			if n := len(all); n == 0 || all[n-1].ID != t.ID {
				all = append(all, t)
			}
			return true, nil
		})
	})
	return all, err
}

func scanTarget(r *sql.Rows) (t notice.Target, err error) {
	var id, folded, tried, delivered, next int64
	var sealed, body []byte
	var st notice.State
	if err := r.Scan(&id, &sealed, &body, &folded, &tried, &delivered, &st.Error, &st.Remedy, &st.Lost,
		&st.Waiting, &st.Dead, &st.Tries, &next, &st.Undelivered); err != nil {
		return t, err
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return t, fmt.Errorf("decode target %d: %w", id, err)
	}
	st.Folded, st.Tried, st.Delivered, st.Next = fromNanos(folded), fromNanos(tried), fromNanos(delivered), fromNanos(next)
	t.ID, t.Sealed, t.State = id, sealed, st
	return t, nil
}

// DeleteNotifyTarget implements store.NotifyTargets.
func (d *DB) DeleteNotifyTarget(ctx context.Context, id int64) error {
	return d.write(ctx, "remove target", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "DELETE FROM notify_targets WHERE id = ?", id)
		if err != nil {
			return err
		}
		if n == 0 {
			return noTarget(id)
		}
		for _, statement := range [...]string{
			"DELETE FROM notices WHERE target = ?", "DELETE FROM notices_told WHERE target = ?", "DELETE FROM notifications WHERE target = ?",
			"DELETE FROM notifications_dead WHERE target = ?",
		} {
			if _, err := w.exec(ctx, statement, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Queues implements store.NoticeQueue.
func (d *DB) Queues(ctx context.Context) (all []store.NoticeLine, err error) {
	err = d.read(ctx, "read queues", func(s *snapshot) error {
		return s.query(ctx, "SELECT target, count(id), min(time), max(time), max(urgency) FROM notices GROUP BY target ORDER BY target", nil,
			func(r *sql.Rows) (bool, error) {
				var l store.NoticeLine
				var oldest, newest int64
				err := r.Scan(&l.Target, &l.Notices, &oldest, &newest, &l.Urgency)
				l.Oldest, l.Newest = fromNanos(oldest), fromNanos(newest)
				all = append(all, l)
				return true, err
			})
	})
	return all, err
}

// Notices implements store.NoticeQueue.
func (d *DB) Notices(ctx context.Context, target int64, limit int) (ns []notice.Notice, newest int64, err error) {
	err = d.read(ctx, "read notices", func(s *snapshot) error {
		if err := s.row(ctx, "SELECT coalesce(max(id), 0) FROM notices WHERE target = ?", []any{target}, &newest); err != nil {
			return err
		}
		return s.query(ctx, "SELECT body FROM notices WHERE target = ? ORDER BY severity DESC, id LIMIT ?", []any{target, limit},
			func(r *sql.Rows) (bool, error) {
				var body []byte
				if err := r.Scan(&body); err != nil {
					return false, err
				}
				var n notice.Notice
				if err := json.Unmarshal(body, &n); err != nil {
					return false, corrupt(d.path, fmt.Errorf("decode notice: %w", err))
				}
				ns = append(ns, n)
				return true, nil
			})
	})
	return ns, newest, err
}

// PutNotification implements store.NoticeQueue.
func (d *DB) PutNotification(ctx context.Context, x store.Delivery, through int64) error {
	return d.write(ctx, "store notification", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "UPDATE notify_targets SET folded = ? WHERE id = ?", nanos(x.Created), x.Target)
		if err != nil {
			return err
		}
		if n == 0 {
			return noTarget(x.Target)
		}
		notices, err := w.exec(ctx, "DELETE FROM notices WHERE target = ? AND id <= ?", x.Target, through)
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, "INSERT INTO notifications (id, target, notices, created, tries, next, body) VALUES (?,?,?,?,?,?,?)",
			x.ID, x.Target, notices, nanos(x.Created), x.Tries, nanos(x.Next), x.Body)
		return err
	})
}

// Deliveries implements store.Notifications.
func (d *DB) Deliveries(ctx context.Context) (all []store.Delivery, err error) {
	err = d.read(ctx, "read notifications", func(s *snapshot) error {
		return s.query(ctx, "SELECT id, target, notices, created, tries, next, body FROM notifications ORDER BY created, id", nil,
			func(r *sql.Rows) (bool, error) {
				var x store.Delivery
				var created, next int64
				err := r.Scan(&x.ID, &x.Target, &x.Notices, &created, &x.Tries, &next, &x.Body)
				x.Created, x.Next = fromNanos(created), fromNanos(next)
				all = append(all, x)
				return true, err
			})
	})
	return all, err
}

// EndNotifyTry implements store.Notifications. A target or delivery that is gone
// is none to note anything of.
func (d *DB) EndNotifyTry(ctx context.Context, t store.NotifyTry) error {
	got := t.Error == "" || t.Delivered
	return d.write(ctx, "note a try to notify", func(ctx context.Context, w *writer) error {
		delivered := int64(0)
		if got {
			delivered = nanos(t.At)
		}
		_, err := w.exec(ctx, "UPDATE notify_targets SET tried = ?, delivered = max(delivered, ?), error = ?, remedy = ? WHERE id = ?",
			nanos(t.At), delivered, t.Error, t.Remedy, t.Target)
		if err == nil && t.ID == "" && got { // it can be reached again
			_, err = w.exec(ctx, "UPDATE notifications SET next = min(next, ?) WHERE target = ?", nanos(t.At), t.Target)
		}
		if err != nil || t.ID == "" {
			return err
		}
		if !got && !t.Next.IsZero() {
			_, err := w.exec(ctx, "UPDATE notifications SET tries = tries + 1, next = ? WHERE id = ?", nanos(t.Next), t.ID)
			return err
		}
		if !got {
			if err := w.bury(ctx, t); err != nil {
				return err
			}
		}
		_, err = w.exec(ctx, "DELETE FROM notifications WHERE id = ?", t.ID)
		return err
	})
}
