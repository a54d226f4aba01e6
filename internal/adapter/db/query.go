package db

import (
	"context"
	"math"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// Limits of a query. They bound the statement that is made of it.
const (
	maxChoices   = 64  // kinds or origins asked for at once
	maxTextBytes = 512 // of Text and Executable*
	maxTextWords = 8
	// maxPathBytes is PATH_MAX, and more than any name of the DNS has.
	maxPathBytes = 4_096
	// maxVariants is how many terms that begin with a text are followed one by
	// one; where more do, their lists would cost more than they save.
	maxVariants = 64
)

// filter is an EventQuery put into terms: what decides exactly (where, words)
// and what finds the blocks (lists).
type filter struct {
	where fragments
	words []string // of Text
	path  string
	peer  string
	lists []list
	// empty is true when a term never occurred, so nothing can match.
	empty bool
}

// exact reports whether the statement alone decides.
func (f *filter) exact() bool { return f.words == nil && f.path == "" && f.peer == "" }

// holds decides what the statement cannot.
func (f *filter) holds(e *event.Event) bool {
	return store.MatchesPath(e, f.path) && store.MatchesPeer(e, f.peer) && store.Matches(e, f.words)
}

// fragments are conditions of a statement; every one is a constant, and all
// input is in args.
type fragments struct {
	join  bool // the executable's text is needed
	parts []string
	args  []any
}

func (f *fragments) add(part string, args ...any) {
	f.parts = append(f.parts, part)
	f.args = append(f.args, args...)
}

// planner puts a query into terms, on one snapshot.
type planner struct {
	s   *snapshot
	pay *budget
	dir direction
	f   filter
}

func (p *planner) plan(ctx context.Context, q store.EventQuery) (filter, error) {
	if err := bounded(q); err != nil {
		return filter{}, err
	}
	for _, step := range [...]func(context.Context, store.EventQuery) error{
		p.equals, p.choices, p.executable, p.path, p.peer, p.text, p.span,
	} {
		if err := step(ctx, q); err != nil || p.f.empty {
			return p.f, err
		}
	}
	return p.f, nil
}

func bounded(q store.EventQuery) error {
	switch {
	case len(q.Kinds) > maxChoices || len(q.Origins) > maxChoices:
		return fault.New(fault.Invalid, "at most %d kinds or origins can be asked for", maxChoices)
	case len(q.Text) > maxTextBytes:
		return fault.New(fault.Invalid, "at most %d bytes of text can be searched for", maxTextBytes)
	case len(q.Path) > maxPathBytes || len(q.Peer) > maxPathBytes:
		return fault.New(fault.Invalid, "at most %d bytes of a path or a peer can be asked for", maxPathBytes)
	case len(strings.Fields(q.Text)) > maxTextWords:
		return fault.New(fault.Invalid, "at most %d words can be searched for", maxTextWords)
	}
	return nil
}

// equals plans the filters that are one term each.
func (p *planner) equals(ctx context.Context, q store.EventQuery) error {
	if q.HostOnly && q.WorkloadID != "" {
		p.f.empty = true
		return nil
	}
	for _, f := range [...]struct {
		on    bool
		dim   dimension
		value string
		part  string
	}{
		{q.WorkloadID != "" || q.HostOnly, dimWorkload, q.WorkloadID, "e.workload = ?"},
		{q.Group != "", dimGroup, q.Group, "e.grp = ?"},
		{q.AgentID != "", dimAgent, q.AgentID, "e.agent = ?"},
	} {
		if !f.on {
			continue
		}
		id, err := p.s.termID(ctx, f.dim, f.value)
		if err != nil {
			return err
		}
		p.one(f.part, id)
	}
	if q.Entered {
		if err := p.flagged(ctx, flagEntered); err != nil {
			return err
		}
		p.f.where.add("e.entered = 1")
	}
	if !q.Process.IsZero() {
		p.f.where.add("e.process_start = ?", int64(q.Process.Start))
		p.f.where.add("e.process_pid = ?", int64(q.Process.PID))
		p.f.lists = append(p.f.lists, p.s.processList(p.pay, p.dir, q.Process))
	}
	return nil
}

func (p *planner) one(part string, term int64) {
	p.f.where.add(part, term)
	p.follow(term)
}

// follow adds the list of blocks in which any of the terms occurs; 0 stands
// for a term that never did.
func (p *planner) follow(terms ...int64) {
	var lists anyOf
	for _, t := range terms {
		if t != 0 {
			lists = append(lists, p.s.termList(p.pay, p.dir, t))
		}
	}
	if len(lists) == 0 {
		p.f.empty = true
		return
	}
	p.f.lists = append(p.f.lists, lists)
}

// choices plans the filters that are several terms each.
func (p *planner) choices(ctx context.Context, q store.EventQuery) error {
	kinds := make([]string, len(q.Kinds))
	for i, k := range q.Kinds {
		kinds[i] = string(k)
	}
	if err := p.oneOf(ctx, "e.kind", dimKind, kinds); err != nil {
		return err
	}
	return p.oneOf(ctx, "e.origin", dimOrigin, originTexts(q.Origins))
}

func originTexts(origins []event.Origin) []string {
	texts := make([]string, len(origins))
	for i, o := range origins {
		texts[i] = string(o)
	}
	return texts
}

func (p *planner) oneOf(ctx context.Context, column string, dim dimension, values []string) error {
	if len(values) == 0 {
		return nil
	}
	var terms []int64
	for _, v := range values {
		id, err := p.s.termID(ctx, dim, v)
		if err != nil {
			return err
		}
		if id != 0 {
			terms = append(terms, id)
		}
	}
	p.in(column, terms)
	return nil
}

func (p *planner) in(column string, terms []int64) {
	p.follow(terms...)
	if p.f.empty {
		return
	}
	args := make([]any, len(terms))
	for i, t := range terms {
		args[i] = t
	}
	p.f.where.add(column+" IN ("+marks(len(args))+")", args...)
}

// executable plans an exact path, or the beginning of one.
func (p *planner) executable(ctx context.Context, q store.EventQuery) error {
	prefix, open := strings.CutSuffix(q.Executable, "*")
	switch {
	case q.Executable == "" || open && prefix == "":
		return nil
	case !open:
		id, err := p.s.termID(ctx, dimExecutable, q.Executable)
		p.one("e.executable = ?", id)
		return err
	case len(prefix) > maxTextBytes:
		return fault.New(fault.Invalid, "at most %d bytes of a path can be asked for", maxTextBytes)
	}
	terms, err := p.s.termsBeginning(ctx, dimExecutable, prefix, maxVariants+1)
	if err != nil {
		return err
	}
	if len(terms) <= maxVariants {
		p.in("e.executable", terms)
		return nil
	}
	p.f.where.join = true
	p.f.where.add("x.value >= ?", prefix)
	if end, ok := after(prefix); ok {
		p.f.where.add("x.value < ?", end)
	}
	return p.findWords(ctx, prefix)
}

// path plans an exact path by its bucket, the beginning of one by its folder and
// its words.
func (p *planner) path(ctx context.Context, q store.EventQuery) error {
	prefix, open := strings.CutSuffix(q.Path, "*")
	if prefix == "" {
		return nil
	}
	if open && len(prefix) > maxTextBytes {
		return fault.New(fault.Invalid, "at most %d bytes of a path's beginning can be asked for", maxTextBytes)
	}
	p.f.path = q.Path
	p.f.where.add(`e.words LIKE ? ESCAPE '\'`, likePattern(prefix))
	if err := p.flagged(ctx, flagPath); err != nil || p.f.empty {
		return err
	}
	if !open {
		p.bucket(bucketOf(bucketPath, q.Path))
		return nil
	}
	deepest := ""
	eachFolder(prefix, func(folder string) { deepest = folder })
	if deepest != "" {
		p.bucket(bucketOf(bucketPath, deepest))
	}
	return p.findWords(ctx, prefix)
}

// peer plans an address, with or without a port, a name, a workload or a
// group: they share their buckets.
func (p *planner) peer(ctx context.Context, q store.EventQuery) error {
	if q.Peer == "" {
		return nil
	}
	text, _ := store.ParsePeer(q.Peer)
	p.f.peer = q.Peer
	p.f.where.add(`e.words LIKE ? ESCAPE '\'`, likePattern(text))
	if err := p.flagged(ctx, flagPeer); err != nil || p.f.empty {
		return err
	}
	p.bucket(bucketOf(bucketPeer, text))
	return nil
}

func (p *planner) bucket(bucket int64) {
	p.f.lists = append(p.f.lists, &bucketList{s: p.s, pay: p.pay, dir: p.dir, bucket: bucket})
}

// flagged follows a term of dimFlag.
func (p *planner) flagged(ctx context.Context, flag string) error {
	id, err := p.s.termID(ctx, dimFlag, flag)
	if err == nil {
		p.follow(id)
	}
	return err
}

// text plans a search: LIKE takes out most rows, holds decides on the rest.
func (p *planner) text(ctx context.Context, q store.EventQuery) error {
	for _, want := range strings.Fields(q.Text) {
		like := likePattern(want)
		p.f.words = append(p.f.words, want)
		p.f.where.join = true
		p.f.where.add(`(e.words LIKE ? ESCAPE '\' OR x.value LIKE ? ESCAPE '\')`, like, like)
		if err := p.findWords(ctx, want); err != nil || p.f.empty {
			return err
		}
	}
	return nil
}

// findWords follows the words inside a text that was asked for: all but the
// last are whole, the last may go on.
func (p *planner) findWords(ctx context.Context, want string) error {
	var stems []string
	eachStem(want, nil, func(stem []byte) { stems = append(stems, string(stem)) })
	wordy, err := p.s.termID(ctx, dimFlag, flagWordy)
	if err != nil {
		return err
	}
	for i, stem := range stems {
		var terms []int64
		if i == len(stems)-1 && store.IsWord(want[len(want)-1]) {
			terms, err = p.s.termsBeginning(ctx, dimWord, stem, maxVariants+1)
		} else {
			var id int64
			id, err = p.s.termID(ctx, dimWord, stem)
			terms = []int64{id}
		}
		if err != nil {
			return err
		}
		if len(terms) <= maxVariants {
			p.follow(append(terms, wordy)...)
		}
	}
	return nil
}

// span plans Since and Until. A query without any list walks all blocks.
func (p *planner) span(_ context.Context, q store.EventQuery) error {
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !q.Since.IsZero() {
		since = nanos(q.Since)
		p.f.where.add("e.time >= ?", since)
	}
	if !q.Until.IsZero() {
		until = nanos(q.Until)
		p.f.where.add("e.time < ?", until)
	}
	if len(p.f.lists) == 0 || !q.Since.IsZero() || !q.Until.IsZero() {
		p.f.lists = append(p.f.lists, p.s.timeList(p.pay, p.dir, since, until))
	}
	return nil
}

// eventColumns are scanned by scanEvent.
const eventColumns = `e.id, e.source, e.agent, e.workload, e.grp, e.kind, e.executable, e.origin, e.entered,
	e.process_pid, e.process_start, e.time, e.received, e.words, e.payload`

// statement returns the one that reads a range of ids; its first two
// arguments are the range.
func (f *fragments) statement(dir direction) string {
	var b strings.Builder
	b.WriteString("SELECT " + eventColumns + " FROM events e")
	if f.join {
		b.WriteString(" JOIN terms x ON x.id = e.executable")
	}
	b.WriteString(" WHERE e.id BETWEEN ? AND ?")
	for _, p := range f.parts {
		b.WriteString(" AND " + p)
	}
	b.WriteString(pick(dir, " ORDER BY e.id DESC", " ORDER BY e.id"))
	return b.String()
}
