package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// acceptancePage is the API's answer to a listing.
type acceptancePage struct {
	Acceptances []store.Acceptance `json:"acceptances"`
}

func newAcceptances(g *globals) *cobra.Command {
	var o askOptions
	var all bool
	c := &cobra.Command{
		Use:   "acceptances",
		Short: "List and end decisions to live with a vulnerability, a secret, a fault or malware",
		Long: `List the decisions to live with a finding that hold, what ends first, first
(--all: those that ended too). They are made by castellan vulnerabilities accept,
secrets accept, faults accept and malware accept, or in the console.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	c.Flags().BoolVarP(&all, "all", "a", false, "ended and expired ones too")
	end := g.acceptanceEnd(&o)
	end.Long = end.Short + ".\n" + exitHelp
	c.AddCommand(end)
	persistent(c, &o)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page acceptancePage
		if err := api.get(c.Context(), "/acceptances", nil, &page); err != nil {
			return err
		}
		now := time.Now()
		if !all {
			page.Acceptances = slices.DeleteFunc(page.Acceptances, func(a store.Acceptance) bool { return !a.Holds(now) })
		}
		slices.SortStableFunc(page.Acceptances, func(a, b store.Acceptance) int { return a.Expires.Compare(b.Expires) })
		return g.print(*f, page, func() error { return g.acceptances(page.Acceptances, now) })
	}
	return c
}

func (g *globals) acceptances(all []store.Acceptance, now time.Time) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "nothing is accepted")
		return nil
	}
	rows := make([][]cell, 0, len(all))
	for _, a := range all {
		rows = append(rows, []cell{
			{strconv.FormatInt(a.ID, 10), plain}, text(orDefault(string(a.Kind), "vulnerability")), text(a.Name()), text(acceptedIn(a)),
			text(orDefault(a.Image, "every image")), untilCell(a, now), text(a.By), text(a.Reason),
		})
	}
	return g.table([]string{"NUMBER", "KIND", "WHAT", "IN", "OF", "UNTIL", "BY", "REASON"}, rows)
}

// acceptedIn says where in an image a decision holds.
func acceptedIn(a store.Acceptance) string {
	switch a.Kind {
	case "":
		return orDefault(a.Package, "every package")
	case store.KindFault:
		return ""
	}
	return orDefault(a.Path, "every file")
}

// untilCell says until when an acceptance holds; near its end it is marked.
func untilCell(a store.Acceptance, now time.Time) cell {
	const soon = 14 * 24 * time.Hour
	switch {
	case !a.Ended.IsZero():
		return cell{"ended " + a.Ended.UTC().Format(time.DateOnly), faint}
	case !a.Holds(now):
		return cell{"expired " + lastDay(a.Expires), faint}
	case a.Expires.Sub(now) < soon:
		return cell{lastDay(a.Expires), warn}
	}
	return cell{lastDay(a.Expires), plain}
}

func (g *globals) acceptanceEnd(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "end NUMBER",
		Short: "End an acceptance: what it accepted counts again",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id < 1 {
				return usagef("%q is no number of an acceptance; castellan acceptances lists them", args[0])
			}
			api, err := g.dial(*o)
			if err != nil {
				return err
			}
			var ended store.Acceptance
			if err := api.do(c.Context(), http.MethodDelete, fmt.Sprintf("/acceptances/%d", id), nil, &ended); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "The acceptance of %s has ended.\n", printable(ended.Name()))
			return err
		},
	}
}

// acceptFlags are what every command that accepts something is told.
type acceptFlags struct{ image, reason, long, until string }

func (a *acceptFlags) flags(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&a.image, "image", "", "only in this image (its id), or in every image of a repository (registry/shop/web)")
	s.StringVar(&a.reason, "reason", "", "why it can be lived with")
	s.StringVar(&a.long, "for", "", "for how long: 30d, 12h")
	s.StringVar(&a.until, "until", "", "until the end of a day (2027-01-31), or a time as in RFC 3339")
}

// accept has the server accept what is named in what.
func (a *acceptFlags) accept(ctx context.Context, g *globals, o askOptions, what map[string]any) (made store.Acceptance, err error) {
	if strings.TrimSpace(a.reason) == "" {
		return made, usagef("say with --reason why it can be lived with")
	}
	expires, err := query.Expiry(a.long, a.until, time.Now())
	if err != nil {
		return made, usagef("--for and --until: %w", err)
	}
	api, err := g.dial(o)
	if err != nil {
		return made, err
	}
	what["image"], what["reason"], what["expires"] = a.image, a.reason, expires.UTC()
	return made, api.do(ctx, http.MethodPost, "/acceptances", what, &made)
}
