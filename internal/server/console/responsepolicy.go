package console

import (
	"context"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	rules "github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// responseStarter is what the editor of response rules begins with: a rule that tries
// only.
const responseStarter = `responses:
  - id: miners-out
    title: Miners lose their network
    owner: who answers for it
    on:
      themes: [miner]
      severity: high
    do:
      - snapshot
      - quarantine
    until: 1h
    dry_run: true  # do nothing, keep what would be
`

// responseBook is the policy of what is done about threats by itself.
func (c *Console) responseBook() *book {
	return &book{
		path: "/responses/policy", here: "incidents", name: "response rules", up: "/responses", upName: "Responses", glyph: "gate", done: "responses-set",
		most: store.MaxResponsePolicy, comment: audit.MaxComment, starter: responseStarter, reads: access.ReadResponse, manages: access.ManageResponse,
		hint:     "`dry_run: true` keeps what a rule would do, and does nothing. A rule names a theme, a tactic, a rule or a severity: none is for everything.",
		tryHint:  "Try on the past holds what happened against this text, with limits and cool-downs. Nothing is done.",
		tryTitle: "What it would have done", tryField: replaySpan(replayDays), tryName: "Try on the past", try: c.tryResponses,
		blank:   noResponsePolicy,
		changes: func(ctx context.Context, _ access.Identity) (<-chan struct{}, error) { return quietUntil(ctx), nil },
		read: func(ctx context.Context, who access.Identity, version int64) (edition, error) {
			p, err := c.Responses.Policy(ctx, who, version)
			return edition(p), err
		},
		list: func(ctx context.Context, who access.Identity, before int64, limit int) ([]edition, error) {
			all, err := c.Responses.Policies(ctx, who, before, limit)
			out := make([]edition, len(all))
			for i := range all {
				out[i] = edition(all[i])
			}
			return out, err
		},
		explain: func(who access.Identity, text string) ([]passage, []textProblem, error) {
			problems, err := c.Responses.Check(who, text)
			if err != nil || len(problems) > 0 {
				return nil, textProblems(problems), err
			}
			return responsePassages(text), nil, nil
		},
		set: func(ctx context.Context, who access.Identity, e entered) error {
			_, err := c.Responses.SetPolicy(ctx, who, e.Text, e.Comment, e.After)
			return err
		},
	}
}

// quietUntil tells of nothing until ctx ends: what is followed is read anew with every
// beat all the same.
func quietUntil(ctx context.Context) <-chan struct{} {
	quiet := make(chan struct{})
	context.AfterFunc(ctx, func() { close(quiet) })
	return quiet
}

// textProblems are what is wrong with a document, as the editor has it.
func textProblems(all []written.Problem) []textProblem {
	var out []textProblem
	for _, p := range all {
		out = append(out, textProblem{p.Line, p.Column, p.Text, p.Remedy})
	}
	return out
}

// responsePassages say in words what rules do about what.
func responsePassages(text string) (out []passage) {
	all, err := rules.ReadRules(respond.PolicyName, []byte(text))
	if err != nil {
		return nil // which Check has told
	}
	lines := map[string]int{}
	for i, line := range splitLines(text) {
		if _, id, ok := strings.Cut(line, "id:"); ok {
			lines[strings.Trim(strings.TrimSpace(id), `"'`)] = i + 1
		}
	}
	for i := range all {
		r := &all[i]
		p := passage{Line: lines[r.ID], Text: orElse(r.Title, r.ID)}
		say := func(s string) { p.Parts = append(p.Parts, passage{Text: s}) }
		say("When " + onWords(&r.On))
		say("It does: " + doWords(r.Do))
		say(limitWords(r))
		if r.Until > 0 {
			say("What can be undone is undone after " + roundly(r.Until))
		}
		switch {
		case r.Off:
			say("It is off: nothing of this is done")
		case r.DryRun:
			say("It tries only: what it would do is kept, and nothing is done")
		}
		out = append(out, p)
	}
	return out
}

// onWords say which threats a rule is for.
func onWords(o *rules.On) string {
	var all []string
	list := func(before string, words []string) {
		if len(words) > 0 {
			all = append(all, before+" "+strings.Join(words, " or "))
		}
	}
	what := "a threat"
	if o.Severity > 0 {
		what = "a threat that is " + o.Severity.String() + " or worse"
	}
	list("of the theme", o.Themes)
	list("of the tactic", tacticList(o.Tactics))
	list("of the rule", o.Rules)
	if o.Incident > 0 {
		all = append(all, "in an incident that is "+o.Incident.String()+" or worse")
	}
	list("in the group", o.Groups)
	list("in the workload", o.Workloads)
	if o.External {
		all = append(all, "with a peer that is not of this fleet")
	}
	if h := hoursWords(&o.Hours); h != "" {
		all = append(all, h)
	}
	return strings.Join(append([]string{what}, all...), " ") + " is seen"
}

func tacticList(all []threat.Tactic) []string {
	out := make([]string, len(all))
	for i, t := range all {
		out[i] = strings.ReplaceAll(string(t), "-", " ")
	}
	return out
}

// hoursWords say when a rule holds; "" for always.
func hoursWords(h *rules.Hours) string {
	var all []string
	for _, d := range h.Days {
		all = append(all, d.String())
	}
	s := ""
	if len(all) > 0 {
		s = "on " + strings.Join(all, ", ")
	}
	if h.From != h.To {
		s += " from " + clockOf(h.From) + " to " + clockOf(h.To)
	}
	if s != "" && h.Place != "" {
		s += " (" + h.Place + ")"
	}
	return strings.TrimSpace(s)
}

func clockOf(minutes int) string {
	const inHour = 60
	two := func(n int) string {
		if n < 10 {
			return "0" + count(n)
		}
		return count(n)
	}
	return two(minutes/inHour) + ":" + two(minutes%inHour)
}

// doWords say what is done, in its order.
func doWords(all []rules.Action) string {
	words := make([]string, len(all))
	for i, a := range all {
		words[i] = a.String()
	}
	return strings.Join(words, ", then ")
}

// limitWords say how often a rule acts.
func limitWords(r *rules.Rule) string {
	return "In one group " + plural(r.Times, "time", "times") + " within " + roundly(r.Within) + ", and " + roundly(r.CoolDown) + " apart in one workload"
}

// roundly is lasted without parts that are nothing: 1 h, and not 1 h 0 min.
func roundly(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(lasted(d), " 0 s"), " 0 min")
}
