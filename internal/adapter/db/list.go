package db

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
)

// Lists name the blocks in which something occurs. A query meets the lists of
// its filters: it asks each in turn for its nearest block at or beyond the one
// the others have reached, until all agree (a leapfrog join). What is rare
// leads by itself, and nobody has to guess which list is short.

// budget bounds what one query reads, in rows of any table.
type budget struct{ left int }

// errSpent says that the budget is used up; the page becomes a partial one.
var errSpent = errors.New("the budget of reads is spent")

// maxReads is the budget of a query: about 50 ms on one core of a small
// machine. statementCost is what starting a statement costs, in rows, and
// searchCost what comparing the text of a row costs.
const (
	maxReads      = 100_000
	statementCost = 25
	searchCost    = 1
)

func (b *budget) spend(rows int) error {
	b.left -= rows
	if b.left < 0 {
		return errSpent
	}
	return nil
}

// direction is the way a query walks: down to older ids, or up to newer ones.
type direction bool

const (
	down direction = false
	up   direction = true
)

// before reports whether a walk comes to block a before it comes to b.
func (d direction) before(a, b int64) bool {
	if d == up {
		return a < b
	}
	return a > b
}

// list is a way to find blocks.
type list interface {
	// seek returns the nearest block at or beyond from; false when there is
	// none. Calls never go back.
	seek(ctx context.Context, from int64) (int64, bool, error)
}

// The first fetch of a cursor is small, because most queries are answered by
// the newest blocks; while a walk goes on step by step it grows.
const (
	firstFetch = 16
	maxFetch   = 1_024
)

// cursor is a list that one statement answers, read in pieces.
type cursor struct {
	dir direction
	// fetch returns at most n blocks at or beyond from, in walking order.
	fetch func(ctx context.Context, from int64, n int) ([]int64, error)
	buf   []int64
	size  int
	whole bool // buf reaches to the end of the list
}

func (c *cursor) seek(ctx context.Context, from int64) (int64, bool, error) {
	for {
		i, _ := slices.BinarySearchFunc(c.buf, from, func(b, from int64) int {
			if c.dir.before(b, from) {
				return -1
			}
			return 1
		})
		c.buf = c.buf[i:]
		if len(c.buf) > 0 {
			return c.buf[0], true, nil
		}
		if c.whole {
			return 0, false, nil
		}
		c.size = min(max(2*c.size, firstFetch), maxFetch)
		var err error
		if c.buf, err = c.fetch(ctx, from, c.size); err != nil {
			return 0, false, err
		}
		c.whole = len(c.buf) < c.size
	}
}

// anyOf is the union of lists.
type anyOf []list

func (a anyOf) seek(ctx context.Context, from int64) (int64, bool, error) {
	if len(a) == 1 {
		return a[0].seek(ctx, from)
	}
	var nearest int64
	found := false
	for _, l := range a {
		b, ok, err := l.seek(ctx, from)
		if err != nil {
			return 0, false, err
		}
		if ok && b == from {
			return b, true, nil
		}
		// Walking order is the same for all, so the distance tells the nearest.
		if ok && (!found || abs(b-from) < abs(nearest-from)) {
			nearest, found = b, true
		}
	}
	return nearest, found, nil
}

func abs(n int64) int64 { return max(n, -n) }

// meet returns the nearest block at or beyond from that is in all lists. On an
// error the block is where the walk had come to.
func meet(ctx context.Context, lists []list, from int64) (int64, bool, error) {
	for agreed := 0; agreed < len(lists); {
		agreed = 0
		for _, l := range lists {
			b, ok, err := l.seek(ctx, from)
			if err != nil || !ok {
				return from, false, err
			}
			if b != from {
				from = b
				break
			}
			agreed++
		}
	}
	return from, true, nil
}

const (
	sqlPostingsDown = "SELECT block FROM postings WHERE term = ? AND block <= ? ORDER BY block DESC LIMIT ?"
	sqlPostingsUp   = "SELECT block FROM postings WHERE term = ? AND block >= ? ORDER BY block LIMIT ?"
	sqlProcessDown  = `SELECT id FROM events WHERE process_start = ? AND process_pid = ? AND id <= ?
		ORDER BY id DESC LIMIT ?`
	sqlProcessUp = `SELECT id FROM events WHERE process_start = ? AND process_pid = ? AND id >= ?
		ORDER BY id LIMIT ?`
	sqlBlocksDown = "SELECT id FROM blocks WHERE id <= ? AND max_time >= ? AND min_time < ? ORDER BY id DESC LIMIT ?"
	sqlBlocksUp   = "SELECT id FROM blocks WHERE id >= ? AND max_time >= ? AND min_time < ? ORDER BY id LIMIT ?"
)

func pick(dir direction, whenDown, whenUp string) string {
	if dir == up {
		return whenUp
	}
	return whenDown
}

// blocks runs a statement of the above and pays for it.
func (s *snapshot) blocks(ctx context.Context, pay *budget, query string, args ...any) ([]int64, error) {
	var found []int64
	err := s.query(ctx, query, args, func(r *sql.Rows) (bool, error) {
		var b int64
		if err := r.Scan(&b); err != nil {
			return false, err
		}
		found = append(found, b)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return found, pay.spend(statementCost + len(found))
}

// termList finds the blocks in which a term occurs.
func (s *snapshot) termList(pay *budget, dir direction, term int64) list {
	query := pick(dir, sqlPostingsDown, sqlPostingsUp)
	return &cursor{dir: dir, fetch: func(ctx context.Context, from int64, n int) ([]int64, error) {
		return s.blocks(ctx, pay, query, term, from, n)
	}}
}

// timeList finds the blocks that have an event of [since, until) by their
// outermost times.
func (s *snapshot) timeList(pay *budget, dir direction, since, until int64) list {
	query := pick(dir, sqlBlocksDown, sqlBlocksUp)
	return &cursor{dir: dir, fetch: func(ctx context.Context, from int64, n int) ([]int64, error) {
		return s.blocks(ctx, pay, query, from, since, until, n)
	}}
}

// processList finds the blocks with events of a process.
func (s *snapshot) processList(pay *budget, dir direction, key event.Key) list {
	query := pick(dir, sqlProcessDown, sqlProcessUp)
	return &cursor{dir: dir, fetch: func(ctx context.Context, from int64, n int) ([]int64, error) {
		id := firstOf(from)
		if dir == down {
			id = lastOf(from)
		}
		ids, err := s.blocks(ctx, pay, query, int64(key.Start), int64(key.PID), id, n)
		for i := range ids {
			ids[i] = blockOf(ids[i])
		}
		return ids, err
	}}
}
