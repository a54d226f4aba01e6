package db

import (
	"context"
	"database/sql"
	"errors"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// PutTrustPolicy implements store.TrustPolicies.
func (d *DB) PutTrustPolicy(ctx context.Context, p store.TrustPolicy, after int64) (store.TrustPolicy, error) {
	if len(p.Text) > store.MaxTrustPolicy {
		return store.TrustPolicy{}, fault.New(fault.Invalid, "the trust policy has %d bytes, at most %d are kept", len(p.Text), store.MaxTrustPolicy)
	}
	err := d.write(ctx, "store trust policy", func(ctx context.Context, w *writer) error {
		var newest int64
		if err := w.row(ctx, "SELECT coalesce(max(version), 0) FROM trust_policies", nil, &newest); err != nil {
			return err
		}
		if newest != after {
			return fault.New(fault.Conflict, "the trust policy is at version %d, the change is of version %d", newest, after).
				With("somebody else has changed it meanwhile: read it again, and make the change anew")
		}
		var err error
		p.Version, err = w.insert(ctx, "INSERT INTO trust_policies (digest, text, actor, comment, created) VALUES (?,?,?,?,?)",
			p.Digest, p.Text, p.Actor, p.Comment, nanos(p.Created))
		if err != nil {
			return err
		}
		if _, err := w.exec(ctx, "DELETE FROM trust_policies WHERE version <= ?", p.Version-store.MaxTrustPolicies); err != nil {
			return err
		}
		_, err = w.exec(ctx, "UPDATE trust_images SET due = 0, tries = 0 WHERE idle IN (0, 1, 2) AND rank <> ?", trustRank(store.TrustLocal))
		return err
	})
	if err != nil {
		return store.TrustPolicy{}, err
	}
	return p, nil
}

// TrustPolicy implements store.TrustPolicies.
func (d *DB) TrustPolicy(ctx context.Context, version int64) (p store.TrustPolicy, err error) {
	err = d.read(ctx, "read trust policy", func(s *snapshot) error {
		query, args := "SELECT version, digest, text, actor, comment, created FROM trust_policies WHERE version = ?", []any{version}
		if version == 0 {
			query, args = "SELECT version, digest, text, actor, comment, created FROM trust_policies WHERE version = (SELECT max(version) FROM trust_policies)", nil
		}
		var created int64
		err := s.row(ctx, query, args, &p.Version, &p.Digest, &p.Text, &p.Actor, &p.Comment, &created)
		p.Created = fromNanos(created)
		if errors.Is(err, sql.ErrNoRows) {
			if version == 0 {
				return fault.New(fault.NotFound, "there is no trust policy").With("an administrator writes one: castellan trust policy set FILE")
			}
			return fault.New(fault.NotFound, "there is no version %d of the trust policy", version).
				With("castellan trust policy history lists those that are kept")
		}
		return err
	})
	return p, err
}

// TrustPolicies implements store.TrustPolicies.
func (d *DB) TrustPolicies(ctx context.Context, before int64, limit int) (all []store.TrustPolicy, err error) {
	err = d.read(ctx, "read the versions of the trust policy", func(s *snapshot) error {
		const query = `SELECT version, digest, actor, comment, created FROM trust_policies WHERE version < ?
			ORDER BY version DESC LIMIT ?`
		if before <= 0 {
			before = 1 << 62
		}
		return s.query(ctx, query, []any{before, pageSizeOf(limit)}, func(r *sql.Rows) (bool, error) {
			var p store.TrustPolicy
			var created int64
			err := r.Scan(&p.Version, &p.Digest, &p.Actor, &p.Comment, &created)
			p.Created = fromNanos(created)
			all = append(all, p)
			return true, err
		})
	})
	return all, err
}
