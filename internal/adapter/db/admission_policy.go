package db

import (
	"context"
	"database/sql"
	"errors"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// PutAdmissionPolicy implements store.AdmissionPolicies.
func (d *DB) PutAdmissionPolicy(ctx context.Context, p store.AdmissionPolicy, after int64) (store.AdmissionPolicy, error) {
	if len(p.Text) > store.MaxAdmissionPolicy {
		return store.AdmissionPolicy{}, fault.New(fault.Invalid, "the admission policy has %d bytes, at most %d are kept", len(p.Text), store.MaxAdmissionPolicy)
	}
	err := d.write(ctx, "store admission policy", func(ctx context.Context, w *writer) error {
		var newest int64
		if err := w.row(ctx, "SELECT coalesce(max(version), 0) FROM admission_policies", nil, &newest); err != nil {
			return err
		}
		if newest != after {
			return fault.New(fault.Conflict, "the admission policy is at version %d, the change is of version %d", newest, after).
				With("somebody else has changed it meanwhile: read it again, and make the change anew")
		}
		var err error
		p.Version, err = w.insert(ctx, "INSERT INTO admission_policies (digest, text, actor, comment, created) VALUES (?,?,?,?,?)",
			p.Digest, p.Text, p.Actor, p.Comment, nanos(p.Created))
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, "DELETE FROM admission_policies WHERE version <= ?", p.Version-store.MaxAdmissionPolicies)
		return err
	})
	if err != nil {
		return store.AdmissionPolicy{}, err
	}
	return p, nil
}

// AdmissionPolicy implements store.AdmissionPolicies.
func (d *DB) AdmissionPolicy(ctx context.Context, version int64) (p store.AdmissionPolicy, err error) {
	err = d.read(ctx, "read admission policy", func(s *snapshot) error {
		query, args := "SELECT version, digest, text, actor, comment, created FROM admission_policies WHERE version = ?", []any{version}
		if version == 0 {
			query, args = "SELECT version, digest, text, actor, comment, created FROM admission_policies WHERE version = (SELECT max(version) FROM admission_policies)", nil
		}
		var created int64
		err := s.row(ctx, query, args, &p.Version, &p.Digest, &p.Text, &p.Actor, &p.Comment, &created)
		p.Created = fromNanos(created)
		if errors.Is(err, sql.ErrNoRows) {
			if version == 0 {
				return fault.New(fault.NotFound, "there is no admission policy").With("an administrator writes one: castellan admit policy set FILE")
			}
			return fault.New(fault.NotFound, "there is no version %d of the admission policy", version).
				With("castellan admit policy history lists those that are kept")
		}
		return err
	})
	return p, err
}

// AdmissionPolicies implements store.AdmissionPolicies.
func (d *DB) AdmissionPolicies(ctx context.Context, before int64, limit int) (all []store.AdmissionPolicy, err error) {
	err = d.read(ctx, "read the versions of the admission policy", func(s *snapshot) error {
		const query = `SELECT version, digest, actor, comment, created FROM admission_policies WHERE version < ?
			ORDER BY version DESC LIMIT ?`
		if before <= 0 {
			before = 1 << 62
		}
		return s.query(ctx, query, []any{before, pageSizeOf(limit)}, func(r *sql.Rows) (bool, error) {
			var p store.AdmissionPolicy
			var created int64
			err := r.Scan(&p.Version, &p.Digest, &p.Actor, &p.Comment, &created)
			p.Created = fromNanos(created)
			all = append(all, p)
			return true, err
		})
	})
	return all, err
}
