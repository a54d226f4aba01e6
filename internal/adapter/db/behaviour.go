package db

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
)

// Names of behaviour_marks.
const (
	markLearned   = "learned"
	markCompared  = "compared"
	markPromotion = "promotion"
)

// SaveBehaviour implements store.Behaviour.
func (d *DB) SaveBehaviour(ctx context.Context, c *store.BehaviourChange) error {
	if n := len(c.Violations); n > store.MaxBehaviourBatch {
		return fault.New(fault.Invalid, "%d violations are stored at once, at most %d can be", n, store.MaxBehaviourBatch)
	}
	packer := &bodyPacker{}
	defer packer.close()
	return d.write(ctx, "store behaviour", func(ctx context.Context, w *writer) error {
		if err := w.markBehaviour(ctx, c); err != nil {
			return err
		}
		for i := range c.Groups {
			if err := w.putBehaviourGroup(ctx, &c.Groups[i]); err != nil {
				return err
			}
		}
		for i := range c.States {
			if err := w.putBehaviourState(ctx, &c.States[i], packer); err != nil {
				return err
			}
		}
		for i := range c.Revisions {
			if err := w.putBehaviourRevision(ctx, &c.Revisions[i], packer); err != nil {
				return err
			}
		}
		if err := w.addViolations(ctx, c.Violations); err != nil {
			return err
		}
		return w.putBehaviourPermits(ctx, c)
	})
}

func (w *writer) markBehaviour(ctx context.Context, c *store.BehaviourChange) error {
	const put = `INSERT INTO behaviour_marks (name, number, body) VALUES (?,?,?)
		ON CONFLICT (name) DO UPDATE SET number = excluded.number, body = excluded.body`
	for name, id := range map[string]int64{markLearned: c.Learned, markCompared: c.Compared} {
		if id == 0 {
			continue
		}
		if _, err := w.exec(ctx, put, name, id, ""); err != nil {
			return err
		}
	}
	if c.Promotion == nil {
		return nil
	}
	body, err := json.Marshal(c.Promotion)
	if err != nil {
		return fmt.Errorf("encode promotion: %w", err)
	}
	_, err = w.exec(ctx, put, markPromotion, 0, string(body))
	return err
}

func (w *writer) putBehaviourGroup(ctx context.Context, g *store.BehaviourGroup) error {
	v := *g
	v.Running, v.Violations = 0, 0
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode group %s: %w", g.Group, err)
	}
	var there int
	var revision int64
	if err := w.row(ctx, "SELECT count(name), coalesce(max(revision), 0) FROM behaviour_groups WHERE name = ?", []any{string(g.Group)}, &there, &revision); err != nil {
		return err
	}
	if g.Revision < revision {
		return behindRevision(g.Group, revision, g.Revision)
	}
	if there == 0 {
		var have int
		if err := w.row(ctx, "SELECT count(name) FROM behaviour_groups", nil, &have); err != nil {
			return err
		}
		if have >= store.MaxBehaviourGroups {
			return fault.New(fault.Exhausted, "the behaviour of %d groups is kept, and %s finds no room", have, g.Group).
				With("forget those that are not needed any more: castellan watch forget GROUP")
		}
	}
	_, err = w.exec(ctx, `INSERT INTO behaviour_groups (name, mode, proposed, kept, revision, last, body) VALUES (?,?,?,?,?,?,?)
		ON CONFLICT (name) DO UPDATE SET mode = excluded.mode, proposed = excluded.proposed, kept = excluded.kept,
		revision = excluded.revision, last = excluded.last, body = excluded.body`,
		string(g.Group), string(g.Mode), g.Proposal != nil, g.Mode != profile.Discover || g.By != "", g.Revision, nanos(g.Last), string(body))
	return err
}

// behindRevision refuses what somebody wrote who does not know the newest revision.
func behindRevision(g asset.Group, newest, change int64) error {
	return fault.New(fault.Conflict, "the profile of %s is at revision %d, the change would be %d", g, newest, change).
		With("somebody else has changed it meanwhile: read it again, and make the change anew")
}

func (w *writer) putBehaviourState(ctx context.Context, s *store.BehaviourState, packer *bodyPacker) error {
	if n := len(s.State); n > store.MaxBehaviourState {
		return fault.New(fault.Invalid, "what is learned of %s has %d bytes, at most %d are kept", s.Group, n, store.MaxBehaviourState)
	}
	packed, err := packer.pack(s.State)
	if err != nil {
		return err
	}
	_, err = w.exec(ctx, `INSERT INTO behaviour_states (grp, position, state) VALUES (?,?,?)
		ON CONFLICT (grp) DO UPDATE SET position = excluded.position, state = excluded.state`, string(s.Group), s.Position, packed)
	return err
}

func (w *writer) putBehaviourRevision(ctx context.Context, r *store.BehaviourRevision, packer *bodyPacker) error {
	if r.Profile == nil {
		return fault.New(fault.Invalid, "revision %d of %s has no profile", r.Revision, r.Group)
	}
	body, err := json.Marshal(r.Profile)
	if err != nil {
		return fmt.Errorf("encode the profile of %s: %w", r.Group, err)
	}
	if n := len(body); n > store.MaxBehaviourProfile {
		return fault.New(fault.Invalid, "the profile of %s has %d bytes, at most %d are kept", r.Group, n, store.MaxBehaviourProfile)
	}
	packed, err := packer.pack(body)
	if err != nil {
		return err
	}
	var newest int64
	if err := w.row(ctx, "SELECT coalesce(max(revision), 0) FROM behaviour_revisions WHERE grp = ?", []any{string(r.Group)}, &newest); err != nil {
		return err
	}
	if r.Revision <= newest {
		return behindRevision(r.Group, newest, r.Revision)
	}
	if r.Replaces != 0 {
		if _, err := w.exec(ctx, "DELETE FROM behaviour_revisions WHERE grp = ? AND revision = ?", string(r.Group), r.Replaces); err != nil {
			return err
		}
	}
	_, err = w.exec(ctx, "INSERT INTO behaviour_revisions (grp, revision, created, actor, comment, entries, body) VALUES (?,?,?,?,?,?,?)",
		string(r.Group), r.Revision, nanos(r.Created), r.Actor, r.Comment, r.Entries, packed)
	if err != nil {
		return err
	}
	_, err = w.exec(ctx, `DELETE FROM behaviour_revisions WHERE grp = ? AND revision <=
		(SELECT revision FROM behaviour_revisions WHERE grp = ? ORDER BY revision DESC LIMIT 1 OFFSET ?)`,
		string(r.Group), string(r.Group), store.MaxBehaviourRevisions)
	return err
}

func (w *writer) putBehaviourPermits(ctx context.Context, c *store.BehaviourChange) error {
	if p := c.Permit; p != nil {
		p.ID, p.Undone, p.UndoneBy = 0, time.Time{}, ""
		body, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("encode permit: %w", err)
		}
		id, err := w.insert(ctx, "INSERT INTO behaviour_permits (grp, created, undone, body) VALUES (?,?,0,?)", string(p.Group), nanos(p.Created), string(body))
		if err != nil {
			return err
		}
		p.ID = id
		for _, v := range append([]int64{p.ViolationID}, c.Permitted...) {
			if _, err := w.exec(ctx, "UPDATE behaviour_violations SET permit = ? WHERE id = ? AND grp = ?", id, v, string(p.Group)); err != nil {
				return err
			}
		}
	}
	p := c.Undo
	if p == nil {
		return nil
	}
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode permit: %w", err)
	}
	n, err := w.exec(ctx, "UPDATE behaviour_permits SET undone = ?, body = ? WHERE id = ? AND undone = 0", nanos(p.Undone), string(body), p.ID)
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.Conflict, "permit %d is undone already, or there is none", p.ID)
	}
	_, err = w.exec(ctx, "UPDATE behaviour_violations SET permit = 0 WHERE grp = ? AND permit = ?", string(p.Group), p.ID)
	return err
}

// ForgetBehaviour implements store.BehaviourGroups.
func (d *DB) ForgetBehaviour(ctx context.Context, g asset.Group) error {
	return d.write(ctx, "forget behaviour", func(ctx context.Context, w *writer) error { return w.forgetBehaviour(ctx, string(g)) })
}

func (w *writer) forgetBehaviour(ctx context.Context, group string) error {
	for _, statement := range [...]string{
		"DELETE FROM behaviour_groups WHERE name = ?", "DELETE FROM behaviour_states WHERE grp = ?", "DELETE FROM behaviour_revisions WHERE grp = ?",
		"DELETE FROM behaviour_violations WHERE grp = ?", "DELETE FROM behaviour_permits WHERE grp = ?",
	} {
		if _, err := w.exec(ctx, statement, group); err != nil {
			return err
		}
	}
	return nil
}
