package policy

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/castellan-security/castellan/internal/signature"
)

// Text is what a value must be: exactly something, something with "*" in it, or
// what a regular expression describes from its first to its last letter.
type Text struct {
	Form string // as people are shown it
	is   string
	re   *regexp.Regexp

	expression bool // the user's own, no pattern
}

// Exactly returns the Text that matches one value.
func Exactly(s string) Text { return Text{Form: s, is: s} }

// Glob returns the Text of a value in which "*" stands for any letters but "/",
// and "**" for any letters. Without either it is the value itself.
func Glob(s string) (Text, error) {
	if len(s) > MaxText || s == "" {
		return Text{}, fmt.Errorf("a value has 1 to %d bytes, this one %d", MaxText, len(s))
	}
	if !strings.Contains(s, "*") {
		return Exactly(s), nil
	}
	if strings.Contains(s, "***") {
		return Text{}, fmt.Errorf(`"***" means nothing: "*" stands for any letters but "/", "**" for any letters`)
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "**"):
			b.WriteString(`.*`)
			i += 2
		case s[i] == '*':
			b.WriteString(`[^/]*`)
			i++
		default:
			end := strings.IndexByte(s[i:], '*')
			if end < 0 {
				end = len(s) - i
			}
			b.WriteString(regexp.QuoteMeta(s[i : i+end]))
			i += end
		}
	}
	re, err := regexp.Compile(`(?s)\A` + b.String() + `\z`)
	return Text{Form: s, re: re}, err
}

// Regexp returns the Text that a regular expression (RE2) describes. It always
// means the whole value, whether or not it says so with ^ and $.
func Regexp(s string) (Text, error) {
	if len(s) > MaxText || s == "" {
		return Text{}, fmt.Errorf("an expression has 1 to %d bytes, this one %d", MaxText, len(s))
	}
	if _, err := regexp.Compile(s); err != nil {
		return Text{}, err // what is no expression by itself must not become one within the brackets below
	}
	re, err := regexp.Compile(`\A(?:` + s + `)\z`)
	return Text{Form: "/" + s + "/", re: re, expression: true}, err
}

// Matches reports whether a value is what is meant. An empty value never is.
func (t Text) Matches(s string) bool {
	switch {
	case s == "":
		return false
	case t.re != nil:
		return t.re.MatchString(s)
	}
	return s == t.is && t.is != ""
}

// names reports whether a certificate's alternative name is what is meant: a
// pattern of hosts is no pattern of e-mail addresses, though "*" stands for "@" too.
// An expression says itself what it means.
func (t Text) names(s string) bool {
	form := signature.FormOf(s)
	return t.Matches(s) && (form == signature.FormOf(t.Form) || form == signature.FormIP || t.expression)
}

// Exact reports whether only one value matches.
func (t Text) Exact() bool { return t.re == nil }
