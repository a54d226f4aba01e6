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

	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// kindWords are what a kind of finding is called here.
type kindWords struct {
	kind       store.FindingKind
	many, one  string // the subcommand, and one of it
	about      string
	rule       string // what it is accepted by
	example    string
	narrowable bool // to paths
}

func newSecrets(g *globals) *cobra.Command {
	return g.findingCommand(kindWords{
		kind: store.KindSecret, many: "secrets", one: "secret",
		about: `Show the secrets in the images of the fleet, the gravest first: keys, tokens and
passwords in any layer, deleted later or not, and in variables, labels and build
steps. The values are nowhere; a fingerprint tells whether two are the same. For
a target of your own: castellan scan TARGET.
`,
		rule: "RULE or FINGERPRINT", narrowable: true,
		example: `  castellan secrets --running --severity high
  castellan secrets accept password --path "/srv/app/test/**" --reason "test data" --for 90d`,
	})
}

func newFaults(g *globals) *cobra.Command {
	return g.findingCommand(kindWords{
		kind: store.KindFault, many: "faults", one: "fault",
		about: `Show what is set wrongly in the images of the fleet, the gravest first: users,
set-uid files, package caches, exposed ports. For files of your own: castellan
scan iac PATH.
`,
		rule: "CHECK",
		example: `  castellan faults --running
  castellan faults accept CAST-IMAGE-001 --image shop/legacy --reason "rebuilt in May" --until 2027-05-31`,
	})
}

func newMalware(g *globals) *cobra.Command {
	return g.findingCommand(kindWords{
		kind: store.KindMalware, many: "malware", one: "malware",
		about: `Show the malware in the images of the fleet, the gravest first: miners, webshells
and tools of attackers, in any layer, deleted later or not.
`,
		rule: "RULE", narrowable: true,
		example: `  castellan malware --running
  castellan malware accept linux-nmap --image shop/toolbox --reason "for the network team" --for 180d`,
	})
}

// lineFlags select findings; their names are the API's parameters and the
// console's address.
type lineFlags struct {
	severity, image, owner, text string
	running, accepted            bool
	limit                        int
}

func (f *lineFlags) register(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.severity, "severity", "", "the least severity: "+severityWords())
	s.StringVar(&f.image, "image", "", "image: its id, or a name")
	s.StringVar(&f.owner, "owner", "", "only in images of this owner (castellan owners); - for those without one")
	s.StringVar(&f.text, "text", "", "part of a rule, title, path, name or fingerprint")
	s.BoolVar(&f.running, "running", false, "only in images with running workloads")
	s.BoolVar(&f.accepted, "accepted", false, "what is accepted, instead of what is open")
	s.IntVarP(&f.limit, "limit", "n", 100, "how many, at most 1000")
}

func (f *lineFlags) values() url.Values {
	q := url.Values{"limit": {strconv.Itoa(f.limit)}}
	for name, v := range map[string]string{
		"severity": f.severity, "image": f.image, "owner": f.owner, "text": f.text,
		"running": flagWord(f.running), "accepted": flagWord(f.accepted),
	} {
		if v != "" {
			q.Set(name, v)
		}
	}
	return q
}

// linePage is the API's answer to a listing.
type linePage struct {
	Findings []store.FindingLine `json:"findings"`
	Next     int                 `json:"next,omitempty"`
}

func (g *globals) findingCommand(w kindWords) *cobra.Command {
	var o askOptions
	var flags lineFlags
	c := &cobra.Command{
		Use: w.many, Short: "Show the " + w.many + " in the images of the fleet, and accept it for a time",
		Long: w.about + exitHelp, Example: w.example, Args: cobra.NoArgs,
	}
	if w.many != w.one {
		c.Short = "Show the " + w.many + " in the images of the fleet, and accept them for a time"
	}
	f := outputFlag(c)
	flags.register(c)
	for _, sub := range []*cobra.Command{g.findingShow(&o, w), g.findingAccept(&o, w)} {
		sub.Long = sub.Short + ".\n" + sub.Long + exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	c.RunE = func(c *cobra.Command, _ []string) error {
		q := flags.values()
		if _, err := query.Findings(w.kind, q); err != nil {
			return usageError{err}
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if err := onlyImage(c.Context(), api, q, flags.image); err != nil {
			return err
		}
		return g.findingLines(c.Context(), api, w, q, *f)
	}
	return c
}

func (g *globals) findingLines(ctx context.Context, api *client, w kindWords, q url.Values, f form) error {
	var page linePage
	if err := api.get(ctx, "/"+w.many, q, &page); err != nil {
		return err
	}
	return g.print(f, page, func() error {
		if len(page.Findings) == 0 {
			fmt.Fprintln(g.err, "nothing matches")
			return nil
		}
		rows := make([][]cell, 0, len(page.Findings))
		for _, l := range page.Findings {
			image := ""
			if len(l.In) > 0 {
				image = orDefault(withoutRegistry(l.In[0].Reference), shortImageID(l.In[0].ID))
			}
			if l.Images > 1 {
				image += fmt.Sprintf(" and %d more", l.Images-1)
			}
			rows = append(rows, []cell{
				severityCell(l.Severity), text(l.Rule), text(findingPlace(l.Finding)), {strconv.Itoa(l.Workloads), plain},
				text(image), text(ownersOf(l)), text(l.First.UTC().Format(time.DateOnly)), text(l.Key),
			})
		}
		if err := g.table([]string{"SEVERITY", strings.ToUpper(ruleWord(w.kind)), "WHERE", "RUNNING", "IMAGE", "OWNER", "FIRST SEEN", "KEY"}, rows); err != nil {
			return err
		}
		if page.Next != 0 {
			fmt.Fprintln(g.err, "there are more; raise --limit or narrow with --severity, --running or --text")
		}
		return nil
	})
}

// withoutRegistry is a reference without the registry's name, if it has one.
func withoutRegistry(reference string) string {
	host, rest, ok := strings.Cut(reference, "/")
	if ok && strings.ContainsAny(host, ".:") {
		return rest
	}
	return reference
}

// ruleWord is what finds a kind.
func ruleWord(k store.FindingKind) string {
	if k == store.KindFault {
		return "check"
	}
	return "rule"
}

// ownersOf are the owners of the images that a line is told with.
func ownersOf(l store.FindingLine) string {
	var names []string
	for _, m := range l.In {
		if m.Owner != "" && !slices.Contains(names, m.Owner) {
			names = append(names, m.Owner)
		}
	}
	return strings.Join(names, ", ")
}

// findingPlace says where in an image a finding is, and whether it is hidden.
func findingPlace(f store.Finding) string {
	switch {
	case f.Secret != nil:
		s := f.Secret
		where := s.Path
		if s.Source != "" {
			where = string(s.Source) + " " + s.Name
		} else if s.Line > 0 {
			where += ":" + strconv.Itoa(s.Line)
		}
		return where + layerWords(s.Layer, s.Hidden != nil)
	case f.Fault != nil:
		return orDefault(f.Fault.Subject, f.Fault.Evidence) + layerWords(f.Fault.Layer, false)
	case f.Malware != nil:
		return f.Malware.Path + layerWords(f.Malware.Layer, f.Malware.Hidden != nil)
	}
	return ""
}

func layerWords(layer int, hidden bool) string {
	words := ""
	if layer > 0 {
		words = ", layer " + strconv.Itoa(layer)
	}
	if hidden {
		words += ", hidden"
	}
	return words
}

// findingDetail is the API's answer about one.
type findingDetail struct {
	Open     []store.Finding `json:"open"`
	Accepted []store.Finding `json:"accepted"`
}

func (g *globals) findingShow(o *askOptions, w kindWords) *cobra.Command {
	c := &cobra.Command{
		Use:   "show KEY",
		Short: "Show one by the key that the list has: what it is, what to do, and which images have it",
		Args:  cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return printAnswer(c.Context(), g, *o, *f, "/"+w.many+"/"+url.PathEscape(args[0]), func(d *findingDetail) error { return g.describeFinding(w, *d) })
	}
	return c
}

func (g *globals) describeFinding(w kindWords, d findingDetail) error {
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(g.out, "%s %s\n", g.paint(fmt.Sprintf("%-11s", name), faint), printable(value))
		}
	}
	all := slices.Concat(d.Open, d.Accepted)
	one := all[0]
	field(ruleWord(w.kind), one.Rule)
	field("is", one.Title)
	field("severity", one.Severity.String())
	switch {
	case one.Secret != nil:
		field("value", fmt.Sprintf("%d bytes, not kept", one.Secret.Length))
		field("account", one.Secret.Account)
		field("doubt", one.Secret.Doubt)
		field("fingerprint", one.Secret.Fingerprint)
	case one.Fault != nil:
		field("evidence", one.Fault.Evidence)
		field("why", one.Fault.Why)
	case one.Malware != nil:
		field("known as", one.Malware.Family)
		field("why", one.Malware.Why)
		field("sha256", one.Malware.SHA256)
	}
	field("what to do", one.Remedy)
	rows := make([][]cell, 0, len(all))
	for _, f := range all {
		state := cell{"open", plain}
		if f.Accepted != nil {
			state = cell{"accepted until " + lastDay(f.Accepted.Expires), good}
		}
		if f.Accepted != nil && f.Accepted.Expires.IsZero() {
			state = cell{"accepted by " + printable(f.Accepted.By), good}
		}
		rows = append(rows, []cell{text(shortImageID(f.ImageID)), text(findingPlace(f)), text(f.First.UTC().Format(time.DateOnly)), state})
	}
	fmt.Fprintln(g.out)
	return g.table([]string{"IMAGE", "WHERE", "FIRST SEEN", ""}, rows)
}

func (g *globals) findingAccept(o *askOptions, w kindWords) *cobra.Command {
	var path string
	var a acceptFlags
	c := &cobra.Command{
		Use:   "accept " + w.rule,
		Short: "Accept " + w.many + " of a kind for a time, with a reason",
		Long: `It then counts as accepted and is not listed as open until the time is over or
somebody ends it: castellan acceptances end
`,
		Args: cobra.ExactArgs(1),
	}
	s := c.Flags()
	if w.narrowable {
		s.StringVar(&path, "path", "", "only in these files: a pattern, as in /srv/app/test/**")
	}
	a.flags(c)
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		made, err := a.accept(c.Context(), g, *o, map[string]any{"kind": w.kind, "rule": args[0], "path": path})
		if err != nil {
			return err
		}
		return g.print(*f, made, func() error {
			_, err := fmt.Fprintf(g.out, "%s in %s of %s is accepted until %s (number %d).\n", printable(made.Name()),
				printable(orDefault(made.Path, "every file")), printable(orDefault(made.Image, "every image")), lastDay(made.Expires), made.ID)
			return err
		})
	}
	return c
}
