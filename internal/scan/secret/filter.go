package secret

import (
	"encoding/binary"
	"slices"
	"strings"
)

// filter finds all places of many keywords in one pass, in either case. It looks
// at three bytes at a time: every keyword is filed under three of its own, and
// a table says for each three bytes whether a keyword may be there. Only then
// keywords are compared. The table is small enough for the first cache; the loop
// has no step that waits for the one before, which an automaton's has.
type filter struct {
	// buckets has the number of a bucket for each hash, 0 for none.
	buckets [1 << hashBits]uint8
	words   [][]filed // by bucket
	short   []filed   // those of fewer bytes than they are filed under
	// sparse says that every word is filed twice, under three bytes at an even and
	// at an odd place of its own, so that every other place of a text is enough.
	sparse bool
}

// filed is a keyword in a bucket.
type filed struct {
	word   string // lower case
	offset int    // of the three bytes within it
	id     int
}

const (
	// hashBits makes a table of 32 KiB: with 300 keywords one random place in a
	// hundred is looked at, and it stays in the first cache.
	hashBits = 15
	// hashFactor is 2^32 divided by the golden ratio, made odd: it spreads bytes
	// that differ little.
	hashFactor = 0x9e3779b1
	// maxBuckets is what a bucket's number can be; keywords beyond share.
	maxBuckets = 255
	gram       = 3 // bytes that a keyword is filed under
	// foldMask makes lower case of letters, and of some signs other signs: what
	// it confuses is told apart when words are compared.
	foldMask = 0x2020202020202020
)

func hash3(v uint32) uint32 { return (v << 8) * hashFactor >> (32 - hashBits) }

// newFilter files keywords, all in lower case; the place in the list is their id.
// A keyword of two bytes is filed under all that may follow it.
func newFilter(words []string) *filter {
	f := &filter{words: make([][]filed, 1)}
	for id, w := range words {
		switch {
		case len(w) < gram-1:
			panic("keyword " + w + " is too short") // a rule's own, never input
		case len(w) == gram-1:
			f.short = append(f.short, filed{w, 0, id})
			for next := range 256 {
				f.file(w+string([]byte{byte(next)}), filed{w, 0, id})
			}
		default:
			at := rarest(w, 0, 1)
			f.file(w[at:at+gram], filed{w, at, id})
		}
	}
	return f
}

// newSparseFilter files the keywords for which only is true, none shorter than
// four bytes. It is twice as fast.
func newSparseFilter(words []string, only func(id int) bool) *filter {
	f := &filter{words: make([][]filed, 1), sparse: true}
	for id, w := range words {
		if len(w) > gram && only(id) {
			for first := range 2 {
				at := rarest(w, first, 2)
				f.file(w[at:at+gram], filed{w, at, id})
			}
		}
	}
	return f
}

func (f *filter) file(three string, w filed) {
	h := hash3(uint32(three[0]|0x20) | uint32(three[1]|0x20)<<8 | uint32(three[2]|0x20)<<16)
	b := int(f.buckets[h])
	switch {
	case b != 0:
	case len(f.words) <= maxBuckets:
		b = len(f.words)
		f.words = append(f.words, nil)
	default: // share: one more comparison at some places
		b = 1 + int(h)%maxBuckets
	}
	f.buckets[h] = uint8(b)
	if !slices.Contains(f.words[b], w) {
		f.words[b] = append(f.words[b], w)
	}
}

// frequent are letters in the order of how often they stand in text and code.
const frequent = "etaoinsrlcdupmhgbfyvkwxjqz"

// rarest is where in a word the three bytes stand that are seen least, of the
// places from first on in steps.
func rarest(w string, first, step int) int {
	best, most := first, -1
	for i := first; i+gram <= len(w); i += step {
		score := 0
		for _, c := range []byte(w[i : i+gram]) {
			if k := strings.IndexByte(frequent, c); k >= 0 {
				score += k
			} else {
				score += len(frequent) // signs and digits are seen less
			}
		}
		if score > most {
			best, most = i, score
		}
	}
	return best
}

// each calls hit for all keywords in b, in the order of the bytes by which they
// are found: nearly that of where they begin.
func (f *filter) each(b []byte, hit func(id, at int)) {
	if f.sparse {
		f.eachSparse(b, hit)
		return
	}
	i := 0
	const step = 6 // places in eight bytes
	for ; i+8 <= len(b); i += step {
		v := binary.LittleEndian.Uint64(b[i:]) | foldMask
		b0, b1, b2 := f.buckets[hash3(uint32(v))], f.buckets[hash3(uint32(v>>8))], f.buckets[hash3(uint32(v>>16))]
		b3, b4, b5 := f.buckets[hash3(uint32(v>>24))], f.buckets[hash3(uint32(v>>32))], f.buckets[hash3(uint32(v>>40))]
		if b0|b1|b2|b3|b4|b5 == 0 {
			continue
		}
		for k, bucket := range [step]uint8{b0, b1, b2, b3, b4, b5} {
			if bucket != 0 {
				f.compare(bucket, b, i+k, hit)
			}
		}
	}
	f.rest(b, i, 1, hit)
	// At the very end a short keyword may be followed by nothing.
	for _, w := range f.short {
		if at := len(b) - len(w.word); at >= 0 && hasFold(b[at:], w.word) {
			hit(w.id, at)
		}
	}
}

// eachSparse looks at every other place.
func (f *filter) eachSparse(b []byte, hit func(id, at int)) {
	i := 0
	const step = 12 // bytes, of which six places are looked at
	for ; i+16 <= len(b); i += step {
		v, w := binary.LittleEndian.Uint64(b[i:])|foldMask, binary.LittleEndian.Uint64(b[i+6:])|foldMask
		b0, b1, b2 := f.buckets[hash3(uint32(v))], f.buckets[hash3(uint32(v>>16))], f.buckets[hash3(uint32(v>>32))]
		b3, b4, b5 := f.buckets[hash3(uint32(w))], f.buckets[hash3(uint32(w>>16))], f.buckets[hash3(uint32(w>>32))]
		if b0|b1|b2|b3|b4|b5 == 0 {
			continue
		}
		for k, bucket := range [...]uint8{b0, b1, b2, b3, b4, b5} {
			if bucket != 0 {
				f.compare(bucket, b, i+2*k, hit)
			}
		}
	}
	f.rest(b, i, 2, hit)
}

// rest looks at the last places, from i on.
func (f *filter) rest(b []byte, i, step int, hit func(id, at int)) {
	for ; i+gram <= len(b); i += step {
		v := uint32(b[i]|0x20) | uint32(b[i+1]|0x20)<<8 | uint32(b[i+2]|0x20)<<16
		if bucket := f.buckets[hash3(v)]; bucket != 0 {
			f.compare(bucket, b, i, hit)
		}
	}
}

func (f *filter) compare(bucket uint8, b []byte, i int, hit func(id, at int)) {
	for _, w := range f.words[bucket] {
		if at := i - w.offset; at >= 0 && hasFold(b[at:], w.word) {
			hit(w.id, at)
		}
	}
}

// hasFold says whether b begins with a word that is given in lower case.
func hasFold(b []byte, word string) bool {
	if len(b) < len(word) {
		return false
	}
	for i := range len(word) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
