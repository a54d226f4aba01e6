package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// SARIF 2.1.0 (OASIS), as far as it is used here. The libraries for it carry a
// validator into the program, which this does not need.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool `json:"tool"`
		Automation *sarifID  `json:"automationDetails,omitempty"`
		// Invocations have what could not be read, as notifications.
		Invocations []sarifInvocation `json:"invocations,omitempty"`
		Results     []sarifResult     `json:"results"`
		Properties  map[string]any    `json:"properties,omitempty"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifID struct {
		ID string `json:"id"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID         string         `json:"id"`
		Name       string         `json:"name"`
		Short      sarifText      `json:"shortDescription"`
		Help       sarifHelp      `json:"help"`
		HelpURI    string         `json:"helpUri,omitempty"`
		Default    sarifLevel     `json:"defaultConfiguration"`
		Properties map[string]any `json:"properties"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifHelp struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Properties   map[string]any     `json:"properties"`
		severity     finding.Severity
		lasting      string // what GitHub knows it again by, if not the fingerprint
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
		Message  *sarifText     `json:"message,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
		EndLine   int `json:"endLine,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"name"`
		Full string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)

const sarifSchema = "https://json.schemastore.org/sarif-2.1.0.json"

func writeSARIF(w io.Writer, reports []Report, o Options) error {
	return encode(w, sarifLogOf(reports, o))
}

func sarifLogOf(reports []Report, o Options) sarifLog {
	log := sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{}}
	ids := categories(reports, o.Category)
	for i := range reports {
		log.Runs = append(log.Runs, sarifRunOf(&reports[i], ids[i], o))
	}
	return log
}

func sarifRunOf(r *Report, id string, o Options) sarifRun {
	run := sarifRun{
		Tool:       sarifTool{sarifDriver{Name: o.Tool, Version: o.Version, Rules: []sarifRule{}}},
		Automation: &sarifID{id},
		Results:    []sarifResult{},
		Properties: map[string]any{"subject": r.title()},
	}
	if i := r.Inventory.Image; i != nil {
		run.Properties["imageDigest"], run.Properties["imageID"] = i.Digest, i.ID
	}
	rules := map[string]int{}
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		n := run.rule(rules, v.ID, func() sarifRule { return sarifRuleOf(v) })
		run.Results = append(run.Results, sarifResultOf(v, n))
	}
	run.addFaults(r)
	run.sarifSecrets(r)
	run.sarifMalware(r)
	run.addProblems(r)
	run.locate(r)
	return run
}

// rule returns the place of a rule in the run, which is added when it is met
// first; have are those of its kind.
func (run *sarifRun) rule(have map[string]int, id string, describe func() sarifRule) int {
	n, ok := have[id]
	if !ok {
		n = len(run.Tool.Driver.Rules)
		have[id] = n
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, describe())
	}
	return n
}

// categories name what was scanned, each report by another name. GitHub takes what
// stands before the last slash for the category, of which a later upload takes the
// place of the one before, and refuses a file in which two runs have one: it must
// be the same for the next version, and another for documents than for images and
// for each image, which may each be uploaded by a job of its own. given is what a
// user calls them instead.
func categories(reports []Report, given string) []string {
	ids := make([]string, len(reports))
	seen := map[string]int{}
	for i := range reports {
		r := &reports[i]
		category := firstOf(given, "castellan/"+string(r.Inventory.Subject.Kind))
		if name := r.lasting(); name != "." && (given == "" || len(reports) > 1) {
			category += "/" + name
		}
		if seen[category]++; seen[category] > 1 {
			category += fmt.Sprintf("-%d", seen[category])
		}
		ids[i] = category + "/" + oneWord(r.title())
	}
	return ids
}

// lasting is the name of a subject without what changes from one version to the
// next: of an image its repository and platform.
func (r *Report) lasting() string {
	name := r.title()
	if r.Inventory.Subject.Kind == inventory.KindHistory {
		name, _, _ = strings.Cut(name, " (") // how many commits there are
	}
	if repository := r.repository(); repository != "" {
		name = repository
		if i := r.Inventory.Image; i.Platform.Architecture != "" {
			name += "_" + i.Platform.String()
		}
	}
	return oneWord(name)
}

// repository is the reference of an image without tag and digest, "" of what is no
// image or has no reference.
func (r *Report) repository() string {
	i := r.Inventory.Image
	if i == nil || i.Reference == "" {
		return ""
	}
	name, _, _ := strings.Cut(i.Reference, "@")
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		name = name[:at]
	}
	return name
}

// oneWord is a name without slashes, which part a category.
func oneWord(name string) string { return strings.ReplaceAll(name, "/", "_") }

// unreadable is the rule of what could not be read.
const unreadable = "castellan/unreadable"

// addProblems tells what could not be read, and that a system gets no fixes: as
// notifications, and what breaks the gate as results of a rule of its own.
func (run *sarifRun) addProblems(r *Report) {
	told := sarifInvocation{Successful: true}
	if u := r.unmaintained(); u != "" {
		told.Notifications = append(told.Notifications, sarifNotification{Level: "warning", Message: sarifText{u}})
	}
	if len(r.Inventory.Problems)+len(told.Notifications) == 0 {
		return
	}
	rule := -1
	for i := range r.Inventory.Problems {
		p := &r.Inventory.Problems[i]
		n := sarifNotification{Level: "warning", Message: sarifText{p.String()}}
		if p.Path != "" {
			n.Locations = []sarifLocation{{Physical: sarifFile(p.Path)}}
		}
		if r.Gate.counts(p) {
			n.Level = "error"
			if rule < 0 {
				rule = len(run.Tool.Driver.Rules)
				run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
					ID: unreadable, Name: "Unreadable", Short: sarifText{"What could not be read cannot be judged"},
					Help:    sarifHelp{Text: "Repair or remove it, or take unreadable out of what the gate fails on.", Markdown: "Repair or remove it, or take `unreadable` out of what the gate fails on."},
					Default: sarifLevel{"error"}, Properties: map[string]any{"tags": []string{"security"}},
				})
			}
			run.Results = append(run.Results, sarifResult{RuleID: unreadable, RuleIndex: rule, Level: "error", Message: n.Message,
				Locations: slices.Clone(n.Locations), Fingerprints: map[string]string{"castellan/v1": p.String()}, Properties: map[string]any{}, severity: finding.Critical})
		}
		told.Notifications = append(told.Notifications, n)
	}
	run.Invocations = []sarifInvocation{told}
}

// sarifFile is where a file is; of a path that goes on within an archive, the
// archive, which a viewer can open.
func sarifFile(path string) sarifPhysical {
	file, _, _ := strings.Cut(path, "!")
	return sarifPhysical{sarifArtifact{uriPath(strings.TrimPrefix(file, "/"))}, sarifRegion{StartLine: 1}}
}

func sarifRuleOf(v *finding.Vulnerability) sarifRule {
	summary := firstOf(clip(v.Summary, 200), "Known vulnerability "+v.ID)
	rule := sarifRule{
		ID: v.ID, Name: "Vulnerability", Short: sarifText{summary},
		Help:    sarifHelp{Text: v.Remedy, Markdown: markdown(v.Remedy)},
		Default: sarifLevel{sarifLevelOf(v.Severity)},
		// GitHub sorts by security-severity, a CVSS score as text.
		Properties: map[string]any{"security-severity": securitySeverity(v), "tags": []string{"security", "vulnerability", v.Severity.String()}},
	}
	if l := links(v.References); len(l) > 0 {
		rule.HelpURI = l[0]
	}
	return rule
}

func sarifResultOf(v *finding.Vulnerability, rule int) sarifResult {
	p := &v.Package
	text := fmt.Sprintf("%s %s: %s. %s", p.FullName(), p.Version, v.ID, v.Remedy)
	res := sarifResult{
		RuleID: v.ID, RuleIndex: rule, Level: sarifLevelOf(v.Severity), Message: sarifText{text},
		Fingerprints: map[string]string{"castellan/v1": v.Fingerprint},
		Properties:   map[string]any{"state": v.State, "fixed": v.Fixed, "inUse": v.InUse, "exploited": v.KEV != nil},
		severity:     v.Severity,
	}
	for _, place := range p.Places {
		if place.Path == "" {
			continue
		}
		loc := sarifLocation{
			Physical: sarifFile(place.Path),
			Logical:  []sarifLogical{{Name: p.FullName(), Full: place.Path, Kind: "package"}},
		}
		if place.Layer > 0 {
			loc.Message = &sarifText{fmt.Sprintf("layer %d", place.Layer)}
		}
		res.Locations = append(res.Locations, loc)
	}
	if a := v.Accepted; a != nil {
		res.Suppressions = []sarifSuppression{{"external", "accepted", a.Reason}}
	}
	return res
}

// uriPath escapes a path for use as a relative URI.
func uriPath(p string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(p) {
		c := p[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/@+,=", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

func sarifLevelOf(s finding.Severity) string {
	switch s {
	case finding.Critical, finding.High:
		return "error"
	case finding.Medium:
		return "warning"
	}
	return "note"
}

// securitySeverity is the highest base score, or one that stands for the
// severity where nobody scored.
func securitySeverity(v *finding.Vulnerability) string {
	var most float64
	for _, s := range v.Scores {
		most = max(most, s.Base)
	}
	if most == 0 {
		most = [...]float64{0, 0.1, 3.9, 6.9, 8.9, 10}[min(v.Severity, finding.Critical)]
	}
	return fmt.Sprintf("%.1f", most)
}
