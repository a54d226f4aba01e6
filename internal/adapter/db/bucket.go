package db

import (
	"cmp"
	"context"
	"slices"
)

// Paths and peers are as many as somebody likes to make up, and every new one
// would be a term of its own. They are put into buckets by their hash instead,
// which need no dictionary. A block holds at most a few hundred of the buckets,
// so asking for one path or peer reads about half a percent of the blocks in
// vain.
//
// A list that is kept by bucket first would be written to in a thousand places
// by a report of a thousand new paths. So marks are kept by segment first: a
// report writes to some fifty neighbouring pages, and a question asks every
// segment, 65,536 events, once.

// bucketDimension keeps paths and peers apart.
type bucketDimension int64

// The numbers and the hash are stored: never change them.
const (
	bucketPath bucketDimension = 0
	bucketPeer bucketDimension = 1

	buckets = 1 << 16 // of each
)

// segmentSize is in blocks. Stored, as the above.
const segmentSize = 256

func segmentOf(block int64) int64 { return block / segmentSize }

// bucketOf returns the bucket of a text, at least 1: FNV-1a, folded to 16 bits.
// Who makes texts collide slows down questions about them, no more.
func bucketOf(dim bucketDimension, text string) int64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(text); i++ {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	h ^= h >> 32
	h ^= h >> 16
	return 1 + int64(dim)*buckets + int64(h%buckets)
}

// maxFolders is how many folders of a path, from the root, have buckets of their
// own, so that the beginning of a path is found by them. Stored, as the above.
const maxFolders = 4

// eachFolder calls see with the folders that a path, or the beginning of one,
// lies in: "/etc/" and "/etc/ssl/" of "/etc/ssl/cert". Whatever a text is the
// beginning of has at least its folders.
func eachFolder(path string, see func(folder string)) {
	for i, n := 1, 0; i < len(path) && n < maxFolders; i++ {
		if path[i] == '/' {
			see(path[:i+1])
			n++
		}
	}
}

type bucketMark struct{ segment, bucket, block int64 }

// mark says that a bucket occurs in the newest block.
func (in *ingest) mark(bucket int64) {
	s := &in.w.state
	if _, ok := s.marked[bucket]; !ok {
		s.marked[bucket] = struct{}{}
		in.marks = append(in.marks, bucketMark{segmentOf(s.block), bucket, s.block})
	}
}

// flushMarks writes them in key order, as flushPostings.
func (in *ingest) flushMarks(ctx context.Context) error {
	slices.SortFunc(in.marks, func(a, b bucketMark) int {
		return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.block, b.block))
	})
	values := make([]any, 0, 3*len(in.marks))
	for _, m := range in.marks {
		values = append(values, m.segment, m.bucket, m.block)
	}
	return in.w.bulk(ctx, "INSERT INTO marks (segment, bucket, block) VALUES ",
		" ON CONFLICT (segment, bucket, block) DO NOTHING", 3, values)
}

const (
	sqlMarksDown = "SELECT block FROM marks WHERE segment = ? AND bucket = ? AND block <= ? ORDER BY block DESC"
	sqlMarksUp   = "SELECT block FROM marks WHERE segment = ? AND bucket = ? AND block >= ? ORDER BY block"
)

// segmentsOnce is how many segments one seek asks.
const segmentsOnce = 32

// bucketList finds the blocks in which a bucket occurs. After segmentsOnce
// segments without any it offers the block that it has come to: reading one
// block in vain keeps the walk, and so the page, going on.
type bucketList struct {
	s      *snapshot
	pay    *budget
	dir    direction
	bucket int64

	begun bool
	next  int64 // segment that was not asked yet
	last  int64 // segment with the last marks of all
	buf   []int64
}

func (l *bucketList) seek(ctx context.Context, from int64) (int64, bool, error) {
	if err := l.begin(ctx, from); err != nil {
		return 0, false, err
	}
	step := int64(-1)
	if l.dir == up {
		step = 1
	}
	for asked := 0; ; asked++ {
		l.buf = slices.DeleteFunc(l.buf, func(b int64) bool { return l.dir.before(b, from) })
		if len(l.buf) > 0 {
			return l.buf[0], true, nil
		}
		if l.dir.before(l.next, segmentOf(from)) {
			l.next = segmentOf(from)
		}
		if l.dir.before(l.last, l.next) {
			return 0, false, nil
		}
		if asked == segmentsOnce {
			l.buf = []int64{l.edge(from)}
			continue
		}
		found, err := l.s.blocks(ctx, l.pay, pick(l.dir, sqlMarksDown, sqlMarksUp), l.next, l.bucket, from)
		if err != nil {
			return 0, false, err
		}
		l.buf = found
		l.next += step
	}
}

// edge returns the first block of the next segment, on the way.
func (l *bucketList) edge(from int64) int64 {
	if segmentOf(from) == l.next {
		return from
	}
	if l.dir == up {
		return l.next * segmentSize
	}
	return l.next*segmentSize + segmentSize - 1
}

// begin looks where marks end, once.
func (l *bucketList) begin(ctx context.Context, from int64) error {
	if l.begun {
		return nil
	}
	l.begun, l.next = true, segmentOf(from)
	query := pick(l.dir, "SELECT coalesce(min(segment), ?) FROM marks", "SELECT coalesce(max(segment), ?) FROM marks")
	// Without any marks the end lies before the beginning.
	none := l.next + 1
	if l.dir == up {
		none = l.next - 1
	}
	return l.s.row(ctx, query, []any{none}, &l.last)
}

// pruneMarks removes those of segments whose blocks are all gone.
func pruneMarks(ctx context.Context, w *writer) (int64, bool, error) {
	oldest, err := w.oldestBlock(ctx)
	if err != nil {
		return 0, false, err
	}
	n, err := w.exec(ctx, `DELETE FROM marks WHERE (segment, bucket, block) IN
		(SELECT segment, bucket, block FROM marks WHERE segment < ? LIMIT ?)`, segmentOf(oldest), pruneRows)
	return 0, n == pruneRows, err // not counted: they are an index
}
