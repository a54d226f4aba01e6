package decide

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// Limits of a cache: more images than run on a host or in most fleets, at a few
// kilobytes each; and if somebody fills registries with false signatures, of
// which verdicts tell, fewer.
const (
	MaxCached     = 10_000
	maxCacheBytes = 64 << 20
)

// key is what a verdict depends on, apart from the clock. The repository is part
// of it: the same digest may fall under another rule elsewhere.
type key struct{ repository, digest, index, policy, roots string }

func (d *Decider) key(i Image) key {
	k := key{repository: i.Subject.Repository, digest: i.Subject.Digest, policy: d.Policy.Digest, roots: d.Policy.RootsDigest}
	if i.Index != nil {
		k.index = i.Index.Digest
	}
	return k
}

// Cache remembers verdicts in memory: those that allow until what they rest on
// ends, at most for MaxKept, those that deny for DenialKept. Errors are not
// remembered. Many may use it at the same time; who asks for what somebody asks
// for already waits for that one's answer. Deciders of different policies may
// share one.
type Cache struct {
	mu      sync.Mutex
	limit   int
	bytes   int // of all entries, about
	entries map[key]*list.Element
	recent  list.List // of *entry, the last used first
	flights map[key]*flight
}

// flight is a decision that somebody waits for. The rest is set before done is
// closed.
type flight struct {
	done   chan struct{}
	err    error
	gaveUp bool // who decided went away
}

type entry struct {
	key     key
	verdict Verdict
	bytes   int
}

// NewCache returns an empty cache of at most limit verdicts; MaxCached if limit
// is 0 or less.
func NewCache(limit int) *Cache {
	if limit <= 0 {
		limit = MaxCached
	}
	return &Cache{limit: limit, entries: map[key]*list.Element{}, flights: map[key]*flight{}}
}

// get returns what is remembered, or decides. Whoever waits for another's
// decision shares its failure, so that a registry that is away is not asked by
// one after the other; only if the other gave up does he decide for himself.
func (c *Cache) get(ctx context.Context, k key, now time.Time, decide func() (Verdict, error)) (Verdict, error) {
	for {
		c.mu.Lock()
		if v, ok := c.fresh(k, now); ok {
			c.mu.Unlock()
			return v, nil
		}
		f, busy := c.flights[k]
		if !busy {
			f = &flight{done: make(chan struct{}), err: errUndecided}
			c.flights[k] = f
			c.mu.Unlock()
			return c.fly(ctx, k, f, decide)
		}
		c.mu.Unlock()
		nothing := Verdict{Digest: k.digest, Index: k.index, At: now, Until: now}
		select {
		case <-f.done:
			if f.err != nil && !f.gaveUp {
				return nothing, f.err
			}
		case <-ctx.Done():
			return nothing, undecided(ctx, k.repository+"@"+k.digest, ctx.Err())
		}
	}
}

// fly decides for all who wait.
func (c *Cache) fly(ctx context.Context, k key, f *flight, decide func() (Verdict, error)) (v Verdict, err error) {
	defer func() { // also if it panics: nobody must wait for ever
		c.mu.Lock()
		defer c.mu.Unlock()
		if f.err == nil {
			c.put(k, v)
		}
		delete(c.flights, k)
		close(f.done)
	}()
	v, err = decide()
	f.err, f.gaveUp = err, ctx.Err() != nil
	return v, err
}

// fresh returns a verdict that still holds. One from the future doesn't: a clock
// that was set back must not make it live longer.
func (c *Cache) fresh(k key, now time.Time) (Verdict, bool) {
	e, ok := c.entries[k]
	if !ok {
		return Verdict{}, false
	}
	v := &e.Value.(*entry).verdict
	if !now.Before(v.Until) || now.Before(v.At.Add(-MaxSkew)) {
		c.drop(e)
		return Verdict{}, false
	}
	c.recent.MoveToFront(e)
	return *v, true
}

func (c *Cache) put(k key, v Verdict) {
	if e, ok := c.entries[k]; ok {
		c.drop(e)
	}
	e := &entry{k, v, size(&v)}
	c.entries[k] = c.recent.PushFront(e)
	for c.bytes += e.bytes; c.recent.Len() > c.limit || c.bytes > maxCacheBytes && c.recent.Len() > 1; {
		c.drop(c.recent.Back())
	}
}

func (c *Cache) drop(e *list.Element) {
	gone := c.recent.Remove(e).(*entry)
	c.bytes -= gone.bytes
	delete(c.entries, gone.key)
}

// size is about how many bytes a verdict takes. What is told of envelopes stands
// in the steps too.
func size(v *Verdict) int {
	n := 4096
	for i := range v.Signatures {
		c := &v.Signatures[i]
		n += 1024 + 2*(len(c.Envelope)+len(c.Detail)+len(c.Remedy)+len(c.Predicate))
		if c.By != nil {
			n += 2 * (len(c.By.Certificate) + len(c.By.Issuer) + len(c.By.Subject) + len(c.By.Profile))
		}
	}
	if v.Facts != nil {
		n += v.Facts.bytes
	}
	for i := range v.Requirements {
		for _, m := range v.Requirements[i].Misses {
			n += 256 + 2*(len(m.Why)+len(m.Remedy))
		}
	}
	return n
}

// Len returns how many verdicts are remembered.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len()
}
