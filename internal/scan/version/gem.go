package version

// What may come next, in order: words make a pre-release and are lower than the
// end. A zero counts as much as the end does, so what decides is what follows
// the zeros; it is looked up when the key is made.
const (
	gemWord = 1 + iota
	gemZeroThenWord
	gemEnd
	gemZeroThenNumber
	gemNumber
)

type gemSegment struct {
	text   string
	number bool
}

// gemFew segments are in nearly every version.
const gemFew = 16

// gemKey takes runs of digits and of letters; a hyphen stands for ".pre.".
func gemKey(dst []byte, v string) ([]byte, error) {
	if digits(v) == 0 {
		return dst, ErrNoNumber
	}
	var few [gemFew]gemSegment
	segments := gemTrim(gemSegments(few[:0], v))
	for i, s := range segments {
		switch {
		case !s.number:
			dst = appendWord(dst, gemWord, s.text)
		case !isZero(s.text):
			dst = appendNumber(append(dst, gemNumber), s.text)
		default:
			dst = append(dst, gemZero(segments[i+1:]))
		}
	}
	return append(dst, gemEnd), nil
}

func gemSegments(segments []gemSegment, v string) []gemSegment {
	for v != "" {
		if n := digits(v); n > 0 {
			segments = append(segments, gemSegment{v[:n], true})
			v = v[n:]
			continue
		}
		if n := letters(v); n > 0 {
			segments = append(segments, gemSegment{v[:n], false})
			v = v[n:]
			continue
		}
		if v[0] == '-' {
			segments = append(segments, gemSegment{"pre", false})
		}
		v = v[1:]
	}
	return segments
}

// gemTrim takes zeros away at the end, and at the end of the numbers in front of
// the first word.
func gemTrim(segments []gemSegment) []gemSegment {
	isZeroAt := func(i int) bool { return segments[i].number && isZero(segments[i].text) }
	word := 0
	for word < len(segments) && segments[word].number {
		word++
	}
	kept := word
	for kept > 0 && isZeroAt(kept-1) {
		kept--
	}
	segments = append(segments[:kept], segments[word:]...)
	for n := len(segments); n > kept && isZeroAt(n-1); n-- {
		segments = segments[:n-1]
	}
	return segments
}

// gemZero returns the place of a zero in front of rest.
func gemZero(rest []gemSegment) byte {
	for _, s := range rest {
		if !s.number {
			return gemZeroThenWord
		}
		if !isZero(s.text) {
			return gemZeroThenNumber
		}
	}
	return gemEnd
}
