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

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/notify"
)

// targetChange is what the API is asked to change; nil stays as it is.
type targetChange struct {
	Name         *string   `json:"name,omitempty"`
	URL          *string   `json:"url,omitempty"`
	Secret       *string   `json:"secret,omitempty"`
	NewSecret    bool      `json:"new_secret,omitempty"`
	User         *string   `json:"user,omitempty"`
	From         *string   `json:"from,omitempty"`
	To           *[]string `json:"to,omitempty"`
	Format       *string   `json:"format,omitempty"`
	Role         *string   `json:"role,omitempty"`
	ExternalID   *string   `json:"external_id,omitempty"`
	CA           *string   `json:"ca,omitempty"`
	Plain        *bool     `json:"plain,omitempty"`
	Interval     *int64    `json:"interval_ns,omitempty"`
	Kinds        *[]string `json:"kinds,omitempty"`
	Severity     *string   `json:"severity,omitempty"`
	Fixable      *bool     `json:"fixable,omitempty"`
	Exploited    *bool     `json:"exploited,omitempty"`
	Running      *bool     `json:"running,omitempty"`
	Repositories *[]string `json:"repositories,omitempty"`
	Groups       *[]string `json:"groups,omitempty"`
	Clusters     *[]string `json:"clusters,omitempty"`
	Owners       *[]string `json:"owners,omitempty"`
	At           *[]string `json:"at,omitempty"`
	Quiet        *[]string `json:"quiet,omitempty"`
	Zone         *string   `json:"zone,omitempty"`
	Urgent       *string   `json:"urgent,omitempty"`
	Title        *string   `json:"title,omitempty"`
	Text         *string   `json:"text,omitempty"`
}

// changeFlags are the flags of a change.
type changeFlags struct {
	name, url, secretFile, caFile, textFile string
	newSecret                               bool
	every                                   time.Duration
	body                                    targetBody
}

func (g *globals) notifyEdit(o *askOptions) *cobra.Command {
	var x changeFlags
	c := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change a target: what no flag names stays as it is",
		Long: `Change a target: what no flag names stays as it is, the address and the secret
too, which are shown to nobody. What is given as a list replaces all that was;
--repository '' and --group '' stand for all, --text-file '' for no template,
--role '' for the server's own. What a target was told it is not told again. Where the address is a secret, give --url - and write it to standard input.
`,
		Example: `  castellan notify edit soc --severity medium --running=false
  castellan notify edit team --url - < new-address
  castellan notify edit soc --new-secret`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&x.name, "name", "", "what it shall be called")
	f.StringVar(&x.url, "url", "", "another address, of the same type of target; - reads it from standard input")
	f.StringVar(&x.secretFile, "secret-file", "", "file with the secret that signs what a webhook gets from now on, PagerDuty's key, or a mail server's password")
	mailFlags(f, &x.body)
	awsFlags(f, &x.body)
	f.StringVar(&x.body.Format, "format", "", "webhook and EventBridge: ocsf, or '' for Castellan's own")
	f.BoolVar(&x.newSecret, "new-secret", false, "make a new secret for a webhook, and print it, once")
	f.StringVar(&x.caFile, "ca-file", "", "file with the certificates of those who may vouch for the target; none for the server's system's")
	f.BoolVar(&x.body.Plain, "plain", false, "permit a connection that is not encrypted")
	f.DurationVar(&x.every, "every", 0, "the least time between two notifications")
	f.StringSliceVar(&x.body.Kinds, "kind", nil, "what it is told of: "+list(notice.Kinds()))
	f.StringVar(&x.body.Severity, "severity", "", "the least severity: critical, high, medium, low, negligible; unknown for any")
	f.BoolVar(&x.body.Fixable, "fixable", false, "only what has a fix")
	f.BoolVar(&x.body.Exploited, "exploited", false, "only what is known to be exploited (KEV)")
	f.BoolVar(&x.body.Running, "running", false, "only images of which workloads run")
	f.StringSliceVar(&x.body.Repositories, "repository", nil, "only images of repositories like this, as in registry/shop/*")
	f.StringSliceVar(&x.body.Groups, "group", nil, "only what is in groups like this, as in prod/*/web")
	routeFlags(f, &x.body, &x.textFile)
	c.MarkFlagsMutuallyExclusive("secret-file", "new-secret")
	out := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		body, err := x.read(c, g.in)
		if err != nil {
			return err
		}
		api, t, err := g.targetCalled(c, *o, args[0])
		if err != nil {
			return err
		}
		var made newTarget
		if err := api.do(c.Context(), http.MethodPatch, "/notify/targets/"+strconv.FormatInt(t.ID, 10), body, &made); err != nil {
			return err
		}
		return g.print(*out, made, func() error {
			fmt.Fprintf(g.err, "%s is changed; see that it is reached: castellan notify test %q\n", printable(made.Target.Name), made.Target.Name)
			return g.shownOnce(made.Secret)
		})
	}
	return c
}

// read makes the request of those flags that were given.
func (x *changeFlags) read(c *cobra.Command, in io.Reader) (b targetChange, err error) {
	given := 0
	was := func(flag string) bool {
		if !c.Flags().Changed(flag) {
			return false
		}
		given++
		return true
	}
	for flag, to := range map[string]struct {
		to   **string
		from *string
	}{"name": {&b.Name, &x.name}, "url": {&b.URL, &x.url}, "severity": {&b.Severity, &x.body.Severity}, "user": {&b.User, &x.body.User}, "from": {&b.From, &x.body.From}, "format": {&b.Format, &x.body.Format},
		"role": {&b.Role, &x.body.Role}, "external-id": {&b.ExternalID, &x.body.ExternalID},
		"zone": {&b.Zone, &x.body.Zone}, "urgent": {&b.Urgent, &x.body.Urgent}, "title": {&b.Title, &x.body.Title}} {
		if was(flag) {
			*to.to = to.from
		}
	}
	for flag, to := range map[string]struct {
		to   **bool
		from *bool
	}{"plain": {&b.Plain, &x.body.Plain}, "fixable": {&b.Fixable, &x.body.Fixable}, "exploited": {&b.Exploited, &x.body.Exploited}, "running": {&b.Running, &x.body.Running}} {
		if was(flag) {
			*to.to = to.from
		}
	}
	for flag, to := range map[string]struct {
		to   **[]string
		from *[]string
	}{"kind": {&b.Kinds, &x.body.Kinds}, "repository": {&b.Repositories, &x.body.Repositories}, "group": {&b.Groups, &x.body.Groups}, "to": {&b.To, &x.body.To}, "cluster": {&b.Clusters, &x.body.Clusters},
		"owner": {&b.Owners, &x.body.Owners}, "at": {&b.At, &x.body.At}, "quiet": {&b.Quiet, &x.body.Quiet}} {
		if was(flag) {
			if *to.from == nil || len(*to.from) == 1 && (*to.from)[0] == "" {
				*to.from = []string{} // all
			}
			*to.to = to.from
		}
	}
	if was("every") {
		b.Interval = (*int64)(&x.every)
	}
	b.NewSecret = was("new-secret") && x.newSecret
	if err := x.readFiles(was, &b, in); err != nil {
		return b, err
	}
	if given == 0 {
		return b, usagef("say what to change: castellan notify edit --help")
	}
	if b.Severity != nil {
		if _, err := finding.ParseSeverity(*b.Severity); err != nil {
			return b, usageError{err}
		}
	}
	return b, nil
}

// readFiles reads what stands in files and on standard input.
func (x *changeFlags) readFiles(was func(string) bool, b *targetChange, in io.Reader) error {
	if b.URL != nil && x.url == "-" {
		line, err := bufio.NewReader(io.LimitReader(in, answerLimit)).ReadString('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("read the address: %w", err)
		}
		if x.url = strings.TrimSpace(line); x.url == "" {
			return usagef("standard input has no address")
		}
	}
	if was("secret-file") {
		secret, err := readText(x.secretFile)
		if err != nil {
			return fmt.Errorf("read the secret: %w", err)
		}
		b.Secret = &secret
	}
	if was("text-file") {
		text, err := readText(x.textFile)
		if err != nil {
			return fmt.Errorf("read the template: %w", err)
		}
		b.Text = &text
	}
	if was("ca-file") {
		ca := notify.NoCA
		if x.caFile != notify.NoCA {
			var err error
			if ca, err = readText(x.caFile); err != nil {
				return fmt.Errorf("read the certificates: %w", err)
			}
		}
		b.CA = &ca
	}
	return nil
}
