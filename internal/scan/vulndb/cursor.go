package vulndb

import "encoding/binary"

// cursor reads values one after the other. What is not there is zero, and bad
// says so; nothing is ever read beyond b.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 { // most are
		v := uint64(c.b[0])
		c.b = c.b[1:]
		return v
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// u32 reads a number that must fit 32 bits.
func (c *cursor) u32() uint32 {
	v := c.uvarint()
	if v > 1<<32-1 {
		c.fail()
		return 0
	}
	return uint32(v)
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

// count reads how many values of at least a byte each follow, so it is never
// more than there are bytes.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail()
		return 0
	}
	return int(n)
}

// upTo reads a count that must not be above a limit.
func (c *cursor) upTo(limit int) int {
	n := c.count()
	if n > limit {
		c.fail()
		return 0
	}
	return n
}

// bytes reads a length and as many bytes. They lie in the file.
func (c *cursor) bytes() []byte { return c.take(c.count()) }

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.fail()
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

// strings reads a counted list.
func (c *cursor) strings(limit int) []string {
	n := c.upTo(limit)
	if n == 0 {
		return nil
	}
	s := make([]string, 0, n)
	for range n {
		s = append(s, string(c.bytes()))
	}
	return s
}

func (c *cursor) fail() { c.b, c.bad = nil, true }

func appendString[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendStrings(b []byte, s []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	for _, v := range s {
		b = appendString(b, v)
	}
	return b
}

// text returns a string of the file's table of strings, or nil if ref points
// elsewhere.
func (db *DB) text(ref uint32) []byte {
	s := db.section(sectionStrings)
	if uint64(ref) >= uint64(len(s)) {
		return nil
	}
	c := cursor{b: s[ref:]}
	return c.bytes()
}
