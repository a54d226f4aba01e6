package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

// preview is what the API is asked to make of a template, and what it answers.
type preview struct {
	Title string `json:"title,omitempty"`
	Text  string `json:"text,omitempty"`
	Kind  string `json:"kind,omitempty"`
}

func (g *globals) notifyPreview(o *askOptions) *cobra.Command {
	var ask preview
	var file string
	c := &cobra.Command{
		Use:   "preview [NAME]",
		Short: "Show what templates make of a notification, as it might be",
		Long: `Show what templates make of a notification, as it might be: those of a target, or
those that are given. Nothing is sent.
`,
		Example: `  castellan notify preview soc --kind image.vulnerable
  castellan notify preview --title '[{{upper .Severity}}] {{.Title}}' --text-file template`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&ask.Title, "title", "", "template of the title")
	f.StringVar(&file, "text-file", "", "file with the template of the text")
	f.StringVar(&ask.Kind, "kind", "incident", "of what it is a preview")
	out := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if (len(args) > 0) == (ask.Title != "" || file != "") {
			return usagef("name a target, or give --title or --text-file")
		}
		var err error
		if ask.Text, err = readText(file); err != nil {
			return fmt.Errorf("read the template: %w", err)
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		if len(args) > 0 {
			_, t, err := g.targetCalled(c, *o, args[0])
			if err != nil {
				return err
			}
			ask.Title, ask.Text = t.Template.Title, t.Template.Body
		}
		var made preview
		if err := api.do(c.Context(), http.MethodPost, "/notify/preview", ask, &made); err != nil {
			return err
		}
		return g.print(*out, made, func() error {
			_, err := fmt.Fprintf(g.out, "%s\n\n%s\n", made.Title, made.Text)
			return err
		})
	}
	return c
}
