package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
)

// addViolations folds violations into those that are there.
func (w *writer) addViolations(ctx context.Context, vs []profile.Violation) error {
	have := map[string]int{} // group → violations that differ
	for i := range vs {
		v := vs[i]
		added, err := w.addViolation(ctx, &v)
		if err != nil || added {
			if err != nil {
				return err
			}
			continue
		}
		group := string(v.Group)
		if gone, gathered, err := w.gather(ctx, vs[i]); err != nil || gathered {
			if err != nil {
				return err
			}
			if _, counted := have[group]; counted {
				have[group] -= gone
			}
			continue
		}
		if _, counted := have[group]; !counted {
			var n int
			if err := w.row(ctx, "SELECT count(id) FROM behaviour_violations WHERE grp = ?", []any{group}, &n); err != nil {
				return err
			}
			have[group] = n
		}
		if have[group] >= store.MaxGroupViolations {
			store.FoldViolation(&v)
			if added, err = w.addViolation(ctx, &v); err != nil || added {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := w.insertViolation(ctx, &v); err != nil {
			return err
		}
		have[group]++
	}
	return nil
}

// gather adds a violation of a file to what is told of its folder, which begins when
// more than profile.MaxApart of it are open. It returns how many are gone in it.
func (w *writer) gather(ctx context.Context, v profile.Violation) (gone int, gathered bool, err error) {
	if v.Folder == nil || v.Gathered() {
		return 0, false, nil
	}
	print := v.Folder.Print
	v.Gather()
	if added, err := w.addViolation(ctx, &v); err != nil || added {
		return 0, added, err
	}
	ids, err := w.ids(ctx, "SELECT id FROM behaviour_violations WHERE grp = ? AND folder = ? AND permit = 0 ORDER BY id LIMIT ?",
		string(v.Group), print, profile.MaxApart)
	if err != nil || len(ids) < profile.MaxApart {
		return 0, false, err
	}
	var all *profile.Violation
	for _, id := range ids {
		was, err := w.storedViolation(ctx, id)
		if err != nil {
			return 0, false, err
		}
		if was.Gather(); all != nil {
			was.Fold(all)
		}
		all = &was
	}
	v.Fold(all)
	for _, id := range ids[1:] {
		if _, err := w.exec(ctx, "DELETE FROM behaviour_violations WHERE id = ?", id); err != nil {
			return 0, false, err
		}
	}
	if _, err := w.exec(ctx, "UPDATE behaviour_violations SET fingerprint = ?, kind = ?, folder = '' WHERE id = ?", v.Fingerprint, string(v.Kind), ids[0]); err != nil {
		return 0, false, err
	}
	return len(ids) - 1, true, w.updateViolation(ctx, ids[0], &v)
}

func (w *writer) storedViolation(ctx context.Context, id int64) (v profile.Violation, err error) {
	var count, first, last int64
	var body []byte
	if err := w.row(ctx, "SELECT count, first, last, body FROM behaviour_violations WHERE id = ?", []any{id}, &count, &first, &last, &body); err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("decode violation %d: %w", id, err)
	}
	v.Count, v.First, v.Last = uint64(count), fromNanos(first), fromNanos(last)
	return v, nil
}

// addViolation adds to the violation of the same fingerprint, if it is there.
func (w *writer) addViolation(ctx context.Context, v *profile.Violation) (bool, error) {
	var id int64
	err := w.row(ctx, "SELECT id FROM behaviour_violations WHERE grp = ? AND fingerprint = ?", []any{string(v.Group), v.Fingerprint}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	was, err := w.storedViolation(ctx, id)
	if err != nil {
		return false, err
	}
	v.Fold(&was)
	return true, w.updateViolation(ctx, id, v)
}

func (w *writer) updateViolation(ctx context.Context, id int64, v *profile.Violation) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode violation: %w", err)
	}
	_, err = w.exec(ctx, "UPDATE behaviour_violations SET reaction = ?, permit = 0, count = ?, first = ?, last = ?, search = ?, body = ? WHERE id = ?",
		string(v.Reaction), int64(v.Count), nanos(v.First), nanos(v.Last), violationText(v), string(body), id)
	return err
}

func (w *writer) insertViolation(ctx context.Context, v *profile.Violation) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode violation: %w", err)
	}
	folder := ""
	if v.Folder != nil && !v.Gathered() {
		folder = v.Folder.Print
	}
	_, err = w.exec(ctx, `INSERT INTO behaviour_violations
		(grp, fingerprint, folder, control, kind, reaction, permit, count, first, last, search, body) VALUES (?,?,?,?,?,?,0,?,?,?,?,?)`,
		string(v.Group), v.Fingerprint, folder, string(v.Control), string(v.Kind), string(v.Reaction), int64(v.Count), nanos(v.First), nanos(v.Last),
		violationText(v), string(body))
	return err
}

// violationText is what ViolationQuery.Text looks at.
func violationText(v *profile.Violation) string {
	return strings.Join([]string{v.Subject, v.Program, v.Sentence}, "\n")
}

const violationColumns = "v.id, v.permit, v.count, v.first, v.last, v.body"

// scanViolation reads the columns above.
func (s *snapshot) scanViolation(scan func(...any) error) (v store.BehaviourViolation, err error) {
	var id, permit, count, first, last int64
	var body []byte
	if err := scan(&id, &permit, &count, &first, &last, &body); err != nil {
		return v, err
	}
	if err := s.decode(body, &v.Violation); err != nil {
		return v, err
	}
	v.ID, v.PermitID, v.Count, v.First, v.Last = id, permit, uint64(count), fromNanos(first), fromNanos(last)
	return v, nil
}

// Violations implements store.BehaviourViolations.
func (d *DB) Violations(ctx context.Context, q store.ViolationQuery) (all []store.BehaviourViolation, err error) {
	if len(q.Text) > maxTextBytes || len(q.Group) > maxTextBytes {
		return nil, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
	}
	f := violationFilter(q)
	err = d.read(ctx, "read violations", func(s *snapshot) error {
		query := "SELECT " + violationColumns + " FROM behaviour_violations v WHERE " + strings.Join(f.parts, " AND ") +
			" ORDER BY v.last DESC, v.id DESC LIMIT ?"
		return s.query(ctx, query, append(f.args, pageSizeOf(q.Limit)), func(r *sql.Rows) (bool, error) {
			v, err := s.scanViolation(r.Scan)
			all = append(all, v)
			return true, err
		})
	})
	return all, err
}

// violationFilter leads by the order of the page. The pluses keep indexes out of it
// that have another order.
func violationFilter(q store.ViolationQuery) (f fragments) {
	if q.Group != "" {
		f.add("v.grp = ?", string(q.Group))
	}
	f.add("v.last >= ?", nanos(q.Since))
	if q.BeforeID != 0 {
		f.add("(v.last, v.id) < (?,?)", nanos(q.BeforeLast), q.BeforeID)
	}
	if q.Open {
		f.add("+v.permit = 0")
	}
	for _, e := range [...]struct{ part, value string }{
		{"v.control || '' = ?", string(q.Control)}, {"v.kind = ?", string(q.Kind)}, {"v.reaction = ?", string(q.Reaction)},
	} {
		if e.value != "" {
			f.add(e.part, e.value)
		}
	}
	if q.Text != "" {
		f.add(`v.search LIKE ? ESCAPE '\'`, likePattern(q.Text))
	}
	return f
}

// Violation implements store.BehaviourViolations.
func (d *DB) Violation(ctx context.Context, id int64) (v store.BehaviourViolation, err error) {
	err = d.read(ctx, "read violation", func(s *snapshot) error {
		v, err = s.scanViolation(func(dest ...any) error {
			return s.row(ctx, "SELECT "+violationColumns+" FROM behaviour_violations v WHERE v.id = ?", []any{id}, dest...)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no violation %d is kept", id).With("castellan watch violations lists those that are")
		}
		return err
	})
	return v, err
}

// BehaviourTotals implements store.BehaviourViolations.
func (d *DB) BehaviourTotals(ctx context.Context) (t store.BehaviourTotals, err error) {
	t = store.BehaviourTotals{Modes: map[profile.Mode]int{}, Violations: map[profile.Control]int{}}
	err = d.read(ctx, "count behaviour", func(s *snapshot) error {
		for _, m := range [...]profile.Mode{profile.Discover, profile.Monitor, profile.Protect} {
			var n int
			if err := s.row(ctx, "SELECT count(name) FROM behaviour_groups WHERE mode = ?", []any{string(m)}, &n); err != nil {
				return err
			}
			if n > 0 {
				t.Modes[m] = n
			}
		}
		if err := s.row(ctx, "SELECT count(name) FROM behaviour_groups WHERE proposed = 1", nil, &t.Proposals); err != nil {
			return err
		}
		for _, c := range profile.Controls() {
			var n int
			if err := s.row(ctx, "SELECT count(id) FROM behaviour_violations WHERE permit = 0 AND control = ?", []any{string(c)}, &n); err != nil {
				return err
			}
			if n > 0 {
				t.Violations[c] = n
			}
		}
		return nil
	})
	return t, err
}
