package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// githubAnnotations is how many of one kind GitHub shows of a step.
const githubAnnotations = 10

// annotation is what GitHub shows beside a line of a pull request, or above the job.
type annotation struct {
	severity finding.Severity
	breaks   bool
	file     string
	line     int
	title    string
	text     string
}

// writeGitHub writes commands of GitHub's workflows: an error for what breaks the
// gate, a warning for what is medium or graver, the gravest first. GitHub shows ten
// of each, so that there are no more.
func writeGitHub(w io.Writer, reports []Report, _ Options) error {
	var all []annotation
	for i := range reports {
		all = append(all, reports[i].annotations()...)
	}
	slices.SortStableFunc(all, func(a, b annotation) int { return cmp.Compare(b.severity, a.severity) })
	var b strings.Builder
	told, left := map[bool]int{}, 0
	for i := range all {
		a := &all[i]
		if told[a.breaks]++; told[a.breaks] > githubAnnotations {
			left++
			continue
		}
		b.WriteString(a.command())
	}
	if left > 0 {
		fmt.Fprintf(&b, "::notice title=Castellan::%d more are in the summary and the reports\n", left)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *annotation) command() string {
	word := "warning"
	if a.breaks {
		word = "error"
	}
	at := ""
	if a.file != "" {
		at = fmt.Sprintf("file=%s,line=%d,", inProperty(a.file), max(a.line, 1))
	}
	return fmt.Sprintf("::%s %stitle=%s::%s\n", word, at, inProperty(a.title), inMessage(a.text))
}

// inMessage and inProperty write a text as GitHub's runner reads it back, on one
// line: another line could be another command.
func inMessage(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(untrusted.Text(s))
}

func inProperty(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(inMessage(s))
}

// annotations are what breaks the gate, and of what has a place in the repository
// also what does not and is medium at least.
func (r *Report) annotations() (all []annotation) {
	breaks := map[string]bool{}
	if r.Gate != nil {
		for _, f := range r.Gate.Violations {
			breaks[f] = true
		}
	}
	// Files of an image are in no repository: a place there would lead nowhere.
	inRepository := r.Inventory.Image == nil && r.Inventory.Subject.Kind != inventory.KindRoot && r.Inventory.Subject.Kind != inventory.KindHost
	add := func(a annotation, fingerprint string) {
		if a.breaks = breaks[fingerprint]; !inRepository {
			a.file = ""
		}
		if a.breaks || a.file != "" && a.severity >= finding.Medium {
			a.file = strings.TrimPrefix(a.file, "/")
			all = append(all, a)
		}
	}
	for i := range r.Malware {
		if m := &r.Malware[i]; m.Counts() {
			add(annotation{severity: m.Severity, file: m.Path, title: m.Title, text: r.malwareInWords(m)}, m.Fingerprint)
		}
	}
	for i := range r.Secrets {
		if s := &r.Secrets[i]; s.Counts() {
			a := annotation{severity: s.Severity, file: s.Path, line: s.Line, title: s.Title, text: r.secretInWords(s)}
			if s.Commit != nil && s.Commit.Gone {
				a.file = "" // the file that can be looked at has it no more
			}
			add(a, s.Fingerprint)
		}
	}
	for i := range r.Misconfigurations {
		if m := &r.Misconfigurations[i]; m.Accepted == nil {
			add(annotation{severity: m.Severity, file: m.File, line: m.Start.Line, title: m.Check + " " + m.Title, text: faultOwner(m) + ": " + m.Evidence + ". " + m.Remedy}, m.Fingerprint)
		}
	}
	for i := range r.Vulnerabilities {
		if v := &r.Vulnerabilities[i]; v.Accepted == nil {
			add(annotation{severity: v.Severity, title: v.ID + " in " + v.Package.FullName() + " " + v.Package.Version, text: capital(v.Remedy)}, v.Fingerprint)
		}
	}
	if r.Gate != nil {
		for _, p := range r.Gate.Problems {
			all = append(all, annotation{severity: finding.Critical, breaks: true, title: "Could not be read", text: p})
		}
	}
	return all
}
