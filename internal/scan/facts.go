package scan

import (
	"cmp"
	"path"
	"slices"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Facts is what a report says of an image, in the words of a decision on a deployment. What was not
// looked for in a scan is not known to be absent: such a report is no scan.
func Facts(r *Report) admission.Facts {
	f := admission.Facts{At: r.Made}
	if i := r.Inventory.Image; i != nil {
		f.Digest = cmp.Or(i.Digest, i.ID)
		f.Created, f.User, f.Labels = i.Created, i.Config.User, i.Config.Labels
	}
	switch {
	case r.Database.Built.IsZero():
		f.Scan = admission.Scan{State: admission.Failed, Why: "it was not held against advisories"}
		return f
	case r.Secrets == nil || r.Malware == nil:
		f.Scan = admission.Scan{State: admission.Failed, Why: "the scan looked for no secrets, or for no malware"}
		return f
	}
	f.Users = Users(r.Inventory.Users)
	s := admission.Scan{State: admission.Known, At: r.Inventory.Made, Database: cmp.Or(r.Database.Newest(), r.Database.Built)}
	s.Lost = slices.ContainsFunc(r.Inventory.Problems, func(p inventory.Problem) bool { return p.Lost })
	s.Distribution = cmp.Or(r.Inventory.OS.Name, r.Inventory.OS.ID)
	if u := r.Unmaintained; u != nil {
		end := u.Since.AddDate(0, 0, 1)
		s.EndOfLife = &end
	}
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		out := admission.Vulnerability{
			ID: v.ID, Package: v.Package.FullName(), Version: v.Package.Version, Fixed: v.Fixed, Severity: v.Severity,
			KEV: v.KEV != nil, InUse: v.InUse, Published: v.Published, Accepted: v.Accepted != nil,
		}
		if v.EPSS != nil {
			out.EPSS = float64(v.EPSS.EPSS)
		}
		for _, score := range v.Scores {
			out.Score = max(out.Score, score.Base)
		}
		s.Vulnerabilities = append(s.Vulnerabilities, out)
	}
	for i := range r.Secrets {
		x := &r.Secrets[i]
		if x.Doubt == "" {
			s.Secrets = append(s.Secrets, admission.Found{Rule: x.Rule, Title: x.Title, Severity: x.Severity, Place: cmp.Or(x.Path, x.Name), Accepted: !x.Counts()})
		}
	}
	for i := range r.Malware {
		x := &r.Malware[i]
		s.Malware = append(s.Malware, admission.Found{Rule: x.Rule, Title: x.Title, Severity: x.Severity, Place: x.Path, Accepted: !x.Counts()})
	}
	s.Faults = foundFaults(r.Misconfigurations)
	f.Scan = s
	return f
}

// Users is what an inventory says of an image's users in the words of a decision.
func Users(u *inventory.Users) *admission.Users {
	if u == nil {
		return nil
	}
	return &admission.Users{Root: u.Root, Others: u.Others}
}

func foundFaults(all []finding.Misconfiguration) []admission.Found {
	var out []admission.Found
	for i := range all {
		m := &all[i]
		out = append(out, admission.Found{Rule: m.Check, Title: m.Title, Severity: m.Severity, Place: path.Join(m.File, m.Subject), Accepted: m.Accepted != nil})
	}
	return out
}
