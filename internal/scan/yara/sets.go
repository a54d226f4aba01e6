package yara

import "strings"

// variable is what begins with $, #, @ or !.
func (p *parser) variable() expr {
	name := p.tok.s
	line := p.tok
	p.next()
	which, inner := p.stringOf(name)
	x := (*pattern)(nil)
	if !inner {
		x = p.rules.patterns[which(nil)]
		x.uses++
	}
	count := func() {
		if x != nil {
			x.counted = true
		}
	}
	switch name[0] {
	case '#':
		count()
		if p.accept("in") {
			from, to := p.span()
			return expr{kind: integer, of: func(s *scanning) value { return s.countIn(which(s), from, to) }}
		}
		return expr{kind: integer, of: func(s *scanning) value {
			return value{kind: integer, n: int64(len(s.hits[which(s)])), least: s.cut}
		}}
	case '@', '!':
		count()
		return p.hitOf(name[0], which)
	}
	if strings.HasSuffix(name, "*") {
		p.tok = line
		p.fail("%s stands for several strings, and only of has those", name)
	}
	switch {
	case p.accept("at"):
		return p.at(x, which)
	case p.accept("in"):
		count()
		from, to := p.span()
		return expr{kind: truth, of: func(s *scanning) value {
			return s.within(which(s), from, to)
		}}
	}
	return expr{kind: truth, of: func(s *scanning) value { return s.there(which(s)) }}
}

// there says whether the file has a string. Of what only the beginning was looked
// at, the rest may have it.
func (s *scanning) there(pattern int) value {
	if len(s.hits[pattern]) == 0 && s.cut {
		return value{}
	}
	return truthOf(len(s.hits[pattern]) > 0)
}

// within says whether the file has a string that begins in a part of it.
func (s *scanning) within(pattern int, from, to expr) value {
	v := s.countIn(pattern, from, to)
	if s.open(v) {
		return value{}
	}
	return truthOf(v.met())
}

// beyond says that a place of the file was not looked at, or not all that a string
// may take from there.
func (s *scanning) beyond(at int64) bool { return s.cut && at > s.base+int64(s.hi)-reach }

// stringOf says which string a variable means; inner: the one of the loop around.
func (p *parser) stringOf(name string) (which func(*scanning) int, inner bool) {
	if len(name) == 1 {
		if p.inner == 0 {
			p.fail("%s without a name is only known within for … of", name)
		}
		return func(s *scanning) int { return s.current }, true
	}
	if strings.HasSuffix(name, "*") {
		return func(*scanning) int { return 0 }, true
	}
	n, ok := p.names["$"+name[1:]]
	if !ok {
		p.fail("there is no string $%s", name[1:])
	}
	return func(*scanning) int { return n }, false
}

// at is the place of a string. At a number that is in what is kept of a file it
// need not be looked for anywhere else.
func (p *parser) at(x *pattern, which func(*scanning) int) expr {
	where := p.whole(p.bitOr())
	if x != nil && where.fixed && where.n+reach <= largeHead {
		x.direct++
		if where.n+int64(x.widest()) > smallHead {
			p.rules.headSize = largeHead
		}
	}
	if x != nil {
		x.counted = true
	}
	return expr{kind: truth, of: func(s *scanning) value {
		v, n := where.of(s), which(s)
		if v.kind == unknown {
			return value{}
		}
		if one := s.r.patterns[n]; one.anchored {
			if s.stands(one, v.n) {
				return truthOf(true)
			}
			if s.beyond(v.n) {
				return value{}
			}
			return truthOf(false)
		}
		for _, h := range s.hits[n] {
			if h.at == v.n {
				return truthOf(true)
			}
		}
		if s.beyond(v.n) {
			return value{}
		}
		return truthOf(false)
	}}
}

// widest is how many bytes a pattern may take.
func (x *pattern) widest() int {
	n := 0
	for _, l := range x.literals {
		n = max(n, len(l.text)+2)
	}
	for i := range x.programs {
		n = max(n, maxMatch*x.programs[i].step)
	}
	return n
}

// span reads (a..b).
func (p *parser) span() (from, to expr) {
	p.expect("(")
	p.deeper()
	defer func() { p.depth-- }()
	from = p.whole(p.bitOr())
	p.expect("..")
	to = p.whole(p.bitOr())
	p.expect(")")
	return from, to
}

func (s *scanning) countIn(pattern int, from, to expr) value {
	a, b := from.of(s), to.of(s)
	if a.kind == unknown || b.kind == unknown {
		return value{}
	}
	n := int64(0)
	for _, h := range s.hits[pattern] {
		if h.at >= a.n && h.at <= b.n {
			n++
		}
	}
	return value{kind: integer, n: n, least: s.beyond(b.n)}
}

// hitOf is where a string stands the n-th time, or how long it is there.
func (p *parser) hitOf(what byte, which func(*scanning) int) expr {
	nth := fixed(1)
	if p.accept("[") {
		p.deeper()
		nth = p.whole(p.bitOr())
		p.depth--
		p.expect("]")
	}
	return expr{kind: integer, of: func(s *scanning) value {
		v, hits := nth.of(s), s.hits[which(s)]
		if v.kind == unknown || v.n < 1 || v.n > int64(len(hits)) {
			return value{}
		}
		if what == '!' {
			return number64(int64(hits[v.n-1].length))
		}
		return number64(hits[v.n-1].at)
	}}
}

// quantity is how many of a set are asked for.
type quantity struct {
	word    string // all, any, none; else a number
	n       expr
	percent bool
}

func (p *parser) quantity(e expr) quantity { return quantity{n: p.whole(e), percent: e.percent} }

// tally is how many of a set are met, and of how many it cannot be told.
type tally struct{ met, open, all int64 }

func (t *tally) add(s *scanning, v value) {
	t.all++
	switch {
	case v.met():
		t.met++
	case s.open(v):
		t.open++
	}
}

// met says whether so many of all are enough.
func (q quantity) met(s *scanning, t tally) value {
	least := t.all
	switch q.word {
	case "all":
	case "any":
		least = 1
	case "none":
		least = 0
	default:
		v := q.n.of(s)
		switch {
		case v.kind == unknown || v.least || v.n < 0:
			return value{}
		case q.percent && v.n > 100:
			return truthOf(false)
		case q.percent:
			v.n = (t.all*v.n + 99) / 100
		}
		least = v.n
	}
	if least == 0 && q.word != "all" { // none of them
		if t.met == 0 && t.open > 0 {
			return value{}
		}
		return truthOf(t.met == 0)
	}
	if t.met < least && t.met+t.open >= least {
		return value{}
	}
	return truthOf(t.met >= least)
}

// set is what stands behind of: strings, or rules.
type set struct{ strings, rules []int }

func (p *parser) set() (x set) {
	if p.accept("them") {
		x.strings = p.rule.patterns
	} else {
		p.expect("(")
		for {
			p.member(&x)
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
	}
	if len(x.strings)+len(x.rules) == 0 {
		p.fail("of nothing: the rule has no such string")
	}
	for _, n := range x.strings {
		p.rules.patterns[n].uses++
	}
	return x
}

func (p *parser) member(x *set) {
	name := p.tok.s
	if p.tok.kind == variable && name[0] == '$' {
		p.next()
		prefix, several := strings.CutSuffix(name, "*")
		found := false
		for _, n := range p.rule.patterns {
			own := p.rules.patterns[n].name
			if own == name || several && strings.HasPrefix(own, prefix) {
				x.strings = append(x.strings, n)
				found = true
			}
		}
		if !found {
			p.fail("there is no string %s", name)
		}
		return
	}
	name = p.identifier("a string or a rule")
	several := p.accept("*")
	found := false
	for _, known := range sortedNames(p.known) {
		if known == name || several && strings.HasPrefix(known, name) {
			x.rules = append(x.rules, p.known[known])
			found = true
		}
	}
	if !found {
		p.fail("there is no rule %s before this one", name)
	}
}

// of counts how many of a set are met.
func (p *parser) of(q quantity) expr {
	x := p.set()
	from, to := fixed(0), fixed(1<<62)
	within := false
	switch {
	case p.accept("in"):
		from, to = p.span()
		within = true
	case p.accept("at"):
		from = p.whole(p.bitOr())
		to = from
		within = true
	}
	if within {
		p.countAll(x)
	}
	return expr{kind: truth, of: func(s *scanning) value {
		var t tally
		for _, n := range x.strings {
			if within {
				t.add(s, s.within(n, from, to))
			} else {
				t.add(s, s.there(n))
			}
		}
		for _, n := range x.rules {
			t.add(s, s.ruled(n))
		}
		return q.met(s, t)
	}}
}

func (p *parser) countAll(x set) {
	for _, n := range x.strings {
		p.rules.patterns[n].counted = true
	}
}

// loop is for … of … : (…), or for … i in … : (…).
func (p *parser) loop() expr {
	p.deeper()
	defer func() { p.depth-- }()
	var q quantity
	switch {
	case p.is("all") || p.is("any") || p.is("none"):
		q.word = p.tok.s
		p.next()
	default:
		q = p.quantity(p.bitOr())
	}
	if p.accept("of") {
		return p.loopOf(q)
	}
	if q.percent {
		p.fail("a percent sign without of")
	}
	name := p.identifier("the variable of the loop")
	p.expect("in")
	list, from, to := p.list()
	p.expect(":")
	p.loops = append(p.loops, name)
	body := p.body()
	p.loops = p.loops[:len(p.loops)-1]
	return expr{kind: truth, of: func(s *scanning) value { return s.each(q, list, from, to, body) }}
}

func (p *parser) body() expr {
	p.expect("(")
	x := p.or()
	p.expect(")")
	return x
}

// list reads (a..b) or (a, b, c).
func (p *parser) list() (list []expr, from, to expr) {
	p.expect("(")
	first := p.whole(p.bitOr())
	if p.accept("..") {
		to = p.whole(p.bitOr())
		p.expect(")")
		return nil, first, to
	}
	list = []expr{first}
	for p.accept(",") {
		list = append(list, p.whole(p.bitOr()))
	}
	p.expect(")")
	return list, from, to
}

// each runs the body of a loop for every number. Of a loop that was not gone
// through to its end nothing is known.
func (s *scanning) each(q quantity, list []expr, from, to, body expr) value {
	depth := len(s.loops)
	s.loops = append(s.loops, 0)
	defer func() { s.loops = s.loops[:depth] }()
	var t tally
	broken := false
	round := func(v value) bool {
		if s.machine.steps--; s.machine.steps < 0 || t.all >= maxLoop {
			broken = true
			return false
		}
		s.loops[depth] = v.n
		if v.kind == integer && !v.least {
			v = body.of(s)
		} else {
			v = value{}
		}
		t.add(s, v)
		return q.word != "any" || t.met == 0
	}
	if list != nil {
		for _, x := range list {
			if !round(x.of(s)) {
				break
			}
		}
		if broken {
			return value{}
		}
		return q.met(s, t)
	}
	a, b := from.of(s), to.of(s)
	if a.kind == unknown || b.kind == unknown || a.n > b.n {
		return value{}
	}
	for n := a.n; n <= b.n; n++ {
		if !round(number64(n)) {
			break
		}
	}
	if broken {
		return value{}
	}
	return q.met(s, t)
}

// loopOf runs a body for every string of a set.
func (p *parser) loopOf(q quantity) expr {
	x := p.set()
	if len(x.rules) > 0 {
		p.fail("for … of rules is not known")
	}
	p.countAll(x)
	p.expect(":")
	p.inner++
	body := p.body()
	p.inner--
	return expr{kind: truth, of: func(s *scanning) value {
		before := s.current
		defer func() { s.current = before }()
		var t tally
		for _, n := range x.strings {
			if s.machine.steps--; s.machine.steps < 0 {
				return value{}
			}
			s.current = n
			t.add(s, body.of(s))
		}
		return q.met(s, t)
	}}
}

// Verdicts on rules.
const (
	unjudged int8 = iota
	meets
	misses
	undecided // what was not looked at may decide it
)

// ruled says whether the file meets a rule.
func (s *scanning) ruled(rule int) value {
	if s.verdict[rule] == unjudged {
		s.verdict[rule] = misses // a rule cannot ask for itself
		switch v := s.r.rules[rule].condition.of(s); {
		case v.met():
			s.verdict[rule] = meets
		case s.open(v):
			s.verdict[rule] = undecided
		}
	}
	if s.verdict[rule] == undecided {
		return value{}
	}
	return truthOf(s.verdict[rule] == meets)
}

// judge returns the rules that are met, of those name spaces whose global rules
// all are. What only the rest of a file could decide, of which the beginning was
// looked at, is not met: that a string is missing, how often there is one, what
// stands at the end. How large the file is, is known of all.
func (s *scanning) judge() (met []*Rule) {
	out := make([]bool, s.r.spaces)
	for n, rule := range s.r.rules {
		if rule.global && !s.ruled(n).met() {
			out[rule.space] = true
		}
	}
	for n, rule := range s.r.rules {
		if !rule.private && !out[rule.space] && s.ruled(n).met() {
			met = append(met, rule)
		}
	}
	return met
}
