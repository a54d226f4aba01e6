package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// PutTrail implements store.Trails.
func (d *DB) PutTrail(ctx context.Context, t store.WatchedTrail) (store.WatchedTrail, error) {
	err := d.write(ctx, "store trail", func(ctx context.Context, w *writer) error {
		var created int64
		err := w.row(ctx, "SELECT created FROM trails WHERE name = ?", []any{t.Name}, &created)
		switch {
		case err == nil:
			t.Created = fromNanos(created)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		default:
			var have int
			if err := w.row(ctx, "SELECT count(name) FROM trails WHERE name > ''", nil, &have); err != nil {
				return err
			}
			if have >= store.MaxTrails {
				return fault.New(fault.Exhausted, "%d trails are read already", have).With("remove one that is not needed any more: castellan detect trail rm NAME")
			}
		}
		body, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("encode trail %s: %w", t.Name, err)
		}
		_, err = w.exec(ctx, "INSERT INTO trails (name, created, body) VALUES (?,?,?) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
			t.Name, nanos(t.Created), string(body))
		return err
	})
	return t, err
}

// DeleteTrail implements store.Trails.
func (d *DB) DeleteTrail(ctx context.Context, name string) error {
	return d.write(ctx, "delete trail", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "DELETE FROM trails WHERE name = ?", name)
		if err == nil && n == 0 {
			return fault.New(fault.NotFound, "no trail is called %.80q", name).With("list them: castellan detect trail")
		}
		return err
	})
}

// Trails implements store.Trails.
func (d *DB) Trails(ctx context.Context) (all []store.WatchedTrail, err error) {
	err = d.read(ctx, "read trails", func(s *snapshot) error {
		return s.query(ctx, "SELECT body FROM trails WHERE name > '' ORDER BY name LIMIT ?", []any{store.MaxTrails}, func(r *sql.Rows) (bool, error) {
			var body string
			var t store.WatchedTrail
			if err := r.Scan(&body); err != nil {
				return false, err
			}
			if err := json.Unmarshal([]byte(body), &t); err != nil {
				return false, corrupt(d.path, err)
			}
			all = append(all, t)
			return true, nil
		})
	})
	return all, err
}
