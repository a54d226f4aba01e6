package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// targetPage is the API's answer to a listing.
type targetPage struct {
	Targets []notice.Target `json:"targets"`
}

// newTarget is the API's answer to an addition: the only time that a secret is
// shown.
type newTarget struct {
	Target notice.Target `json:"target"`
	Secret string        `json:"secret,omitempty"`
}

// targetBody is what the API is asked for.
type targetBody struct {
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	URL          string   `json:"url"`
	Secret       string   `json:"secret,omitempty"`
	User         string   `json:"user,omitempty"`
	From         string   `json:"from,omitempty"`
	To           []string `json:"to,omitempty"`
	CA           string   `json:"ca,omitempty"`
	Format       string   `json:"format,omitempty"`
	Role         string   `json:"role,omitempty"`
	ExternalID   string   `json:"external_id,omitempty"`
	Plain        bool     `json:"plain,omitempty"`
	Interval     int64    `json:"interval_ns,omitempty"`
	Kinds        []string `json:"kinds,omitempty"`
	Severity     string   `json:"severity,omitempty"`
	Fixable      bool     `json:"fixable,omitempty"`
	Exploited    bool     `json:"exploited,omitempty"`
	Running      bool     `json:"running,omitempty"`
	Repositories []string `json:"repositories,omitempty"`
	Groups       []string `json:"groups,omitempty"`
	Clusters     []string `json:"clusters,omitempty"`
	Owners       []string `json:"owners,omitempty"`
	At           []string `json:"at,omitempty"`
	Quiet        []string `json:"quiet,omitempty"`
	Zone         string   `json:"zone,omitempty"`
	Urgent       string   `json:"urgent,omitempty"`
	Title        string   `json:"title,omitempty"`
	Text         string   `json:"text,omitempty"`
}

func newNotify(g *globals) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "notify",
		Short: "Who is told of incidents, and of images that become vulnerable",
		Long: `Tell people and other systems of incidents, of what lies outside a profile, and
of images that become vulnerable: list, add, edit, remove and test targets, and
see what did not reach them.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, sub := range []*cobra.Command{g.notifyList(&o), g.notifyAdd(&o), g.notifyEdit(&o), g.notifyRemove(&o), g.notifyTest(&o), g.notifyPreview(&o), g.notifyDead(&o)} {
		if sub.Long == "" {
			sub.Long = sub.Short + ".\n"
		}
		sub.Long += exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	return c
}

func (g *globals) notifyList(o *askOptions) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List targets, and how it goes with each", Args: cobra.NoArgs}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return printAnswer(c.Context(), g, *o, *f, "/notify/targets", func(p *targetPage) error { return g.targets(p.Targets) })
	}
	return c
}

func (g *globals) targets(all []notice.Target) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "nobody is told of anything; castellan notify add")
		return nil
	}
	now := time.Now()
	rows := make([][]cell, 0, len(all))
	for _, t := range all {
		delivered := "never"
		if !t.State.Delivered.IsZero() {
			delivered = ago(t.State.Delivered, now)
		}
		rows = append(rows, []cell{text(t.Name), text(string(t.Type)), text(t.Address), targetCell(t, now), text(delivered), text(wanted(t.Filter))})
	}
	if err := g.table([]string{"NAME", "TYPE", "ADDRESS", "STATE", "DELIVERED", "IS TOLD OF"}, rows); err != nil {
		return err
	}
	for _, t := range all {
		if t.State.Error != "" {
			fmt.Fprintf(g.err, "%s: %s\n", printable(t.Name), printable(t.State.Error))
		}
		if t.State.Remedy != "" {
			fmt.Fprintf(g.err, "  remedy: %s\n", printable(t.State.Remedy))
		}
	}
	return nil
}

// targetCell says how it goes with a target at a time.
func targetCell(t notice.Target, now time.Time) cell {
	s := t.State
	says, how := "well", good
	switch {
	case s.Error != "":
		says, how = "not reached", bad
	case s.Delivered.IsZero():
		says, how = "nothing sent", plain
	}
	if s.Undelivered && s.Tries > 0 {
		says += ", tried again " + ahead(s.Next.Sub(now))
	}
	if s.Waiting > 0 {
		says += fmt.Sprintf(", %d wait", s.Waiting)
	}
	if s.Dead > 0 {
		says, how = says+fmt.Sprintf(", %d dead", s.Dead), bad
	}
	if s.Lost > 0 {
		says, how = says+fmt.Sprintf(", %d lost", s.Lost), bad
	}
	return cell{says, how}
}

// wanted says what a target is told of, in a few words.
func wanted(f notice.Filter) string {
	kinds := f.Kinds
	if len(kinds) == 0 {
		kinds = []notice.Kind{notice.ImageVulnerable}
	}
	words := []string{list(kinds)}
	if f.Severity > finding.Unknown {
		words = append(words, f.Severity.String()+"+")
	}
	for _, e := range []struct {
		asked bool
		word  string
	}{{f.Exploited, "exploited"}, {f.Fixable, "fixable"}, {f.Running, "running"}} {
		if e.asked {
			words = append(words, e.word)
		}
	}
	words = append(words, f.Repositories...)
	words = append(words, f.Groups...)
	for _, c := range f.Clusters {
		words = append(words, "cluster "+c)
	}
	for _, o := range f.Owners {
		words = append(words, "of "+o)
	}
	return strings.Join(words, " ")
}

// targetFlags are the flags of a new target.
type targetFlags struct {
	at                 map[notice.Type]*string
	secretFile, caFile string
	textFile           string
	every              time.Duration
	body               targetBody
}

// targetFlag says what the flag of each type of target takes.
var targetFlag = map[notice.Type]string{
	notice.Webhook:   "address that gets signed JSON, https://…",
	notice.Slack:     "address of an incoming webhook of Slack, Mattermost or Rocket.Chat",
	notice.Teams:     "address of a workflow of Microsoft Teams that is started by a webhook",
	notice.PagerDuty: "PagerDuty's Events API: us, eu, or an address; its key is in --secret-file",
	notice.Email:     "mail server: smtps://host:465, or smtp://host:587 for STARTTLS; with --from and --to",
	notice.Syslog:    "receiver of syslog: tls://host:6514, tcp:// or udp://",

	notice.SNS:               "ARN of a topic of Amazon SNS",
	notice.EventBridge:       "ARN of a bus of Amazon EventBridge",
	notice.CloudWatchLogs:    "ARN of a log group that gets each notice as an event",
	notice.CloudWatchMetrics: "ARN of a log group of whose events CloudWatch makes metrics",
	notice.SecurityHub:       "ARN of a hub, arn:aws:securityhub:REGION:ACCOUNT:hub/default, that gets findings in ASFF",
}

func typeNames() (all []string) {
	for _, t := range notice.Types() {
		all = append(all, string(t))
	}
	return all
}

// mailFlags are those of e-mail.
func mailFlags(f *pflag.FlagSet, b *targetBody) {
	f.StringVar(&b.From, "from", "", "e-mail: the sender's address")
	f.StringSliceVar(&b.To, "to", nil, "e-mail: addresses that get it")
	f.StringVar(&b.User, "user", "", "e-mail: who logs in to the mail server, with the password in --secret-file")
}

// awsFlags are those of targets of AWS.
func awsFlags(f *pflag.FlagSet, b *targetBody) {
	f.StringVar(&b.Role, "role", "", "AWS: `ARN` of a role of the target's account that the server takes to reach it (default: its own)")
	f.StringVar(&b.ExternalID, "external-id", "", "AWS: external id that the role's trust policy asks for")
}

// routeFlags say of what else a target is told, when and how.
func routeFlags(f *pflag.FlagSet, b *targetBody, textFile *string) {
	f.StringSliceVar(&b.Clusters, "cluster", nil, "only what is in clusters like this, as in prod-*")
	f.StringSliceVar(&b.Owners, "owner", nil, "only what these are responsible for; see castellan owners")
	f.StringSliceVar(&b.At, "at", nil, "times of day at which all that came up is told, as in 08:00")
	f.StringArrayVar(&b.Quiet, "quiet", nil, "hours in which nothing is told, as in 22:00-06:00 or 'Sat,Sun 00:00-24:00'; may be repeated")
	f.StringVar(&b.Zone, "zone", "", "where these times are, as in Europe/Vienna (default: UTC)")
	f.StringVar(&b.Urgent, "urgent", "", "from which severity on incidents, violations and responses wait for nothing; unknown for never (default: high)")
	f.StringVar(&b.Title, "title", "", "template of the title, as in '[{{upper .Severity}}] {{.Title}}'")
	f.StringVar(textFile, "text-file", "", "file with the template of the text")
}

func (g *globals) notifyAdd(o *askOptions) *cobra.Command {
	var x targetFlags
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a target; the secret of a webhook is printed, once",
		Long: `Add a target that is told of what --kind names: of images that become vulnerable
unless given; incidents are told with --kind incident. Where an address is a
secret, as those of Slack are, give - and write it to standard input.
`,
		Example: `  castellan notify add soc --webhook https://soc.example.org/castellan --severity high
  castellan notify add team --slack - --running --fixable < address
  castellan notify add oncall --pagerduty eu --secret-file key --kind incident --severity high
  castellan notify add people --email smtp://mail.example.org:587 --user castellan --secret-file password --from castellan@example.org --to soc@example.org
  castellan notify add siem --syslog tls://logs.example.org:6514 --ca-file logs-ca.pem
  castellan notify add hub --securityhub arn:aws:securityhub:eu-west-1:123456789012:hub/default --kind incident,image.vulnerable
  castellan notify add audit --sns arn:aws:sns:eu-west-1:210987654321:castellan --role arn:aws:iam::210987654321:role/castellan-notify --external-id case:42`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	x.at = map[notice.Type]*string{}
	for kind, says := range targetFlag {
		x.at[kind] = f.String(string(kind), "", says)
	}
	f.StringVar(&x.secretFile, "secret-file", "", "file with the secret that signs what a webhook gets (default: one is made), PagerDuty's key, or a mail server's password")
	mailFlags(f, &x.body)
	awsFlags(f, &x.body)
	f.StringVar(&x.body.Format, "format", "", "webhook and EventBridge: ocsf for events of OCSF, class Detection Finding (default: Castellan's own)")
	f.StringVar(&x.caFile, "ca-file", "", "file with the certificates of those who may vouch for the target (default: the server's system's)")
	f.BoolVar(&x.body.Plain, "plain", false, "permit a connection that is not encrypted")
	f.DurationVar(&x.every, "every", 15*time.Minute, "the least time between two notifications")
	f.StringSliceVar(&x.body.Kinds, "kind", nil, "what it is told of: "+list(notice.Kinds())+" (default: image.vulnerable)")
	f.StringVar(&x.body.Severity, "severity", "", "the least severity: critical, high, medium, low, negligible")
	f.BoolVar(&x.body.Fixable, "fixable", false, "only what has a fix")
	f.BoolVar(&x.body.Exploited, "exploited", false, "only what is known to be exploited (KEV)")
	f.BoolVar(&x.body.Running, "running", false, "only images of which workloads run")
	f.StringSliceVar(&x.body.Repositories, "repository", nil, "only images of repositories like this, as in registry/shop/*")
	f.StringSliceVar(&x.body.Groups, "group", nil, "only what is in groups like this, as in prod/*/web")
	routeFlags(f, &x.body, &x.textFile)
	out := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		body, err := x.read(args[0], g.in)
		if err != nil {
			return err
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var made newTarget
		if err := api.do(c.Context(), http.MethodPost, "/notify/targets", body, &made); err != nil {
			return err
		}
		return g.print(*out, made, func() error { return g.targetMade(made) })
	}
	return c
}

// read makes the request of the flags.
func (x *targetFlags) read(name string, in io.Reader) (targetBody, error) {
	b := x.body
	b.Name, b.Interval = name, int64(x.every)
	given := 0
	for kind, url := range x.at {
		if *url != "" {
			b.Type, b.URL = string(kind), *url
			given++
		}
	}
	if given != 1 {
		return b, usagef("say where: one of --%s", strings.Join(typeNames(), ", --"))
	}
	if b.Severity != "" {
		if _, err := finding.ParseSeverity(b.Severity); err != nil {
			return b, usageError{err}
		}
	}
	if b.URL == "-" {
		line, err := bufio.NewReader(io.LimitReader(in, answerLimit)).ReadString('\n')
		if err != nil && err != io.EOF {
			return b, fmt.Errorf("read the address: %w", err)
		}
		if b.URL = strings.TrimSpace(line); b.URL == "" {
			return b, usagef("standard input has no address")
		}
	}
	var err error
	if b.Text, err = readText(x.textFile); err != nil {
		return b, fmt.Errorf("read the template: %w", err)
	}
	if b.Secret, err = readText(x.secretFile); err != nil {
		return b, fmt.Errorf("read the secret: %w", err)
	}
	if b.CA, err = readText(x.caFile); err != nil {
		return b, fmt.Errorf("read the certificates: %w", err)
	}
	return b, nil
}

// readText returns what is in a file, without blanks around it; without a name it
// returns nothing.
func readText(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := readAtMost(path, maxPolicyBytes)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", fault.New(fault.Invalid, "%s is empty", path)
	}
	return text, nil
}

func (g *globals) targetMade(made newTarget) error {
	fmt.Fprintf(g.err, "%s is added; see that it is reached: castellan notify test %q\n", printable(made.Target.Name), made.Target.Name)
	fmt.Fprintf(g.err, "it is told of %s; of what else says castellan notify edit %q --kind\n", printable(wanted(made.Target.Filter)), made.Target.Name)
	return g.shownOnce(made.Secret)
}

// shownOnce prints a secret that was made, if one was.
func (g *globals) shownOnce(secret string) error {
	if secret == "" {
		return nil
	}
	if _, ok := terminal(g.out); ok {
		fmt.Fprintln(g.err, "The secret that its requests are signed with, shown this once:")
	}
	_, err := fmt.Fprintln(g.out, secret)
	return err
}

func (g *globals) notifyRemove(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a target; what it was not told yet is told to nobody",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, t, err := g.targetCalled(c, *o, args[0])
			if err != nil {
				return err
			}
			if err := api.do(c.Context(), http.MethodDelete, "/notify/targets/"+strconv.FormatInt(t.ID, 10), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "%s is removed.\n", printable(t.Name))
			return err
		},
	}
}

func (g *globals) notifyTest(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "test NAME",
		Short: "Send a target something now, and say what came of it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, t, err := g.targetCalled(c, *o, args[0])
			if err != nil {
				return err
			}
			if err := api.do(c.Context(), http.MethodPost, "/notify/targets/"+strconv.FormatInt(t.ID, 10)+"/test", nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "%s has taken a test.\n", printable(t.Name))
			return err
		},
	}
}

// targetCalled returns the target of that name, and who was asked for it.
func (g *globals) targetCalled(c *cobra.Command, o askOptions, name string) (*client, notice.Target, error) {
	api, err := g.dial(o)
	if err != nil {
		return nil, notice.Target{}, err
	}
	var page targetPage
	if err := api.get(c.Context(), "/notify/targets", nil, &page); err != nil {
		return nil, notice.Target{}, err
	}
	for _, t := range page.Targets {
		if t.Name == name {
			return api, t, nil
		}
	}
	return nil, notice.Target{}, fault.New(fault.NotFound, "no target is called %q", name).With("list them: castellan notify list")
}
