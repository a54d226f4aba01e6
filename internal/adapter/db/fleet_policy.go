package db

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// policyTable is where the versions of one of the fleet's policies are kept, with its
// statements.
type policyTable struct {
	name    string // what people call the policy
	command string // that manages it, of the command line: trust policy
	max     int    // bytes of a text
	keeps   int64  // versions

	newest, insert, prune, one, last, page string
}

// policyVersion is a version of a policy, whichever it is.
type policyVersion struct {
	Version int64
	Digest  string
	Text    string
	Actor   string
	Comment string
	Created time.Time
}

// put makes p the newest version if the newest is after, and does what belongs to it
// in the same transaction; also may be nil.
func (t *policyTable) put(ctx context.Context, d *DB, p policyVersion, after int64, also func(context.Context, *writer) error) (policyVersion, error) {
	if len(p.Text) > t.max {
		return policyVersion{}, fault.New(fault.Invalid, "the %s policy has %d bytes, at most %d are kept", t.name, len(p.Text), t.max)
	}
	err := d.write(ctx, "store "+t.name+" policy", func(ctx context.Context, w *writer) error {
		var newest int64
		if err := w.row(ctx, t.newest, nil, &newest); err != nil {
			return err
		}
		if newest != after {
			return fault.New(fault.Conflict, "the %s policy is at version %d, the change is of version %d", t.name, newest, after).
				With("somebody else has changed it meanwhile: read it again, and make the change anew")
		}
		var err error
		p.Version, err = w.insert(ctx, t.insert, p.Digest, p.Text, p.Actor, p.Comment, nanos(p.Created))
		if err != nil {
			return err
		}
		if _, err := w.exec(ctx, t.prune, p.Version-t.keeps); err != nil || also == nil {
			return err
		}
		return also(ctx, w)
	})
	if err != nil {
		return policyVersion{}, err
	}
	return p, nil
}

// get returns one version, the newest with 0.
func (t *policyTable) get(ctx context.Context, d *DB, version int64) (p policyVersion, err error) {
	err = d.read(ctx, "read "+t.name+" policy", func(s *snapshot) error {
		query, args := t.one, []any{version}
		if version == 0 {
			query, args = t.last, nil
		}
		var created int64
		err := s.row(ctx, query, args, &p.Version, &p.Digest, &p.Text, &p.Actor, &p.Comment, &created)
		p.Created = fromNanos(created)
		if errors.Is(err, sql.ErrNoRows) {
			if version == 0 {
				return fault.New(fault.NotFound, "there is no %s policy", t.name).With("write one: castellan " + t.command + " set FILE")
			}
			return fault.New(fault.NotFound, "there is no version %d of the %s policy", version, t.name).
				With("castellan " + t.command + " history lists those that are kept")
		}
		return err
	})
	return p, err
}

// list calls do for versions without their texts, the newest first, below before
// unless it is 0.
func (t *policyTable) list(ctx context.Context, d *DB, before int64, limit int, do func(policyVersion)) error {
	return d.read(ctx, "read the versions of the "+t.name+" policy", func(s *snapshot) error {
		if before <= 0 {
			before = 1 << 62
		}
		return s.query(ctx, t.page, []any{before, pageSizeOf(limit)}, func(r *sql.Rows) (bool, error) {
			var p policyVersion
			var created int64
			err := r.Scan(&p.Version, &p.Digest, &p.Actor, &p.Comment, &created)
			p.Created = fromNanos(created)
			do(p)
			return true, err
		})
	})
}
