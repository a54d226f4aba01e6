package rule

import (
	"hash/maphash"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// Bounds of the state of one rule. Together they are a few MiB at worst, of rules
// that attackers feed.
const (
	maxKeys       = 4096 // counts and sequences that are open at once
	buckets       = 8    // of a count's span: it is right to an eighth of that
	countEvidence = 8    // events of a count that are named
)

// scopeKey is what must be the same of events that belong together.
type scopeKey struct {
	agent, scope string
	process      event.Key
	key          string
}

// scopeOf returns the key of a subject; key is a further field that must be the same.
func scopeOf(s *Subject, by Scope, key *Field) scopeKey {
	e := s.Event
	k := scopeKey{agent: e.AgentID}
	if e.Call != nil {
		k.agent = ""
		if !ofCalls(by) && e.WorkloadID == "" {
			by = ByPrincipal // credentials of no task that is known are their own
		}
		if ofCalls(by) {
			k.scope = scopeOfCall(e.Call, by)
			return k.and(s, key)
		}
	}
	switch by {
	case ByProcess:
		k.process = e.Process.Key
	case ByParent:
		k.process = s.Process.Parent
	case ByTree:
		k.process = s.Root().Key
	case ByWorkload:
		k.scope = e.WorkloadID
	case ByGroup:
		if k.scope = e.Group; k.scope != "" {
			k.agent = ""
		} else {
			k.scope = e.WorkloadID
		}
	case ByPeer:
		if k.scope = e.WorkloadID; e.Connection != nil {
			k.key = e.Connection.Remote.Addr().Unmap().String()
		}
	}
	return k.and(s, key)
}

// and adds the field that must be the same beside.
func (k scopeKey) and(s *Subject, key *Field) scopeKey {
	if key != nil {
		k.key += "\x00" + s.text(key)
	}
	return k
}

// state is what a rule remembers from event to event.
type state interface {
	// matched notes that the subject is what the rule's matcher of that number looks
	// for. It returns the events before it that it makes whole, how many times it
	// happened, and whether the rule fires.
	matched(s *Subject, step int, key *Field) (before []threat.Evidence, count uint64, fires bool)
}

func (w *compiling) state(s *stateOf) state {
	switch s.form {
	case "count":
		c := &counting{by: s.by, within: w.span(s.within, "within")}
		most := int64(maxReaches)
		if s.distinct != nil {
			c.distinct, most = w.field(s.distinct, "distinct"), maxDistinct
		}
		if s.key != nil {
			c.key = w.field(s.key, "key")
		}
		c.reaches = uint64(w.number(s.reaches, "reaches", most))
		c.tallies = keep.New[scopeKey, *tally](maxKeys, c.within)
		return c
	case "sequence":
		within := w.span(s.within, "within")
		return &sequence{by: s.by, within: within, any: s.any, last: len(s.steps) - 1, open: keep.New[scopeKey, *progress](maxKeys, within)}
	case "first":
		return &firsts{by: s.by, of: w.field(s.of, "of"), after: w.span(s.after, "after"), groups: newGroups()}
	}
	return nil
}

// counting fires when something happened so often within a while.
type counting struct {
	by       Scope
	within   time.Duration
	reaches  uint64
	distinct *Field
	key      *Field
	tallies  *keep.Map[scopeKey, *tally]
	seed     maphash.Seed
	seeded   bool
}

type tally struct {
	epoch    int64 // number of the newest bucket
	counts   [buckets]uint64
	seen     map[uint64]time.Time // of distinct values
	evidence []threat.Evidence
}

func (c *counting) matched(s *Subject, _ int, _ *Field) ([]threat.Evidence, uint64, bool) {
	now, k := s.Event.Time, scopeOf(s, c.by, c.key)
	at, ok := c.tallies.Get(k, now)
	if !ok {
		at = c.tallies.Put(k, &tally{}, now)
	}
	t := *at
	var n uint64
	if c.distinct == nil {
		n = t.add(now, c.within/buckets, s.Event.Times())
	} else {
		n = c.tell(t, s, now)
	}
	if n < c.reaches {
		if len(t.evidence) < countEvidence {
			t.evidence = append(t.evidence, bare(s.Event))
		}
		return nil, 0, false
	}
	c.tallies.Delete(k)
	return t.evidence, n, true
}

// add counts into the bucket of a time, and returns the sum of those of the span.
func (t *tally) add(now time.Time, width time.Duration, n uint64) uint64 {
	epoch := now.UnixNano() / int64(max(width, 1))
	switch ahead := epoch - t.epoch; {
	case ahead >= buckets:
		t.counts = [buckets]uint64{}
		t.epoch = epoch
	case ahead > 0:
		for ; t.epoch < epoch; t.epoch++ {
			t.counts[slot(t.epoch+1)] = 0
		}
	}
	if t.epoch-epoch < buckets {
		t.counts[slot(epoch)] += n
	}
	var sum uint64
	for _, c := range t.counts {
		sum += c
	}
	return sum
}

// slot is where a bucket is; times before 1970 have negative numbers.
func slot(epoch int64) int64 { return (epoch%buckets + buckets) % buckets }

// tell counts what is different.
func (c *counting) tell(t *tally, s *Subject, now time.Time) uint64 {
	if !c.seeded {
		c.seed, c.seeded = maphash.MakeSeed(), true
	}
	if t.seen == nil {
		t.seen = map[uint64]time.Time{}
	}
	t.seen[maphash.String(c.seed, s.text(c.distinct))] = now
	if uint64(len(t.seen)) >= c.reaches {
		for v, at := range t.seen {
			if now.Sub(at) > c.within {
				delete(t.seen, v)
			}
		}
	}
	return uint64(len(t.seen))
}

// bare names an event without its words, which take time to make.
func bare(e *event.Event) threat.Evidence {
	return threat.Evidence{Boot: e.Boot, Seq: e.Seq, ID: e.ID, Time: e.Time, Kind: e.Kind}
}

// sequence fires when all steps happened, one after the other or in any order.
type sequence struct {
	by     Scope
	within time.Duration
	any    bool
	last   int
	open   *keep.Map[scopeKey, *progress]
}

type progress struct {
	done     [maxSteps]bool
	began    [maxSteps]time.Time // of the first step of the chain that leads here
	evidence [maxSteps]threat.Evidence
}

func (q *sequence) matched(s *Subject, step int, key *Field) ([]threat.Evidence, uint64, bool) {
	now, k := s.Event.Time, scopeOf(s, q.by, key)
	at, ok := q.open.Get(k, now)
	if !ok {
		if step > 0 && !q.any {
			return nil, 0, false // nothing that it could follow
		}
		at = q.open.Put(k, &progress{}, now)
	}
	p := *at
	if q.any {
		return q.anyOrder(p, k, s, step)
	}
	if step == 0 {
		p.note(0, now, s.Event)
		return nil, 0, false
	}
	before := step - 1
	if !p.done[before] || now.Sub(p.began[before]) > q.within || sameEvent(p.evidence[before], s.Event) {
		return nil, 0, false
	}
	p.note(step, p.began[before], s.Event)
	if step < q.last {
		return nil, 0, false
	}
	q.open.Delete(k)
	return append([]threat.Evidence{}, p.evidence[:step]...), 1, true
}

func (q *sequence) anyOrder(p *progress, k scopeKey, s *Subject, step int) ([]threat.Evidence, uint64, bool) {
	now := s.Event.Time
	p.note(step, now, s.Event)
	var before []threat.Evidence
	for i := 0; i <= q.last; i++ {
		if !p.done[i] || now.Sub(p.began[i]) > q.within || i != step && sameEvent(p.evidence[i], s.Event) {
			return nil, 0, false
		}
		if i != step {
			before = append(before, p.evidence[i])
		}
	}
	q.open.Delete(k)
	return before, 1, true
}

func (p *progress) note(step int, began time.Time, e *event.Event) {
	p.done[step], p.began[step], p.evidence[step] = true, began, threat.EvidenceOf(e)
}

func sameEvent(v threat.Evidence, e *event.Event) bool {
	return v.Boot == e.Boot && v.Seq == e.Seq && v.Kind == e.Kind && v.Time.Equal(e.Time)
}
