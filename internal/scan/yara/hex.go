package yara

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// hexReader reads a hexadecimal string and writes it as an expression.
type hexReader struct {
	src   string
	at    int
	out   strings.Builder
	plain []byte // what it is if it has nothing but bytes
	more  bool   // it has something else
	depth int
	width int // bytes that it may take at most
}

// read returns the expression; plain is set if it is a text.
func (h *hexReader) read() (string, error) {
	if err := h.sequence(); err != nil {
		return "", err
	}
	if h.at < len(h.src) {
		return "", fmt.Errorf("%q where it should end", h.src[h.at])
	}
	if h.width > maxMatch {
		return "", fmt.Errorf("it may take %d bytes, more than %d", h.width, maxMatch)
	}
	if h.more {
		h.plain = nil
	} else if h.plain == nil {
		return "", errors.New("it is empty")
	}
	return h.out.String(), nil
}

// blank passes over blanks and comments.
func (h *hexReader) blank() {
	for h.at < len(h.src) {
		rest := h.src[h.at:]
		switch {
		case strings.HasPrefix(rest, "//"):
			if n := strings.IndexByte(rest, '\n'); n >= 0 {
				h.at += n
			} else {
				h.at = len(h.src)
			}
		case strings.HasPrefix(rest, "/*"):
			if n := strings.Index(rest, "*/"); n >= 0 {
				h.at += n + 2
			} else {
				h.at = len(h.src)
			}
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\n' || rest[0] == '\r':
			h.at++
		default:
			return
		}
	}
}

func (h *hexReader) sequence() error {
	for {
		h.blank()
		if h.at >= len(h.src) {
			return nil
		}
		var err error
		switch c := h.src[h.at]; c {
		case ')', '|':
			return nil
		case '(':
			err = h.alternatives()
		case '[':
			err = h.jump()
		default:
			err = h.byte()
		}
		if err != nil {
			return err
		}
	}
}

func (h *hexReader) alternatives() error {
	if h.depth++; h.depth > maxDepth {
		return errors.New("its brackets nest too deep")
	}
	h.more = true
	before, widest := h.width, 0
	h.out.WriteString("(?:")
	for {
		h.at++
		h.width = 0
		from := h.out.Len()
		if err := h.sequence(); err != nil {
			return err
		}
		if h.out.Len() == from {
			return errors.New("an alternative is empty")
		}
		widest = max(widest, h.width)
		if h.at >= len(h.src) {
			return errors.New("a bracket is not closed")
		}
		if h.src[h.at] == ')' {
			h.at++
			break
		}
		h.out.WriteByte('|')
	}
	h.out.WriteByte(')')
	h.width = before + widest
	h.depth--
	return nil
}

// byte reads two digits, each of which may be open.
func (h *hexReader) byte() error {
	not := false
	if h.src[h.at] == '~' {
		not, h.more = true, true
		h.at++
	}
	if h.at+2 > len(h.src) {
		return errors.New("half a byte is left over")
	}
	hi, lo := h.src[h.at], h.src[h.at+1]
	h.at += 2
	h.width++
	high, okHigh := nibble(hi)
	low, okLow := nibble(lo)
	if !okHigh && hi != '?' || !okLow && lo != '?' || not && !okHigh && !okLow {
		return fmt.Errorf("%q is no byte", string([]byte{hi, lo}))
	}
	negated := ""
	if not {
		negated = "^"
	}
	switch {
	case okHigh && okLow && !not:
		h.plain = append(h.plain, high<<4|low)
		fmt.Fprintf(&h.out, `\x%02x`, high<<4|low)
	case okHigh && okLow:
		fmt.Fprintf(&h.out, `[^\x%02x]`, high<<4|low)
	case okHigh:
		h.more = true
		fmt.Fprintf(&h.out, `[%s\x%02x-\x%02x]`, negated, high<<4, high<<4|15)
	case okLow:
		h.more = true
		h.out.WriteString("[" + negated)
		for k := range 16 {
			fmt.Fprintf(&h.out, `\x%02x`, byte(k)<<4|low)
		}
		h.out.WriteByte(']')
	default:
		h.more = true
		h.out.WriteByte('.')
	}
	return nil
}

func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// jump reads [n], [n-m]; what has no end would have to be looked for in the whole
// file.
func (h *hexReader) jump() error {
	n := strings.IndexByte(h.src[h.at:], ']')
	if n < 0 {
		return errors.New("a jump is not closed")
	}
	from, to, ranged := strings.Cut(strings.ReplaceAll(h.src[h.at+1:h.at+n], " ", ""), "-")
	h.at += n + 1
	h.more = true
	if !ranged {
		to = from
	}
	if ranged && from == "" {
		from = "0"
	}
	if to == "" {
		return fmt.Errorf("a jump without an end: files are looked at as they pass, so a match may take %d bytes at most", maxMatch)
	}
	least, err1 := strconv.Atoi(from)
	most, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil || least < 0 || most < least {
		return errors.New("a jump is none")
	}
	if most > maxMatch {
		return fmt.Errorf("a jump of %d bytes: a match may take %d at most", most, maxMatch)
	}
	h.width += most
	const piece = 1000 // more an expression cannot repeat at once
	for left := least; left > 0; left -= piece {
		fmt.Fprintf(&h.out, ".{%d}", min(left, piece))
	}
	for left := most - least; left > 0; left -= piece {
		fmt.Fprintf(&h.out, ".{0,%d}", min(left, piece))
	}
	return nil
}
