package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/castellan-security/castellan/internal/store"
)

// PutResponseDeed implements store.ResponseDeeds.
func (d *DB) PutResponseDeed(ctx context.Context, r store.ResponseDeed) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode deed %s: %w", r.Deed.ID, err)
	}
	standing := 0
	if r.Standing() {
		standing = 1
	}
	return d.write(ctx, "store what was done about a threat", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "UPDATE response_deeds SET standing = ?, body = ? WHERE deed = ?", standing, string(body), r.Deed.ID)
		if err != nil || n > 0 {
			return err
		}
		id, err := w.insert(ctx, "INSERT INTO response_deeds (deed, standing, body) VALUES (?,?,?)", r.Deed.ID, standing, string(body))
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, "DELETE FROM response_deeds WHERE standing = 0 AND id <= ?", id-store.MaxResponseDeeds)
		return err
	})
}

// ResponseDeeds implements store.ResponseDeeds.
func (d *DB) ResponseDeeds(ctx context.Context, q store.ResponseDeedQuery) (all []store.ResponseDeed, last int64, err error) {
	before := q.Before
	if before <= 0 {
		before = 1 << 62
	}
	query := "SELECT id, body FROM response_deeds WHERE id < ? ORDER BY id DESC LIMIT ?"
	if q.Standing {
		query = "SELECT id, body FROM response_deeds WHERE standing = 1 AND id < ? ORDER BY id DESC LIMIT ?"
	}
	err = d.read(ctx, "read what was done about threats", func(s *snapshot) error {
		return s.query(ctx, query, []any{before, pageSizeOf(q.Limit)}, func(rows *sql.Rows) (bool, error) {
			var r store.ResponseDeed
			var body []byte
			if err := rows.Scan(&last, &body); err != nil {
				return false, err
			}
			if err := json.Unmarshal(body, &r); err != nil {
				return false, fmt.Errorf("decode deed %d: %w", last, err)
			}
			all = append(all, r)
			return true, nil
		})
	})
	return all, last, err
}
