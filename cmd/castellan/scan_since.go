package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// weakness names a vulnerability whatever the version of its package: an upgrade
// that doesn't help brings nothing new.
func weakness(v *finding.Vulnerability) string { return weaknessOf(v.ID, &v.Package) }

func weaknessOf(id string, p *inventory.Package) string {
	return id + "\x00" + p.Type + "\x00" + p.FullName()
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
		known, err := readFormer("--new-since", s.o.newSince)
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
