package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
)

// respondRules are the commands about what is done by itself.
func (g *globals) respondRules() *cobra.Command {
	var o askOptions
	p := &fleetPolicy{
		name: "response", route: "/respond", command: "castellan respond rules set", max: store.MaxResponsePolicy, keeps: store.MaxResponsePolicies,
		set: `It holds for
what happens from then on. What it would do: castellan respond rules try. With
--after it is only taken if that version is the newest still.`,
		example: `castellan respond rules set responses.yaml --comment "miners out"`,
		next:    "what comes of it: castellan respond runs",
	}
	c := &cobra.Command{
		Use:     "rules",
		Aliases: []string{"policy"},
		Short:   "Show, check, try and change what is done about threats by itself",
		Long: `Show the response rules in force, and how often each acted. They are one document
of YAML, the response policy, which docs/respond.md explains; without one nothing
is done by itself.

  responses:
    - id: miners-out
      owner: platform team
      on: {themes: [miner], severity: high}
      do: [quarantine, notify: oncall]
      until: 1h
      dry_run: true
` + exitHelp,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page struct {
			Rules []ruleLine `json:"rules"`
		}
		if err := api.get(c.Context(), "/respond/rules", nil, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.responseRules(page.Rules) })
	}
	all := []*cobra.Command{p.showCommand(g, &o), g.respondRulesCheck(&o), g.respondRulesTry(&o), p.setCommand(g, &o), p.historyCommand(g, &o)}
	for _, x := range append(all, c) {
		o.flags(x)
	}
	c.AddCommand(all...)
	return c
}

// ruleLine is a rule as the API tells it.
type ruleLine struct {
	ID       string    `json:"id"`
	Title    string    `json:"title,omitempty"`
	Owner    string    `json:"owner"`
	Do       []string  `json:"do"`
	DryRun   bool      `json:"dry_run,omitempty"`
	Off      bool      `json:"off,omitempty"`
	Times    int       `json:"times"`
	Within   string    `json:"within"`
	CoolDown string    `json:"cool_down"`
	Until    string    `json:"until,omitempty"`
	Runs     int       `json:"runs"`
	Last     time.Time `json:"last,omitzero"`
	Held     int       `json:"held,omitempty"`
	HeldWhy  string    `json:"held_why,omitempty"`
	HeldAt   time.Time `json:"held_at,omitzero"`
}

func (g *globals) responseRules(all []ruleLine) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "there is no response rule: nothing is done by itself; castellan respond rules set FILE")
		return nil
	}
	now := time.Now()
	var rows [][]cell
	for i := range all {
		r := &all[i]
		state, tone := "on", good
		switch {
		case r.Off:
			state, tone = "off", plain
		case r.DryRun:
			state, tone = "dry run", plain
		}
		last := "-"
		if !r.Last.IsZero() {
			last = ago(r.Last, now)
		}
		rows = append(rows, []cell{
			text(r.ID), {state, tone}, {strconv.Itoa(r.Runs), plain}, {strconv.Itoa(r.Held), plain}, {last, plain}, text(r.Owner), text(strings.Join(r.Do, ", ")),
		})
	}
	if err := g.table([]string{"RULE", "STATE", "DID", "HELD", "LAST", "OWNER", "DOES"}, rows); err != nil {
		return err
	}
	for i := range all {
		if r := &all[i]; r.HeldWhy != "" {
			fmt.Fprintf(g.err, "%s was held back %s ago: %s\n", r.ID, ago(r.HeldAt, now), printable(r.HeldWhy))
		}
	}
	return nil
}

func (g *globals) respondRulesCheck(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say whether the server would take a file as the response policy",
		Long: `Say whether the server would take a file ("-" is the standard input) as the
response policy, and what is wrong with each line. It changes nothing.
` + exitHelpJudged,
		Args: cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return g.checkWritten(c.Context(), *o, *f, checkable{args[0], "response policy", "/respond/policy/check", store.MaxResponsePolicy})
	}
	return c
}

// responseTrial is a threat that does not happen, as the API takes it.
type responseTrial struct {
	Text     string     `json:"text,omitempty"`
	Rule     string     `json:"rule"`
	Theme    string     `json:"theme,omitempty"`
	Tactic   string     `json:"tactic,omitempty"`
	Severity string     `json:"severity,omitempty"`
	Incident string     `json:"incident,omitempty"`
	Group    string     `json:"group,omitempty"`
	Name     string     `json:"name,omitempty"`
	Host     bool       `json:"host,omitempty"`
	External bool       `json:"external,omitempty"`
	At       *time.Time `json:"at,omitempty"`
}

func (t *responseTrial) flags(fl *pflag.FlagSet) {
	fl.StringVar(&t.Rule, "rule", "", "id of the rule of detection that fires")
	fl.StringVar(&t.Theme, "theme", "", "its theme (default: that of the built-in rule)")
	fl.StringVar(&t.Tactic, "tactic", "", "its tactic, such as execution")
	fl.StringVar(&t.Severity, "severity", "", "of the threat: negligible, low, medium, high or critical (default: high)")
	fl.StringVar(&t.Incident, "incident", "", "severity of the incident (default: that of the threat)")
	fl.StringVar(&t.Group, "group", "", "group of its workload")
	fl.StringVar(&t.Name, "name", "", "name of its workload")
	fl.BoolVar(&t.Host, "host-itself", false, "it is of the host itself, not of a workload")
	fl.BoolVar(&t.External, "external", false, "it is about a peer outside of the fleet")
}

func (g *globals) respondRulesTry(o *askOptions) *cobra.Command {
	var body responseTrial
	var at string
	var past int
	c := &cobra.Command{
		Use:   "try [FILE]",
		Short: "Say what rules would do about a threat, or would have done lately",
		Long: `Say what the rules of a file ("-" is the standard input), or without one those in
force, would do about a threat, and why each other rule would not. Nothing is
done. What rules did lately counts: one that has reached its limit is held back.

With --past they are held against the incidents that are kept, as if each threat
were answered when it happened, with limits and cool-downs.
` + exitHelpJudged,
		Example: `  castellan respond rules try responses.yaml --rule miner-name --severity high --group shop/web/web
  castellan respond rules try responses.yaml --past 30`,
		Args: cobra.MaximumNArgs(1),
	}
	f := outputFlag(c)
	body.flags(c.Flags())
	c.Flags().StringVar(&at, "at", "", "when it happens, as 2026-12-31T23:59:59Z (default: now)")
	c.Flags().IntVar(&past, "past", 0, "hold them against the incidents of so many `days`")
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("past") {
			return g.replayPast(c, *o, *f, args, past)
		}
		if body.Rule == "" && body.Theme == "" {
			return usagef("what happens? say --rule or --theme, or --past DAYS for what has happened")
		}
		if at != "" {
			t, err := time.Parse(time.RFC3339, at)
			if err != nil {
				return usagef("--at %q: want a time as 2026-12-31T23:59:59Z", at)
			}
			body.At = &t
		}
		if len(args) > 0 {
			b, err := g.readSmall(args[0], store.MaxResponsePolicy)
			if err != nil {
				return fmt.Errorf("read response policy: %w", err)
			}
			body.Text = string(b)
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var told struct {
			problems
			Theme string          `json:"theme"`
			Rules []respond.Tried `json:"rules"`
		}
		if err := api.do(c.Context(), http.MethodPost, "/respond/policy/try", body, &told); err != nil {
			return err
		}
		if told.Theme == "" && len(told.Problems) == 0 {
			fmt.Fprintf(g.err, "no rule of detection is called %q, and --theme says no theme; castellan detect rules lists them\n", body.Rule)
		}
		err = g.print(*f, told, func() error {
			for _, p := range told.Problems {
				fmt.Fprintf(g.out, "%s:%d:%d: %s\n", printable(args[0]), p.Line, p.Column, printable(p.Text))
			}
			return g.tried(told.Rules)
		})
		if err == nil && len(told.Problems) > 0 {
			return errViolated
		}
		return err
	}
	return c
}

func (g *globals) tried(all []respond.Tried) error {
	any := false
	for _, t := range all {
		what := "would do nothing: " + t.Why
		switch {
		case t.Held != "":
			what = "is held back: " + t.Held
		case len(t.Do) > 0:
			what = "would " + strings.Join(t.Do, ", then ")
			if t.Dry {
				what = "is a dry run; it " + what
			}
			any = true
		case t.Fits:
			what = "fits, and does nothing"
		}
		fmt.Fprintf(g.out, "%s %s\n", printable(t.Rule), printable(what))
		for _, l := range t.Lacks {
			fmt.Fprintf(g.out, "  but not %s\n", printable(l))
		}
	}
	if !any {
		fmt.Fprintln(g.err, "nothing would be done by itself")
	}
	return nil
}

func (g *globals) respondRuns() *cobra.Command {
	var o askOptions
	var rule, workload string
	var limit int
	c := &cobra.Command{
		Use:   "runs",
		Short: "What response rules did by themselves, and what came of it",
		Long:  "Show what response rules did, or in a dry run would have done; the newest first.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	o.flags(c)
	f := outputFlag(c)
	c.Flags().StringVar(&rule, "rule", "", "of this rule alone")
	c.Flags().StringVar(&workload, "workload", "", "of this workload alone: its name, or the beginning of its id")
	c.Flags().IntVar(&limit, "limit", 100, "how many at most, up to 1000")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		q := url.Values{"rule": {rule}, "limit": {strconv.Itoa(limit)}}
		if workload != "" {
			w, err := find(c.Context(), api, workload)
			if err != nil {
				return err
			}
			q.Set("workload", w.ID)
		}
		var page struct {
			Runs []store.ResponseRun `json:"runs"`
		}
		if err := api.get(c.Context(), "/respond/runs", q, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.responseRuns(page.Runs) })
	}
	return c
}

func (g *globals) responseRuns(all []store.ResponseRun) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "no rule has done anything that fits; castellan respond rules shows them")
		return nil
	}
	var rows [][]cell
	for i := range all {
		r := &all[i]
		did := r.Did
		if r.DryRun {
			did += " (dry run)"
		}
		state := string(r.State)
		if state == "" {
			state = "running"
		}
		detail := r.Detail
		if !r.UndoAt.IsZero() {
			detail = "until " + r.UndoAt.Local().Format(time.DateTime) + "; " + detail
		}
		rows = append(rows, []cell{
			text(r.At.Local().Format(time.DateTime)), text(r.Rule), text(did), text(state), text(asset.ShortID(r.Workload)), text(string(r.Group)), text(r.Threat), text(detail),
		})
	}
	return g.table([]string{"WHEN", "RULE", "DID", "STATE", "ID", "GROUP", "THREAT", "WHAT CAME OF IT"}, rows)
}
