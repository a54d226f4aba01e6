package grant

import (
	"slices"
	"strings"
)

// limits are what takes of what a role's statements allow.
type limits struct {
	denials []Statement // without conditions, of the role and of its boundary
	bounded bool
	bound   []Statement // of the boundary
}

// Limit returns a role's statements, of which each knows what the others and the
// role's permissions boundary take of it. A role that is not bounded has no
// boundary; one whose boundary has no statement may do nothing.
func Limit(all []Statement, bounded bool, boundary []Statement) []Statement {
	l := &limits{bounded: bounded, bound: boundary}
	for _, list := range [][]Statement{all, boundary} {
		for i := range list {
			if !list[i].Allow && len(list[i].Conditions) == 0 {
				l.denials = append(l.denials, list[i])
			}
		}
	}
	out := slices.Clone(all)
	for i := range out {
		out[i].limits = l
	}
	return out
}

// keeps says whether an allowance of an action is not taken back wherever it is
// for. The action may have wildcards of its own.
func (s *Statement) keeps(action string) bool {
	if s.limits == nil || !s.Allow {
		return true
	}
	for i := range s.limits.denials {
		if d := &s.limits.denials[i]; d.overAll() && d.covers(action) {
			return false
		}
	}
	return !s.limits.bounded || slices.ContainsFunc(s.limits.bound, func(b Statement) bool { return b.Allow && b.covers(action) })
}

// overAll says that a statement is about every resource, without an exception.
func (s *Statement) overAll() bool {
	return s.NotResources == nil && (s.Resources == nil || s.everyResource())
}

// shareActions says whether there may be an action that both are about.
func shareActions(a, b *Statement) bool {
	if a.Actions == nil || b.Actions == nil {
		return true
	}
	return slices.ContainsFunc(a.Actions, func(x string) bool {
		return slices.ContainsFunc(b.Actions, func(y string) bool { return matches(x, y) || matches(y, x) })
	})
}

// maxWork bounds what one question costs, in steps of comparing characters. Beyond,
// what is not known to be denied counts as allowed.
const maxWork = 1 << 24

// question is one that is put to statements, with what it may still cost.
type question struct {
	action string
	left   int
}

// Allows says whether statements allow an action on some resource, and neither
// another of them nor a boundary takes it back there. Those of a role come from
// Limit.
func Allows(all []Statement, action string) bool {
	q := question{action, maxWork}
	var own []Statement // where there was no Limit
	for i := range all {
		if s := &all[i]; s.limits == nil && !s.Allow && len(s.Conditions) == 0 {
			own = append(own, *s)
		}
	}
	for i := range all {
		s := &all[i]
		if !s.Allow || !s.covers(action) {
			continue
		}
		l := s.limits
		if l == nil {
			l = &limits{denials: own}
		}
		if q.somewhere(s, l) {
			return true
		}
	}
	return false
}

// somewhere says whether an allowance is left for some resource.
func (q *question) somewhere(s *Statement, l *limits) bool {
	resources := s.Resources
	if resources == nil { // of a repository, or all but some
		resources = []string{"*"}
	}
	return slices.ContainsFunc(resources, func(r string) bool {
		for i := range l.denials {
			if d := &l.denials[i]; d.covers(q.action) && q.over(d, r) {
				return false
			}
		}
		return !l.bounded || slices.ContainsFunc(l.bound, func(b Statement) bool { return b.Allow && b.covers(q.action) && q.touches(&b, r) })
	})
}

// over says whether a statement is about all of a resource, which may have
// wildcards.
func (q *question) over(s *Statement, r string) bool {
	switch {
	case s.overAll():
		return true
	case s.NotResources != nil:
		return !slices.ContainsFunc(s.NotResources, func(p string) bool { return q.overlap(p, r) })
	}
	return slices.ContainsFunc(s.Resources, func(p string) bool { return q.spend(len(p)*len(r)) && fits(p, r) })
}

// touches says whether a statement may be about some of a resource.
func (q *question) touches(s *Statement, r string) bool {
	switch {
	case s.overAll():
		return true
	case s.NotResources != nil:
		return !slices.ContainsFunc(s.NotResources, func(p string) bool { return q.spend(len(p)*len(r)) && fits(p, r) })
	}
	return slices.ContainsFunc(s.Resources, func(p string) bool { return q.overlap(p, r) })
}

func (q *question) spend(steps int) bool {
	q.left -= steps
	return q.left >= 0
}

// overlap says whether two patterns may have a text in common. What a variable
// stands for may be anything.
func (q *question) overlap(a, b string) bool {
	a, b = strings.ToLower(variables(a)), strings.ToLower(variables(b))
	if a == b || !q.spend((len(a)+1)*(len(b)+1)) {
		return true
	}
	// below[j] says it of the rests of a after i+1 and of b after j.
	below, row := make([]bool, len(b)+1), make([]bool, len(b)+1)
	for i := len(a); i >= 0; i-- {
		for j := len(b); j >= 0; j-- {
			switch {
			case i == len(a) && j == len(b):
				row[j] = true
			case i < len(a) && a[i] == '*':
				row[j] = below[j] || j < len(b) && row[j+1]
			case j < len(b) && b[j] == '*':
				row[j] = row[j+1] || i < len(a) && below[j]
			case i == len(a) || j == len(b):
				row[j] = false
			default:
				row[j] = (a[i] == b[j] || a[i] == '?' || b[j] == '?') && below[j+1]
			}
		}
		below, row = row, below
	}
	return below[0]
}

// variables puts a wildcard in the place of each variable of a policy: ${aws:username}.
func variables(s string) string {
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(s, "${")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		_, s, ok = strings.Cut(after, "}")
		out.WriteByte('*')
		if !ok {
			return out.String()
		}
	}
}
