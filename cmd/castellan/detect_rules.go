package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/threat"
)

// detectRulePage is the API's answer to a listing.
type detectRulePage struct {
	Rules []detections.Rule `json:"rules"`
}

// ruleCommands are about the rules of detection, and what people write about them.
func (g *globals) ruleCommands() []*cobra.Command {
	return []*cobra.Command{
		g.detectRules(), g.detectCheck(), g.detectImport(), g.detectTry(), g.detectDocuments(), g.detectShow(), g.detectSet(), g.detectRemove(), g.detectHistory(),
		g.detectSilences(), g.detectSilence(), g.detectUnsilence(), g.detectTrail(),
	}
}

func (g *globals) detectRules() *cobra.Command {
	var o askOptions
	var theme, id string
	c := &cobra.Command{
		Use:     "rules [ID]",
		Aliases: []string{"rule"},
		Short:   "List the rules of detection that hold, or say all of one",
		Long: `List the rules of detection that hold, with how often each fired on all hosts: those
that come with the program and your own. With an ID it says what one rule means,
what else makes it fire, how it is tuned and what its parameters are.
` + exitHelp,
		Example: `  castellan detect rules --theme escape
  castellan detect rules escape-core-pattern`,
		Args: cobra.MaximumNArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	c.Flags().StringVar(&theme, "theme", "", "only those of this theme: escape, shell, miner, …")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			if theme != "" {
				return usagef("--theme is of a list, and one rule is named")
			}
			id = args[0]
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if id != "" {
			var r detections.Rule
			if err := api.get(c.Context(), "/detect/rules/"+url.PathEscape(id), nil, &r); err != nil {
				return err
			}
			return g.print(*f, r, func() error { g.showRule(&r); return nil })
		}
		q := url.Values{}
		if theme != "" {
			q.Set("theme", theme)
		}
		var page detectRulePage
		if err := api.get(c.Context(), "/detect/rules", q, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.ruleTable(page.Rules) })
	}
	return c
}

func (g *globals) ruleTable(rules []detections.Rule) error {
	if len(rules) == 0 {
		fmt.Fprintln(g.err, "no rule fits; castellan detect rules lists all")
		return nil
	}
	slices.SortStableFunc(rules, func(a, b detections.Rule) int { return strings.Compare(a.Theme, b.Theme) })
	rows := make([][]cell, 0, len(rules))
	for i := range rules {
		r := &rules[i]
		hits, title := cell{strconv.FormatUint(r.Stats.Hits, 10), plain}, text(r.Title)
		switch {
		case r.Off:
			hits = cell{"off", faint}
		case r.Stats.Hits == 0:
			hits.tone = faint
		case r.Stats.Silenced > 0:
			hits.text += fmt.Sprintf(", %d silenced", r.Stats.Silenced)
		}
		if r.Stats.Errors > 0 {
			title = cell{printable(r.Title) + fmt.Sprintf(" (%s could not be decided)", several(int(r.Stats.Errors), "event")), warn}
		}
		rows = append(rows, []cell{{printable(r.Theme), faint}, text(r.ID), severityCell(r.Severity), text(strings.Join(r.Techniques, " ")), hits, title})
	}
	return g.table([]string{"THEME", "RULE", "SEVERITY", "ATT&CK", "HITS", "WHAT"}, rows)
}

// showRule says all of one rule.
func (g *globals) showRule(r *detections.Rule) {
	s := severityCell(r.Severity)
	fmt.Fprintf(g.out, "%s: %s\n", printable(r.ID), printable(r.Title))
	state := string(r.Source)
	if r.Off {
		state += ", switched off"
	}
	fmt.Fprintf(g.out, "%s, theme %s, %s %s, %s\n\n", g.paint(s.text, s.tone), printable(r.Theme), r.Tactic, printable(strings.Join(r.Techniques, " ")), state)
	for _, p := range [][2]string{
		{"means", r.Meaning}, {"also fires for", r.FalseAlarm}, {"tuning", r.Tuning}, {"what to do", r.Remedy},
	} {
		if p[1] != "" {
			fmt.Fprintf(g.out, "  %-15s %s\n", p[0], printable(p[1]))
		}
	}
	for i, k := range r.Kinds {
		name := ""
		if i == 0 {
			name = "looks at"
		}
		fmt.Fprintf(g.out, "  %-15s %s\n", name, printable(string(k)))
	}
	for _, p := range r.Parameters {
		value := p.Value
		if p.Value != p.Default {
			value += " (it comes with " + p.Default + ")"
		}
		fmt.Fprintf(g.out, "\n  %s, %s: %s\n    %s\n", printable(p.Name), printable(p.Type), printable(p.Meaning), printable(value))
	}
	g.showRuleStats(&r.Stats)
	for i := range r.Silences {
		v := &r.Silences[i]
		fmt.Fprintf(g.out, "silenced in %s until %s: %s\n", printable(silencedWhere(v)), v.Until.Local().Format(time.DateTime), printable(v.Reason))
	}
}

func (g *globals) showRuleStats(s *threat.RuleStats) {
	if s.Looked == 0 {
		fmt.Fprintf(g.out, "\nno agent has held anything against it yet\n")
		return
	}
	fmt.Fprintf(g.out, "\nfired %s, on %s looked at", several(int(s.Hits), "time"), several(int(s.Looked), "event"))
	if s.Silenced > 0 {
		fmt.Fprintf(g.out, ", %d silenced", s.Silenced)
	}
	if s.Spent > 0 {
		fmt.Fprintf(g.out, ", %s each", time.Duration(uint64(s.Spent)/s.Looked).Round(10*time.Nanosecond))
	}
	if !s.Last.IsZero() {
		fmt.Fprintf(g.out, "; last %s", ago(s.Last, time.Now()))
	}
	fmt.Fprintln(g.out)
	if s.Errors > 0 {
		fmt.Fprintf(g.out, "%s could not be decided: %s\n", several(int(s.Errors), "event"), printable(s.Error))
	}
}
