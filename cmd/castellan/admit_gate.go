package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
)

// exitHelpAdmit is of commands that decide by an admission policy.
const exitHelpAdmit = `
Exit codes: 0 allowed, 1 it could not be decided, 2 wrong usage, 3 denied. In the mode
audit nothing is denied. Only 0 is leave to deploy.`

// gateFlags are those of commands that decide on documents.
type gateFlags struct {
	factFlags
	account, region, cluster, service string
	strict                            bool
}

func (o *gateFlags) add(c *cobra.Command) {
	o.factFlags.add(c)
	f := c.Flags()
	f.StringVar(&o.account, "account", "", "AWS account that it is for, by which scopes of the policy are chosen")
	f.StringVar(&o.region, "region", "", "AWS region that it is for")
	f.StringVar(&o.cluster, "cluster", "", "cluster that it is for, where the document doesn't say")
	f.StringVar(&o.service, "service", "", "service that it is for, where the document doesn't say")
	f.BoolVar(&o.strict, "enforce", false, "deny what the policy would only audit")
}

// place adds what the command line says of where it shall run.
func (o *gateFlags) place(r *admission.Request) {
	for _, p := range []struct {
		to    *string
		value string
	}{{&r.Place.Account, o.account}, {&r.Place.Region, o.region}, {&r.Place.Cluster, o.cluster}, {&r.Place.Service, o.service}} {
		if *p.to == "" {
			*p.to = p.value
		}
	}
	var unknown []string
	for _, u := range r.Unknown {
		if u == "place.cluster" && r.Place.Cluster != "" || u == "place.service" && r.Place.Service != "" {
			continue // the command line knows
		}
		unknown = append(unknown, u)
	}
	r.Unknown = unknown
}

func newAdmitTest(g *globals) *cobra.Command {
	var o gateFlags
	var junit, format string
	c := &cobra.Command{
		Use:   "test POLICY TASKDEF...",
		Short: "Say what a policy would say of task definitions, before they are deployed",
		Long: `Hold task definitions against an admission policy. TASKDEF is a file or a folder
with ECS task definitions, CloudFormation templates, Terraform or its plan in
JSON, or compose files; - is the standard input. What a document leaves open, as a
parameter without a default, is not known, and no rule that needs it passes.

What is known of the images comes from a file (--facts), or the images are scanned
here (--scan) and their signatures verified (--trust-policy), or a server is asked
for those that are named by digest (--server); what is not known is told.

  castellan admit test castellan-admission.yaml task-definition.json --scan
  castellan admit test policy.yaml infra/ --facts facts.json --junit admission.xml
  terraform show -json plan | castellan admit test policy.yaml - --cluster prod

A file of facts is a JSON object from images, as the documents name them or by
digest, to what is known of each; --write-facts writes one.
` + exitHelpAdmit,
		Args: cobra.MinimumNArgs(2),
	}
	o.add(c)
	c.Flags().StringVar(&junit, "junit", "", "also write the result as JUnit to this file")
	c.Flags().StringVar(&format, "format", "text", "form of the result: text or json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if format != "text" && format != "json" {
			return usagef("--format %q: want text or json", format)
		}
		if err := hasFolder(junit); err != nil {
			return err
		}
		p, all, err := g.judge(c.Context(), args[0], args[1:], o)
		if err != nil {
			return err
		}
		if junit != "" {
			if err := writeWhole(junit, false, func(w io.Writer) error { return admit.WriteJUnit(w, p, all) }); err != nil {
				return fmt.Errorf("write %s: %w", junit, err)
			}
		}
		if format == "json" {
			err = writeJSON(g.out, map[string]any{"policy": p.Digest(), "verdicts": all}, "  ")
		} else {
			err = admit.WriteText(g.out, all)
		}
		if err != nil {
			return err
		}
		return worstVerdict(all)
	}
	return c
}

// worstVerdict is the outcome of many: denied says more than not decided.
func worstVerdict(all []admit.Judged) error {
	var out error
	for i := range all {
		switch v := &all[i].Verdict; {
		case v.Outcome == admission.Deny && !v.Declared:
			return errViolated
		case !v.Allowed() || v.Declared:
			out = errSaid
		}
	}
	return out
}

// judge decides on all that documents would deploy.
func (g *globals) judge(ctx context.Context, policy string, documents []string, o gateFlags) (*admit.Policy, []admit.Judged, error) {
	p, err := g.admissionPolicy(policy)
	if err != nil {
		return nil, nil, err
	}
	if o.strict {
		p = p.Enforced()
	}
	now := time.Now().UTC()
	requests, err := g.requests(ctx, documents, now)
	if err != nil {
		return nil, nil, err
	}
	facts, err := g.facts(ctx, requests, o.factFlags)
	if err != nil {
		return nil, nil, err
	}
	all := make([]admit.Judged, 0, len(requests))
	for i := range requests {
		o.place(&requests[i])
		all = append(all, admit.Judged{Name: nameOf(&requests[i]), Verdict: p.Decide(ctx, &requests[i], admit.Given{Facts: facts, Now: now})})
	}
	return p, all, ctx.Err()
}

// nameOf is what people know a request by.
func nameOf(r *admission.Request) string {
	name := r.Task.ARN
	if r.Task.Family != "" {
		name = r.Task.Family
	}
	if r.Place.Service != "" {
		name += ", service " + r.Place.Service
	}
	if len(r.Repositories) > 0 && name == "" {
		name = "repository " + r.Repositories[0].Name
	}
	if r.Place.File != "" {
		name += " (" + r.Place.File + ")"
	}
	return name
}

// requests reads what documents would deploy. A document in which there is nothing
// is an error: a gate that looks at nothing must not pass.
func (g *globals) requests(ctx context.Context, names []string, now time.Time) ([]admission.Request, error) {
	var all []admission.Request
	for _, name := range names {
		some, err := g.deployments(ctx, name, now)
		if err != nil {
			return nil, err
		}
		if len(some) == 0 {
			return nil, fault.New(fault.Invalid, "%s: nothing in it says what would be deployed", name).With("name task definitions, CloudFormation templates, Terraform or compose files")
		}
		all = append(all, some...)
	}
	for i := range all {
		all[i].ID = fmt.Sprintf("ci-%d", i+1)
	}
	return all, nil
}

func (g *globals) deployments(ctx context.Context, name string, now time.Time) ([]admission.Request, error) {
	if name == scan.Stdin {
		dir, file, err := g.inputFile()
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		all, found, err := scan.Deployments(ctx, os.DirFS(dir), file, scan.DocumentOptions{Now: now})
		return g.described(all, found, true, err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, fault.New(fault.NotFound, "%w", err).With("name a file or a folder")
	}
	dir, within := name, "."
	if !info.IsDir() {
		dir, within = filepath.Dir(name), filepath.Base(name)
	}
	root, err := os.OpenRoot(dir) // nothing outside can be opened, whatever a link says
	if err != nil {
		return nil, err
	}
	defer root.Close()
	all, found, err := scan.Deployments(ctx, root.FS(), within, scan.DocumentOptions{Prefix: path.Clean(filepath.ToSlash(dir)), Now: now})
	return g.described(all, found, !info.IsDir(), err)
}

// described tells what could not be read. It is an error of a file that somebody
// named, and of a folder where something is lost: nobody knows what that would have
// deployed. What else lies in a folder may be no document at all.
func (g *globals) described(all []admission.Request, found scan.DocumentResult, named bool, err error) ([]admission.Request, error) {
	if err != nil {
		return nil, err
	}
	for _, p := range found.Problems {
		if p.Lost || named || len(all) == 0 {
			return nil, fault.New(fault.Invalid, "%s", p.String()).With("castellan scan iac says more")
		}
		fmt.Fprintf(g.err, "%s\n", g.paint(printable(p.String()), warn))
	}
	return all, nil
}

func newAdmitExplain(g *globals) *cobra.Command {
	var o gateFlags
	c := &cobra.Command{
		Use:   "explain POLICY TASKDEF | VERDICT",
		Short: "Say of each rule what became of it, or why a verdict of the server is so",
		Long: `Decide as castellan admit test does, and say of each rule whether it was asked, about
what, and what it found. TASKDEF may also be a request in JSON, as doors make them
and servers keep them.

With a VERDICT alone, the number of one or the id of its request, which doors tell
with a refusal, the server says what it has kept of it: the request, every reason
with its remedy, and what was known of the images then.` + exitHelpAdmit,
		Args: cobra.RangeArgs(1, 2),
	}
	o.add(c)
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			return g.explainVerdict(c.Context(), o.ask.dialled(), args[0], *f)
		}
		p, err := g.admissionPolicy(args[0])
		if err != nil {
			return err
		}
		if o.strict {
			p = p.Enforced()
		}
		now := time.Now().UTC()
		requests, err := g.requestOrDocument(c.Context(), args[1], now)
		if err != nil {
			return err
		}
		facts, err := g.facts(c.Context(), requests, o.factFlags)
		if err != nil {
			return err
		}
		var all []explained
		for i := range requests {
			o.place(&requests[i])
			v, steps := p.Explain(c.Context(), &requests[i], admit.Given{Facts: facts, Now: now})
			all = append(all, explained{admit.Judged{Name: nameOf(&requests[i]), Verdict: v}, requests[i], steps})
		}
		if err := g.print(*f, all, func() error { return g.explainVerdicts(all) }); err != nil {
			return err
		}
		judged := make([]admit.Judged, len(all))
		for i := range all {
			judged[i] = all[i].Judged
		}
		return worstVerdict(judged)
	}
	return c
}

type explained struct {
	admit.Judged
	Request admission.Request `json:"request"`
	Steps   []admit.Step      `json:"steps"`
}

// requestOrDocument reads a request as it is, or what a document would deploy.
func (g *globals) requestOrDocument(ctx context.Context, name string, now time.Time) ([]admission.Request, error) {
	if name != scan.Stdin && filepath.Ext(name) == ".json" {
		if b, err := g.readSmall(name, maxDocument); err == nil {
			var r admission.Request
			if json.Unmarshal(b, &r) == nil && r.Door != "" && r.Action != "" {
				return []admission.Request{r}, nil
			}
		}
	}
	return g.requests(ctx, []string{name}, now)
}

func (g *globals) explainVerdicts(all []explained) error {
	for i := range all {
		e := &all[i]
		if err := admit.WriteText(g.out, []admit.Judged{e.Judged}); err != nil {
			return err
		}
		fmt.Fprintln(g.out)
		rows := make([][]cell, 0, len(e.Steps))
		for _, s := range e.Steps {
			rows = append(rows, []cell{text(s.Rule), stepCell(&s), {fmt.Sprintf("line %d", s.Line), faint}})
		}
		if err := g.table([]string{"RULE", "WHAT BECAME OF IT", ""}, rows); err != nil {
			return err
		}
	}
	return nil
}

func stepCell(s *admit.Step) cell {
	switch {
	case s.Skipped != "":
		return cell{"not asked: " + s.Skipped, faint}
	case s.Refused > 0:
		return cell{fmt.Sprintf("has something against %d of %d (%s)", s.Refused, s.Asked, s.For), bad}
	case s.Unknown > 0:
		return cell{fmt.Sprintf("can't be told for %d of %d (%s)", s.Unknown, s.Asked, s.For), warn}
	case s.Asked > 0 && s.Off == s.Asked:
		return cell{"off here", faint}
	case s.Asked == 0:
		return cell{"there is no " + s.For, faint}
	}
	return cell{fmt.Sprintf("has nothing against %d (%s)", s.Asked, s.For), good}
}
