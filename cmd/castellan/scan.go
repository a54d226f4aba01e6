package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// scanOptions are the flags of a scan.
type scanOptions struct {
	outputs    []string
	platform   string
	failOn     string
	onlyFixed  bool
	policy     string
	vex        []string
	database   string
	cache      string
	noCache    bool
	noMatch    bool
	all        bool
	dockerHost string
	plainHTTP  bool
	caFile     string
	limits     []string
	newSince   string
	noSecrets  bool
	secretSalt string
	baseline   string
	noMalware  bool
	category   string
	timeout    time.Duration
	staged     bool
	since      string
	bounds     scan.Limits // of limits

	malwareRules, malwareHashes []string // files
}

func newScan(g *globals) *cobra.Command {
	var o scanOptions
	c := &cobra.Command{
		Use:   "scan TARGET",
		Short: "Say what is in an image, a folder or this host, and what is wrong with it",
		Long: `Scan an image, and say which packages are in it, which layer brought them, what
is known to be wrong with them and what to do about it; and which secrets and
which malware are in it, in any layer. Everything happens on this machine:
nothing is sent anywhere, and no secret is shown or kept.

TARGET is what is there as a file or folder, or else the name of an image: of
the local engine if that has it, else of its registry. A prefix says it
outright:

  registry:REFERENCE   an image of a registry     docker:NAME   of the local engine
  oci:PATH[:NAME]      an OCI image layout        archive:PATH  of docker save
  root:PATH            a root file system         dir:PATH      a folder of source code
  task:PATH            an ECS task definition     host          this host
  sbom:PATH            a bill of materials, CycloneDX or SPDX
  workload:ID          a container that runs here, with what it wrote since it started

The PATH - is the standard input, which may be an archive of docker save, a bill
of materials or a task definition.

  castellan scan nginx:1.27
  castellan scan --platform all registry:ghcr.io/org/app:2 -o table -o sarif=app.sarif
  docker save app | castellan scan - --fail-on high
  castellan scan app.cdx.json
  castellan scan task-definition.json --policy castellan.yaml
  castellan scan iac .          what is wrong with templates and Dockerfiles
  castellan scan git .

Advisories come from the database that castellan scan db update makes; until
then from a small one that came with the program, and the report says how old.
` + exitHelpJudged,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.within(c.Context(), func(ctx context.Context) error { return g.scan(ctx, args[0], o) })
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&o.outputs, "output", "o", []string{"table"}, "form of the report, or FORM=FILE to write it there; may be repeated: "+list(scan.ReportFormats()))
	f.StringVar(&o.platform, "platform", "", "platform of an image for several, as linux/arm64, or all (default: this machine's)")
	f.StringVar(&o.failOn, "fail-on", "", "exit with 3 if something is as grave as this or graver, or known to be exploited: negligible, low, medium, high, critical; kev for the latter alone; with a comma, or alone, unreadable for what could not be read")
	f.BoolVar(&o.onlyFixed, "only-fixed", false, "with --fail-on: count only what has a fix")
	f.StringVar(&o.policy, "policy", "", "file with what to fail on and what is accepted, with reasons (YAML)")
	f.StringArrayVar(&o.vex, "vex", nil, "OpenVEX document to heed; may be repeated")
	f.StringVar(&o.database, "db", "", "advisory database (default: advisories.db in the data folder)")
	f.StringVar(&o.cache, "cache-dir", "", "folder for what is known of layers (default: castellan in the user's cache folder)")
	f.BoolVar(&o.noCache, "no-cache", false, "read all layers, and keep nothing")
	f.BoolVar(&o.noMatch, "no-match", false, "only say what is in it")
	f.BoolVar(&o.all, "all", false, "list each vulnerability in tables, too")
	f.StringVar(&o.dockerHost, "docker-host", "", "container engine, as in DOCKER_HOST")
	f.BoolVar(&o.plainHTTP, "plain-http", false, "speak to registries on other machines without encryption")
	f.StringVar(&o.caFile, "registry-ca", "", "further certificate authorities of registries (PEM)")
	f.StringArrayVar(&o.limits, "limit", nil, "what one scan may cost, as bytes=N (of one layer), entries=N (of one layer), held=N (bytes of what was found) or time=N (seconds of a processor that one analyser, as that of secrets, may work; 300, of folders 3600); may be repeated")
	f.StringVar(&o.newSince, "new-since", "", "report only what is not in this former report (JSON) or image")
	f.BoolVar(&o.noSecrets, "no-secrets", false, "do not look for secrets")
	f.StringVar(&o.secretSalt, "secret-salt", "", "file with the salt of the fingerprints of secrets, for several machines (default: secrets.salt in the data folder or the user's own; CASTELLAN_SECRET_SALT)")
	f.StringVar(&o.baseline, "baseline", "", "earlier report in JSON: what it has is known, and neither told anew nor counted")
	f.BoolVar(&o.noMalware, "no-malware", false, "do not look for malware")
	f.StringArrayVar(&o.malwareRules, "malware-rules", nil, "file with further rules of malware in YARA's language, or a folder of such (.yar, .yara); may be repeated")
	f.StringArrayVar(&o.malwareHashes, "malware-hashes", nil, "file with hashes of malware, one a line (SHA-256, SHA-1 or MD5), perhaps with a name; may be repeated")
	o.reportFlags(c)
	c.AddCommand(newScanDB(g), newScanIaC(g), newScanChecks(g), newScanGit(g))
	return c
}

// reportFlags are those that every kind of scan has.
func (o *scanOptions) reportFlags(c *cobra.Command) {
	c.Flags().StringVar(&o.category, "category", "", "what GitHub's code scanning shall call the results in SARIF: a later upload takes the place of an earlier one of that name (default: by what is scanned)")
	c.Flags().DurationVar(&o.timeout, "timeout", 0, "give up after this time, as 10m (default: never)")
}

// within does a scan, and gives it up when its time is over.
func (o *scanOptions) within(ctx context.Context, scan func(context.Context) error) error {
	if o.timeout < 0 {
		return usagef("--timeout %s: want a time, as 10m", o.timeout)
	}
	if o.timeout == 0 {
		return scan(ctx)
	}
	limited, stop := context.WithTimeout(ctx, o.timeout)
	defer stop()
	err := scan(limited)
	if err != nil && !errors.Is(err, errViolated) && limited.Err() != nil && ctx.Err() == nil {
		return fault.New(fault.Exhausted, "not done after %s: %w", o.timeout, err).With("give it more time with --timeout")
	}
	return err
}

// scan does all that a scan is, in the order in which a mistake is cheapest.
func (g *globals) scan(ctx context.Context, name string, o scanOptions) error {
	outs, err := parseOutputs(o.outputs)
	if err != nil {
		return err
	}
	if o.bounds, err = parseLimits(o.limits); err != nil {
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
	meant, err := scan.ParseTarget(name, osFiles{})
	if err != nil {
		return err
	}
	s := &scanning{globals: g, o: o, policy: policy, log: log}
	s.garbage.set(knownPercent)
	if s.baseline, err = readBaseline(o.baseline, time.Now()); err != nil {
		return err
	}
	if !o.noSecrets && meant.Kinds[0] != scan.TargetSBOM {
		if s.secrets, err = g.openSecrets(o); err != nil {
			return err
		}
	}
	if !o.noMalware && meant.Kinds[0] != scan.TargetSBOM {
		if s.malware, err = g.openMalware(o); err != nil {
			return err
		}
	}
	if !o.noMatch {
		if s.db, s.seeded, err = scan.OpenDatabase(g.advisoryPath(o.database)); err != nil {
			return err
		}
		defer s.db.Close()
	}
	begun := time.Now()
	inventories, err := s.inventories(ctx, meant)
	s.clearProgress()
	if err != nil {
		return err
	}
	s.garbage.read()
	reports := make([]scan.Report, 0, len(inventories))
	for i := range inventories {
		r, err := s.report(ctx, inventories[i])
		if err != nil {
			return err
		}
		if r.Inventory.Image, err = s.redact(r.Inventory.Image); err != nil {
			return err
		}
		reports = append(reports, r)
	}
	if err := s.onlyNews(ctx, reports); err != nil {
		return err
	}
	log.Debug("scan done", "took", time.Since(begun), "subjects", len(reports))
	if err := g.writeReports(outs, reports, o); err != nil {
		return err
	}
	return verdict(reports)
}

// errViolated says that a policy was violated; the report has said how.
var errViolated = errors.New("the policy is violated")

func verdict(reports []scan.Report) error {
	for i := range reports {
		if !reports[i].Gate.Passed() {
			return errViolated
		}
	}
	return nil
}

// report matches an inventory and holds it against the policy.
func (s *scanning) report(ctx context.Context, inv inventory.Inventory) (scan.Report, error) {
	r := scan.Report{Inventory: inv, Made: inv.Made}
	s.addSecrets(&r)
	s.addMalware(&r)
	if s.db == nil || inv.Subject.Kind == inventory.KindDocument {
		s.imageFaults(&r)
		r.Gate = s.policy.gate(&r)
		return r, nil
	}
	found, err := scan.Match(ctx, s.db, &inv, s.policy.options())
	if err != nil {
		return r, err
	}
	r.Vulnerabilities = found.Vulnerabilities
	r.Unmaintained = scan.Unmaintained(inv.OS, inv.Made)
	s.baseline.accept(r.Vulnerabilities)
	r.Database = reportDatabase(s.db.Info(), s.seeded)
	s.imageFaults(&r)
	r.Gate = s.policy.gate(&r)
	s.tellExpired(found.Expired)
	for _, gap := range found.Gaps {
		r.Gaps = append(r.Gaps, scan.ReportGap{Why: string(gap.Why), Ecosystem: gap.Ecosystem, Packages: gap.Packages, Examples: gap.Examples})
	}
	return r, nil
}

func reportDatabase(info scan.DatabaseInfo, seeded bool) scan.ReportDatabase {
	d := scan.ReportDatabase{Built: info.Built, Seed: seeded}
	for _, src := range info.Sources {
		d.Sources = append(d.Sources, scan.ReportSource{Name: src.Name, Newest: src.Newest, Attribution: src.Attribution})
	}
	return d
}

// advisoryPath is where the advisory database is.
func (g *globals) advisoryPath(given string) string {
	if given != "" {
		return given
	}
	return filepath.Join(g.dataDir, "advisories.db")
}

// parseLimits reads NAME=N.
func parseLimits(given []string) (scan.Limits, error) {
	var l scan.Limits
	var seconds int64
	fields := map[string]*int64{"bytes": &l.Bytes, "entries": &l.Entries, "held": &l.Held, "time": &seconds}
	for _, text := range given {
		name, value, _ := strings.Cut(text, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if field := fields[name]; field != nil && err == nil && n > 0 {
			*field = n
			continue
		}
		return l, usagef("--limit %q: want bytes=N, entries=N, held=N or time=N", text)
	}
	const year = 365 * 24 * 60 * 60
	l.AnalyserTime = time.Duration(min(seconds, year)) * time.Second
	return l, nil
}

// output is one report that is to be written.
type output struct {
	form scan.ReportFormat
	file string // empty: standard output
}

// parseOutputs reads FORM and FORM=FILE; only one can go to the standard output.
func parseOutputs(given []string) ([]output, error) {
	var outs []output
	shown := 0
	for _, text := range given {
		name, file, toFile := strings.Cut(text, "=")
		f, err := scan.ParseReportFormat(name)
		if err != nil {
			wrong := fault.New(fault.Invalid, "--output: %w", err)
			if !toFile && strings.ContainsAny(name, "./") {
				wrong = wrong.With("a file is written as FORM=FILE: -o json=" + name)
			}
			return nil, usageError{wrong}
		}
		if err := hasFolder(file); err != nil {
			return nil, err
		}
		if toFile && file == "" {
			return nil, usagef("--output %s: no file is named", text)
		}
		if !toFile {
			shown++
		}
		outs = append(outs, output{f, file})
	}
	if shown > 1 {
		return nil, usagef("several reports on the standard output: write all but one to files, as --output sarif=report.sarif")
	}
	return outs, nil
}

// hasFolder says so before a scan is made whose report could not be written.
func hasFolder(file string) error {
	if file == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Dir(file)); errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "write %s: there is no folder %s", file, filepath.Dir(file)).With("make it first: mkdir -p " + filepath.Dir(file))
	}
	return nil // whatever else is wrong says the one who writes
}

// writeReports writes each form; files are written whole or not at all.
func (g *globals) writeReports(outs []output, reports []scan.Report, o scanOptions) error {
	options := scan.ReportOptions{Tool: "castellan", Version: version(), All: o.all, Category: o.category}
	for _, out := range outs {
		if out.file == "" {
			shown := options
			shown.Colour = g.coloured()
			if f, ok := g.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				shown.Width, _, _ = term.GetSize(int(f.Fd())) // 0 on an error: unlimited
			}
			if err := scan.WriteReports(g.out, out.form, reports, shown); err != nil {
				return err
			}
			continue
		}
		err := writeWhole(out.file, false, func(w io.Writer) error { return scan.WriteReports(w, out.form, reports, options) })
		if err != nil {
			return fmt.Errorf("write %s: %w", out.file, err)
		}
		fmt.Fprintf(g.err, "%s\n", g.paint("wrote "+printable(out.file), faint))
	}
	return nil
}
