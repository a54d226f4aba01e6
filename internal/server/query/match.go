package query

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// Match returns a function that says of one event what the store would say for
// q, paging (Before, After, Limit) aside. Text is as store.EventQuery tells:
// words, each at the start of a word of what the event is about.
func Match(q store.EventQuery) func(*event.Event) bool {
	words := strings.Fields(q.Text)
	return func(e *event.Event) bool {
		return matchWhere(&q, e) && matchWhen(&q, e) && matchProcess(&q, e) && matchExec(&q, e) &&
			store.MatchesPath(e, q.Path) && store.MatchesPeer(e, q.Peer) && store.Matches(e, words)
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
