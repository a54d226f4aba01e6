package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
)

func newWatch(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "watch",
		Short: "See how services normally behave, and hold them to it",
		Long: `See how services normally behave, and hold them to it. A group is all containers of
cluster/service/container. Its profile is learned from what they do; its mode says
what becomes of that: discover learns, monitor reports what lies outside, protect
blocks it.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(g.watchGroups(), g.watchGroup(), g.watchProfile(), g.watchViolations(), g.watchPermit(), g.watchPermits(), g.watchUndo(),
		g.watchRehearse(), g.watchMode(), g.watchControls(), g.watchPromotion(), g.watchDecline(), g.watchDisarm(), g.watchArm(), g.watchForget(),
		newWatchRelease(g))
	return c
}

// watchGroupPage is the API's answer to a listing of groups.
type watchGroupPage struct {
	Groups []store.BehaviourGroup `json:"groups"`
	Totals struct {
		Modes      map[string]int          `json:"modes"`
		Proposals  int                     `json:"proposals"`
		Violations map[profile.Control]int `json:"violations"`
	} `json:"totals"`
	Promotion store.BehaviourPromotion `json:"promotion"`
	Progress  behaviour.Progress       `json:"progress"`
}

func (g *globals) watchGroups() *cobra.Command {
	var o askOptions
	var modes []string
	var proposed, outside, unsettled bool
	var about, cluster string
	limit := store.MaxPage
	c := &cobra.Command{
		Use:     "groups",
		Short:   "List groups with their mode, and how settled their profile is",
		Long:    "List groups with their mode, and how settled their profile is.\n" + exitHelp,
		Example: "  castellan watch groups --mode monitor --outside",
		Args:    cobra.NoArgs,
	}
	f := outputFlag(c)
	o.flags(c)
	s := c.Flags()
	s.StringSliceVar(&modes, "mode", nil, "only these modes: discover, monitor, protect")
	s.BoolVar(&proposed, "proposed", false, "only groups for which another mode is proposed")
	s.BoolVar(&outside, "outside", false, "only groups with violations that nobody has permitted")
	s.StringVar(&about, "text", "", "only groups with this in their name")
	s.StringVar(&cluster, "cluster", "", "only groups of this cluster: the first part of their name")
	s.BoolVar(&unsettled, "unsettled", false, "only groups whose profile is not settled yet")
	s.IntVar(&limit, "limit", limit, "how many at most")
	c.RunE = func(c *cobra.Command, _ []string) error {
		for _, m := range modes {
			if _, ok := profile.ParseMode(m); !ok {
				return usagef("--mode %q: want discover, monitor or protect", m)
			}
		}
		if limit < 1 {
			return usagef("--limit %d: want 1 or more", limit)
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		q := url.Values{"mode": modes, "text": {about}, "cluster": {cluster}, "unsettled": {strconv.FormatBool(unsettled)}, "proposed": {strconv.FormatBool(proposed)}, "outside": {strconv.FormatBool(outside)}}
		var page watchGroupPage
		for n := 0; len(page.Groups) < limit; {
			had := page.Groups
			n = min(limit-len(had), store.MaxPage)
			q.Set("limit", strconv.Itoa(n))
			page = watchGroupPage{}
			if err := api.get(c.Context(), "/watch/groups", q, &page); err != nil {
				return err
			}
			more := len(page.Groups)
			page.Groups = append(had, page.Groups...)
			if more < n {
				break
			}
			q.Set("after", string(page.Groups[len(page.Groups)-1].Group))
		}
		return g.print(*f, page, func() error { return g.watchGroupTable(&page) })
	}
	return c
}

func (g *globals) watchGroupTable(page *watchGroupPage) error {
	if len(page.Groups) == 0 {
		fmt.Fprintln(g.err, "no group fits; a group appears with the first events of its containers")
		return nil
	}
	rows := make([][]cell, 0, len(page.Groups))
	for i := range page.Groups {
		x := &page.Groups[i]
		violations := cell{strconv.Itoa(x.Violations), plain}
		if x.Violations > 0 {
			violations.tone = bad
		}
		rows = append(rows, []cell{text(string(x.Group)), modeCell(x), {fmt.Sprintf("%d%%", int(x.Settled.Measure*100)), plain}, violations,
			{strconv.Itoa(x.Running), plain}, {strconv.FormatInt(x.Revision, 10), plain}, {ago(x.Last, time.Now()), plain}, text(proposal(x))})
	}
	if err := g.table([]string{"GROUP", "MODE", "SETTLED", "OUTSIDE", "RUNNING", "REVISION", "LAST", "PROPOSED"}, rows); err != nil {
		return err
	}
	if n := page.Progress.Waiting; n > store.MaxPage {
		fmt.Fprintf(g.err, "%d stored events are not known yet: the server learns from them\n", n)
	}
	return nil
}

// modeCell shows the mode of a group, and why it is not held to it.
func modeCell(x *store.BehaviourGroup) cell {
	switch {
	case x.Released:
		return cell{x.Mode.String() + " (released)", warn}
	case x.Relearning:
		return cell{x.Mode.String() + " (learns a new version)", warn}
	case x.Mode == profile.Protect:
		return cell{x.Mode.String(), good}
	}
	return cell{x.Mode.String(), plain}
}

func proposal(x *store.BehaviourGroup) string {
	if x.Proposal == nil {
		return ""
	}
	return x.Proposal.Mode.String()
}

func (g *globals) watchGroup() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "group GROUP",
		Short: "Say what is known of a group, and what each host holds it to",
		Long:  "Say what is known of a group: its mode, what its profile still waits for, and what\neach host holds it to, on which rung.\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var d behaviour.Detail
		if err := api.get(c.Context(), "/watch/group", url.Values{"group": {args[0]}}, &d); err != nil {
			return err
		}
		return g.print(*f, d, func() error {
			hosts, err := hostNames(c.Context(), api)
			if err != nil {
				return err
			}
			return g.watchDetail(&d, hosts)
		})
	}
	return c
}

func (g *globals) watchDetail(d *behaviour.Detail, hosts map[string]string) error {
	fmt.Fprintf(g.out, "%s: %s", printable(string(d.Group)), modeCell(&d.BehaviourGroup).text)
	if !d.Since.IsZero() && time.Since(d.Since) >= time.Second {
		fmt.Fprintf(g.out, ", for %s", ago(d.Since, time.Now()))
	}
	fmt.Fprintf(g.out, "\nsettled: %d%%; %s; revision %d; %s that nobody has permitted\n", int(d.Settled.Measure*100),
		plural(d.Running, "container runs", "containers run"), d.Revision, plural(d.Violations, "violation", "violations"))
	if d.Proposal != nil {
		fmt.Fprintf(g.out, "proposed: %s\n  castellan watch mode %s %s, or castellan watch decline %s\n", printable(d.Proposal.Why), d.Proposal.Mode, d.Group, d.Group)
	}
	for _, w := range d.Settled.Waits {
		fmt.Fprintf(g.out, "waits: %s\n", printable(w))
	}
	for _, c := range slices.Sorted(maps.Keys(d.Answers)) {
		fmt.Fprintf(g.out, "switched: %s to %s\n", c, d.Answers[c])
	}
	if d.Starting != "" && len(d.Signers) == 0 {
		fmt.Fprintf(g.out, "its image has a starting profile: castellan watch profile start %s %s\n", printable(string(d.Group)), printable(d.Starting))
	}
	if len(d.Signers) > 0 {
		fmt.Fprintln(g.out, "signed: "+signedWords(d.Group))
	}
	for _, n := range d.Notes {
		fmt.Fprintf(g.out, "not held: %s\n", printable(n))
	}
	if len(d.Held) == 0 {
		fmt.Fprintln(g.err, "no agent has said in the last minutes that it holds this group")
		return nil
	}
	var rows [][]cell
	for i := range d.Held {
		h := &d.Held[i]
		state := cell{"current", good}
		switch {
		case h.Error != "":
			state = cell{printable(h.Error), bad}
		case !h.Current:
			state = cell{"older rules", warn}
		}
		host, agentID := text(hosts[h.AgentID]), text(cut(h.AgentID, shortAgentID))
		for _, x := range h.Controls {
			rows = append(rows, []cell{host, agentID, text(string(x.Control)), text(string(x.Answer)), text(x.Rung), state, text(x.Error)})
		}
		if len(h.Controls) == 0 {
			rows = append(rows, []cell{host, agentID, {"-", plain}, {"-", plain}, {"-", plain}, state, text(h.Remedy)})
		}
	}
	return g.table([]string{"HOST", "AGENT", "CONTROL", "ANSWER", "RUNG", "STATE", "WHY"}, rows)
}

// watchChange is a command that changes a group; form makes what is sent.
func (g *globals) watchChange(use, short, long string, args int, set func(*cobra.Command), do func(*cobra.Command, *client, []string) error) *cobra.Command {
	var o askOptions
	c := &cobra.Command{Use: use, Short: short, Long: long + "\n" + exitHelp, Args: cobra.ExactArgs(args)}
	o.flags(c)
	if set != nil {
		set(c)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		return do(c, api, args)
	}
	return c
}

func (g *globals) watchMode() *cobra.Command {
	var anyway bool
	var comment string
	return g.watchChange("mode MODE GROUP", "Change what the profile of a group does",
		`Change what the profile of a group does: discover learns, monitor reports what lies
outside, protect blocks it. Hosts are told at once, and hold it a second or two
later. A profile that is not settled is not protected by, unless the group is
monitored and nothing lay outside for a day, or you say --anyway.

  castellan watch mode monitor shop/web/nginx
  castellan watch mode protect shop/web/nginx --comment "rehearsed for a week"`, 2,
		func(c *cobra.Command) {
			c.Flags().BoolVar(&anyway, "anyway", false, "protect though the profile is not settled")
			c.Flags().StringVar(&comment, "comment", "", "why")
		},
		func(c *cobra.Command, api *client, args []string) error {
			if _, ok := profile.ParseMode(args[0]); !ok {
				return usagef("%q is no mode: want discover, monitor or protect", args[0])
			}
			var x store.BehaviourGroup
			if err := api.do(c.Context(), http.MethodPut, "/watch/mode", map[string]any{"group": args[1], "mode": args[0], "anyway": anyway, "comment": comment}, &x); err != nil {
				return err
			}
			fmt.Fprintf(g.out, "%s: %s, by revision %d of its profile\n", printable(string(x.Group)), x.Mode, x.Revision)
			if x.Mode == profile.Protect {
				if x.Violations > 0 {
					fmt.Fprintf(g.out, "%s open: what did that is refused from now on: castellan watch violations --group %s\n",
						plural(x.Violations, "violation is", "violations are"), printable(string(x.Group)))
				}
				fmt.Fprintf(g.out, "when each host holds it, and to what its kernel can: castellan watch group %s\n", printable(string(x.Group)))
			}
			return nil
		})
}

func (g *globals) watchControls() *cobra.Command {
	var comment string
	var answers map[string]string
	return g.watchChange("controls GROUP", "Switch single controls of a group to audit alone, or off",
		`Switch single controls of a group to audit alone, or off: exec, file, network,
privilege, resource. What is not named follows from the mode again.

  castellan watch controls shop/web/nginx --set network=audit,file=off
  castellan watch controls shop/web/nginx`, 1,
		func(c *cobra.Command) {
			c.Flags().StringToStringVar(&answers, "set", nil, "control=audit or control=off, several with commas")
			c.Flags().StringVar(&comment, "comment", "", "why")
		},
		func(c *cobra.Command, api *client, args []string) error {
			if answers == nil {
				answers = map[string]string{}
			}
			var x store.BehaviourGroup
			if err := api.do(c.Context(), http.MethodPut, "/watch/answers", map[string]any{"group": args[0], "answers": answers, "comment": comment}, &x); err != nil {
				return err
			}
			words := []string{}
			for _, k := range slices.Sorted(maps.Keys(x.Answers)) {
				words = append(words, string(k)+" "+string(x.Answers[k]))
			}
			_, err := fmt.Fprintf(g.out, "%s: %s; all else as %s has it\n", printable(string(x.Group)), orDefault(strings.Join(words, ", "), "nothing is switched"), x.Mode)
			return err
		})
}

func (g *globals) watchDecline() *cobra.Command {
	return g.watchChange("decline GROUP", "Say no to the mode that is proposed for a group",
		"Say no to the mode that is proposed for a group: it is proposed again when the\ngroup has been settled for as long again.", 1, nil,
		func(c *cobra.Command, api *client, args []string) error {
			var x store.BehaviourGroup
			if err := api.do(c.Context(), http.MethodPost, "/watch/decline", map[string]any{"group": args[0]}, &x); err != nil {
				return err
			}
			_, err := fmt.Fprintf(g.out, "%s stays in %s\n", printable(string(x.Group)), x.Mode)
			return err
		})
}

func (g *globals) watchDisarm() *cobra.Command { return g.watchRelease("disarm", true) }
func (g *globals) watchArm() *cobra.Command    { return g.watchRelease("arm", false) }

func (g *globals) watchRelease(name string, released bool) *cobra.Command {
	var comment string
	short, long, said := "Block nothing of a protected group on any host, until it is armed again",
		"Block nothing of a protected group on any host, until it is armed again; what lies\noutside is still reported. For one host, at once and without a server: castellan\nwatch release.", "nothing is blocked until it is armed again"
	if !released {
		short, long, said = "Hold a group again that was disarmed", "Hold a group again that was disarmed.", "it is held again"
	}
	return g.watchChange(name+" GROUP", short, long, 1, func(c *cobra.Command) { c.Flags().StringVar(&comment, "comment", "", "why") },
		func(c *cobra.Command, api *client, args []string) error {
			var x store.BehaviourGroup
			if err := api.do(c.Context(), http.MethodPut, "/watch/release", map[string]any{"group": args[0], "released": released, "comment": comment}, &x); err != nil {
				return err
			}
			_, err := fmt.Fprintf(g.out, "%s: %s\n", printable(string(x.Group)), said)
			return err
		})
}

func (g *globals) watchForget() *cobra.Command {
	var comment string
	return g.watchChange("forget GROUP", "Forget all that is known of a group: it is learned anew",
		"Forget all that is known of a group, its profile with its history and its\nviolations too: it is learned anew from what it does from now on. Hosts let go of\nit. Export its profile before: castellan watch profile export.", 1,
		func(c *cobra.Command) { c.Flags().StringVar(&comment, "comment", "", "why") },
		func(c *cobra.Command, api *client, args []string) error {
			q := url.Values{"group": {args[0]}, "comment": {comment}}
			if err := api.do(c.Context(), http.MethodDelete, "/watch/group?"+q.Encode(), nil, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(g.out, "%s is forgotten\n", printable(args[0]))
			return err
		})
}

func (g *globals) watchPromotion() *cobra.Command {
	var o askOptions
	var promote, after, most, version, group string
	var inherit bool
	c := &cobra.Command{
		Use:   "promotion",
		Short: "Say how modes change by themselves",
		Long: `Say how modes change by themselves, for all groups or for one: once a profile has
been settled for a while, and nothing was outside it, the next mode is proposed or
taken. Without a flag, print what holds for the fleet.
` + exitHelp,
		Example: `  castellan watch promotion --promote propose --after 24h
  castellan watch promotion --group shop/web/nginx --promote promote --most monitor
  castellan watch promotion --group shop/web/nginx --inherit`,
		Args: cobra.NoArgs,
	}
	o.flags(c)
	f := outputFlag(c)
	s := c.Flags()
	s.StringVar(&group, "group", "", "for this group alone")
	s.StringVar(&promote, "promote", "", "what is done: propose, promote or never")
	s.StringVar(&after, "after", "", "for how long it must be settled: 24h, 7d (default: a day)")
	s.StringVar(&most, "most", "", "the mode that it leads to at most: monitor or protect (default: protect)")
	s.StringVar(&version, "new-version", "", "what a protected group does when a new image comes: relearn, or hold and go on to block (default: relearn)")
	s.BoolVar(&inherit, "inherit", false, "the group gets the fleet's again")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if promote == "" && !inherit {
			if group != "" || after != "" || most != "" || version != "" {
				return usagef("say with --promote what is done: propose, promote or never")
			}
			var page watchGroupPage
			if err := api.get(c.Context(), "/watch/groups", url.Values{"limit": {"1"}}, &page); err != nil {
				return err
			}
			return g.print(*f, page.Promotion, func() error {
				p := page.Promotion
				words := "modes are changed by people alone"
				if p.Promote != "" {
					words = fmt.Sprintf("%s once settled for %s, to %s at most", p.Promote, orDefault(durationWords(p.After), "24h"), orDefault(string(p.Most), "protect"))
				}
				_, err := fmt.Fprintln(g.out, words)
				return err
			})
		}
		if promote == "never" {
			promote = ""
		}
		if version == "relearn" {
			version = ""
		}
		form := map[string]any{"group": group, "inherit": inherit, "promote": promote, "after": after, "most": most, "new_version": version}
		if err := api.do(c.Context(), http.MethodPut, "/watch/promotion", form, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "it holds for %s\n", printable(orDefault(group, "all groups that have nothing of their own")))
		return err
	}
	return c
}

func durationWords(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return span(d)
}
