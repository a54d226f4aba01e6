package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
)

// blockSize is how many neighbouring ids a block spans. Smaller blocks are
// found more exactly and cost more postings; with 256, a page of 100 events
// that lie in 100 different blocks reads 25,600 rows.
const blockSize = 256

func blockOf(id int64) int64 { return id / blockSize }

const (
	// maxSources bounds the sequence numbers kept in memory.
	maxSources = 10_000
	// minuteSpan and hourSpan are the resolutions of EventRate, in seconds.
	minuteSpan = 60
	hourSpan   = 3_600
)

// ingestState is what the writer knows about the end of the file. The zero
// value is read from it.
type ingestState struct {
	loaded     bool
	nextEvent  int64
	nextTerm   int64
	nextSource int64
	words      int64 // in the dictionary
	terms      map[termKey]int64
	sources    map[sourceKey]*source

	// The newest block: which terms and buckets are posted for it already,
	// which texts have been taken apart, and how many new terms it brought.
	block  int64
	posted map[int64]struct{}
	marked map[int64]struct{}
	texts  map[string]struct{}
	fresh  int

	flows flowState
}

type sourceKey struct{ agent, boot string }

// source is one start of one agent.
type source struct {
	id   int64
	next uint64 // sequence number that is not stored yet
	last int64  // newest event id
}

type posting struct{ term, block int64 }

type rateKey struct{ workload, span, start, kind int64 }

type blockSpan struct {
	events                                     int64
	minTime, maxTime, minReceived, maxReceived int64
}

// ingest is one transaction's worth of rows.
type ingest struct {
	w        *writer
	values   []any
	words    []byte
	payload  []byte
	stem     []byte
	postings []posting
	marks    []bucketMark
	rates    map[rateKey]int64
	blocks   map[int64]*blockSpan
	touched  map[*source]struct{}
	flows    map[flowKey]*flowLine
}

const eventWidth = 15

// ingest stores the batches of a group and sets their ids.
func (w *writer) ingest(ctx context.Context, group []*appending) error {
	if err := w.load(ctx); err != nil {
		return err
	}
	in := &ingest{
		w: w, stem: make([]byte, 0, maxStem),
		rates: map[rateKey]int64{}, blocks: map[int64]*blockSpan{}, touched: map[*source]struct{}{},
		flows: map[flowKey]*flowLine{},
	}
	// Only between transactions: what one has changed is not in the file yet.
	if len(w.state.sources) >= maxSources {
		clear(w.state.sources)
	}
	w.state.flows.trim()
	for _, a := range group {
		if a.other != nil {
			if err := a.other(ctx, w); err != nil {
				return err
			}
		}
		for i := range a.events {
			id, err := in.add(ctx, &a.events[i])
			if err != nil {
				return err
			}
			a.ids[i] = id
		}
	}
	return in.flush(ctx)
}

// load reads the counters after Open and after a transaction that failed.
func (w *writer) load(ctx context.Context) error {
	s := &w.state
	if s.loaded {
		return nil
	}
	for name, dest := range s.counters() {
		if err := w.row(ctx, "SELECT value FROM counters WHERE name = ?", []any{name}, dest); err != nil {
			return err
		}
	}
	s.terms, s.sources = map[termKey]int64{}, map[sourceKey]*source{}
	s.flows.reset()
	s.openBlock(blockOf(s.nextEvent))
	s.loaded = true
	return nil
}

// counters are what the table of that name keeps.
func (s *ingestState) counters() map[string]*int64 {
	return map[string]*int64{"event": &s.nextEvent, "term": &s.nextTerm, "source": &s.nextSource, "word": &s.words}
}

func (s *ingestState) openBlock(block int64) {
	s.block, s.fresh = block, 0
	s.posted, s.marked, s.texts = map[int64]struct{}{}, map[int64]struct{}{}, map[string]struct{}{}
}

// add takes one event; its id is 0 when it is stored already.
func (in *ingest) add(ctx context.Context, e *event.Event) (int64, error) {
	src, err := in.w.source(ctx, e.AgentID, e.Boot)
	if err != nil {
		return 0, err
	}
	if e.Seq < src.next {
		return 0, nil
	}
	s := &in.w.state
	id := s.nextEvent
	s.nextEvent++
	if b := blockOf(id); b != s.block {
		s.openBlock(b)
	}
	src.next, src.last = e.Seq+1, id
	in.touched[src] = struct{}{}

	t, err := in.terms(ctx, e)
	if err != nil {
		return 0, err
	}
	if err := in.index(ctx, e); err != nil {
		return 0, err
	}
	in.count(id, e, t)
	if err := in.flow(ctx, e, t); err != nil {
		return 0, err
	}
	return id, in.row(ctx, id, src.id, e, t)
}

// maxTimes bounds what one event adds to the sums, and each sum: an agent's word
// must not make them overflow, and nothing happens more often.
const maxTimes = 1 << 40

// count keeps the sums: per block its rows, per minute and hour what happened.
// A row may stand for many times (event.Count); charts show those.
func (in *ingest) count(id int64, e *event.Event, t eventTerms) {
	at, received := nanos(e.Time), millis(e.Received)
	b := in.blocks[blockOf(id)]
	if b == nil {
		b = &blockSpan{minTime: at, maxTime: at, minReceived: received, maxReceived: received}
		in.blocks[blockOf(id)] = b
	}
	b.events++
	b.minTime, b.maxTime = min(b.minTime, at), max(b.maxTime, at)
	b.minReceived, b.maxReceived = min(b.minReceived, received), max(b.maxReceived, received)

	second := e.Time.Unix()
	times := int64(min(e.Times(), maxTimes))
	for _, span := range [...]int64{minuteSpan, hourSpan} {
		start := second - floorMod(second, span)
		for _, workload := range [...]int64{0, t.workload} {
			in.rates[rateKey{workload, span, start, t.kind}] += times
		}
	}
}

func floorMod(n, by int64) int64 { return ((n % by) + by) % by }

func (in *ingest) row(ctx context.Context, id, source int64, e *event.Event, t eventTerms) error {
	in.words = appendWords(in.words[:0], e)
	in.payload = appendPayload(in.payload[:0], e)
	entered := int64(0)
	if e.Exec != nil && e.Exec.Entered {
		entered = 1
	}
	in.values = append(in.values,
		id, source, t.agent, t.workload, t.group, t.kind, t.executable, t.origin, entered,
		int64(e.Process.Key.PID), int64(e.Process.Key.Start), nanos(e.Time), millis(e.Received),
		string(in.words), slices.Clone(in.payload))
	if len(in.values) < bulkRows[0]*eventWidth {
		return nil
	}
	return in.flushRows(ctx)
}

func (in *ingest) flushRows(ctx context.Context) error {
	err := in.w.bulk(ctx, `INSERT INTO events (id, source, agent, workload, grp, kind, executable, origin, entered,
		process_pid, process_start, time, received, words, payload) VALUES `, "", eventWidth, in.values)
	in.values = in.values[:0]
	return err
}

func (in *ingest) flush(ctx context.Context) error {
	if len(in.touched) == 0 {
		return nil
	}
	for _, step := range [...]func(context.Context) error{
		in.flushRows, in.flushPostings, in.flushMarks, in.flushBlocks, in.flushRates, in.flushFlows, in.flushSources, in.w.putCounters,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// flushPostings writes them in key order, so that neighbours share a page.
func (in *ingest) flushPostings(ctx context.Context) error {
	slices.SortFunc(in.postings, func(a, b posting) int {
		return cmp.Or(cmp.Compare(a.term, b.term), cmp.Compare(a.block, b.block))
	})
	values := make([]any, 0, 2*len(in.postings))
	for _, p := range in.postings {
		values = append(values, p.term, p.block)
	}
	return in.w.bulk(ctx, "INSERT INTO postings (term, block) VALUES ", " ON CONFLICT (term, block) DO NOTHING", 2, values)
}

func (in *ingest) flushBlocks(ctx context.Context) error {
	var values []any
	for _, id := range slices.Sorted(maps.Keys(in.blocks)) {
		b := in.blocks[id]
		values = append(values, id, b.events, b.minTime, b.maxTime, b.minReceived, b.maxReceived)
	}
	return in.w.bulk(ctx, "INSERT INTO blocks (id, events, min_time, max_time, min_received, max_received) VALUES ",
		` ON CONFLICT (id) DO UPDATE SET events = events + excluded.events,
		min_time = min(min_time, excluded.min_time), max_time = max(max_time, excluded.max_time),
		min_received = min(min_received, excluded.min_received), max_received = max(max_received, excluded.max_received)`, 6, values)
}

func (in *ingest) flushRates(ctx context.Context) error {
	keys := slices.SortedFunc(maps.Keys(in.rates), func(a, b rateKey) int {
		return cmp.Or(cmp.Compare(a.workload, b.workload), cmp.Compare(a.span, b.span),
			cmp.Compare(a.start, b.start), cmp.Compare(a.kind, b.kind))
	})
	values := make([]any, 0, 5*len(keys))
	for _, k := range keys {
		values = append(values, k.workload, k.span, k.start, k.kind, min(in.rates[k], maxTimes))
	}
	return in.w.bulk(ctx, "INSERT INTO event_rates (workload, span, start, kind, events) VALUES ",
		" ON CONFLICT (workload, span, start, kind) DO UPDATE SET events = min(events + excluded.events, 1 << 40)", 5, values)
}

func (in *ingest) flushSources(ctx context.Context) error {
	for src := range in.touched {
		if _, err := in.w.exec(ctx, "UPDATE sources SET next_seq = ?, last_event = ? WHERE id = ?",
			int64(src.next), src.last, src.id); err != nil {
			return err
		}
	}
	return nil
}

// putCounters writes them back, and belongs to the end of every transaction
// that made a term.
func (w *writer) putCounters(ctx context.Context) error {
	if !w.state.loaded {
		return errors.New("the counters were not read before they are written")
	}
	for name, value := range w.state.counters() {
		if _, err := w.exec(ctx, "UPDATE counters SET value = ? WHERE name = ?", *value, name); err != nil {
			return err
		}
	}
	return nil
}

// source returns the start of an agent that events belong to.
func (w *writer) source(ctx context.Context, agent, boot string) (*source, error) {
	key := sourceKey{agent, boot}
	if src, ok := w.state.sources[key]; ok {
		return src, nil
	}
	src := &source{}
	var next int64
	err := w.row(ctx, "SELECT id, next_seq, last_event FROM sources WHERE agent = ? AND boot = ?",
		[]any{agent, boot}, &src.id, &next, &src.last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	if err != nil {
		src.id = w.state.nextSource
		w.state.nextSource++
		_, err := w.exec(ctx, "INSERT INTO sources (id, agent, boot, next_seq, last_event) VALUES (?, ?, ?, 0, 0)", src.id, agent, boot)
		if err != nil {
			return nil, err
		}
	}
	src.next = uint64(next)
	w.state.sources[key] = src
	return src, nil
}
