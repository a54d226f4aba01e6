package yara

import "regexp/syntax"

// window is a part of a file.
type window struct {
	b       []byte
	at      int64 // of b in the file
	toStart bool  // b begins where the file does
	toEnd   bool  // and ends where it does
	open    bool  // the file goes on, and nobody knows with what
}

// machine runs expressions on bytes: all ways through the expression at once, so
// that none costs more than its steps times the bytes that a match may have.
type machine struct {
	now, then queue
	stack     []uint32
	steps     int // that are left for this file
}

// thread is a place in an expression, and where in the window its match began.
type thread struct {
	pc   uint32
	from int
}

// queue holds the threads in the order of their beginnings, each place once.
type queue struct {
	sparse []uint32
	dense  []thread
}

func (q *queue) reset(n int) {
	if cap(q.sparse) < n {
		q.sparse = make([]uint32, n)
	}
	q.sparse = q.sparse[:n]
	q.dense = q.dense[:0]
}

func (q *queue) has(pc uint32) bool {
	j := q.sparse[pc]
	return int(j) < len(q.dense) && q.dense[j].pc == pc
}

func (q *queue) add(pc uint32, from int) {
	q.sparse[pc] = uint32(len(q.dense))
	q.dense = append(q.dense, thread{pc, from})
}

// match finds the first match that begins from lo to hi, both places in the
// window, and the longest one from there.
func (m *machine) match(p *program, w window, lo, hi int) (from, to int, ok bool) {
	n := len(p.prog.Inst)
	m.now.reset(n)
	m.then.reset(n)
	from = -1
	last := min(len(w.b), hi+maxMatch*p.step)
	for pos := lo; pos <= last; pos += p.step {
		if from < 0 && pos <= hi {
			m.follow(&m.now, p, w, uint32(p.prog.Start), pos, pos)
		}
		if len(m.now.dense) == 0 {
			if from >= 0 || pos+p.step > hi {
				break
			}
			continue
		}
		m.steps -= len(m.now.dense)
		c, more := p.at(w, pos)
		for _, t := range m.now.dense {
			inst := &p.prog.Inst[t.pc]
			if inst.Op == syntax.InstMatch {
				if (from < 0 || t.from <= from) && p.stands(w, t.from, pos) {
					from, to = t.from, pos
				}
				continue
			}
			if more && (from < 0 || t.from <= from) && pos-t.from < maxMatch*p.step && consumes(inst, c) {
				m.follow(&m.then, p, w, inst.Out, t.from, pos+p.step)
			}
		}
		m.now, m.then = m.then, m.now
		m.then.dense = m.then.dense[:0]
		if m.steps < 0 {
			break
		}
	}
	return from, to, from >= 0
}

// at is the character at a place, if it has one.
func (p *program) at(w window, pos int) (byte, bool) {
	if pos+p.step > len(w.b) || p.step == 2 && w.b[pos+1] != 0 {
		return 0, false
	}
	return w.b[pos], true
}

func consumes(inst *syntax.Inst, c byte) bool {
	switch inst.Op {
	case syntax.InstRune1:
		return inst.Rune[0] == rune(c)
	case syntax.InstRuneAny:
		return true
	case syntax.InstRuneAnyNotNL:
		return c != '\n'
	case syntax.InstRune:
		return inst.MatchRune(rune(c))
	}
	return false
}

// follow adds a place and all that are reached from it without a byte.
func (m *machine) follow(q *queue, p *program, w window, pc uint32, from, pos int) {
	m.stack = append(m.stack[:0], pc)
	for len(m.stack) > 0 {
		pc := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		if q.has(pc) {
			continue
		}
		m.steps--
		switch inst := &p.prog.Inst[pc]; inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			q.add(pc, from) // it is known, and consumes nothing
			m.stack = append(m.stack, inst.Arg, inst.Out)
		case syntax.InstCapture, syntax.InstNop:
			q.add(pc, from)
			m.stack = append(m.stack, inst.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(inst.Arg)&^p.borders(w, pos) == 0 {
				q.add(pc, from)
				m.stack = append(m.stack, inst.Out)
			}
		case syntax.InstFail:
		default:
			q.add(pc, from)
		}
	}
}

// borders says what lies between the characters at a place.
func (p *program) borders(w window, pos int) syntax.EmptyOp {
	before, after := rune(-1), rune(-1)
	switch {
	case pos >= p.step:
		before = rune(w.b[pos-p.step])
	case !w.toStart:
		before = 0 // there is something
	}
	switch {
	case pos < len(w.b):
		after = rune(w.b[pos])
	case !w.toEnd:
		after = 0
	}
	return syntax.EmptyOpContext(before, after)
}

// stands says whether what is around a match lets it be a word of its own, where
// that is asked for.
func (p *program) stands(w window, from, to int) bool {
	return !p.fullword || w.alone(from, to, p.step == 2)
}

// alone says whether neither letters nor digits are next to a part of the window.
func (w *window) alone(from, to int, wide bool) bool {
	if w.open && to >= len(w.b) {
		return false
	}
	if !wide {
		return (from < 1 || !isAlnum(w.b[from-1])) && (to >= len(w.b) || !isAlnum(w.b[to]))
	}
	return (from < 2 || w.b[from-1] != 0 || !isAlnum(w.b[from-2])) && (to+1 >= len(w.b) || w.b[to+1] != 0 || !isAlnum(w.b[to]))
}
