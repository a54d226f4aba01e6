package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/git"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// historyForms are the forms in which a report of secrets alone makes sense.
var historyForms = []scan.ReportFormat{scan.ReportTable, "json", "sarif", "junit", "markdown", "html", "trivy", "sarif-github", "github", "gitlab-secret-detection", "gitlab-codequality", "env"}

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
  castellan scan git . --since origin/main      what a branch has brought
  castellan scan git . --staged                 what the next commit will bring
` + exitHelpJudged,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.within(c.Context(), func(ctx context.Context) error { return g.scanGit(ctx, args[0], o) })
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&o.outputs, "output", "o", []string{"table"}, "form of the report, or FORM=FILE to write it there; may be repeated: "+list(historyForms))
	f.StringVar(&o.failOn, "fail-on", "", "exit with 3 if a secret is as grave as this or graver: negligible, low, medium, high, critical")
	f.StringVar(&o.policy, "policy", "", "file with what to fail on and what is accepted, with reasons (YAML)")
	f.StringVar(&o.baseline, "baseline", "", "earlier report in JSON: what it has is known, and neither told anew nor counted")
	f.StringVar(&o.secretSalt, "secret-salt", "", "file with the salt of the fingerprints of secrets, for several machines (default: secrets.salt in the data folder or the user's own; CASTELLAN_SECRET_SALT)")
	f.BoolVar(&o.all, "all", false, "list what is doubtful, too")
	f.StringVar(&o.since, "since", "", "look only at what the commit in use has brought since this commit, branch or tag")
	f.BoolVar(&o.staged, "staged", false, "look only at what the next commit will bring, as a hook does")
	o.reportFlags(c)
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
	for _, out := range outs {
		if !slices.Contains(historyForms, out.form) {
			return usagef("--output %s: it is for packages, and a history has none; want %s", out.form, list(historyForms))
		}
	}
	if o.staged && o.since != "" {
		return usagef("--staged and --since: what the next commit will bring is in no commit yet; give one of them")
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
	inv, err := s.history(ctx, path)
	if err != nil {
		return err
	}
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

// history reads what of a repository is to be looked at.
func (s *scanning) history(ctx context.Context, path string) (inventory.Inventory, error) {
	repository, err := git.Open(ctx, path)
	if err != nil {
		return inventory.Inventory{}, err
	}
	if s.o.staged {
		repository.Staged()
	}
	if s.o.since != "" {
		if err := repository.Since(ctx, s.o.since); err != nil {
			return inventory.Inventory{}, err
		}
	}
	inv, err := scan.New(scan.Options{Secrets: s.secrets, Log: s.log}).Commits(ctx, path, repository)
	if err != nil {
		return inv, err
	}
	if s.o.staged { // what older commits lack, nobody asked for
		inv.Subject.Name = fmt.Sprintf("%s (staged, %s)", path, several(repository.Blobs, "content"))
		return inv, nil
	}
	inv.Subject.Name = fmt.Sprintf("%s (%s, %s)", path, several(repository.Commits, "commit"), several(repository.Blobs, "content"))
	inv.Problems = append(inv.Problems, lacking(repository)...)
	return inv, nil
}

// several is "1 commit", "2 commits".
func several(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
