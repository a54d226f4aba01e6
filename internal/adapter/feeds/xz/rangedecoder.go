package xz

import "encoding/binary"

// rangeDecoder reads bits of which it is known how likely they are.
type rangeDecoder struct {
	packed []byte
	at     int // in packed; beyond its end zeros are read
	rng    uint32
	code   uint32
}

// begin takes the first bytes of a chunk.
func (d *rangeDecoder) begin(packed []byte) bool {
	if len(packed) < 5 || packed[0] != 0 {
		return false
	}
	*d = rangeDecoder{packed: packed, at: 5, rng: 1<<32 - 1, code: binary.BigEndian.Uint32(packed[1:])}
	return true
}

// end reports whether the chunk was read to its end.
func (d *rangeDecoder) end() bool {
	if d.rng < 1<<24 {
		d.more()
	}
	return d.at == len(d.packed) && d.code == 0
}

// more takes the next byte.
func (d *rangeDecoder) more() {
	d.rng <<= 8
	d.code <<= 8
	if d.at < len(d.packed) {
		d.code |= uint32(d.packed[d.at])
	}
	d.at++
}

// bit reads one bit, and learns from it.
func (d *rangeDecoder) bit(p *uint16) uint32 {
	if d.rng < 1<<24 {
		d.more()
	}
	zero := d.rng >> 11 * uint32(*p)
	if d.code < zero {
		d.rng = zero
		*p += (2048 - *p) >> 5
		return 0
	}
	d.rng -= zero
	d.code -= zero
	*p -= *p >> 5
	return 1
}

// tree reads a number of several bits, the highest first.
func (d *rangeDecoder) tree(p []uint16, bits uint) uint32 {
	m := uint32(1)
	for range bits {
		m = m<<1 | d.bit(&p[m])
	}
	return m - 1<<bits
}

// reverse reads a number of several bits, the lowest first.
func (d *rangeDecoder) reverse(p []uint16, bits uint) (n uint32) {
	m := uint32(1)
	for i := range bits {
		b := d.bit(&p[m])
		m = m<<1 | b
		n |= b << i
	}
	return n
}

// direct reads bits of which nothing is known.
func (d *rangeDecoder) direct(bits uint) (n uint32) {
	for range bits {
		if d.rng < 1<<24 {
			d.more()
		}
		d.rng >>= 1
		n <<= 1
		if d.code >= d.rng {
			d.code -= d.rng
			n |= 1
		}
	}
	return n
}
