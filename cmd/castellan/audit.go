package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// auditPage is the API's answer to a listing.
type auditPage struct {
	Audit []access.Audit `json:"audit"`
}

func newAudit(g *globals) *cobra.Command {
	var o askOptions
	var part, since string
	limit := store.DefaultPage
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed what, and what was refused",
		Long: `Show the audit log, the newest first: every change, by whom, from where and what
came of it, and every refused sign-in. It needs the scope audit:read, which
administrators have.
` + exitHelp,
		Example: `  castellan audit --text respond. --since 7d
  castellan audit --text user:anna --limit 1000 -o json`,
		Args: cobra.NoArgs,
	}
	o.flags(c)
	f := outputFlag(c)
	c.Flags().StringVar(&part, "text", "", "only lines with this in them, in any case of letters: a name, an address, an id, the beginning of an action")
	c.Flags().StringVar(&since, "since", "", "only lines from then on: 24h, 7d, or a time as in RFC 3339")
	c.Flags().IntVar(&limit, "limit", limit, "how many at most")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if limit < 1 {
			return usagef("--limit %d: want 1 or more", limit)
		}
		from, err := query.Time(since, time.Now())
		if err != nil {
			return usagef("--since: %v", err)
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		page := auditPage{Audit: []access.Audit{}}
		q := url.Values{"limit": {strconv.Itoa(store.MaxPage)}}
		for len(page.Audit) < limit {
			var more auditPage
			if err := api.get(c.Context(), "/audit", q, &more); err != nil {
				return err
			}
			older := false
			for i := range more.Audit {
				a := &more.Audit[i]
				if older = a.Time.Before(from); older {
					break
				}
				if isIn(part, a) && len(page.Audit) < limit {
					page.Audit = append(page.Audit, *a)
				}
			}
			if older || len(more.Audit) < store.MaxPage {
				break
			}
			q.Set("before", strconv.FormatInt(more.Audit[len(more.Audit)-1].ID, 10))
		}
		return g.print(*f, page, func() error { return g.auditLines(page.Audit) })
	}
	return c
}

// isIn reports whether a line of the audit log has a text in it.
func isIn(part string, a *access.Audit) bool {
	line := strings.Join([]string{a.Actor, a.Address, a.Action, a.Target, a.Outcome, a.Detail}, " ")
	return strings.Contains(strings.ToLower(line), strings.ToLower(part))
}

func (g *globals) auditLines(all []access.Audit) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "no line of the audit log, of what fits")
		return nil
	}
	rows := make([][]cell, 0, len(all))
	for i := range all {
		a := &all[i]
		rows = append(rows, []cell{
			text(a.Time.Local().Format(time.DateTime)), text(a.Actor), text(a.Address), text(a.Action), text(a.Target), text(a.Outcome), text(a.Detail),
		})
	}
	return g.table([]string{"TIME", "WHO", "FROM", "WHAT", "OF", "OUTCOME", "DETAIL"}, rows)
}
