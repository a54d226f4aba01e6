package yara

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// parser reads one source.
type parser struct {
	lexer
	rules  *Rules
	space  int
	source Source
	fatal  error
	known  map[string]int // rules of this source, by name

	// of the rule that is being read
	rule  *Rule
	names map[string]int // its strings: number of the pattern
	loops []string       // variables of the loops around
	inner int            // depth of for … of around, in which $ stands for a string
	depth int
	terms int
}

func newParser(r *Rules, space int, s Source) *parser {
	p := &parser{lexer: lexer{src: strings.TrimPrefix(s.Text, "\ufeff"), line: 1}, rules: r, space: space, source: s, known: map[string]int{}}
	return p
}

// file reads all rules. After one that cannot be had it goes on with the next
// line that begins a rule.
func (p *parser) file() (refused []Refusal) {
	global := false
	for p.fatal == nil {
		from := p.pos
		p.rule = nil
		done, wrong := p.item()
		if wrong == nil {
			if done {
				break
			}
			continue
		}
		refusal := Refusal{Source: p.source.Name, Line: wrong.line, Why: wrong.why}
		if p.rule != nil {
			refusal.Rule, refusal.Line = p.rule.Name, max(p.rule.Line, wrong.line)
			global = global || p.rule.global
		}
		refused = append(refused, refusal)
		p.resume(from)
	}
	if global {
		// Without it the others would meet more than whoever wrote them wanted.
		for _, name := range sortedNames(p.known) {
			refused = append(refused, Refusal{p.source.Name, p.rules.rules[p.known[name]].Line, name, "a global rule of its file was refused"})
		}
		p.rules.rules = slices.DeleteFunc(p.rules.rules, func(r *Rule) bool { return r.space == p.space })
	}
	return refused
}

func sortedNames(m map[string]int) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return m[a] - m[b] })
	return names
}

// resume goes to the next line, behind what was read from on, that begins a rule.
func (p *parser) resume(from int) {
	at := max(p.pos, from+1)
	for at < len(p.src) {
		n := strings.IndexByte(p.src[at:], '\n')
		if n < 0 {
			at = len(p.src)
			break
		}
		at += n + 1
		if beginsRule(p.src[at:]) {
			break
		}
	}
	at = min(at, len(p.src))
	p.line = 1 + strings.Count(p.src[:at], "\n")
	p.pos = at
}

func beginsRule(s string) bool {
	for _, w := range [...]string{"rule", "private", "global"} {
		if rest, ok := strings.CutPrefix(s, w); ok && rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
			return true
		}
	}
	return false
}

// item reads a rule, or an import; done says that there is no more.
func (p *parser) item() (done bool, wrong *syntaxError) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(syntaxError)
			if !ok {
				panic(r)
			}
			wrong = &e
		}
	}()
	p.next()
	for {
		switch {
		case p.tok.kind == end:
			return true, nil
		case p.accept("import"):
			// What a rule uses of it is refused with the rule.
			if p.tok.kind != text {
				p.fail("import without a text")
			}
			p.next()
		case p.is("include"):
			p.fail("include: files are given one by one, or as a folder")
		case p.is("rule") || p.is("private") || p.is("global"):
			p.readRule()
		default:
			p.fail("%s where a rule should begin", p.shown())
		}
	}
}

// readRule reads one rule and adds it.
func (p *parser) readRule() {
	r := &Rule{Source: p.source.Name, space: p.space}
	for !p.accept("rule") {
		switch {
		case p.accept("private"):
			r.private = true
		case p.accept("global"):
			r.global = true
		default:
			p.fail("%s where rule should be", p.shown())
		}
	}
	rules, patterns := len(p.rules.rules), len(p.rules.patterns)
	r.Line = p.tok.line
	r.Name = p.identifier("a rule's name")
	p.rule, p.names, p.loops, p.inner, p.depth, p.terms = r, map[string]int{}, nil, 0, 0, 0
	ok := false
	defer func() {
		if !ok {
			p.rules.rules, p.rules.patterns = p.rules.rules[:rules], p.rules.patterns[:patterns]
		}
	}()
	if _, twice := p.known[r.Name]; twice {
		p.fail("there is a rule of that name before")
	}
	if p.accept(":") {
		for p.tok.kind == word {
			r.Tags = append(r.Tags, p.tok.s)
			p.next()
		}
	}
	p.expect("{")
	p.meta(r)
	p.strings(r)
	p.expect("condition")
	p.expect(":")
	r.condition = p.or()
	if !p.is("}") {
		p.fail("%s where the rule should end", p.shown())
	}
	p.add(r)
	ok = true
	p.rule = nil
	p.next()
}

func (p *parser) add(r *Rule) {
	for _, i := range r.patterns {
		x := p.rules.patterns[i]
		if x.uses == 0 && !strings.HasPrefix(x.name, "$_") {
			p.fail("string %s is not used", x.name)
		}
		x.settle()
	}
	if len(p.rules.rules) >= maxRules || len(p.rules.patterns) > maxPatterns {
		p.fatal = fault.New(fault.Exhausted, "more than %d rules or %d strings", maxRules, maxPatterns).With("leave out what is for other systems than those that are scanned")
		p.fail("too many rules")
	}
	p.known[r.Name] = len(p.rules.rules)
	p.rules.rules = append(p.rules.rules, r)
}

var reserved = map[string]bool{"all": true, "and": true, "any": true, "ascii": true, "at": true, "base64": true, "base64wide": true, "condition": true, "contains": true,
	"defined": true, "endswith": true, "entrypoint": true, "false": true, "filesize": true, "for": true, "fullword": true, "global": true, "icontains": true,
	"iendswith": true, "iequals": true, "import": true, "in": true, "include": true, "int16": true, "int16be": true, "int32": true, "int32be": true, "int8": true,
	"int8be": true, "istartswith": true, "matches": true, "meta": true, "nocase": true, "none": true, "not": true, "of": true, "or": true, "private": true,
	"rule": true, "startswith": true, "strings": true, "them": true, "true": true, "uint16": true, "uint16be": true, "uint32": true, "uint32be": true, "uint8": true,
	"uint8be": true, "wide": true, "xor": true}

func (p *parser) identifier(what string) string {
	s := p.tok.s
	if p.tok.kind != word || reserved[s] {
		p.fail("%s where %s should be", p.shown(), what)
	}
	p.next()
	return s
}

func (p *parser) meta(r *Rule) {
	if !p.accept("meta") {
		return
	}
	p.expect(":")
	for p.tok.kind == word && !p.is("strings") && !p.is("condition") {
		name := p.tok.s
		p.next()
		p.expect("=")
		minus := p.accept("-")
		switch {
		case p.tok.kind == text:
			r.Meta = append(r.Meta, Meta{name, p.tok.s})
		case p.tok.kind == number:
			n := p.tok.n
			if minus {
				n = -n
			}
			r.Meta = append(r.Meta, Meta{name, strconv.FormatInt(n, 10)})
		case p.is("true") || p.is("false"):
			r.Meta = append(r.Meta, Meta{name, p.tok.s})
		default:
			p.fail("%s where the value of %s should be", p.shown(), name)
		}
		p.next()
	}
}

func (p *parser) strings(r *Rule) {
	if !p.accept("strings") {
		return
	}
	p.expect(":")
	for p.tok.kind == variable && p.tok.s[0] == '$' {
		name := p.tok.s
		if strings.HasSuffix(name, "*") {
			p.fail("%s is no string's name", name)
		}
		if name == "$" { // has none
			name = fmt.Sprintf("$ %d", len(r.patterns)+1)
		}
		if _, twice := p.names[name]; twice {
			p.fail("there is a string %s before", name)
		}
		p.next()
		x := p.pattern(name)
		p.names[name] = len(p.rules.patterns)
		r.patterns = append(r.patterns, len(p.rules.patterns))
		p.rules.patterns = append(p.rules.patterns, x)
	}
}

// pattern reads what a string stands for, and its modifiers.
func (p *parser) pattern(name string) *pattern {
	x := &pattern{name: name}
	if !p.is("=") {
		p.fail("%s where = should be", p.shown())
	}
	p.next()
	var err error
	switch {
	case p.tok.kind == text:
		s := p.tok.s
		p.next()
		m := p.modifiers()
		err = x.setText(s, m)
	case p.is("{"):
		s := p.braces()
		m := p.modifiers()
		err = x.setHex(s, m)
	case p.is("/"):
		s, fold, dotAll := p.expression()
		m := p.modifiers()
		err = x.setExpression(s, fold, dotAll, m)
	default:
		p.fail("%s where string %s should be", p.shown(), name)
	}
	if err != nil {
		p.fail("string %s: %v", name, err)
	}
	return x
}

// modifiers are the words behind a string.
type modifiers struct {
	nocase, wide, ascii, fullword bool
	xor                           bool
	xorFrom, xorTo                int
	base64, base64wide            bool
	alphabet                      string
}

func (p *parser) modifiers() (m modifiers) {
	for {
		switch {
		case p.accept("nocase"):
			m.nocase = true
		case p.accept("wide"):
			m.wide = true
		case p.accept("ascii"):
			m.ascii = true
		case p.accept("fullword"):
			m.fullword = true
		case p.accept("private"):
		case p.accept("xor"):
			m.xor, m.xorFrom, m.xorTo = true, 0, 255
			if p.accept("(") {
				m.xorFrom = p.key()
				m.xorTo = m.xorFrom
				if p.accept("-") {
					m.xorTo = p.key()
				}
				p.expect(")")
			}
		case p.is("base64") || p.is("base64wide"):
			m.base64 = m.base64 || p.is("base64")
			m.base64wide = m.base64wide || p.is("base64wide")
			p.next()
			if p.accept("(") {
				m.alphabet = p.tok.s
				if p.tok.kind != text || len(m.alphabet) != 64 {
					p.fail("an alphabet of base64 has 64 signs")
				}
				p.next()
				p.expect(")")
			}
		default:
			return m
		}
	}
}

func (p *parser) key() int {
	n := p.tok.n
	if p.tok.kind != number || n > 255 {
		p.fail("%s where a key from 0 to 255 should be", p.shown())
	}
	p.next()
	return int(n)
}
