package report

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// GitLab's code quality report, which every edition of it shows in merge requests.
type (
	qualityIssue struct {
		Description string       `json:"description"`
		Check       string       `json:"check_name"`
		Fingerprint string       `json:"fingerprint"`
		Severity    string       `json:"severity"`
		Location    qualityPlace `json:"location"`
	}
	qualityPlace struct {
		Path  string       `json:"path"`
		Lines qualityLines `json:"lines"`
	}
	qualityLines struct {
		Begin int `json:"begin"`
	}
)

// writeGitLabQuality writes everything that still counts, of all kinds. What stands
// in no file is of the subject as a whole.
func writeGitLabQuality(w io.Writer, reports []Report, _ Options) error {
	issues := []qualityIssue{}
	for i := range reports {
		issues = append(issues, reports[i].qualityIssues()...)
	}
	return encode(w, issues)
}

func (r *Report) qualityIssues() (issues []qualityIssue) {
	add := func(check, text, file string, line int, s finding.Severity, fingerprint string) {
		sum := sha256.Sum256([]byte(r.lasting() + "\x00" + check + "\x00" + fingerprint))
		file, _, _ = strings.Cut(file, "!") // of what is within an archive, the archive
		file = strings.TrimPrefix(path.Clean("/"+file), "/")
		issues = append(issues, qualityIssue{untrusted.Text(text), check, hex.EncodeToString(sum[:16]), qualitySeverity(s),
			qualityPlace{firstOf(file, r.repository(), r.title()), qualityLines{max(line, 1)}}})
	}
	for i := range r.Misconfigurations {
		if m := &r.Misconfigurations[i]; m.Accepted == nil && m.Severity >= worth {
			add(m.Check, m.Title+": "+faultOwner(m)+": "+m.Evidence+". "+m.Remedy, m.File, m.Start.Line, m.Severity, m.Fingerprint)
		}
	}
	names := r.secretIdentities()
	for i := range r.Secrets {
		if s := &r.Secrets[i]; s.Counts() && s.Severity >= leastShown {
			add("secret/"+s.Rule, r.secretInWords(s), s.Path, s.Line, s.Severity, names[i])
		}
	}
	for i := range r.Malware {
		if m := &r.Malware[i]; m.Counts() {
			add("malware/"+m.Rule, r.malwareInWords(m), m.Path, 0, m.Severity, m.Fingerprint)
		}
	}
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		if v.Accepted != nil {
			continue
		}
		file := ""
		if len(v.Package.Places) > 0 {
			file = v.Package.Places[0].Path
		}
		add(v.ID, v.Package.FullName()+" "+v.Package.Version+": "+v.ID+". "+capital(v.Remedy), file, 0, v.Severity, v.Fingerprint)
	}
	return issues
}

func qualitySeverity(s finding.Severity) string {
	return [...]string{"info", "info", "minor", "major", "critical", "blocker"}[min(s, finding.Critical)]
}
