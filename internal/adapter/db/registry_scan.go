package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// notHeld holds for an entry of which nothing holds the scan. Both of its arguments
// are what heldWords returns; names of registries have no blank.
const notHeld = `registry NOT IN (SELECT value FROM json_each(?)) AND registry || ' ' || repository NOT IN (SELECT value FROM json_each(?))`

func heldWords(held []store.Held) (string, error) {
	words := make([]string, 0, len(held))
	for _, h := range held {
		words = append(words, strings.TrimSuffix(h.Registry+" "+h.Repository, " "))
	}
	b, err := json.Marshal(words)
	if err != nil {
		return "", fmt.Errorf("encode what is held: %w", err)
	}
	return string(b), nil
}

// TakeRegistryScan implements store.RegistryScans. Writers take turns, so an
// image is taken once.
func (d *DB) TakeRegistryScan(ctx context.Context, now time.Time, held []store.Held) (v store.RegistryImage, err error) {
	words, err := heldWords(held)
	if err != nil {
		return v, err
	}
	err = d.write(ctx, "take an image of a registry", func(ctx context.Context, w *writer) error {
		var number int64
		err := w.row(ctx, "SELECT number FROM registry_images WHERE state = 'waiting' AND next <= ? AND "+notHeld+
			" ORDER BY age DESC, number LIMIT 1", []any{nanos(now), words, words}, &number)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no image of a registry waits for a scan")
		}
		if err != nil {
			return err
		}
		if _, err := w.exec(ctx, "UPDATE registry_images SET state = 'running', tries = tries + 1 WHERE number = ?", number); err != nil {
			return err
		}
		st, err := w.stmt(ctx, "SELECT "+entryColumns+" FROM registry_images WHERE number = ?")
		if err != nil {
			return err
		}
		v, err = scanEntry(st.QueryRowContext(ctx, number).Scan)
		return err
	})
	return v, err
}

// NextRegistryScan implements store.RegistryScans.
func (d *DB) NextRegistryScan(ctx context.Context, held []store.Held) (at time.Time, err error) {
	words, err := heldWords(held)
	if err != nil {
		return at, err
	}
	err = d.read(ctx, "look for images of registries that wait", func(s *snapshot) error {
		var next sql.NullInt64
		err := s.row(ctx, "SELECT min(next) FROM registry_images WHERE state = 'waiting' AND "+notHeld, []any{words, words}, &next)
		if next.Valid {
			at = fromNanos(max(next.Int64, 1))
		}
		return err
	})
	return at, err
}

// EndRegistryScan implements store.RegistryScans.
func (d *DB) EndRegistryScan(ctx context.Context, id int64, e store.RegistryScanEnd) error {
	return d.write(ctx, "end the scan of an image of a registry", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, `UPDATE registry_images SET state = CASE state WHEN 'running' THEN ? ELSE state END, next = ?, error = ?,
			analysis = CASE WHEN ? > 0 THEN ? ELSE analysis END, created = CASE WHEN ? > 0 THEN ? ELSE created END,
			tries = CASE ? WHEN 'done' THEN 0 ELSE max(tries - ?, 0) END WHERE number = ?`,
			string(e.State), nanos(e.Next), e.Error, e.Analysis, e.Analysis, nanos(e.Created), nanos(e.Created), string(e.State), e.Uncounted, id)
		if err == nil && n == 0 {
			return noEntry(id)
		}
		if err != nil || e.Platforms == nil {
			return err
		}
		if _, err := w.exec(ctx, "DELETE FROM registry_platforms WHERE entry = ?", id); err != nil {
			return err
		}
		for i, p := range e.Platforms[:min(len(e.Platforms), store.MaxPlatforms)] {
			platform, err := json.Marshal(p.Platform)
			if err != nil {
				return fmt.Errorf("encode platform: %w", err)
			}
			if _, err := w.exec(ctx, "INSERT INTO registry_platforms (entry, position, image, platform) VALUES (?,?,?,?)",
				id, i, p.ImageID, string(platform)); err != nil {
				return err
			}
		}
		_, err = w.exec(ctx, "UPDATE registry_images SET gravest = "+gravestOf+" WHERE number = ?", id)
		return err
	})
}

func noEntry(id int64) error { return fault.New(fault.NotFound, "no registry has an image %d", id) }

// gravestOf is the column gravest of an entry, from the counts of its images.
const gravestOf = `coalesce((SELECT max(CASE
	WHEN json_extract(i.counts, '$.critical') > 0 THEN 5 WHEN json_extract(i.counts, '$.high') > 0 THEN 4
	WHEN json_extract(i.counts, '$.medium') > 0 THEN 3 WHEN json_extract(i.counts, '$.low') > 0 THEN 2
	WHEN json_extract(i.counts, '$.negligible') > 0 OR json_extract(i.counts, '$.unknown') > 0 THEN 1 ELSE 0 END)
	FROM registry_platforms p CROSS JOIN images i ON i.id = p.image WHERE p.entry = registry_images.number), 0)`

// gradeEntries brings the entries of an image up to date after its findings were
// replaced.
func (w *writer) gradeEntries(ctx context.Context, imageID string) error {
	_, err := w.exec(ctx, "UPDATE registry_images SET gravest = "+gravestOf+
		" WHERE number IN (SELECT entry FROM registry_platforms WHERE image = ?)", imageID)
	return err
}

// ResumeRegistryScans implements store.RegistryScans.
func (d *DB) ResumeRegistryScans(ctx context.Context, analysis int, now time.Time) error {
	return d.write(ctx, "resume the scans of registries", func(ctx context.Context, w *writer) error {
		if _, err := w.exec(ctx, "UPDATE registry_images SET state = 'waiting', next = ? WHERE state = 'running'", nanos(now)); err != nil {
			return err
		}
		_, err := w.exec(ctx, "UPDATE registry_images SET state = 'waiting', next = ?, tries = 0, error = '' WHERE state = 'done' AND analysis < ?",
			nanos(now), analysis)
		return err
	})
}

// RegistryScanAgain implements store.RegistryScans.
func (d *DB) RegistryScanAgain(ctx context.Context, id int64, now time.Time) error {
	return d.write(ctx, "ask for a scan of an image of a registry", func(ctx context.Context, w *writer) error {
		var idle bool
		err := w.row(ctx, "SELECT idle FROM registry_images WHERE number = ?", []any{id}, &idle)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return noEntry(id)
		case err != nil:
			return err
		case idle:
			return fault.New(fault.Conflict, "image %d is not in the registry any more, or left out by its rules", id)
		}
		_, err = w.exec(ctx, "UPDATE registry_images SET state = 'waiting', tries = 0, error = '', next = ? WHERE number = ? AND state <> 'running'",
			nanos(now), id)
		return err
	})
}

// entriesAgain has the entries of an image wait anew after somebody asked for a
// scan of the image.
func (w *writer) entriesAgain(ctx context.Context, imageID string, now int64) error {
	_, err := w.exec(ctx, `UPDATE registry_images SET state = 'waiting', tries = 0, error = '', next = ?
		WHERE idle = 0 AND state <> 'running' AND number IN (SELECT entry FROM registry_platforms WHERE image = ?)`, now, imageID)
	return err
}
