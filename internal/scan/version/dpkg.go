package version

import "strings"

// What may stand where dpkg expects text between numbers, in its order: a tilde
// sorts before the end, letters before everything else.
const (
	dpkgTilde  = 1
	dpkgEnd    = 2
	dpkgLetter = 3 // 'A' and on
	dpkgOther  = dpkgLetter + 'z' - 'A' + 1
)

// dpkgRank is where each byte stands; digits have none.
var dpkgRank = rankForDpkg()

func rankForDpkg() (rank [256]byte) {
	other := byte(dpkgOther)
	for i := range rank {
		c := byte(i)
		switch {
		case isDigit(c):
		case c == '~':
			rank[i] = dpkgTilde
		case isLetter(c):
			rank[i] = dpkgLetter + c - 'A'
		default:
			rank[i] = other
			other++
		}
	}
	return rank
}

// dpkgKey is [epoch:]upstream[-revision]; a missing revision is the same as 0.
func dpkgKey(dst []byte, v string) ([]byte, error) {
	if i := strings.IndexByte(v, ':'); i >= 0 {
		if !allDigits(v[:i]) {
			return dst, ErrEpoch
		}
		dst = appendNumber(dst, v[:i])
		v = v[i+1:]
	} else {
		dst = append(dst, 0)
	}
	revision := ""
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		v, revision = v[:i], v[i+1:]
	}
	return dpkgPart(dpkgPart(dst, v), revision), nil
}

// dpkgPart alternates text, which may be empty, and numbers, which may be
// missing and are then zero.
func dpkgPart(dst []byte, s string) []byte {
	for first := true; first || s != ""; first = false {
		for s != "" && !isDigit(s[0]) {
			dst = append(dst, dpkgRank[s[0]])
			s = s[1:]
		}
		dst = append(dst, dpkgEnd)
		n := digits(s)
		dst = appendNumber(dst, s[:n])
		s = s[n:]
	}
	return append(dst, dpkgEnd)
}
