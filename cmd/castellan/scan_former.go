package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/pull"
	"github.com/castellan-security/castellan/internal/scan"
)

// A former report is read for --baseline and for --new-since: what was known then,
// a value at a time, so that its size costs no memory.

// maxFormer bounds a report that is read: one of an image with 20,000 packages has
// 60 MB.
const maxFormer = 512 << 20

// former is what was found before.
type former struct {
	weaknesses, faults, secrets, malware past
	fingerprints                         map[string]time.Time // of all of them, until when they are known; zero: for good
	salt                                 string               // that of the secrets
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

func newFormer() former {
	return former{weaknesses: newPast(), faults: newPast(), secrets: newPast(), malware: newPast(), fingerprints: map[string]time.Time{}}
}

// readFormer reads a report in JSON. flag names it in errors.
func readFormer(flag, name string) (former, error) {
	const remedy = "castellan scan TARGET -o json=FILE makes one"
	f, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return former{}, fault.New(fault.NotFound, "read %s: %w", flag, err).With("name a report: " + remedy)
	case err != nil:
		return former{}, fmt.Errorf("read %s: %w", flag, err)
	}
	defer f.Close()
	k := newFormer()
	r := pull.NewStream(f, 0, maxFormer)
	reports := k.read(r)
	if err := r.Err(); err == nil && !reports {
		return former{}, fault.New(fault.Invalid, "read %s %s: it is no report in JSON", flag, name).With(remedy)
	}
	if err := r.End(); err != nil {
		return former{}, fault.New(fault.Invalid, "read %s %s: it is no report in JSON: %w", flag, name, err).With(remedy)
	}
	return k, nil
}

// read reads a report, and says whether it is one.
func (k *former) read(r *pull.Reader) (reports bool) {
	if r.Kind() != pull.Struct || !r.Object() {
		return false
	}
	for r.Next() {
		if r.Name() != "reports" || r.Kind() != pull.List || !r.Array() {
			r.Skip()
			continue
		}
		reports = true
		for r.Next() {
			k.readSubject(r)
		}
	}
	return reports
}

// readSubject reads what was found in one subject.
func (k *former) readSubject(r *pull.Reader) {
	if !r.Object() {
		return
	}
	for r.Next() {
		switch r.Name() {
		case "secret_salt":
			k.salt = r.Text()
		case "vulnerabilities":
			k.readFindings(r, func(f *formerFinding) { k.weaknesses.add(weaknessOf(f.id, &f.pkg), f.severity, f.acceptance()) })
		case "misconfigurations":
			k.readFindings(r, func(f *formerFinding) { k.faults.add(f.fingerprint, f.severity, f.acceptance()) })
		case "secrets":
			k.readFindings(r, func(f *formerFinding) { k.secrets.add(f.fingerprint, f.severity, f.acceptance()) })
		case "malware":
			k.readFindings(r, func(f *formerFinding) { k.malware.add(f.fingerprint, f.severity, f.acceptance()) })
		default:
			r.Skip()
		}
	}
}

// formerFinding is what is needed of a finding of any kind.
type formerFinding struct {
	id, fingerprint string
	severity        finding.Severity
	accepted        bool
	expires         time.Time // of that; zero: never
	pkg             inventory.Package
}

func (f *formerFinding) acceptance() *finding.Acceptance {
	if f.accepted {
		return &finding.Acceptance{}
	}
	return nil
}

func (k *former) readFindings(r *pull.Reader, add func(*formerFinding)) {
	if r.Kind() != pull.List || !r.Array() {
		r.Skip()
		return
	}
	for r.Next() {
		var f formerFinding
		f.read(r)
		if f.fingerprint != "" {
			k.know(f.fingerprint, f.expires)
		}
		add(&f)
	}
}

// know notes a finding. What somebody accepted for a time is known for as long, and
// the longest counts of what is there twice.
func (k *former) know(fingerprint string, until time.Time) {
	if have, ok := k.fingerprints[fingerprint]; ok && (have.IsZero() || !until.IsZero() && !until.After(have)) {
		return
	}
	k.fingerprints[fingerprint] = until
}

func (f *formerFinding) read(r *pull.Reader) {
	if !r.Object() {
		return
	}
	for r.Next() {
		switch r.Name() {
		case "id":
			f.id = r.Text()
		case "fingerprint":
			f.fingerprint = r.Text()
		case "severity":
			s, err := finding.ParseSeverity(r.Text())
			if err != nil {
				r.Fail(err)
			}
			f.severity = s
		case "accepted":
			if f.accepted = r.Kind() == pull.Struct; f.accepted {
				f.readAcceptance(r)
			} else {
				r.Skip()
			}
		case "package":
			f.readPackage(r)
		default:
			r.Skip()
		}
	}
}

func (f *formerFinding) readAcceptance(r *pull.Reader) {
	if !r.Object() {
		return
	}
	for r.Next() {
		if r.Name() != "expires" {
			r.Skip()
			continue
		}
		t, err := time.Parse(time.RFC3339, r.Text())
		if err != nil {
			r.Fail(err)
		}
		f.expires = t
	}
}

func (f *formerFinding) readPackage(r *pull.Reader) {
	if !r.Object() {
		return
	}
	for r.Next() {
		switch r.Name() {
		case "type":
			f.pkg.Type = r.Text()
		case "namespace":
			f.pkg.Namespace = r.Text()
		case "name":
			f.pkg.Name = r.Text()
		default:
			r.Skip()
		}
	}
}

// formerOf is what reports know that were made now.
func formerOf(reports []scan.Report) former {
	k := newFormer()
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
