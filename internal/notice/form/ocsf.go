package form

import (
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// ocsfVersion is that of the schema that Detection follows (schema.ocsf.io, class
// "Detection Finding"). Within 1.x attributes are only added.
const ocsfVersion = "1.3.0"

// Detection is a notice as OCSF has it: an event of class Detection Finding. Times
// are milliseconds since 1970.
type Detection struct {
	Activity     int            `json:"activity_id"` // 1 create, 2 update, 3 close
	ActivityName string         `json:"activity_name"`
	Category     int            `json:"category_uid"`
	CategoryName string         `json:"category_name"`
	Class        int            `json:"class_uid"`
	ClassName    string         `json:"class_name"`
	Type         int            `json:"type_uid"`
	TypeName     string         `json:"type_name"`
	Time         int64          `json:"time"`
	Message      string         `json:"message"`
	Severity     int            `json:"severity_id"` // 1 informational … 5 critical
	SeverityName string         `json:"severity"`
	Status       int            `json:"status_id"` // 1 new, 4 resolved
	StatusName   string         `json:"status"`
	Count        int            `json:"count,omitempty"`
	Metadata     ocsfMetadata   `json:"metadata"`
	Info         ocsfInfo       `json:"finding_info"`
	Cloud        *ocsfCloud     `json:"cloud,omitempty"`
	Resources    []ocsfResource `json:"resources,omitempty"`
	Remediation  *ocsfRemedy    `json:"remediation,omitempty"`
	Weaknesses   []ocsfWeakness `json:"vulnerabilities,omitempty"`
}

type ocsfMetadata struct {
	Version  string      `json:"version"`
	UID      string      `json:"uid"` // of this event
	Product  ocsfProduct `json:"product"`
	Profiles []string    `json:"profiles"`
}

type ocsfProduct struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor_name"`
	UID    string `json:"uid"`
}

type ocsfInfo struct {
	UID         string       `json:"uid"` // the same in all events about the same thing
	Title       string       `json:"title"`
	Description string       `json:"desc,omitempty"`
	Created     int64        `json:"created_time"`
	Types       []string     `json:"types"`
	Source      string       `json:"src_url,omitempty"`
	Analytic    *ocsfRule    `json:"analytic,omitempty"`
	Attacks     []ocsfAttack `json:"attacks,omitempty"`
}

type ocsfRule struct {
	Name     string `json:"name"`
	UID      string `json:"uid"`
	Type     int    `json:"type_id"` // 1 is a rule
	TypeName string `json:"type"`
}

type ocsfAttack struct {
	Tactic    *ocsfNamed `json:"tactic,omitempty"`
	Technique ocsfNamed  `json:"technique"`
	Version   string     `json:"version"`
}

type ocsfNamed struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
}

type ocsfCloud struct {
	Provider string     `json:"provider"`
	Region   string     `json:"region,omitempty"`
	Account  *ocsfNamed `json:"account,omitempty"`
}

type ocsfResource struct {
	UID   string         `json:"uid,omitempty"`
	Name  string         `json:"name,omitempty"`
	Type  string         `json:"type"`
	Owner *ocsfNamed     `json:"owner,omitempty"`
	Group *ocsfNamed     `json:"group,omitempty"`
	Data  map[string]any `json:"data,omitempty"`
}

type ocsfRemedy struct {
	Description string `json:"desc"`
}

type ocsfWeakness struct {
	CVE      *ocsfNamed    `json:"cve,omitempty"`
	Title    string        `json:"title"`
	Severity string        `json:"severity"`
	Packages []ocsfPackage `json:"affected_packages"`
	Fix      bool          `json:"is_fix_available"`
	Exploit  bool          `json:"is_exploit_available"`
}

type ocsfPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Fixed   string `json:"fixed_in_version,omitempty"`
}

// attackVersion is that of MITRE ATT&CK whose techniques are named.
const attackVersion = "17.1"

// OCSF returns a notice as an event of OCSF. id names the event.
func OCSF(id string, x *notice.Notice) Detection {
	const class = 2004
	severity, severityName := ocsfSeverity(x.Severity)
	d := Detection{
		Activity: 1, ActivityName: "Create", Category: 2, CategoryName: "Findings", Class: class, ClassName: "Detection Finding",
		Time: x.Time.UnixMilli(), Message: Word(x.Title), Severity: severity, SeverityName: severityName, Status: 1, StatusName: "New", Count: x.Count,
		Metadata: ocsfMetadata{ocsfVersion, id, ocsfProduct{"Castellan", "Castellan", "castellan"}, []string{"cloud", "container"}},
		Info: ocsfInfo{
			UID: x.Key(), Title: Word(x.Title), Description: lines(x.Detail, MaxDetail), Created: x.Time.UnixMilli(), Types: []string{string(x.Kind)}, Source: Link(x.Link),
		},
	}
	switch {
	case x.Resolved:
		d.Activity, d.ActivityName, d.Status, d.StatusName = 3, "Close", 4, "Resolved"
	case x.Count > 1:
		d.Activity, d.ActivityName = 2, "Update"
	}
	d.Type, d.TypeName = class*100+d.Activity, "Detection Finding: "+d.ActivityName
	if x.Rule != "" {
		d.Info.Analytic = &ocsfRule{Word(x.Rule), Word(x.Rule), 1, "Rule"}
	}
	for _, t := range x.Techniques {
		a := ocsfAttack{Technique: ocsfNamed{Word(t.ID), Word(t.Name)}, Version: attackVersion}
		if t.Tactic != "" {
			a.Tactic = &ocsfNamed{Name: Word(t.Tactic)}
		}
		d.Info.Attacks = append(d.Info.Attacks, a)
	}
	if x.Remedy != "" {
		d.Remediation = &ocsfRemedy{Word(x.Remedy)}
	}
	d.about(x)
	return d
}

// about says which workload and image it is about, and what is wrong with it.
func (d *Detection) about(x *notice.Notice) {
	var owner *ocsfNamed
	if x.Owner != "" {
		owner = &ocsfNamed{Name: Word(x.Owner)}
	}
	if w := x.Workload; w != nil {
		d.Cloud = &ocsfCloud{Provider: "AWS", Region: w.Region}
		if w.Account != "" {
			d.Cloud.Account = &ocsfNamed{UID: w.Account}
		}
		r := ocsfResource{UID: w.ID, Name: Word(w.Container), Type: "container", Owner: owner, Data: map[string]any{}}
		if w.Group != "" {
			r.Group = &ocsfNamed{Name: Word(w.Group)}
		}
		for name, value := range map[string]string{"task": w.Task, "host": w.Host, "image": w.Image, "cluster": w.Cluster} {
			if value != "" {
				r.Data[name] = Word(value)
			}
		}
		d.Resources = append(d.Resources, r)
	}
	if m := x.Image; m != nil {
		d.Resources = append(d.Resources, ocsfResource{
			UID: m.ID, Name: Word(first(m.References, m.ID)), Type: "container image", Owner: owner,
			Data: map[string]any{"running": m.Running, "digest": m.Digest, "groups": m.Groups},
		})
	}
	for i := range x.Findings {
		f := &x.Findings[i]
		w := ocsfWeakness{
			Title: Finding(f), Packages: []ocsfPackage{{Word(f.Package), Word(f.Version), Word(f.Fixed)}}, Fix: f.Fixed != "", Exploit: f.Exploited,
		}
		_, w.Severity = ocsfSeverity(f.Severity)
		if strings.HasPrefix(f.ID, "CVE-") {
			w.CVE = &ocsfNamed{UID: Word(f.ID)}
		}
		d.Weaknesses = append(d.Weaknesses, w)
	}
}

func ocsfSeverity(s finding.Severity) (int, string) {
	switch s {
	case finding.Critical:
		return 5, "Critical"
	case finding.High:
		return 4, "High"
	case finding.Medium:
		return 3, "Medium"
	case finding.Low:
		return 2, "Low"
	case finding.Negligible:
		return 1, "Informational"
	}
	return 0, "Unknown"
}
