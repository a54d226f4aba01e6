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

// addViolation adds to the violation of the same fingerprint, if it is there.
func (w *writer) addViolation(ctx context.Context, v *profile.Violation) (bool, error) {
	var id, count, first, last int64
	var body []byte
	err := w.row(ctx, "SELECT id, count, first, last, body FROM behaviour_violations WHERE grp = ? AND fingerprint = ?",
		[]any{string(v.Group), v.Fingerprint}, &id, &count, &first, &last, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var was profile.Violation
	if err := json.Unmarshal(body, &was); err != nil {
		return false, fmt.Errorf("decode violation %d: %w", id, err)
	}
	was.Count, was.First, was.Last = uint64(count), fromNanos(first), fromNanos(last)
	v.Fold(&was)
	if body, err = json.Marshal(v); err != nil {
		return false, fmt.Errorf("encode violation: %w", err)
	}
	_, err = w.exec(ctx, "UPDATE behaviour_violations SET reaction = ?, permit = 0, count = ?, first = ?, last = ?, search = ?, body = ? WHERE id = ?",
		string(v.Reaction), int64(v.Count), nanos(v.First), nanos(v.Last), violationText(v), string(body), id)
	return true, err
}

func (w *writer) insertViolation(ctx context.Context, v *profile.Violation) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode violation: %w", err)
	}
	_, err = w.exec(ctx, `INSERT INTO behaviour_violations
		(grp, fingerprint, control, kind, reaction, permit, count, first, last, search, body) VALUES (?,?,?,?,?,0,?,?,?,?,?)`,
		string(v.Group), v.Fingerprint, string(v.Control), string(v.Kind), string(v.Reaction), int64(v.Count), nanos(v.First), nanos(v.Last),
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
