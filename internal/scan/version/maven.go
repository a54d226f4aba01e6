package version

// What may come next, in order. Words that are known have a place of their own;
// unknown ones follow them. Maven up to 3.8 put ".word" below "-word"; it is the
// same since, and here.
const (
	mavenAlpha = 1 + iota
	mavenBeta
	mavenMilestone
	mavenRC
	mavenSnapshot
	mavenEnd
	mavenSP
	mavenUnknown
	mavenHyphenNumber
	mavenDotNumber
)

// mavenToken is a number or a word, and whether a hyphen, or a change between
// digits and letters, stands in front of it.
type mavenToken struct {
	text   string
	number bool
	hyphen bool
	// short says that a number follows at once, so that a, b and m are alpha,
	// beta and milestone.
	short bool
}

// mavenFew tokens are in nearly every version.
const mavenFew = 16

func mavenKey(dst []byte, v string) ([]byte, error) {
	var few [mavenFew]mavenToken
	for _, t := range mavenTrim(mavenTokens(few[:0], v)) {
		if !t.number && t.null() {
			t.text, t.number = "", true // a word for a release that was not trimmed stands for zero
		}
		switch place := t.place(); {
		case t.number && t.hyphen:
			dst = appendNumber(append(dst, mavenHyphenNumber), t.text)
		case t.number:
			dst = appendNumber(append(dst, mavenDotNumber), t.text)
		case place == mavenUnknown:
			dst = appendLowered(dst, mavenUnknown, t.text)
		default:
			dst = append(dst, place)
		}
	}
	return append(dst, mavenEnd), nil
}

// mavenTokens splits at dots, hyphens and changes between digits and letters.
// What is empty is zero.
func mavenTokens(ts []mavenToken, v string) []mavenToken {
	hyphen := false
	for {
		n := digits(v)
		number := n > 0
		if !number {
			for n < len(v) && v[n] != '.' && v[n] != '-' && !isDigit(v[n]) {
				n++
			}
		}
		t := mavenToken{text: v[:n], number: number || n == 0, hyphen: hyphen}
		v = v[n:]
		t.short = !t.number && v != "" && isDigit(v[0])
		ts = append(ts, t)
		switch {
		case v == "":
			return ts
		case v[0] == '.' || v[0] == '-':
			hyphen = v[0] == '-'
			v = v[1:]
		default:
			hyphen = true
		}
	}
}

// mavenTrim takes away what means nothing: zeros and words for a release, at
// the end, before a hyphen and before a word.
func mavenTrim(ts []mavenToken) []mavenToken {
	kept := len(ts)
	for i := len(ts) - 1; i > 0; i-- {
		next := i + 1
		last := next == len(ts) || ts[next].hyphen || !ts[next].number
		if last && ts[i].null() {
			ts = append(ts[:i], ts[next:]...)
			kept--
		}
	}
	return ts[:kept]
}

func (t mavenToken) null() bool {
	if t.number {
		return isZero(t.text)
	}
	return t.place() == mavenEnd
}

// place returns where a word stands.
func (t mavenToken) place() byte {
	if t.number {
		return mavenDotNumber
	}
	if t.short && len(t.text) == 1 {
		switch lower(t.text[0]) {
		case 'a':
			return mavenAlpha
		case 'b':
			return mavenBeta
		case 'm':
			return mavenMilestone
		}
	}
	for i := range mavenWords {
		if foldsTo(t.text, mavenWords[i].word) {
			return mavenWords[i].place
		}
	}
	return mavenUnknown
}

var mavenWords = [...]struct {
	word  string
	place byte
}{
	{"alpha", mavenAlpha}, {"beta", mavenBeta}, {"milestone", mavenMilestone}, {"rc", mavenRC}, {"cr", mavenRC},
	{"snapshot", mavenSnapshot}, {"ga", mavenEnd}, {"final", mavenEnd}, {"release", mavenEnd}, {"sp", mavenSP},
}
