package db

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// A pattern of groups is kept with this before it, which no repository has.
const groupMark = "group:"

// PutOwners implements store.Owners. Exhausted when there are more than
// store.MaxOwners.
func (d *DB) PutOwners(ctx context.Context, rules asset.Owners) error {
	if len(rules) > store.MaxOwners {
		return fault.New(fault.Exhausted, "%d rules say who owns what, at most %d are kept", len(rules), store.MaxOwners).
			With("use wider patterns, as in registry.example/team/**")
	}
	return d.write(ctx, "store owners", func(ctx context.Context, w *writer) error {
		if _, err := w.exec(ctx, "DELETE FROM owners WHERE position >= 0"); err != nil {
			return err
		}
		for i, r := range rules {
			pattern := r.Image
			if r.Group != "" {
				pattern = groupMark + r.Group
			}
			if _, err := w.exec(ctx, "INSERT INTO owners (position, pattern, name, contact) VALUES (?,?,?,?)", i, pattern, r.Name, r.Contact); err != nil {
				return err
			}
		}
		return nil
	})
}

// Owners implements store.Owners.
func (d *DB) Owners(ctx context.Context) (rules asset.Owners, err error) {
	err = d.read(ctx, "read owners", func(s *snapshot) error {
		return s.query(ctx, "SELECT pattern, name, contact FROM owners ORDER BY position", nil, func(r *sql.Rows) (bool, error) {
			var pattern string
			var one asset.OwnerRule
			if err := r.Scan(&pattern, &one.Name, &one.Contact); err != nil {
				return false, err
			}
			if len(pattern) > len(groupMark) && pattern[:len(groupMark)] == groupMark {
				one.Group = pattern[len(groupMark):]
			} else {
				one.Image = pattern
			}
			rules = append(rules, one)
			return true, nil
		})
	})
	return rules, err
}

// PutImageOwners implements store.Owners.
func (d *DB) PutImageOwners(ctx context.Context, owners map[string]string) error {
	if len(owners) == 0 {
		return nil
	}
	return d.write(ctx, "store the owners of images", func(ctx context.Context, w *writer) error {
		for _, id := range slices.Sorted(maps.Keys(owners)) {
			if _, err := w.exec(ctx, "UPDATE images SET owner = ? WHERE id = ?", owners[id], id); err != nil {
				return err
			}
		}
		return nil
	})
}
