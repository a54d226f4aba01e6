// Package report writes what scans found in the forms that people and other
// programs read. It is not for deciding anything: what is shown, accepted or
// refused was decided before.
//
// All texts of packages, advisories and images are untrusted: each form escapes
// them in its own way.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Report is what one scan of one subject concluded.
type Report struct {
	Inventory inventory.Inventory `json:"inventory"`
	// Vulnerabilities are in the order in which they matter; accepted ones are
	// among them.
	Vulnerabilities []finding.Vulnerability `json:"vulnerabilities"`
	// Misconfigurations are what is set wrongly in the image, or in documents;
	// accepted ones are among them.
	Misconfigurations []finding.Misconfiguration `json:"misconfigurations,omitempty"`
	Documents         *Documents                 `json:"documents,omitempty"` // that were read
	Since             *Since                     `json:"since,omitempty"`     // what is left out
	Database          Database                   `json:"database,omitzero"`
	// Secrets are in the order in which they matter, accepted and known ones among
	// them; nil if none were looked for.
	Secrets []finding.Secret `json:"secrets,omitzero"`
	// Malware is in the order in which it matters, accepted and known one among it;
	// nil if none was looked for.
	Malware []finding.Malware `json:"malware,omitzero"`
	// SaltID names the salt with which their fingerprints were made.
	SaltID string `json:"secret_salt,omitempty"`
	// Gaps are the packages of which nothing can be said: silence about them
	// means nothing.
	Gaps []Gap `json:"gaps,omitempty"`
	// Unmaintained says that the system gets no fixes any more, and that silence
	// means little.
	Unmaintained *Unmaintained `json:"unmaintained,omitempty"`

	Gate *Gate     `json:"gate,omitempty"`
	Made time.Time `json:"made"`
}

// Database says with which advisories the inventory was matched; the zero value
// that it was not.
type Database struct {
	Built   time.Time        `json:"built"`
	Seed    bool             `json:"seed,omitempty"` // came with the program
	Sources []DatabaseSource `json:"sources,omitempty"`
}

// DatabaseSource is one feed in the database.
type DatabaseSource struct {
	Name        string    `json:"name"`
	Newest      time.Time `json:"newest,omitzero"` // its newest change
	Attribution string    `json:"attribution,omitempty"`
}

// Gap is why packages could not be compared with advisories, and how many.
type Gap struct {
	Why       string   `json:"why"`
	Ecosystem string   `json:"ecosystem,omitempty"`
	Packages  int      `json:"packages"`
	Examples  []string `json:"examples,omitempty"` // the first few
}

// Unmaintained says since when a release of a distribution gets no fixes.
type Unmaintained struct {
	System string    `json:"system"`
	Since  time.Time `json:"since"` // the last day on which it got some
	// Known is the day on which that was known.
	Known string `json:"known"`
	// Subscribers says that who pays for it still gets fixes.
	Subscribers bool `json:"subscribers,omitempty"`
}

// unmaintained says so in words, "" if it is not so.
func (r *Report) unmaintained() string {
	u := r.Unmaintained
	if u == nil {
		return ""
	}
	whom := ""
	if u.Subscribers {
		whom = " but for subscribers"
	}
	return fmt.Sprintf("%s has had no fixes since %s%s (as known on %s): what was found after that may be in it and not here",
		u.System, u.Since.Format(time.DateOnly), whom, u.Known)
}

// notCompared says of each reason how many packages of what it is, most first.
func (r *Report) notCompared() []string {
	var order []string
	by := map[string][]Gap{}
	for _, g := range r.Gaps {
		if by[g.Why] == nil {
			order = append(order, g.Why)
		}
		by[g.Why] = append(by[g.Why], g)
	}
	var lines []string
	for _, why := range order {
		slices.SortStableFunc(by[why], func(a, b Gap) int { return b.Packages - a.Packages })
		var parts []string
		for i, g := range by[why] {
			if i == maxGaps {
				parts = append(parts, fmt.Sprintf("%d more kinds", len(by[why])-maxGaps))
				break
			}
			parts = append(parts, fmt.Sprintf("%d of %s", g.Packages, firstOf(g.Ecosystem, "unknown kind")))
		}
		lines = append(lines, strings.Join(parts, ", ")+": "+why)
	}
	return lines
}

// maxGaps is how many kinds of package a person is told of for one reason.
const maxGaps = 6

// Newest returns the newest change of any source.
func (d Database) Newest() time.Time {
	var newest time.Time
	for _, s := range d.Sources {
		if s.Newest.After(newest) {
			newest = s.Newest
		}
	}
	return newest
}

// Gate is what the scan was held against.
type Gate struct {
	// Rule is what was demanded, in words: "nothing high or worse".
	Rule string `json:"rule"`
	// Violations are the fingerprints of findings that break it.
	Violations []string `json:"violations"`
	// Problems of the inventory break it too, as they are in words: what could not
	// be read can't be judged. Those that don't count are not among them.
	Problems []string `json:"problems,omitempty"`
}

// Passed says that nothing breaks the rule.
func (g *Gate) Passed() bool { return g == nil || len(g.Violations)+len(g.Problems) == 0 }

// counts says whether a problem breaks the rule.
func (g *Gate) counts(p *inventory.Problem) bool {
	return g != nil && slices.Contains(g.Problems, p.String())
}

// broken says in words by how much of what it is broken.
func (g *Gate) broken() string {
	var parts []string
	if n := len(g.Violations); n > 0 {
		parts = append(parts, plural(n, "finding"))
	}
	if n := len(g.Problems); n > 0 {
		parts = append(parts, fmt.Sprintf("%d that could not be read", n))
	}
	return strings.Join(parts, " and ")
}

// uncounted says of what could not be read and breaks no rule that it does not;
// "" if there is no such thing, or no rule.
func (r *Report) uncounted() string {
	if r.Gate == nil {
		return ""
	}
	n := len(r.Inventory.Problems) - len(r.Gate.Problems)
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("%d could not be read, and nothing is known of them; unreadable in --fail-on or fail_on makes them count", n)
}

// Options are what every form is told.
type Options struct {
	// Tool and Version name the program that writes.
	Tool, Version string
	// Colour is for a terminal; Width its columns, 0 unlimited.
	Colour bool
	Width  int
	// All shows each vulnerability in forms for people, not only the groups.
	All bool
	// Category is what GitHub shall call the results; empty: by the subject.
	Category string
	// Compare orders versions of an ecosystem: negative when a is lower.
	Compare func(ecosystem, a, b string) int
}

// Format is a form in which reports can be written.
type Format string

// The forms.
const (
	Table     Format = "table"
	JSON      Format = "json"
	SARIF     Format = "sarif"
	JUnit     Format = "junit"
	CycloneDX Format = "cyclonedx"
	SPDX      Format = "spdx"
	OpenVEX   Format = "openvex"
	Markdown  Format = "markdown"
	HTML      Format = "html"
	Trivy     Format = "trivy"
	// SARIFGitHub is SARIF as GitHub's code scanning can use it.
	SARIFGitHub Format = "sarif-github"
	// GitHub are annotations of a workflow's run.
	GitHub Format = "github"
	// The reports that GitLab takes of its jobs.
	GitLabContainer Format = "gitlab-container-scanning"
	GitLabSecret    Format = "gitlab-secret-detection"
	GitLabQuality   Format = "gitlab-codequality"
	// Env are the verdict and the numbers, for scripts.
	Env Format = "env"
)

// Formats lists the forms.
func Formats() []Format {
	return []Format{Table, JSON, SARIF, JUnit, CycloneDX, SPDX, OpenVEX, Markdown, HTML, Trivy, SARIFGitHub, GitHub, GitLabContainer, GitLabSecret, GitLabQuality, Env}
}

// ParseFormat returns the form of that name.
func ParseFormat(name string) (Format, error) {
	if f := Format(strings.ToLower(name)); slices.Contains(Formats(), f) {
		return f, nil
	}
	names := make([]string, 0, len(Formats()))
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return "", fmt.Errorf("format %q: want %s", name, strings.Join(names, ", "))
}

// writers say who writes what.
var writers = map[Format]func(io.Writer, []Report, Options) error{
	Table: writeTable, JSON: writeJSON, SARIF: writeSARIF, JUnit: writeJUnit, CycloneDX: writeCycloneDX,
	SPDX: writeSPDX, OpenVEX: writeOpenVEX, Markdown: writeMarkdown, HTML: writeHTML, Trivy: writeTrivy,
	SARIFGitHub: writeSARIFGitHub, GitHub: writeGitHub, GitLabContainer: writeGitLabContainer, GitLabSecret: writeGitLabSecret,
	GitLabQuality: writeGitLabQuality, Env: writeEnv,
}

// Write writes reports. For CycloneDX and SPDX, which describe one subject,
// several become a JSON array of documents.
func Write(w io.Writer, f Format, reports []Report, o Options) error {
	write, ok := writers[f]
	if !ok {
		return fmt.Errorf("no such format: %q", f)
	}
	if err := write(w, reports, o); err != nil {
		return fmt.Errorf("write %s: %w", f, err)
	}
	return nil
}

// title names the subject as a person would.
func (r *Report) title() string {
	if i := r.Inventory.Image; i != nil && i.Reference != "" {
		return i.Reference
	}
	return r.Inventory.Subject.Name
}

// aboutOf says what kind of thing an inventory is of, with its digest as shown.
func aboutOf(inv *inventory.Inventory, shown func(digest string) string) []string {
	var out []string
	if i := inv.Image; i != nil {
		if i.Platform.OS != "" {
			out = append(out, i.Platform.String())
		}
		if d := firstOf(i.Digest, i.ID); d != "" {
			out = append(out, shown(d))
		}
		if len(i.Layers) > 0 { // a bill of materials may not tell
			out = append(out, plural(len(i.Layers), "layer"))
		}
	}
	out = append(out, firstOf(inv.OS.Name, inv.OS.ID, "no operating system"), plural(len(inv.Packages), "package"))
	if inv.Subject.Kind == inventory.KindSBOM {
		out = append(out, "as "+inv.Subject.Name+" tells")
	}
	return out
}

// counts are how many vulnerabilities there are of each severity, accepted ones
// apart.
type counts struct {
	by                                   [finding.Critical + 1]int
	Shown, Fixable, KEV, Accepted, InUse int
}

func (r *Report) counts() counts {
	var c counts
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		if v.Accepted != nil {
			c.Accepted++
			continue
		}
		c.Shown++
		c.by[min(v.Severity, finding.Critical)]++
		if v.Fixed != "" {
			c.Fixable++
		}
		if v.KEV != nil {
			c.KEV++
		}
		if v.InUse {
			c.InUse++
		}
	}
	return c
}

// worstFirst lists the severities from the gravest on.
func worstFirst() []finding.Severity {
	return []finding.Severity{finding.Critical, finding.High, finding.Medium, finding.Low, finding.Negligible, finding.Unknown}
}

// inWords is "2 critical, 7 high".
func (c counts) inWords() string {
	var parts []string
	for _, s := range worstFirst() {
		if c.by[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.by[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// plural is "1 package", "2 packages".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	if stem, ok := strings.CutSuffix(one, "ity"); ok {
		return fmt.Sprintf("%d %sities", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, one)
}
