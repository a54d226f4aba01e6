package version

import "strings"

// What may come next in a version of apk, in its order. The suffixes of
// pre-releases are lower than everything, the end included.
const (
	apkPre          = 0x01 // and a place for each word of apkBefore
	apkInvalid      = 0x10
	apkEnd          = 0x11
	apkRevision     = 0x12
	apkHash         = 0x13
	apkSuffixNumber = 0x14
	apkPost         = 0x20 // and a place for each word of apkAfter
	apkLetter       = 0x30
	apkZeroed       = 0x31
	apkNumber       = 0x32
)

var (
	apkBefore = [...]string{"alpha", "beta", "pre", "rc"}
	apkAfter  = [...]string{"cvs", "svn", "git", "hg", "p"}
)

// apkKey is number{.number}…{letter}{_suffix{number}}…{~hash}{-r#}. What does
// not fit is lower than the same version without it.
func apkKey(dst []byte, v string) ([]byte, error) {
	n := digits(v)
	dst = appendNumber(append(dst, apkNumber), v[:n])
	v = v[n:]
	for {
		switch {
		case len(v) > 1 && v[0] == '.' && isDigit(v[1]):
			n := 1 + digits(v[1:])
			dst = apkComponent(dst, v[1:n])
			v = v[n:]
			continue
		case v != "" && v[0]-'a' < 26:
			dst = append(dst, apkLetter, v[0])
			v = v[1:]
			if n := digits(v); n > 0 { // not by the manual, but apk 2 took it
				dst = apkComponent(dst, v[:n])
				v = v[n:]
			}
			continue
		}
		break
	}
	dst, v = apkSuffixes(dst, v)
	if strings.HasPrefix(v, "~") {
		n := 1
		for n < len(v) && (isDigit(v[n]) || v[n]-'a' < 6) {
			n++
		}
		dst = appendWord(dst, apkHash, v[1:n])
		v = v[n:]
	}
	if strings.HasPrefix(v, "-r") {
		n := 2 + digits(v[2:])
		dst = appendNumber(append(dst, apkRevision), v[2:n])
		v = v[n:]
	}
	if v != "" {
		return appendWord(dst, apkInvalid, v), nil
	}
	return append(dst, apkEnd), nil
}

// apkComponent is a number after a dot. With a leading zero it is a decimal
// fraction, compared digit by digit, and lower than one without.
func apkComponent(dst []byte, digits string) []byte {
	if digits[0] == '0' {
		return appendWord(dst, apkZeroed, digits)
	}
	return appendNumber(append(dst, apkNumber), digits)
}

func apkSuffixes(dst []byte, v string) ([]byte, string) {
	for strings.HasPrefix(v, "_") {
		tag, size := apkSuffix(v[1:])
		if size == 0 {
			break
		}
		dst = append(dst, tag)
		v = v[1+size:]
		if n := digits(v); n > 0 {
			dst = appendNumber(append(dst, apkSuffixNumber), v[:n])
			v = v[n:]
		}
	}
	return dst, v
}

// apkSuffix returns the place of the suffix that s begins with, and its length,
// or zero if it begins with none.
func apkSuffix(s string) (tag byte, size int) {
	for i, word := range apkBefore {
		if strings.HasPrefix(s, word) {
			return byte(apkPre + i), len(word)
		}
	}
	for i, word := range apkAfter {
		if strings.HasPrefix(s, word) {
			return byte(apkPost + i), len(word)
		}
	}
	return 0, 0
}
