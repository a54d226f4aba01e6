package store

import (
	"strings"
)

// A token is a piece of SQL text; all tokens of a text joined give the text
// again.
type token struct {
	kind tokenKind
	text string
}

type tokenKind int

const (
	other   tokenKind = iota // spaces, operators, numbers
	word                     // keywords and names
	quoted                   // 'text' or "name", quotes included
	comment                  // -- to the end of the line, or /* … */
	param                    // $1
	cast                     // ::type
	end                      // ;
)

// lex cuts SQL into tokens. It accepts any bytes: what is unfinished at the
// end of the text ends there.
func lex(sql string) []token {
	var tokens []token
	for len(sql) > 0 {
		kind, n := next(sql)
		tokens = append(tokens, token{kind, sql[:n]})
		sql = sql[n:]
	}
	return tokens
}

// next returns the kind and the length of the first token of sql, which is not
// empty.
func next(sql string) (tokenKind, int) {
	switch c := sql[0]; {
	case c == ';':
		return end, 1
	case c == '\'' || c == '"':
		return quoted, until(sql, 1, string(c))
	case strings.HasPrefix(sql, "--"):
		return comment, until(sql, 2, "\n")
	case strings.HasPrefix(sql, "/*"):
		return comment, until(sql, 2, "*/")
	case strings.HasPrefix(sql, "::"):
		return cast, 2 + while(sql[2:], isWordByte)
	case c == '$' && while(sql[1:], isDigit) > 0:
		return param, 1 + while(sql[1:], isDigit)
	case isWordByte(c):
		return word, while(sql, isWordByte)
	default:
		return other, 1
	}
}

// until returns where the first mark at or after from ends, or the end of s.
func until(s string, from int, mark string) int {
	if i := strings.Index(s[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(s)
}

// while returns how many bytes at the start of s are ok.
func while(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordByte(c byte) bool {
	return c == '_' || isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// split cuts a text into its statements, each still in PostgreSQL's dialect,
// and drops those that hold nothing but spaces and comments.
func split(sql string) [][]token {
	var statements [][]token
	var statement []token
	says := false
	flush := func() {
		if says {
			statements = append(statements, statement)
		}
		statement, says = nil, false
	}
	for _, t := range lex(sql) {
		if t.kind == end {
			flush()
			continue
		}
		says = says || t.kind != comment && strings.TrimSpace(t.text) != ""
		statement = append(statement, t)
	}
	flush()
	return statements
}

// translate turns one statement from the little of PostgreSQL's dialect that
// the shop and its visitors use into SQLite's.
func translate(statement []token) string {
	var b strings.Builder
	for _, t := range statement {
		switch {
		case t.kind == comment:
			b.WriteByte(' ')
		case t.kind == cast: // SQLite's columns take what comes
		case t.kind == param:
			b.WriteString("?" + t.text[1:])
		case t.kind == word && strings.EqualFold(t.text, "ilike"):
			b.WriteString("LIKE") // ignores case in SQLite
		case t.kind == word && strings.EqualFold(t.text, "now"):
			b.WriteString("datetime") // datetime() is the present time
		case t.kind == word && strings.EqualFold(t.text, "version"):
			b.WriteString("sqlite_version")
		default:
			b.WriteString(t.text)
		}
	}
	return strings.TrimSpace(b.String())
}

// params returns the highest number of a $n in the statement.
func params(statement []token) int {
	highest := 0
	for _, t := range statement {
		if t.kind != param {
			continue
		}
		n := 0
		for _, c := range t.text[1:] {
			n = min(n*10+int(c-'0'), maxParams+1)
		}
		highest = max(highest, n)
	}
	return highest
}

// verb returns the first word of the statement in capitals, such as SELECT.
func verb(statement []token) string {
	for _, t := range statement {
		if t.kind == word {
			return strings.ToUpper(t.text)
		}
	}
	return ""
}

// has reports whether the statement holds the word w, given in lower case.
func has(statement []token, w string) bool {
	for _, t := range statement {
		if t.kind == word && strings.EqualFold(t.text, w) {
			return true
		}
	}
	return false
}
