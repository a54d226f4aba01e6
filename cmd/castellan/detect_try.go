package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// maxTried bounds the events that rules are tried on: at a kilobyte each they are in
// memory.
const maxTried = 500_000

// tryOptions are the flags of a trial.
type tryOptions struct {
	ask    askOptions
	events string
	all    bool
	limit  int
	filter map[string]*string
}

// trialResult is what came of a trial.
type trialResult struct {
	Events  int             `json:"events"`
	From    time.Time       `json:"from,omitzero"`
	To      time.Time       `json:"to,omitzero"`
	Threats []threat.Threat `json:"threats"`
	Stats   []detect.Stats  `json:"rules"`
}

func (g *globals) detectTry() *cobra.Command {
	o := tryOptions{filter: map[string]*string{}}
	c := &cobra.Command{
		Use:   "try FILE…",
		Short: "Say what rules would have found in recorded events",
		Long: `Hold recorded events against documents of rules ("-" is the standard input), and
say what they would have found. Nothing is changed, and nobody is told.

The events are those of a file, as castellan events -o json prints them, also with
--follow; or without --events those that the server keeps.
` + exitHelp,
		Example: `  castellan detect try shop.yaml --since 24h --group 'shop/payments/payd'
  castellan events --follow -o json > day.json; castellan detect try shop.yaml --events day.json`,
		Args: cobra.MinimumNArgs(1),
	}
	f := outputFlag(c)
	o.ask.flags(c)
	s := c.Flags()
	s.StringVar(&o.events, "events", "", "`file` of events; - is the standard input (default: those of the server)")
	s.BoolVar(&o.all, "all", false, "also what the rules that come with the program find")
	s.IntVar(&o.limit, "limit", 100_000, "how many events of the server are tried, the newest")
	for _, x := range [][2]string{
		{"since", "not older than: 15m, 24h, or a time as in RFC 3339"}, {"until", "older than: as --since"}, {"group", "group: cluster/service/container"},
		{"workload", "workload: its container id"}, {"agent", "agent: its id"},
	} {
		o.filter[x[0]] = s.String(x[0], "", "of the server's events those of this "+x[1])
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := g.try(c.Context(), &o, args)
		if err != nil {
			return err
		}
		return g.print(*f, r, func() error { return g.showTrial(r) })
	}
	return c
}

func (g *globals) try(ctx context.Context, o *tryOptions, files []string) (*trialResult, error) {
	if o.limit < 1 || o.limit > maxTried {
		return nil, usagef("--limit %d: want 1 to %d", o.limit, maxTried)
	}
	texts, err := g.detectTexts(files)
	if err != nil {
		return nil, err
	}
	engine, err := detect.New(texts)
	if err != nil {
		return nil, err
	}
	events, err := g.triedEvents(ctx, o)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, r := range engine.Rules() {
		if r.Source != threat.BuiltIn {
			wanted[r.ID] = true
		}
	}
	// What only changes rules of others shows in all of them.
	all := o.all || len(wanted) == 0
	r := &trialResult{Events: len(events), Threats: []threat.Threat{}, Stats: []detect.Stats{}}
	take := func(found []threat.Threat) {
		for _, t := range found {
			if all || wanted[t.Rule] {
				r.Threats = append(r.Threats, t)
			}
		}
	}
	for i := range events {
		take(engine.Observe(&events[i]))
	}
	take(engine.Rest())
	for _, st := range engine.Stats() {
		if all && st.Hits > 0 || wanted[st.Rule] {
			r.Stats = append(r.Stats, st)
		}
	}
	if n := len(events); n > 0 {
		r.From, r.To = events[0].Time, events[n-1].Time
	}
	return r, nil
}

// triedEvents returns the events of a trial in the order in which they happened.
func (g *globals) triedEvents(ctx context.Context, o *tryOptions) (events []event.Event, err error) {
	if o.events != "" {
		for name, v := range o.filter {
			if *v != "" {
				return nil, usagef("--%s is of the server's events, and --events names a file", name)
			}
		}
		events, err = g.eventsOfFile(o.events)
	} else {
		events, err = g.eventsOfServer(ctx, o)
	}
	slices.SortStableFunc(events, func(a, b event.Event) int { return a.Time.Compare(b.Time) })
	return events, err
}

// eventsOfFile reads events one after the other, and pages of them, newest last.
func (g *globals) eventsOfFile(name string) (all []event.Event, err error) {
	in := g.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		defer f.Close() //nolint:errcheck // it is only read
		in = f
	}
	d := json.NewDecoder(in)
	for {
		var one struct {
			event.Event
			Events []event.Event `json:"events"`
		}
		err := d.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "read event %d of %s: %w", len(all)+1, name, err).With("it wants what castellan events -o json prints")
		}
		if one.Events == nil {
			one.Events = []event.Event{one.Event}
		}
		if all = append(all, one.Events...); len(all) > maxTried {
			return nil, fault.New(fault.Invalid, "%s has more than %d events", name, maxTried).With("try parts of it")
		}
	}
}

// eventsOfServer asks for the newest events that fit.
func (g *globals) eventsOfServer(ctx context.Context, o *tryOptions) (all []event.Event, err error) {
	q := url.Values{}
	for name, v := range o.filter {
		if *v != "" {
			q.Set(name, *v)
		}
	}
	if _, err := query.Events(q, time.Now()); err != nil {
		return nil, usageError{err}
	}
	api, err := g.dial(o.ask)
	if err != nil {
		return nil, err
	}
	for len(all) < o.limit {
		q.Set("limit", strconv.Itoa(min(o.limit-len(all), store.MaxPage)))
		var page store.EventPage
		if err := api.get(ctx, "/events", q, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Events...)
		if page.Next == 0 {
			break
		}
		q.Set("before", strconv.FormatInt(page.Next, 10))
	}
	slices.Reverse(all) // what happened at the same time is in the order of the store
	return all, nil
}

func (g *globals) showTrial(r *trialResult) error {
	if r.Events == 0 {
		fmt.Fprintln(g.err, "no event fits")
		return nil
	}
	rows := make([][]cell, 0, len(r.Threats))
	for i := range r.Threats {
		t := &r.Threats[i]
		where := t.Group
		if t.WorkloadID == "" {
			where = "(host)"
		}
		rows = append(rows, []cell{{t.Last.Local().Format(time.DateTime), faint}, text(where), severityCell(t.Severity), text(t.Rule), {strconv.FormatUint(t.Count, 10), plain}, text(t.Summary)})
	}
	if len(rows) > 0 {
		if err := g.table([]string{"TIME", "GROUP", "SEVERITY", "RULE", "TIMES", "WHAT"}, rows); err != nil {
			return err
		}
	}
	var silent []string
	for _, st := range r.Stats {
		if st.Hits == 0 {
			silent = append(silent, st.Rule)
		}
		if st.Errors > 0 {
			fmt.Fprintf(g.err, "%s could not decide %s: %s\n", printable(st.Rule), several(int(st.Errors), "event"), printable(st.Error))
		}
	}
	fmt.Fprintf(g.err, "%s from %s to %s; %s told\n", several(r.Events, "event"), r.From.Local().Format(time.DateTime), r.To.Local().Format(time.DateTime),
		several(len(r.Threats), "threat"))
	if len(silent) > 0 {
		fmt.Fprintf(g.err, "nothing was found by %s\n", printable(strings.Join(silent, ", ")))
	}
	return nil
}
