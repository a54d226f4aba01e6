package report

import (
	"cmp"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// The JSON that Trivy writes (schema version 2), which plugins of CI servers and
// trackers read. Several subjects make one report: their readers take no list.
type (
	trivyReport struct {
		SchemaVersion int
		CreatedAt     string
		ArtifactName  string
		ArtifactType  string
		Metadata      trivyMetadata
		Results       []trivyResult
	}
	trivyMetadata struct {
		OS          *trivyOS    `json:",omitempty"`
		ImageID     string      `json:",omitempty"`
		DiffIDs     []string    `json:",omitempty"`
		RepoTags    []string    `json:",omitempty"`
		RepoDigests []string    `json:",omitempty"`
		ImageConfig *trivyImage `json:",omitempty"`
	}
	trivyOS struct {
		Family string
		Name   string
	}
	trivyImage struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		Created      string `json:"created,omitempty"`
	}
	trivyResult struct {
		Target            string
		Class             string
		Type              string                  `json:",omitempty"`
		MisconfSummary    *trivySummary           `json:",omitempty"`
		Vulnerabilities   []trivyVulnerability    `json:",omitempty"`
		Misconfigurations []trivyMisconfiguration `json:",omitempty"`
		Secrets           []trivySecret           `json:",omitempty"`
		Modified          []trivyModified         `json:"ExperimentalModifiedFindings,omitempty"`
	}
	trivySummary struct {
		Successes int
		Failures  int
	}
	// trivyModified is a finding that somebody accepted.
	trivyModified struct {
		Type      string
		Status    string
		Statement string
		Source    string
		Finding   any
	}
	trivyLayer struct {
		Digest string `json:",omitempty"`
		DiffID string `json:",omitempty"`
	}
	trivyVulnerability struct {
		VulnerabilityID  string
		PkgName          string
		PkgPath          string          `json:",omitempty"`
		PkgIdentifier    trivyIdentifier `json:",omitzero"`
		InstalledVersion string
		FixedVersion     string `json:",omitempty"`
		Status           string
		Layer            trivyLayer
		SeveritySource   string `json:",omitempty"`
		PrimaryURL       string `json:",omitempty"`
		Fingerprint      string
		Title            string `json:",omitempty"`
		Description      string `json:",omitempty"`
		Severity         string
		CweIDs           []string             `json:",omitempty"`
		CVSS             map[string]trivyCVSS `json:",omitempty"`
		References       []string             `json:",omitempty"`
		PublishedDate    *time.Time           `json:",omitempty"`
		LastModifiedDate *time.Time           `json:",omitempty"`
	}
	trivyIdentifier struct {
		PURL string `json:",omitempty"`
	}
	trivyCVSS struct {
		V2Vector  string  `json:",omitempty"`
		V3Vector  string  `json:",omitempty"`
		V40Vector string  `json:",omitempty"`
		V2Score   float64 `json:",omitempty"`
		V3Score   float64 `json:",omitempty"`
		V40Score  float64 `json:",omitempty"`
	}
	trivyMisconfiguration struct {
		Type          string
		ID            string
		Title         string
		Description   string
		Message       string
		Resolution    string
		Severity      string
		Status        string
		Layer         trivyLayer
		CauseMetadata trivyCause
	}
	trivyCause struct {
		Resource  string `json:",omitempty"`
		Provider  string
		Service   string
		StartLine int `json:",omitempty"`
		EndLine   int `json:",omitempty"`
	}
)

// Classes of results.
const (
	trivyOSPackages   = "os-pkgs"
	trivyLangPackages = "lang-pkgs"
	trivyConfig       = "config"
	trivySecretClass  = "secret"
)

func writeTrivy(w io.Writer, reports []Report, _ Options) error {
	out := trivyReport{SchemaVersion: 2, ArtifactType: "filesystem", Results: []trivyResult{}}
	var names []string
	for i := range reports {
		r := &reports[i]
		names = append(names, r.title())
		if r.Inventory.Image != nil {
			out.ArtifactType = "container_image"
		}
		out.CreatedAt = r.Made.UTC().Format(time.RFC3339)
		out.Results = append(out.Results, trivyVulnerabilities(r)...)
		out.Results = append(out.Results, trivyFaults(r)...)
		out.Results = append(out.Results, trivySecrets(r)...)
	}
	out.ArtifactName = strings.Join(names, ", ")
	if len(reports) == 1 {
		out.Metadata = trivyMetadataOf(&reports[0].Inventory)
	}
	return encode(w, out)
}

func trivyMetadataOf(inv *inventory.Inventory) trivyMetadata {
	var m trivyMetadata
	if inv.OS.ID != "" {
		m.OS = &trivyOS{inv.OS.ID, inv.OS.Version}
	}
	i := inv.Image
	if i == nil {
		return m
	}
	m.ImageID = i.ID
	for _, l := range i.Layers {
		if l.DiffID != "" {
			m.DiffIDs = append(m.DiffIDs, l.DiffID)
		}
	}
	name, _, _ := strings.Cut(i.Reference, "@")
	if name != "" {
		m.RepoTags = []string{name}
		if i.Digest != "" {
			if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
				name = name[:at]
			}
			m.RepoDigests = []string{name + "@" + i.Digest}
		}
	}
	m.ImageConfig = &trivyImage{Architecture: i.Platform.Architecture, OS: i.Platform.OS}
	if !i.Created.IsZero() {
		m.ImageConfig.Created = i.Created.UTC().Format(time.RFC3339)
	}
	return m
}

// trivyTarget is a result of packages: those of the system, or those of a language
// that are in one file or were found one by one.
type trivyTarget struct{ target, class, typ string }

func trivyVulnerabilities(r *Report) []trivyResult {
	by := map[trivyTarget]*trivyResult{}
	var order []trivyTarget
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		t := trivyTargetOf(r, &v.Package)
		res := by[t]
		if res == nil {
			res = &trivyResult{Target: t.target, Class: t.class, Type: t.typ}
			by[t] = res
			order = append(order, t)
		}
		one := trivyVulnerabilityOf(r, v)
		if a := v.Accepted; a != nil {
			res.Modified = append(res.Modified, trivyModified{"vulnerability", "ignored", a.Reason, a.By, one})
			continue
		}
		res.Vulnerabilities = append(res.Vulnerabilities, one)
	}
	out := make([]trivyResult, 0, len(order))
	for _, t := range order {
		out = append(out, *by[t])
	}
	slices.SortStableFunc(out, func(a, b trivyResult) int {
		return cmp.Or(-cmp.Compare(a.Class, b.Class), cmp.Compare(a.Target, b.Target))
	})
	return out
}

func trivyTargetOf(r *Report, p *inventory.Package) trivyTarget {
	if p.FromDistribution() {
		os := r.Inventory.OS
		name := r.title()
		if os.ID != "" {
			name += " (" + strings.TrimSpace(os.ID+" "+os.Version) + ")"
		}
		return trivyTarget{name, trivyOSPackages, firstOf(os.ID, p.Namespace, p.Type)}
	}
	file := trivyPath(p)
	types := map[string][2]string{"npm": {"node-pkg", "npm"}, "pypi": {"python-pkg", "pip"}, "golang": {"gobinary", "gomod"}, "maven": {"jar", "pom"}, "gem": {"gemspec", "bundler"},
		"cargo": {"rustbinary", "cargo"}, "nuget": {"dotnet-core", "nuget"}, "composer": {"composer-vendor", "composer"}}
	names := map[string]string{"npm": "Node.js", "pypi": "Python", "gem": "Ruby", "maven": "Java"}
	typ, known := types[p.Type]
	switch {
	case !known:
		return trivyTarget{firstOf(file, r.title()), trivyLangPackages, p.Type}
	case p.Found == inventory.Declared:
		return trivyTarget{firstOf(file, r.title()), trivyLangPackages, typ[1]}
	case names[p.Type] != "":
		return trivyTarget{names[p.Type], trivyLangPackages, typ[0]}
	}
	return trivyTarget{firstOf(file, r.title()), trivyLangPackages, typ[0]}
}

func trivyPath(p *inventory.Package) string {
	if len(p.Places) == 0 {
		return ""
	}
	return strings.TrimPrefix(p.Places[0].Path, "/")
}

func trivyVulnerabilityOf(r *Report, v *finding.Vulnerability) trivyVulnerability {
	p := &v.Package
	one := trivyVulnerability{
		VulnerabilityID: v.ID, PkgName: p.FullName(), PkgIdentifier: trivyIdentifier{p.PURL(r.Inventory.OS)}, InstalledVersion: p.Version, FixedVersion: v.Fixed,
		Status: trivyStatus(v.State), SeveritySource: v.SeverityBy, Fingerprint: v.Fingerprint, Title: clip(v.Summary, 200), Description: v.Summary,
		Severity: trivySeverity(v.Severity), CweIDs: v.Weaknesses, References: links(v.References),
	}
	if !p.FromDistribution() {
		one.PkgPath = trivyPath(p)
	}
	if len(p.Places) > 0 {
		one.Layer = trivyLayerOf(r, p.Places[0].Layer)
	}
	if len(one.References) > 0 {
		one.PrimaryURL = one.References[0]
	}
	for _, s := range v.Scores {
		if one.CVSS == nil {
			one.CVSS = map[string]trivyCVSS{}
		}
		by := firstOf(s.By, "nvd")
		c := one.CVSS[by]
		switch {
		case strings.HasPrefix(s.Version, "2"):
			c.V2Vector, c.V2Score = s.Vector, s.Base
		case strings.HasPrefix(s.Version, "3"):
			c.V3Vector, c.V3Score = s.Vector, s.Base
		case strings.HasPrefix(s.Version, "4"):
			c.V40Vector, c.V40Score = s.Vector, s.Base
		}
		one.CVSS[by] = c
	}
	if !v.Published.IsZero() {
		one.PublishedDate = &v.Published
	}
	if !v.Modified.IsZero() {
		one.LastModifiedDate = &v.Modified
	}
	return one
}

func trivyLayerOf(r *Report, layer int) trivyLayer {
	if i := r.Inventory.Image; i != nil && layer > 0 && layer <= len(i.Layers) {
		return trivyLayer{i.Layers[layer-1].Digest, i.Layers[layer-1].DiffID}
	}
	return trivyLayer{}
}

func trivySeverity(s finding.Severity) string {
	if s == finding.Negligible {
		return "LOW" // its readers know no less
	}
	return strings.ToUpper(s.String())
}

func trivyStatus(s finding.State) string {
	switch s {
	case finding.Fixable:
		return "fixed"
	case finding.Deferred:
		return "fix_deferred"
	case finding.WontFix:
		return "will_not_fix"
	case finding.EndOfLife:
		return "end_of_life"
	case finding.UnderInvestigation:
		return "under_investigation"
	case finding.NotAffected:
		return "not_affected"
	}
	return "affected"
}

// trivyFaults are results by file, or one for the image.
func trivyFaults(r *Report) []trivyResult {
	var out []trivyResult
	for _, m := range r.sortedFaults() {
		target := firstOf(m.File, r.title())
		if len(out) == 0 || out[len(out)-1].Target != target {
			out = append(out, trivyResult{Target: target, Class: trivyConfig, Type: trivyTypeOf(m), MisconfSummary: &trivySummary{}})
		}
		res := &out[len(out)-1]
		one := trivyMisconfiguration{
			Type: "Castellan Security Check", ID: m.Check, Title: m.Title, Description: trivyDescription(m), Message: faultOwner(m) + ": " + m.Evidence, Resolution: m.Remedy,
			Severity: trivySeverity(m.Severity), Status: "FAIL", Layer: trivyLayerOf(r, m.Layer),
			CauseMetadata: trivyCause{Resource: m.Resource, Provider: trivyProvider(m), Service: trivyService(m), StartLine: m.Start.Line, EndLine: m.End.Line},
		}
		if a := m.Accepted; a != nil {
			res.Modified = append(res.Modified, trivyModified{"misconfiguration", "ignored", a.Reason, a.By, one})
			continue
		}
		res.MisconfSummary.Failures++
		res.Misconfigurations = append(res.Misconfigurations, one)
	}
	return out
}

// trivyDescription says why it is a fault, and its names elsewhere: references are
// links for those who read these reports.
func trivyDescription(m *finding.Misconfiguration) string {
	names := m.Elsewhere.Names()
	if len(names) == 0 {
		return m.Why
	}
	return m.Why + " Elsewhere: " + strings.Join(names, ", ") + "."
}

// trivyTypeOf names the kind of document, by its name.
func trivyTypeOf(m *finding.Misconfiguration) string {
	switch {
	case m.File == "" || strings.HasPrefix(m.Check, "CAST-IMAGE-"):
		return "dockerfile"
	case path.Ext(m.File) == ".tf" || strings.HasSuffix(m.File, ".tf.json") || strings.Contains(m.Resource, "aws_"):
		return "terraform"
	case strings.HasPrefix(m.Resource, "Resources."):
		return "cloudformation"
	case path.Ext(m.File) == ".json":
		return "json"
	}
	return "yaml"
}

func trivyProvider(m *finding.Misconfiguration) string {
	if strings.HasPrefix(m.Check, "CAST-IMAGE-") || strings.HasPrefix(m.Resource, "services.") {
		return "Docker"
	}
	return "AWS"
}

func trivyService(m *finding.Misconfiguration) string {
	switch {
	case strings.HasPrefix(m.Check, "CAST-ROLE-"):
		return "iam"
	case trivyProvider(m) == "Docker":
		return "general"
	}
	return "ecs"
}
