package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan"
)

// maxFormer bounds a former report: that of an image with 5,000 findings has 20 MB.
const maxFormer = 256 << 20

// former is what was found before.
type former struct {
	weaknesses, faults, secrets, malware past
	salt                                 string // that of the secrets
}

// past is what was found before of one kind, by its names.
type past struct {
	open     map[string]finding.Severity // the gravest of that name
	accepted map[string]bool
}

func newPast() past { return past{open: map[string]finding.Severity{}, accepted: map[string]bool{}} }

func (p past) add(name string, severity finding.Severity, accepted *finding.Acceptance) {
	if accepted != nil {
		p.accepted[name] = true
		return
	}
	p.open[name] = max(p.open[name], severity)
}

// has says whether something is nothing new. What has become graver is; and what
// was accepted is not known for good: when that has expired it counts.
func (p past) has(name string, severity finding.Severity, accepted *finding.Acceptance) bool {
	before, open := p.open[name]
	return open && severity <= before || accepted != nil && p.accepted[name]
}

// readFormer reads a report in JSON.
func readFormer(name string) (former, error) {
	const remedy = "give what -o json=FILE wrote"
	f, err := os.Open(name)
	if err != nil {
		return former{}, fmt.Errorf("read --new-since: %w", err)
	}
	defer f.Close()
	var said struct {
		Reports []scan.Report `json:"reports"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxFormer)).Decode(&said); err != nil {
		return former{}, fault.New(fault.Invalid, "read --new-since %s: %w", name, err).With(remedy)
	}
	if said.Reports == nil {
		return former{}, fault.New(fault.Invalid, "read --new-since %s: no reports in it", name).With(remedy)
	}
	return formerOf(said.Reports), nil
}

func formerOf(reports []scan.Report) former {
	k := former{weaknesses: newPast(), faults: newPast(), secrets: newPast(), malware: newPast()}
	for i := range reports {
		for n := range reports[i].Vulnerabilities {
			v := &reports[i].Vulnerabilities[n]
			k.weaknesses.add(weakness(v), v.Severity, v.Accepted)
		}
		for n := range reports[i].Misconfigurations {
			m := &reports[i].Misconfigurations[n]
			k.faults.add(m.Fingerprint, m.Severity, m.Accepted)
		}
		for n := range reports[i].Malware {
			m := &reports[i].Malware[n]
			k.malware.add(m.Fingerprint, m.Severity, m.Accepted)
		}
		for n := range reports[i].Secrets {
			x := &reports[i].Secrets[n]
			k.secrets.add(x.Fingerprint, x.Severity, x.Accepted)
			k.salt = reports[i].SaltID
		}
	}
	return k
}

// weakness names a vulnerability whatever the version of its package: an upgrade
// that doesn't help brings nothing new.
func weakness(v *finding.Vulnerability) string {
	return v.ID + "\x00" + v.Package.Type + "\x00" + v.Package.FullName()
}

// onlyNews leaves out what is in a former report or another image, and holds the
// rest against the policy anew.
func (s *scanning) onlyNews(ctx context.Context, reports []scan.Report) error {
	if s.o.newSince == "" {
		return nil
	}
	known, err := s.before(ctx)
	if err != nil {
		return err
	}
	for i := range reports {
		s.tellOtherSalt(known.salt, reports[i].SaltID)
		known.leaveOut(&reports[i], s.o.newSince)
		reports[i].Gate = s.policy.gate(&reports[i])
	}
	return nil
}

// before is what was found in BASE: a report in JSON, or else what a target means,
// which may be in JSON, too.
func (s *scanning) before(ctx context.Context) (former, error) {
	var asReport error
	if head, err := (osFiles{}).Head(s.o.newSince, 1); err == nil && string(head) == "{" {
		known, err := readFormer(s.o.newSince)
		if err == nil {
			return known, nil
		}
		asReport = err
	}
	meant, err := scan.ParseTarget(s.o.newSince, osFiles{})
	if err != nil {
		return former{}, cmp.Or(asReport, err)
	}
	inventories, err := s.inventories(ctx, meant)
	s.clearProgress()
	if err != nil {
		return former{}, fmt.Errorf("scan %s: %w", s.o.newSince, err)
	}
	var reports []scan.Report
	for i := range inventories {
		r, err := s.report(ctx, inventories[i])
		if err != nil {
			return former{}, err
		}
		reports = append(reports, r)
	}
	return formerOf(reports), nil
}

// leaveOut takes what was known before out of a report.
func (k former) leaveOut(r *scan.Report, base string) {
	since := &scan.ReportSince{Base: base}
	var news []finding.Vulnerability
	for i := range r.Vulnerabilities {
		if v := &r.Vulnerabilities[i]; !k.weaknesses.has(weakness(v), v.Severity, v.Accepted) {
			news = append(news, *v)
		}
	}
	var faults []finding.Misconfiguration
	for i := range r.Misconfigurations {
		if m := &r.Misconfigurations[i]; !k.faults.has(m.Fingerprint, m.Severity, m.Accepted) {
			faults = append(faults, *m)
		}
	}
	secrets := slices.DeleteFunc(slices.Clone(r.Secrets), func(x finding.Secret) bool { return k.secrets.has(x.Fingerprint, x.Severity, x.Accepted) })
	malware := slices.DeleteFunc(slices.Clone(r.Malware), func(m finding.Malware) bool { return k.malware.has(m.Fingerprint, m.Severity, m.Accepted) })
	since.Known = len(r.Malware) - len(malware) + len(r.Vulnerabilities) - len(news) + len(r.Misconfigurations) - len(faults) + len(r.Secrets) - len(secrets)
	r.Vulnerabilities, r.Misconfigurations, r.Secrets, r.Malware, r.Since = news, faults, secrets, malware, since
}
