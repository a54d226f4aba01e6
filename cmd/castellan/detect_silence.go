package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// silencedWhere says of what groups, and of what, a silence is.
func silencedWhere(v *threat.Silence) string {
	where := "all groups"
	if len(v.Groups) > 0 {
		where = strings.Join(v.Groups, ", ")
	}
	if v.About != "" {
		where += ", about " + v.About
	}
	return where
}

func (g *globals) detectSilences() *cobra.Command {
	var o askOptions
	var all bool
	c := &cobra.Command{
		Use: "silences", Short: "List where rules of detection are not heard",
		Long: "List where rules of detection are not heard. Silences in documents are not among them.\n" + exitHelp, Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	o.flags(c)
	c.Flags().BoolVar(&all, "all", false, "also those that are over")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page struct {
			Silences []store.DetectionSilence `json:"silences"`
		}
		if err := api.get(c.Context(), "/detect/silences", url.Values{"all": {strconv.FormatBool(all)}}, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			if len(page.Silences) == 0 {
				fmt.Fprintln(g.err, "no rule is silenced")
				return nil
			}
			rows := make([][]cell, 0, len(page.Silences))
			now := time.Now()
			for i := range page.Silences {
				s := &page.Silences[i]
				until := cell{s.Until.Local().Format(time.DateTime), plain}
				switch {
				case !s.Ended.IsZero():
					until = cell{"ended by " + printable(s.EndedBy), faint}
				case !s.Holds(now):
					until.tone = faint
				}
				rows = append(rows, []cell{{strconv.FormatInt(s.ID, 10), plain}, text(s.Rule), text(silencedWhere(&s.Silence)), until, text(s.By), text(s.Reason)})
			}
			return g.table([]string{"SILENCE", "RULE", "WHERE", "UNTIL", "BY", "WHY"}, rows)
		})
	}
	return c
}

func (g *globals) detectSilence() *cobra.Command {
	var o askOptions
	var v threat.Silence
	var long, until string
	c := &cobra.Command{
		Use:   "silence RULE",
		Short: "Have a rule not be heard in some groups for a while",
		Long: `Have a rule, or all that fit a pattern, not be heard in some groups for a while:
what it finds there is counted, and makes no incident. Agents are told.
` + exitHelp,
		Example: `  castellan detect silence 'escape-mount-*' --group 'platform/storage/*' --until 2027-03-01 \
    --reason "the storage plugin mounts disks"`,
		Args: cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	s := c.Flags()
	s.StringSliceVar(&v.Groups, "group", nil, "group: cluster/service/container, * stands for anything but /; may be repeated (default: all)")
	s.StringVar(&v.About, "about", "", "only threats in whose summary, files, program or peers this occurs")
	s.StringVar(&v.Reason, "reason", "", "why (required)")
	s.StringVar(&long, "for", "", "for so long: 12h, 30d")
	s.StringVar(&until, "until", "", "until the end of a day (2027-01-31), or a time as in RFC 3339")
	c.RunE = func(c *cobra.Command, args []string) error {
		var err error
		if v.Until, err = query.Expiry(long, until, time.Now()); err != nil {
			return usagef("--for and --until: %w", err)
		}
		if strings.TrimSpace(v.Reason) == "" {
			return usagef("--reason: say why, for who finds the rule silent")
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		body := map[string]any{"rule": args[0], "groups": v.Groups, "about": v.About, "reason": v.Reason, "until": v.Until}
		if len(v.Groups) == 0 {
			delete(body, "groups")
		}
		var made store.DetectionSilence
		if err := api.do(c.Context(), http.MethodPost, "/detect/silences", body, &made); err != nil {
			return err
		}
		g.warnOfGroups(c.Context(), api, made.Groups)
		return g.print(*f, made, func() error {
			_, err := fmt.Fprintf(g.out, "silence %d: %s is not heard in %s until %s\n", made.ID, printable(made.Rule), printable(silencedWhere(&made.Silence)), made.Until.Local().Format(time.DateTime))
			return err
		})
	}
	return c
}

// warnOfGroups says which patterns fit no group of a workload that is known: mostly they are
// misspelled. Who may not see workloads is told nothing.
func (g *globals) warnOfGroups(ctx context.Context, api *client, patterns []string) {
	var page workloadPage
	if len(patterns) == 0 || api.get(ctx, "/workloads", url.Values{"limit": {strconv.Itoa(store.MaxPage)}}, &page) != nil {
		return
	}
	for _, p := range patterns {
		fits := func(w asset.Workload) bool { return detect.Like(string(w.Group), p) }
		if !slices.ContainsFunc(page.Workloads, fits) {
			fmt.Fprintf(g.err, "warning: no workload is of a group like %s; castellan workloads shows their groups\n", printable(p))
		}
	}
}

func (g *globals) detectUnsilence() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use: "unsilence NUMBER", Short: "End a silence", Long: "End a silence; castellan detect silences has the numbers.\n" + exitHelp, Args: cobra.ExactArgs(1),
	}
	o.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || id < 1 {
			return usagef("%q is no number of a silence", args[0])
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var was store.DetectionSilence
		if err := api.do(c.Context(), http.MethodDelete, "/detect/silences/"+strconv.FormatInt(id, 10), nil, &was); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "%s is heard again in %s\n", printable(was.Rule), printable(silencedWhere(&was.Silence)))
		return err
	}
	return c
}
