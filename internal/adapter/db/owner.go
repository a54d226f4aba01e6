package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
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

// OwnedImages implements store.Owners.
func (d *DB) OwnedImages(ctx context.Context, after string) (out []store.OwnedImage, err error) {
	err = d.read(ctx, "read the owners of images", func(s *snapshot) error {
		err := s.query(ctx, "SELECT id, owner, body FROM images WHERE id > ? ORDER BY id LIMIT ?", []any{after, store.MaxPage}, func(r *sql.Rows) (bool, error) {
			var v store.OwnedImage
			var body []byte
			if err := r.Scan(&v.ID, &v.Owner, &body); err != nil {
				return false, err
			}
			var b imageBody
			if err := json.Unmarshal(body, &b); err != nil {
				return false, fmt.Errorf("decode image %s: %w", v.ID, err)
			}
			v.References = b.References
			out = append(out, v)
			return true, nil
		})
		if err != nil || len(out) == 0 {
			return err
		}
		return s.groupsOf(ctx, out)
	})
	return out, err
}

// groupsOf adds the groups that run images, which are in the order of their ids.
func (s *snapshot) groupsOf(ctx context.Context, images []store.OwnedImage) error {
	const query = "SELECT image, grp FROM workloads WHERE image >= ? AND image <= ? AND ended = 0 ORDER BY image"
	at := 0
	err := s.query(ctx, query, []any{images[0].ID, images[len(images)-1].ID}, func(r *sql.Rows) (bool, error) {
		var image string
		var group asset.Group
		if err := r.Scan(&image, &group); err != nil {
			return false, err
		}
		for at < len(images) && images[at].ID < image {
			at++
		}
		if at < len(images) && images[at].ID == image && group != "" && !slices.Contains(images[at].Groups, group) {
			images[at].Groups = append(images[at].Groups, group)
		}
		return at < len(images), nil
	})
	for i := range images {
		slices.Sort(images[i].Groups)
	}
	return err
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
