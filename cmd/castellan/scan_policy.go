package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan"
)

// maxPolicyBytes bounds a policy file and a VEX document: people write the one,
// and the other is no feed.
const maxPolicyBytes = 16 << 20

// Words of --fail-on beside severities: for what is known to be exploited, and
// for what could not be read.
const (
	failOnKEV        = "kev"
	failOnUnreadable = "unreadable"
)

// scanPolicy is what a scan is held against.
type scanPolicy struct {
	failOn     string           // a severity, failOnKEV, or empty
	least      finding.Severity // of failOn, if it is one
	unreadable bool             // what could not be read fails, too
	onlyFixed  bool
	rules      []scan.Rule
	vex        []advisory.Exploitability
}

// policyFile is the form of the file.
type policyFile struct {
	FailOn    string      `json:"fail_on,omitempty"`
	OnlyFixed bool        `json:"only_fixed,omitempty"`
	Ignore    []scan.Rule `json:"ignore,omitempty"`
	VEX       []string    `json:"vex,omitempty"` // relative to the file
}

// scanPolicy reads the policy file and the documents; flags come before the file.
func (g *globals) scanPolicy(o scanOptions) (scanPolicy, error) {
	p := scanPolicy{onlyFixed: o.onlyFixed}
	failOn := o.failOn
	documents := o.vex
	if o.policy != "" {
		file, err := readPolicy(o.policy)
		if err != nil {
			return p, err
		}
		p.rules = file.Ignore
		p.onlyFixed = p.onlyFixed || file.OnlyFixed
		if failOn == "" {
			failOn = file.FailOn
		}
		for _, d := range file.VEX {
			if !filepath.IsAbs(d) {
				d = filepath.Join(filepath.Dir(o.policy), d)
			}
			documents = append(documents, d)
		}
	}
	if err := p.parseFailOn(failOn); err != nil {
		return p, err
	}
	if o.noMatch && (p.failOn == failOnKEV || p.failOn != "" && o.noSecrets && o.noMalware) {
		return p, usagef("--no-match compares nothing with advisories, so nothing can fail but secrets, malware and what is %s", failOnUnreadable)
	}
	for _, name := range documents {
		statements, err := readVEX(name)
		if err != nil {
			return p, err
		}
		p.vex = append(p.vex, statements...)
	}
	return p, nil
}

// parseFailOn reads what to fail on: a severity or kev, unreadable, or both with a
// comma.
func (p *scanPolicy) parseFailOn(s string) error {
	if s == "" {
		return nil
	}
	for word := range strings.SplitSeq(s, ",") {
		switch word = strings.TrimSpace(word); {
		case word == failOnUnreadable:
			p.unreadable = true
			continue
		case p.failOn != "":
			return usagef("--fail-on %s: %s and %s: the lower severity means the other one too", s, p.failOn, word)
		case word != failOnKEV:
			var err error
			if p.least, err = finding.ParseSeverity(word); err != nil {
				return usageError{fmt.Errorf("--fail-on: %w, or kev, or unreadable", err)}
			}
		}
		p.failOn = word
	}
	return nil
}

func readPolicy(name string) (policyFile, error) {
	var p policyFile
	b, err := readAtMost(name, maxPolicyBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return p, fault.New(fault.NotFound, "read policy: %w", err).With("name the file from where you are; docs/scan.md shows one")
	}
	if err != nil {
		return p, fmt.Errorf("read policy: %w", err)
	}
	if err := yaml.UnmarshalStrict(b, &p); err != nil {
		return p, fault.New(fault.Invalid, "policy %s: %w", name, err).
			With("it may have fail_on, only_fixed, vex (files) and ignore: a list with id, package, path or resource, and reason, by and expires")
	}
	for i := range p.Ignore {
		if err := p.Ignore[i].Check(); err != nil {
			return p, fmt.Errorf("policy %s: rule %d: %w", name, i+1, err)
		}
		if p.Ignore[i].By == "" {
			p.Ignore[i].By = filepath.Base(name)
		}
	}
	return p, nil
}

func readVEX(name string) ([]advisory.Exploitability, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read VEX: %w", err)
	}
	defer f.Close()
	s, err := feeds.Statements(io.LimitReader(f, maxPolicyBytes))
	if err != nil {
		return nil, fmt.Errorf("read VEX %s: %w", name, err)
	}
	return s, nil
}

// options are what a match is told.
func (p *scanPolicy) options() scan.MatchOptions {
	return scan.MatchOptions{Rules: p.rules, Statements: p.vex, Now: time.Now()}
}

// gate holds a report against the policy; nil where nothing is demanded.
func (p *scanPolicy) gate(r *scan.Report) *scan.Gate {
	if p.failOn == "" && !p.unreadable {
		return nil
	}
	g := &scan.Gate{Rule: p.inWords(), Violations: []string{}}
	for i := range r.Vulnerabilities {
		if v := &r.Vulnerabilities[i]; p.breaks(v) {
			g.Violations = append(g.Violations, v.Fingerprint)
		}
	}
	if r.Documents != nil {
		g.Rule = strings.ReplaceAll(g.Rule, ", or known to be exploited", "")
	}
	for i := range r.Misconfigurations {
		if m := &r.Misconfigurations[i]; m.Accepted == nil && p.grave(m.Severity) {
			g.Violations = append(g.Violations, m.Fingerprint)
		}
	}
	for i := range r.Secrets {
		if s := &r.Secrets[i]; s.Counts() && p.grave(s.Severity) {
			g.Violations = append(g.Violations, s.Fingerprint)
		}
	}
	for i := range r.Malware {
		if m := &r.Malware[i]; m.Counts() && p.grave(m.Severity) {
			g.Violations = append(g.Violations, m.Fingerprint)
		}
	}
	for i := range r.Inventory.Problems {
		// A file that cannot be read may be anything; a layer that is not there is
		// a part of the image that nobody has looked at.
		if pr := &r.Inventory.Problems[i]; p.unreadable || pr.Lost {
			g.Problems = append(g.Problems, pr.String())
		}
	}
	return g
}

// grave says whether something of that severity breaks the gate, if it is none of
// which others say that it is exploited.
func (p *scanPolicy) grave(s finding.Severity) bool {
	return p.failOn != "" && p.failOn != failOnKEV && s >= p.least
}

func (p *scanPolicy) breaks(v *finding.Vulnerability) bool {
	switch {
	case v.Accepted != nil, v.State == finding.NotAffected, v.State == finding.Withdrawn:
		return false
	case p.failOn == "", p.onlyFixed && v.Fixed == "":
		return false
	case p.failOn == failOnKEV:
		return v.KEV != nil
	}
	// What is used in attacks counts whatever it was rated, and most of all where
	// nobody has rated it.
	return v.Severity >= p.least || v.KEV != nil
}

func (p *scanPolicy) inWords() string {
	rule := "nothing " + p.least.String() + " or worse, or known to be exploited,"
	switch p.failOn {
	case "":
		return "nothing that could not be read"
	case failOnKEV:
		rule = "nothing that is known to be exploited"
	}
	if p.onlyFixed {
		rule += " that has a fix"
	}
	rule = strings.TrimSuffix(rule, ",")
	if p.unreadable {
		rule += "; nothing that could not be read"
	}
	return rule
}
