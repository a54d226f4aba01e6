package db

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/castellan-security/castellan/internal/store"
)

// sumsFor is how long the sums of days are kept, whatever becomes of verdicts.
const sumsFor = 400 * 24 * time.Hour

func sum(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }

// pruneAdmission are the steps that remove verdicts, and what nothing rests on any
// more.
func pruneAdmission(r store.Retention, now time.Time) []pruneStep {
	var steps []pruneStep
	if r.Verdicts > 0 {
		cut := nanos(now.Add(-r.Verdicts))
		steps = append(steps, func(ctx context.Context, w *writer) (int64, bool, error) {
			ids, err := w.ids(ctx, "SELECT id FROM admission_verdicts WHERE received < ? ORDER BY received LIMIT ?", cut, pruneVerdicts)
			if err != nil {
				return 0, false, err
			}
			return w.dropVerdicts(ctx, ids)
		})
	}
	if r.MaxVerdicts > 0 {
		steps = append(steps, func(ctx context.Context, w *writer) (int64, bool, error) {
			var have int64
			if err := w.row(ctx, "SELECT count(id) FROM admission_verdicts", nil, &have); err != nil || have <= r.MaxVerdicts {
				return 0, false, err
			}
			ids, err := w.ids(ctx, "SELECT id FROM admission_verdicts WHERE id > 0 ORDER BY id LIMIT ?", min(have-r.MaxVerdicts, pruneVerdicts))
			if err != nil {
				return 0, false, err
			}
			return w.dropVerdicts(ctx, ids)
		})
	}
	if r.Audit > 0 {
		steps = append(steps, deleteOld("DELETE FROM admission_exceptions WHERE id IN (SELECT id FROM admission_exceptions WHERE ended < ? LIMIT ?)",
			nanos(now.Add(-r.Audit))))
	}
	return append(steps, pruneBodies,
		deleteOld("DELETE FROM admission_sums WHERE (day, kind, name) IN (SELECT day, kind, name FROM admission_sums WHERE day < ? LIMIT ?)", dayOf(now.Add(-sumsFor))))
}

// pruneVerdicts is how many verdicts one transaction removes: each has some ten
// rows.
const pruneVerdicts = 500

func (w *writer) dropVerdicts(ctx context.Context, ids []int64) (int64, bool, error) {
	for _, id := range ids {
		for _, statement := range [...]string{
			"DELETE FROM admission_terms WHERE verdict = ?", "DELETE FROM admission_facts WHERE verdict = ?", "DELETE FROM admission_verdicts WHERE id = ?",
		} {
			if _, err := w.exec(ctx, statement, id); err != nil {
				return 0, false, err
			}
		}
	}
	return int64(len(ids)), len(ids) == pruneVerdicts, nil
}

// pruneBodies removes what no verdict rests on any more.
func pruneBodies(ctx context.Context, w *writer) (int64, bool, error) {
	n, err := w.exec(ctx, `DELETE FROM admission_bodies WHERE id IN (SELECT b.id FROM admission_bodies b
		WHERE NOT EXISTS (SELECT 1 FROM admission_verdicts v WHERE v.request = b.id)
		AND NOT EXISTS (SELECT 1 FROM admission_verdicts o WHERE o.verdict = b.id)
		AND NOT EXISTS (SELECT 1 FROM admission_facts f WHERE f.body = b.id) LIMIT ?)`, pruneRows)
	if n > 0 {
		w.memo.bodies = nil
	}
	return 0, n == pruneRows, err
}
