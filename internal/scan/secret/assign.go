package secret

import (
	"slices"

	"github.com/castellan-security/castellan/internal/scan/judge"
)

// What stands between a name and its value in gitleaks' rules, byte by byte: what
// their shared part wants, told without an expression. It may let through more
// than the expression does, never less.

const (
	// maxFiller is how far the operator may be from the keyword: 23 bytes of the
	// shared part, and what may be left of a name that is longer than its keyword.
	maxFiller = 64
	// maxPad is what may stand between the operator's first byte and the value:
	// three more of the operator, five of quotes and blanks.
	maxPad = 8
	// leastDistinct is how many different bytes a value of more than 3.5 bits of
	// entropy has at least (2^3.5 = 11.3).
	leastDistinct = 12
	leastGeneric  = 10
	// maxGeneric bounds a value: what is longer is data, and no key. Without a bound
	// a text of names alone would be read to its end for each of them.
	maxGeneric = 1 << 10
)

// assigned says whether an operator follows the name that ends before byte i, and
// for the generic rule, whether a value follows that can be one: then end is
// where a match must end, else -1.
func (s *sifting) assigned(i int, r *rule) (end int, ok bool) {
	b := s.buf
	stop := min(len(b), i+maxFiller)
	for i < stop && isFiller(b[i]) {
		i++
	}
	if i >= stop || !isOperator(b[i]) {
		return -1, false
	}
	if !r.generic {
		return -1, true
	}
	for k := i + 1; k < len(b) && k <= i+1+maxPad; k++ {
		if isGeneric(b[k]) {
			if end, ok := r.genericValue(b, k); ok {
				return end, true
			}
			if b[k] != '=' {
				return -1, false
			}
			continue
		}
		if !isPad(b[k]) {
			return -1, false
		}
	}
	return -1, false
}

// genericValue says whether the run of bytes from i on can be a value of the
// generic rule: long enough, ended as it should be, and none that its entropy or
// its list of words would refuse. A run that begins with the operator's own sign
// may be a value from a later byte on, and is not refused for what is in it.
func (r *rule) genericValue(b []byte, i int) (end int, ok bool) {
	var seen byteSet
	distinct, other := 0, false
	end = i
	for ; end < len(b) && isGeneric(b[end]); end++ {
		if end-i > maxGeneric {
			return end, false
		}
		c := b[end]
		if !seen.has(c) {
			seen.add(c)
			distinct++
		}
		other = other || !isLetter(c) && c != '_' && c != '.' && c != '-'
	}
	if end-i < leastGeneric || distinct < leastDistinct || !other {
		return end, false
	}
	to := end
	if end < len(b) {
		switch b[end] {
		case '`', '\'', '"', ' ', '\t', '\n', '\f', '\r', ';':
			to = end + 1
		case '\\':
			to = end + 2
			if end+1 >= len(b) || lower(b[end+1]) != 'n' && lower(b[end+1]) != 'r' {
				return end, false
			}
		default:
			return end, false
		}
	}
	if b[i] == '=' {
		return to, true
	}
	if value := string(b[i:end]); judge.Entropy(value) <= r.entropy || slices.ContainsFunc(r.allow, func(a allowList) bool { return !a.and && a.stopped(value) }) {
		return end, false
	}
	return to, true
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' && c != '\v' }

func isFiller(c byte) bool {
	return isWord(c) || c == '.' || c == '-' || isSpace(c) || c == '\'' || c == '"'
}

func isOperator(c byte) bool {
	switch c {
	case '=', '>', ':', '|', '?', ',':
		return true
	}
	return false
}

func isPad(c byte) bool {
	return c == '`' || c == '\'' || c == '"' || c == '=' || c == ':' || c == '>' || c == '|' || isSpace(c)
}

func isGeneric(c byte) bool {
	return isWord(c) || c == '.' || c == '=' || c == '-' || c == '+' || c == '/'
}
