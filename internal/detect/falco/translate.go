package falco

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// maxNotes bounds what is said of one rule.
const maxNotes = 20

// translation is one condition on its way into CEL.
type translation struct {
	kinds []event.Kind // of the events that it can hold for
	notes []string
}

// said is a part of a condition in CEL. The zero value is always true.
type said struct {
	cel     string
	never   bool
	unknown string // why it can't be said
}

func (t *translation) note(s string) {
	if !slices.Contains(t.notes, s) && len(t.notes) < maxNotes {
		t.notes = append(t.notes, s)
	}
}

// of says a part; not says that its opposite is meant.
func (t *translation) of(n *node, not bool) said {
	switch n.op {
	case "not":
		return t.of(n.kids[0], !not)
	case "and", "or":
		if (n.op == "or") == not {
			return t.both(n.kids, not)
		}
		return t.either(n.kids, not)
	}
	cel, why := t.leaf(n)
	switch {
	case why != "":
		return said{unknown: why}
	case cel == "true" || cel == "false":
		return said{never: (cel == "false") != not}
	case not:
		return said{cel: "!(" + cel + ")"}
	}
	return said{cel: cel}
}

// both says that all parts hold. What an exception asks for and can't be said is left
// out: the rule is wider.
func (t *translation) both(kids []*node, not bool) said {
	var parts []string
	for _, k := range kids {
		s := t.of(k, not)
		switch {
		case s.never:
			return s
		case s.unknown != "" && isExcept(k, not):
			t.note("wider: an exception is left out, for " + s.unknown)
		case s.unknown != "" && !not && isQualifier(k):
			t.note("wider: it is not looked whether the process has the capabilities, or the container the privileges, that it asks for")
		case s.unknown != "":
			return s
		case s.cel != "" && !slices.Contains(parts, s.cel):
			parts = append(parts, s.cel)
		}
	}
	return said{cel: strings.Join(parts, " && ")}
}

// isQualifier says that a part only asks what a process or a container may do, which
// the rest of such rules tells by what was done.
func isQualifier(n *node) bool {
	if n.op == "or" || n.op == "and" {
		return slices.ContainsFunc(n.kids, isQualifier)
	}
	return n.op == "" && (n.field == "container.privileged" || strings.HasPrefix(n.field, "thread.cap_"))
}

// isExcept says that a part takes something out of a rule.
func isExcept(n *node, not bool) bool {
	for n.op == "not" {
		n, not = n.kids[0], !not
	}
	return not
}

// either says that one part holds. Those that can't be said are left out: the rule is
// narrower.
func (t *translation) either(kids []*node, not bool) said {
	var parts []string
	why, never := "", 0
	for _, k := range kids {
		s := t.of(k, not)
		switch {
		case s.never:
			never++
		case s.unknown != "":
			why = s.unknown
			t.note("narrower: an alternative is left out, for " + s.unknown)
		case s.cel == "":
			return s // always
		case !slices.Contains(parts, s.cel):
			parts = append(parts, s.cel)
		}
	}
	switch {
	case len(parts) == 0 && why != "":
		return said{unknown: why}
	case len(parts) == 0:
		return said{never: never > 0}
	case len(parts) == 1:
		return said{cel: parts[0]}
	}
	return said{cel: fmt.Sprintf("(%s)", strings.Join(parts, " || "))}
}
