package yara

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
)

// File is what is known of a file that is looked at.
type File struct {
	Path string // with slashes; as the external variables have it
	Size int64
	// Whole is called with the content of a file that meets a rule, if all of it
	// is at hand, as of small ones; nil: it is not.
	Whole func([]byte)
}

// Span is a part of a file.
type Span struct{ From, To int64 }

// Skipper is a reader that can pass over bytes at no cost.
type Skipper interface{ Skip(n int64) }

const (
	// bufferSize is how much of a file is held at once.
	bufferSize = 128 << 10
	// smallHead of a file's beginning is kept for rules that ask what stands there,
	// largeHead if one asks where only the file tells.
	smallHead = 4 << 10
	largeHead = 64 << 10
	// maxHits is how many places of one string are known; more count as so many.
	maxHits = 1000
	// maxSteps and perByte are what one file may cost: a second of a processor, and
	// two for each 100 MB. Files that reach it are made to.
	maxSteps = 100_000_000
	perByte  = 2
)

// ErrCostly says that a file was not looked at to its end, because it took too
// long.
var ErrCostly = errors.New("it takes more time than a file is given; it was not looked at to its end")

// hit is where a string stands.
type hit struct {
	at     int64
	length int
}

// scanning is one file that is looked at.
type scanning struct {
	r    *Rules
	file File

	buf  []byte
	hi   int   // of what is read in buf, its end
	base int64 // of buf in the file
	next int   // the first place in buf that the filter has not looked at
	done bool  // all is read
	cut  bool  // of the file only the beginning was looked at
	// from is where in the file the bytes begin that hang together with those in
	// the buffer.
	from int64
	head []byte

	hits    [][]hit
	touched []int
	machine machine
	// of conditions
	current int // the string that $ stands for
	loops   []int64
	verdict []int8 // of rules
}

// scanPool keeps what scans need.
type scanPool struct {
	rules *Rules
	pool  sync.Pool
}

func (p *scanPool) get() *scanning {
	if s, ok := p.pool.Get().(*scanning); ok {
		return s
	}
	return &scanning{r: p.rules, buf: make([]byte, bufferSize), head: make([]byte, 0, p.rules.headSize), hits: make([][]hit, len(p.rules.patterns)), verdict: make([]int8, len(p.rules.rules))}
}

func (p *scanPool) put(s *scanning) {
	for _, n := range s.touched {
		s.hits[n] = s.hits[n][:0]
	}
	clear(s.verdict)
	*s = scanning{r: s.r, buf: s.buf, head: s.head[:0], hits: s.hits, touched: s.touched[:0], verdict: s.verdict,
		machine: machine{now: s.machine.now, then: s.machine.then, stack: s.machine.stack}, loops: s.loops[:0]}
	p.pool.Put(s)
}

// Scan looks at a file, without the parts that are in skip, which are in order,
// and returns the rules that it meets, in their order. It returns the errors of r
// and ctx. With ErrCostly, which may be wrapped, it returns what it found. If in
// ends before f.Size, only the beginning of the file is known.
func (r *Rules) Scan(ctx context.Context, f File, in io.Reader, skip []Span) ([]*Rule, error) {
	s := r.pool.get()
	defer r.pool.put(s)
	s.file, s.machine.steps, s.current = f, maxSteps+perByte*int(min(f.Size, math.MaxInt32)), -1
	for !s.done {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.fill(in, &skip); err != nil {
			return nil, err
		}
		s.look()
		if s.machine.steps < 0 {
			break
		}
	}
	s.cut = !s.done || s.short()
	met := s.judge()
	if f.Whole != nil && len(met) > 0 && s.done && s.base == 0 {
		f.Whole(s.buf[:s.hi])
	}
	if s.machine.steps < 0 {
		return met, fmt.Errorf("%d rules met: %w", len(met), ErrCostly)
	}
	return met, nil
}

// short says that there is more of the file than is read.
func (s *scanning) short() bool { return s.base+int64(s.hi) < s.file.Size }

// fill reads until the buffer is full, the file or a part of it ends.
func (s *scanning) fill(in io.Reader, skip *[]Span) error {
	s.slide()
	for s.hi < len(s.buf) {
		at := s.base + int64(s.hi)
		to := len(s.buf)
		if len(*skip) > 0 {
			span := (*skip)[0]
			if at >= span.From {
				*skip = (*skip)[1:]
				if span.To <= at {
					continue
				}
				s.finish() // with what hangs together
				if err := s.pass(in, span.To-at); err != nil {
					return err
				}
				continue
			}
			to = s.hi + int(min(span.From-at, int64(len(s.buf)-s.hi)))
		}
		n, err := in.Read(s.buf[s.hi:to])
		s.keepHead(s.buf[s.hi:s.hi+n], at)
		s.hi += n
		if err == io.EOF {
			s.done = true
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// slide moves what is still needed to the beginning of the buffer.
func (s *scanning) slide() {
	keep := max(0, s.next-reach)
	if keep == 0 {
		return
	}
	copy(s.buf, s.buf[keep:s.hi])
	s.base += int64(keep)
	s.hi -= keep
	s.next -= keep
}

// finish looks at what is in the buffer to its end, because what follows does not
// hang together with it.
func (s *scanning) finish() {
	s.filter(s.hi)
	s.next = s.hi
}

// pass goes on behind a part that is not looked at.
func (s *scanning) pass(in io.Reader, n int64) error {
	at := s.base + int64(s.hi)
	if k, ok := in.(Skipper); ok {
		k.Skip(n)
	} else if _, err := io.CopyN(io.Discard, in, n); err != nil && err != io.EOF {
		return err
	}
	s.base, s.hi, s.next, s.from = at+n, 0, 0, at+n
	return nil
}

func (s *scanning) keepHead(b []byte, at int64) {
	if room := cap(s.head) - len(s.head); room > 0 && at == int64(len(s.head)) {
		s.head = append(s.head, b[:min(room, len(b))]...)
	}
}

// look lets the filter look at what can be judged with what is in the buffer.
func (s *scanning) look() {
	if s.done {
		s.filter(s.hi)
		return
	}
	to := s.next + max(0, s.hi-reach-s.next)&^(maxStride-1)
	s.filter(to)
	s.next = to
}

func (s *scanning) filter(to int) {
	w := s.window()
	s.r.filter.each(w.b, s.next, to, func(t *target, at int) {
		if s.machine.steps > 0 {
			s.try(t, w, at)
		}
	})
}

func (s *scanning) window() window {
	return window{b: s.buf[:s.hi], at: s.base, toStart: s.base == 0, toEnd: s.done && !s.short(), open: s.done && s.short()}
}

// try looks whether a string stands where its fixed bytes may.
func (s *scanning) try(t *target, w window, at int) {
	x := s.r.patterns[t.pattern]
	if n := len(s.hits[t.pattern]); n > 0 && !x.counted || n >= maxHits {
		return
	}
	s.machine.steps -= 1 + len(t.text)
	if !t.at(w.b, at) {
		return
	}
	if t.literal != nil {
		if !t.literal.fullword || w.alone(at, at+len(t.text), t.literal.wide) {
			s.found(t.pattern, hit{w.at + int64(at), len(t.text)})
		}
		return
	}
	lo, hi := at-t.atom.most, at-t.atom.least
	for lo < 0 {
		lo += t.program.step
	}
	if lo > hi {
		return
	}
	for {
		from, to, ok := s.machine.match(t.program, w, lo, hi)
		if !ok {
			return
		}
		s.found(t.pattern, hit{w.at + int64(from), to - from})
		if lo = from + t.program.step; lo > hi || !x.counted || len(s.hits[t.pattern]) >= maxHits {
			return
		}
	}
}

// found records a place, in the order of the file and once.
func (s *scanning) found(pattern int, h hit) {
	hits := s.hits[pattern]
	if len(hits) == 0 {
		s.touched = append(s.touched, pattern)
	}
	i := len(hits)
	for i > 0 && hits[i-1].at > h.at {
		i--
	}
	if i > 0 && hits[i-1].at == h.at {
		hits[i-1].length = max(hits[i-1].length, h.length)
		return
	}
	s.machine.steps -= len(hits) - i
	s.hits[pattern] = slices.Insert(hits, i, h)
}

// stands says whether a string that is not looked for stands at a place that is
// kept.
func (s *scanning) stands(x *pattern, at int64) bool {
	w, ok := s.kept(at)
	if !ok {
		return false
	}
	pos := int(at - w.at)
	for _, l := range x.literals {
		if standsAt(w.b, pos, l.text, l.fold) && (!l.fullword || w.alone(pos, pos+len(l.text), l.wide)) {
			return true
		}
	}
	for i := range x.programs {
		if _, _, ok := s.machine.match(&x.programs[i], w, pos, pos); ok {
			return true
		}
	}
	return false
}

// kept returns the part of the file around a place, if it is still there: its
// beginning, or what was read last.
func (s *scanning) kept(at int64) (window, bool) {
	switch {
	case at < 0:
	case at < int64(len(s.head)):
		return window{b: s.head, toStart: true, toEnd: int64(len(s.head)) >= s.file.Size}, true
	case at >= max(s.base, s.from) && at < s.base+int64(s.hi):
		return s.window(), true
	}
	return window{}, false
}

// integer reads an integer of n bytes at a place; it is false where that is not
// known.
func (s *scanning) integer(at int64, n int, big, signed bool) (int64, bool) {
	w, ok := s.kept(at)
	if !ok || int(at-w.at)+n > len(w.b) {
		return 0, false
	}
	b := w.b[at-w.at:][:n]
	var v uint64
	for i := range b {
		c := b[i]
		if !big {
			c = b[n-1-i]
		}
		v = v<<8 | uint64(c)
	}
	if signed {
		shift := 64 - 8*n
		return int64(v<<shift) >> shift, true
	}
	return int64(v), true
}
