package yara

import (
	"regexp/syntax"
)

// atom are fixed bytes that an expression cannot be without: every match has one
// of its atoms, least to most bytes behind its beginning.
type atom struct {
	text        string // in lower case if fold is set
	fold        bool
	least, most int
}

// enoughAtom is how many bytes of an atom are worth having.
const enoughAtom = 16

// atomsOf returns the best atoms of an expression; it is false if there are none.
func atomsOf(re *syntax.Regexp) ([]atom, bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return literalAtoms(re)
	case syntax.OpCapture:
		return atomsOf(re.Sub[0])
	case syntax.OpPlus:
		return atomsOf(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return atomsOf(re.Sub[0])
		}
	case syntax.OpAlternate:
		var all []atom
		for _, sub := range re.Sub {
			a, ok := atomsOf(sub)
			if !ok {
				return nil, false
			}
			all = append(all, a...)
		}
		return all, len(all) <= maxAtoms
	case syntax.OpConcat:
		return concatAtoms(re)
	}
	return nil, false
}

func concatAtoms(re *syntax.Regexp) (best []atom, ok bool) {
	least, most := 0, 0
	for i, sub := range re.Sub {
		as, has := atomsOf(sub)
		if has && sub.Op == syntax.OpLiteral && i+1 < len(re.Sub) {
			as = joined(as, re.Sub[i+1])
		}
		if has {
			for k := range as {
				as[k].least, as[k].most = min(as[k].least+least, reach), min(as[k].most+most, reach)
			}
			if !ok || worth(as) > worth(best) {
				best, ok = as, true
			}
		}
		l, m := widthOf(sub)
		least, most = min(least+l, reach), min(most+m, reach)
	}
	return best, ok
}

// joined lengthens an atom by those that follow it: of "$_" and the alternatives
// POST and GET it makes "$_POST" and "$_GET".
func joined(as []atom, next *syntax.Regexp) []atom {
	if len(as) != 1 || as[0].most > 0 || len(as[0].text) >= enoughAtom {
		return as
	}
	behind, ok := atomsOf(next)
	if !ok {
		return as
	}
	out := make([]atom, 0, len(behind))
	for _, b := range behind {
		if b.most > 0 || b.fold != as[0].fold {
			return as
		}
		text := as[0].text + b.text
		out = append(out, atom{text: text[:min(len(text), enoughAtom)], fold: b.fold})
	}
	return out
}

// worth is more the rarer atoms are met and the less is to be tried at each.
func worth(as []atom) int {
	n := enoughAtom
	for _, a := range as {
		n = min(n, len(a.text))
		if a.most-a.least > 64 {
			n = min(n, 4)
		}
		if allSame(a.text) {
			n = min(n, 2)
		}
	}
	return n*maxAtoms - len(as)
}

func allSame(s string) bool {
	for i := 1; i < len(s); i++ {
		if s[i] != s[0] {
			return false
		}
	}
	return true
}

// literalAtoms takes the best run of bytes of a literal.
func literalAtoms(re *syntax.Regexp) ([]atom, bool) {
	b := make([]byte, 0, len(re.Rune))
	fold := re.Flags&syntax.FoldCase != 0
	for _, r := range re.Rune {
		if r > 0xff {
			return nil, false
		}
		c := byte(r)
		if fold {
			c = lowerByte(c)
		}
		b = append(b, c)
	}
	from := 0
	for len(b)-from > enoughAtom && allSame(string(b[from:from+enoughAtom])) {
		from++
	}
	to := min(len(b), from+enoughAtom)
	return []atom{{text: string(b[from:to]), fold: fold, least: from, most: from}}, to > from
}

// widthOf is how many bytes an expression takes.
func widthOf(re *syntax.Regexp) (least, most int) {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune), len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1, 1
	case syntax.OpCapture:
		return widthOf(re.Sub[0])
	case syntax.OpStar:
		return 0, unlimited(re)
	case syntax.OpPlus:
		least, _ = widthOf(re.Sub[0])
		return least, unlimited(re)
	case syntax.OpQuest:
		_, most = widthOf(re.Sub[0])
		return 0, most
	case syntax.OpRepeat:
		least, most = widthOf(re.Sub[0])
		if re.Max < 0 {
			return min(least*re.Min, reach), unlimited(re)
		}
		return min(least*re.Min, reach), min(most*re.Max, reach)
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			l, m := widthOf(sub)
			least, most = min(least+l, reach), min(most+m, reach)
		}
		return least, most
	case syntax.OpAlternate:
		for i, sub := range re.Sub {
			l, m := widthOf(sub)
			if i == 0 {
				least = l
			}
			least, most = min(least, l), max(most, m)
		}
		return least, most
	}
	return 0, 0 // what takes none: borders
}

// unlimited is the width of what repeats for ever, unless it is of nothing.
func unlimited(re *syntax.Regexp) int {
	if _, most := widthOf(re.Sub[0]); most == 0 {
		return 0
	}
	return maxMatch
}
