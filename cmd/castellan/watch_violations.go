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
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

// watchViolationPage and watchPermitPage are the API's answers to listings.
type watchViolationPage struct {
	Violations []store.BehaviourViolation `json:"violations"`
}

type watchPermitPage struct {
	Permits []store.BehaviourPermit `json:"permits"`
}

func (g *globals) watchViolations() *cobra.Command {
	var o askOptions
	var all bool
	var since string
	limit := store.DefaultPage
	c := &cobra.Command{
		Use:   "violations",
		Short: "List what lay outside the profiles of groups",
		Long: `List what lay outside the profiles of groups, what was seen last first: what was
done, by whom, what the profile allows instead, and what happened to it. Make one
normal with castellan watch permit NUMBER.
` + exitHelp,
		Example: `  castellan watch violations --group shop/web/nginx
  castellan watch violations --control exec --since 24h -o json`,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	o.flags(c)
	s := c.Flags()
	texts := map[string]*string{}
	for _, x := range [...][2]string{
		{"group", "of this group"}, {"control", "of this control: exec, file, network, privilege, resource"}, {"kind", "of this kind of event"},
		{"reaction", "to which the kernel did this: audited, denied, killed"}, {"text", "with this in what was done, to what, or by which program"},
	} {
		texts[x[0]] = s.String(x[0], "", "only those "+x[1])
	}
	s.BoolVar(&all, "all", false, "also those that somebody has permitted")
	s.StringVar(&since, "since", "", "only those seen from then on: 24h, 7d, or a time as in RFC 3339")
	s.IntVar(&limit, "limit", limit, "how many at most")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q := url.Values{"open": {strconv.FormatBool(!all)}}
		for name, v := range texts {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		from, err := query.Time(since, time.Now())
		switch {
		case err != nil:
			return usagef("--since: %v", err)
		case limit < 1:
			return usagef("--limit %d: want 1 or more", limit)
		case !from.IsZero():
			q.Set("since", from.UTC().Format(time.RFC3339))
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page watchViolationPage
		page.Violations, err = upTo(limit, q, func(q url.Values) ([]store.BehaviourViolation, error) {
			var more watchViolationPage
			err := api.get(c.Context(), "/watch/violations", q, &more)
			return more.Violations, err
		}, func(q url.Values, last *store.BehaviourViolation) {
			q.Set("before_last", last.Last.UTC().Format(time.RFC3339Nano))
			q.Set("before_id", strconv.FormatInt(last.ID, 10))
		})
		if err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.watchViolationTable(page.Violations) })
	}
	return c
}

func (g *globals) watchViolationTable(all []store.BehaviourViolation) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "nothing lies outside, of what fits; groups that discover have no violations")
		return nil
	}
	rows := make([][]cell, 0, len(all))
	for i := range all {
		v := &all[i]
		happened := reactionCell(v.Reaction)
		if v.PermitID != 0 {
			happened = cell{fmt.Sprintf("permitted (%d)", v.PermitID), faint}
		}
		rows = append(rows, []cell{{strconv.FormatInt(v.ID, 10), plain}, {ago(v.Last, time.Now()), plain}, {strconv.FormatUint(v.Count, 10), plain},
			text(string(v.Group)), text(string(v.Control)), happened, text(v.Sentence)})
	}
	return g.table([]string{"VIOLATION", "LAST", "TIMES", "GROUP", "CONTROL", "HAPPENED", "WHAT"}, rows)
}

// reactionCell says what happened to what lay outside.
func reactionCell(r event.Reaction) cell {
	switch r {
	case event.ReactionDenied, event.ReactionKilled:
		return cell{string(r), good}
	case event.ReactionAudited:
		return cell{"reported", warn}
	}
	return cell{"reported", warn}
}

func number(what, s string) (string, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < 1 {
		article := "a"
		if strings.ContainsRune("aeiou", rune(what[0])) {
			article = "an"
		}
		return "", usagef("%q is no number of %s %s", s, article, what)
	}
	return s, nil
}

func (g *globals) watchPermit() *cobra.Command {
	var comment, width string
	var show bool
	c := g.watchChange("permit VIOLATION", "Make a violation normal: it is added to the profile of its group",
		"Make a violation normal: what it was is added to the profile of its group, and\nhosts are told at once. Take it back with castellan watch undo. How much is added\ncan be chosen: --choices lists what would be permitted, and changes nothing.", 1,
		func(c *cobra.Command) {
			c.Flags().StringVar(&comment, "comment", "", "why it is normal")
			c.Flags().StringVar(&width, "width", "", "how much with it: one of those that --choices lists (default: what was done alone)")
			c.Flags().BoolVar(&show, "choices", false, "list what can be permitted of it, the narrowest first, and change nothing")
		},
		func(c *cobra.Command, api *client, args []string) error {
			id, err := number("violation", args[0])
			if err != nil {
				return err
			}
			if show {
				return g.watchWidths(c, api, id)
			}
			var p store.BehaviourPermit
			if err := api.do(c.Context(), http.MethodPost, "/watch/violations/"+id+"/permit", map[string]any{"comment": comment, "width": width}, &p); err != nil {
				return err
			}
			switch {
			case p.Also == 1:
				fmt.Fprintln(g.out, "with it another violation is normal that lay outside")
			case p.Also > 1:
				fmt.Fprintf(g.out, "with it %d other violations are normal that lay outside\n", p.Also)
			}
			_, err = fmt.Fprintf(g.out, "permit %d: revision %d of the profile of %s has it; take it back: castellan watch undo %d\n", p.ID, p.Revision, printable(string(p.Group)), p.ID)
			return err
		})
	c.Example = "  castellan watch permit 7 --comment 'the new report'\n  castellan watch permit 7 --choices\n  castellan watch permit 7 --width folder"
	return c
}

// signedWords say how a profile is changed that must be signed.
func signedWords(group asset.Group) string {
	name := printable(string(group))
	return fmt.Sprintf("profiles must be signed, so permits and starting profiles are refused: castellan watch profile export %s, edit it, castellan watch profile sign, and castellan watch profile import %s FILE --signature FILE.sig", name, name)
}

// watchWidths lists what can be permitted of a violation.
func (g *globals) watchWidths(c *cobra.Command, api *client, id string) error {
	var v struct {
		store.BehaviourViolation
		Widths  []watch.Width `json:"widths"`
		Signers []string      `json:"signers"`
	}
	if err := api.get(c.Context(), "/watch/violations/"+id, nil, &v); err != nil {
		return err
	}
	fmt.Fprintln(g.out, printable(v.Sentence))
	if len(v.Widths) == 0 {
		fmt.Fprintln(g.err, "no profile can say what it was: it can't be permitted")
		return nil
	}
	if len(v.Signers) > 0 {
		fmt.Fprintln(g.err, signedWords(v.Group))
	}
	var rows [][]cell
	for _, w := range v.Widths {
		var entries []string
		for _, x := range watch.Changes(&profile.Profile{}, w.Permit) {
			entries = append(entries, x.Sentence)
		}
		rows = append(rows, []cell{{w.Word, plain}, text(w.Says), text(strings.Join(entries, "; "))})
	}
	return g.table([]string{"WIDTH", "PERMITS", "ENTRY"}, rows)
}

func (g *globals) watchUndo() *cobra.Command {
	var comment string
	return g.watchChange("undo PERMIT", "Take a permit back", "Take a permit back: what it added goes from the profile again, and lies outside.", 1,
		func(c *cobra.Command) { c.Flags().StringVar(&comment, "comment", "", "why") },
		func(c *cobra.Command, api *client, args []string) error {
			id, err := number("permit", args[0])
			if err != nil {
				return err
			}
			var p store.BehaviourPermit
			if err := api.do(c.Context(), http.MethodPost, "/watch/permits/"+id+"/undo", map[string]any{"comment": comment}, &p); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "permit %d is undone\n", p.ID)
			return err
		})
}

func (g *globals) watchPermits() *cobra.Command {
	var o askOptions
	var group string
	c := &cobra.Command{Use: "permits", Short: "List what people made normal", Long: "List what people made normal, the newest first.\n" + exitHelp, Args: cobra.NoArgs}
	f := outputFlag(c)
	o.flags(c)
	c.Flags().StringVar(&group, "group", "", "of this group alone")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page watchPermitPage
		if err := api.get(c.Context(), "/watch/permits", url.Values{"group": {group}, "limit": {strconv.Itoa(store.MaxPage)}}, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			if len(page.Permits) == 0 {
				fmt.Fprintln(g.err, "nobody has made anything normal")
				return nil
			}
			var rows [][]cell
			for i := range page.Permits {
				p := &page.Permits[i]
				state := cell{"holds", good}
				if !p.Undone.IsZero() {
					state = cell{"undone by " + printable(p.UndoneBy), faint}
				}
				rows = append(rows, []cell{{strconv.FormatInt(p.ID, 10), plain}, {p.Created.Local().Format(time.DateTime), plain}, text(string(p.Group)), text(p.Actor), state, text(p.Sentence)})
			}
			return g.table([]string{"PERMIT", "WHEN", "GROUP", "BY", "STATE", "WHAT"}, rows)
		})
	}
	return c
}

func (g *globals) watchRehearse() *cobra.Command {
	var o askOptions
	var since, file string
	c := &cobra.Command{
		Use:   "rehearse GROUP",
		Short: "Say what protect would have blocked, and whether that would have been wrong",
		Long: `Hold the stored events of a group against its profile as if it had been protected:
what would have been blocked, and does it look like ordinary work? It changes
nothing.
` + exitHelpJudged,
		Example: "  castellan watch rehearse shop/web/nginx --since 7d\n  castellan watch rehearse shop/web/nginx --profile edited.yaml",
		Args:    cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	c.Flags().StringVar(&since, "since", "7d", "events from then on: 24h, 7d, or a time as in RFC 3339")
	c.Flags().StringVar(&file, "profile", "", "by this profile instead (YAML)")
	c.RunE = func(c *cobra.Command, args []string) error {
		from, err := query.Time(since, time.Now())
		if err != nil {
			return usagef("--since: %v", err)
		}
		form := map[string]any{"group": args[0], "since": from.UTC()}
		if file != "" {
			b, err := g.readSmall(file, watch.MaxDocument)
			if err != nil {
				return fmt.Errorf("read profile: %w", err)
			}
			form["text"] = string(b)
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var r behaviour.Rehearsed
		if err := api.do(c.Context(), http.MethodPost, "/watch/rehearse", form, &r); err != nil {
			return err
		}
		if err := g.print(*f, r, func() error { return g.watchRehearsed(&r) }); err != nil {
			return err
		}
		if r.Blocked > 0 {
			return errViolated
		}
		return nil
	}
	return c
}

func (g *globals) watchRehearsed(r *behaviour.Rehearsed) error {
	fmt.Fprintln(g.out, printable(r.Sentence))
	if r.Cut {
		fmt.Fprintf(g.err, "there were more events: those since %s were looked at\n", r.From.Local().Format(time.DateTime))
	}
	if len(r.Cases) == 0 {
		return nil
	}
	var rows [][]cell
	for i := range r.Cases {
		v := &r.Cases[i]
		happens := cell{"reported", plain}
		if v.Blocked {
			happens = cell{"blocked", warn}
		}
		judged := cell{string(v.Judgement), plain}
		if v.Blocked && v.Judgement == watch.JudgedWrong {
			judged.tone = bad
		}
		rows = append(rows, []cell{{strconv.FormatUint(v.Count, 10), plain}, happens, judged, {strconv.Itoa(v.Days), plain}, text(string(v.Control)), text(v.Sentence)})
	}
	return g.table([]string{"TIMES", "WOULD BE", "JUDGED", "DAYS", "CONTROL", "WHAT"}, rows)
}
