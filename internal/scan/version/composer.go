package version

import "strings"

// What may follow the numbers, in the order of PHP's version_compare. All words
// that it does not know are the same to it.
const (
	composerUnknown = 1 + iota
	composerDev
	composerAlpha
	composerBeta
	composerRC
	composerEnd
	composerNumber
	composerPatch
)

// composerWild is what Composer puts for the open part of 1.x.
const composerWild = "9999999"

// composerKey is v?N(.N)*, with as many zeros behind as one likes, as Composer
// normalises versions, then words and numbers.
func composerKey(dst []byte, v string) ([]byte, error) {
	if hasFold(v, "dev-") {
		return dst, ErrBranch
	}
	v, _, _ = strings.Cut(v, "+")
	dst, rest, err := semverCore(dst, v, false)
	if err != nil {
		return dst, err
	}
	if wild := strings.TrimLeft(rest, "."); wild != rest && wild != "" && (wild[0]|0x20 == 'x' || wild[0] == '*') {
		dst = appendNumber(append(dst[:len(dst)-1], semverNumber), composerWild)
		dst = append(dst, semverEnd)
		rest = wild[1:]
	}
	for rest != "" {
		if n := digits(rest); n > 0 {
			dst = appendNumber(append(dst, composerNumber), rest[:n])
			rest = rest[n:]
			continue
		}
		if n := letters(rest); n > 0 {
			if !foldsTo(rest[:n], "stable") {
				dst = append(dst, composerPlace(rest[:n]))
			}
			rest = rest[n:]
			continue
		}
		rest = rest[1:]
	}
	return append(dst, composerEnd), nil
}

func composerPlace(word string) byte {
	switch {
	case hasFold(word, "dev"):
		return composerDev
	case hasFold(word, "a"):
		return composerAlpha
	case hasFold(word, "b"):
		return composerBeta
	case hasFold(word, "rc"):
		return composerRC
	case hasFold(word, "p"):
		return composerPatch
	}
	return composerUnknown
}
