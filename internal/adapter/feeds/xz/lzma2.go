package xz

const (
	// maxChunk is what one chunk unpacks to.
	maxChunk = 2 << 20
	// maxPacked is how long one is packed.
	maxPacked = 64 << 10
	// slack is how much is unpacked before the dictionary is moved to the
	// beginning of the window, which then costs little.
	slack = 16 << 20
)

// chunks unpacks the chunks of LZMA2. The window holds the dictionary and, behind
// it, what was unpacked last.
type chunks struct {
	in         *counter
	lzma       lzma
	packed     []byte
	dictionary int
	most       int // how large the window gets
	taken      int // up to where the window was handed over

	needsDictionary, needsProperties bool
}

// begin prepares for a block that needs a dictionary of that size.
func (c *chunks) begin(dictionary int64) error {
	if dictionary > MaxDictionary {
		return ErrMemory
	}
	c.dictionary = int(max(dictionary, 4096))
	c.most = c.dictionary + min(c.dictionary, slack) + maxChunk
	if c.packed == nil {
		c.packed = make([]byte, maxPacked)
	}
	c.lzma.dictionary = c.dictionary
	c.lzma.pos, c.taken = 0, 0
	c.needsDictionary, c.needsProperties = true, true
	return nil
}

// take copies what was unpacked and not yet handed over.
func (c *chunks) take(p []byte) int {
	n := copy(p, c.lzma.window[c.taken:c.lzma.pos])
	c.taken += n
	return n
}

// next unpacks a chunk; nil is the end.
func (c *chunks) next() ([]byte, error) {
	control, err := c.in.byte()
	if err != nil {
		return nil, err
	}
	if control == 0 {
		return nil, nil
	}
	if control == 1 || control >= 0xe0 { // forgets the dictionary
		c.needsDictionary, c.needsProperties = false, true
		c.lzma.filled = 0
	}
	switch {
	case c.needsDictionary:
		return nil, damaged("a block begins with what only follows a dictionary")
	case control >= 0x80:
		return c.compressed(control)
	case control > 2:
		return nil, damaged("a chunk of kind %x", control)
	}
	return c.plain()
}

// room makes room for a chunk, and returns where it begins. The window grows with
// what is in it: a small file needs little.
func (c *chunks) room(n int) int {
	l := &c.lzma
	switch end := l.pos + n; {
	case end <= len(l.window):
	case len(l.window) < c.most && end <= c.most:
		window := make([]byte, min(c.most, max(end, 2*len(l.window))))
		copy(window, l.window[:l.pos])
		l.window = window
	default:
		to := l.window
		if len(to) < c.most { // not grown yet: it must hold the dictionary and a whole chunk
			to = make([]byte, c.most)
		}
		copy(to, l.window[l.pos-c.dictionary:l.pos])
		l.window, l.pos = to, c.dictionary
	}
	c.taken = l.pos
	return l.pos
}

// plain copies a chunk that was not compressed.
func (c *chunks) plain() ([]byte, error) {
	var b [2]byte
	if err := c.in.full(b[:]); err != nil {
		return nil, err
	}
	n := int(b[0])<<8 + int(b[1]) + 1
	at := c.room(n)
	l := &c.lzma
	if err := c.in.full(l.window[at : at+n]); err != nil {
		return nil, err
	}
	l.pos += n
	l.filled += n
	return l.window[at:l.pos], nil
}

// compressed unpacks a chunk of LZMA.
func (c *chunks) compressed(control byte) ([]byte, error) {
	var b [4]byte
	if err := c.in.full(b[:]); err != nil {
		return nil, err
	}
	n := int(control&0x1f)<<16 + int(b[0])<<8 + int(b[1]) + 1
	packed := c.packed[:int(b[2])<<8+int(b[3])+1]
	switch {
	case control >= 0xc0:
		properties, err := c.in.byte()
		if err != nil {
			return nil, err
		}
		if !c.lzma.properties(properties) {
			return nil, damaged("a chunk has properties %x", properties)
		}
		c.needsProperties = false
	case c.needsProperties:
		return nil, damaged("a chunk without properties")
	case control >= 0xa0:
		c.lzma.reset()
	}
	if err := c.in.full(packed); err != nil {
		return nil, err
	}
	at := c.room(n)
	if err := c.lzma.unpack(packed, n); err != nil {
		return nil, err
	}
	return c.lzma.window[at:c.lzma.pos], nil
}
