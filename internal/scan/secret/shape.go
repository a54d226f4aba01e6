package secret

import (
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// A rule's expression is too slow for all bytes. Its keywords say where it may
// match, and its shape says more: which bytes must stand beside the keyword, and
// how far a match can reach from it. Both are read from the expression itself,
// so that nothing it would find is missed.
//
// An expression is taken apart into sequences, one a way through its
// alternatives. Each is a row of atoms: one byte of a set, or a gap of bounded
// or unbounded width. Where a keyword is the only thing that some atoms in a row
// can be, it is the sequence's anchor: whatever the sequence matches has the
// keyword there.

// byteSet is a set of bytes.
type byteSet [4]uint64

func (s *byteSet) add(b byte)      { s[b>>6] |= 1 << (b & 63) }
func (s *byteSet) has(b byte) bool { return s[b>>6]&(1<<(b&63)) != 0 }

// atom is one byte of a set, a gap, or what stands between bytes.
type atom struct {
	kind atomKind
	// set is of the one byte, or of all bytes that a gap may have; nil: any.
	set *byteSet
	extent
}

// extent is how much something may match; a negative number is without bound.
type extent struct{ min, max, lines int }

// anyRune is one sign of any width.
func anyRune(lines int) sequence {
	return sequence{{kind: gap, extent: extent{1, utf8.UTFMax, lines}}}
}

type atomKind uint8

const (
	oneByte atomKind = iota
	gap
	wordBoundary
)

const (
	// maxSequences bounds the ways through one expression; alternatives beyond
	// become gaps.
	maxSequences = 96
	// maxCopies bounds how many bytes of one repetition are kept as atoms.
	maxCopies = 24
	// maxShort is the width up to which alternatives without letters are made a
	// gap: they tell little.
	maxShort = 4
)

type sequence []atom

// sequences are the ways through an expression. finely makes ways of small sets
// and of all that may be left out too.
func sequences(re *syntax.Regexp, finely bool) []sequence {
	switch re.Op {
	case syntax.OpLiteral:
		return one(literal(re))
	case syntax.OpCharClass:
		if s := setOf(re); !finely || s[0].kind != oneByte {
			return one(s)
		}
		return setOf(re)[0].set.apart()
	case syntax.OpAnyChar:
		return one(anyRune(1))
	case syntax.OpAnyCharNotNL:
		return one(anyRune(0))
	case syntax.OpWordBoundary:
		return one(sequence{{kind: wordBoundary}})
	case syntax.OpCapture:
		return sequences(re.Sub[0], finely)
	case syntax.OpConcat:
		return concat(re, finely)
	case syntax.OpAlternate:
		return alternate(re, finely)
	case syntax.OpQuest:
		with := sequences(re.Sub[0], finely)
		if e := extentOf(with); len(with)*2 > maxSequences || e.max < 0 || e.max > maxCopies || e.min == 0 || !finely && !hasLetters(with) {
			return one(sequence{{kind: gap, set: setsOf(with), extent: extent{0, e.max, e.lines}}})
		}
		return append([]sequence{{}}, with...)
	case syntax.OpStar:
		return repeat(sequences(re.Sub[0], false), 0, -1)
	case syntax.OpPlus:
		return repeat(sequences(re.Sub[0], false), 1, -1)
	case syntax.OpRepeat:
		return repeat(sequences(re.Sub[0], false), re.Min, re.Max)
	}
	return one(sequence{}) // empty matches and the ends of text and line
}

func one(s sequence) []sequence { return []sequence{s} }

func literal(re *syntax.Regexp) (s sequence) {
	for _, r := range re.Rune {
		if r >= utf8.RuneSelf {
			s = append(s, anyRune(0)...)
			continue
		}
		set := &byteSet{}
		set.add(byte(r))
		if re.Flags&syntax.FoldCase != 0 {
			set.add(lower(byte(r)))
			set.add(upper(byte(r)))
		}
		s = append(s, atom{kind: oneByte, set: set})
	}
	return s
}

// setOf is one byte, or a gap of up to four where other than ASCII may stand.
func setOf(re *syntax.Regexp) sequence {
	set := &byteSet{}
	wide := false
	for i := 0; i+1 < len(re.Rune); i += 2 {
		lo, hi := re.Rune[i], re.Rune[i+1]
		wide = wide || hi >= utf8.RuneSelf && !foldsToASCII(lo, hi)
		for r := lo; r <= hi && r < utf8.RuneSelf; r++ {
			set.add(byte(r))
		}
	}
	if wide {
		lines := 0
		if set.has('\n') {
			lines = 1
		}
		return anyRune(lines)
	}
	return sequence{{kind: oneByte, set: set}}
}

// foldsToASCII says that a range is one of the two signs beyond ASCII that have
// an ASCII letter as their other case; no secret is written with them.
func foldsToASCII(lo, hi rune) bool {
	const longS, kelvin = '\u017f', '\u212a'
	return lo == hi && (lo == longS || lo == kelvin)
}

func concat(re *syntax.Regexp, finely bool) []sequence {
	all := []sequence{{}}
	for _, sub := range re.Sub {
		next := sequences(sub, finely)
		if len(all)*len(next) > maxSequences {
			next = one(asGap(next))
		}
		joined := make([]sequence, 0, len(all)*len(next))
		for _, a := range all {
			for _, b := range next {
				joined = append(joined, append(append(sequence{}, a...), b...))
			}
		}
		all = joined
	}
	return all
}

func alternate(re *syntax.Regexp, finely bool) []sequence {
	var all []sequence
	for _, sub := range re.Sub {
		all = append(all, sequences(sub, finely)...)
	}
	e := extentOf(all)
	if len(all) > maxSequences || e.max >= 0 && e.max <= maxShort && !hasLetters(all) {
		return one(asGap(all))
	}
	return all
}

// hasLetters says whether some sequence has two letters in a row that can be
// nothing else.
func hasLetters(all []sequence) bool {
	for _, s := range all {
		n := 0
		for _, a := range s {
			if a.kind == oneByte && a.set.letter() {
				n++
			} else {
				n = 0
			}
			if n >= 2 {
				return true
			}
		}
	}
	return false
}

// letter says that a set is one letter, in one case or both.
func (s *byteSet) letter() bool {
	c, ok := s.single()
	return ok && c >= 'a' && c <= 'z'
}

// only says that a set has nothing but c, given in lower case, in either case.
func (s *byteSet) only(c byte) bool {
	t := *s
	u := upper(c)
	if !t.has(c) && !t.has(u) {
		return false
	}
	t[c>>6] &^= 1 << (c & 63)
	t[u>>6] &^= 1 << (u & 63)
	return t == byteSet{}
}

// maxApart is how many bytes a set may have to be made ways of.
const maxApart = 3

// apart makes a way of each byte of a small set, but for case.
func (s *byteSet) apart() []sequence {
	var all []sequence
	for c := range byte(utf8.RuneSelf) {
		if !s.has(c) || c != lower(c) && s.has(lower(c)) {
			continue
		}
		set := &byteSet{}
		set.add(c)
		if s.has(upper(c)) {
			set.add(upper(c))
		}
		all = append(all, sequence{{kind: oneByte, set: set}})
	}
	if len(all) > maxApart {
		return one(sequence{{kind: oneByte, set: s}})
	}
	return all
}

func asGap(all []sequence) sequence {
	return sequence{{kind: gap, set: setsOf(all), extent: extentOf(all)}}
}

// setsOf is the set of all bytes in sequences; nil: any.
func setsOf(all []sequence) *byteSet {
	u := &byteSet{}
	for _, s := range all {
		for _, a := range s {
			if a.kind == wordBoundary {
				continue
			}
			if a.set == nil {
				return nil
			}
			u.join(a.set)
		}
	}
	return u
}

func (s *byteSet) join(t *byteSet) {
	for i := range s {
		s[i] |= t[i]
	}
}

// meets says whether two sets have a byte in common.
func (s *byteSet) meets(t *byteSet) bool {
	for i := range s {
		if s[i]&t[i] != 0 {
			return true
		}
	}
	return false
}

func repeat(of []sequence, least, most int) []sequence {
	e := extentOf(of)
	if len(of) != 1 {
		return one(sequence{{kind: gap, set: setsOf(of), extent: extent{e.min * least, times(e.max, most), times(e.lines, most)}}})
	}
	s := of[0]
	copies := least
	if len(s) > 0 && copies*len(s) > maxCopies {
		copies = maxCopies / len(s)
	}
	var out sequence
	for range copies {
		out = append(out, s...)
	}
	left := most
	if left >= 0 {
		left -= copies
	}
	rest := extent{e.min * (least - copies), times(e.max, left), times(e.lines, left)}
	if rest.max != 0 {
		out = append(out, atom{kind: gap, set: setsOf(of), extent: rest})
	}
	return one(out)
}

// times multiplies where a negative number is without bound.
func times(a, b int) int {
	switch {
	case a == 0 || b == 0:
		return 0
	case a < 0 || b < 0:
		return -1
	}
	return a * b
}

// plus adds where a negative number is without bound.
func plus(a, b int) int {
	if a < 0 || b < 0 {
		return -1
	}
	return a + b
}

// extentOf is how much any of them matches.
func extentOf(all []sequence) (e extent) {
	for i, s := range all {
		x := s.extent()
		if i == 0 {
			e = x
			continue
		}
		e = extent{min(e.min, x.min), most(e.max, x.max), most(e.lines, x.lines)}
	}
	return e
}

func (s sequence) extent() (e extent) {
	for _, a := range s {
		switch a.kind {
		case oneByte:
			e.min, e.max = e.min+1, plus(e.max, 1)
			if a.set.has('\n') {
				e.lines = plus(e.lines, 1)
			}
		case gap:
			e.min, e.max, e.lines = e.min+a.min, plus(e.max, a.max), plus(e.lines, a.lines)
		}
	}
	return e
}

// anchor says where in the sequence a keyword, in lower case, must stand; -1 if
// it need not. It returns the number of its first atom.
func (s sequence) anchor(word string) int {
	for i := 0; i+len(word) <= len(s); i++ {
		if s.spells(i, word) {
			return i
		}
	}
	return -1
}

func (s sequence) spells(i int, word string) bool {
	for k := range len(word) {
		if a := &s[i+k]; a.kind != oneByte || !a.set.only(word[k]) {
			return false
		}
	}
	return true
}

// literals are the runs of bytes in the sequence that can be nothing else but
// for their case, in lower case.
func (s sequence) literals() (runs []string) {
	var run strings.Builder
	flush := func() {
		if run.Len() > 0 {
			runs = append(runs, run.String())
		}
		run.Reset()
	}
	for _, a := range s {
		c, ok := byte(0), false
		if a.kind == oneByte {
			c, ok = a.set.single()
		}
		if ok {
			run.WriteByte(c)
		} else {
			flush()
		}
	}
	flush()
	return runs
}

// single is the one byte of a set, in lower case, if that is all but for case.
func (s *byteSet) single() (byte, bool) {
	for c := range byte(utf8.RuneSelf) {
		if s.has(c) {
			return lower(c), s.only(lower(c))
		}
	}
	return 0, false
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c &^ 0x20
	}
	return c
}
