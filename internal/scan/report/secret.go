package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// leastShown is the severity from which on people are shown a secret unless they
// ask for all: below are those that most likely are none.
const leastShown = finding.Medium

// secretsAlone says that the subject is of a kind that has no packages.
func (r *Report) secretsAlone() bool {
	k := r.Inventory.Subject.Kind
	return k == inventory.KindHistory || k == inventory.KindDocument
}

// secretCounts are how many secrets still count, by severity; those of less are
// counted apart, like those that are accepted or known.
type secretCounts struct {
	counts
	Doubtful, Accepted, Known int
}

func (r *Report) secretCounts() (c secretCounts) {
	for i := range r.Secrets {
		switch s := &r.Secrets[i]; {
		case s.Accepted != nil:
			c.Accepted++
		case s.Known:
			c.Known++
		case s.Severity < leastShown:
			c.Doubtful++
		default:
			c.Shown++
			c.by[min(s.Severity, finding.Critical)]++
		}
	}
	return c
}

// inWords is "3 secrets: 1 critical, 2 high; 4 doubtful".
func (c secretCounts) inWords() string {
	text := "no secret"
	if c.Shown > 0 {
		text = plural(c.Shown, "secret") + ": " + c.counts.inWords()
	}
	for _, more := range []struct {
		n    int
		word string
	}{{c.Doubtful, "doubtful"}, {c.Accepted, "accepted"}, {c.Known, "known before"}} {
		if more.n > 0 {
			text += fmt.Sprintf("; %d %s", more.n, more.word)
		}
	}
	return text
}

// where says where a secret stands.
func (r *Report) where(s *finding.Secret) string {
	var text string
	switch s.Source {
	case "":
		text = s.Path
	case inventory.InEnv:
		text = "ENV " + s.Name
	case inventory.InLabel:
		text = "LABEL " + s.Name
	case inventory.InHistory, inventory.InArgument:
		text = "history, " + s.Name
	case inventory.InCommand:
		text = "command"
	case inventory.InMessage:
		text = "message"
	default:
		text = strings.TrimSpace(s.Path + " " + string(s.Source))
	}
	if s.Line > 0 {
		text += fmt.Sprintf(":%d", s.Line)
	}
	return text
}

// origin says what brought a secret, and what hides it.
func (r *Report) origin(s *finding.Secret) string {
	if s.Commit == nil {
		return r.brought(s.Place, s.Hidden)
	}
	text := "commit " + s.Commit.Hash[:min(len(s.Commit.Hash), 10)]
	if !s.Commit.When.IsZero() {
		text += ", " + s.Commit.When.UTC().Format(time.DateOnly)
	}
	if s.Commit.Gone {
		text += ", no more in the newest"
	}
	return text
}

// brought says which layer brought a file, and which hides it.
func (r *Report) brought(at inventory.Place, h *inventory.Hidden) string {
	var parts []string
	switch {
	case at.Written:
		parts = append(parts, "written since")
	case at.Layer > 0:
		parts = append(parts, fmt.Sprintf("layer %d", at.Layer))
	}
	if h != nil {
		how := "replaced"
		if h.Deleted {
			how = "deleted"
		}
		if h.Layer > 0 {
			how += fmt.Sprintf(" in layer %d", h.Layer)
		}
		parts = append(parts, how)
	}
	if i := r.Inventory.Image; i != nil && at.Layer > 0 && at.Layer <= len(i.Layers) && i.Layers[at.Layer-1].Instruction != "" {
		parts = append(parts, clip(i.Layers[at.Layer-1].Instruction, maxCell))
	}
	return strings.Join(parts, ", ")
}

// known are facts of a secret beside its kind.
func known(s *finding.Secret) string {
	var parts []string
	if s.Name != "" && s.Source == "" {
		parts = append(parts, s.Name)
	}
	if s.Account != "" {
		parts = append(parts, "account "+s.Account)
	}
	if s.Key != "" {
		parts = append(parts, string(s.Key))
	}
	if s.Check != "" {
		parts = append(parts, s.Check)
	}
	if !s.Expires.IsZero() {
		parts = append(parts, "until "+s.Expires.UTC().Format(time.DateOnly))
	}
	if s.Doubt != "" {
		parts = append(parts, "but "+s.Doubt)
	}
	return strings.Join(parts, ", ")
}

// secrets writes the section of the table.
func (p *page) secrets(r *Report) {
	if r.Secrets == nil {
		return
	}
	c := r.secretCounts()
	p.line("")
	if c.Shown == 0 && !p.o.All {
		p.line("%s", c.inWords())
		return
	}
	p.line("%s", p.paint(styleBold, c.inWords()))
	var rows [][]string
	for i := range r.Secrets {
		s := &r.Secrets[i]
		if !s.Counts() || s.Severity < leastShown && !p.o.All {
			continue
		}
		rows = append(rows, []string{p.paint(severityStyle(s.Severity), s.Severity.String()), untrusted.Text(s.Title), clip(untrusted.Text(r.where(s)), 2*maxCell),
			fmt.Sprintf("%d bytes", s.Length), untrusted.Text(known(s)), untrusted.Text(r.origin(s))})
	}
	p.columns([]string{"SECRET", "KIND", "WHERE", "LENGTH", "", "FROM"}, rows)
	if c.Doubtful > 0 && !p.o.All {
		p.line("%s", p.paint(styleFaint, "what is doubtful is listed with --all"))
	}
}

// markdownSecrets writes the section of a merge request.
func markdownSecrets(b *strings.Builder, r *Report) {
	if r.Secrets == nil {
		return
	}
	c := r.secretCounts()
	fmt.Fprintf(b, "%s.\n\n", strings.ToUpper(c.inWords()[:1])+c.inWords()[1:])
	if c.Shown == 0 {
		return
	}
	b.WriteString("| Severity | Secret | Where | Length | | From |\n|---|---|---|---:|---|---|\n")
	for i := range r.Secrets {
		if s := &r.Secrets[i]; s.Counts() && s.Severity >= leastShown {
			fmt.Fprintf(b, "| %s | %s | %s | %d | %s | %s |\n", s.Severity, markdown(s.Title), markdown(r.where(s)), s.Length, markdown(known(s)), markdown(r.origin(s)))
		}
	}
	b.WriteString("\n")
}

// htmlSecret is a row of the page.
type htmlSecret struct {
	*finding.Secret
	Where, Origin, Known string
	Quiet                bool // doubtful, accepted or known
}

func htmlSecrets(r *Report) (rows []htmlSecret) {
	for i := range r.Secrets {
		s := &r.Secrets[i]
		row := htmlSecret{Secret: s, Where: r.where(s), Origin: r.origin(s), Known: known(s), Quiet: !s.Counts() || s.Severity < leastShown}
		if s.Accepted != nil {
			row.Known = strings.TrimPrefix(row.Known+", accepted: "+s.Accepted.Reason, ", ")
		}
		rows = append(rows, row)
	}
	return rows
}

// sarifSecrets adds the secrets to a run: a rule a kind.
func (run *sarifRun) sarifSecrets(r *Report) {
	rules := map[string]int{}
	names := r.secretIdentities()
	for i := range r.Secrets {
		s := &r.Secrets[i]
		id := "secret/" + s.Rule
		n := run.rule(rules, id, func() sarifRule {
			return sarifRule{ID: id, Name: "Secret", Short: sarifText{s.Title},
				Help: sarifHelp{Text: s.Remedy, Markdown: markdown(s.Remedy)}, Default: sarifLevel{sarifLevelOf(s.Severity)},
				Properties: map[string]any{"security-severity": severityScore(s.Severity), "tags": []string{"security", "secret"}}}
		})
		res := sarifResult{RuleID: id, RuleIndex: n, Level: sarifLevelOf(s.Severity), Message: sarifText{r.secretInWords(s)},
			Fingerprints: map[string]string{"castellan/v1": s.Fingerprint}, severity: s.Severity, lasting: names[i],
			Properties: map[string]any{"length": s.Length, "hidden": s.Hidden != nil}}
		if s.Check != "" {
			res.Properties["check"] = s.Check
		}
		if s.Path != "" {
			loc := sarifLocation{Physical: sarifFile(s.Path)}
			loc.Physical.Region.StartLine = max(1, s.Line)
			// No column: SARIF counts characters, and what is known are bytes.
			if s.Layer > 0 {
				loc.Message = &sarifText{r.origin(s)}
			}
			res.Locations = append(res.Locations, loc)
		}
		switch {
		case s.Accepted != nil:
			res.Suppressions = []sarifSuppression{{"external", "accepted", s.Accepted.Reason}}
		case s.Known:
			res.Suppressions = []sarifSuppression{{"external", "accepted", "known before: it is in the baseline"}}
		}
		run.Results = append(run.Results, res)
	}
}

// secretInWords is a finding in one line.
func (r *Report) secretInWords(s *finding.Secret) string {
	text := fmt.Sprintf("%s of %d bytes at %s", s.Title, s.Length, r.where(s))
	for _, more := range []string{known(s), r.origin(s)} {
		if more != "" {
			text += "; " + more
		}
	}
	return text + ". " + strings.ToUpper(s.Remedy[:min(1, len(s.Remedy))]) + s.Remedy[min(1, len(s.Remedy)):]
}

func severityScore(s finding.Severity) string {
	return [...]string{"0.0", "0.1", "3.9", "6.9", "8.9", "10.0"}[min(s, finding.Critical)]
}

// addSecrets adds a case for each secret. Without a gate all fail that people are
// shown.
func (s *junitSuite) addSecrets(r *Report, breaks map[string]bool) {
	for i := range r.Secrets {
		f := &r.Secrets[i]
		c := junitCase{Class: xmlText("secret: " + f.Title), Name: xmlText(r.where(f))}
		switch {
		case f.Accepted != nil:
			c.Skipped = &junitSkipped{xmlText("accepted: " + f.Accepted.Reason)}
			s.Skipped++
		case f.Known:
			c.Skipped = &junitSkipped{"known before: it is in the baseline"}
			s.Skipped++
		case r.Gate == nil && f.Severity >= leastShown || breaks[f.Fingerprint]:
			c.Failure = &junitFailure{Message: xmlText(fmt.Sprintf("%s: %s", f.Severity, f.Title)), Type: f.Severity.String(), Text: xmlText(r.secretInWords(f))}
			s.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
}

// secretIdentities name each secret by its kind and place, lines aside, so that
// others know it again. Its own fingerprint is made with a salt, which a CI server's
// fresh machine makes anew.
func (r *Report) secretIdentities() []string {
	names := make([]string, len(r.Secrets))
	seen := map[string]int{}
	for i := range r.Secrets {
		s := &r.Secrets[i]
		at := s.Rule + "\x00" + s.Path + "\x00" + string(s.Source) + "\x00" + s.Name
		if s.Commit != nil {
			at += "\x00" + s.Commit.Hash
		}
		seen[at]++
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", at, seen[at]))
		names[i] = hex.EncodeToString(sum[:16])
	}
	return names
}
