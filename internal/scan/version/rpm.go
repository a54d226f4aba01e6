package version

import "strings"

// What may come next in a version or release of rpm, in its order: a tilde is
// lower even than the end, a caret only higher than the end, letters are lower
// than numbers.
const (
	rpmTilde = 1 + iota
	rpmEnd
	rpmCaret
	rpmLetters
	rpmNumber
)

// rpmKey is [epoch:]version[-release]; a missing epoch is 0, a missing release
// lower than any. What stands before a colon and is no number is no epoch.
func rpmKey(dst []byte, v string) ([]byte, error) {
	if n := digits(v); n < len(v) && v[n] == ':' {
		dst = appendNumber(dst, v[:n])
		v = v[n+1:]
	} else {
		dst = append(dst, 0)
	}
	release := ""
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		v, release = v[:i], v[i+1:]
	}
	return rpmPart(rpmPart(dst, v), release), nil
}

// rpmPart is what rpmvercmp compares: runs of letters and runs of digits,
// whatever stands between them.
func rpmPart(dst []byte, s string) []byte {
	for s != "" {
		switch c := s[0]; {
		case c == '~':
			dst = append(dst, rpmTilde)
			s = s[1:]
		case c == '^':
			dst = append(dst, rpmCaret)
			s = s[1:]
		case isDigit(c):
			n := digits(s)
			dst = appendNumber(append(dst, rpmNumber), s[:n])
			s = s[n:]
		case isLetter(c):
			n := letters(s)
			dst = appendWord(dst, rpmLetters, s[:n])
			s = s[n:]
		default:
			s = s[1:]
		}
	}
	return append(dst, rpmEnd)
}
