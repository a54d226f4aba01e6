package inflate

import (
	"encoding/binary"
	"io"
)

// compressed decodes a block until it ends, the output is full, or an error. It
// is where all time is spent: one turn loads eight bytes of input, then decodes
// the literals in them and a match, without looking at ends of input or output,
// for which both have slack.
func (r *Reader) compressed() error {
	for {
		if r.pos > r.end-inSlack {
			if err := r.more(); err != nil {
				return err
			}
			if r.overrun() {
				return io.ErrUnexpectedEOF
			}
		}
		done, bad := r.run()
		switch {
		case bad != "":
			return r.corrupt(bad)
		case done:
			r.state = (*Reader).block
			if r.overrun() {
				return io.ErrUnexpectedEOF
			}
			return nil
		case r.to >= outSize:
			return nil
		}
	}
}

// run decodes until the end of the block (done), a damage, the end of output, or
// so near to the end of input that more must be read. Everything is in local
// variables, so that it stays in registers.
func (r *Reader) run() (done bool, bad string) {
	var (
		pos, to     = r.pos, r.to
		bits, count = r.bits, r.count
		last        = r.end - inSlack
		e           uint32
	)
	if r.ended {
		last = r.end + 8 // zeros follow
	}
loop:
	for pos <= last && to < outSize {
		bits |= binary.LittleEndian.Uint64(r.in[pos:]) << (count & 63)
		pos += int((63 - count) >> 3)
		count |= 56
		e = r.lit[bits&(1<<litBits-1)]
		for e&entryLiteral != 0 {
			bits >>= e & 63
			count -= uint(e & 63)
			r.out[to] = byte(e >> valueShift)
			to++
			if count < maxCodeLen {
				continue loop
			}
			e = r.lit[bits&(1<<litBits-1)]
		}
		bits |= binary.LittleEndian.Uint64(r.in[pos:]) << (count & 63)
		pos += int((63 - count) >> 3)
		count |= 56
		if e&entryRare != 0 {
			if e&entrySub != 0 {
				bits >>= litBits
				count -= litBits
				e = r.lit[uint(e>>valueShift)+uint(bits&(1<<(e>>codeShift&15)-1))]
				if e&entryLiteral != 0 {
					bits >>= e & 63
					count -= uint(e & 63)
					r.out[to] = byte(e >> valueShift)
					to++
					continue
				}
			}
			if e&entryRare != 0 {
				if e&entryEnd == 0 {
					bad = "a length code that there isn't"
					break loop
				}
				bits, count, done = bits>>(e&63), count-uint(e&63), true
				break loop
			}
		}
		length := int(e>>valueShift) + int(bits&(1<<(e&63)-1)>>(e>>codeShift&15))
		bits >>= e & 63
		count -= uint(e & 63)

		e = r.dist[bits&(1<<distBits-1)]
		if e&entryRare != 0 {
			if e&entrySub != 0 {
				bits >>= distBits
				count -= distBits
				e = r.dist[uint(e>>valueShift)+uint(bits&(1<<(e>>codeShift&15)-1))]
			}
			if e&entryRare != 0 {
				bad = "a distance code that there isn't"
				break loop
			}
		}
		back := int(e>>valueShift) + int(bits&(1<<(e&63)-1)>>(e>>codeShift&15))
		bits >>= e & 63
		count -= uint(e & 63)
		if back > to {
			bad = "a match reaches back before the beginning"
			break loop
		}
		copyMatch(&r.out, to, back, length)
		to += length
	}
	r.pos, r.to, r.bits, r.count = pos, to, bits, count
	return done, bad
}

// copyMatch repeats length bytes from back bytes before to. It may write up to 15
// bytes too many, for which the output has slack.
func copyMatch(out *[outSize + outSlack]byte, to, back, length int) {
	from := to - back
	switch {
	case back >= 16:
		for end := to + length; to < end; to, from = to+16, from+16 {
			a, b := binary.LittleEndian.Uint64(out[from:]), binary.LittleEndian.Uint64(out[from+8:])
			binary.LittleEndian.PutUint64(out[to:], a)
			binary.LittleEndian.PutUint64(out[to+8:], b)
		}
	case back >= 8:
		for end := to + length; to < end; to, from = to+8, from+8 {
			binary.LittleEndian.PutUint64(out[to:], binary.LittleEndian.Uint64(out[from:]))
		}
	case back == 1:
		eight := uint64(out[from]) * 0x0101010101010101
		for end := to + length; to < end; to += 8 {
			binary.LittleEndian.PutUint64(out[to:], eight)
		}
	default:
		for i := range length {
			out[to+i] = out[from+i]
		}
	}
}
