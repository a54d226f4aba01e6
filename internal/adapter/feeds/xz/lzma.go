package xz

// lzma unpacks LZMA as it is in LZMA2: chunks of known lengths, without a mark at
// the end.
type lzma struct {
	window     []byte
	pos        int // in the window
	dictionary int
	filled     int // since the dictionary was last forgotten

	literalContext, literalPosition, position uint // the properties: bits of each

	state int
	reps  [4]int // the distances of the last matches, less one
	probs probabilities
	bits  rangeDecoder
}

const (
	states      = 12
	positions   = 16 // of the lowest bits of the place
	minMatch    = 2
	lastLiteral = 7         // states below it are those after a literal
	farthest    = 1<<31 - 1 // beyond every dictionary
)

// probabilities are what the decoder has learned: how likely a zero is, of 2048,
// for each bit and what came before it.
type probabilities struct {
	match     [states][positions]uint16
	rep       [states]uint16
	rep0      [states]uint16
	rep1      [states]uint16
	rep2      [states]uint16
	rep0Long  [states][positions]uint16
	slot      [4][64]uint16
	distance  [115]uint16
	align     [16]uint16
	length    lengths
	repLength lengths
	literal   [16][0x300]uint16
}

type lengths struct {
	choice [2]uint16
	low    [positions][8]uint16
	middle [positions][8]uint16
	high   [256]uint16
}

// properties takes the byte that says how many bits of what are looked at, and
// forgets what was learned.
func (l *lzma) properties(b byte) bool {
	const all = 9 * 5 * 5
	if b >= all {
		return false
	}
	l.literalContext, l.literalPosition, l.position = uint(b%9), uint(b/9%5), uint(b/45)
	if l.literalContext+l.literalPosition > 4 {
		return false
	}
	l.reset()
	return true
}

// reset forgets what was learned.
func (l *lzma) reset() {
	l.state, l.reps = 0, [4]int{}
	p := &l.probs
	for s := range states {
		fill(p.match[s][:])
		fill(p.rep0Long[s][:])
	}
	for _, all := range [...][]uint16{p.rep[:], p.rep0[:], p.rep1[:], p.rep2[:], p.distance[:], p.align[:]} {
		fill(all)
	}
	for i := range p.slot {
		fill(p.slot[i][:])
	}
	for i := range p.literal {
		fill(p.literal[i][:])
	}
	for _, n := range [...]*lengths{&p.length, &p.repLength} {
		fill(n.choice[:])
		fill(n.high[:])
		for i := range positions {
			fill(n.low[i][:])
			fill(n.middle[i][:])
		}
	}
}

func fill(p []uint16) {
	for i := range p {
		p[i] = 1024
	}
}

// unpack unpacks one chunk of n bytes to the window, which has room for it.
func (l *lzma) unpack(packed []byte, n int) error {
	if !l.bits.begin(packed) {
		return damaged("a chunk begins as none does")
	}
	end := l.pos + n
	for l.pos < end {
		if l.bits.at > len(packed) {
			return damaged("a chunk is shorter than it says")
		}
		at := l.filled & (1<<l.position - 1)
		if l.bits.bit(&l.probs.match[l.state][at]) == 0 {
			l.literal()
			continue
		}
		length := l.matched(at)
		if l.reps[0] >= l.filled || l.reps[0] >= l.dictionary {
			return damaged("a match before the beginning")
		}
		if length > end-l.pos {
			return damaged("a match beyond the end of its chunk")
		}
		l.repeat(length)
	}
	if !l.bits.end() {
		return damaged("a chunk has another length than it says")
	}
	return nil
}

// literal unpacks one byte.
func (l *lzma) literal() {
	var before byte
	if l.filled > 0 {
		before = l.window[l.pos-1]
	}
	context := (l.filled&(1<<l.literalPosition-1))<<l.literalContext + int(before)>>(8-l.literalContext)
	probs := &l.probs.literal[context]
	symbol := uint32(1)
	if l.state >= lastLiteral && l.reps[0] < l.filled {
		// After a match the byte that would have continued it tells something.
		expected := uint32(l.window[l.pos-l.reps[0]-1])
		for symbol < 0x100 {
			expected <<= 1
			bit := expected & 0x100
			got := l.bits.bit(&probs[0x100+bit+symbol])
			symbol = symbol<<1 | got
			if bit>>8 != got {
				break
			}
		}
	}
	for symbol < 0x100 {
		symbol = symbol<<1 | l.bits.bit(&probs[symbol])
	}
	l.window[l.pos] = byte(symbol)
	l.pos++
	l.filled++
	switch {
	case l.state < 4:
		l.state = 0
	case l.state < 10:
		l.state -= 3
	default:
		l.state -= 6
	}
}

// matched reads how long a match is, and leaves its distance as the first of the
// last ones.
func (l *lzma) matched(at int) int {
	p, s := &l.probs, l.state
	if l.bits.bit(&p.rep[s]) == 0 {
		length := l.length(&p.length, at)
		l.state = after(s, 7, 10)
		l.reps = [4]int{l.distance(length), l.reps[0], l.reps[1], l.reps[2]}
		return length
	}
	switch {
	case l.bits.bit(&p.rep0[s]) == 0:
		if l.bits.bit(&p.rep0Long[s][at]) == 0 {
			l.state = after(s, 9, 11)
			return 1
		}
	case l.bits.bit(&p.rep1[s]) == 0:
		l.reps = [4]int{l.reps[1], l.reps[0], l.reps[2], l.reps[3]}
	case l.bits.bit(&p.rep2[s]) == 0:
		l.reps = [4]int{l.reps[2], l.reps[0], l.reps[1], l.reps[3]}
	default:
		l.reps = [4]int{l.reps[3], l.reps[0], l.reps[1], l.reps[2]}
	}
	length := l.length(&p.repLength, at)
	l.state = after(s, 8, 11)
	return length
}

// after is the state that follows one after a literal, or any other.
func after(state, literal, other int) int {
	if state < lastLiteral {
		return literal
	}
	return other
}

func (l *lzma) length(n *lengths, at int) int {
	switch {
	case l.bits.bit(&n.choice[0]) == 0:
		return minMatch + int(l.bits.tree(n.low[at][:], 3))
	case l.bits.bit(&n.choice[1]) == 0:
		return minMatch + 8 + int(l.bits.tree(n.middle[at][:], 3))
	}
	return minMatch + 16 + int(l.bits.tree(n.high[:], 8))
}

// distance reads the distance of a match of that length, less one.
func (l *lzma) distance(length int) int {
	slot := l.bits.tree(l.probs.slot[min(length-minMatch, 3)][:], 6)
	if slot < 4 {
		return int(slot)
	}
	bits := uint(slot>>1 - 1)
	high := (2 | slot&1) << bits
	if slot < 14 {
		return int(high + l.bits.reverse(l.probs.distance[high-slot:], bits))
	}
	d := high + l.bits.direct(bits-4)<<4 + l.bits.reverse(l.probs.align[:], 4)
	return int(min(d, farthest)) // the mark of an end is farther, and no chunk has it
}

// repeat copies the match at hand.
func (l *lzma) repeat(length int) {
	distance := l.reps[0] + 1
	for n := length; n > 0; {
		// What overlaps is copied piece by piece, each twice as long as the one
		// before.
		k := copy(l.window[l.pos:l.pos+n], l.window[l.pos-distance:l.pos])
		l.pos += k
		n -= k
		if distance < n {
			distance += k
		}
	}
	l.filled += length
}
