package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
)

// replayPast says what rules would have done about past incidents.
func (g *globals) replayPast(c *cobra.Command, o askOptions, f form, args []string, days int) error {
	if most := int(respond.MaxReplay / (24 * time.Hour)); days < 1 || days > most {
		return usagef("--past %d: want 1 to %d days", days, most)
	}
	for _, flag := range []string{"rule", "theme", "tactic", "severity", "incident", "group", "name", "host-itself", "external", "at"} {
		if c.Flags().Changed(flag) {
			return usagef("--%s says what happens, and --past looks at what has happened: give one of both", flag)
		}
	}
	// A minute less than what the server takes, whose clock may be behind.
	body := map[string]any{"since": time.Now().Add(-time.Duration(days)*24*time.Hour + time.Minute).UTC()}
	if len(args) > 0 {
		b, err := g.readSmall(args[0], store.MaxResponsePolicy)
		if err != nil {
			return fmt.Errorf("read response policy: %w", err)
		}
		body["text"] = string(b)
	}
	api, err := g.dial(o)
	if err != nil {
		return err
	}
	var told struct {
		problems
		respond.Replayed
	}
	if err := api.do(c.Context(), http.MethodPost, "/respond/policy/replay", body, &told); err != nil {
		return err
	}
	err = g.print(f, told, func() error {
		for _, p := range told.Problems {
			fmt.Fprintf(g.out, "%s:%d:%d: %s\n", printable(args[0]), p.Line, p.Column, printable(p.Text))
		}
		if len(told.Problems) > 0 {
			return nil
		}
		return g.replayed(&told.Replayed, days)
	})
	if err == nil && len(told.Problems) > 0 {
		return errViolated
	}
	return err
}

func (g *globals) replayed(r *respond.Replayed, days int) error {
	var rows [][]cell
	for i := range r.Acts {
		a := &r.Acts[i]
		do := strings.Join(a.Do, ", then ")
		if a.Dry {
			do += " (dry run)"
		}
		rows = append(rows, []cell{
			text(a.At.Local().Format(time.DateTime)), {strconv.FormatInt(a.Incident, 10), plain}, text(a.Threat), text(a.Group), text(asset.ShortID(a.Workload)), text(a.Rule), text(do),
		})
	}
	if len(rows) > 0 {
		if r.Left > 0 {
			fmt.Fprintf(g.out, "%d more before these\n", r.Left)
		}
		if err := g.table([]string{"WHEN", "INCIDENT", "THREAT", "GROUP", "ID", "RULE", "WOULD HAVE"}, rows); err != nil {
			return err
		}
		fmt.Fprintln(g.out)
	}
	rows = nil
	for _, x := range r.Rules {
		state := "on"
		switch {
		case x.Off:
			state = "off"
		case x.Dry:
			state = "dry run"
		}
		rows = append(rows, []cell{text(x.Rule), {state, plain}, {strconv.Itoa(x.Fits), plain}, {strconv.Itoa(x.Acted), plain}, {strconv.Itoa(x.Held), plain}})
	}
	if len(rows) > 0 {
		if err := g.table([]string{"RULE", "STATE", "FITS", "WOULD ACT", "HELD BACK"}, rows); err != nil {
			return err
		}
	}
	fmt.Fprintf(g.err, "looked at %d threats of %d incidents of the last %d days\n", r.Threats, r.Incidents, days)
	if r.Older {
		fmt.Fprintln(g.err, "older incidents of that time were not looked at: they are too many")
	}
	return nil
}
