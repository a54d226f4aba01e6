package db

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"

	"github.com/castellan-security/castellan/internal/store"
)

// Health implements store.Upkeep. Bytes are those of the data file and its log.
func (d *DB) Health(ctx context.Context) (store.Health, error) {
	h := store.Health{Engine: "sqlite"}
	var err error
	if h.Schema, err = schemaVersion(); err != nil {
		return h, err
	}
	if h.FreeBytes, err = freeBytes(d.path); err != nil {
		return h, err
	}
	for _, name := range [...]string{d.path, d.path + "-wal"} {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the log appears with the first write
		}
		if err != nil {
			return h, osFault(name, "look at", err)
		}
		h.Bytes += info.Size()
	}
	err = d.read(ctx, "read health", func(s *snapshot) error {
		if err := s.row(ctx, "SELECT coalesce(sum(events), 0) FROM blocks", nil, &h.Events); err != nil {
			return err
		}
		var oldest int64
		err := s.row(ctx, "SELECT time FROM events WHERE id > 0 ORDER BY id LIMIT 1", nil, &oldest)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		h.OldestTime = timeOf(oldest)
		return err
	})
	return h, err
}
