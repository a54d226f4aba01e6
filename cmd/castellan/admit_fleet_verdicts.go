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

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// admitVerdictPage is the API's answer to a listing of verdicts.
type admitVerdictPage struct {
	Verdicts []store.AdmissionLine `json:"verdicts"`
	Totals   store.AdmissionTotals `json:"totals"`
}

// admitFilters are the filters of verdicts as flags, by the names of the API.
type admitFilters struct {
	texts        map[string]*string
	since, until string
	audited      bool
}

func (a *admitFilters) flags(c *cobra.Command) {
	a.texts = map[string]*string{}
	s := c.Flags()
	for _, f := range [...][2]string{
		{"outcome", "only those that ended so: deny, wait or allow"}, {"door", "only of this door: docker, service, cloudformation, eventbridge or ci"},
		{"rule", "only those that this rule had something against"}, {"group", "only of this group: cluster/service/container"},
		{"family", "only of task definitions of this family"}, {"cluster", "only of this cluster"}, {"service", "only of this service"},
		{"image", "only of this image: a digest, or registry/repository"}, {"host", "only of the host of this agent"},
	} {
		a.texts[f[0]] = s.String(f[0], "", f[1])
	}
	s.StringVar(&a.since, "since", "", "not older than: 15m, 24h, 30d, or a time as in RFC 3339")
	s.StringVar(&a.until, "until", "", "older than: as --since")
	s.BoolVar(&a.audited, "audited", false, "only those that a rule that only reports would have denied")
}

// asked are the filters that were given, by the names of the API.
func (a *admitFilters) asked() (map[string]string, error) {
	if o := admission.Outcome(*a.texts["outcome"]); o != "" && !slices.Contains([]admission.Outcome{admission.Deny, admission.Wait, admission.Allow}, o) {
		return nil, usagef("there is no outcome %q", o)
	}
	if d := admission.Door(*a.texts["door"]); d != "" && !slices.Contains(admission.Doors(), d) {
		return nil, usagef("there is no door %q", d)
	}
	q := map[string]string{}
	for name, v := range a.texts {
		if *v != "" {
			q[name] = *v
		}
	}
	for name, v := range map[string]string{"since": a.since, "until": a.until} {
		t, err := query.Time(v, time.Now())
		if err != nil {
			return nil, usageError{fmt.Errorf("--%s: %w", name, err)}
		}
		if !t.IsZero() {
			q[name] = t.UTC().Format(time.RFC3339)
		}
	}
	return q, nil
}

func (g *globals) admitVerdicts() *cobra.Command {
	var o askOptions
	var a admitFilters
	limit := store.DefaultPage
	c := &cobra.Command{
		Use:   "verdicts",
		Short: "List what was asked for, and how it ended",
		Long: `List what doors asked for, the newest first, and how it ended: those that the
server decided on, and those that agents told of.
` + exitHelp,
		Example: `  castellan admit verdicts --outcome deny --since 7d
  castellan admit verdicts --image registry.example.com/shop --rule signed -o json`,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	o.flags(c)
	a.flags(c)
	c.Flags().IntVar(&limit, "limit", limit, "how many at most")
	c.RunE = func(c *cobra.Command, _ []string) error {
		asked, err := a.asked()
		if err != nil {
			return err
		}
		if limit < 1 {
			return usagef("--limit %d: want 1 or more", limit)
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		q := url.Values{}
		for name, v := range asked {
			q.Set(name, v)
		}
		if a.audited {
			q.Set("audited", "true")
		}
		var page admitVerdictPage
		page.Verdicts, err = upTo(limit, q, func(q url.Values) ([]store.AdmissionLine, error) {
			var more admitVerdictPage
			err := api.get(c.Context(), "/admit/verdicts", q, &more)
			page.Totals = more.Totals
			return more.Verdicts, err
		}, func(q url.Values, last *store.AdmissionLine) { q.Set("before", strconv.FormatInt(last.ID, 10)) })
		if err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			hosts, err := hostNames(c.Context(), api)
			if err != nil {
				return err
			}
			return g.admitLines(page.Verdicts, hosts)
		})
	}
	return c
}

// maxWhy is how much of a reason a list shows; castellan admit explain has all.
const maxWhy = 160

func (g *globals) admitLines(all []store.AdmissionLine, hosts map[string]string) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "no verdict is kept that fits; see castellan admit policy show")
		return nil
	}
	rows := make([][]cell, 0, len(all))
	for i := range all {
		l := &all[i]
		why := text(cut(l.Message, maxWhy))
		if more := l.Reasons - 1; more > 0 {
			why.text += fmt.Sprintf(" (and %d more)", more)
		}
		rows = append(rows, []cell{{strconv.FormatInt(l.ID, 10), plain}, {l.Received.Local().Format(time.DateTime), plain}, outcomeCell(l.Outcome, l.Audited),
			text(string(l.Door)), text(admitPlace(l.Place, l.Family, hosts)), text(strings.Join(l.Images, ", ")), why})
	}
	return g.table([]string{"VERDICT", "WHEN", "OUTCOME", "DOOR", "WHERE", "IMAGES", "WHY"}, rows)
}

// outcomeCell shows how a request ended, and whether it was close.
func outcomeCell(o admission.Outcome, audited bool) cell {
	switch {
	case o == admission.Wait:
		return cell{"wait", warn}
	case o != admission.Allow:
		return cell{"deny", bad}
	case audited:
		return cell{"allow (audit)", warn}
	}
	return cell{"allow", good}
}

// hostNames are the names of the hosts by their agents' ids; none for who may not
// read of agents.
func hostNames(ctx context.Context, api *client) (map[string]string, error) {
	var page agentPage
	if err := api.get(ctx, "/agents", nil, &page); err != nil && !fault.Is(err, fault.Denied) {
		return nil, err
	}
	names := map[string]string{}
	for _, a := range page.Agents {
		names[a.ID] = a.Hostname
	}
	return names, nil
}

// admitPlace says where something was to run.
func admitPlace(p admission.Place, family string, hosts map[string]string) string {
	var parts []string
	for _, s := range []string{p.Cluster, orDefault(p.Service, family)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return orDefault(hosts[p.Host], orDefault(p.Host, orDefault(p.File, "-")))
	}
	return strings.Join(parts, "/")
}

// explainVerdict says what the server has kept of a verdict.
func (g *globals) explainVerdict(ctx context.Context, o askOptions, name string, f form) error {
	api, err := g.dial(o)
	if err != nil {
		return err
	}
	var v gate.Record
	if err := api.get(ctx, "/admit/verdicts/"+url.PathEscape(name), nil, &v); err != nil {
		return err
	}
	return g.print(f, v, func() error {
		hosts, err := hostNames(ctx, api)
		if err != nil {
			return err
		}
		return g.admitRecord(&v, hosts)
	})
}

func (g *globals) admitRecord(v *gate.Record, hosts map[string]string) error {
	r := &v.Request
	fmt.Fprintf(g.out, "verdict %d on request %s, %s\n", v.ID, printable(r.ID), v.Received.Local().Format(time.DateTime))
	fmt.Fprintf(g.out, "%s at the door %s, %s, by %s\n", r.Action, r.Door, printable(admitPlace(r.Place, r.Task.Family, hosts)),
		printable(orDefault(hosts[v.Agent], orDefault(v.Agent, orDefault(v.Actor, "the server")))))
	for i := range r.Task.Containers {
		k := &r.Task.Containers[i]
		fmt.Fprintf(g.out, "  %s: %s\n", printable(k.Name), printable(k.Image.Name()))
	}
	fmt.Fprintln(g.out)
	if err := g.admitReasons(&v.Verdict); err != nil {
		return err
	}
	if len(v.Facts) > 0 {
		fmt.Fprintln(g.out, "\nWhat was known then:")
	}
	for i := range v.Facts {
		x := &v.Facts[i]
		fmt.Fprintf(g.out, "  %s\n    scan: %s\n    trust: %s\n", printable(x.Digest), printable(knownOfScan(&x.Scan)), printable(knownOfTrust(&x.Trust)))
	}
	if v.FactsLost {
		fmt.Fprintln(g.out, "\nWhat was known then was too much to be kept.")
	}
	return nil
}

func stateWords(s admission.State, why string) string {
	if why == "" {
		return orDefault(string(s), "unknown")
	}
	return orDefault(string(s), "unknown") + ": " + why
}

func knownOfScan(s *admission.Scan) string {
	if s.State != admission.Known {
		return stateWords(s.State, s.Why)
	}
	return fmt.Sprintf("%s, %d vulnerabilities, %d secrets, %d faults, %d malware", s.At.Local().Format(time.DateTime),
		len(s.Vulnerabilities), len(s.Secrets), len(s.Faults), len(s.Malware))
}

func knownOfTrust(t *admission.Trust) string {
	switch {
	case t.State != admission.Known:
		return stateWords(t.State, t.Why)
	case t.Allowed:
		return "allowed by the trust policy"
	}
	return "denied by the trust policy: " + t.Why
}

// admitReasons writes a verdict for people.
func (g *globals) admitReasons(v *admission.Verdict) error {
	how := outcomeCell(v.Outcome, false)
	fmt.Fprint(g.out, g.paint(strings.ToUpper(how.text), how.tone))
	if v.Again > 0 {
		fmt.Fprintf(g.out, ": ask again in %s", v.Again)
	}
	if v.Declared {
		fmt.Fprint(g.out, " (nobody decided: it is the declared answer)")
	}
	fmt.Fprintln(g.out)
	for i := range v.Reasons {
		r := &v.Reasons[i]
		fmt.Fprintf(g.out, "  %s %s: %s\n", r.Effect, printable(r.Rule), printable(r.Message))
		if e := r.Exception; e != nil {
			fmt.Fprintf(g.out, "    exception %s of %s until %s: %s\n", printable(e.ID), printable(e.Owner), lastDay(e.Expires), printable(e.Reason))
		}
		if r.Remedy != "" && r.Effect != admission.Excepted {
			fmt.Fprintf(g.out, "    remedy: %s\n", printable(r.Remedy))
		}
	}
	if v.Omitted > 0 {
		fmt.Fprintf(g.out, "  and %d more\n", v.Omitted)
	}
	return nil
}

func (g *globals) admitReplay() *cobra.Command {
	var o askOptions
	var a admitFilters
	var version int64
	c := &cobra.Command{
		Use:   "replay [POLICY]",
		Short: "Say what requests of the past would come to by another policy",
		Long: `Decide anew on requests that were decided before, by the policy in a file ("-" is
the standard input; the fleet's unless one is named), with what was known of their
images then, and tell those that would end otherwise. Nothing is changed.
` + exitHelpJudged + ` It is 3
if something would be denied now that was not.`,
		Example: `  castellan admit replay castellan-admission.yaml --since 30d
  castellan admit replay --version 7 --since 24h --door service`,
		Args: cobra.MaximumNArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	a.flags(c)
	c.Flags().Int64Var(&version, "version", 0, "by this version of the fleet's policy (default: the newest)")
	c.RunE = func(c *cobra.Command, args []string) error {
		asked, err := a.asked()
		if err != nil {
			return err
		}
		form := map[string]any{"version": version, "audited": a.audited}
		for name, v := range asked {
			form[name] = v
		}
		if len(args) > 0 {
			b, err := g.readSmall(args[0], store.MaxAdmissionPolicy)
			if err != nil {
				return fmt.Errorf("read admission policy: %w", err)
			}
			form["text"] = string(b)
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var all gate.Replayed
		for {
			var part gate.Replayed
			if err := api.do(c.Context(), http.MethodPost, "/admit/replay", form, &part); err != nil {
				return err
			}
			all.Add(&part)
			if part.Next == 0 {
				break
			}
			form["before"] = part.Next
		}
		show := func() error {
			hosts, err := hostNames(c.Context(), api)
			if err != nil {
				return err
			}
			return g.admitReplayed(&all, hosts)
		}
		if err := g.print(*f, all, show); err != nil {
			return err
		}
		if all.Denied > 0 {
			return errViolated
		}
		return nil
	}
	return c
}

func (g *globals) admitReplayed(all *gate.Replayed, hosts map[string]string) error {
	var rows [][]cell
	for i := range all.Changes {
		x := &all.Changes[i]
		why := ""
		if len(x.Reasons) > 0 {
			why = x.Reasons[0].Message
		}
		rows = append(rows, []cell{{strconv.FormatInt(x.Verdict, 10), plain}, {x.Received.Local().Format(time.DateTime), plain},
			outcomeCell(x.Was, false), outcomeCell(x.Now, false), text(string(x.Door)), text(admitPlace(x.Place, x.Family, hosts)), text(cut(why, maxWhy))})
	}
	if len(rows) > 0 {
		if err := g.table([]string{"VERDICT", "WHEN", "WAS", "NOW", "DOOR", "WHERE", "WHY"}, rows); err != nil {
			return err
		}
		fmt.Fprintln(g.out)
	}
	fmt.Fprintf(g.out, "of %d requests %d would end as they did; %d would be denied, %d wait, %d be allowed that were not\n",
		all.Examined, all.Same, all.Denied, all.Waiting, all.Allowed)
	if all.Partial > 0 {
		fmt.Fprintf(g.out, "of %d requests the facts were too many to be kept: they are decided as if nothing was known\n", all.Partial)
	}
	return nil
}
