package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
)

// dbOptions are the flags of the commands about the database.
type dbOptions struct {
	database, feeds, mirror, digest, from string
	plainHTTP                             bool
	caFile                                string
}

func newScanDB(g *globals) *cobra.Command {
	var o dbOptions
	c := &cobra.Command{
		Use:   "db",
		Short: "Look after the advisory database",
		Long: `Look after the database of advisories that scans compare with. It is one file,
compiled from what publishers say in their own formats. Nothing is fetched
unless you ask for it with update.

  castellan scan db update                   fetch what has changed, and compile
  castellan scan db update --mirror URL      the same from a mirror of your own
  castellan scan db build --feeds DIR        compile what was carried into an air gap
  castellan scan db update --from registry:REFERENCE
                                             a database that somebody has compiled
  castellan scan db export FILE              one compressed file for other machines
  castellan scan db export registry:REFERENCE
                                             the same as an artifact in a registry
  castellan scan db import FILE

The sources are described in docs/feeds.md.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f := c.PersistentFlags()
	f.StringVar(&o.database, "db", "", "advisory database (default: advisories.db in the data folder)")
	f.BoolVar(&o.plainHTTP, "plain-http", false, "speak to registries on other machines without encryption")
	f.StringVar(&o.caFile, "registry-ca", "", "further certificate authorities of registries (PEM)")
	c.AddCommand(newDBUpdate(g, &o), newDBBuild(g, &o), newDBInfo(g, &o), newDBExport(g, &o), newDBImport(g, &o), newDBSeed(g, &o))
	return c
}

func newDBUpdate(g *globals, o *dbOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "update [SOURCE…]",
		Short: "Fetch advisories that are new or changed, and compile them",
		Long: `Fetch what publishers have changed since the last time, all of it the first
time, and compile the database anew. What was fetched is kept beside it, so that
the next update is small. Without SOURCE: all that are used by default.

With --from, take over a database that was exported as an OCI artifact, unless
it is the one that is there.
` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case o.from == "":
				return g.updateDB(c.Context(), *o, args)
			case o.mirror != "" || len(args) > 0:
				return usagef("--from takes a database as it is: neither --mirror nor sources can be chosen")
			}
			return g.updateDBFrom(c.Context(), *o)
		},
	}
	c.Flags().StringVar(&o.from, "from", "", "artifact to take the database from: registry:REFERENCE or oci:PATH[:TAG]")
	c.Flags().StringVar(&o.feeds, "feeds", "", "folder that keeps what was fetched (default: feeds in the data folder)")
	c.Flags().StringVar(&o.mirror, "mirror", "", "address of a mirror with the layout of docs/feeds.md, instead of the publishers")
	return c
}

func newDBBuild(g *globals, o *dbOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "build [SOURCE…]",
		Short: "Compile the database from a folder of feeds; fetches nothing",
		Long: `Compile the database from a folder that has the layout of docs/feeds.md.
Without SOURCE: all that are there.
` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error {
			sources, err := sourcesIn(g.feedsPath(o.feeds), args)
			if err != nil {
				return err
			}
			return g.buildDB(c.Context(), *o, sources, nil)
		},
	}
	c.Flags().StringVar(&o.feeds, "feeds", "", "folder of feeds (default: feeds in the data folder)")
	return c
}

// feedsPath is where fetched feeds are kept.
func (g *globals) feedsPath(given string) string {
	if given != "" {
		return given
	}
	return filepath.Join(g.dataDir, "feeds")
}

// namedSources returns the sources of these names; with none, those for which
// otherwise says so.
func namedSources(names []string, otherwise func(feeds.Source) bool) ([]feeds.Source, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(feeds.All(), func(s feeds.Source) bool { return !otherwise(s) }), nil
	}
	var out []feeds.Source
	for _, name := range names {
		s, ok := feeds.Named(name)
		if !ok {
			return nil, usagef("no source is called %q; docs/feeds.md lists them", name)
		}
		out = append(out, s)
	}
	return out, nil
}

// sourcesIn returns the sources that a folder has.
func sourcesIn(dir string, names []string) ([]feeds.Source, error) {
	sources, err := namedSources(names, func(s feeds.Source) bool {
		_, err := os.Stat(filepath.Join(dir, s.Dir))
		return err == nil
	})
	if err == nil && len(sources) == 0 {
		err = fault.New(fault.NotFound, "no feeds in %s", dir).With("fetch them: castellan scan db update; or name the folder that has them: --feeds DIR")
	}
	return sources, err
}

func (g *globals) updateDB(ctx context.Context, o dbOptions, names []string) error {
	sources, err := namedSources(names, func(s feeds.Source) bool { return s.Default })
	if err != nil {
		return err
	}
	dir := g.feedsPath(o.feeds)
	line := &fetchLine{g: g, done: map[string]int64{}}
	f, err := feeds.NewFetcher(dir, feeds.Options{Mirror: o.mirror, Agent: "castellan/" + version(), Progress: line.tell})
	if err != nil {
		return err
	}
	updated, failed := f.Update(ctx, sources)
	line.clear()
	unchanged := map[string]bool{}
	var fetched int64
	for _, u := range updated {
		fetched += u.Bytes
		unchanged[u.Source] = u.Err != nil || u.Changed+u.Removed == 0
		if u.Err != nil {
			fmt.Fprintf(g.err, "%s\n", g.paint(printable(fmt.Sprintf("%s stays as it was: %v", u.Source, u.Err)), warn))
		}
	}
	if len(sources) > 0 && allFailed(updated) {
		return fault.New(fault.Unavailable, "no source could be fetched").
			With("is the network there, and a proxy set if one is needed? In an air gap: --mirror URL, or castellan scan db build --feeds DIR")
	}
	fmt.Fprintf(g.err, "%s\n", g.paint(fmt.Sprintf("fetched %.1f MB of %d sources", float64(fetched)/1e6, len(sources)), faint))
	there, err := sourcesIn(dir, names)
	if err != nil {
		return errors.Join(failed, err)
	}
	return errors.Join(g.buildDB(ctx, o, there, unchanged), failed)
}

func allFailed(all []feeds.Updated) bool {
	return !slices.ContainsFunc(all, func(u feeds.Updated) bool { return u.Err == nil })
}

// buildDB compiles sources out of a folder. Those that are unchanged are taken
// from the database that is there.
func (g *globals) buildDB(ctx context.Context, o dbOptions, sources []feeds.Source, unchanged map[string]bool) error {
	path := g.advisoryPath(o.database)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the folder of the database: %w", err)
	}
	options := scan.DatabaseOptions{Generation: 1, Built: time.Now().UTC(), Dir: filepath.Dir(path)}
	old, err := previous(path)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Close()
		options.Generation = old.Info().Generation + 1
	}
	b, err := scan.NewDatabase(options)
	if err != nil {
		return err
	}
	defer b.Close()
	folder := os.DirFS(g.feedsPath(o.feeds))
	for _, s := range sources {
		if old != nil && unchanged[s.Name] {
			if _, ok := old.Source(s.Name); ok {
				if err := b.Keep(ctx, old, s.Name); err != nil {
					return err
				}
				continue
			}
		}
		if err := addSource(ctx, b, s, folder); err != nil {
			return fmt.Errorf("compile %s: %w", s.Name, err)
		}
	}
	if err := b.Write(ctx, path); err != nil {
		return err
	}
	return g.describeDB(path, formTable)
}

// previous opens the database that is there; nil if there is none, or none that
// can be used: it is going to be replaced.
func previous(path string) (*scan.Database, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	old, _, err := scan.OpenDatabase(path)
	if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.Unsupported) {
		return nil, nil
	}
	return old, err
}

// addSource compiles one source. What it is worth is said by its tally, which is
// noted with it.
func addSource(ctx context.Context, b *scan.DatabaseBuilder, s feeds.Source, folder fs.FS) error {
	var tally feeds.Tally
	about := scan.DatabaseSource{Name: s.Name, URL: s.Home, License: s.Licence, Attribution: s.Attribution, Fetched: fetchedAt(folder, s.Dir)}
	switch s.Format {
	case feeds.KEV:
		about.Kind = scan.KindExploited
		list, err := collect(feeds.Exploited(ctx, folder, &tally))
		if err != nil {
			return err
		}
		return b.AddExploited(about, list)
	case feeds.EPSS:
		about.Kind = scan.KindProbabilities
		return b.AddProbabilities(about, about.Fetched, feeds.Probabilities(ctx, folder, &tally))
	}
	return b.AddAll(ctx, about, feeds.Parse(ctx, s, folder, &tally))
}

// collect returns all values, or the first error that is not about one of them.
func collect[T any](all func(func(T, error) bool)) ([]T, error) {
	var out []T
	for v, err := range all {
		switch {
		case err == nil:
			out = append(out, v)
		case !fault.Is(err, fault.Invalid):
			return nil, err
		}
	}
	return out, nil
}

// fetchedAt is when a source's newest file was written.
func fetchedAt(folder fs.FS, dir string) time.Time {
	var newest time.Time
	// What can't be looked at is found when it is read.
	_ = fs.WalkDir(folder, dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return nil
	})
	return newest.UTC()
}

// fetchLine is the line that says how far fetching is.
type fetchLine struct {
	g     *globals
	mu    sync.Mutex
	done  map[string]int64 // by file
	last  time.Time
	shown bool
}

func (l *fetchLine) tell(p feeds.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done[p.File] = p.Done
	if _, ok := terminal(l.g.err); !ok || time.Since(l.last) < progressEvery {
		return
	}
	l.last, l.shown = time.Now(), true
	var sum int64
	for _, n := range l.done {
		sum += n
	}
	fmt.Fprintf(l.g.err, "\r\x1b[K%s", l.g.paint(fmt.Sprintf("fetched %.1f MB: %s", float64(sum)/1e6, printable(p.File)), faint))
}

func (l *fetchLine) clear() {
	if l.shown {
		fmt.Fprint(l.g.err, "\r\x1b[K")
	}
}

func newDBInfo(g *globals, o *dbOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "info",
		Short: "Say what is in the database, and how old it is",
		Long:  "Say which sources are in the database, how old they are, and whose they are.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(*cobra.Command, []string) error { return g.describeDB(g.advisoryPath(o.database), *f) }
	return c
}

func (g *globals) describeDB(path string, f form) error {
	db, seeded, err := scan.OpenDatabase(path)
	if err != nil {
		return err
	}
	defer db.Close()
	info := db.Info()
	return g.print(f, info, func() error {
		where := path
		if seeded {
			where = "came with the program; castellan scan db update makes one of today"
		}
		fmt.Fprintf(g.out, "%-12s %s\n", "database", printable(where))
		fmt.Fprintf(g.out, "%-12s %s\n", "built", info.Built.Format(time.RFC3339))
		fmt.Fprintf(g.out, "%-12s %.1f MB, generation %d\n", "size", float64(info.Size)/1e6, info.Generation)
		fmt.Fprintf(g.out, "%-12s %d advisories about %d packages, %d known to be exploited, %d with a probability\n\n", "holds",
			info.Advisories, info.Packages, info.Exploited, info.Likely)
		rows := make([][]cell, 0, len(info.Sources))
		for _, s := range info.Sources {
			rows = append(rows, []cell{text(s.Name), text(fmt.Sprint(s.Advisories)), text(day(s.Newest)), text(day(s.Fetched)), text(fmt.Sprint(s.Unusable)), text(strings.TrimSpace(s.License + " " + s.Attribution))})
		}
		return g.table([]string{"SOURCE", "ADVISORIES", "NEWEST", "FETCHED", "UNUSABLE", "LICENCE"}, rows)
	})
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.DateOnly)
}
