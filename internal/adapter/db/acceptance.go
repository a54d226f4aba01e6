package db

import (
	"context"
	"database/sql"
	"errors"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const acceptanceColumns = "id, kind, vulnerability, rule, path, package, image, reason, actor, created, expires, ended, ended_by"

func scanAcceptance(scan func(...any) error) (a store.Acceptance, err error) {
	var created, expires, ended int64
	err = scan(&a.ID, &a.Kind, &a.Vulnerability, &a.Rule, &a.Path, &a.Package, &a.Image, &a.Reason, &a.By, &created, &expires, &ended, &a.EndedBy)
	a.Created, a.Expires, a.Ended = fromNanos(created), fromNanos(expires), fromNanos(ended)
	return a, err
}

// PutAcceptance implements store.Acceptances. Exhausted when there are
// store.MaxAcceptances.
func (d *DB) PutAcceptance(ctx context.Context, a store.Acceptance) (store.Acceptance, error) {
	err := d.write(ctx, "store acceptance", func(ctx context.Context, w *writer) error {
		if a.ID != 0 {
			n, err := w.exec(ctx, `UPDATE acceptances SET kind = ?, vulnerability = ?, rule = ?, path = ?, package = ?, image = ?, reason = ?, actor = ?, created = ?,
				expires = ?, ended = ?, ended_by = ? WHERE id = ?`, string(a.Kind), a.Vulnerability, a.Rule, a.Path, a.Package, a.Image, a.Reason, a.By,
				nanos(a.Created), nanos(a.Expires), nanos(a.Ended), a.EndedBy, a.ID)
			if err == nil && n == 0 {
				return noAcceptance(a.ID)
			}
			return err
		}
		var have int
		if err := w.row(ctx, "SELECT count(id) FROM acceptances", nil, &have); err != nil {
			return err
		}
		if have >= store.MaxAcceptances {
			return fault.New(fault.Exhausted, "there are %d acceptances", have).
				With("narrow what is accepted to fewer, wider ones; old ones go with the audit log's retention")
		}
		var err error
		a.ID, err = w.insert(ctx, `INSERT INTO acceptances (kind, vulnerability, rule, path, package, image, reason, actor, created,
			expires, ended, ended_by) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`, string(a.Kind), a.Vulnerability, a.Rule, a.Path, a.Package, a.Image, a.Reason, a.By,
			nanos(a.Created), nanos(a.Expires), nanos(a.Ended), a.EndedBy)
		return err
	})
	if err != nil {
		return store.Acceptance{}, err
	}
	return a, nil
}

func noAcceptance(id int64) error { return fault.New(fault.NotFound, "no acceptance %d", id) }

// Acceptance implements store.Acceptances.
func (d *DB) Acceptance(ctx context.Context, id int64) (a store.Acceptance, err error) {
	err = d.read(ctx, "read acceptance", func(s *snapshot) error {
		st, err := s.stmt(ctx, "SELECT "+acceptanceColumns+" FROM acceptances WHERE id = ?")
		if err != nil {
			return err
		}
		a, err = scanAcceptance(st.QueryRowContext(ctx, id).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return noAcceptance(id)
		}
		return err
	})
	return a, err
}

// Acceptances implements store.Acceptances.
func (d *DB) Acceptances(ctx context.Context) (as []store.Acceptance, err error) {
	err = d.read(ctx, "read acceptances", func(s *snapshot) error {
		return s.query(ctx, "SELECT "+acceptanceColumns+" FROM acceptances ORDER BY id DESC", nil, func(r *sql.Rows) (bool, error) {
			a, err := scanAcceptance(r.Scan)
			as = append(as, a)
			return true, err
		})
	})
	return as, err
}
