package yara

import (
	"fmt"
	"strconv"
	"strings"
)

// kind is what a token is.
type kind uint8

const (
	end kind = iota
	word
	number
	text
	sign     // punctuation and operators
	variable // $a, #a, @a, !a, and each alone
)

type token struct {
	kind kind
	s    string // of a text, what it stands for
	n    int64
	line int
}

// lexer reads tokens. Expressions and hexadecimal strings look like signs to it;
// the parser asks for them where they may be.
type lexer struct {
	src  string
	pos  int
	line int
	tok  token // the next one
}

// syntaxError is why a rule is refused; it unwinds to the rule.
type syntaxError struct {
	line int
	why  string
}

func (l *lexer) fail(format string, args ...any) {
	panic(syntaxError{l.tok.line, fmt.Sprintf(format, args...)})
}

// space passes over blanks and comments.
func (l *lexer) space() {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch c := rest[0]; {
		case c == '\n':
			l.line++
			l.pos++
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			l.pos++
		case strings.HasPrefix(rest, "//"):
			l.skipLine()
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				l.pos = len(l.src)
				return
			}
			l.line += strings.Count(rest[:n+4], "\n")
			l.pos += n + 4
		default:
			return
		}
	}
}

func (l *lexer) skipLine() {
	if n := strings.IndexByte(l.src[l.pos:], '\n'); n >= 0 {
		l.pos += n
		return
	}
	l.pos = len(l.src)
}

// next reads the next token into tok.
func (l *lexer) next() {
	l.space()
	l.tok = token{line: l.line}
	if l.pos >= len(l.src) {
		return
	}
	switch c := l.src[l.pos]; {
	case isLetter(c):
		l.tok.kind, l.tok.s = word, l.name()
	case c >= '0' && c <= '9':
		l.number()
	case c == '"':
		l.text()
	case c == '$' || c == '#' || c == '@' || c == '!' && !strings.HasPrefix(l.src[l.pos:], "!="):
		l.pos++
		l.tok.kind = variable
		l.tok.s = string(c) + l.name()
		if c == '$' && l.pos < len(l.src) && l.src[l.pos] == '*' {
			l.tok.s += "*"
			l.pos++
		}
	default:
		l.sign()
	}
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

func isWord(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' }

const maxName = 128 // as YARA has it

func (l *lexer) name() string {
	from := l.pos
	for l.pos < len(l.src) && isWord(l.src[l.pos]) {
		l.pos++
	}
	if l.pos-from > maxName {
		l.fail("a name of more than %d bytes", maxName)
	}
	return l.src[from:l.pos]
}

func (l *lexer) number() {
	from := l.pos
	for l.pos < len(l.src) && isWord(l.src[l.pos]) {
		l.pos++
	}
	s := l.src[from:l.pos]
	if l.pos+1 < len(l.src) && l.src[l.pos] == '.' && l.src[l.pos+1] >= '0' && l.src[l.pos+1] <= '9' {
		l.fail("a number with a fraction: only whole ones are known")
	}
	factor := int64(1)
	if digits, ok := strings.CutSuffix(s, "KB"); ok {
		s, factor = digits, 1<<10
	} else if digits, ok := strings.CutSuffix(s, "MB"); ok {
		s, factor = digits, 1<<20
	}
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"):
		s, base = s[2:], 16
	case strings.HasPrefix(s, "0o"):
		s, base = s[2:], 8
	}
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil || n > (1<<62)/factor {
		l.fail("%q is no number", l.src[from:l.pos])
	}
	l.tok.kind, l.tok.n = number, n*factor
}

// text reads a text in quotes.
func (l *lexer) text() {
	var b strings.Builder
	for l.pos++; ; l.pos++ {
		if l.pos >= len(l.src) || l.src[l.pos] == '\n' {
			l.fail("a text that does not end in its line")
		}
		c := l.src[l.pos]
		if c == '"' {
			l.pos++
			break
		}
		if c == '\\' {
			c = l.escape()
		}
		b.WriteByte(c)
	}
	if b.Len() > maxText {
		l.fail("a text of more than %d bytes", maxText)
	}
	l.tok.kind, l.tok.s = text, b.String()
}

// escape reads what follows a backslash in a text; at stays at its last byte.
func (l *lexer) escape() byte {
	l.pos++
	if l.pos >= len(l.src) {
		l.fail("a text that does not end")
	}
	switch c := l.src[l.pos]; c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	case '"', '\\':
		return c
	case 'x':
		if l.pos+2 < len(l.src) {
			if n, err := strconv.ParseUint(l.src[l.pos+1:l.pos+3], 16, 8); err == nil {
				l.pos += 2
				return byte(n)
			}
		}
	}
	l.fail("an escape that is not known: \\%c", l.src[l.pos])
	return 0
}

// signs of two characters and more, the longest first.
var signs = []string{"...", "==", "!=", "<=", ">=", "<<", ">>", ".."}

func (l *lexer) sign() {
	l.tok.kind = sign
	for _, s := range signs {
		if strings.HasPrefix(l.src[l.pos:], s) {
			l.tok.s = s
			l.pos += len(s)
			return
		}
	}
	l.tok.s = l.src[l.pos : l.pos+1]
	l.pos++
}

// is says whether the next token is that sign or word.
func (l *lexer) is(s string) bool { return (l.tok.kind == sign || l.tok.kind == word) && l.tok.s == s }

// accept passes over a sign or word if it is next.
func (l *lexer) accept(s string) bool {
	if !l.is(s) {
		return false
	}
	l.next()
	return true
}

func (l *lexer) expect(s string) {
	if !l.accept(s) {
		l.fail("%s where %s should be", l.shown(), s)
	}
}

// shown is the next token for an error.
func (l *lexer) shown() string {
	switch l.tok.kind {
	case end:
		return "the end"
	case number:
		return strconv.FormatInt(l.tok.n, 10)
	case text:
		return "a text"
	}
	return strconv.Quote(l.tok.s)
}

// expression reads a regular expression, whose first slash is the token before
// at, with its modifiers i and s.
func (l *lexer) expression() (source string, fold, dotAll bool) {
	from := l.pos
	for ; ; l.pos++ {
		if l.pos >= len(l.src) || l.src[l.pos] == '\n' {
			l.fail("an expression that does not end in its line")
		}
		c := l.src[l.pos]
		if c == '\\' {
			l.pos++
			continue
		}
		if c == '/' {
			break
		}
	}
	source = l.src[from:min(l.pos, len(l.src))]
	if len(source) > maxText {
		l.fail("an expression of more than %d bytes", maxText)
	}
	for l.pos++; l.pos < len(l.src) && (l.src[l.pos] == 'i' || l.src[l.pos] == 's'); l.pos++ {
		fold = fold || l.src[l.pos] == 'i'
		dotAll = dotAll || l.src[l.pos] == 's'
	}
	l.next()
	return source, fold, dotAll
}

// braces reads what is between braces, the first of which is the token before
// at.
func (l *lexer) braces() string {
	n := strings.IndexByte(l.src[l.pos:], '}')
	if n < 0 || n > maxHex {
		l.fail("a hexadecimal string that does not end within %d bytes", maxHex)
	}
	s := l.src[l.pos : l.pos+n]
	l.line += strings.Count(s, "\n")
	l.pos += n + 1
	l.next()
	return s
}
