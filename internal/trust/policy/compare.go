package policy

import (
	"encoding/binary"
	"strings"
)

// relation says how two patterns lie to each other.
type relation struct {
	both         string // the shortest name that both match; "" if there is none
	onlyA, onlyB bool   // there are names that only one matches
}

// effort bounds the steps that comparing all patterns of a policy may take: a
// few patterns take hundreds, and only patterns made to be expensive take more.
type effort struct{ left int }

// maxEffort is a second or so.
const maxEffort = 500_000

// pair is a state of the product of two automata.
type pair struct {
	a, b []int
	name string
}

// compare returns how two patterns lie to each other; ok is false if that takes
// too long.
func (e *effort) compare(a, b *Pattern) (r relation, ok bool) {
	switch {
	case !strings.HasPrefix(a.prefix, b.prefix) && !strings.HasPrefix(b.prefix, a.prefix):
		return relation{onlyA: true, onlyB: true}, true
	case apart(a.parts, b.parts):
		return relation{onlyA: true, onlyB: true}, true
	case !a.wild && !b.wild:
		if a.Full == b.Full {
			return relation{both: a.Full}, true
		}
		return relation{onlyA: true, onlyB: true}, true
	case !a.wild:
		if b.Matches(Repository(a.Full)) {
			return relation{both: a.Full, onlyB: true}, true
		}
		return relation{onlyA: true, onlyB: true}, true
	case !b.wild:
		r, ok = e.compare(b, a)
		r.onlyA, r.onlyB = r.onlyB, r.onlyA
		return r, ok
	}
	return e.product(a, b)
}

// apart reports whether two patterns can't meet because a part that is fixed in
// both, counted from the beginning or from the end, differs: what most patterns
// of a long policy are told apart by.
func apart(a, b []string) bool {
	plain := true // no "**" in either
	for i := range min(len(a), len(b)) {
		if plain = a[i] != "**" && b[i] != "**"; !plain {
			break
		}
		if differ(a[i], b[i]) {
			return true
		}
	}
	if plain && len(a) != len(b) {
		return true // the longer one needs as many parts as it has, at least
	}
	for i, j := len(a)-1, len(b)-1; i >= 0 && j >= 0 && a[i] != "**" && b[j] != "**"; i, j = i-1, j-1 {
		if differ(a[i], b[j]) {
			return true
		}
	}
	return false
}

func differ(a, b string) bool {
	return a != b && !strings.Contains(a, "*") && !strings.Contains(b, "*")
}

// product walks both automata at once, shortest names first.
func (e *effort) product(a, b *Pattern) (r relation, ok bool) {
	alphabet := lettersOf(a.Full + b.Full)
	seen := map[string]bool{}
	queue := []pair{{a: []int{0}, b: []int{0}}}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		inA, inB := contains(at.a, a.final), contains(at.b, b.final)
		switch {
		case inA && inB && r.both == "":
			r.both = at.name
		case inA && !inB:
			r.onlyA = true
		case inB && !inA:
			r.onlyB = true
		}
		if r.both != "" && r.onlyA && r.onlyB {
			return r, true
		}
		for i := 0; i < len(alphabet); i++ {
			if e.left--; e.left < 0 {
				return r, false
			}
			c := alphabet[i]
			to := pair{a.next(at.a, c), b.next(at.b, c), at.name + string(c)}
			switch {
			case len(to.a) == 0 && len(to.b) == 0:
				continue
			case len(to.b) == 0: // every state leads to the end
				r.onlyA = true
				continue
			case len(to.a) == 0:
				r.onlyB = true
				continue
			}
			if key := to.key(); !seen[key] {
				seen[key] = true
				queue = append(queue, to)
			}
		}
	}
	return r, true
}

func (p pair) key() string {
	k := make([]byte, 0, 2*(len(p.a)+len(p.b))+2)
	for _, s := range p.a {
		k = binary.BigEndian.AppendUint16(k, uint16(s))
	}
	k = append(k, 0xff, 0xff)
	for _, s := range p.b {
		k = binary.BigEndian.AppendUint16(k, uint16(s))
	}
	return string(k)
}

// lettersOf returns the letters by which names have to be told apart: those of
// the patterns, those that classes treat specially, and one that stands for all
// others.
func lettersOf(patterns string) string {
	var out []byte
	for c := byte('a'); c <= 'z'; c++ {
		if strings.IndexByte(patterns, c) < 0 {
			out = append(out, c)
			break
		}
	}
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789-_.:/") {
		if strings.IndexByte(patterns, c) >= 0 || strings.IndexByte(".:/", c) >= 0 {
			out = append(out, c)
		}
	}
	return string(out)
}

// Within reports whether all that p matches is matched by q too. If that takes
// too long to find out, it is not.
func (p *Pattern) Within(q *Pattern) bool {
	work := effort{maxEffort}
	r, ok := work.compare(p, q)
	return ok && r.both != "" && !r.onlyA
}

// Meets reports whether some repository is matched by both. If that takes too
// long to find out, one is.
func (p *Pattern) Meets(q *Pattern) bool {
	work := effort{maxEffort}
	r, ok := work.compare(p, q)
	return !ok || r.both != ""
}
