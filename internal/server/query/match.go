package query

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// Match returns a function that says of one event what the store would say for
// q, paging (Before, After, Limit) aside. Text is as store.EventQuery tells:
// words, each at the start of a word of executable, name or arguments.
func Match(q store.EventQuery) func(*event.Event) bool {
	words := strings.Fields(lower(q.Text))
	return func(e *event.Event) bool {
		return matchWhere(&q, e) && matchWhen(&q, e) && matchProcess(&q, e) && matchExec(&q, e) &&
			matchText(words, e)
	}
}

func matchWhere(q *store.EventQuery, e *event.Event) bool {
	return (q.AgentID == "" || q.AgentID == e.AgentID) &&
		(q.WorkloadID == "" || q.WorkloadID == e.WorkloadID) &&
		(q.Group == "" || q.Group == e.Group) &&
		(!q.HostOnly || e.WorkloadID == "")
}

func matchWhen(q *store.EventQuery, e *event.Event) bool {
	return (q.Since.IsZero() || !e.Time.Before(q.Since)) &&
		(q.Until.IsZero() || e.Time.Before(q.Until))
}

func matchProcess(q *store.EventQuery, e *event.Event) bool {
	if len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Kind) {
		return false
	}
	if !q.Process.IsZero() && q.Process != e.Process.Key {
		return false
	}
	if prefix, ok := strings.CutSuffix(q.Executable, "*"); ok {
		return strings.HasPrefix(e.Process.Executable, prefix)
	}
	return q.Executable == "" || q.Executable == e.Process.Executable
}

func matchExec(q *store.EventQuery, e *event.Event) bool {
	if len(q.Origins) == 0 && !q.Entered {
		return true
	}
	if e.Exec == nil {
		return false
	}
	return (len(q.Origins) == 0 || slices.Contains(q.Origins, e.Exec.Origin)) &&
		(!q.Entered || e.Exec.Entered)
}

func matchText(words []string, e *event.Event) bool {
	if len(words) == 0 {
		return true
	}
	var b strings.Builder
	b.WriteString(e.Process.Executable)
	b.WriteByte('\n')
	b.WriteString(e.Process.Name)
	if e.Exec != nil {
		for _, a := range e.Exec.Args {
			b.WriteByte('\n')
			b.WriteString(a)
		}
	}
	hay := lower(b.String())
	for _, w := range words {
		if !startsWord(hay, w) {
			return false
		}
	}
	return true
}

// lower folds ASCII letters alone, as the store does.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// startsWord reports whether want occurs in text at the start of a word: after
// anything but a letter, a digit, an underscore or a byte beyond ASCII. A want
// that begins otherwise may occur anywhere.
func startsWord(text, want string) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], want)
		if i < 0 {
			return false
		}
		at := from + i
		if at == 0 || !isWord(want[0]) || !isWord(text[at-1]) {
			return true
		}
		from = at + 1
	}
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c >= utf8.RuneSelf
}
