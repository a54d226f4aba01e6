package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/git"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

func newScanGit(g *globals) *cobra.Command {
	o := scanOptions{noMatch: true}
	c := &cobra.Command{
		Use:   "git PATH",
		Short: "Find the secrets in all that a repository's commits ever had",
		Long: `Look through the history of a git repository: every content of every commit that
a branch, a tag or a stash leads to, each once at each path. Each secret is told with the
commit that brought it, and whether the newest one still has it. The git program
is used to read, and kept from doing anything else.

  castellan scan git .
  castellan scan git . -o json=baseline.json
  castellan scan git . --baseline baseline.json --fail-on medium
` + exitHelpJudged,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return g.scanGit(c.Context(), args[0], o) },
	}
	f := c.Flags()
	f.StringArrayVarP(&o.outputs, "output", "o", []string{"table"}, "form of the report, or FORM=FILE to write it there; may be repeated: table, json, sarif, junit, markdown, html")
	f.StringVar(&o.failOn, "fail-on", "", "exit with 3 if a secret is as grave as this or graver: negligible, low, medium, high, critical")
	f.StringVar(&o.policy, "policy", "", "file with what to fail on and what is accepted, with reasons (YAML)")
	f.StringVar(&o.baseline, "baseline", "", "earlier report in JSON: what it has is known, and neither told anew nor counted")
	f.StringVar(&o.secretSalt, "secret-salt", "", "file with the salt of the fingerprints of secrets, for several machines (default: secrets.salt in the data folder or the user's own; CASTELLAN_SECRET_SALT)")
	f.BoolVar(&o.all, "all", false, "list what is doubtful, too")
	return c
}

// lacking tells what a clone does not have: of what is missing nothing is known.
func lacking(r *git.Repository) (ps []inventory.Problem) {
	if r.Missing > 0 {
		ps = append(ps, inventory.Problem{What: fmt.Sprintf("the repository lacks %d contents of its commits: it was cloned without them; clone it whole to have them looked at", r.Missing), Lost: true})
	}
	if r.Shallow {
		ps = append(ps, inventory.Problem{What: "the repository lacks its older commits: it is a shallow clone; git fetch --unshallow brings them"})
	}
	return ps
}

func (g *globals) scanGit(ctx context.Context, path string, o scanOptions) error {
	outs, err := parseOutputs(o.outputs)
	if err != nil {
		return err
	}
	policy, err := g.scanPolicy(o)
	if err != nil {
		return err
	}
	log, err := g.logger()
	if err != nil {
		return err
	}
	s := &scanning{globals: g, o: o, policy: policy, log: log}
	if s.baseline, err = readBaseline(o.baseline, time.Now()); err != nil {
		return err
	}
	if s.secrets, err = g.openSecrets(o); err != nil {
		return err
	}
	repository, err := git.Open(ctx, path)
	if err != nil {
		return err
	}
	inv, err := scan.New(scan.Options{Secrets: s.secrets, Log: log}).Commits(ctx, path, repository)
	if err != nil {
		return err
	}
	inv.Subject.Name = fmt.Sprintf("%s (%d commits, %d contents)", path, repository.Commits, repository.Blobs)
	inv.Problems = append(inv.Problems, lacking(repository)...)
	r, err := s.report(ctx, inv)
	if err != nil {
		return err
	}
	reports := []scan.Report{r}
	if err := g.writeReports(outs, reports, o); err != nil {
		return err
	}
	return verdict(reports)
}
