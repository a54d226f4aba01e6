package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
	"github.com/castellan-security/castellan/internal/scan"
)

// newDBSeed is for whoever makes a release, so it is not among what is listed.
func newDBSeed(g *globals, o *dbOptions) *cobra.Command {
	c := &cobra.Command{
		Use:    "seed DIR",
		Short:  "Compile the advisories that come with the program",
		Long:   "Compile, of a folder of feeds, what may be passed on with the program, and\nwrite it into DIR with the notice that goes with it: make seed.\n" + exitHelp,
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE:   func(c *cobra.Command, args []string) error { return g.seedDB(c.Context(), *o, args[0]) },
	}
	c.Flags().StringVar(&o.feeds, "feeds", "", "folder of feeds (default: feeds in the data folder)")
	return c
}

// seedDB writes the database of what feeds.Seed takes, and whose it is.
func (g *globals) seedDB(ctx context.Context, o dbOptions, dir string) error {
	folder := os.DirFS(g.feedsPath(o.feeds))
	origins, err := feeds.Seed(ctx, folder)
	if err != nil {
		return err
	}
	b, err := scan.NewDatabase(scan.DatabaseOptions{Generation: 1, Built: time.Now().UTC()})
	if err != nil {
		return err
	}
	defer b.Close()
	for _, origin := range origins {
		if err := addSource(ctx, b, origin.Source, folder); err != nil {
			return fmt.Errorf("compile %s: %w", origin.Source.Name, err)
		}
	}
	if err := b.Write(ctx, filepath.Join(dir, "seed.db")); err != nil {
		return fmt.Errorf("write the seed: %w", err)
	}
	notice := noticeOf(origins)
	err = writeWhole(filepath.Join(dir, "NOTICE"), true, func(w io.Writer) error {
		_, err := io.WriteString(w, notice)
		return err
	})
	if err != nil {
		return fmt.Errorf("write the notice: %w", err)
	}
	_, err = io.WriteString(g.out, notice)
	return err
}

// noticeOf is what must go with the seed.
func noticeOf(origins []feeds.Origin) string {
	var b strings.Builder
	b.WriteString("The advisory database in this folder is compiled, by `make seed`, of:\n\n")
	for _, o := range origins {
		fmt.Fprintf(&b, "- %s\n", o.Notice())
	}
	b.WriteString("\nThey were shortened and put into another form. Nothing else is in it.\n")
	var told []string
	for _, o := range origins {
		if terms := o.Terms(); terms != "" && !slices.Contains(told, terms) {
			told = append(told, terms)
			fmt.Fprintf(&b, "\n%s\n", terms)
		}
	}
	return b.String()
}
