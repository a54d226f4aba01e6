package store

import (
	"strings"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/event"
)

// Matches decides EventQuery.Text on one event: whether every one of the words
// occurs in it. The store and whoever follows live ask the same question, so
// that a page and what is added to it agree.
func Matches(e *event.Event, words []string) bool {
	for _, want := range words {
		if !occurs(e, want) {
			return false
		}
	}
	return true
}

func occurs(e *event.Event, want string) bool {
	if Holds(e.Process.Executable, want) || Holds(e.Process.Name, want) {
		return true
	}
	if e.Exec != nil {
		for _, a := range e.Exec.Args {
			if Holds(a, want) {
				return true
			}
		}
	}
	for text := range Objects(e) {
		if Holds(text, want) {
			return true
		}
	}
	return false
}

// Holds reports whether want, which is not empty, occurs in text at the start
// of a word, ignoring the case of ASCII letters. A want that begins with
// another character than a word's may occur anywhere.
func Holds(text, want string) bool {
	text, want = asciiLower(text), asciiLower(want)
	for from := 0; ; {
		i := strings.Index(text[from:], want)
		if i < 0 {
			return false
		}
		at := from + i
		if at == 0 || !IsWord(want[0]) || !IsWord(text[at-1]) {
			return true
		}
		from = at + 1
	}
}

// IsWord reports whether c is part of a word: a letter, a digit, an underscore
// or a byte beyond ASCII.
func IsWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c >= utf8.RuneSelf
}

func asciiLower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
