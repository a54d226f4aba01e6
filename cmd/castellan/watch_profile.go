package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

func (g *globals) watchProfile() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "profile",
		Short: "Export, edit, compare and import the profile of a group",
		Long: `Export, edit, compare and import the profile of a group. A profile is YAML that can
be reviewed and kept in git.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	all := []*cobra.Command{g.watchProfileExport(&o), g.watchProfileCheck(&o), g.watchProfileImport(&o), g.watchProfileSign(), g.watchProfileVerify(), g.watchProfileHistory(&o),
		g.watchProfileChanges(&o), g.watchProfileStart(&o)}
	for _, x := range all {
		if !slices.Contains([]string{"sign", "verify"}, x.Name()) { // they need no server
			o.flags(x)
		}
	}
	c.AddCommand(all...)
	return c
}

func (g *globals) watchProfileExport(o *askOptions) *cobra.Command {
	var revision int64
	var file string
	c := &cobra.Command{
		Use:     "export GROUP",
		Aliases: []string{"show"},
		Short:   "Print the profile of a group",
		Long: `Print the profile of a group as YAML that castellan watch profile import takes. With
-o json it comes with what each entry rests on: when, where and how often.
` + exitHelp,
		Example: "  castellan watch profile export shop/web/nginx > nginx.yaml",
		Args:    cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.Flags().Int64Var(&revision, "revision", 0, "this revision (default: what it is now)")
	c.Flags().StringVar(&file, "file", "", "write it there")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var p behaviour.Profiled
		if err := api.get(c.Context(), "/watch/profile", url.Values{"group": {args[0]}, "revision": {strconv.FormatInt(revision, 10)}}, &p); err != nil {
			return err
		}
		return g.print(*f, p, func() error {
			if p.Learning {
				fmt.Fprintln(g.err, "the group learns still: more may come")
			}
			if file != "" {
				return writeWhole(file, false, func(w io.Writer) error { _, err := io.WriteString(w, p.Text); return err })
			}
			_, err := io.WriteString(g.out, p.Text)
			return err
		})
	}
	return c
}

func (g *globals) watchProfileCheck(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a file as a profile",
		Long:  "Say what is wrong with each line of a file (\"-\" is the standard input) as a profile.\nIt changes nothing.\n" + exitHelpJudged,
		Args:  cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return g.checkWritten(c.Context(), *o, *f, checkable{args[0], "profile", "/watch/profile/check", watch.MaxDocument})
	}
	return c
}

func (g *globals) watchProfileImport(o *askOptions) *cobra.Command {
	var comment, signature string
	after := int64(-1)
	c := &cobra.Command{
		Use:   "import GROUP FILE",
		Short: "Make a file the profile of a group",
		Long: `Make a file ("-" is the standard input) the profile of a group. What is the same
keeps what it rests on. Hosts are told at once. With --after it is only taken if
that revision is the newest still. A server that runs with --profile-keys takes only
what is signed: castellan watch profile sign.
` + exitHelp,
		Example: "  castellan watch profile import shop/web/nginx nginx.yaml --signature nginx.yaml.sig --comment 'reviewed in #71'",
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&comment, "comment", "", "why it is changed")
	c.Flags().StringVar(&signature, "signature", "", "file that castellan watch profile sign wrote for FILE")
	c.Flags().Int64Var(&after, "after", after, "the revision that was changed (default: whatever is the newest)")
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := g.readSmall(args[1], watch.MaxDocument)
		if err != nil {
			return fmt.Errorf("read profile: %w", err)
		}
		body := map[string]any{"group": args[0], "text": string(b), "comment": comment, "after": after}
		if signature != "" {
			s, err := g.readSmall(signature, watch.MaxSignature)
			if err != nil {
				return fmt.Errorf("read signature: %w", err)
			}
			body["signature"] = string(s)
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var x store.BehaviourGroup
		if err := api.do(c.Context(), http.MethodPut, "/watch/profile", body, &x); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "revision %d is the profile of %s now; what has changed: castellan watch profile changes %s\n", x.Revision, printable(args[0]), printable(args[0]))
		return err
	}
	return c
}

func (g *globals) watchProfileHistory(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "history GROUP",
		Short: "Say who changed the profile of a group, when and why",
		Long:  "Say who changed the profile of a group, when and why; the newest first. What is\nlearned within an hour is one revision.\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var page struct {
			Revisions []store.BehaviourRevision `json:"revisions"`
		}
		q := url.Values{"group": {args[0]}, "limit": {strconv.Itoa(store.MaxBehaviourRevisions)}}
		if err := api.get(c.Context(), "/watch/profile/history", q, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			if len(page.Revisions) == 0 {
				fmt.Fprintln(g.err, "no revision of a profile is kept of this group yet")
				return nil
			}
			var rows [][]cell
			for _, r := range page.Revisions {
				rows = append(rows, []cell{{strconv.FormatInt(r.Revision, 10), plain}, {r.Created.Local().Format(time.DateTime), plain}, text(r.Actor), {strconv.Itoa(r.Entries), plain}, text(r.Comment)})
			}
			return g.table([]string{"REVISION", "CHANGED", "BY", "ENTRIES", "WHY"}, rows)
		})
	}
	return c
}

func (g *globals) watchProfileChanges(o *askOptions) *cobra.Command {
	var from, to int64
	var images bool
	var version string
	c := &cobra.Command{
		Use:   "changes GROUP",
		Short: "Say what one revision permits that another does not",
		Long: `Say in words what one revision of a profile permits that another does not, or with
--images what a version of the image does that those before did not.
` + exitHelp,
		Example: "  castellan watch profile changes shop/web/nginx --from 3 --to 7\n  castellan watch profile changes shop/web/nginx --images",
		Args:    cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.Flags().Int64Var(&from, "from", 0, "the earlier revision (default: the one before)")
	c.Flags().Int64Var(&to, "to", 0, "the later revision (default: what it is now)")
	c.Flags().BoolVar(&images, "images", false, "compare versions of the image instead")
	c.Flags().StringVar(&version, "version", "", "with --images: digest of the version (default: the newest)")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		q := url.Values{"group": {args[0]}, "from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}, "images": {strconv.FormatBool(images)}, "version": {version}}
		var page struct {
			Changes []watch.Change `json:"changes"`
		}
		if err := api.get(c.Context(), "/watch/profile/changes", q, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			for _, x := range page.Changes {
				sign, tone := "- ", bad
				if x.Added {
					sign, tone = "+ ", good
				}
				fmt.Fprintln(g.out, g.paint(sign+printable(x.Sentence), tone))
			}
			if len(page.Changes) == 0 {
				fmt.Fprintln(g.err, "both permit the same")
			}
			return nil
		})
	}
	return c
}

func (g *globals) watchProfileStart(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "start GROUP NAME",
		Short: "Give a group the starting profile of a well-known image",
		Long: fmt.Sprintf(`Give a group the starting profile of a well-known image, with what it has already:
%s.
`, strings.Join(watch.StartingNames(), ", ")) + exitHelp,
		Args: cobra.ExactArgs(2),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var x store.BehaviourGroup
		if err := api.do(c.Context(), http.MethodPost, "/watch/profile/start", map[string]any{"group": args[0], "name": args[1]}, &x); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "revision %d of the profile of %s has it\n", x.Revision, printable(args[0]))
		return err
	}
	return c
}
