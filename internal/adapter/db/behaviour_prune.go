package db

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/store"
)

const (
	// keepBehaviour is how long after its last event a group is remembered of which
	// no person has decided anything: longer than a job that runs every quarter.
	keepBehaviour = 120 * 24 * time.Hour
	// pruneGroups is how many groups one transaction forgets: each may have
	// thousands of rows.
	pruneGroups = 10
)

// pruneBehaviour are the steps that forget groups, violations and permits.
func pruneBehaviour(r store.Retention, now time.Time) []pruneStep {
	steps := []pruneStep{func(ctx context.Context, w *writer) (int64, bool, error) {
		return w.pruneGroups(ctx, now.Add(-keepBehaviour))
	}}
	if r.Violations > 0 {
		steps = append(steps, deleteOld("DELETE FROM behaviour_violations WHERE id IN (SELECT id FROM behaviour_violations WHERE last < ? LIMIT ?)",
			nanos(now.Add(-r.Violations))))
	}
	if r.Audit > 0 {
		steps = append(steps, deleteOld("DELETE FROM behaviour_permits WHERE id IN (SELECT id FROM behaviour_permits WHERE created < ? LIMIT ?)",
			nanos(now.Add(-r.Audit))))
	}
	return steps
}

func (w *writer) pruneGroups(ctx context.Context, cut time.Time) (int64, bool, error) {
	names, err := w.behaviourNames(ctx, cut)
	if err != nil {
		return 0, false, err
	}
	for _, name := range names {
		if err := w.forgetBehaviour(ctx, name); err != nil {
			return 0, false, err
		}
	}
	return int64(len(names)), len(names) == pruneGroups, nil
}

// behaviourNames are some groups of which no person has decided anything, and that
// were seen last before cut.
func (w *writer) behaviourNames(ctx context.Context, cut time.Time) (names []string, err error) {
	st, err := w.stmt(ctx, "SELECT name FROM behaviour_groups WHERE kept = 0 AND last < ? LIMIT ?")
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, nanos(cut), pruneGroups)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
