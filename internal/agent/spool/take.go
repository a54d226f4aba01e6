package spool

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

// take fills the hand with the oldest events, n at most and no more than
// reportSize bytes but for a single large one.
func (s *Spool) take(n int) {
	s.mu.Lock()
	s.hand = batch{}
	if s.disk.waiting == uint64(s.mem.len()-s.mem.only) {
		s.takeMemory(n)
		s.mu.Unlock()
		for i := range s.cursors {
			s.cursors[i].close()
		}
		return
	}
	p := s.plan()
	s.mu.Unlock()
	// Reading waits for the disk, and pushing must not wait for that.
	got := s.read(&p, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commit(&p, got)
}

func (s *Spool) takeMemory(n int) {
	m := &s.mem
	n = min(n, m.len())
	total := 0
	for i := range n {
		if total += size(&m.events[m.head+i]); total > reportSize && i > 0 {
			n = i
			break
		}
	}
	if n == 0 {
		return
	}
	s.hand = batch{boot: s.boot, events: slices.Clone(m.events[m.head : m.head+n]), in: slices.Clone(m.in[m.head : m.head+n])}
	for _, seg := range s.hand.in {
		if seg != nil {
			seg.waiting--
			s.disk.waiting--
		}
	}
	if k := len(s.disk.boots); k > 0 {
		s.disk.boots[k-1].taken = s.hand.events[n-1].Seq
	}
	m.forget(n)
}

// plan is what may be read, as it was when the lock was held.
type plan struct {
	root     *os.Root
	boot     *boot
	after    uint64 // the newest event handed out
	stop     uint64 // the oldest event in memory
	segs     [2][]planned
	evicted  uint64
	complete bool // everything in it was read
}

// planned is a segment up to where it was written.
type planned struct {
	seg  *segment
	size int64
}

// plan returns what the oldest start has to read.
func (s *Spool) plan() plan {
	p := plan{root: s.disk.root, stop: math.MaxUint64, evicted: s.mem.evicted}
	for _, b := range s.disk.boots {
		p.boot, p.after = b, b.taken
		some := false
		for i := range b.series {
			p.segs[i] = nil
			for _, seg := range b.series[i].segs {
				if seg.waiting == 0 && len(p.segs[i]) == 0 {
					continue
				}
				some = true
				p.segs[i] = append(p.segs[i], planned{seg, seg.size})
			}
		}
		if some {
			break
		}
	}
	if p.boot.current && s.mem.len() > 0 {
		p.stop = s.mem.events[s.mem.head].Seq
	}
	return p
}

// found is an event that was read; bad when only its number could be.
type found struct {
	event event.Event
	seg   *segment
	bad   bool
}

// read merges the two series of a plan.
func (s *Spool) read(p *plan, n int) (got []found) {
	total := 0
	for len(got) < n {
		var next *cursor
		for i := range s.cursors {
			c := &s.cursors[i]
			if c.advance(p, i) && (next == nil || c.head.seq < next.head.seq) {
				next = c
			}
		}
		if next == nil || next.head.seq >= p.stop {
			p.complete = true
			return got
		}
		e, err := link.DecodeEvent(next.head.body)
		if total += size(&e); total > reportSize && len(got) > 0 {
			return got
		}
		e.Seq, e.Boot = next.head.seq, p.boot.id
		got = append(got, found{event: e, seg: next.seg, bad: err != nil})
		next.has = false
		p.after = e.Seq
	}
	return got
}

// commit puts into the hand what was read and is not dropped meanwhile, and
// counts what should have been there.
func (s *Spool) commit(p *plan, got []found) {
	s.hand.boot = p.boot.id
	for i := range got {
		g := &got[i]
		if g.seg.gone {
			continue
		}
		if g.bad {
			s.settle(g.seg, g.seg.waiting-1)
			continue
		}
		g.seg.waiting--
		s.disk.waiting--
		s.hand.events, s.hand.in = append(s.hand.events, g.event), append(s.hand.in, g.seg)
	}
	p.boot.taken = p.after
	// What memory holds is not read; while events were evicted from it, it
	// cannot be told which those were, and next time it can.
	whole := p.complete && p.evicted == s.mem.evicted
	held := map[*segment]uint64{}
	if whole {
		for _, seg := range s.mem.in[s.mem.head:] {
			held[seg]++
		}
	}
	for i, segs := range p.segs {
		for _, pl := range segs {
			if !whole && pl.seg == s.cursors[i].seg {
				break // this one and those after it are not read to their end
			}
			if !pl.seg.gone && pl.seg.waiting > held[pl.seg] {
				s.settle(pl.seg, held[pl.seg])
			}
		}
	}
}

// settle counts as damaged what of a segment's waiting events is more than n.
func (s *Spool) settle(seg *segment, n uint64) {
	lost := seg.waiting - n
	s.lost[LostDamaged] += lost
	s.disk.waiting -= lost
	seg.waiting -= lost
	if seg.left -= lost; seg.left == 0 && !seg.open {
		s.disk.remove(seg, s.log)
	}
}

// cursor is a place in one series. Only the taking goroutine uses it.
type cursor struct {
	seg  *segment
	in   upTo
	scan *scanner
	last uint64 // number of the newest record read
	head record // the next one, if has
	has  bool
}

// advance makes sure that head is the next record after p.after; false when
// there is none.
func (c *cursor) advance(p *plan, series int) bool {
	segs := p.segs[series]
	at := slices.IndexFunc(segs, func(pl planned) bool { return pl.seg == c.seg })
	if at < 0 { // another start, or dropped
		if c.close(); len(segs) == 0 {
			return false
		}
		at = 0
		c.start(p, segs[at])
	}
	c.in.size = segs[at].size
	for {
		if c.has && c.head.seq > p.after {
			return true
		}
		c.has = false
		if c.scan != nil {
			if rec, ok := c.scan.scan(); ok {
				if rec.seq > c.last {
					c.last, c.head, c.has = rec.seq, rec, true
				}
				continue
			}
		}
		if at++; at == len(segs) {
			return false
		}
		last := c.last
		c.close()
		c.start(p, segs[at])
		c.last = last
	}
}

// start opens a segment; one that can't be read has no records.
func (c *cursor) start(p *plan, pl planned) {
	if err := c.open(p.root, pl.seg, pl.size); err != nil {
		c.seg, c.scan = pl.seg, nil
	}
}

func (c *cursor) open(root *os.Root, seg *segment, size int64) error {
	f, err := root.Open(seg.path)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	c.seg, c.in = seg, upTo{f: f, size: size}
	c.scan = newScanner(&c.in, seg.key)
	return nil
}

// close lets the file go; the memory for reading, too.
func (c *cursor) close() {
	if c.in.f != nil {
		_ = c.in.f.Close() // it was only read
	}
	*c = cursor{}
}

// upTo reads a file up to a size that may grow.
type upTo struct {
	f        *os.File
	at, size int64
}

// Read is io.Reader.
func (u *upTo) Read(b []byte) (int, error) {
	if u.at >= u.size {
		return 0, io.EOF
	}
	n, err := u.f.ReadAt(b[:min(int64(len(b)), u.size-u.at)], u.at)
	u.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}
