package db

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// dimension keeps terms with the same text and different meaning apart. The
// numbers are stored: never change or reuse one.
type dimension int64

const (
	dimAgent      dimension = 1
	dimWorkload   dimension = 2
	dimGroup      dimension = 3
	dimKind       dimension = 4
	dimExecutable dimension = 5
	dimOrigin     dimension = 6
	dimFlag       dimension = 7
	dimWord       dimension = 8
)

// The terms of dimFlag.
const (
	flagEntered = "entered"
	// flagWordy marks a block with more words than are indexed, so that it
	// stays a candidate for every search.
	flagWordy = "wordy"
	// flagPath and flagPeer mark blocks with any path or peer.
	flagPath = "path"
	flagPeer = "peer"
)

type termKey struct {
	dim   dimension
	value string
}

// maxTerms bounds the writer's dictionary in memory: some 30 MiB. When it is
// full it starts again empty; what is in use comes back with one read each.
const maxTerms = 200_000

// term returns the id of a term, making it if it is new.
func (w *writer) term(ctx context.Context, dim dimension, value string) (int64, error) {
	key := termKey{dim, value}
	if id, ok := w.state.terms[key]; ok {
		return id, nil
	}
	id := w.state.nextTerm
	n, err := w.exec(ctx, "INSERT INTO terms (id, dimension, value) VALUES (?, ?, ?) ON CONFLICT (dimension, value) DO NOTHING",
		id, int64(dim), value)
	if err != nil {
		return 0, err
	}
	if n == 1 {
		w.state.nextTerm++
	} else if err := w.row(ctx, sqlTermID, []any{int64(dim), value}, &id); err != nil {
		return 0, err
	}
	w.remember(key, id)
	return id, nil
}

// known returns the id of a term, 0 when there is none.
func (w *writer) known(ctx context.Context, dim dimension, value string) (int64, error) {
	key := termKey{dim, value}
	if id, ok := w.state.terms[key]; ok {
		return id, nil
	}
	var id int64
	err := w.row(ctx, sqlTermID, []any{int64(dim), value}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err == nil {
		w.remember(key, id)
	}
	return id, err
}

func (w *writer) remember(key termKey, id int64) {
	if len(w.state.terms) >= maxTerms {
		clear(w.state.terms)
	}
	w.state.terms[key] = id
}

const (
	sqlTermID    = "SELECT id FROM terms WHERE dimension = ? AND value = ?"
	sqlTermValue = "SELECT value FROM terms WHERE id = ?"
	// sqlTermRange finds the terms that begin with a text: from it, to below
	// the next text of the same length.
	sqlTermRange = "SELECT id FROM terms WHERE dimension = ? AND value >= ? AND value < ? ORDER BY value LIMIT ?"
	sqlTermFrom  = "SELECT id FROM terms WHERE dimension = ? AND value >= ? ORDER BY value LIMIT ?"
)

// termID returns 0 for a term that never occurred.
func (s *snapshot) termID(ctx context.Context, dim dimension, value string) (int64, error) {
	var id int64
	err := s.row(ctx, sqlTermID, []any{int64(dim), value}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return id, err
}

// termsBeginning returns at most limit terms that begin with prefix.
func (s *snapshot) termsBeginning(ctx context.Context, dim dimension, prefix string, limit int) ([]int64, error) {
	query, args := sqlTermFrom, []any{int64(dim), prefix, limit}
	if end, ok := after(prefix); ok {
		query, args = sqlTermRange, []any{int64(dim), prefix, end, limit}
	}
	var ids []int64
	err := s.query(ctx, query, args, func(r *sql.Rows) (bool, error) {
		var id int64
		if err := r.Scan(&id); err != nil {
			return false, err
		}
		ids = append(ids, id)
		return true, nil
	})
	return ids, err
}

// after returns the least text above all that begin with prefix; false when
// there is none.
func after(prefix string) (string, bool) {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1]), true
		}
	}
	return "", false
}

// maxNames bounds the readers' dictionary, by its entries' text: 32 MiB.
const maxNames = 32 << 20

// nameCache remembers texts by id. Ids are never used again and texts never
// change, so nothing in it can be out of date.
type nameCache struct {
	mu    sync.Mutex
	texts map[int64]string
	bytes int
}

func (c *nameCache) get(id int64) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.texts[id]
	return s, ok
}

func (c *nameCache) put(id int64, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.texts == nil || c.bytes > maxNames {
		c.texts, c.bytes = map[int64]string{}, 0
	}
	const overhead = 64 // of a map entry
	c.texts[id] = text
	c.bytes += len(text) + overhead
}

// text returns the value of a term.
func (s *snapshot) text(ctx context.Context, id int64) (string, error) {
	if t, ok := s.d.names.get(id); ok {
		return t, nil
	}
	var t string
	if err := s.row(ctx, sqlTermValue, []any{id}, &t); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return "", corrupt(s.d.path, errors.New("an event names a term that is not there"))
		}
		return "", err
	}
	s.d.names.put(id, t)
	return t, nil
}
