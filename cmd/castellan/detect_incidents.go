package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// incidentPage is the API's answer to a listing.
type incidentPage struct {
	Incidents []threat.Incident `json:"incidents"`
}

func (g *globals) incidentCommands() []*cobra.Command {
	return []*cobra.Command{
		g.incidentList(), g.incidentShow(), g.incidentAssign(), g.incidentUnassign(), g.incidentComment(), g.incidentResolve(), g.incidentReopen(),
	}
}

func (g *globals) incidentList() *cobra.Command {
	var o askOptions
	var states []string
	var severity, since, until string
	var all bool
	limit := store.DefaultPage
	c := &cobra.Command{
		Use:   "incidents",
		Short: "List incidents that are not resolved",
		Long: `List incidents, the newest first: those that are not resolved, unless you ask for
others. castellan detect incident NUMBER tells the whole story of one.
` + exitHelp,
		Example: `  castellan detect incidents --severity high
  castellan detect incidents --all --group 'shop/web/*' --since 7d -o json
  castellan detect incidents --all --technique T1611 --since 7d --until 24h`,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	o.flags(c)
	s := c.Flags()
	s.StringSliceVar(&states, "state", nil, "only those in this state: open, assigned, reopened, resolved; may be repeated")
	s.BoolVar(&all, "all", false, "also those that are resolved")
	s.StringVar(&severity, "severity", "", "only those this grave at least: "+severityWords())
	texts := map[string]*string{}
	for _, x := range [...][2]string{
		{"group", "in this group; a trailing * stands for any rest"}, {"rule", "in which this rule fired"},
		{"technique", "with this technique of MITRE ATT&CK, or one that begins so: T1611, T1059"}, {"agent", "on the host of this agent (its id)"},
		{"workload", "in this container: its name, or the beginning of its id"}, {"assignee", "that are assigned to this person"}, {"text", "with this in title, story or names"},
	} {
		texts[x[0]] = s.String(x[0], "", "only those "+x[1])
	}
	s.StringVar(&since, "since", "", "only those that went on from then on: 24h, 7d, or a time as in RFC 3339")
	s.StringVar(&until, "until", "", "only those whose newest threat was before then: as --since")
	s.IntVar(&limit, "limit", limit, "how many at most")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := incidentFilter(states, all, severity, since, until)
		if err != nil {
			return err
		}
		if limit < 1 {
			return usagef("--limit %d: want 1 or more", limit)
		}
		for name, v := range texts {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if name := q.Get("workload"); name != "" && !asset.IsContainerID(name) {
			w, err := find(c.Context(), api, name)
			if err != nil {
				return err
			}
			q.Set("workload", w.ID)
		}
		var page incidentPage
		page.Incidents, err = upTo(limit, q, func(q url.Values) ([]threat.Incident, error) {
			var more incidentPage
			err := api.get(c.Context(), "/detect/incidents", q, &more)
			return more.Incidents, err
		}, func(q url.Values, last *threat.Incident) { q.Set("before", strconv.FormatInt(last.ID, 10)) })
		if err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.incidentTable(page.Incidents) })
	}
	return c
}

// incidentFilter makes a question of flags.
func incidentFilter(states []string, all bool, severity, since, until string) (url.Values, error) {
	q := url.Values{}
	switch {
	case len(states) > 0 && all:
		return nil, usagef("--state and --all: choose one of them")
	case len(states) > 0:
		for _, s := range states {
			switch threat.State(s) {
			case threat.Open, threat.Assigned, threat.Reopened, threat.Resolved:
			default:
				return nil, usagef("--state %q: want open, assigned, reopened or resolved", s)
			}
		}
		q["state"] = states
	case !all:
		q["state"] = []string{string(threat.Open), string(threat.Assigned), string(threat.Reopened)}
	}
	if severity != "" {
		v, err := finding.ParseSeverity(severity)
		if err != nil {
			return nil, usagef("--severity: %v", err)
		}
		q.Set("severity", v.String())
	}
	for _, x := range [...]struct{ name, text string }{{"since", since}, {"until", until}} {
		at, err := query.Time(x.text, time.Now())
		if err != nil {
			return nil, usagef("--%s: %v", x.name, err)
		}
		if !at.IsZero() {
			q.Set(x.name, at.UTC().Format(time.RFC3339))
		}
	}
	return q, nil
}

func (g *globals) incidentTable(all []threat.Incident) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "no incident, of what fits; --all lists those that are resolved, too")
		return nil
	}
	rows := make([][]cell, 0, len(all))
	for k := range all {
		i := &all[k]
		rows = append(rows, []cell{{strconv.FormatInt(i.ID, 10), plain}, {ago(i.Last, time.Now()), plain}, severityCell(i.Severity), incidentState(i),
			{strconv.FormatUint(i.Count, 10), plain}, text(i.Title)})
	}
	return g.table([]string{"INCIDENT", "LAST", "SEVERITY", "STATE", "TIMES", "WHAT"}, rows)
}

// incidentState says who has an incident, or what came of it.
func incidentState(i *threat.Incident) cell {
	switch i.State {
	case threat.Resolved:
		return cell{string(i.Resolution), faint}
	case threat.Assigned:
		return cell{printable(i.Assignee), good}
	case threat.Reopened:
		return cell{"reopened", bad}
	}
	return cell{"open", warn}
}

func (g *globals) incidentShow() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "incident NUMBER",
		Short: "Tell the story of an incident",
		Long: `Tell the story of an incident: what happened, by which processes, with which peers
and files, what the kernel did about it, which weaknesses of images fit, what
people said, and the events that it rests on.
` + exitHelp,
		Args: cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := number("incident", args[0])
		if err != nil {
			return err
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var i threat.Incident
		if err := api.get(c.Context(), "/detect/incidents/"+id, nil, &i); err != nil {
			return err
		}
		return g.print(*f, i, func() error {
			hosts, err := hostNames(c.Context(), api)
			if err != nil {
				return err
			}
			return g.incidentStory(&i, id, hosts)
		})
	}
	return c
}

// incidentChange makes a command of something that is done about incidents: the first, or
// with several all that are named.
func (g *globals) incidentChange(use, short, long string, args cobra.PositionalArgs, several bool, set func(*cobra.Command), form func(args []string) (map[string]any, error)) *cobra.Command {
	c := g.watchChange(use, short, long, 0, set, func(c *cobra.Command, api *client, args []string) error {
		named := args
		if !several {
			named = args[:1]
		}
		var ids []string
		for _, a := range named {
			id, err := number("incident", a)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		body, err := form(args)
		if err != nil {
			return err
		}
		for _, id := range ids {
			var i threat.Incident
			if err := api.do(c.Context(), http.MethodPost, "/detect/incidents/"+id+"/changes", body, &i); err != nil {
				return fmt.Errorf("incident %s: %w", id, err)
			}
			said := string(i.State)
			switch {
			case body["do"] == threat.Comment:
				said = "your comment stands in its timeline"
			case i.State == threat.Assigned:
				said += " to " + printable(i.Assignee)
			case i.State == threat.Resolved:
				said += " as " + string(i.Resolution)
			}
			if _, err := fmt.Fprintf(g.out, "incident %d: %s\n", i.ID, said); err != nil {
				return err
			}
		}
		return nil
	})
	c.Args = args
	return c
}

func commentFlag(comment *string) func(*cobra.Command) {
	return func(c *cobra.Command) { c.Flags().StringVar(comment, "comment", "", "what is to be said about it") }
}

func (g *globals) incidentAssign() *cobra.Command {
	var comment string
	return g.incidentChange("assign NUMBER [PERSON]", "Give an incident to somebody, or take it yourself",
		"Give an incident to somebody, or with nobody named take it yourself.", cobra.RangeArgs(1, 2), false, commentFlag(&comment),
		func(args []string) (map[string]any, error) {
			body := map[string]any{"do": threat.Assign, "comment": comment}
			if len(args) > 1 {
				body["assignee"] = args[1]
			}
			return body, nil
		})
}

func (g *globals) incidentUnassign() *cobra.Command {
	var comment string
	return g.incidentChange("unassign NUMBER…", "Take incidents from who has them", "Take incidents from who has them: they are open again.", cobra.MinimumNArgs(1), true,
		commentFlag(&comment), func([]string) (map[string]any, error) {
			return map[string]any{"do": threat.Unassign, "comment": comment}, nil
		})
}

func (g *globals) incidentComment() *cobra.Command {
	return g.incidentChange("comment NUMBER TEXT…", "Say something about an incident", "Say something about an incident; it stands in its timeline.", cobra.MinimumNArgs(2), false, nil,
		func(args []string) (map[string]any, error) {
			return map[string]any{"do": threat.Comment, "comment": strings.Join(args[1:], " ")}, nil
		})
}

func (g *globals) incidentResolve() *cobra.Command {
	var as, comment string
	return g.incidentChange("resolve NUMBER… --as RESOLUTION", "Say what came of incidents",
		`Say what came of incidents: they are over then, until it happens again.

  attack       it was one, and it was dealt with
  test         somebody tried the detections
  harmless     right to tell, and nothing to do
  false-alarm  the rule was wrong: tune or silence it`, cobra.MinimumNArgs(1), true,
		func(c *cobra.Command) {
			c.Flags().StringVar(&as, "as", "", "what it was: "+list(threat.Resolutions()))
			commentFlag(&comment)(c)
		},
		func([]string) (map[string]any, error) {
			for _, r := range threat.Resolutions() {
				if string(r) == as {
					return map[string]any{"do": threat.Resolve, "resolution": as, "comment": comment}, nil
				}
			}
			if as == "" {
				return nil, usagef("say what it was: --as %s", strings.ReplaceAll(list(threat.Resolutions()), ", ", ", --as "))
			}
			return nil, usagef("--as %q: want %s", as, list(threat.Resolutions()))
		})
}

func (g *globals) incidentReopen() *cobra.Command {
	var comment string
	return g.incidentChange("reopen NUMBER…", "Open resolved incidents again", "Open resolved incidents again: they were not over.", cobra.MinimumNArgs(1), true,
		commentFlag(&comment), func([]string) (map[string]any, error) {
			return map[string]any{"do": threat.Reopen, "comment": comment}, nil
		})
}
