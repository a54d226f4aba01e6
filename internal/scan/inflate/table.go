package inflate

import "io"

// Codes of a block (RFC 1951, 3.2.5 to 3.2.7).
const (
	maxLitCodes  = 288
	maxDistCodes = 32
	endOfBlock   = 256
	maxCodeLen   = 15
	preCodes     = 19
	maxPreLen    = 7
)

// Tables are looked up with as many bits as most codes have; longer codes go on
// in tables behind. How large those can become altogether for any set of lengths
// was worked out by Mark Adler's enough.c: 2,342 entries for 288 codes at 11 bits,
// 402 for 32 codes at 8.
const (
	litBits  = 11
	distBits = 8
	litSize  = 2342
	distSize = 402
)

type (
	litTable  [litSize]uint32
	distTable [distSize]uint32
)

// An entry says all of a code at once. Bits 0 to 7 are how many bits it takes,
// extra ones included; bits 8 to 11 how many of them are the code; bits 16 to 30
// the literal, or the base of a length or distance.
const (
	entryLiteral = 1 << 31
	entryRare    = 1 << 15 // one of the following
	entrySub     = 1 << 14 // goes on in another table, whose place is in bits 16 to 30; its bits in 8 to 11
	entryEnd     = 1 << 13 // end of block
	entryBad     = 1 << 12 // no such code
	valueShift   = 16
	codeShift    = 8
)

// base and extra bits of length codes from 257 on, and of distance codes.
var (
	lengthBase  = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	preOrder    = [preCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

// litEntry returns the entry of a literal or length code without its bits.
func litEntry(code int) uint32 {
	switch {
	case code < endOfBlock:
		return entryLiteral | uint32(code)<<valueShift
	case code == endOfBlock:
		return entryRare | entryEnd
	case code-endOfBlock-1 < len(lengthBase):
		i := code - endOfBlock - 1
		return uint32(lengthBase[i])<<valueShift | uint32(lengthExtra[i])
	}
	return entryRare | entryBad
}

// distEntry returns the entry of a distance code without its bits.
func distEntry(code int) uint32 {
	if code < len(distBase) {
		return uint32(distBase[code])<<valueShift | uint32(distExtra[code])
	}
	return entryRare | entryBad
}

// preEntry returns the entry of a code for code lengths.
func preEntry(code int) uint32 { return uint32(code) << valueShift }

// makeTable fills a table from code lengths. A code that is not complete is taken
// where compressors make it: with one code of one bit, or none at all.
func makeTable(table []uint32, bits uint, lengths []uint8, entry func(int) uint32) error {
	var counts [maxCodeLen + 1]int
	for _, n := range lengths {
		counts[n]++
	}
	used := len(lengths) - counts[0]
	left := 1
	for n := 1; n <= maxCodeLen; n++ {
		left = left<<1 - counts[n]
		if left < 0 {
			return errTables
		}
	}
	if left > 0 {
		if used > 1 || used == 1 && counts[1] != 1 {
			return errTables
		}
		for i := range 1 << bits {
			table[i] = entryRare | entryBad
		}
		if used == 0 {
			return nil
		}
	}
	// Codes in the order of their lengths, then of their numbers.
	var offsets [maxCodeLen + 2]int
	for n := 1; n <= maxCodeLen; n++ {
		offsets[n+1] = offsets[n] + counts[n]
	}
	var sorted [maxLitCodes]uint16
	for code, n := range lengths {
		if n > 0 {
			sorted[offsets[n]] = uint16(code)
			offsets[n]++
		}
	}
	t := filler{table: table, bits: bits, next: 1 << bits, counts: &counts}
	for _, code := range sorted[:used] {
		t.put(uint(lengths[code]), entry(int(code)))
	}
	return nil
}

// filler puts codes into a table one after the other.
type filler struct {
	table  []uint32
	bits   uint
	next   int // where the next table behind begins
	counts *[maxCodeLen + 1]int

	code    uint32 // bits of the next code, first bit lowest, as they come
	subAt   int    // the table behind that is being filled
	subCode uint32 // its codes begin with these bits
	subBits uint
	inSub   bool
}

// put enters a code of n bits at all places that begin with it.
func (f *filler) put(n uint, entry uint32) {
	if n <= f.bits {
		entry |= uint32(n) << codeShift
		entry += uint32(n)
		for at := f.code; at < 1<<f.bits; at += 1 << n {
			f.table[at] = entry
		}
	} else {
		f.putLong(n, entry)
	}
	f.counts[n]--
	f.step(n)
}

// putLong enters a code that goes on in a table behind.
func (f *filler) putLong(n uint, entry uint32) {
	first := f.code & (1<<f.bits - 1)
	if !f.inSub || f.subCode != first {
		f.inSub, f.subCode, f.subAt = true, first, f.next
		// As large as the longest code that begins so: codes come in the order
		// of their lengths and fill it without a gap.
		f.subBits = n - f.bits
		for room := 1<<f.subBits - f.counts[n]; room > 0 && f.subBits+f.bits < maxCodeLen; {
			f.subBits++
			room = room<<1 - f.counts[f.subBits+f.bits]
		}
		f.next += 1 << f.subBits
		f.table[first] = entryRare | entrySub | uint32(f.subAt)<<valueShift | uint32(f.subBits)<<codeShift | uint32(f.bits)
	}
	entry |= uint32(n-f.bits) << codeShift
	entry += uint32(n - f.bits)
	for at := f.code >> f.bits; at < 1<<f.subBits; at += 1 << (n - f.bits) {
		f.table[f.subAt+int(at)] = entry
	}
}

// step goes to the next code: the number is counted up from its highest bit,
// which comes first, and gets zeros behind where the next code is longer.
func (f *filler) step(n uint) {
	bit := uint32(1) << (n - 1)
	for bit != 0 && f.code&bit != 0 {
		bit >>= 1
	}
	if bit == 0 {
		f.code = 0
		return
	}
	f.code = f.code&(bit-1) | bit
}

// fixed makes the tables of RFC 1951, 3.2.6.
func (r *Reader) fixed() {
	lengths := &r.lengths
	for i := range maxLitCodes {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	for i := range maxDistCodes {
		lengths[maxLitCodes+i] = 5
	}
	// They are complete codes: no error is possible.
	_ = makeTable(r.lit[:], litBits, lengths[:maxLitCodes], litEntry)
	_ = makeTable(r.dist[:], distBits, lengths[maxLitCodes:], distEntry)
}

// dynamic reads the code lengths of a block and makes its tables (RFC 1951,
// 3.2.7).
func (r *Reader) dynamic() error {
	if err := r.need(14); err != nil {
		return err
	}
	lits, dists, pres := int(r.take(5))+257, int(r.take(5))+1, int(r.take(4))+4
	if lits > 286 {
		return r.corrupt("too many length codes")
	}
	var pre [preCodes]uint8
	for _, code := range preOrder[:pres] {
		if err := r.need(3); err != nil {
			return err
		}
		pre[code] = uint8(r.take(3))
	}
	var table [1 << maxPreLen]uint32
	if err := makeTable(table[:], maxPreLen, pre[:], preEntry); err != nil {
		return r.corrupt("code lengths of code lengths make no code")
	}
	if err := r.readLengths(&table, lits+dists); err != nil {
		return err
	}
	if r.lengths[endOfBlock] == 0 {
		return r.corrupt("a block has no end")
	}
	if makeTable(r.lit[:], litBits, r.lengths[:lits], litEntry) != nil {
		return r.corrupt("lengths of literal codes make no code")
	}
	if makeTable(r.dist[:], distBits, r.lengths[lits:lits+dists], distEntry) != nil {
		return r.corrupt("lengths of distance codes make no code")
	}
	return nil
}

// readLengths reads n code lengths, which are compressed themselves.
func (r *Reader) readLengths(table *[1 << maxPreLen]uint32, n int) error {
	for i := 0; i < n; {
		// The last code of a stream may be shorter than what would be needed for
		// any: what is missing is found where it is taken.
		if err := r.need(maxPreLen); err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		e := table[r.bits&(1<<maxPreLen-1)]
		if e&entryRare != 0 {
			return r.corrupt("a code length of a kind that there isn't")
		}
		if uint(e&0xff) > r.count {
			return io.ErrUnexpectedEOF
		}
		r.take(uint(e & 0xff))
		symbol := e >> valueShift
		if symbol < 16 {
			r.lengths[i] = uint8(symbol)
			i++
			continue
		}
		var value uint8
		bits, least := uint(2), 3
		switch symbol {
		case 16:
			if i == 0 {
				return r.corrupt("a code length repeats nothing")
			}
			value = r.lengths[i-1]
		case 17:
			bits = 3
		case 18:
			bits, least = 7, 11
		}
		if err := r.need(bits); err != nil {
			return err
		}
		times := least + int(r.take(bits))
		if i+times > n {
			return r.corrupt("code lengths go on behind their end")
		}
		for range times {
			r.lengths[i] = value
			i++
		}
	}
	return nil
}
