// Package keep remembers things by key within bounds: what was not touched for a
// while is forgotten, and where there is no room what was touched longest ago.
//
// It knows no clock: callers say what time it is, as their events have it.
package keep

import "time"

// Map is such a memory. It is for one goroutine.
type Map[K comparable, V any] struct {
	max     int
	ttl     time.Duration
	entries map[K]*entry[K, V]
	// newest and oldest are the ends of the list by when they were touched.
	newest, oldest *entry[K, V]
}

type entry[K comparable, V any] struct {
	key          K
	value        V
	touched      time.Time
	newer, older *entry[K, V]
}

// New returns a memory of at most so many things, each for so long after it was
// touched; no ttl is for ever.
func New[K comparable, V any](most int, ttl time.Duration) *Map[K, V] {
	return &Map[K, V]{max: max(most, 1), ttl: ttl, entries: map[K]*entry[K, V]{}}
}

// Len is how many things are remembered.
func (m *Map[K, V]) Len() int { return len(m.entries) }

// Get returns what is remembered of a key at a time, and touches it. A thing whose
// while is over is not there.
func (m *Map[K, V]) Get(k K, now time.Time) (v *V, ok bool) {
	e := m.entries[k]
	if e == nil {
		return nil, false
	}
	if m.over(e, now) {
		m.drop(e)
		return nil, false
	}
	m.touch(e, now)
	return &e.value, true
}

// Put remembers a thing in the place of what there was, and returns where it is.
func (m *Map[K, V]) Put(k K, v V, now time.Time) *V {
	e := m.entries[k]
	if e == nil {
		for m.oldest != nil && (len(m.entries) >= m.max || m.over(m.oldest, now)) {
			m.drop(m.oldest)
		}
		e = &entry[K, V]{key: k}
		m.entries[k] = e
		m.link(e)
	}
	e.value = v
	m.touch(e, now)
	return &e.value
}

// Delete forgets a thing.
func (m *Map[K, V]) Delete(k K) {
	if e := m.entries[k]; e != nil {
		m.drop(e)
	}
}

// Oldest returns what was touched longest ago.
func (m *Map[K, V]) Oldest() (k K, v *V, ok bool) {
	if m.oldest == nil {
		return k, nil, false
	}
	return m.oldest.key, &m.oldest.value, true
}

// Kept is one thing that a Map remembers, to be remembered elsewhere.
type Kept[K comparable, V any] struct {
	Key     K         `json:"key"`
	Value   V         `json:"value"`
	Touched time.Time `json:"touched"`
}

// All returns what is remembered, what was touched longest ago first. Values are not
// copied deeper than the language does.
func (m *Map[K, V]) All() []Kept[K, V] {
	all := make([]Kept[K, V], 0, len(m.entries))
	for e := m.oldest; e != nil; e = e.newer {
		all = append(all, Kept[K, V]{e.key, e.value, e.touched})
	}
	return all
}

// Take remembers what another Map did, in its order and with its times, beside what
// there is.
func (m *Map[K, V]) Take(all []Kept[K, V]) {
	for _, k := range all {
		m.Put(k.Key, k.Value, k.Touched)
	}
}

func (m *Map[K, V]) over(e *entry[K, V], now time.Time) bool {
	return m.ttl > 0 && now.Sub(e.touched) > m.ttl
}

func (m *Map[K, V]) touch(e *entry[K, V], now time.Time) {
	if now.After(e.touched) {
		e.touched = now
	}
	if m.newest == e {
		return
	}
	m.unlink(e)
	m.link(e)
}

func (m *Map[K, V]) link(e *entry[K, V]) {
	e.older, e.newer = m.newest, nil
	if m.newest != nil {
		m.newest.newer = e
	}
	m.newest = e
	if m.oldest == nil {
		m.oldest = e
	}
}

func (m *Map[K, V]) unlink(e *entry[K, V]) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		m.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		m.oldest = e.newer
	}
}

func (m *Map[K, V]) drop(e *entry[K, V]) {
	m.unlink(e)
	delete(m.entries, e.key)
}
