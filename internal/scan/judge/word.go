package judge

import (
	"strings"
	"unicode"
)

// Word is a secret among the words of a command.
type Word struct {
	At    int    // which word holds it
	Name  string // of the option or variable, never what may be the secret itself
	Kind  string // with its article: "a password"
	Of    Kind   // as its name says; empty: it is one by its form
	Value string
}

// Words finds secrets among the words of a command: --password=X, --password X,
// NAME=X, and what is one by its form. A word may be a whole command line, as a
// shell is given it.
func Words(words []string) []Word {
	return wordsWithin(words, 0, Form, func(name, value string) (Kind, bool) {
		v, ok := Pair(name, value, Own)
		return v.Kind, ok && v.Doubt == ""
	})
}

// MayHold says that a text may tell somebody's secret, doubtful or not: it must not
// be shown then.
func MayHold(text string) bool {
	if len(text) > MaxText {
		return true
	}
	suspect := func(v string) string {
		for i := range forms {
			if f := &forms[i]; hasAny(v, f.marks) && f.is().MatchString(v) {
				return f.what
			}
		}
		if hasLogin(v, func(l Login) bool { return !isTemplate(l.Password) }) {
			return "a login"
		}
		return ""
	}
	return suspect(text) != "" || len(wordsWithin(strings.Fields(text), 0, suspect, func(name, value string) (Kind, bool) {
		low := strings.ToLower(value)
		return Secret, Name(name, Own) != "" && value != "" && !isTemplate(value) && !settings[low] && !isLookup(low, true) && !isPath(value)
	})) > 0
}

// maxLines bounds how often a command line is within a word of another.
const maxLines = 3

func wordsWithin(words []string, depth int, form func(string) string, pair func(name, value string) (Kind, bool)) []Word {
	var out []Word
	add := func(at int, name, value string) {
		name, value = strings.TrimLeft(name, "-"), strings.Trim(value, `"'`)
		if kind, ok := pair(name, value); ok {
			out = append(out, Word{at, name, "a " + string(kind), kind, value})
		}
	}
	for i, w := range words {
		if len(w) > MaxText {
			continue
		}
		name, value, assigned := strings.Cut(w, "=")
		if kind := form(w); kind != "" {
			out = append(out, Word{i, firstWord(strings.TrimLeft(name, "-")), kind, "", w})
			continue
		}
		switch {
		case strings.ContainsAny(strings.TrimSpace(w), " \n\t"):
			if parts := strings.Fields(w); len(parts) > 1 && depth < maxLines {
				for _, f := range wordsWithin(parts, depth+1, form, pair) {
					f.At = i
					out = append(out, f)
				}
			}
		case assigned:
			add(i, name, value)
		case strings.HasPrefix(name, "-") && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") && !strings.HasSuffix(name, "-stdin"):
			add(i+1, name, words[i+1])
		}
	}
	return out
}

// firstWord names an argument without showing what follows, or what is itself the
// secret.
func firstWord(s string) string {
	const longest = 40
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' }); i >= 0 {
		s = s[:i]
	}
	if Form(s) != "" || len(s) > longest || s == "" || forms[0].is().MatchString(s) {
		return "a word"
	}
	return s
}
