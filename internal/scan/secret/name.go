package secret

import (
	"bytes"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// nameWords are what names of secrets have in them.
func nameWords() []string {
	return []string{"passw", "passphrase", "pwd", "_pass", "pass:", "pass=", "pass =", "pass\"", "pass'", "secret", "token", "apikey", "api_key", "api-key", "accesskey", "access_key", "access-key",
		"encryption_key", "encryptionkey", "signing_key", "signingkey", "auth_key", "authkey", "account_key", "accountkey", "app_key", "appkey", "credential",
		"private_key", "master_key", "license_key"}
}

const (
	maxName   = 64
	maxBlanks = 24
	// maxNested is how far from a name the field may be that gives its value.
	maxNested = 600
)

// maxValue bounds a value in a text.
const maxValue = judge.MaxValue

// named is a name with its value that is looked at.
type named struct {
	name string
	from int // of the name
	to   int // after it
	// closed is where it goes on after the name's quote.
	closed int
	quoted bool // the name
	// fallback says that it is a reference with what stands in if there is none:
	// ${NAME:-value}.
	fallback bool
}

// namedValue finds what a name says is a secret. b has a word of the name at the
// place at.
func (s *sifting) namedValue(at int) {
	class := classOf(s.f.Path)
	switch s.f.Source {
	case "":
	case inventory.InMessage:
		class = code // sentences speak of passwords; quotes are around what is one
	default:
		class = config
	}
	if class == prose || class == inert || s.base+int64(at) < s.bareTo {
		return
	}
	n, ok := s.nameAt(at)
	s.promising = s.promising || ok || judge.Name(n.name, judge.Own) != ""
	if !ok {
		return
	}
	value, quoted, from, ok := s.joined(&n)
	if !ok {
		if value, quoted, from, ok = s.valueOf(&n, class); !ok {
			return
		}
	}
	if !quoted {
		s.bareTo = s.base + int64(from+len(value))
	}
	s.judged(&n, value, quoted, from, class)
}

// nameAt reads the name, and says whether it ends as a secret's does.
func (s *sifting) nameAt(at int) (n named, ok bool) {
	inName := func(c byte) bool { return isWord(c) || c == '-' || c == '.' }
	head := judge.SpanBack(s.buf, at, maxName, inName)
	tail := judge.Span(s.buf, at, maxName, inName)
	n.from, n.to = at-len(head), at+len(tail)
	n.name = strings.Trim(string(s.buf[n.from:n.to]), "-.")
	if n.from > 0 {
		switch s.buf[n.from-1] {
		case '{':
			n.fallback = n.from > 1 && s.buf[n.from-2] == '$' && n.to < len(s.buf) && s.buf[n.to] == ':'
			if !n.fallback && n.from > 1 && s.buf[n.from-2] == '$' {
				return n, false
			}
		case '$', '%', '@', '(':
			if n.from < 2 || s.buf[n.from-1] != '$' && s.buf[n.from-1] != '(' || !s.assignedTo(n.to) {
				return n, false // a reference to it, or a call's argument
			}
		}
	}
	if judge.Name(n.name, s.placeAt(n.from)) == "" {
		return n, false
	}
	n.closed = n.to
	for n.closed < len(s.buf) && n.closed < n.to+3 {
		switch s.buf[n.closed] {
		case '"', '\'', '`', '[', ']', '\\':
			n.quoted = true
			n.closed++
			continue
		}
		break
	}
	return n, true
}

// valueOf reads the value that an operator gives a name.
func (s *sifting) valueOf(n *named, class class) (value string, quoted bool, from int, ok bool) {
	if n.fallback {
		i := n.to + 1
		if i < len(s.buf) && (s.buf[i] == '-' || s.buf[i] == '=') {
			i++
		}
		b := judge.Span(s.buf, i, maxValue, func(c byte) bool { return c > ' ' && c != '}' && c != '"' && c != '$' })
		return string(b), true, i, i+len(b) < len(s.buf) && s.buf[i+len(b)] == '}'
	}
	i := s.blanks(n.closed)
	if i >= len(s.buf) {
		return "", false, 0, false
	}
	if class == code {
		if value, from, ok := s.declared(n, i); ok {
			return value, true, from, true
		}
	}
	between := i > n.closed
	xml := false
	switch c := s.buf[i]; {
	case c == '=' || c == ':':
		j := i + 1
		for j < len(s.buf) && j < i+2 && (s.buf[j] == '=' || s.buf[j] == '>') {
			j++
		}
		if j < len(s.buf) && (s.buf[j] == '=' || s.buf[j] == '~' || s.buf[i] == ':' && s.buf[j] == ':') || j == i+2 && c == '=' && s.buf[i+1] == '=' {
			return "", false, 0, false // a comparison
		}
		i = j
	case c == '?' && i+1 < len(s.buf) && s.buf[i+1] == '=':
		i += 2
	case c == '>' && !between && (s.startsTag(n.from) || n.quoted && s.endsAttribute(n.from)):
		i++
		xml = true
	case c == ',' && n.quoted:
		// A call's arguments, of which it is the last: in a list are names alone.
		value, quoted, from, ok = s.text(s.blanks(i+1), code, false)
		end := s.blanks(from + len(value) + 1)
		return value, quoted, from, ok && end < len(s.buf) && (s.buf[end] == ')' || s.buf[end] == '}')
	case between && (s.spaced(n.from) || class == config && s.isFlag(n.from) && c != '-'):
	default:
		return "", false, 0, false
	}
	if !xml {
		i = s.blanks(i)
	}
	if class == code && n.from > 0 && s.buf[n.from-1] == ';' && s.buf[i-1] == '=' {
		return s.connection(i)
	}
	return s.text(i, class, xml)
}

// assignedTo says that an assignment follows a name: what looked like a reference
// is a variable, or the argument of a call by its name.
func (s *sifting) assignedTo(i int) bool {
	for i < len(s.buf) && (s.buf[i] == '\'' || s.buf[i] == '"' || s.buf[i] == ']') {
		i++
	}
	i = s.blanks(i)
	return i+1 < len(s.buf) && (s.buf[i] == '=' && s.buf[i+1] != '=' || s.buf[i] == ',')
}

// Ways in which code gives a name its value that other files don't have.
var (
	typed = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^\??:[ \t]{0,8}[A-Za-z][\w.<>\[\]| ?]{0,40}?[ \t]{0,8}=[ \t]{0,8}["'\x60]([^"'\x60\n]{6,512})["'\x60]`)
	})
	called = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^\([ \t]{0,8}["'\x60]([^"'\x60\n]{6,512})["'\x60][ \t]{0,8}\)`)
	})
	quotes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^'([^'\n]{6,512})'`) })
	users  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)(?:create|alter)\s+(?:user|role|login)\s`) })
)

// declared reads the value of a name with a type, of a call that sets it, or of an
// SQL statement about a user.
func (s *sifting) declared(n *named, i int) (value string, from int, ok bool) {
	var re *regexp.Regexp
	switch c := s.buf[i]; {
	case c == ':' || c == '?':
		re = typed()
	case c == '(' && i == n.closed:
		re = called()
	case c == '\'' && i > n.closed && users().MatchString(s.lineAround(n.from, n.from)):
		re = quotes()
	default:
		return "", 0, false
	}
	m := re.FindSubmatchIndex(s.buf[i:min(len(s.buf), i+maxNested)])
	if m == nil {
		return "", 0, false
	}
	return string(s.buf[i+m[2] : i+m[3]]), i + m[2], true
}

// connection reads the value of a field of a connection string, as databases have
// them: "Server=db;Password=…;".
func (s *sifting) connection(i int) (value string, quoted bool, from int, ok bool) {
	b := judge.Span(s.buf, i, maxValue, func(c byte) bool { return c > ' ' && c != ';' && c != '"' && c != '\'' && c != '\\' })
	end := i + len(b)
	if end >= len(s.buf) || s.buf[end] != ';' && s.buf[end] != '"' && s.buf[end] != '\'' {
		return "", false, 0, false
	}
	return string(b), true, i, true
}

// isFlag says that a name is that of an option: --password.
func (s *sifting) isFlag(from int) bool {
	return from+2 < len(s.buf) && s.buf[from] == '-' && s.buf[from+1] == '-'
}

// spaced says that a blank is what stands between a name and its value: in
// Dockerfiles and netrc files.
func (s *sifting) spaced(from int) bool {
	base := strings.ToLower(path.Base(s.f.Path))
	if base == ".netrc" || base == "_netrc" {
		return true
	}
	line := strings.TrimLeft(s.lineAround(from, from), " \t")
	if isSettings(base) {
		return s.lastButOne(from)
	}
	return (strings.HasPrefix(line, "ENV ") || strings.HasPrefix(line, "ENV\t")) && strings.HasSuffix(strings.TrimSpace(line[:len(line)-len(strings.TrimLeft(line[4:], " \t"))]), "ENV")
}

// isSettings says of a file's name, in lower case, that programs have settings of
// their own language in it, which often have no sign between a name and its value.
func isSettings(base string) bool {
	switch path.Ext(base) {
	case ".conf", ".cfg", ".rc":
		return true
	}
	return strings.HasPrefix(base, ".") && strings.HasSuffix(base, "rc")
}

// lastButOne says that one word follows the one that begins at a place, and then the
// line ends.
func (s *sifting) lastButOne(from int) bool {
	const longest = 256
	if from > 0 && !isSpace(s.buf[from-1]) {
		return false
	}
	rest := s.buf[from:min(len(s.buf), from+longest)]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	words := bytes.Fields(rest)
	if len(words) != 2 || bytes.HasPrefix(words[0], []byte("proxy_")) || bytes.HasSuffix(words[0], []byte("gi_pass")) || bytes.HasSuffix(words[0], []byte("grpc_pass")) {
		return false // what nginx hands requests on to
	}
	return !bytes.HasPrefix(bytes.TrimSpace([]byte(s.lineAround(from, from))), []byte("#"))
}

func (s *sifting) startsTag(from int) bool { return from > 0 && s.buf[from-1] == '<' }

// endsAttribute says that a name is what an element of XML is called by:
// <property name="password">.
func (s *sifting) endsAttribute(from int) bool {
	head := s.buf[max(0, from-maxBlanks):from]
	return bytes.HasSuffix(head, []byte(` name="`)) || bytes.HasSuffix(head, []byte(` key="`)) || bytes.HasSuffix(head, []byte(` id="`))
}

func (s *sifting) blanks(i int) int {
	return i + len(judge.Span(s.buf, i, maxBlanks, func(c byte) bool { return c == ' ' || c == '\t' }))
}

// text reads a text at i: in quotes, or as it stands where that may be.
func (s *sifting) text(i int, class class, xml bool) (value string, quoted bool, from int, ok bool) {
	if i >= len(s.buf) {
		return "", false, 0, false
	}
	if xml {
		b := judge.Span(s.buf, i, maxValue, func(c byte) bool { return c != '<' && c != '\n' })
		return strings.TrimSpace(string(b)), true, i, i+len(b) < len(s.buf) && s.buf[i+len(b)] == '<'
	}
	escaped := s.buf[i] == '\\' && i+1 < len(s.buf) && (s.buf[i+1] == '"' || s.buf[i+1] == '\'')
	if escaped {
		i++
	}
	switch q := s.buf[i]; q {
	case '"', '\'', '`':
		from = i + 1
		b := judge.Span(s.buf, from, maxValue, func(c byte) bool { return c != q && c != '\n' })
		end := from + len(b)
		if end >= len(s.buf) || s.buf[end] != q {
			return "", false, 0, false
		}
		if escaped {
			b = bytes.TrimSuffix(b, []byte{'\\'})
		}
		if rest := s.blanks(end + 1); rest < len(s.buf) && (s.buf[rest] == '+' || s.buf[rest] == '.' || s.buf[rest] == '%') && class == code {
			return "", false, 0, false // put together from several
		}
		return string(b), true, from, true
	}
	if !class.bare() || escaped {
		return "", false, 0, false
	}
	b := judge.Span(s.buf, i, maxValue, func(c byte) bool { return c > ' ' && c != '"' && c != '\'' && c != '`' && c != '\\' })
	value = strings.TrimRight(string(b), ",;")
	if value == "" || value[0] == '#' || value[0] == '|' || value[0] == '>' || value[0] == '&' || value[0] == '*' && len(value) > 1 && isLetter(value[1]) {
		return "", false, 0, false
	}
	return value, false, i, true
}

// Fields in which a document gives a name and its value apart from one another.
var (
	valueField = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[\s,]{1,120}\\?["']?(?i:value|parametervalue)\\?["']?\s{0,16}[:=]\s{0,16}`)
	})
	valueBefore = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i:value|parametervalue)["']?\s{0,16}[:=]\s{0,16}(["'])([^"'\n]{6,512})["'][\s,]{1,120}["']?(?i:name|key|parameterkey)["']?\s{0,16}[:=]\s{0,16}["']?$`)
	})
	defaultField = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:^|[\s{,;"'])(?:default|Default)["']?[ \t]{0,16}[:=][ \t]{0,16}`)
	})
	nameField = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i:name|key|parameterkey)\\?["']?\s{0,16}[:=]\s{0,16}\\?["']?$`)
	})
)

// joined finds the value of a name that a document gives in a field of its own:
// name and value, or a parameter's or variable's default.
func (s *sifting) joined(n *named) (value string, quoted bool, from int, ok bool) {
	head := s.buf[max(0, n.from-maxNested):n.from]
	if s.afterOperator(n.from) && nameField().Match(head[max(0, len(head)-64):]) {
		rest := s.buf[n.closed:min(len(s.buf), n.closed+maxNested)]
		if m := valueField().FindIndex(rest); m != nil {
			if value, _, from, ok = s.text(n.closed+m[1], config, false); ok {
				return value, true, from, true
			}
		}
		if m := valueBefore().FindSubmatchIndex(head); m != nil {
			return string(head[m[4]:m[5]]), true, n.from - len(head) + m[4], true
		}
		return "", false, 0, false
	}
	switch strings.ToLower(path.Ext(s.f.Path)) {
	case ".yaml", ".yml", ".json", ".template", ".tf", ".hcl":
		return s.defaulted(n)
	}
	return "", false, 0, false
}

// afterOperator says that an operator stands before a place, with blanks and
// quotes between.
func (s *sifting) afterOperator(at int) bool {
	for i := at - 1; i >= 0 && at-i < maxBlanks; i-- {
		switch c := s.buf[i]; {
		case c == ':' || c == '=':
			return true
		case c != '"' && c != '\'' && c != '\\' && !isSpace(c):
			return false
		}
	}
	return false
}

// defaulted finds the default of a parameter or variable of that name.
func (s *sifting) defaulted(n *named) (value string, quoted bool, from int, ok bool) {
	i := s.blanks(n.closed)
	if i >= len(s.buf) || s.buf[i] != ':' && s.buf[i] != '{' && s.buf[i] != '=' {
		return "", false, 0, false
	}
	region := s.buf[i:min(len(s.buf), i+maxNested)]
	if end := bytes.IndexByte(region, '}'); end >= 0 {
		region = region[:end]
	}
	if s.buf[i] == ':' && !bytes.Contains(region[:min(len(region), maxBlanks)], []byte{'{'}) {
		region = nested(region, s.indent(n.from))
	}
	m := defaultField().FindIndex(region)
	if m == nil {
		return "", false, 0, false
	}
	value, _, from, ok = s.text(i+m[1], config, false)
	return value, true, from, ok
}

// indent is how far the line of a place is indented.
func (s *sifting) indent(at int) int {
	line := bytes.LastIndexByte(s.buf[:at], '\n') + 1
	return len(judge.Span(s.buf, line, maxNested, func(c byte) bool { return c == ' ' }))
}

// nested are the lines that are indented further than the one before them.
func nested(region []byte, indent int) []byte {
	at := bytes.IndexByte(region, '\n') + 1
	for at > 0 && at < len(region) {
		n := len(judge.Span(region, at, maxNested, func(c byte) bool { return c == ' ' }))
		if n <= indent && at+n < len(region) && region[at+n] != '\n' {
			return region[:at]
		}
		next := bytes.IndexByte(region[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return region
}

// judged keeps a value if it is one.
func (s *sifting) judged(n *named, value string, quoted bool, from int, class class) {
	at := judge.Bare
	if where := s.placeAt(n.from); quoted || s.f.Source != "" && s.f.Source != inventory.InMessage || where == judge.Own {
		at = where
	}
	v, ok := judge.Pair(n.name, value, at)
	if !ok || class == code && isPiece(value) {
		return
	}
	switch {
	case v.Doubt == judge.DoubtWord && class == code:
		return // a word beside a name is most of what code has
	case v.Doubt == judge.DoubtWord && isShipped(s.f.Path):
		return
	case v.Doubt == "" && isShipped(s.f.Path):
		v.Doubt = doubtShipped
	case v.Doubt == "" && at == judge.Quoted && isMadeUp(value):
		v.Doubt = judge.DoubtExample
	}
	rule := ruleOf(v.Kind, n.name, value)
	if base := strings.ToLower(path.Base(s.f.Path)); base == ".netrc" || base == "_netrc" {
		rule = ruleNetrc
	}
	s.add(rule, n.name, value, v.Doubt, from)
}

// ruleOf is the rule of a kind of secret.
func ruleOf(k judge.Kind, name, value string) string {
	switch k {
	case judge.Password, judge.Passphrase:
		return rulePassword
	}
	if isAWSSecret(value) && strings.Contains(strings.ToLower(name), "secret") {
		return ruleAWSSecret
	}
	if k == judge.Token {
		return ruleToken
	}
	return ruleKey
}
