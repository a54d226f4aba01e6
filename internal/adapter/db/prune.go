package db

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/castellan-security/castellan/internal/store"
)

const (
	// pruneRows is how much one transaction of Prune removes: some 30 ms in
	// which batches wait.
	pruneRows = 5_000
	// vacuumPages is how many pages one transaction gives back to the file
	// system, and vacuumShare the share of free pages, 1/vacuumShare, from
	// which it is worth it: below, new events use them again.
	vacuumPages = 2_000 // as vacuumStatement says
	vacuumShare = 4

	// keepInvitations and keepCertificates are how long after their end one can
	// still see who was invited by whom, and which agent held what.
	keepInvitations  = 7 * 24 * time.Hour
	keepCertificates = 90 * 24 * time.Hour
)

// Prune implements store.Upkeep. It stops between two transactions when ctx
// ends, and returns what it has removed until then. Words and names that no
// event uses any more are looked for in portions, over several calls.
func (d *DB) Prune(ctx context.Context, r store.Retention, now time.Time) (int64, error) {
	var total int64
	for _, step := range pruneSteps(r, now) {
		n, err := d.repeat(ctx, step)
		total += n
		if err != nil {
			return total, err
		}
	}
	if err := d.sweepTerms(ctx); err != nil {
		return total, err
	}
	return total, d.vacuum(ctx)
}

// repeat runs a step in a transaction each until it is done.
func (d *DB) repeat(ctx context.Context, step pruneStep) (total int64, err error) {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		var n int64
		err := d.write(ctx, "remove what is old", func(ctx context.Context, w *writer) (err error) {
			n, more, err = step(ctx, w)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// pruneStep removes a bounded number of rows; it returns how many, and whether
// to call it again.
type pruneStep func(context.Context, *writer) (int64, bool, error)

func pruneSteps(r store.Retention, now time.Time) []pruneStep {
	var steps []pruneStep
	if r.Events > 0 {
		cut := now.Add(-r.Events)
		steps = append(steps,
			func(ctx context.Context, w *writer) (int64, bool, error) { return w.pruneOld(ctx, millis(cut)) },
			deleteOld(`DELETE FROM event_rates WHERE (workload, span, start, kind) IN
				(SELECT workload, span, start, kind FROM event_rates WHERE span = 60 AND start < ? LIMIT ?)`, cut.Unix()-minuteSpan),
			deleteOld(`DELETE FROM event_rates WHERE (workload, span, start, kind) IN
				(SELECT workload, span, start, kind FROM event_rates WHERE span = 3600 AND start < ? LIMIT ?)`, cut.Unix()-hourSpan),
			pruneFlows(cut),
			deleteOld(`DELETE FROM samples WHERE (workload, time) IN
				(SELECT workload, time FROM samples WHERE time < ? LIMIT ?)`, nanos(cut)))
	}
	if r.MaxEvents > 0 {
		steps = append(steps, func(ctx context.Context, w *writer) (int64, bool, error) { return w.pruneMany(ctx, r.MaxEvents) })
	}
	if r.Workloads > 0 {
		steps = append(steps, deleteOld(`DELETE FROM workloads WHERE id IN
			(SELECT id FROM workloads WHERE ended > 0 AND ended < ? LIMIT ?)`, nanos(now.Add(-r.Workloads))),
			recountWorkloads,
			pruneRegistries(nanos(now.Add(-r.Workloads))),
			func(ctx context.Context, w *writer) (int64, bool, error) {
				return w.pruneImages(ctx, nanos(now.Add(-r.Workloads)))
			})
	}
	if r.Audit > 0 {
		steps = append(steps, deleteOld(`DELETE FROM audit WHERE id IN
			(SELECT id FROM audit WHERE time < ? ORDER BY time LIMIT ?)`, nanos(now.Add(-r.Audit))),
			deleteOld(`DELETE FROM acceptances WHERE id IN
				(SELECT id FROM acceptances WHERE expires < ? LIMIT ?)`, nanos(now.Add(-r.Audit))))
	}
	steps = append(steps, pruneAdmission(r, now)...)
	steps = append(steps, pruneBehaviour(r, now)...)
	if r.Incidents > 0 {
		steps = append(steps, pruneIncidents(now.Add(-r.Incidents)))
	}
	return append(steps,
		deleteOld("DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires <= ? LIMIT ?)", nanos(now)),
		deleteOld("DELETE FROM invitations WHERE id IN (SELECT id FROM invitations WHERE expires < ? LIMIT ?)", nanos(now.Add(-keepInvitations))),
		deleteOld("DELETE FROM certificates WHERE serial IN (SELECT serial FROM certificates WHERE expires < ? LIMIT ?)", nanos(now.Add(-keepCertificates))),
		deleteOld(`DELETE FROM samples WHERE (workload, time) IN
			(SELECT workload, time FROM samples WHERE time > ? LIMIT ?)`, nanos(now.Add(samplesAhead))),
		thinSamples(now),
		pruneFacets,
		pruneDetails,
		pruneFindings,
		pruneMarks,
		pruneSources)
}

// deleteOld makes a step of a statement whose arguments are the cut and the
// number of rows.
func deleteOld(query string, cut int64) pruneStep {
	return func(ctx context.Context, w *writer) (int64, bool, error) {
		n, err := w.exec(ctx, query, cut, pruneRows)
		return n, n == pruneRows, err
	}
}

// pruneOld removes events that were received before cut: whole blocks first,
// then the old rows of the blocks that straddle it.
func (w *writer) pruneOld(ctx context.Context, cut int64) (int64, bool, error) {
	blocks, err := w.ids(ctx, "SELECT id FROM blocks WHERE max_received < ? ORDER BY id LIMIT ?", cut, pruneRows/blockSize)
	if err != nil {
		return 0, false, err
	}
	var total int64
	for _, b := range blocks {
		n, err := w.exec(ctx, "DELETE FROM events WHERE id BETWEEN ? AND ?", firstOf(b), lastOf(b))
		if err != nil {
			return 0, false, err
		}
		total += n
		if _, err := w.exec(ctx, "DELETE FROM blocks WHERE id = ?", b); err != nil {
			return 0, false, err
		}
	}
	if len(blocks) > 0 {
		return total, true, nil
	}
	blocks, err = w.ids(ctx, "SELECT id FROM blocks WHERE min_received < ? ORDER BY id LIMIT 1", cut)
	if err != nil || len(blocks) == 0 {
		return 0, false, err
	}
	b := blocks[0]
	n, err := w.exec(ctx, "DELETE FROM events WHERE id BETWEEN ? AND ? AND received < ?", firstOf(b), lastOf(b), cut)
	if err != nil {
		return 0, false, err
	}
	_, err = w.exec(ctx, "UPDATE blocks SET events = events - ?, min_received = ? WHERE id = ?", n, cut, b)
	return n, true, err
}

// pruneMany removes the oldest events beyond limit.
func (w *writer) pruneMany(ctx context.Context, limit int64) (int64, bool, error) {
	var events int64
	if err := w.row(ctx, "SELECT coalesce(sum(events), 0) FROM blocks", nil, &events); err != nil {
		return 0, false, err
	}
	surplus := min(events-limit, pruneRows)
	if surplus <= 0 {
		return 0, false, nil
	}
	var cut int64
	if err := w.row(ctx, "SELECT id FROM events WHERE id > 0 ORDER BY id LIMIT 1 OFFSET ?", []any{surplus}, &cut); err != nil {
		return 0, false, err
	}
	n, err := w.exec(ctx, "DELETE FROM events WHERE id < ?", cut)
	if err != nil {
		return 0, false, err
	}
	if _, err := w.exec(ctx, "DELETE FROM blocks WHERE id < ?", blockOf(cut)); err != nil {
		return 0, false, err
	}
	_, err = w.exec(ctx, "UPDATE blocks SET events = (SELECT count(id) FROM events WHERE id BETWEEN ? AND ?) WHERE id = ?",
		firstOf(blockOf(cut)), lastOf(blockOf(cut)), blockOf(cut))
	return n, n > 0 && events-n > limit, err
}

// pruneSources forgets starts of agents whose events are all gone. The newest
// start of each agent stays: its events may still be sent again.
func pruneSources(ctx context.Context, w *writer) (int64, bool, error) {
	n, err := w.exec(ctx, `DELETE FROM sources WHERE id IN (SELECT s.id FROM sources s
		WHERE s.last_event < coalesce((SELECT min(id) FROM events), 0)
		AND s.id < (SELECT max(n.id) FROM sources n WHERE n.agent = s.agent) LIMIT ?)`, pruneRows)
	if n > 0 {
		clear(w.state.sources)
	}
	return 0, n == pruneRows, err
}

const (
	// sweepTermsOnce is how many terms one transaction looks at, and
	// maxSweepTerms one call of Prune.
	sweepTermsOnce = 500
	maxSweepTerms  = 100_000
)

// sweep is how far the search for unused terms has come.
type sweep struct {
	next int64 // term to go on behind
	cut  int64 // blocks below are gone: the cut of the pass in progress
	done int64 // the cut for which a pass came to its end
}

// sweepTerms removes the postings of blocks that are gone, and then the terms
// that have none left.
func (d *DB) sweepTerms(ctx context.Context) error {
	looked := 0
	_, err := d.repeat(ctx, func(ctx context.Context, w *writer) (int64, bool, error) {
		more, err := w.sweepSome(ctx)
		looked += sweepTermsOnce
		return 0, more && looked < maxSweepTerms, err
	})
	return err
}

// oldestBlock returns the first that may hold events. The writer's own newest
// block counts, even when it is empty: what was posted for it is not posted
// again.
func (w *writer) oldestBlock(ctx context.Context) (int64, error) {
	if err := w.load(ctx); err != nil {
		return 0, err
	}
	var oldest int64
	err := w.row(ctx, "SELECT coalesce(min(id), ?) FROM blocks", []any{w.state.block}, &oldest)
	return min(oldest, w.state.block), err
}

func (w *writer) sweepSome(ctx context.Context) (bool, error) {
	if err := w.load(ctx); err != nil {
		return false, err
	}
	if w.sweep.next == 0 {
		cut, err := w.oldestBlock(ctx)
		if err != nil || cut == w.sweep.done {
			return false, err
		}
		w.sweep.cut = cut
	}
	terms, err := w.ids(ctx, "SELECT id FROM terms WHERE id > ? ORDER BY id LIMIT ?", w.sweep.next, sweepTermsOnce)
	if err != nil {
		return false, err
	}
	for _, t := range terms {
		if err := w.sweepTerm(ctx, t); err != nil {
			return false, err
		}
	}
	if err := w.putCounters(ctx); err != nil {
		return false, err
	}
	if len(terms) < sweepTermsOnce {
		w.sweep = sweep{done: w.sweep.cut}
		return false, nil
	}
	w.sweep.next = terms[len(terms)-1]
	return true, nil
}

// sweepTerm keeps the agents, kinds and flags: they are few, and sums and flows
// name them.
func (w *writer) sweepTerm(ctx context.Context, term int64) error {
	if _, err := w.exec(ctx, "DELETE FROM postings WHERE term = ? AND block < ?", term, w.sweep.cut); err != nil {
		return err
	}
	var key termKey
	err := w.row(ctx, `SELECT dimension, value FROM terms t WHERE id = ? AND dimension NOT IN (1, 4, 7)
		AND NOT EXISTS (SELECT 1 FROM postings p WHERE p.term = t.id)
		AND NOT EXISTS (SELECT 1 FROM event_rates r WHERE r.workload = t.id)
		AND NOT EXISTS (SELECT 1 FROM samples s WHERE s.workload = t.id)
		AND NOT EXISTS (SELECT 1 FROM flows f WHERE f.workload = t.id)
		AND NOT EXISTS (SELECT 1 FROM flows g WHERE g.grp = t.id)`, []any{term}, &key.dim, &key.value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	delete(w.state.terms, key)
	if key.dim == dimWord {
		w.state.words--
	}
	_, err = w.exec(ctx, "DELETE FROM terms WHERE id = ?", term)
	return err
}

// vacuum gives free pages back to the file system when there are many.
func (d *DB) vacuum(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, err := d.vacuumSome(ctx)
		if err != nil || !more {
			return d.fault("give pages back", err)
		}
	}
}

func (d *DB) vacuumSome(ctx context.Context) (bool, error) {
	if err := d.acquire(ctx); err != nil {
		return false, err
	}
	defer d.release()
	ctx = context.WithoutCancel(ctx)
	var free, pages int64
	if err := d.w.row(ctx, "PRAGMA freelist_count", nil, &free); err != nil {
		return false, err
	}
	if err := d.w.row(ctx, "PRAGMA page_count", nil, &pages); err != nil {
		return false, err
	}
	if free < vacuumPages || free < pages/vacuumShare {
		return false, nil
	}
	_, err := d.w.exec(ctx, vacuumStatement)
	return true, err
}

const vacuumStatement = "PRAGMA incremental_vacuum(2000)"

func firstOf(block int64) int64 { return block * blockSize }
func lastOf(block int64) int64  { return block*blockSize + blockSize - 1 }
