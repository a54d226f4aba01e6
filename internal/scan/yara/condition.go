package yara

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// kindOf is what an expression of a condition is.
type kindOf uint8

const (
	unknown kindOf = iota // what is not known, and makes nothing true
	truth
	integer
	str
)

// value is what an expression is for a file.
type value struct {
	kind kindOf
	n    int64
	s    string
	// least says that it is n or more: something is counted, and of the file only
	// the beginning was looked at.
	least bool
}

func truthOf(b bool) value {
	if b {
		return value{kind: truth, n: 1}
	}
	return value{kind: truth}
}

func number64(n int64) value { return value{kind: integer, n: n} }

// decided says that it is known whether a value counts as true.
func (v value) decided() bool { return v.kind != unknown && !(v.least && v.n == 0) }

// met says whether a value counts as true.
func (v value) met() bool {
	switch v.kind {
	case truth, integer:
		return v.n != 0
	case str:
		return v.s != ""
	}
	return false
}

// expr is a part of a condition.
type expr struct {
	kind    kindOf
	of      func(*scanning) value
	fixed   bool // it is the number n
	n       int64
	percent bool // behind it stood a percent sign and "of"
}

func fixed(n int64) expr {
	return expr{kind: integer, fixed: true, n: n, of: func(*scanning) value { return number64(n) }}
}

// deeper guards against conditions that nest without end.
func (p *parser) deeper() {
	if p.depth++; p.depth > maxDepth {
		p.fail("the condition nests deeper than %d", maxDepth)
	}
}

func (p *parser) whole(e expr) expr {
	if e.kind != integer {
		p.fail("a number should be before %s", p.shown())
	}
	return e
}

func (p *parser) texts(e expr) expr {
	if e.kind != str {
		p.fail("a text should be before %s", p.shown())
	}
	return e
}

func (p *parser) or() expr {
	p.deeper()
	defer func() { p.depth-- }()
	a := p.and()
	for p.accept("or") {
		a = join(a, p.and(), func(x, y func(*scanning) value) func(*scanning) value {
			return func(s *scanning) value {
				v := x(s)
				if v.met() {
					return truthOf(true)
				}
				w := y(s)
				if !w.met() && s.open(v, w) {
					return value{}
				}
				return truthOf(w.met())
			}
		})
	}
	return a
}

// open says that it cannot be told what is not met, because of the file only the
// beginning was looked at. Of a whole file what is not known counts as not met, as
// YARA has it.
func (s *scanning) open(vs ...value) bool {
	return s.cut && slices.ContainsFunc(vs, func(v value) bool { return !v.decided() })
}

func (p *parser) and() expr {
	a := p.not()
	for p.accept("and") {
		a = join(a, p.not(), func(x, y func(*scanning) value) func(*scanning) value {
			return func(s *scanning) value {
				v := x(s)
				if !v.met() && !s.open(v) {
					return truthOf(false)
				}
				w := y(s)
				if s.open(v, w) && (v.met() || !v.decided()) && (w.met() || !w.decided()) {
					return value{}
				}
				return truthOf(v.met() && w.met())
			}
		})
	}
	return a
}

func join(a, b expr, how func(x, y func(*scanning) value) func(*scanning) value) expr {
	return expr{kind: truth, of: how(a.of, b.of)}
}

func (p *parser) not() expr {
	switch {
	case p.accept("not"):
		p.deeper()
		defer func() { p.depth-- }()
		x := p.not()
		return expr{kind: truth, of: func(s *scanning) value {
			v := x.of(s)
			if v.kind == unknown || s.open(v) {
				return value{}
			}
			return truthOf(!v.met())
		}}
	case p.accept("defined"):
		p.deeper()
		defer func() { p.depth-- }()
		x := p.not()
		return expr{kind: truth, of: func(s *scanning) value {
			v := x.of(s)
			if v.kind == unknown && s.cut {
				return value{}
			}
			return truthOf(v.kind != unknown)
		}}
	}
	return p.comparison()
}

// textOperators compare texts; those with an i in either case.
var textOperators = map[string]func(a, b string) bool{
	"contains": strings.Contains, "startswith": strings.HasPrefix, "endswith": strings.HasSuffix,
	"icontains":   func(a, b string) bool { return strings.Contains(lower(a), lower(b)) },
	"istartswith": func(a, b string) bool { return strings.HasPrefix(lower(a), lower(b)) },
	"iendswith":   func(a, b string) bool { return strings.HasSuffix(lower(a), lower(b)) },
	"iequals":     func(a, b string) bool { return lower(a) == lower(b) },
}

func (p *parser) comparison() expr {
	a := p.bitOr()
	for {
		if p.accept("of") {
			a = p.of(p.quantity(a))
			continue
		}
		if a.percent {
			p.fail("a percent sign without of")
		}
		op := p.tok.s
		switch {
		case p.tok.kind == sign && strings.Contains(" == != < <= > >= ", " "+op+" "):
			p.next()
			a = p.compare(op, a, p.bitOr())
		case p.tok.kind == word && textOperators[op] != nil:
			p.texts(a)
			p.next()
			b, f := p.texts(p.bitOr()), textOperators[op]
			x := a
			a = expr{kind: truth, of: func(s *scanning) value { return truthOf(f(x.of(s).s, b.of(s).s)) }}
		case p.is("matches"):
			a = p.matches(p.texts(a))
		default:
			return a
		}
	}
}

// matches holds a text against an expression.
func (p *parser) matches(a expr) expr {
	p.next()
	if !p.is("/") {
		p.fail("%s where an expression should be", p.shown())
	}
	source, fold, dotAll := p.expression()
	written, err := goSource(source)
	if err != nil {
		p.fail("%v", err)
	}
	flags := ""
	if fold {
		flags += "i"
	}
	if dotAll {
		flags += "s"
	}
	if flags != "" {
		written = "(?" + flags + ")" + written
	}
	re, err := regexp.Compile(written)
	if err != nil {
		p.fail("its expression cannot be had: %v", err)
	}
	return expr{kind: truth, of: func(s *scanning) value { return truthOf(re.MatchString(a.of(s).s)) }}
}

func (p *parser) compare(op string, a, b expr) expr {
	if a.kind == truth || b.kind == truth || a.kind != b.kind {
		p.fail("%s compares what is of different kinds", op)
	}
	return expr{kind: truth, of: func(s *scanning) value {
		x, y := a.of(s), b.of(s)
		if x.kind == unknown || y.kind == unknown {
			return value{}
		}
		c := strings.Compare(x.s, y.s)
		switch {
		case x.n < y.n:
			c = -1
		case x.n > y.n:
			c = 1
		}
		if x.least || y.least {
			return comparedLeast(op, c, x.least, y.least)
		}
		switch op {
		case "==":
			return truthOf(c == 0)
		case "!=":
			return truthOf(c != 0)
		case "<":
			return truthOf(c < 0)
		case "<=":
			return truthOf(c <= 0)
		case ">":
			return truthOf(c > 0)
		}
		return truthOf(c >= 0)
	}}
}

// comparedLeast compares what may be more than is known: c is how the known parts
// compare.
func comparedLeast(op string, c int, left, right bool) value {
	if left && right {
		return value{}
	}
	if right { // then the other way round
		c = -c
		op = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}[op]
	}
	above := c > 0 // it is, and may be further
	switch {
	case above, c == 0 && (op == ">=" || op == "<"):
		return truthOf(op == ">" || op == ">=" || op == "!=")
	}
	return value{}
}

// levels are the operators of numbers, those that bind least first.
var levels = [...]string{" | ", " ^ ", " & ", " << >> ", " + - ", " * \\ % "}

func (p *parser) bitOr() expr { return p.level(0) }

func (p *parser) level(n int) expr {
	if n == len(levels) {
		return p.unary()
	}
	a := p.level(n + 1)
	for p.tok.kind == sign && strings.Contains(levels[n], " "+p.tok.s+" ") {
		op := p.tok.s
		p.whole(a)
		p.next()
		if op == "%" && p.is("of") {
			a.percent = true
			return a
		}
		a = arithmetic(op, a, p.whole(p.level(n+1)))
	}
	return a
}

func arithmetic(op string, a, b expr) expr {
	if a.fixed && b.fixed {
		if v := calculate(op, a.n, b.n); v.kind == integer {
			return fixed(v.n)
		}
	}
	return expr{kind: integer, of: func(s *scanning) value {
		x, y := a.of(s), b.of(s)
		if x.kind == unknown || y.kind == unknown || x.least || y.least {
			return value{}
		}
		return calculate(op, x.n, y.n)
	}}
}

func calculate(op string, x, y int64) value {
	switch op {
	case "|":
		return number64(x | y)
	case "^":
		return number64(x ^ y)
	case "&":
		return number64(x & y)
	case "+":
		return number64(x + y)
	case "-":
		return number64(x - y)
	case "*":
		return number64(x * y)
	case "<<", ">>":
		switch {
		case y < 0:
			return value{}
		case y >= 64:
			return number64(0)
		case op == "<<":
			return number64(x << y)
		}
		return number64(x >> y)
	}
	if y == 0 || y == -1 && x == -1<<63 {
		return value{}
	}
	if op == "%" {
		return number64(x % y)
	}
	return number64(x / y)
}

func (p *parser) unary() expr {
	op := p.tok.s
	if p.tok.kind != sign || op != "-" && op != "~" {
		return p.primary()
	}
	p.deeper()
	defer func() { p.depth-- }()
	p.next()
	x := p.whole(p.unary())
	if op == "-" {
		return arithmetic("-", fixed(0), x)
	}
	return arithmetic("^", fixed(-1), x)
}

func (p *parser) primary() expr {
	p.deeper()
	defer func() { p.depth-- }()
	if p.terms++; p.terms > maxTerms {
		p.fail("the condition has more than %d terms", maxTerms)
	}
	t := p.tok
	switch t.kind {
	case number:
		p.next()
		return fixed(t.n)
	case text:
		p.next()
		return expr{kind: str, of: func(*scanning) value { return value{kind: str, s: t.s} }}
	case variable:
		return p.variable()
	case sign:
		if p.accept("(") {
			x := p.or()
			p.expect(")")
			return x
		}
	case word:
		return p.word()
	}
	p.fail("%s in a condition", p.shown())
	return expr{}
}

// word is what begins with a word.
func (p *parser) word() expr {
	name := p.tok.s
	switch name {
	case "true", "false":
		p.next()
		v := truthOf(name == "true")
		return expr{kind: truth, of: func(*scanning) value { return v }}
	case "filesize":
		p.next()
		return expr{kind: integer, of: func(s *scanning) value { return number64(s.file.Size) }}
	case "all", "any", "none":
		p.next()
		p.expect("of")
		return p.of(quantity{word: name})
	case "for":
		p.next()
		return p.loop()
	case "them", "entrypoint":
		p.fail("%s is not known here", name)
	}
	if read := integerWords[name]; read.size > 0 {
		return p.integerAt(read)
	}
	return p.named(p.identifier("what is meant"))
}

// integerWord is a word that reads an integer of the file.
type integerWord struct {
	size        int
	big, signed bool
}

var integerWords = map[string]integerWord{"uint8": {1, false, false}, "uint16": {2, false, false}, "uint32": {4, false, false}, "uint8be": {1, true, false},
	"uint16be": {2, true, false}, "uint32be": {4, true, false}, "int8": {1, false, true}, "int16": {2, false, true}, "int32": {4, false, true}, "int8be": {1, true, true},
	"int16be": {2, true, true}, "int32be": {4, true, true}}

func (p *parser) integerAt(read integerWord) expr {
	p.next()
	p.expect("(")
	at := p.whole(p.bitOr())
	p.expect(")")
	if !at.fixed || at.n+8 > smallHead {
		p.rules.headSize = largeHead
	}
	return expr{kind: integer, of: func(s *scanning) value {
		v := at.of(s)
		if v.kind == unknown {
			return v
		}
		n, ok := s.integer(v.n, read.size, read.big, read.signed)
		if !ok {
			return value{}
		}
		return number64(n)
	}}
}

// externals are the variables that are known of a file.
var externals = map[string]func(f *File) string{
	"filename":  func(f *File) string { return path.Base(f.Path) },
	"filepath":  func(f *File) string { return "/" + strings.TrimPrefix(f.Path, "/") },
	"extension": func(f *File) string { return path.Ext(f.Path) },
}

// named is what has a name: a variable of a loop, an external one, a rule.
func (p *parser) named(name string) expr {
	for k := len(p.loops) - 1; k >= 0; k-- {
		if p.loops[k] == name {
			return expr{kind: integer, of: func(s *scanning) value { return number64(s.loops[k]) }}
		}
	}
	if f := externals[name]; f != nil {
		return expr{kind: str, of: func(s *scanning) value { return value{kind: str, s: f(&s.file)} }}
	}
	if n, ok := p.known[name]; ok {
		return expr{kind: truth, of: func(s *scanning) value { return s.ruled(n) }}
	}
	if p.is(".") {
		p.fail("the module %s is not known", name)
	}
	p.fail("%s is neither a rule before this one nor a variable that is known", name)
	return expr{}
}
