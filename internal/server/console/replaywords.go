package console

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/server/gate"
)

// replayWords say in a sentence what a replay has found.
func replayWords(r *gate.Replayed, days int) string {
	if r.Examined == 0 {
		return "Nothing was asked for in the last " + plural(days, "day", "days") + "."
	}
	var said []string
	for _, x := range []struct {
		n    int
		says string
	}{{r.Denied, "denied"}, {r.Waiting, "told to wait"}, {r.Allowed, "allowed"}} {
		if x.n > 0 {
			said = append(said, count(x.n)+" would have been "+x.says)
		}
	}
	of := "Of " + plural(r.Examined, "request", "requests") + " of the last " + plural(days, "day", "days") + ", "
	if len(said) == 0 {
		return of + "all would have ended as they did."
	}
	return of + strings.Join(said, ", ") + "; " + count(r.Same) + " would end as they did."
}

// replayTone is how that looks.
func replayTone(r *gate.Replayed) tone {
	switch {
	case r.Denied > 0:
		return danger
	case r.Waiting > 0:
		return warn
	}
	return calm
}

// refusing are the rules that would deny what was not denied, most requests first.
func refusing(r *gate.Replayed) []string {
	var out []string
	for rule := range r.Rules {
		out = append(out, rule)
	}
	slices.SortFunc(out, func(a, b string) int {
		if r.Rules[a] != r.Rules[b] {
			return r.Rules[b] - r.Rules[a]
		}
		return strings.Compare(a, b)
	})
	return out[:min(len(out), refusersShown)]
}

// preset is a parameter's value where a policy sets none.
func preset(required bool, value any) string {
	if required {
		return "must be set"
	}
	return "else " + admit.ShowParameter(value)
}
