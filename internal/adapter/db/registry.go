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

// CreateRegistry implements store.RegistrySettings.
func (d *DB) CreateRegistry(ctx context.Context, r store.WatchedRegistry) error {
	body, err := json.Marshal(r.Registry)
	if err != nil {
		return fmt.Errorf("encode registry %s: %w", r.Name, err)
	}
	return d.write(ctx, "store registry", func(ctx context.Context, w *writer) error {
		var have int
		if err := w.row(ctx, "SELECT count(name) FROM registries", nil, &have); err != nil {
			return err
		}
		if have >= store.MaxRegistries {
			return fault.New(fault.Exhausted, "%d registries are watched already", have).With("remove one that is not needed any more")
		}
		n, err := w.exec(ctx, `INSERT INTO registries (name, created, webhook, body, poll) VALUES (?,?,?,?,'{}')
			ON CONFLICT DO NOTHING`, r.Name, nanos(r.Created), blob(r.Webhook), string(body))
		if err == nil && n == 0 {
			return fault.New(fault.Conflict, "there is a registry called %q already", r.Name).With("change that one, or choose another name")
		}
		return err
	})
}

// blob is how bytes are stored that may be missing.
func blob(b []byte) []byte { return append([]byte{}, b...) }

// UpdateRegistry implements store.RegistrySettings.
func (d *DB) UpdateRegistry(ctx context.Context, r store.WatchedRegistry) error {
	body, err := json.Marshal(r.Registry)
	if err != nil {
		return fmt.Errorf("encode registry %s: %w", r.Name, err)
	}
	return d.write(ctx, "store registry", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "UPDATE registries SET webhook = ?, body = ? WHERE name = ?", blob(r.Webhook), string(body), r.Name)
		return someRegistry(n, err, r.Name)
	})
}

// someRegistry is NotFound when no row was changed.
func someRegistry(n int64, err error, name string) error {
	if err == nil && n == 0 {
		return noRegistry(name)
	}
	return err
}

func noRegistry(name string) error {
	return fault.New(fault.NotFound, "no registry is called %q", name).With("list them: castellan registries")
}

// DeleteRegistry implements store.RegistrySettings. What is left of it after a
// crash goes with the next Prune.
func (d *DB) DeleteRegistry(ctx context.Context, name string) error {
	err := d.write(ctx, "delete registry", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "DELETE FROM registries WHERE name = ?", name)
		if err := someRegistry(n, err, name); err != nil {
			return err
		}
		_, err = w.exec(ctx, "DELETE FROM registry_repositories WHERE registry = ?", name)
		return err
	})
	if err != nil {
		return err
	}
	_, err = d.repeat(ctx, func(ctx context.Context, w *writer) (int64, bool, error) {
		return w.dropEntries(ctx, "SELECT number FROM registry_images WHERE registry = ? LIMIT ?", name)
	})
	return err
}

// dropEntries forgets images of registries that a query names, a few at once.
func (w *writer) dropEntries(ctx context.Context, query string, arg any) (int64, bool, error) {
	numbers, err := w.ids(ctx, query, arg, pruneRows)
	if err != nil {
		return 0, false, err
	}
	for _, n := range numbers {
		if _, err := w.exec(ctx, "DELETE FROM registry_platforms WHERE entry = ?", n); err != nil {
			return 0, false, err
		}
		if _, err := w.exec(ctx, "DELETE FROM registry_images WHERE number = ?", n); err != nil {
			return 0, false, err
		}
	}
	return int64(len(numbers)), len(numbers) == pruneRows, nil
}

// pruneRegistries forgets images that a registry has no more, from before cut,
// and what is left of registries that are not watched any more.
func pruneRegistries(cut int64) pruneStep {
	return func(ctx context.Context, w *writer) (int64, bool, error) {
		n, more, err := w.dropEntries(ctx, "SELECT number FROM registry_images WHERE gone > 0 AND gone < ? LIMIT ?", cut)
		if err != nil || more {
			return n, more, err
		}
		m, more, err := w.dropEntries(ctx, `SELECT number FROM registry_images WHERE number > ?
			AND registry NOT IN (SELECT name FROM registries) LIMIT ?`, 0)
		return n + m, more, err
	}
}

const registryColumns = "created, webhook, body, poll"

func scanRegistry(scan func(...any) error) (r store.WatchedRegistry, err error) {
	var created int64
	var body, poll []byte
	if err := scan(&created, &r.Webhook, &body, &poll); err != nil {
		return r, err
	}
	r.Created = fromNanos(created)
	if len(r.Webhook) == 0 {
		r.Webhook = nil
	}
	if err := errors.Join(json.Unmarshal(body, &r.Registry), json.Unmarshal(poll, &r.Poll)); err != nil {
		return r, fmt.Errorf("decode registry: %w", err)
	}
	return r, nil
}

// Registry implements store.RegistrySettings.
func (d *DB) Registry(ctx context.Context, name string) (r store.WatchedRegistry, err error) {
	err = d.read(ctx, "read registry", func(s *snapshot) error {
		st, err := s.stmt(ctx, "SELECT "+registryColumns+" FROM registries WHERE name = ?")
		if err != nil {
			return err
		}
		r, err = scanRegistry(st.QueryRowContext(ctx, name).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return noRegistry(name)
		}
		return err
	})
	return r, err
}

// Registries implements store.RegistrySettings.
func (d *DB) Registries(ctx context.Context) (all []store.WatchedRegistry, err error) {
	err = d.read(ctx, "read registries", func(s *snapshot) error {
		return s.query(ctx, "SELECT "+registryColumns+" FROM registries ORDER BY name", nil, func(r *sql.Rows) (bool, error) {
			v, err := scanRegistry(r.Scan)
			all = append(all, v)
			return true, err
		})
	})
	return all, err
}

// PutRegistryPoll implements store.RegistryListings.
func (d *DB) PutRegistryPoll(ctx context.Context, name string, p store.RegistryPoll) error {
	poll, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode how registry %s is: %w", name, err)
	}
	return d.write(ctx, "note how a registry is", func(ctx context.Context, w *writer) error {
		n, err := w.exec(ctx, "UPDATE registries SET poll = ? WHERE name = ?", string(poll), name)
		return someRegistry(n, err, name)
	})
}
