package version

import "strings"

// What may come next, in order: a version without a pre-release is higher than
// one with it; numbers are lower than words among its identifiers.
const (
	semverEnd     = 1
	semverNumber  = 2
	semverWord    = 3
	semverRelease = 0xFF
)

func semverKey(dst []byte, v string) ([]byte, error) {
	dst, rest, err := semverCore(dst, v, false)
	if err != nil {
		return dst, err
	}
	pre, _, _ := strings.Cut(rest, "+")
	return semverPre(dst, pre, false), nil
}

func nugetKey(dst []byte, v string) ([]byte, error) {
	dst, rest, err := semverCore(dst, v, false)
	if err != nil {
		return dst, err
	}
	pre, _, _ := strings.Cut(rest, "+")
	return semverPre(dst, pre, true), nil
}

// pubKey orders builds as well: a version without one is lower.
func pubKey(dst []byte, v string) ([]byte, error) {
	dst, rest, err := semverCore(dst, v, false)
	if err != nil {
		return dst, err
	}
	pre, build, ok := strings.Cut(rest, "+")
	dst = semverPre(dst, pre, false)
	if !ok {
		return append(dst, semverEnd), nil
	}
	return semverIdentifiers(append(dst, semverNumber), build, false), nil
}

// dottedKey is for numbers alone, where 1.0 is lower than 1.0.0.
func dottedKey(dst []byte, v string) ([]byte, error) {
	dst, rest, err := semverCore(dst, v, true)
	if err == nil && rest != "" {
		err = ErrNoNumber
	}
	return dst, err
}

// goKey takes a module's version, or the toolchain's, which has no dot before a
// pre-release (go1.21rc2) and may have the vendor's remarks behind.
func goKey(dst []byte, v string) ([]byte, error) {
	v, isToolchain := strings.CutPrefix(v, "go")
	if !isToolchain {
		return semverKey(dst, v)
	}
	if i := strings.IndexAny(v, " -+"); i >= 0 {
		v = v[:i]
	}
	dst, rest, err := semverCore(dst, v, false)
	if err != nil {
		return dst, err
	}
	n := letters(rest)
	if rest == "" || n == 0 {
		return append(dst, semverRelease), nil
	}
	dst = appendWord(dst, semverWord, rest[:n])
	if d := digits(rest[n:]); d > 0 {
		dst = appendNumber(append(dst, semverNumber), rest[n:n+d])
	}
	return append(dst, semverEnd), nil
}

// semverCore appends the numbers that v begins with, and returns what is behind
// them. Trailing zeros do not count, unless exact.
func semverCore(dst []byte, v string, exact bool) ([]byte, string, error) {
	if v != "" && (v[0]|0x20 == 'v' || v[0] == '=') {
		v = v[1:]
	}
	if v == "" || !isDigit(v[0]) {
		return dst, "", ErrNoNumber
	}
	counts := len(dst) // what is behind it are zeros so far
	for {
		n := digits(v)
		dst = appendNumber(append(dst, semverNumber), v[:n])
		if exact || !isZero(v[:n]) {
			counts = len(dst)
		}
		v = v[n:]
		if len(v) < 2 || !isDigit(v[1]) || v[0] != '.' && !(exact && v[0] == '-') {
			break
		}
		v = v[1:]
	}
	return append(dst[:counts], semverEnd), v, nil
}

// semverPre appends what follows the numbers; a hyphen in front (or, as in 2.x, a
// dot) is not a part of it. With fold, case does not count.
func semverPre(dst []byte, pre string, fold bool) []byte {
	if pre != "" && (pre[0] == '-' || pre[0] == '.') {
		pre = pre[1:]
	}
	if pre == "" {
		return append(dst, semverRelease)
	}
	return semverIdentifiers(dst, pre, fold)
}

func semverIdentifiers(dst []byte, s string, fold bool) []byte {
	for more := true; more; {
		var id string
		id, s, more = strings.Cut(s, ".")
		switch {
		case allDigits(id):
			dst = appendNumber(append(dst, semverNumber), id)
		case fold:
			dst = appendLowered(dst, semverWord, id)
		default:
			dst = appendWord(dst, semverWord, id)
		}
	}
	return append(dst, semverEnd)
}
