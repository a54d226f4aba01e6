package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/exposure"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// findingFlags select vulnerabilities; their names are the API's parameters and
// the console's address.
type findingFlags struct {
	severity, pkg, image, owner, text            string
	fixable, inUse, exploited, running, accepted bool
	limit                                        int
}

func (f *findingFlags) register(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.severity, "severity", "", "the least severity: "+severityWords())
	s.StringVar(&f.pkg, "package", "", "package: its exact name")
	s.StringVar(&f.image, "image", "", "image: its id, or a name")
	s.StringVar(&f.owner, "owner", "", "only in images of this owner (castellan owners); - for those without one")
	s.StringVar(&f.text, "text", "", "part of an id, package name or summary")
	s.BoolVar(&f.fixable, "fixable", false, "only what has a fix")
	s.BoolVar(&f.inUse, "in-use", false, "only in packages of which a workload executed or mapped a file")
	s.BoolVar(&f.exploited, "exploited", false, "only what is known to be exploited")
	s.BoolVar(&f.running, "running", false, "only in images with running workloads")
	s.BoolVar(&f.accepted, "accepted", false, "what is accepted, instead of what is open")
	s.IntVarP(&f.limit, "limit", "n", 100, "how many, at most 1000")
}

func severityWords() string {
	var words []string
	for _, s := range query.Severities() {
		words = append(words, s.String())
	}
	return strings.Join(words, ", ")
}

func (f *findingFlags) values() url.Values {
	q := url.Values{"limit": {strconv.Itoa(f.limit)}}
	for name, v := range map[string]string{
		"severity": f.severity, "package": f.pkg, "image": f.image, "owner": f.owner, "text": f.text, "fixable": flagWord(f.fixable), "in-use": flagWord(f.inUse),
		"exploited": flagWord(f.exploited), "running": flagWord(f.running), "accepted": flagWord(f.accepted),
	} {
		if v != "" {
			q.Set(name, v)
		}
	}
	return q
}

func newVulnerabilities(g *globals) *cobra.Command {
	var o askOptions
	var flags findingFlags
	c := &cobra.Command{
		Use:   "vulnerabilities",
		Short: "Show what is wrong with the images of the fleet, and accept it for a time",
		Long: `Show vulnerabilities over all scanned images, what needs attention most first:
what is in use, what is known to be exploited, what is grave.
` + exitHelp,
		Example: `  castellan vulnerabilities --running --severity high --fixable
  castellan vulnerabilities show CVE-2021-44228
  castellan vulnerabilities accept CVE-2021-44228 --package log4j-core --reason "lookups are off" --for 30d`,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	flags.register(c)
	for _, sub := range []*cobra.Command{g.vulnerabilityShow(&o), g.vulnerabilityAccept(&o)} {
		sub.Long = sub.Short + ".\n" + sub.Long + exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	c.RunE = func(c *cobra.Command, _ []string) error {
		q := flags.values()
		if _, err := query.Vulnerabilities(q); err != nil {
			return usageError{err}
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if err := onlyImage(c.Context(), api, q, flags.image); err != nil {
			return err
		}
		return g.vulnerabilities(c.Context(), api, q, *f)
	}
	return c
}

// weaknessPage is the API's answer to a listing.
type weaknessPage struct {
	Vulnerabilities []store.Weakness `json:"vulnerabilities"`
	Next            int              `json:"next,omitempty"`
}

func (g *globals) vulnerabilities(ctx context.Context, api *client, q url.Values, f form) error {
	var page weaknessPage
	if err := api.get(ctx, "/vulnerabilities", q, &page); err != nil {
		return err
	}
	return g.print(f, page, func() error {
		if len(page.Vulnerabilities) == 0 {
			fmt.Fprintln(g.err, "nothing matches")
			return g.adviceLine(ctx, api)
		}
		rows := make([][]cell, 0, len(page.Vulnerabilities))
		for _, w := range page.Vulnerabilities {
			rows = append(rows, []cell{
				severityCell(w.Severity), text(w.ID), marksCell(w.InUse, w.Exploited), text(epssText(w.EPSS)),
				{strconv.Itoa(w.Workloads), plain}, {strconv.Itoa(w.Images), plain}, text(strings.Join(w.Packages, ", ")), fixedCell(w.Fixed),
			})
		}
		if err := g.table([]string{"SEVERITY", "VULNERABILITY", "MARKS", "EPSS", "RUNNING", "IMAGES", "PACKAGES", "FIXED IN"}, rows); err != nil {
			return err
		}
		if page.Next != 0 {
			fmt.Fprintln(g.err, "there are more; raise --limit or narrow with --severity, --running, --in-use or --text")
		}
		return g.adviceLine(ctx, api)
	})
}

func severityCell(s finding.Severity) cell {
	t := plain
	switch s {
	case finding.Critical, finding.High:
		t = bad
	case finding.Medium:
		t = warn
	case finding.Negligible, finding.Unknown:
		t = faint
	}
	return cell{s.String(), t}
}

func marksCell(inUse, exploited bool) cell {
	switch {
	case inUse && exploited:
		return cell{"in use, exploited", bad}
	case exploited:
		return cell{"exploited", bad}
	case inUse:
		return cell{"in use", warn}
	}
	return cell{}
}

func fixedCell(fixed []string) cell {
	if len(fixed) == 0 {
		return cell{"no fix yet", faint}
	}
	return text(strings.Join(fixed, ", "))
}

// epssText is a probability in percent; below one in a thousand is nothing.
func epssText(p float64) string {
	switch {
	case p < 0.001:
		return ""
	case p < 0.1:
		return fmt.Sprintf("%.1f%%", 100*p)
	}
	return fmt.Sprintf("%.0f%%", 100*p)
}

func (g *globals) vulnerabilityShow(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one vulnerability: which images and workloads have it, and where it is fixed",
		Args:  cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return printAnswer(c.Context(), g, *o, *f, "/vulnerabilities/"+url.PathEscape(args[0]), func(e *exposure.Exposure) error { return g.describeExposure(*e) })
	}
	return c
}

func (g *globals) describeExposure(e exposure.Exposure) error {
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(g.out, "%s %s\n", g.paint(fmt.Sprintf("%-11s", name), faint), printable(value))
		}
	}
	v := e.Finding
	field("id", e.Weakness.ID)
	field("also", strings.Join(v.Aliases, ", "))
	field("summary", v.Summary)
	field("severity", strings.TrimSuffix(v.Severity.String()+" by "+v.SeverityBy, " by "))
	for _, s := range v.Scores {
		field("CVSS "+s.Version, fmt.Sprintf("%.1f %s", s.Base, s.Vector))
	}
	if v.EPSS != nil {
		field("EPSS", epssText(float64(v.EPSS.EPSS)))
	}
	if v.KEV != nil {
		field("exploited", "known to be, listed "+v.KEV.Added.UTC().Format(time.DateOnly))
	}
	if e.Weakness.InUse {
		field("in use", "a workload executed or mapped a file of the package")
	}
	if e.Accepted {
		field("accepted", "every finding of it")
	}
	for i, ref := range v.References {
		field(map[bool]string{true: "read on"}[i == 0], ref)
	}
	for _, m := range e.Images {
		if err := g.describeReach(m); err != nil {
			return err
		}
	}
	if e.More {
		fmt.Fprintln(g.err, "more images have it than are listed: castellan vulnerabilities --text "+printable(e.Weakness.ID))
	}
	return nil
}

// describeReach prints one image that has a weakness, and what runs from it.
func (g *globals) describeReach(m exposure.Image) error {
	owner := ""
	if m.Owner != "" {
		owner = ", of " + printable(m.Owner)
	}
	fmt.Fprintf(g.out, "\n%s %s%s\n", printable(orDefault(m.Reference, m.ID)), g.paint(shortImageID(m.ID), faint), owner)
	rows := make([][]cell, 0, len(m.Packages))
	for _, p := range m.Packages {
		fixed := text(p.Fixed)
		if p.Fixed == "" {
			fixed = cell{strings.ReplaceAll(printable(string(p.State)), "-", " "), faint}
		}
		marks := marksCell(p.InUse, false)
		if p.Accepted != nil {
			marks = cell{"accepted until " + lastDay(p.Accepted.Expires), good}
		}
		layer := ""
		if p.Layer > 0 {
			layer = strconv.Itoa(p.Layer)
		}
		rows = append(rows, []cell{text("  " + p.Name), text(p.Version), fixed, text(layer), marks})
	}
	if err := g.table([]string{"  PACKAGE", "INSTALLED", "FIXED IN", "LAYER", ""}, rows); err != nil {
		return err
	}
	groups := map[string]int{}
	for _, w := range m.Workloads {
		groups[string(w.Group)]++
	}
	names := make([]string, 0, len(groups))
	for name, n := range groups {
		if n > 1 {
			name = fmt.Sprintf("%s ×%d", name, n)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	switch {
	case m.Running == 0:
		fmt.Fprintln(g.out, g.paint("  nothing runs from it", faint))
	default:
		fmt.Fprintf(g.out, "  runs in %s\n", printable(strings.Join(names, ", ")))
	}
	for _, r := range m.Without {
		fmt.Fprintf(g.out, "  %s %s\n", g.paint("without it:", good), printable(r.Reference))
	}
	return nil
}

// lastDay is the last day on which something holds that ends at t.
func lastDay(t time.Time) string { return t.Add(-time.Nanosecond).UTC().Format(time.DateOnly) }

func (g *globals) vulnerabilityAccept(o *askOptions) *cobra.Command {
	var pkg string
	var a acceptFlags
	c := &cobra.Command{
		Use:   "accept ID",
		Short: "Accept a vulnerability for a time, with a reason",
		Long: `It then counts as accepted and is not listed as open until the time is over or
somebody ends it: castellan acceptances end
`,
		Args: cobra.ExactArgs(1),
	}
	s := c.Flags()
	s.StringVar(&pkg, "package", "", "only in this package: its name, or a package URL with or without version")
	a.flags(c)
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		made, err := a.accept(c.Context(), g, *o, map[string]any{"vulnerability": args[0], "package": pkg})
		if err != nil {
			return err
		}
		return g.print(*f, made, func() error {
			_, err := fmt.Fprintf(g.out, "%s in %s of %s is accepted until %s (number %d).\n", printable(made.Vulnerability),
				printable(orDefault(made.Package, "every package")), printable(orDefault(made.Image, "every image")), lastDay(made.Expires), made.ID)
			return err
		})
	}
	return c
}
