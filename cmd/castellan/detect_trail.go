package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws/trail"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server"
	servertrail "github.com/castellan-security/castellan/internal/server/trail"
	"github.com/castellan-security/castellan/internal/threat"
)

func (g *globals) detectTrail() *cobra.Command {
	c := &cobra.Command{
		Use:     "trail",
		Aliases: []string{"trails"},
		Short:   "CloudTrail as a sensor: list the trails that are read, add and test some, try files of one",
		Long: `What is called in AWS is held against rules of detection as what happens on hosts is:
credentials of a task that are used from elsewhere, task definitions that give a
container its host, trails that are stopped, … The server reads trails through queues of
Amazon SQS; docs/detect-trail.md says what AWS needs for that.

Without a further word it does what list does.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	g.listsTrails(c)
	c.AddCommand(g.trailList(), g.trailAdd(), g.trailRemove(), g.trailTest(), g.trailTry())
	return c
}

func (g *globals) trailList() *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the trails that are read, and how that goes",
		Long:    "List the trails that the server reads: whether their queues answer, and when what came last.\n" + exitHelp,
		Args:    cobra.NoArgs,
	}
	g.listsTrails(c)
	return c
}

// listsTrails makes a command one that lists trails.
func (g *globals) listsTrails(c *cobra.Command) {
	var o askOptions
	f := outputFlag(c)
	o.flags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		page, err := trailsOf(c.Context(), api)
		if err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.showTrails(page.Trails) })
	}
}

// trailPage is what the server answers when it is asked for its trails.
type trailPage struct {
	Trails []servertrail.View `json:"trails"`
}

func trailsOf(ctx context.Context, api *client) (page trailPage, err error) {
	err = api.get(ctx, "/detect/trails", nil, &page)
	return page, err
}

func (g *globals) showTrails(all []servertrail.View) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "no trail is read; castellan detect trail add NAME --queue URL adds one")
		return nil
	}
	rows := make([][]cell, 0, len(all))
	now := time.Now()
	for i := range all {
		v := &all[i]
		state := cell{v.Condition, good}
		if v.Condition != "well" {
			state.tone = bad
		}
		last := "never"
		if v.Last != nil {
			last = ago(*v.Last, now)
		}
		rows = append(rows, []cell{text(v.Name), state, {last, plain}, {strconv.Itoa(v.Counts.Calls), plain}, {strconv.FormatUint(v.Threats, 10), plain}, text(v.Queue)})
	}
	if err := g.table([]string{"TRAIL", "STATE", "LAST CALL", "CALLS", "THREATS", "QUEUE"}, rows); err != nil {
		return err
	}
	for i := range all {
		v := &all[i]
		if v.Error != "" {
			fmt.Fprintf(g.err, "%s: %s\n  remedy: %s\n", printable(v.Name), printable(v.Error), printable(v.Remedy))
		}
		if n := v.Counts.Strays; n > 0 {
			fmt.Fprintf(g.err, "%s: %s in its queue can't be read, and stay there\n", printable(v.Name), several(n, "message"))
		}
	}
	return nil
}

func trailFlags(c *cobra.Command, b *server.TrailForm) {
	s := c.Flags()
	s.StringVar(&b.Queue, "queue", "", "URL of the queue: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME (required)")
	s.StringVar(&b.Role, "role", "", "ARN of a role of another account that is assumed to read it")
	s.StringVar(&b.ExternalID, "external-id", "", "what the role's trust policy asks for beside")
	s.StringVar(&b.Quiet, "quiet", "", "how long nothing may come before castellan status tells: 6h, 24h (default: 12h)")
}

func trailPath(name string) string { return "/detect/trails/" + url.PathEscape(name) }

func (g *globals) trailAdd() *cobra.Command {
	var o askOptions
	var b server.TrailForm
	c := &cobra.Command{
		Use: "add NAME", Short: "Have a trail read, or change how", Args: cobra.ExactArgs(1),
		Long: "Have a trail read from now on, or change how one is that is read already.\n" + exitHelp,
		Example: `  castellan detect trail add production --queue https://sqs.eu-west-1.amazonaws.com/123456789012/castellan-trail
  castellan detect trail add payments --queue https://sqs.eu-west-1.amazonaws.com/210987654321/castellan-trail \
    --role arn:aws:iam::210987654321:role/castellan-trail-reader`,
	}
	o.flags(c)
	trailFlags(c, &b)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if err := api.do(c.Context(), http.MethodPut, trailPath(args[0]), b, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "trail %s is read from now on; castellan detect trail says how that goes\n", printable(args[0]))
		return err
	}
	return c
}

func (g *globals) trailRemove() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use: "rm NAME", Short: "Read a trail no longer", Args: cobra.ExactArgs(1),
		Long: "Read a trail no longer. Its queue stays as it is in AWS, and fills up.\n" + exitHelp,
	}
	o.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if err := api.do(c.Context(), http.MethodDelete, trailPath(args[0]), nil, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "trail %s is read no longer\n", printable(args[0]))
		return err
	}
	return c
}

func (g *globals) trailTest() *cobra.Command {
	var o askOptions
	var b server.TrailForm
	c := &cobra.Command{
		Use: "test [NAME]", Short: "Say whether the server can read a trail", Args: cobra.MaximumNArgs(1),
		Long: `Say whether the server can read a trail that is configured, by its name, or one that is
described by flags. It looks into the queue, and at what waits there, and leaves both.
` + exitHelp,
	}
	o.flags(c)
	trailFlags(c, &b)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		name := "new"
		if len(args) > 0 {
			name = args[0]
		}
		if b.Queue == "" {
			if b, err = trailNamed(c.Context(), api, name); err != nil {
				return err
			}
		}
		var found struct {
			Says string `json:"says"`
		}
		if err := api.do(c.Context(), http.MethodPost, trailPath(name)+"/test", b, &found); err != nil {
			return err
		}
		_, err = fmt.Fprintln(g.out, printable(found.Says))
		return err
	}
	return c
}

func trailNamed(ctx context.Context, api *client, name string) (server.TrailForm, error) {
	page, err := trailsOf(ctx, api)
	if err != nil {
		return server.TrailForm{}, err
	}
	for i := range page.Trails {
		if t := &page.Trails[i]; t.Name == name {
			return server.TrailForm{Queue: t.Queue, Role: t.Role, ExternalID: t.ExternalID}, nil
		}
	}
	return server.TrailForm{}, fault.New(fault.NotFound, "no trail is called %q", name).With("list them: castellan detect trail; or say --queue")
}

// trailResult is what came of trying files.
type trailResult struct {
	Files   int             `json:"files"`
	Counts  trail.Counts    `json:"counts"`
	From    time.Time       `json:"from,omitzero"`
	To      time.Time       `json:"to,omitzero"`
	Threats []threat.Threat `json:"threats"`
}

// maxTrailCalls bounds the calls that are tried: at two kilobytes each they are in
// memory, to be put into the order in which they happened.
const maxTrailCalls = 2_000_000

func (g *globals) trailTry() *cobra.Command {
	var rules []string
	var failOn string
	c := &cobra.Command{
		Use: "try FILE…", Short: "Say what files of CloudTrail tell, without a server", Args: cobra.MinimumNArgs(1),
		Long: `Hold files of CloudTrail against the rules of detection, and say what they find: for who
looks back in time, and for tests of one's own rules. Files are as they lie in a trail's
bucket (.json.gz), unpacked, or what aws cloudtrail lookup-events prints; of folders all
such files are read, "-" is the standard input. Nobody is asked, and nothing is changed.
` + exitHelpJudged,
		Example: `  aws s3 sync s3://my-trail/AWSLogs/123456789012/CloudTrail/eu-west-1/2026/11/29 day && castellan detect trail try day
  castellan detect trail try --rules own.yaml --fail-on high record.json`,
	}
	f := outputFlag(c)
	c.Flags().StringArrayVar(&rules, "rules", nil, "document of rules beside those that come with the program; may be repeated")
	c.Flags().StringVar(&failOn, "fail-on", "", "exit with 3 at a threat of this severity or more")
	c.RunE = func(c *cobra.Command, args []string) error {
		least := finding.Critical + 1
		if failOn != "" {
			var err error
			if least, err = finding.ParseSeverity(failOn); err != nil {
				return usagef("--fail-on: %w", err)
			}
		}
		r, err := g.tryTrail(c.Context(), args, rules)
		if err != nil {
			return err
		}
		if err := g.print(*f, r, func() error { return g.showTrailTrial(r) }); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Threats, func(t threat.Threat) bool { return t.Severity >= least }) {
			return errViolated
		}
		return nil
	}
	return c
}

func (g *globals) tryTrail(ctx context.Context, names, rules []string) (*trailResult, error) {
	texts, err := g.detectTexts(rules)
	if err != nil {
		return nil, err
	}
	engine, err := detect.New(texts)
	if err != nil {
		return nil, err
	}
	r := &trailResult{Threats: []threat.Threat{}}
	var calls []*event.Event
	known := map[string]bool{}
	take := func(e *event.Event) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if id := e.Call.Account + " " + e.Call.ID; !known[id] {
			known[id] = true
			calls = append(calls, e)
		}
		if len(calls) > maxTrailCalls {
			return fault.New(fault.Exhausted, "there are more than %d calls", maxTrailCalls).With("try fewer files at once, such as those of a day")
		}
		return nil
	}
	for _, name := range names {
		if err := g.readTrail(name, r, take); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(calls, func(a, b *event.Event) int { return a.Time.Compare(b.Time) })
	for _, e := range calls {
		r.Threats = append(r.Threats, engine.Observe(e)...)
	}
	r.Threats = append(r.Threats, engine.Rest()...)
	if n := len(calls); n > 0 {
		r.From, r.To = calls[0].Time, calls[n-1].Time
	}
	return r, nil
}

// readTrail reads a file, or all files of a folder that may be of CloudTrail.
func (g *globals) readTrail(name string, r *trailResult, take func(*event.Event) error) error {
	if name == "-" {
		n, err := trail.Read(g.in, take)
		r.Files++
		r.Counts.Add(n)
		return err
	}
	return filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read trail: %w", err)
		}
		if d.IsDir() || path != name && !d.Type().IsRegular() || path != name && !strings.HasSuffix(path, ".json.gz") && !strings.HasSuffix(path, ".json") {
			return nil
		}
		in, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read trail: %w", err)
		}
		defer in.Close() //nolint:errcheck // it is only read
		n, err := trail.Read(in, take)
		r.Files++
		r.Counts.Add(n)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		return nil
	})
}

func (g *globals) showTrailTrial(r *trailResult) error {
	rows := make([][]cell, 0, len(r.Threats))
	for i := range r.Threats {
		t := &r.Threats[i]
		where := ""
		if t.Call != nil {
			where = t.Call.Account + " " + t.Call.Region
		}
		rows = append(rows, []cell{{t.Last.UTC().Format(time.RFC3339), faint}, text(where), severityCell(t.Severity), text(t.Rule), {strconv.FormatUint(t.Count, 10), plain}, text(t.Summary)})
	}
	if len(rows) > 0 {
		if err := g.table([]string{"TIME", "WHERE", "SEVERITY", "RULE", "TIMES", "WHAT"}, rows); err != nil {
			return err
		}
	}
	fmt.Fprintf(g.err, "%s in %s", r.Counts, several(r.Files, "file"))
	if !r.From.IsZero() {
		fmt.Fprintf(g.err, ", from %s to %s", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(g.err, "; %s told\n", several(len(r.Threats), "threat"))
	return nil
}
