package yara

import (
	"encoding/binary"
	"math/bits"
)

// filter finds where fixed bytes of strings stand. It looks at four bytes at a
// time, and the fewer places it looks at the longer the shortest of what it looks
// for is: of eleven bytes four are at every eighth place, whatever the place. So
// rules of which all strings are long cost next to nothing. What is of two or three
// bytes is looked for apart, at every place.
type filter struct {
	stride int
	shift  uint32
	table  []bool   // by hash of four bytes: something is filed there
	index  []uint32 // the same, its number in filed
	filed  [][]filed
	short  *shorts // nil: none is
}

// filed is something to compare where four of its bytes are.
type filed struct {
	*target
	four   uint32
	offset int // of the four bytes within it
}

// target is what is to be done where fixed bytes are found.
type target struct {
	pattern int
	text    string
	fold    bool
	literal *literal // it is one
	program *program // or its atom is
	atom    *atom
}

const (
	gram = 4
	// hashFactor is 2^32 divided by the golden ratio, made odd.
	hashFactor = 0x9e3779b1
	// foldMask makes lower case of letters, and of some signs other signs: what it
	// confuses is told apart when texts are compared.
	foldMask  = 0x20202020
	leastBits = 15 // a table of 32 KiB stays in the first cache
	mostBits  = 20
	maxStride = 8
)

// targetsOf lists what patterns are looked for by.
func targetsOf(patterns []*pattern) (all []*target) {
	for n, x := range patterns {
		if x.anchored {
			continue
		}
		for i := range x.literals {
			l := &x.literals[i]
			all = append(all, &target{pattern: n, text: l.text, fold: l.fold, literal: l})
		}
		for i := range x.programs {
			p := &x.programs[i]
			for k := range p.atoms {
				a := &p.atoms[k]
				all = append(all, &target{pattern: n, text: a.text, fold: a.fold, program: p, atom: a})
			}
		}
	}
	return all
}

func newFilter(patterns []*pattern) *filter {
	f := &filter{stride: maxStride, filed: make([][]filed, 1)}
	var long []*target
	for _, t := range targetsOf(patterns) {
		if len(t.text) < gram {
			f.addShort(t)
			continue
		}
		long = append(long, t)
		for f.stride > 1 && len(t.text) < gram-1+f.stride {
			f.stride /= 2
		}
	}
	if len(long) == 0 {
		f.stride = 0
		return f
	}
	size := bits.Len(uint(len(long) * f.stride * 64)) // one place in 64 is looked at twice
	size = min(max(size, leastBits), mostBits)
	f.shift = uint32(32 - size)
	f.table, f.index = make([]bool, 1<<size), make([]uint32, 1<<size)
	for _, t := range long {
		from := rarest(t.text, f.stride)
		for k := range f.stride {
			at := from + k
			v := uint32(t.text[at]) | uint32(t.text[at+1])<<8 | uint32(t.text[at+2])<<16 | uint32(t.text[at+3])<<24
			v |= foldMask
			h := f.hash(v)
			if !f.table[h] {
				f.table[h], f.index[h] = true, uint32(len(f.filed))
				f.filed = append(f.filed, nil)
			}
			f.filed[f.index[h]] = append(f.filed[f.index[h]], filed{t, v, at})
		}
	}
	return f
}

func (f *filter) hash(v uint32) uint32 { return v * hashFactor >> f.shift }

// frequent are bytes in the order of how often they stand in text and programs.
const frequent = "\x00\xff etaoinsrlcdupm_.-/=\"'()\x48\x8b\x89\x01\x0f"

// rarest is where in a text the bytes begin that are filed: as many fours as there
// are places in a stride, of those that are seen least.
func rarest(s string, stride int) int {
	n := gram - 1 + stride
	best, most := 0, -1
	for i := 0; i+n <= len(s); i++ {
		score := 0
		for k := range n {
			c := lowerByte(s[i+k])
			rank := len(frequent)
			for at := range len(frequent) {
				if frequent[at] == c {
					rank = at
					break
				}
			}
			score += rank
		}
		if score > most {
			best, most = i, score
		}
	}
	return best
}

// each calls hit with what may stand in b, of which it looks at the places from
// lo, a multiple of the stride, up to hi. It returns the first place that it did
// not look at.
func (f *filter) each(b []byte, lo, hi int, hit func(t *target, at int)) int {
	if f.short != nil {
		f.short.each(b, lo, hi, hit)
	}
	if f.stride == 0 {
		return hi
	}
	hi = min(hi, len(b)-gram+1)
	i := lo
	step := f.stride
	for ; i+3*step < hi; i += 4 * step {
		v0 := binary.LittleEndian.Uint32(b[i:]) | foldMask
		v1 := binary.LittleEndian.Uint32(b[i+step:]) | foldMask
		v2 := binary.LittleEndian.Uint32(b[i+2*step:]) | foldMask
		v3 := binary.LittleEndian.Uint32(b[i+3*step:]) | foldMask
		t0, t1, t2, t3 := f.table[f.hash(v0)], f.table[f.hash(v1)], f.table[f.hash(v2)], f.table[f.hash(v3)]
		if !t0 && !t1 && !t2 && !t3 {
			continue
		}
		f.compare(t0, v0, i, hit)
		f.compare(t1, v1, i+step, hit)
		f.compare(t2, v2, i+2*step, hit)
		f.compare(t3, v3, i+3*step, hit)
	}
	for ; i < hi; i += step {
		v := binary.LittleEndian.Uint32(b[i:]) | foldMask
		f.compare(f.table[f.hash(v)], v, i, hit)
	}
	return max(i, lo)
}

func (f *filter) compare(may bool, v uint32, at int, hit func(t *target, at int)) {
	if !may {
		return
	}
	for _, t := range f.filed[f.index[f.hash(v)]] {
		if t.four == v {
			hit(t.target, at-t.offset)
		}
	}
}

// shorts are texts of two and three bytes, by the first two.
type shorts struct {
	table [1 << 16]bool
	by    map[uint16][]*target
}

func (f *filter) addShort(t *target) {
	if f.short == nil {
		f.short = &shorts{by: map[uint16][]*target{}}
	}
	for _, a := range cases(t.text[0], t.fold) {
		for _, b := range cases(t.text[1], t.fold) {
			key := uint16(a) | uint16(b)<<8
			f.short.table[key] = true
			f.short.by[key] = append(f.short.by[key], t)
		}
	}
}

func cases(c byte, fold bool) []byte {
	if fold && c >= 'a' && c <= 'z' {
		return []byte{c, c &^ 0x20}
	}
	return []byte{c}
}

func (s *shorts) each(b []byte, lo, hi int, hit func(t *target, at int)) {
	hi = min(hi, len(b)-1)
	for i := lo; i < hi; i++ {
		key := uint16(b[i]) | uint16(b[i+1])<<8
		if s.table[key] {
			for _, t := range s.by[key] {
				hit(t, i)
			}
		}
	}
}

// at says whether a text stands at a place of b.
func (t *target) at(b []byte, at int) bool { return standsAt(b, at, t.text, t.fold) }

func standsAt(b []byte, at int, text string, fold bool) bool {
	if at < 0 || at+len(text) > len(b) {
		return false
	}
	b = b[at : at+len(text)]
	if !fold {
		return string(b) == text
	}
	for i, c := range b {
		if lowerByte(c) != text[i] {
			return false
		}
	}
	return true
}
