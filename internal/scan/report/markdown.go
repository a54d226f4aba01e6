package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// writeMarkdown writes for a merge request or an issue: what to do first, the
// details folded.
func writeMarkdown(w io.Writer, reports []Report, o Options) error {
	var b strings.Builder
	for i := range reports {
		markdownReport(&b, &reports[i], o)
	}
	_, err := io.WriteString(w, shortened(b.String()))
	return err
}

// maxMarkdown bounds what is written: GitHub shows nothing at all of a summary that
// is larger than 1 MiB, and so do others of a comment.
const maxMarkdown = 1_000_000

// shortened leaves out what is too much, by whole lines.
func shortened(text string) string {
	if len(text) <= maxMarkdown {
		return text
	}
	text = text[:strings.LastIndexByte(text[:maxMarkdown], '\n')+1]
	if strings.Count(text, "<details>") > strings.Count(text, "</details>") {
		text += "\n</details>\n"
	}
	return text + "\n**The rest is left out here: it is in the other forms of the report.**\n"
}

func markdownReport(b *strings.Builder, r *Report, o Options) {
	c := r.counts()
	fmt.Fprintf(b, "## %s\n\n", markdown(r.title()))
	if text := r.Since.inWords(); text != "" {
		fmt.Fprintf(b, "%s.\n\n", markdown(text))
	}
	switch {
	case r.onlyDocuments():
		markdownDocuments(b, r)
		return
	case r.secretsAlone():
		markdownSecrets(b, r)
		markdownGate(b, r)
		return
	case r.Database.Built.IsZero():
		b.WriteString("Not compared with advisories: there is no database.\n\n")
		markdownMalware(b, r)
		markdownSecrets(b, r)
		markdownGate(b, r)
		markdownFaults(b, r)
		return
	case c.Shown == 0:
		fmt.Fprintf(b, "No known vulnerability in %s%s.\n\n", plural(len(r.Inventory.Packages), "package"), acceptedNote(c))
	default:
		fmt.Fprintf(b, "**%s** in %s: %s; %d can be fixed, %d known to be exploited%s.\n\n", plural(c.Shown, "vulnerability"),
			plural(len(r.Inventory.Packages), "package"), c.inWords(), c.Fixable, c.KEV, acceptedNote(c))
	}
	markdownMalware(b, r)
	markdownSecrets(b, r)
	markdownGate(b, r)
	p := page{o: Options{Compare: o.Compare}}
	age := p.age(r)
	fmt.Fprintf(b, "%s.\n\n", strings.ToUpper(age[:1])+age[1:])
	if u := r.unmaintained(); u != "" {
		fmt.Fprintf(b, "**%s.**\n\n", markdown(u))
	}
	for _, l := range r.notCompared() {
		fmt.Fprintf(b, "Not compared: %s.\n\n", markdown(l))
	}
	markdownFaults(b, r)
	all := remedies(r.Vulnerabilities, o.Compare)
	if len(all) == 0 {
		return
	}
	b.WriteString("| Worst | Gone | Package | Installed | Move to | Because of | From |\n|---|---:|---|---|---|---|---|\n")
	for i := range all {
		m := &all[i]
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s | %s |\n", m.worst(), len(m.ids), markdown(m.name()), markdown(m.from),
			markdown(firstOf(m.to, strings.ReplaceAll(string(m.state), "-", " "))), markdown(p.marks(m)), markdown(whence(m.places)))
	}
	markdownDetails(b, r)
}

// markdownGate says how the gate was passed, and what could not be read.
func markdownGate(b *strings.Builder, r *Report) {
	if r.Gate != nil {
		verdict := "passed"
		if !r.Gate.Passed() {
			verdict = "**failed**: " + r.Gate.broken()
		}
		fmt.Fprintf(b, "Gate (%s): %s.\n\n", markdown(r.Gate.Rule), verdict)
	}
	for i := range r.Inventory.Problems {
		if i == maxProblems {
			fmt.Fprintf(b, "Could not be read: %d more.\n\n", len(r.Inventory.Problems)-maxProblems)
			break
		}
		fmt.Fprintf(b, "Could not be read: %s.\n\n", markdown(clip(r.Inventory.Problems[i].String(), maxProblem)))
	}
	if note := r.uncounted(); note != "" {
		fmt.Fprintf(b, "**%s.**\n\n", note)
	}
}

func markdownDetails(b *strings.Builder, r *Report) {
	fmt.Fprintf(b, "\n<details><summary>All %d</summary>\n\n| Severity | Vulnerability | Package | Installed | Fixed | |\n|---|---|---|---|---|---|\n", len(r.Vulnerabilities))
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		note := clip(v.Summary, 120)
		if v.Accepted != nil {
			note = "accepted: " + v.Accepted.Reason
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", v.Severity, markdownLink(v), markdown(v.Package.FullName()),
			markdown(v.Package.Version), markdown(firstOf(v.Fixed, string(v.State))), markdown(note))
	}
	b.WriteString("\n</details>\n\n")
}

// markdownLink links to the first reference, if that can be a link without
// becoming something else.
func markdownLink(v *finding.Vulnerability) string {
	if l := links(v.References); len(l) > 0 && !strings.ContainsAny(l[0], "()") {
		return "[" + markdown(v.ID) + "](" + l[0] + ")"
	}
	return markdown(v.ID)
}

// markdown shows a text as it is: no markup, no HTML, no new cell, no mention.
func markdown(s string) string {
	s = untrusted.Text(s)
	var b strings.Builder
	for _, r := range s {
		switch {
		case strings.ContainsRune("\\`*_{}[]()#!|~", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case r == '@':
			b.WriteString("&#64;")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
