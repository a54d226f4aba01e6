package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// documentForms are the forms in which a report of documents makes sense.
var documentForms = []scan.ReportFormat{scan.ReportTable, "json", "sarif", "junit", "markdown", "html", "trivy", "sarif-github", "github", "gitlab-codequality", "env"}

func newScanIaC(g *globals) *cobra.Command {
	var o scanOptions
	c := &cobra.Command{
		Use:   "iac PATH...",
		Short: "Say what is wrong with task definitions, templates, compose files and Dockerfiles",
		Long: `Read what says how containers shall be built and run, and say what is wrong with
it, line by line:

  ECS task definitions in JSON           CloudFormation, SAM and CDK templates
  Terraform, its JSON form and plans     compose files          Dockerfiles

PATH is a file or a folder; folders are searched but for node_modules,
.terraform, .git and the like. The PATH - is the standard input. Nothing is
fetched or run, and no file outside of PATH is read. What a document leaves
open, such as a parameter without a default, is never a fault.

  castellan scan iac .
  castellan scan iac infra/ Dockerfile --fail-on high -o table -o sarif=iac.sarif
  terraform show -json plan | castellan scan iac -
  aws ecs describe-task-definition --task-definition shop | castellan scan iac -

A comment accepts a fault, for its line, container or resource:

  # castellan:ignore=CAST-TASK-001 until=2026-12-31 the reason

castellan scan checks lists all checks.
` + exitHelpJudged,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.within(c.Context(), func(ctx context.Context) error { return g.scanDocuments(ctx, args, o) })
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&o.outputs, "output", "o", []string{"table"}, "form of the report, or FORM=FILE to write it there; may be repeated: "+list(documentForms))
	f.StringVar(&o.failOn, "fail-on", "", "exit with 3 if something is as grave as this or graver: negligible, low, medium, high, critical; with a comma, or alone, unreadable for what could not be read")
	f.StringVar(&o.policy, "policy", "", "file with what to fail on and what is accepted, with reasons (YAML)")
	f.BoolVar(&o.all, "all", false, "list notes in tables, too")
	f.StringVar(&o.newSince, "new-since", "", "report only what is not in this former report (JSON)")
	o.reportFlags(c)
	return c
}

// scanDocuments makes one report of all paths.
func (g *globals) scanDocuments(ctx context.Context, paths []string, o scanOptions) error {
	outs, err := parseOutputs(o.outputs)
	if err != nil {
		return err
	}
	for _, out := range outs {
		if !slices.Contains(documentForms, out.form) {
			return usagef("--output %s: it is for packages, and documents have none; want %s", out.form, list(documentForms))
		}
	}
	policy, err := g.scanPolicy(o)
	if err != nil {
		return err
	}
	r := scan.Report{Made: time.Now().UTC(), Documents: &scan.ReportDocuments{Checks: len(scan.Checks())}}
	r.Inventory = inventory.Inventory{Subject: inventory.Subject{Kind: inventory.KindIaC, Name: strings.Join(paths, ", ")}, Packages: []inventory.Package{}, Made: r.Made}
	seen := map[string]bool{}
	for _, p := range paths {
		found, err := g.documents(ctx, p, r.Made)
		if err != nil {
			return err
		}
		r.Documents.Files += found.Files
		r.Documents.Resources += found.Resources
		r.Inventory.Problems = append(r.Inventory.Problems, found.Problems...)
		for _, m := range found.Faults {
			if !seen[m.Fingerprint] { // paths may lie within one another
				seen[m.Fingerprint] = true
				r.Misconfigurations = append(r.Misconfigurations, m)
			}
		}
	}
	g.tellExpired(scan.AcceptFaults(r.Misconfigurations, policy.rules, r.Made))
	reports := []scan.Report{r}
	if o.newSince != "" {
		known, err := readFormer("--new-since", o.newSince)
		if err != nil {
			return err
		}
		known.leaveOut(&reports[0], o.newSince)
	}
	reports[0].Gate = policy.gate(&reports[0])
	if err := g.writeReports(outs, reports, o); err != nil {
		return err
	}
	return verdict(reports)
}

// documents reads one path. Nothing outside of the folder can be opened, whatever
// a link or a module says.
func (g *globals) documents(ctx context.Context, name string, now time.Time) (scan.DocumentResult, error) {
	if name == scan.Stdin {
		return g.documentOfInput(ctx, now)
	}
	info, err := os.Stat(name)
	if err != nil {
		return scan.DocumentResult{}, fault.New(fault.NotFound, "%w", err).With("name a file or a folder")
	}
	dir, within := name, "."
	if !info.IsDir() {
		dir, within = filepath.Dir(name), filepath.Base(name)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return scan.DocumentResult{}, err
	}
	defer root.Close()
	prefix := path.Clean(filepath.ToSlash(dir))
	found, err := scan.Documents(ctx, root.FS(), within, scan.DocumentOptions{Prefix: prefix, Now: now})
	if err != nil {
		return found, fmt.Errorf("read %s: %w", name, err)
	}
	return found, nil
}

// maxDocument bounds what is read from the standard input.
const maxDocument = 32 << 20

func (g *globals) documentOfInput(ctx context.Context, now time.Time) (scan.DocumentResult, error) {
	dir, name, err := g.inputFile()
	if err != nil {
		return scan.DocumentResult{}, err
	}
	defer os.RemoveAll(dir)
	return scan.Documents(ctx, os.DirFS(dir), name, scan.DocumentOptions{Now: now})
}

// inputFile writes the standard input to a file in a new folder, which the caller
// removes.
func (g *globals) inputFile() (dir, name string, err error) {
	b, err := io.ReadAll(io.LimitReader(g.in, maxDocument+1))
	if err != nil {
		return "", "", fmt.Errorf("read the standard input: %w", err)
	}
	if len(b) > maxDocument {
		return "", "", fault.New(fault.Exhausted, "the standard input is larger than %d bytes", maxDocument)
	}
	if dir, err = os.MkdirTemp("", "castellan-"); err != nil {
		return "", "", err
	}
	name = "stdin"
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		return "", "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, name, nil
}

// tellExpired says which rules accept nothing any more.
func (g *globals) tellExpired(rules []scan.Rule) {
	for _, rule := range rules {
		fmt.Fprintf(g.err, "%s\n", g.paint("a rule has expired and accepts nothing any more: "+printable(rule.String()), warn))
	}
}

// imageFaults adds what is set wrongly in an image to its report.
func (s *scanning) imageFaults(r *scan.Report) {
	r.Misconfigurations = scan.ImageFaults(&r.Inventory)
	s.baseline.acceptFaults(r.Misconfigurations)
	expired := scan.AcceptFaults(r.Misconfigurations, s.policy.rules, time.Now())
	if s.db == nil { // else the match tells of them
		s.tellExpired(expired)
	}
}

func newScanChecks(g *globals) *cobra.Command {
	var f *form
	c := &cobra.Command{
		Use:   "checks",
		Short: "List what images and documents are checked for",
		Long:  "List all checks with their severities, and the names of the same check elsewhere." + exitHelp,
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			checks := scan.Checks()
			return g.print(*f, checks, func() error {
				rows := make([][]cell, 0, len(checks))
				for i := range checks {
					k := &checks[i]
					rows = append(rows, []cell{text(k.ID), severityCell(k.Severity), text(k.Title), {strings.Join(k.Elsewhere.Names(), ", "), faint}})
				}
				return g.table([]string{"CHECK", "SEVERITY", "WHAT", "ELSEWHERE"}, rows)
			})
		},
	}
	f = outputFlag(c)
	return c
}
