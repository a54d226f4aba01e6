package db

import (
	"strings"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/store"
)

// Words are runs of letters, digits, underscores and bytes beyond ASCII. What
// the index keeps of one is its stem: ASCII letters in lower case, at most
// maxStem bytes, cut where digits make it one of a kind (a number, a hash, an
// address), so that the dictionary stays small. A stem is found from left to
// right, so the stem of a beginning is the beginning of the stem: that is what
// lets a query look for beginnings.
const (
	maxStem = 24
	// leadingDigits keeps the parts of an IPv4 address.
	leadingDigits = 3
	// innerDigits keeps python3 and sha256's first digit.
	innerDigits = 1
)

// eachStem calls see with the stem of every word of s, appended to buf[:0].
func eachStem(s string, buf []byte, see func(stem []byte)) {
	for i := 0; i < len(s); {
		if !store.IsWord(s[i]) {
			i++
			continue
		}
		start := i
		for i < len(s) && store.IsWord(s[i]) {
			i++
		}
		see(appendStem(buf[:0], s[start:i]))
	}
}

func appendStem(b []byte, word string) []byte {
	digits, leading := 0, true
	for i := 0; i < len(word); i++ {
		c := word[i]
		if len(b) == maxStem {
			return wholeRunes(b)
		}
		switch {
		case '0' <= c && c <= '9':
			if leading && digits == leadingDigits || !leading && digits >= innerDigits {
				return b
			}
			digits++
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
			leading = false
		default:
			leading = false
		}
		b = append(b, c)
	}
	return b
}

// wholeRunes drops a rune that the length limit cut in two.
func wholeRunes(b []byte) []byte {
	for i := 0; i < utf8.UTFMax && len(b) > 0; i++ {
		if r, n := utf8.DecodeLastRune(b); r != utf8.RuneError || n > 1 {
			return b
		}
		b = b[:len(b)-1]
	}
	return b
}

// likePattern matches want anywhere, for LIKE … ESCAPE '\'.
func likePattern(want string) string {
	return "%" + likeEscaper.Replace(want) + "%"
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)
