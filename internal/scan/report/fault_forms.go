package report

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// until says how long something is accepted: the last day on which it is.
func until(a *finding.Acceptance) string {
	if a.Expires.IsZero() {
		return "for good"
	}
	return "until " + a.Expires.Add(-time.Nanosecond).Format(time.DateOnly)
}

// addFaults adds what is set wrongly: a rule a check, with its help.
func (run *sarifRun) addFaults(r *Report) {
	rules := map[string]int{}
	for i := range r.Misconfigurations {
		m := &r.Misconfigurations[i]
		n := run.rule(rules, m.Check, func() sarifRule { return sarifCheck(m) })
		res := sarifResult{
			RuleID: m.Check, RuleIndex: n, Level: sarifLevelOf(m.Severity), Message: sarifText{fmt.Sprintf("%s: %s. %s", faultOwner(m), m.Evidence, m.Remedy)},
			Fingerprints: map[string]string{"castellan/v1": m.Fingerprint}, severity: m.Severity,
			Properties: map[string]any{"resource": m.Resource, "severity": m.Severity.String()},
		}
		if m.File != "" {
			physical := sarifFile(m.File)
			physical.Region = sarifRegion{StartLine: max(m.Start.Line, 1), EndLine: m.End.Line}
			if physical.Region.EndLine < physical.Region.StartLine {
				physical.Region.EndLine = 0
			}
			res.Locations = []sarifLocation{{Physical: physical, Logical: []sarifLogical{{Name: m.Resource, Full: faultOwner(m), Kind: "resource"}}}}
		} else if m.Layer > 0 {
			res.Properties["layer"] = m.Layer
		}
		if a := m.Accepted; a != nil {
			kind := "external"
			if m.File != "" && a.By == path.Base(m.File) {
				kind = "inSource"
			}
			res.Suppressions = []sarifSuppression{{kind, "accepted", a.Reason}}
		}
		run.Results = append(run.Results, res)
	}
}

func sarifCheck(m *finding.Misconfiguration) sarifRule {
	help := m.Why + "\n\n" + m.Remedy
	tags := []string{"security", "misconfiguration"}
	if names := m.Elsewhere.Names(); len(names) > 0 {
		help += "\n\nAlso: " + strings.Join(names, ", ") + "."
		tags = append(tags, names...)
	}
	score := [...]string{"0.0", "0.1", "3.9", "6.9", "8.9", "10.0"}[min(m.Severity, finding.Critical)]
	return sarifRule{
		ID: m.Check, Name: "Misconfiguration", Short: sarifText{m.Title}, Help: sarifHelp{Text: help, Markdown: markdown(m.Why) + "\n\n**" + markdown(m.Remedy) + "**"},
		Default: sarifLevel{sarifLevelOf(m.Severity)}, Properties: map[string]any{"security-severity": score, "tags": tags},
	}
}

// addFaults adds a case for each fault. Without a gate notes do not fail.
func (s *junitSuite) addFaults(r *Report, breaks map[string]bool) {
	for i := range r.Misconfigurations {
		m := &r.Misconfigurations[i]
		c := junitCase{Class: xmlText(firstOf(m.File, r.title()) + " " + faultOwner(m)), Name: xmlText(strings.TrimSpace(m.Check + " " + m.Title))}
		if m.Start.Line > 0 {
			c.Name += fmt.Sprintf(", line %d", m.Start.Line)
		}
		switch {
		case m.Accepted != nil:
			c.Skipped = &junitSkipped{xmlText("accepted: " + m.Accepted.Reason)}
			s.Skipped++
		case r.Gate == nil && m.Severity >= worth || breaks[m.Fingerprint]:
			c.Failure = &junitFailure{Message: xmlText(fmt.Sprintf("%s: %s", m.Severity, m.Evidence)), Type: m.Severity.String(),
				Text: xmlText(strings.TrimSpace(faultPlace(m) + "\n" + m.Why + "\n" + m.Remedy))}
			s.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
}

// markdownFaults lists what is set wrongly, the notes folded.
func markdownFaults(b *strings.Builder, r *Report) {
	c, notes := r.faultCounts()
	if len(r.Misconfigurations) == 0 {
		return
	}
	fmt.Fprintf(b, "**%s**: %s%s.\n\n", plural(c.Shown, "fault"), firstOf(c.inWords(), "none"), acceptedNote(c))
	const titles = "| Severity | Where | What | Remedy |\n|---|---|---|---|\n"
	if c.Shown > notes {
		b.WriteString(titles)
		for _, m := range r.gravestFirst() {
			if m.Accepted == nil && m.Severity >= worth {
				markdownFault(b, m)
			}
		}
		b.WriteByte('\n')
	}
	if notes > 0 || c.Accepted > 0 {
		fmt.Fprintf(b, "<details><summary>%s and %d accepted</summary>\n\n%s", plural(notes, "note"), c.Accepted, titles)
		for _, m := range r.sortedFaults() {
			if m.Accepted != nil || m.Severity < worth {
				markdownFault(b, m)
			}
		}
		b.WriteString("\n</details>\n\n")
	}
}

func markdownFault(b *strings.Builder, m *finding.Misconfiguration) {
	remedy := m.Remedy
	if m.Accepted != nil {
		remedy = "accepted " + until(m.Accepted) + ": " + m.Accepted.Reason
	}
	fmt.Fprintf(b, "| %s | %s<br>%s | %s: %s (%s) | %s |\n", m.Severity, markdown(faultPlace(m)), markdown(faultOwner(m)), markdown(m.Title),
		markdown(clip(m.Evidence, maxEvidence)), m.Check, markdown(remedy))
}

// markdownDocuments is the head of a report of documents alone.
func markdownDocuments(b *strings.Builder, r *Report) {
	c, _ := r.faultCounts()
	if c.Shown == 0 {
		fmt.Fprintf(b, "Nothing is wrong in %s%s.\n\n", r.Documents.inWords(), acceptedNote(c))
	} else {
		fmt.Fprintf(b, "%s.\n\n", r.Documents.inWords())
	}
	markdownGate(b, r)
	markdownFaults(b, r)
}

// htmlFault is a fault as the page shows it.
type htmlFault struct {
	*finding.Misconfiguration
	Place, Owner, Also, Until, Search string
}

func htmlFaults(r *Report) (shown, accepted []htmlFault) {
	for _, m := range r.gravestFirst() {
		f := htmlFault{Misconfiguration: m, Place: faultPlace(m), Owner: faultOwner(m), Also: strings.Join(m.Elsewhere.Names(), ", ")}
		f.Search = strings.ToLower(untrusted.Text(m.Check + " " + m.Title + " " + m.Severity.String() + " " + f.Place + " " + f.Owner + " " + f.Also))
		if m.Accepted != nil {
			f.Until = until(m.Accepted)
			accepted = append(accepted, f)
			continue
		}
		shown = append(shown, f)
	}
	return shown, accepted
}
