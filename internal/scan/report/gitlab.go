package report

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// GitLab's security reports, as its published schemas have them. It names its
// schema's version, and takes every patch of one that it knows.
const (
	gitlabSchema = "15.0.6"
	// What the schemas and GitLab's reader bound, in characters and in entries.
	gitlabName        = 255
	gitlabSolution    = 7_000
	gitlabIdentifiers = 20
	gitlabNoCommit    = "0000000" // where a secret is in none, as GitLab's own scanner says
)

type (
	gitlabReport struct {
		Version         string       `json:"version"`
		Scan            gitlabScan   `json:"scan"`
		Vulnerabilities []gitlabFind `json:"vulnerabilities"`
	}
	gitlabScan struct {
		Analyzer gitlabTool      `json:"analyzer"`
		Scanner  gitlabTool      `json:"scanner"`
		Type     string          `json:"type"`
		Start    string          `json:"start_time"`
		End      string          `json:"end_time"`
		Status   string          `json:"status"`
		Messages []gitlabMessage `json:"messages,omitempty"`
	}
	gitlabTool struct {
		ID      string       `json:"id"`
		Name    string       `json:"name"`
		Version string       `json:"version"`
		Vendor  gitlabVendor `json:"vendor"`
	}
	gitlabVendor struct {
		Name string `json:"name"`
	}
	gitlabMessage struct {
		Level string `json:"level"`
		Value string `json:"value"`
	}
	gitlabFind struct {
		ID          string             `json:"id"`
		Name        string             `json:"name"`
		Description string             `json:"description"` // in GitLab's Markdown
		Severity    string             `json:"severity"`
		Solution    string             `json:"solution,omitempty"`
		Identifiers []gitlabIdentifier `json:"identifiers"`
		Links       []gitlabLink       `json:"links,omitempty"`
		Location    any                `json:"location"`
	}
	gitlabIdentifier struct {
		Type  string `json:"type"`
		Name  string `json:"name"`
		Value string `json:"value"`
		URL   string `json:"url,omitempty"`
	}
	gitlabLink struct {
		URL string `json:"url"`
	}
	gitlabPackage struct {
		Dependency gitlabDependency `json:"dependency"`
		OS         string           `json:"operating_system"`
		Image      string           `json:"image"`
	}
	gitlabDependency struct {
		Package gitlabVendor `json:"package"`
		Version string       `json:"version"`
	}
	gitlabPlace struct {
		File   string       `json:"file"`
		Start  int          `json:"start_line,omitempty"`
		End    int          `json:"end_line,omitempty"`
		Commit gitlabCommit `json:"commit"`
	}
	gitlabCommit struct {
		SHA    string `json:"sha"`
		Author string `json:"author,omitempty"`
		Date   string `json:"date,omitempty"`
	}
)

// writeGitLabContainer writes the vulnerabilities as artifacts:reports:
// container_scanning takes them. What is accepted is left out: GitLab keeps its own
// account of what was dismissed.
func writeGitLabContainer(w io.Writer, reports []Report, o Options) error {
	out := gitlabReportOf("container_scanning", reports, o)
	for i := range reports {
		r := &reports[i]
		for j := range r.Vulnerabilities {
			if v := &r.Vulnerabilities[j]; v.Accepted == nil {
				out.Vulnerabilities = append(out.Vulnerabilities, r.gitlabVulnerability(v))
			}
		}
	}
	return encode(w, out)
}

// writeGitLabSecret writes the secrets as artifacts:reports:secret_detection takes
// them: without those that are accepted, known before or doubtful.
func writeGitLabSecret(w io.Writer, reports []Report, o Options) error {
	out := gitlabReportOf("secret_detection", reports, o)
	for i := range reports {
		r := &reports[i]
		names := r.secretIdentities()
		for j := range r.Secrets {
			if s := &r.Secrets[j]; s.Counts() && s.Severity >= leastShown {
				out.Vulnerabilities = append(out.Vulnerabilities, r.gitlabSecret(s, names[j]))
			}
		}
	}
	return encode(w, out)
}

func gitlabReportOf(kind string, reports []Report, o Options) gitlabReport {
	tool := gitlabTool{ID: o.Tool, Name: capital(o.Tool), Version: firstOf(o.Version, "unknown"), Vendor: gitlabVendor{capital(o.Tool)}}
	out := gitlabReport{Version: gitlabSchema, Vulnerabilities: []gitlabFind{}, Scan: gitlabScan{Analyzer: tool, Scanner: tool, Type: kind, Status: "success"}}
	var made time.Time
	for i := range reports {
		r := &reports[i]
		if r.Made.After(made) {
			made = r.Made
		}
		said := func(text string) {
			out.Scan.Messages = append(out.Scan.Messages, gitlabMessage{"warn", untrusted.Text(text)})
		}
		for n := range r.Inventory.Problems {
			if n == maxProblems {
				said(fmt.Sprintf("%d more could not be read", len(r.Inventory.Problems)-maxProblems))
				break
			}
			said("could not be read: " + r.Inventory.Problems[n].String())
		}
		if text := r.unmaintained(); text != "" {
			said(text)
		}
	}
	out.Scan.Start = made.UTC().Format("2006-01-02T15:04:05") // the form that the schema asks for
	out.Scan.End = out.Scan.Start
	return out
}

func (r *Report) gitlabVulnerability(v *finding.Vulnerability) gitlabFind {
	os := &r.Inventory.OS
	f := gitlabFind{
		ID: r.gitlabID(v.Fingerprint), Name: clipRunes(untrusted.Text(v.ID), gitlabName),
		Description: markdown(firstOf(v.Summary, v.ID+" in "+v.Package.FullName())),
		Severity:    gitlabSeverity(v.Severity), Solution: clipRunes(untrusted.Text(v.Remedy), gitlabSolution), Identifiers: identifiersOf(v),
		Location: gitlabPackage{Dependency: gitlabDependency{gitlabVendor{v.Package.FullName()}, v.Package.Version}, Image: firstOf(r.title(), "image"),
			OS: firstOf(strings.TrimSpace(os.ID+" "+os.Version), os.Name, "unknown")},
	}
	for _, l := range links(v.References) {
		f.Links = append(f.Links, gitlabLink{l})
	}
	return f
}

// identifiersOf are the names of a weakness, the one by which GitLab knows it
// again first.
func identifiersOf(v *finding.Vulnerability) []gitlabIdentifier {
	var all []gitlabIdentifier
	for _, id := range append([]string{v.ID}, v.Aliases...) {
		kind, _, _ := strings.Cut(strings.ToLower(id), "-")
		named := gitlabIdentifier{Type: firstOf(untrusted.Text(kind), "advisory"), Name: firstOf(untrusted.Text(id), "unnamed"), Value: firstOf(id, "unnamed")}
		switch kind {
		case "cve":
			named.URL = "https://nvd.nist.gov/vuln/detail/" + escapeURL(id)
		case "ghsa":
			named.URL = "https://github.com/advisories/" + escapeURL(id)
		}
		all = append(all, named)
	}
	for _, w := range v.Weaknesses {
		if number, ok := strings.CutPrefix(w, "CWE-"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
			all = append(all, gitlabIdentifier{"cwe", w, number, "https://cwe.mitre.org/data/definitions/" + number + ".html"})
		}
	}
	return all[:min(len(all), gitlabIdentifiers)]
}

func (r *Report) gitlabSecret(s *finding.Secret, name string) gitlabFind {
	at := gitlabPlace{File: strings.TrimPrefix(firstOf(s.Path, r.where(s)), "/"), Start: s.Line, End: s.Line, Commit: gitlabCommit{SHA: gitlabNoCommit}}
	if c := s.Commit; c != nil && c.Hash != "" {
		at.Commit = gitlabCommit{SHA: c.Hash, Author: untrusted.Text(c.Author)}
		if !c.When.IsZero() {
			at.Commit.Date = c.When.UTC().Format(time.RFC3339)
		}
	}
	return gitlabFind{
		ID: r.gitlabID(name), Name: clipRunes(s.Title, gitlabName), Description: markdown(r.secretInWords(s)), Severity: gitlabSeverity(s.Severity),
		Solution:    clipRunes(capital(s.Remedy), gitlabSolution),
		Identifiers: []gitlabIdentifier{{Type: "castellan_rule", Name: "Castellan rule " + s.Rule, Value: firstOf(s.Rule, "secret")}}, Location: at,
	}
}

// gitlabID is a UUID of version 8 (RFC 9562, 5.8) made of the subject and the
// finding's fingerprint: the same finding has the same in the next pipeline.
func (r *Report) gitlabID(fingerprint string) string {
	sum := sha256.Sum256([]byte(r.lasting() + "\x00" + fingerprint))
	return uuidFrom(sum[:16])
}

func gitlabSeverity(s finding.Severity) string {
	return [...]string{"Unknown", "Info", "Low", "Medium", "High", "Critical"}[min(s, finding.Critical)]
}

// clipRunes leaves at most n characters.
func clipRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	if all := []rune(s); len(all) > n {
		return string(all[:n-1]) + "…"
	}
	return s
}
