package vulndb

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/klauspost/compress/s2"
)

// sorter sorts more than fits memory: it keeps what is added until it has
// runSize bytes of it, writes that down sorted, and at last merges all runs.
type sorter struct {
	dir     string
	runSize int
	data    []byte
	items   []item
	runs    []*os.File
	longest uint64 // key or value
}

// item is where a key and, behind it, its value are in data.
type item struct{ at, key, value uint32 }

// pair is a key and what belongs to it.
type pair struct{ key, value []byte }

const (
	defaultRun = 64 << 20  // with it, a million advisories take some thirty runs
	runBlock   = 256 << 10 // of compression; as many are in memory as there are runs
)

// add keeps a copy of key and value.
func (s *sorter) add(key, value []byte) error {
	if len(s.data)+len(key)+len(value) > s.runSize && len(s.items) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.items = append(s.items, item{uint32(len(s.data)), uint32(len(key)), uint32(len(value))})
	s.data = append(append(s.data, key...), value...)
	s.longest = max(s.longest, uint64(len(key)), uint64(len(value)))
	return nil
}

func (s *sorter) pair(i item) pair {
	value := i.at + i.key
	return pair{s.data[i.at:value], s.data[value : value+i.value]}
}

func comparePairs(a, b pair) int {
	if c := bytes.Compare(a.key, b.key); c != 0 {
		return c
	}
	return bytes.Compare(a.value, b.value)
}

func (s *sorter) sort() {
	slices.SortFunc(s.items, func(a, b item) int { return comparePairs(s.pair(a), s.pair(b)) })
}

// spill writes what is in memory to a file of its own.
func (s *sorter) spill() (err error) {
	s.sort()
	f, err := os.CreateTemp(s.dir, "run-*")
	if err != nil {
		return fmt.Errorf("spill advisories: %w", err)
	}
	s.runs = append(s.runs, f)
	w := s2.NewWriter(f, s2.WriterConcurrency(1), s2.WriterBlockSize(runBlock))
	var head []byte
	for _, i := range s.items {
		p := s.pair(i)
		head = binary.AppendUvarint(head[:0], uint64(len(p.key)))
		head = binary.AppendUvarint(head, uint64(len(p.value)))
		for _, b := range [][]byte{head, p.key, p.value} {
			if _, err := w.Write(b); err != nil {
				return fmt.Errorf("spill advisories: %w", err)
			}
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("spill advisories: %w", err)
	}
	s.data, s.items = s.data[:0], s.items[:0]
	return nil
}

// sorted returns everything in order, of its key and then of its value. What it
// yields is valid until the next is asked for.
func (s *sorter) sorted() iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		s.sort()
		if len(s.runs) == 0 {
			for _, i := range s.items {
				if !yield(s.pair(i), nil) {
					return
				}
			}
			return
		}
		if err := s.spill(); err != nil {
			yield(pair{}, err)
			return
		}
		s.data, s.items = nil, nil
		s.merge(yield)
	}
}

// run is one sorted file, and the pair that it stands at.
type run struct {
	r *bufio.Reader
	pair
	buffer  []byte
	longest uint64
}

func (r *run) next() error {
	key, err := binary.ReadUvarint(r.r)
	if err != nil {
		return err
	}
	value, err := binary.ReadUvarint(r.r)
	if err != nil {
		return err
	}
	if key > r.longest || value > r.longest {
		return errors.New("a run of sorted advisories is damaged")
	}
	r.buffer = slices.Grow(r.buffer[:0], int(key+value))[:key+value]
	if _, err := io.ReadFull(r.r, r.buffer); err != nil {
		return err
	}
	r.pair = pair{r.buffer[:key], r.buffer[key:]}
	return nil
}

// runs are a heap: the lowest pair is first.
type runs []*run

func (r runs) Len() int           { return len(r) }
func (r runs) Less(i, j int) bool { return comparePairs(r[i].pair, r[j].pair) < 0 }
func (r runs) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }

// Push is for heap.Interface.
func (r *runs) Push(x any) { *r = append(*r, x.(*run)) }

// Pop is for heap.Interface.
func (r *runs) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}

func (s *sorter) merge(yield func(pair, error) bool) {
	var h runs
	for _, f := range s.runs {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			yield(pair{}, fmt.Errorf("merge advisories: %w", err))
			return
		}
		r := &run{r: bufio.NewReaderSize(s2.NewReader(f, s2.ReaderMaxBlockSize(runBlock), s2.ReaderAllocBlock(runBlock)), 16<<10), longest: s.longest}
		if err := r.next(); err != nil {
			yield(pair{}, fmt.Errorf("merge advisories: %w", err))
			return
		}
		h = append(h, r)
	}
	heap.Init(&h)
	for len(h) > 0 {
		if !yield(h[0].pair, nil) {
			return
		}
		switch err := h[0].next(); {
		case err == io.EOF:
			heap.Pop(&h)
		case err != nil:
			yield(pair{}, fmt.Errorf("merge advisories: %w", err))
			return
		default:
			heap.Fix(&h, 0)
		}
	}
}

// close removes the files.
func (s *sorter) close() error {
	var errs []error
	for _, f := range s.runs {
		errs = append(errs, f.Close(), os.Remove(f.Name()))
	}
	s.runs = nil
	return errors.Join(errs...)
}
