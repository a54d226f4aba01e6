package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/cvss"
)

// writeCycloneDX writes CycloneDX 1.6 with packages and vulnerabilities.
func writeCycloneDX(w io.Writer, reports []Report, o Options) error {
	documents := make([]*cyclonedx.BOM, 0, len(reports))
	for i := range reports {
		documents = append(documents, bomOf(&reports[i], o))
	}
	return one(w, documents)
}

func bomOf(r *Report, o Options) *cyclonedx.BOM {
	bom := cyclonedx.NewBOM()
	bom.SpecVersion, bom.JSONSchema = cyclonedx.SpecVersion1_6, "http://cyclonedx.org/schema/bom-1.6.schema.json"
	bom.SerialNumber = "urn:uuid:" + uuidOf(r)
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: r.Made.UTC().Format(time.RFC3339),
		Tools:     &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: o.Tool, Version: o.Version}}},
		Component: subjectComponent(&r.Inventory),
	}
	components := []cyclonedx.Component{}
	refs := refsOf(&r.Inventory)
	mixed := isMixed(&r.Inventory)
	for i := range r.Inventory.Packages {
		components = append(components, componentOf(&r.Inventory.Packages[i], refs[i], r.Inventory.OS, mixed))
	}
	if os := r.Inventory.OS; os.ID != "" {
		c := cyclonedx.Component{BOMRef: "os", Type: cyclonedx.ComponentTypeOS, Name: os.ID, Version: os.Version, Description: os.Name}
		if os.Codename != "" {
			c.Properties = bomProperties([]property{{"codename", os.Codename}})
		}
		components = append(components, c)
	}
	bom.Components = &components
	if len(r.Vulnerabilities) > 0 {
		bom.Vulnerabilities = vulnerabilitiesOf(r, refs)
	}
	return bom
}

// refsOf gives each package a name that is unique within the document: its
// package URL, with a number where that stands twice.
func refsOf(inv *inventory.Inventory) []string {
	seen := map[string]int{}
	refs := make([]string, len(inv.Packages))
	for i := range inv.Packages {
		u := inv.Packages[i].PURL(inv.OS)
		seen[u]++
		refs[i] = u
		if n := seen[u]; n > 1 {
			refs[i] += "#" + strconv.Itoa(n)
		}
	}
	return refs
}

func subjectComponent(inv *inventory.Inventory) *cyclonedx.Component {
	c := &cyclonedx.Component{BOMRef: "subject", Type: cyclonedx.ComponentTypeFile, Name: inv.Subject.Name}
	if i := inv.Image; i != nil {
		c.Type, c.Version = cyclonedx.ComponentTypeContainer, firstOf(i.Digest, i.ID)
		c.Name = firstOf(i.Reference, inv.Subject.Name)
		c.PackageURL = productOf(inv)
		c.Properties = bomProperties(imageProperties(i))
	}
	if inv.Subject.Kind == inventory.KindHost || inv.Subject.Kind == inventory.KindRoot {
		c.Type = cyclonedx.ComponentTypeOS
	}
	return c
}

func componentOf(p *inventory.Package, ref string, os inventory.OS, mixed bool) cyclonedx.Component {
	c := cyclonedx.Component{BOMRef: ref, Type: cyclonedx.ComponentTypeLibrary, Group: p.Namespace, Name: p.Name, Version: p.Version, PackageURL: p.PURL(os)}
	if p.FromDistribution() {
		c.Group = ""
	}
	if len(p.Licenses) > 0 {
		choices := cyclonedx.Licenses{}
		for _, l := range p.Licenses {
			choices = append(choices, cyclonedx.LicenseChoice{License: &cyclonedx.License{Name: l}})
		}
		c.Licenses = &choices
	}
	properties := []property{{"found", string(p.Found)}, {"source_name", p.Source.Name}, {"source_version", p.Source.Version}, {"architecture", p.Arch}}
	properties = append(properties, beyondURL(p, mixed)...)
	occurrences := []cyclonedx.EvidenceOccurrence{}
	for i, place := range p.Places {
		occurrences = append(occurrences, cyclonedx.EvidenceOccurrence{Location: place.Path})
		properties = append(properties, property{"layer_of_place:" + strconv.Itoa(i), layerOf(place)})
	}
	if len(occurrences) > 0 {
		c.Evidence = &cyclonedx.Evidence{Occurrences: &occurrences}
	}
	c.Properties = bomProperties(properties)
	return c
}

func vulnerabilitiesOf(r *Report, refs []string) *[]cyclonedx.Vulnerability {
	byKey := map[inventory.Key][]string{}
	for i := range r.Inventory.Packages {
		k := r.Inventory.Packages[i].Key()
		byKey[k] = append(byKey[k], refs[i])
	}
	out := []cyclonedx.Vulnerability{}
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		c := cyclonedx.Vulnerability{
			BOMRef: v.Fingerprint, ID: v.ID, Description: v.Summary, Recommendation: v.Remedy,
			Source: &cyclonedx.Source{Name: sourceOf(v)}, Ratings: ratingsOf(v), CWEs: cwesOf(v), Analysis: analysisOf(v),
		}
		if !v.Published.IsZero() {
			c.Published = v.Published.UTC().Format(time.RFC3339)
		}
		if !v.Modified.IsZero() {
			c.Updated = v.Modified.UTC().Format(time.RFC3339)
		}
		affects := []cyclonedx.Affects{}
		for _, ref := range byKey[v.Package.Key()] {
			affects = append(affects, cyclonedx.Affects{Ref: ref, Range: &[]cyclonedx.AffectedVersions{{Version: v.Package.Version, Status: cyclonedx.VulnerabilityStatusAffected}}})
		}
		c.Affects = &affects
		c.Advisories = advisoriesOf(v)
		out = append(out, c)
	}
	return &out
}

func advisoriesOf(v *finding.Vulnerability) *[]cyclonedx.Advisory {
	out := []cyclonedx.Advisory{}
	for _, u := range links(v.References) {
		out = append(out, cyclonedx.Advisory{URL: u})
	}
	if len(out) == 0 {
		return nil
	}
	return &out
}

func sourceOf(v *finding.Vulnerability) string {
	if len(v.Advisories) > 0 {
		return v.Advisories[0].Source
	}
	return ""
}

func ratingsOf(v *finding.Vulnerability) *[]cyclonedx.VulnerabilityRating {
	out := []cyclonedx.VulnerabilityRating{}
	for _, s := range v.Scores {
		base := s.Base
		out = append(out, cyclonedx.VulnerabilityRating{Score: &base, Method: methodOf(s.Version), Vector: s.Vector, Severity: bomSeverity(cvss.Score{Version: s.Version, Base: base}.Severity()), Source: &cyclonedx.Source{Name: s.By}})
	}
	if v.EPSS != nil {
		epss := float64(v.EPSS.EPSS)
		out = append(out, cyclonedx.VulnerabilityRating{Score: &epss, Method: cyclonedx.ScoringMethodOther, Source: &cyclonedx.Source{Name: "EPSS"}})
	}
	out = append(out, cyclonedx.VulnerabilityRating{Severity: bomSeverity(v.Severity), Method: cyclonedx.ScoringMethodOther, Source: &cyclonedx.Source{Name: firstOf(v.SeverityBy, "castellan")}})
	return &out
}

func methodOf(version string) cyclonedx.ScoringMethod {
	switch version {
	case "2.0":
		return cyclonedx.ScoringMethodCVSSv2
	case "3.0":
		return cyclonedx.ScoringMethodCVSSv3
	case "3.1":
		return cyclonedx.ScoringMethodCVSSv31
	case "4.0":
		return cyclonedx.ScoringMethodCVSSv4
	}
	return cyclonedx.ScoringMethodOther
}

func bomSeverity(s finding.Severity) cyclonedx.Severity {
	switch s {
	case finding.Critical:
		return cyclonedx.SeverityCritical
	case finding.High:
		return cyclonedx.SeverityHigh
	case finding.Medium:
		return cyclonedx.SeverityMedium
	case finding.Low:
		return cyclonedx.SeverityLow
	case finding.Negligible:
		return cyclonedx.SeverityInfo
	}
	return cyclonedx.SeverityUnknown
}

func cwesOf(v *finding.Vulnerability) *[]int {
	var out []int
	for _, w := range v.Weaknesses {
		if n, err := strconv.Atoi(strings.TrimPrefix(w, "CWE-")); err == nil && n > 0 && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return &out
}

func analysisOf(v *finding.Vulnerability) *cyclonedx.VulnerabilityAnalysis {
	a := &cyclonedx.VulnerabilityAnalysis{State: cyclonedx.IASExploitable, Detail: v.Note}
	switch v.State {
	case finding.NotAffected:
		a.State = cyclonedx.IASNotAffected
	case finding.Withdrawn:
		a.State = cyclonedx.IASFalsePositive
	case finding.UnderInvestigation:
		a.State = cyclonedx.IASInTriage
	case finding.WontFix, finding.EndOfLife:
		a.Response = &[]cyclonedx.ImpactAnalysisResponse{cyclonedx.IARWillNotFix}
	case finding.Fixable:
		a.Response = &[]cyclonedx.ImpactAnalysisResponse{cyclonedx.IARUpdate}
	}
	if v.Accepted != nil {
		a.Detail = fmt.Sprintf("accepted: %s", v.Accepted.Reason)
	}
	return a
}
