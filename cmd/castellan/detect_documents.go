package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/store"
	document "github.com/castellan-security/castellan/internal/written"
)

// detectTexts reads documents of rules.
func (g *globals) detectTexts(files []string) ([]detect.Text, error) {
	texts := make([]detect.Text, 0, len(files))
	for _, name := range files {
		b, err := g.readSmall(name, store.MaxDetectionDocument)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		texts = append(texts, detect.Text{Name: name, Body: b})
	}
	return texts, nil
}

func (g *globals) detectCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check FILE…",
		Short: "Say what is wrong with documents of rules, without a server",
		Long: `Say what is wrong with documents of rules of detection ("-" is the standard input),
with file, line and column. They are held together, and beside the rules that come
with the program; no server is asked.
` + exitHelpJudged,
		Args: cobra.MinimumNArgs(1),
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		texts, err := g.detectTexts(args)
		if err != nil {
			return err
		}
		err = detect.Check(texts)
		problems := document.ProblemsOf(err)
		if err != nil && problems == nil {
			return err
		}
		told := struct {
			Problems []document.Problem `json:"problems"`
		}{append([]document.Problem{}, problems...)}
		err = g.print(*f, told, func() error {
			for _, p := range problems {
				fmt.Fprintln(g.out, printable(p.Error()))
				if p.Remedy != "" {
					fmt.Fprintf(g.out, "  remedy: %s\n", printable(p.Remedy))
				}
			}
			if len(problems) == 0 {
				for _, name := range args {
					fmt.Fprintf(g.out, "%s is well-formed\n", printable(name))
				}
			}
			return nil
		})
		if err == nil && len(problems) > 0 {
			return errViolated
		}
		return err
	}
	return c
}

func (g *globals) detectDocuments() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use: "documents", Short: "List your own documents of rules, and how many agents have them",
		Long: "List your own documents of rules that hold, and how many agents have them.\n" + exitHelp, Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	o.flags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page struct {
			Documents []detections.Document `json:"documents"`
		}
		if err := api.get(c.Context(), "/detect/documents", nil, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			if len(page.Documents) == 0 {
				fmt.Fprintln(g.err, "there is none yet; castellan detect set NAME FILE")
				return nil
			}
			rows := make([][]cell, 0, len(page.Documents))
			for i := range page.Documents {
				d := &page.Documents[i]
				agents := cell{fmt.Sprintf("%d of %d", d.Current, d.Current+d.Behind), plain}
				if d.Unusable > 0 {
					agents = cell{fmt.Sprintf("%s, %d can't use it", agents.text, d.Unusable), bad}
				}
				rows = append(rows, []cell{text(d.Name), {strconv.FormatInt(d.Version, 10), plain}, {d.Created.Local().Format(time.DateTime), plain}, text(d.Actor), agents, text(d.Comment)})
			}
			if err := g.table([]string{"DOCUMENT", "VERSION", "CHANGED", "BY", "AGENTS", "WHY"}, rows); err != nil {
				return err
			}
			for i := range page.Documents {
				if d := &page.Documents[i]; d.Error != "" {
					fmt.Fprintf(g.err, "%s: an agent says: %s\n", printable(d.Name), printable(d.Error))
				}
			}
			return nil
		})
	}
	return c
}

func documentPath(name string) string { return "/detect/documents/" + url.PathEscape(name) }

func (g *globals) detectShow() *cobra.Command {
	var o askOptions
	var version int64
	c := &cobra.Command{
		Use: "show NAME", Short: "Print a document of rules, as the server keeps it",
		Long: "Print a document of rules, as the server keeps it.\n" + exitHelp, Args: cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	c.Flags().Int64Var(&version, "version", 0, "print this version (default: the newest)")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var d store.DetectionDocument
		if err := api.get(c.Context(), documentPath(args[0]), url.Values{"version": {strconv.FormatInt(version, 10)}}, &d); err != nil {
			return err
		}
		return g.print(*f, d, func() error {
			state := ""
			if d.Removed {
				state = ", with which it was removed"
			}
			fmt.Fprintf(g.err, "version %d by %s, %s%s\n", d.Version, printable(d.Actor), d.Created.Local().Format(time.DateTime), state)
			_, err := fmt.Fprint(g.out, d.Text)
			return err
		})
	}
	return c
}

// documentChange are the flags of who changes a document.
type documentChange struct {
	ask     askOptions
	comment string
	after   int64
}

func (d *documentChange) flags(c *cobra.Command) {
	d.ask.flags(c)
	c.Flags().StringVar(&d.comment, "comment", "", "why it is changed")
	c.Flags().Int64Var(&d.after, "after", 0, "the version that was changed, 0 for none (default: whatever is the newest)")
}

// newest returns the version that a change follows.
func (d *documentChange) newest(ctx context.Context, c *cobra.Command, api *client, name string) (int64, error) {
	if c.Flags().Changed("after") {
		return d.after, nil
	}
	var have store.DetectionDocument
	err := api.get(ctx, documentPath(name), nil, &have)
	if fault.Is(err, fault.NotFound) {
		return 0, nil
	}
	return have.Version, err
}

func (g *globals) detectSet() *cobra.Command {
	var d documentChange
	c := &cobra.Command{
		Use:   "set NAME FILE",
		Short: "Have a document of rules hold on all hosts",
		Long: `Have a document of rules ("-" is the standard input) hold on all hosts, from now on,
under a name of small letters, digits, dots and hyphens. It is taken only if all
documents that hold can be used together; castellan detect check says so before.
With --after it is only taken if that version is the newest still.
` + exitHelp,
		Example: `  castellan detect set shop.yaml shop.yaml --comment "who reads the key of payments"`,
		Args:    cobra.ExactArgs(2),
	}
	d.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := g.readSmall(args[1], store.MaxDetectionDocument)
		if err != nil {
			return fmt.Errorf("read rules: %w", err)
		}
		api, err := g.dial(d.ask)
		if err != nil {
			return err
		}
		after, err := d.newest(c.Context(), c, api, args[0])
		if err != nil {
			return err
		}
		var now store.DetectionDocument
		if err := api.do(c.Context(), http.MethodPut, documentPath(args[0]), map[string]any{"text": string(b), "comment": d.comment, "after": after}, &now); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "version %d of %s holds now, and agents are told; who has it: castellan detect documents\n", now.Version, printable(now.Name))
		return err
	}
	return c
}

func (g *globals) detectRemove() *cobra.Command {
	var d documentChange
	c := &cobra.Command{
		Use: "rm NAME", Short: "Remove a document of rules; its history is kept",
		Long: "Remove a document of rules. Its history is kept: castellan detect show NAME --version N.\n" + exitHelp, Args: cobra.ExactArgs(1),
	}
	d.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(d.ask)
		if err != nil {
			return err
		}
		after, err := d.newest(c.Context(), c, api, args[0])
		if err != nil {
			return err
		}
		if after == 0 {
			return fault.New(fault.NotFound, "there is no document of rules %s", args[0]).With("castellan detect documents lists those that there are")
		}
		q := url.Values{"after": {strconv.FormatInt(after, 10)}}
		if d.comment != "" {
			q.Set("comment", d.comment)
		}
		var gone store.DetectionDocument
		if err := api.do(c.Context(), http.MethodDelete, documentPath(args[0])+"?"+q.Encode(), nil, &gone); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "%s holds no more; back with: castellan detect show %s --version %d | castellan detect set %s -\n",
			printable(gone.Name), printable(gone.Name), after, printable(gone.Name))
		return err
	}
	return c
}

func (g *globals) detectHistory() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use: "history NAME", Short: "Say who changed a document of rules, when and why",
		Long: "Say who changed a document of rules, when and why; the newest first.\n" + exitHelp, Args: cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page struct {
			Versions []store.DetectionDocument `json:"versions"`
		}
		if err := api.get(c.Context(), documentPath(args[0])+"/versions", url.Values{"limit": {strconv.Itoa(store.MaxDetectionVersions)}}, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			rows := make([][]cell, 0, len(page.Versions))
			for i := range page.Versions {
				v := &page.Versions[i]
				why := text(v.Comment)
				if v.Removed {
					why = cell{strings.TrimSpace("removed " + printable(v.Comment)), faint}
				}
				rows = append(rows, []cell{{strconv.FormatInt(v.Version, 10), plain}, {v.Created.Local().Format(time.DateTime), plain}, text(v.Actor), why})
			}
			return g.table([]string{"VERSION", "CHANGED", "BY", "WHY"}, rows)
		})
	}
	return c
}
