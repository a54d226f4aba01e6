package apparmor

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/profile"
)

// quoted writes a pattern as AppArmor does, in quotes. "*" and "**" mean there
// what they mean here; everything else stands for itself, whatever it is: the
// parser reads a quoted text twice, once for its quotes and control characters,
// once for its globs, and what is special to either is escaped for it.
func quoted(p profile.Pattern, tail string) string {
	text := glob(string(p)) + tail
	if strings.HasSuffix(text, `\`) {
		// The parser looks for the closing quote before it reads escapes, and takes one
		// behind any backslash for a part of the text: what stands for nothing parts them.
		text += "{,}"
	}
	return `"` + text + `"`
}

func glob(s string) string {
	var b strings.Builder
	text := utf8.ValidString(s) // else a part of a letter
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c == 0x7f || c > 0x7f && !text:
			fmt.Fprintf(&b, `\%03o`, c)
		case strings.IndexByte(`\"?[]{}^`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
