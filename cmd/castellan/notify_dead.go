package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/notice"
)

// deadPage is the API's answer to a listing of dead letters.
type deadPage struct {
	Dead []notice.Dead `json:"dead"`
}

// deadChoice says which dead letters; one of the three.
type deadChoice struct {
	ID     string `json:"id,omitempty"`
	Target int64  `json:"target,omitempty"`
	All    bool   `json:"all,omitempty"`
}

type deadCount struct {
	Count int `json:"count"`
}

func (g *globals) notifyDead(o *askOptions) *cobra.Command {
	var target string
	c := &cobra.Command{
		Use: "dead", Short: "List notifications that were given up, and why", Args: cobra.NoArgs,
		Long: `List notifications that were given up, and why: a target refused one, or did not
take it for three days. They are kept until somebody retries or drops them; of
one target at most 50, and 500 of all.
`,
		Example: `  castellan notify dead
  castellan notify dead retry --target soc
  castellan notify dead drop --all`,
	}
	f := outputFlag(c)
	c.Flags().StringVar(&target, "target", "", "only those of this target")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		query := url.Values{}
		if target != "" {
			_, t, err := g.targetCalled(c, *o, target)
			if err != nil {
				return err
			}
			query.Set("target", strconv.FormatInt(t.ID, 10))
		}
		var page deadPage
		if err := api.get(c.Context(), "/notify/dead", query, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.dead(page.Dead) })
	}
	for _, sub := range []*cobra.Command{
		g.endDead(o, "retry", "Deliver them after all", "delivered after all"), g.endDead(o, "drop", "Forget them: nobody is told of what is in them", "dropped"),
	} {
		sub.Long += exitHelp
		c.AddCommand(sub)
	}
	return c
}

func (g *globals) dead(all []notice.Dead) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "no notification was given up")
		return nil
	}
	now := time.Now()
	rows := make([][]cell, 0, len(all))
	for _, d := range all {
		rows = append(rows, []cell{
			text(d.ID), text(d.Name), text(d.Severity.String()), text(strconv.Itoa(d.Notices)), text(strconv.Itoa(d.Tries)), text(ago(d.Died, now)), text(d.Title), {printable(d.Reason), bad},
		})
	}
	return g.table([]string{"ID", "TARGET", "SEVERITY", "NOTICES", "TRIES", "GIVEN UP", "TITLE", "WHY"}, rows)
}

// endDead is the command that does with dead letters what verb says.
func (g *globals) endDead(o *askOptions, verb, short, done string) *cobra.Command {
	var target string
	var all bool
	c := &cobra.Command{Use: verb + " [ID]", Short: short, Long: short + ".\n", Args: cobra.MaximumNArgs(1)}
	c.Flags().StringVar(&target, "target", "", "all of this target")
	c.Flags().BoolVar(&all, "all", false, "all of all targets")
	c.MarkFlagsMutuallyExclusive("target", "all")
	c.RunE = func(c *cobra.Command, args []string) error {
		choice := deadChoice{All: all}
		if (len(args) > 0) == (all || target != "") {
			return usagef("say which: the ID of one, --target NAME or --all")
		}
		if len(args) > 0 {
			choice.ID = args[0]
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		if target != "" {
			_, t, err := g.targetCalled(c, *o, target)
			if err != nil {
				return err
			}
			choice.Target = t.ID
		}
		var n deadCount
		if err := api.do(c.Context(), http.MethodPost, "/notify/dead/"+verb, choice, &n); err != nil {
			return err
		}
		says := "1 notification is "
		if n.Count != 1 {
			says = fmt.Sprintf("%d notifications are ", n.Count)
		}
		_, err = fmt.Fprintln(g.out, says+done+".")
		return err
	}
	return c
}
