package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

func newImages(g *globals) *cobra.Command {
	var o askOptions
	var running bool
	var text, state, owner string
	var limit int
	c := &cobra.Command{
		Use:   "images",
		Short: "Show the images that workloads run from, and what is wrong with them",
		Long: `Show the images that workloads were started from, those that run and need
attention first. Every image is scanned by itself, on a host that has it.
` + exitHelp,
		Example: `  castellan images --running
  castellan images show shop/storefront:2.4.1
  castellan images scan 9c7a54a9a43c`,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	c.Flags().BoolVar(&running, "running", false, "only those with running workloads")
	c.Flags().StringVar(&text, "text", "", "part of a name, digest or id")
	c.Flags().StringVar(&state, "state", "", "state of the scan: "+list(query.ScanStates()))
	c.Flags().StringVar(&owner, "owner", "", "only those of this owner (castellan owners); - for those without one")
	c.Flags().IntVarP(&limit, "limit", "n", 200, "how many, at most 1000")
	for _, sub := range []*cobra.Command{g.imageShow(&o), g.imageScan(&o)} {
		sub.Long = sub.Short + ".\n" + sub.Long + exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	c.RunE = func(c *cobra.Command, _ []string) error {
		q := url.Values{"limit": {strconv.Itoa(limit)}}
		for name, v := range map[string]string{"text": text, "state": state, "owner": owner, "running": flagWord(running)} {
			if v != "" {
				q.Set(name, v)
			}
		}
		if _, err := query.Images(q); err != nil {
			return usageError{err}
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		return g.images(c.Context(), api, q, *f)
	}
	return c
}

// flagWord is how a flag travels; "" for one that is not set.
func flagWord(set bool) string {
	if set {
		return "true"
	}
	return ""
}

// imagePage is the API's answer to a listing.
type imagePage struct {
	Images []store.Image `json:"images"`
	Next   string        `json:"next,omitempty"`
}

func (g *globals) images(ctx context.Context, api *client, q url.Values, f form) error {
	var page imagePage
	if err := api.get(ctx, "/images", q, &page); err != nil {
		return err
	}
	return g.print(f, page, func() error {
		if len(page.Images) == 0 {
			fmt.Fprintln(g.err, "no image matches; the image of whatever a watched host runs appears by itself")
			return g.adviceLine(ctx, api)
		}
		rows := make([][]cell, 0, len(page.Images))
		for _, m := range page.Images {
			rows = append(rows, imageRow(m))
		}
		if err := g.table([]string{"ID", "RUNS", "CRITICAL", "HIGH", "MEDIUM", "LOW", "IN USE", "EXPLOITED", "SECRETS", "MALWARE", "SCAN", "IMAGE"}, rows); err != nil {
			return err
		}
		if page.Next != "" {
			fmt.Fprintln(g.err, "there are more; raise --limit or narrow with --running or --text")
		}
		return g.adviceLine(ctx, api)
	})
}

func imageRow(m store.Image) []cell {
	n := func(count int, t tone) cell {
		if m.Scan.Matched.IsZero() {
			return cell{"?", faint}
		}
		if count == 0 {
			return cell{"0", faint}
		}
		return cell{strconv.Itoa(count), t}
	}
	c := m.Counts
	return []cell{
		text(shortImageID(m.ID)), {strconv.Itoa(m.Running), plain}, n(c.Critical, bad), n(c.High, bad), n(c.Medium, warn), n(c.Low, plain),
		n(c.InUse, warn), n(c.Exploited, bad), n(c.Secrets, warn), n(c.Malware, bad), scanCell(m), text(imageNamed(m)),
	}
}

// imageNamed is what a person knows an image by.
func imageNamed(m store.Image) string {
	if len(m.References) == 0 {
		return m.ID
	}
	return m.References[0]
}

// shortImageID is an image's id as engines print it.
func shortImageID(id string) string {
	const digits = 12
	hex := strings.TrimPrefix(id, "sha256:")
	return hex[:min(len(hex), digits)]
}

func scanCell(m store.Image) cell {
	switch m.Scan.State {
	case store.ScanDone:
		return cell{"done", good}
	case store.ScanFailed:
		return cell{"failed", bad}
	case store.ScanRunning:
		return cell{"running", plain}
	case store.ScanGone:
		return cell{"gone", faint}
	}
	if m.Scan.Tries > 0 {
		return cell{fmt.Sprintf("waiting (%d failed)", m.Scan.Tries), warn}
	}
	return cell{"waiting", plain}
}

// adviceLine says on the standard error with which advisories images are
// compared, and what of them is still to be done.
func (g *globals) adviceLine(ctx context.Context, api *client) error {
	var s images.Status
	if err := api.get(ctx, "/scans/status", nil, &s); err != nil {
		return err
	}
	says, t := advice(s, time.Now())
	fmt.Fprintln(g.err, g.paint(printable(says), t))
	return nil
}

// advice says how old the advisories are, and whether that is too old.
func advice(s images.Status, now time.Time) (string, tone) {
	d := s.Database
	age := d.Newest().UTC().Format(time.DateOnly) + ", " + span(now.Sub(d.Newest())) + " old"
	switch {
	case d.Built.IsZero():
		return "it is not known yet which advisories are in force", faint
	case d.Error != "":
		return strings.TrimSuffix("the advisory file cannot be used: "+d.Error+"; "+d.Remedy, "; ") + "; in force are advisories up to " + age, bad
	case d.Seeded:
		return "advisories came with the program and reach to " + age + "; castellan scan db update fetches today's", warn
	case d.Stale:
		return "advisories up to " + age + "; castellan scan db update fetches today's", warn
	}
	return "advisories up to " + age, faint
}

func (g *globals) imageScan(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "scan ID or name",
		Short: "Have an image scanned anew, by an agent whose host has it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(*o)
			if err != nil {
				return err
			}
			m, err := findImage(c.Context(), api, args[0])
			if err != nil {
				return err
			}
			if err := api.do(c.Context(), http.MethodPost, "/images/"+url.PathEscape(m.ID)+"/scan", nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "%s waits for a new scan.\n", printable(imageNamed(m)))
			return err
		},
	}
}

// findImage returns the one image that name means: its id or the beginning of
// it, a reference, or the end of one from a slash on.
func findImage(ctx context.Context, api *client, name string) (store.Image, error) {
	var page imagePage
	if err := api.get(ctx, "/images", url.Values{"text": {name}, "limit": {"1000"}}, &page); err != nil {
		return store.Image{}, err
	}
	means := func(m store.Image) bool {
		return strings.HasPrefix(m.ID, name) || strings.HasPrefix(m.ID, "sha256:"+name) || m.Digest == name ||
			slices.ContainsFunc(m.References, func(ref string) bool {
				return ref == name || strings.HasSuffix(ref, "/"+name) || asset.Repository(ref) == name
			})
	}
	found := slices.DeleteFunc(page.Images, func(m store.Image) bool { return !means(m) })
	live := slices.DeleteFunc(slices.Clone(found), func(m store.Image) bool { return m.Running == 0 })
	switch {
	case len(found) == 0:
		return store.Image{}, fault.New(fault.NotFound, "no image is called %q", name).With("list them: castellan images")
	case len(found) == 1:
		return found[0], nil
	case len(live) == 1: // an older one of the same name is meant only by its id
		return live[0], nil
	}
	return store.Image{}, fault.New(fault.Invalid, "%d images are called %q", len(found), name).With("name one by its id: castellan images --text " + name)
}

// onlyImage has a query ask for what the image that name means has; without a name it
// stays as it is.
func onlyImage(ctx context.Context, api *client, q url.Values, name string) error {
	if name == "" {
		return nil
	}
	m, err := findImage(ctx, api, name)
	if err != nil {
		return err
	}
	q.Set("image", m.ID)
	return nil
}

func (g *globals) imageShow(o *askOptions) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "show ID or name",
		Short: "Show one image: what is in it, what is wrong, and what to do about it",
		Long:  "The forms json and yaml have its layers, packages and findings as a whole.\n",
		Args:  cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&all, "all", false, "list each vulnerability, not only what to do")
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		m, err := findImage(c.Context(), api, args[0])
		if err != nil {
			return err
		}
		answer, err := readImage(c.Context(), api, m)
		if err != nil {
			return err
		}
		return g.print(*f, answer, func() error { return g.describeImage(answer, all) })
	}
	return c
}

// imageAnswer is all that a server knows of one image.
type imageAnswer struct {
	Image           store.Image                `json:"image"`
	Inventory       *inventory.Inventory       `json:"inventory,omitempty"`
	Vulnerabilities []store.ImageVulnerability `json:"vulnerabilities"`
	// Findings are secrets, faults and malware, accepted ones among them.
	Findings []store.Finding `json:"findings"`
	Status   images.Status   `json:"status"`
}

// findingPage is the API's answer to a listing of findings.
type findingPage struct {
	Vulnerabilities []store.ImageVulnerability `json:"vulnerabilities"`
	Next            int                        `json:"next,omitempty"`
}

func readImage(ctx context.Context, api *client, m store.Image) (imageAnswer, error) {
	a := imageAnswer{Image: m, Vulnerabilities: []store.ImageVulnerability{}, Findings: []store.Finding{}}
	if err := api.get(ctx, "/scans/status", nil, &a.Status); err != nil {
		return a, err
	}
	if m.Scan.Done.IsZero() {
		return a, nil
	}
	path := "/images/" + url.PathEscape(m.ID)
	a.Inventory = &inventory.Inventory{}
	if err := api.get(ctx, path+"/inventory", nil, a.Inventory); err != nil {
		return a, err
	}
	for _, accepted := range []string{"false", "true"} {
		q := url.Values{"limit": {strconv.Itoa(store.MaxPage)}, "accepted": {accepted}}
		for {
			var page findingPage
			if err := api.get(ctx, path+"/vulnerabilities", q, &page); err != nil {
				return a, err
			}
			a.Vulnerabilities = append(a.Vulnerabilities, page.Vulnerabilities...)
			if page.Next == 0 {
				break
			}
			q.Set("offset", strconv.Itoa(page.Next))
		}
		for _, many := range []string{"secrets", "faults", "malware"} {
			var page struct {
				Findings []store.Finding `json:"findings"`
			}
			if err := api.get(ctx, path+"/"+many, url.Values{"limit": {strconv.Itoa(store.MaxPage)}, "accepted": {accepted}}, &page); err != nil {
				return a, err
			}
			a.Findings = append(a.Findings, page.Findings...)
		}
	}
	return a, nil
}

// describeImage prints an image as castellan scan does, below what only a server
// knows of it.
func (g *globals) describeImage(a imageAnswer, all bool) error {
	m := a.Image
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(g.out, "%s %s\n", g.paint(fmt.Sprintf("%-8s", name), faint), printable(value))
		}
	}
	field("id", m.ID)
	for i, ref := range m.References {
		field(map[bool]string{true: "name"}[i == 0], ref)
	}
	field("digest", m.Digest)
	field("owner", m.Owner)
	field("runs", runsWords(m))
	field("scan", scanWords(m, time.Now()))
	field("", m.Scan.Error)
	if a.Inventory == nil {
		return nil
	}
	fmt.Fprintln(g.out)
	r := scan.Report{
		Inventory: *a.Inventory, Made: time.Now(), Vulnerabilities: make([]finding.Vulnerability, 0, len(a.Vulnerabilities)),
		Database: scan.ReportDatabase{
			Built: a.Status.Database.Built, Seed: a.Status.Database.Seeded, Sources: []scan.ReportSource{{Newest: a.Status.Database.Newest()}},
		},
	}
	if m.Scan.Matched.IsZero() {
		r.Database = scan.ReportDatabase{}
	}
	r.Unmaintained = scan.Unmaintained(m.OS, r.Made)
	for _, f := range a.Findings {
		switch {
		case f.Secret != nil:
			r.Secrets = append(r.Secrets, *f.Secret)
		case f.Fault != nil:
			r.Misconfigurations = append(r.Misconfigurations, *f.Fault)
		case f.Malware != nil:
			r.Malware = append(r.Malware, *f.Malware)
		}
	}
	for _, v := range a.Vulnerabilities {
		r.Vulnerabilities = append(r.Vulnerabilities, v.Vulnerability)
	}
	if m.Scan.Gaps > 0 {
		r.Gaps = []scan.ReportGap{{Why: "nobody publishes advisories for them, or the database has none", Ecosystem: "its packages", Packages: m.Scan.Gaps}}
	}
	width := 0
	if fd, ok := terminal(g.out); ok {
		width, _, _ = term.GetSize(fd) // 0 on an error: unlimited
	}
	return scan.WriteReports(g.out, scan.ReportTable, []scan.Report{r}, scan.ReportOptions{
		Tool: "castellan", Version: version(), Colour: g.coloured(), Width: width, All: all,
	})
}

func runsWords(m store.Image) string {
	switch {
	case m.Running > 0:
		return fmt.Sprintf("%d of %d workloads; castellan workloads --image %s", m.Running, m.Workloads, m.ID)
	case m.Workloads > 0:
		return fmt.Sprintf("no longer; %d workloads did", m.Workloads)
	}
	return "never"
}

func scanWords(m store.Image, now time.Time) string {
	s := scanCell(m).text
	switch {
	case m.Scan.State == store.ScanDone && m.Scan.Matched.IsZero():
		return s + " " + before(m.Scan.Done, now) + ", to be compared with advisories"
	case m.Scan.State == store.ScanDone:
		return s + " " + before(m.Scan.Done, now) + ", compared " + before(m.Scan.Matched, now)
	case m.Scan.State == store.ScanRunning:
		return s + " on " + m.Scan.Agent
	}
	return s
}

// before says how long before now t was, as part of a sentence.
func before(t, now time.Time) string {
	if now.Sub(t) < time.Second {
		return "just now"
	}
	return ago(t, now) + " ago"
}
