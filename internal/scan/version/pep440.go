package version

import "strings"

// Parts of a key of PEP 440. A version that the PEP does not know is lower than
// all that it knows.
const (
	pepLegacy = 1
	pepValid  = 2

	pepEnd    = 1 // of the release's numbers, of the local label
	pepNumber = 2

	pepDevOnly = 1 // a development release of no pre-release is lower than those
	pepA       = 2
	pepB       = 3
	pepRC      = 4
	pepFinal   = 5

	pepNone  = 1 // no post-release, no local label
	pepSome  = 2
	pepDev   = 1 // a development release is lower than what it leads to
	pepNoDev = 2

	pepLocalWord   = 2
	pepLocalNumber = 3
)

// pep440Key is [N!]N(.N)*[{a|b|rc}N][.postN][.devN][+local], in all spellings
// that the PEP lets pass.
func pep440Key(dst []byte, v string) ([]byte, error) {
	start := len(dst)
	if key, ok := pep440(append(dst, pepValid), v); ok {
		return key, nil
	}
	return appendLowered(dst[:start], pepLegacy, v), nil
}

func pep440(dst []byte, v string) ([]byte, bool) {
	if v[0]|0x20 == 'v' {
		v = v[1:]
	}
	n := digits(v)
	if n > 0 && n < len(v) && v[n] == '!' {
		dst = appendNumber(dst, v[:n])
		v = v[n+1:]
	} else {
		dst = append(dst, 0)
	}
	dst, v, ok := pepRelease(dst, v)
	if !ok {
		return dst, false
	}
	pre, preNumber, v := pepPhase(v, pepPhases[:])
	hasPost, postNumber, v := pepPost(v)
	dev, devNumber, v := pepPhase(v, pepDevs[:])
	switch {
	case pre != 0:
		dst = appendNumber(append(dst, pre), preNumber)
	case dev != 0 && !hasPost:
		dst = append(dst, pepDevOnly)
	default:
		dst = append(dst, pepFinal)
	}
	if hasPost {
		dst = appendNumber(append(dst, pepSome), postNumber)
	} else {
		dst = append(dst, pepNone)
	}
	if dev != 0 {
		dst = appendNumber(append(dst, pepDev), devNumber)
	} else {
		dst = append(dst, pepNoDev)
	}
	if v == "" {
		return append(dst, pepNone), true
	}
	return pepLocal(dst, v)
}

// pepRelease appends the numbers, without trailing zeros.
func pepRelease(dst []byte, v string) ([]byte, string, bool) {
	counts := len(dst)
	for {
		n := digits(v)
		if n == 0 {
			return dst, v, false
		}
		dst = appendNumber(append(dst, pepNumber), v[:n])
		if !isZero(v[:n]) {
			counts = len(dst)
		}
		v = v[n:]
		if len(v) < 2 || v[0] != '.' || !isDigit(v[1]) {
			return append(dst[:counts], pepEnd), v, true
		}
		v = v[1:]
	}
}

type pepWord struct {
	word  string
	place byte
}

// Longer words come before the shorter ones that they begin with.
var (
	pepPhases = [...]pepWord{
		{"alpha", pepA}, {"a", pepA}, {"beta", pepB}, {"b", pepB}, {"preview", pepRC}, {"pre", pepRC}, {"rc", pepRC}, {"c", pepRC}}
	pepPosts = [...]pepWord{{"post", pepSome}, {"rev", pepSome}, {"r", pepSome}}
	pepDevs  = [...]pepWord{{"dev", pepDev}}
)

// pepPhase takes [-_.]?word[-_.]?N? off v. The place is 0 if there is none.
func pepPhase(v string, words []pepWord) (place byte, number, rest string) {
	s := v
	if s != "" && isPepSeparator(s[0]) {
		s = s[1:]
	}
	for _, w := range words {
		if !hasFold(s, w.word) {
			continue
		}
		s = s[len(w.word):]
		if len(s) > 1 && isPepSeparator(s[0]) && isDigit(s[1]) {
			s = s[1:]
		}
		n := digits(s)
		rest = s[n:]
		if n == 0 && len(rest) == 1 && isPepSeparator(rest[0]) {
			rest = "" // "1.0a." has a separator and no number
		}
		return w.place, s[:n], rest
	}
	return 0, "", v
}

// pepPost takes a post-release off v, which may be just -N.
func pepPost(v string) (ok bool, number, rest string) {
	if len(v) > 1 && v[0] == '-' && isDigit(v[1]) {
		n := 1 + digits(v[1:])
		return true, v[1:n], v[n:]
	}
	place, number, rest := pepPhase(v, pepPosts[:])
	return place != 0, number, rest
}

// pepLocal appends the label behind a plus.
func pepLocal(dst []byte, v string) ([]byte, bool) {
	if v[0] != '+' {
		return dst, false
	}
	dst = append(dst, pepSome)
	for v != "" {
		v = v[1:]
		n := 0
		for n < len(v) && (isDigit(v[n]) || isLetter(v[n])) {
			n++
		}
		if n == 0 || n < len(v) && !isPepSeparator(v[n]) {
			return dst, false
		}
		if digits(v[:n]) == n {
			dst = appendNumber(append(dst, pepLocalNumber), v[:n])
		} else {
			dst = appendLowered(dst, pepLocalWord, v[:n])
		}
		v = v[n:]
	}
	return append(dst, pepEnd), true
}

func isPepSeparator(c byte) bool { return strings.IndexByte("-_.", c) >= 0 }
