package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// pageSizeOf clamps a limit to what the port permits.
func pageSizeOf(limit int) int {
	if limit <= 0 {
		return store.DefaultPage
	}
	return min(limit, store.MaxPage)
}

// Events implements store.Events.
func (d *DB) Events(ctx context.Context, q store.EventQuery) (page store.EventPage, err error) {
	err = d.read(ctx, "read events", func(s *snapshot) error {
		w, err := s.walk(ctx, q)
		if err != nil {
			return err
		}
		pl := planner{s: s, pay: &w.pay, dir: w.dir}
		f, err := pl.plan(ctx, q)
		if err != nil {
			return err
		}
		page, err = w.page(ctx, f)
		return err
	})
	return page, err
}

// notableOrigins are those of files that did not come with the image.
var notableOrigins = [...]event.Origin{event.OriginWritten, event.OriginMount, event.OriginMemory}

// Notable implements store.EventStats. Where its budget ends first, it returns
// the newest that it found.
func (d *DB) Notable(ctx context.Context, since time.Time, limit int) (events []event.Event, err error) {
	q := store.EventQuery{Since: since, Limit: limit}
	err = d.read(ctx, "read notable events", func(s *snapshot) error {
		w, err := s.walk(ctx, q)
		if err != nil {
			return err
		}
		pl := planner{s: s, pay: &w.pay, dir: w.dir}
		if err := pl.notable(ctx); err != nil {
			return err
		}
		if err := pl.span(ctx, q); err != nil {
			return err
		}
		page, err := w.page(ctx, pl.f)
		events = page.Events
		return err
	})
	return events, err
}

func (p *planner) notable(ctx context.Context) error {
	terms := make([]int64, 0, 1+len(notableOrigins))
	args := make([]any, 0, len(notableOrigins))
	for _, o := range notableOrigins {
		id, err := p.s.termID(ctx, dimOrigin, string(o))
		if err != nil {
			return err
		}
		terms, args = append(terms, id), append(args, id)
	}
	entered, err := p.s.termID(ctx, dimFlag, flagEntered)
	if err != nil {
		return err
	}
	p.follow(append(terms, entered)...)
	// A row's origin is 0 for what is not an exec, as is a term that never occurred.
	p.f.where.add("(e.entered = 1 OR e.origin > 0 AND e.origin IN ("+marks(len(args))+"))", args...)
	return nil
}

// walk is one query on its way through the blocks.
type walk struct {
	s      *snapshot
	dir    direction
	lo, hi int64 // ids, inclusive
	limit  int
	follow bool
	pay    budget
}

func (s *snapshot) walk(ctx context.Context, q store.EventQuery) (*walk, error) {
	var newest sql.NullInt64
	if err := s.row(ctx, "SELECT max(id) FROM events", nil, &newest); err != nil {
		return nil, err
	}
	w := &walk{s: s, lo: max(q.After, 0) + 1, hi: newest.Int64, limit: pageSizeOf(q.Limit), pay: budget{s.d.maxReads}}
	if q.Before > 0 {
		w.hi = min(w.hi, q.Before-1)
	}
	if q.After > 0 {
		w.dir, w.follow = up, true
	}
	return w, nil
}

// page walks until the page is full, nothing is left, or the budget is spent.
func (w *walk) page(ctx context.Context, f filter) (store.EventPage, error) {
	var page store.EventPage
	if w.follow {
		page.Next = max(w.lo-1, w.hi)
	}
	if f.empty || w.lo > w.hi {
		return page, nil
	}
	query := f.where.statement(w.dir)
	step, at, last := int64(-1), blockOf(w.hi), blockOf(w.lo)
	if w.dir == up {
		step, at, last = 1, blockOf(w.lo), blockOf(w.hi)
	}
	for !w.dir.before(last, at) {
		block, ok, err := meet(ctx, f.lists, at)
		if errors.Is(err, errSpent) {
			return w.partial(ctx, page, block-step)
		}
		if err != nil || !ok || w.dir.before(last, block) {
			return page, err
		}
		full, err := w.readBlock(ctx, f, query, block, &page)
		if err != nil || full {
			return page, err
		}
		at = block + step
		if w.pay.spend(f.blockCost()) != nil {
			if w.dir.before(last, at) {
				return page, nil
			}
			return w.partial(ctx, page, block)
		}
	}
	return page, nil
}

// blockCost is what reading a block takes out of the budget.
func (f *filter) blockCost() int {
	if f.where.join || !f.exact() {
		return statementCost + blockSize*(1+searchCost)
	}
	return statementCost + blockSize
}

// readBlock adds the matching events of a block and reports whether the page
// is full and more follows.
func (w *walk) readBlock(ctx context.Context, f filter, query string, block int64, page *store.EventPage) (bool, error) {
	lo, hi := max(w.lo, firstOf(block)), min(w.hi, lastOf(block))
	args := append([]any{lo, hi}, f.where.args...)
	raw, err := w.s.rows(ctx, query, args, f.exact(), w.limit-len(page.Events)+1)
	if err != nil {
		return false, err
	}
	for i := range raw {
		e, err := w.s.event(ctx, &raw[i])
		if err != nil {
			return false, err
		}
		if !f.holds(&e) {
			continue
		}
		if len(page.Events) == w.limit {
			page.Next = page.Events[w.limit-1].ID
			return true, nil
		}
		page.Events = append(page.Events, e)
	}
	return false, nil
}

// partial ends a page behind a block that has been read.
func (w *walk) partial(ctx context.Context, page store.EventPage, block int64) (store.EventPage, error) {
	page.Partial = true
	page.Next = max(firstOf(block), 1)
	if w.dir == up {
		page.Next = max(lastOf(block), w.lo-1)
	}
	var reached int64
	err := w.s.row(ctx, pick(w.dir,
		"SELECT min_time FROM blocks WHERE id >= ? ORDER BY id LIMIT 1",
		"SELECT max_time FROM blocks WHERE id <= ? ORDER BY id DESC LIMIT 1"), []any{block}, &reached)
	if errors.Is(err, sql.ErrNoRows) {
		return page, nil
	}
	page.Reached = timeOf(reached)
	return page, err
}

// Event implements store.Events.
func (d *DB) Event(ctx context.Context, id int64) (e event.Event, err error) {
	err = d.read(ctx, "read event", func(s *snapshot) error {
		raw, err := s.rows(ctx, "SELECT "+eventColumns+" FROM events e WHERE e.id = ?", []any{id}, true, 1)
		if err != nil {
			return err
		}
		if len(raw) == 0 {
			return fault.New(fault.NotFound, "no event %d: there never was one, or retention removed it", id)
		}
		e, err = s.event(ctx, &raw[0])
		return err
	})
	return e, err
}

// rawEvent is a row of events before its terms are put into text.
type rawEvent struct {
	id, source, agent, workload, group, kind, executable, origin, entered int64
	pid, start, time, received                                            int64
	words                                                                 string
	payload                                                               []byte
}

// rows reads at most limit rows, or all when not capped. Texts are looked up
// afterwards, with no statement open.
func (s *snapshot) rows(ctx context.Context, query string, args []any, capped bool, limit int) ([]rawEvent, error) {
	var raw []rawEvent
	err := s.query(ctx, query, args, func(rows *sql.Rows) (bool, error) {
		var r rawEvent
		err := rows.Scan(&r.id, &r.source, &r.agent, &r.workload, &r.group, &r.kind, &r.executable, &r.origin,
			&r.entered, &r.pid, &r.start, &r.time, &r.received, &r.words, &r.payload)
		raw = append(raw, r)
		return !capped || len(raw) < limit, err
	})
	return raw, err
}

func (s *snapshot) event(ctx context.Context, r *rawEvent) (event.Event, error) {
	e := event.Event{ID: r.id, Time: fromNanos(r.time), Received: fromMillis(r.received)}
	if err := decodePayload(r.payload, r.words, &e); err != nil {
		return e, corrupt(s.d.path, fmt.Errorf("event %d: %w", r.id, err))
	}
	e.Process.Key = event.Key{PID: uint32(r.pid), Start: uint64(r.start)}
	var kind, origin string
	for _, f := range [...]struct {
		dest *string
		term int64
	}{
		{&e.AgentID, r.agent}, {&e.WorkloadID, r.workload}, {&e.Group, r.group}, {&kind, r.kind},
		{&e.Process.Executable, r.executable}, {&origin, r.origin},
	} {
		if f.term == 0 {
			continue
		}
		text, err := s.text(ctx, f.term)
		if err != nil {
			return e, err
		}
		*f.dest = text
	}
	e.Kind = event.Kind(kind)
	if e.Exec != nil {
		e.Exec.Origin, e.Exec.Entered = event.Origin(origin), r.entered == 1
	}
	boot, err := s.boot(ctx, r.source)
	e.Boot = boot
	return e, err
}

// boot returns the agent's start that a source stands for. Its id and a
// term's share the cache, told apart by sign.
func (s *snapshot) boot(ctx context.Context, source int64) (string, error) {
	if t, ok := s.d.names.get(-source); ok {
		return t, nil
	}
	var boot string
	if err := s.row(ctx, "SELECT boot FROM sources WHERE id = ?", []any{source}, &boot); err != nil {
		return "", fmt.Errorf("look up source %d: %w", source, err)
	}
	s.d.names.put(-source, boot)
	return boot, nil
}
