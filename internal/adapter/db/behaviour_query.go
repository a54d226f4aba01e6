package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
)

// BehaviourMarks implements store.BehaviourGroups.
func (d *DB) BehaviourMarks(ctx context.Context) (m store.BehaviourMarks, err error) {
	err = d.read(ctx, "read how far behaviour is known", func(s *snapshot) error {
		for _, name := range [...]string{markLearned, markCompared, markPromotion} {
			var number int64
			var body []byte
			err := s.row(ctx, "SELECT number, body FROM behaviour_marks WHERE name = ?", []any{name}, &number, &body)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				continue
			case err != nil:
				return err
			case name == markLearned:
				m.Learned = number
			case name == markCompared:
				m.Compared = number
			default:
				if err := s.decode(body, &m.Promotion); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return m, err
}

const behaviourColumns = `g.body, (SELECT count(w.id) FROM workloads w WHERE w.grp = g.name AND w.rank = 0),
	(SELECT count(v.id) FROM behaviour_violations v WHERE v.grp = g.name AND v.permit = 0)`

// scanBehaviour reads the columns above.
func (s *snapshot) scanBehaviour(scan func(...any) error) (g store.BehaviourGroup, err error) {
	var body []byte
	var running, violations int
	if err := scan(&body, &running, &violations); err != nil {
		return g, err
	}
	err = s.decode(body, &g)
	g.Running, g.Violations = running, violations
	return g, err
}

// BehaviourGroups implements store.BehaviourGroups.
func (d *DB) BehaviourGroups(ctx context.Context, q store.BehaviourQuery) (all []store.BehaviourGroup, err error) {
	if len(q.Text) > maxTextBytes || len(q.Cluster) > maxTextBytes || len(q.After) > maxTextBytes || len(q.Modes) > maxChoices {
		return nil, fault.New(fault.Invalid, "at most %d bytes of text and %d modes can be asked for", maxTextBytes, maxChoices)
	}
	var f fragments
	f.add("g.name > ?", string(q.After))
	if len(q.Modes) > 0 {
		args := make([]any, len(q.Modes))
		for i, m := range q.Modes {
			args[i] = string(m)
		}
		f.add("g.mode || '' IN ("+marks(len(args))+")", args...)
	}
	if q.Proposed {
		f.add("g.proposed = 1")
	}
	if q.Outside {
		f.add("EXISTS (SELECT 1 FROM behaviour_violations o WHERE o.grp = g.name AND o.permit = 0)")
	}
	if q.Below > 0 {
		f.add("coalesce(json_extract(g.body, '$.settled.measure'), 0) < ?", q.Below)
	}
	if q.Text != "" {
		f.add(`g.name LIKE ? ESCAPE '\'`, likePattern(q.Text))
	}
	if q.Cluster != "" {
		f.add("g.name > ? AND g.name < ?", q.Cluster+"/", q.Cluster+"0") // 0 follows the slash
	}
	err = d.read(ctx, "read groups", func(s *snapshot) error {
		query := "SELECT " + behaviourColumns + " FROM behaviour_groups g WHERE " + strings.Join(f.parts, " AND ") + " ORDER BY g.name LIMIT ?"
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit)), func(r *sql.Rows) (bool, error) {
			g, err := s.scanBehaviour(r.Scan)
			all = append(all, g)
			return true, err
		})
	})
	return all, err
}

// BehaviourGroup implements store.BehaviourGroups.
func (d *DB) BehaviourGroup(ctx context.Context, name asset.Group) (g store.BehaviourGroup, err error) {
	err = d.read(ctx, "read group", func(s *snapshot) error {
		g, err = s.scanBehaviour(func(dest ...any) error {
			return s.row(ctx, "SELECT "+behaviourColumns+" FROM behaviour_groups g WHERE g.name = ?", []any{string(name)}, dest...)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return noBehaviour(name)
		}
		return err
	})
	return g, err
}

func noBehaviour(name asset.Group) error {
	return fault.New(fault.NotFound, "nothing is known of how group %.200q behaves", name).
		With("castellan watch groups lists those of which something is; a group appears with its first events")
}

// BehaviourState implements store.BehaviourGroups.
func (d *DB) BehaviourState(ctx context.Context, name asset.Group) (st store.BehaviourState, err error) {
	var o bodyOpener
	defer o.close()
	err = d.read(ctx, "read what is learned", func(s *snapshot) error {
		var packed []byte
		err := s.row(ctx, "SELECT position, state FROM behaviour_states WHERE grp = ?", []any{string(name)}, &st.Position, &packed)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		st.Group = name
		if st.State, err = o.open(packed); err != nil {
			return corrupt(d.path, err)
		}
		return nil
	})
	return st, err
}

// BehaviourRevision implements store.BehaviourProfiles.
func (d *DB) BehaviourRevision(ctx context.Context, name asset.Group, revision int64) (r store.BehaviourRevision, err error) {
	var o bodyOpener
	defer o.close()
	err = d.read(ctx, "read profile", func(s *snapshot) error {
		query, args := `SELECT revision, created, actor, comment, entries, body FROM behaviour_revisions WHERE grp = ? ORDER BY revision DESC LIMIT 1`,
			[]any{string(name)}
		if revision != 0 {
			query, args = "SELECT revision, created, actor, comment, entries, body FROM behaviour_revisions WHERE grp = ? AND revision = ?", append(args, revision)
		}
		r = store.BehaviourRevision{Group: name, Profile: &profile.Profile{}}
		var created int64
		var packed []byte
		err := s.row(ctx, query, args, &r.Revision, &created, &r.Actor, &r.Comment, &r.Entries, &packed)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no revision %d of the profile of group %.200q is kept", revision, name).
				With("castellan watch profile history GROUP lists those that are")
		}
		if err != nil {
			return err
		}
		r.Created = fromNanos(created)
		plain, err := o.open(packed)
		if err != nil {
			return corrupt(d.path, err)
		}
		if err := json.Unmarshal(plain, r.Profile); err != nil {
			return corrupt(d.path, fmt.Errorf("decode revision %d of %s: %w", r.Revision, name, err))
		}
		return nil
	})
	return r, err
}

// BehaviourRevisions implements store.BehaviourProfiles.
func (d *DB) BehaviourRevisions(ctx context.Context, name asset.Group, before int64, limit int) (all []store.BehaviourRevision, err error) {
	if before <= 0 {
		before = 1 << 62
	}
	err = d.read(ctx, "read the history of a profile", func(s *snapshot) error {
		const query = `SELECT revision, created, actor, comment, entries FROM behaviour_revisions
			WHERE grp = ? AND revision < ? ORDER BY revision DESC LIMIT ?`
		return s.query(ctx, query, []any{string(name), before, pageSizeOf(limit)}, func(r *sql.Rows) (bool, error) {
			v := store.BehaviourRevision{Group: name}
			var created int64
			err := r.Scan(&v.Revision, &created, &v.Actor, &v.Comment, &v.Entries)
			v.Created = fromNanos(created)
			all = append(all, v)
			return true, err
		})
	})
	return all, err
}

// BehaviourPermits implements store.BehaviourPermits.
func (d *DB) BehaviourPermits(ctx context.Context, name asset.Group, before int64, limit int) (all []store.BehaviourPermit, err error) {
	if before <= 0 {
		before = 1 << 62
	}
	query, args := "SELECT id, body FROM behaviour_permits WHERE id < ? ORDER BY id DESC LIMIT ?", []any{before, pageSizeOf(limit)}
	if name != "" {
		query, args = "SELECT id, body FROM behaviour_permits WHERE grp = ? AND id < ? ORDER BY id DESC LIMIT ?", []any{string(name), before, pageSizeOf(limit)}
	}
	err = d.read(ctx, "read permits", func(s *snapshot) error {
		return s.query(ctx, query, args, func(r *sql.Rows) (bool, error) {
			p, err := s.scanPermit(r.Scan)
			all = append(all, p)
			return true, err
		})
	})
	return all, err
}

func (s *snapshot) scanPermit(scan func(...any) error) (p store.BehaviourPermit, err error) {
	var id int64
	var body []byte
	if err := scan(&id, &body); err != nil {
		return p, err
	}
	err = s.decode(body, &p)
	p.ID = id
	return p, err
}

// BehaviourPermit implements store.BehaviourPermits.
func (d *DB) BehaviourPermit(ctx context.Context, id int64) (p store.BehaviourPermit, err error) {
	err = d.read(ctx, "read permit", func(s *snapshot) error {
		p, err = s.scanPermit(func(dest ...any) error {
			return s.row(ctx, "SELECT id, body FROM behaviour_permits WHERE id = ?", []any{id}, dest...)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no permit %d is kept", id).With("castellan watch permits lists those that are")
		}
		return err
	})
	return p, err
}
