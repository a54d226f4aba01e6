package pull

import "bytes"

// Skip reads the next value and forgets it. Of what passes only strings and the
// balance of brackets are looked at.
func (r *Reader) Skip() {
	if r.err != nil {
		return
	}
	if !r.space() {
		r.Fail(errShort)
		return
	}
	switch c := r.data[r.pos]; c {
	case '{', '[':
		if r.in != nil {
			r.looseNested()
			return
		}
		r.skipNested(c)
	case '"':
		if r.in != nil {
			r.pos++
			r.pieces(0, false)
			return
		}
		r.skipText()
	case 't':
		r.literal("true")
	case 'f':
		r.literal("false")
	case 'n':
		r.literal("null")
	default:
		if r.in != nil {
			r.looseLiteral()
			return
		}
		r.skipNumber()
	}
}

// skipNested goes through an array or object. It is not recursive beyond
// MaxDepth, which enter keeps.
func (r *Reader) skipNested(open byte) {
	if open == '{' {
		r.Object()
	} else {
		r.Array()
	}
	for r.Next() {
		r.Skip()
	}
}

func (r *Reader) skipText() {
	r.pos++
	for {
		rest := r.data[r.pos:]
		end := bytes.IndexByte(rest, '"')
		if end < 0 {
			r.pos = len(r.data)
			r.Fail(errShort)
			return
		}
		r.pos += end + 1
		// It is the end unless an odd number of backslashes is in front of it.
		slashes := 0
		for end-slashes > 0 && rest[end-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return
		}
	}
}

// skipNumber takes the grammar of JSON's numbers.
func (r *Reader) skipNumber() {
	start := r.pos
	r.one('-')
	if !r.one('0') && !r.digits() {
		r.pos = start
		r.fail("want a value")
		return
	}
	if r.one('.') && !r.digits() {
		r.fail("want digits after the point")
		return
	}
	if r.one('e') || r.one('E') {
		if !r.one('+') {
			r.one('-')
		}
		if !r.digits() {
			r.fail("want digits in the exponent")
		}
	}
}

func (r *Reader) one(c byte) bool {
	if r.pos < len(r.data) && r.data[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

func (r *Reader) digits() bool {
	start := r.pos
	for r.pos < len(r.data) && r.data[r.pos] >= '0' && r.data[r.pos] <= '9' {
		r.pos++
	}
	return r.pos > start
}
