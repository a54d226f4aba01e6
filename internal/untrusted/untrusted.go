// Package untrusted shows text that came from containers, labels and requests
// to people, on a page or a terminal, so that nothing in it can hide, move the
// cursor, turn the direction of writing or paint over its neighbours; and clips
// it to what can be kept.
//
// It is not for escaping: HTML is templ's, SQL never meets text at all.
package untrusted

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxShown bounds one text, in bytes: what an agent sends is bounded
// already, and beyond this nobody reads. The API has the whole of it.
const MaxShown = 8 << 10

// maxMarks bounds how many combining marks stand on one letter: real scripts
// need a few, a text that paints over its neighbours needs dozens.
const maxMarks = 4

// Piece is a part of an untrusted Text: as it is, or the visible stand-in for
// something that would not be seen or would change how the rest is seen.
type Piece struct {
	Text    string
	StandIn bool // Text stands in for what could not be shown
}

// Pieces is the one way in which text that came from a container is shown:
// control characters become their escapes (\x1b, \n), everything else that is
// invisible or turns the direction of writing becomes its number (\u202e),
// and a text beyond MaxShown is cut with a note that says so. Escaping for
// HTML is not done here.
func Pieces(s string) []Piece {
	cut := 0
	if len(s) > MaxShown {
		end := MaxShown
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		cut = len(s) - end
		s = s[:end]
	}
	var out []Piece
	start, marks := 0, 0
	for i, r := range s {
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
			marks++
		} else {
			marks = 0
		}
		size := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, size = utf8.DecodeRuneInString(s[i:])
		}
		alt := standIn(r, size)
		if alt == "" && marks > maxMarks {
			alt = fmt.Sprintf(`\u%04x`, r)
		}
		if alt == "" {
			continue
		}
		if start < i {
			out = append(out, Piece{Text: s[start:i]})
		}
		out = append(out, Piece{Text: alt, StandIn: true})
		start = i + size
	}
	if start < len(s) {
		out = append(out, Piece{Text: s[start:]})
	}
	if cut > 0 {
		out = append(out, Piece{Text: fmt.Sprintf("… %d more bytes", cut), StandIn: true})
	}
	return out
}

// standIn returns what to show instead of r, or "" to show r itself.
func standIn(r rune, size int) string {
	switch {
	case r == ' ':
		return ""
	case r == utf8.RuneError && size == 1:
		return "\ufffd"
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < 0x20 || r == 0x7f:
		return fmt.Sprintf(`\x%02x`, r)
	case !unicode.IsPrint(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Variation_Selector, r), isBlank(r):
		if r > 0xffff {
			return fmt.Sprintf(`\U%08x`, r)
		}
		return fmt.Sprintf(`\u%04x`, r)
	}
	return ""
}

// isBlank reports letters that Unicode calls printable and that show nothing.
func isBlank(r rune) bool {
	switch r {
	case 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return true
	}
	return false
}

// Text is Pieces as one string: for terminals, attributes and titles.
func Text(s string) string {
	var b strings.Builder
	for _, p := range Pieces(s) {
		b.WriteString(p.Text)
	}
	return b.String()
}

// CommandLine joins arguments so that one can see where each begins and ends:
// an argument with blanks or quotes is quoted as a shell would want it.
func CommandLine(args []string) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if b.Len() > MaxShown {
			b.WriteString(a)
			continue
		}
		b.WriteString(quoted(a))
	}
	return b.String()
}

func quoted(a string) string {
	plain := a != "" && !strings.ContainsFunc(a, func(r rune) bool {
		return !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:=,@+%^~", r))
	})
	if plain {
		return a
	}
	return "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
}

// Storable reports whether s can be kept as text: valid UTF-8 without NUL.
func Storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// Clip returns s as text that can be kept, of at most n bytes.
func Clip(s string, n int) string {
	if len(s) <= n && Storable(s) {
		return s
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n-- // not within a letter
	}
	return s[:n]
}
