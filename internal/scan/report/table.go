package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// ANSI styles of the table.
const (
	styleBold   = "1"
	styleFaint  = "2"
	styleRed    = "31"
	styleGreen  = "32"
	styleYellow = "33"
	styleBadRed = "1;31"
)

// page is a table that is being written. Everything goes through text: nothing
// of an image or an advisory reaches the terminal as it is.
type page struct {
	bytes.Buffer
	o Options
}

func (p *page) paint(style, s string) string {
	if !p.o.Colour || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

func (p *page) line(format string, args ...any) {
	fmt.Fprintf(p, format, args...)
	p.WriteByte('\n')
}

// writeTable writes for a person at a terminal: what to do first, grouped by
// remedy.
func writeTable(w io.Writer, reports []Report, o Options) error {
	for i := range reports {
		p := &page{o: o}
		if i > 0 {
			p.line("")
		}
		p.report(&reports[i])
		if _, err := w.Write(p.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) report(r *Report) {
	if r.onlyDocuments() {
		p.headDocuments(r)
		p.faults(r)
		p.problems(r)
		p.gate(r)
		return
	}
	p.head(r)
	p.malware(r)
	all := remedies(r.Vulnerabilities, p.o.Compare)
	p.steps([]string{"DO", "GONE", "PACKAGE", "INSTALLED", "MOVE TO", "", "FROM"}, all, func(m *remedy) bool { return m.to != "" })
	p.steps([]string{"NO FIX YET", "KNOWN", "PACKAGE", "INSTALLED", "WHY", "", "FROM"}, all, func(m *remedy) bool { return m.to == "" })
	if p.o.All {
		p.each(r)
	}
	p.accepted(r)
	p.faults(r)
	p.secrets(r)
	p.noMalware(r)
	p.problems(r)
	p.gaps(r)
	p.gate(r)
}

// gaps says what was not compared.
func (p *page) gaps(r *Report) {
	lines := r.notCompared()
	if len(lines) == 0 {
		return
	}
	p.line("")
	p.line("%s", p.paint(styleYellow, "not compared with advisories:"))
	for _, l := range lines {
		p.line("  %s", untrusted.Text(l))
	}
}

// head says what was scanned, what is in it, and how bad it is.
func (p *page) head(r *Report) {
	p.line("%s", p.paint(styleBold, untrusted.Text(r.title())))
	if r.secretsAlone() {
		return // of which there are no packages
	}
	about := aboutOf(&r.Inventory, short)
	p.line("  %s", p.paint(styleFaint, untrusted.Text(strings.Join(about, " · "))))
	p.since(r)
	if r.Database.Built.IsZero() {
		p.line("  %s", p.paint(styleYellow, "not compared with advisories: there is no database (castellan scan db update)"))
		return
	}
	p.line("  %s", p.age(r))
	if u := r.unmaintained(); u != "" {
		p.line("  %s", p.paint(styleYellow, untrusted.Text(u)))
	}
	c := r.counts()
	if c.Shown == 0 {
		p.line("  %s%s", p.paint(styleGreen, "no known vulnerability"), acceptedNote(c))
		return
	}
	notes := []string{fmt.Sprintf("%d can be fixed", c.Fixable)}
	if c.InUse > 0 {
		notes = append(notes, fmt.Sprintf("%d in use", c.InUse))
	}
	if c.KEV > 0 {
		notes = append(notes, p.paint(styleBadRed, fmt.Sprintf("%d known to be exploited", c.KEV)))
	}
	p.line("  %s: %s; %s%s", p.paint(styleBold, plural(c.Shown, "vulnerability")), c.inWords(), strings.Join(notes, ", "), acceptedNote(c))
}

func acceptedNote(c counts) string {
	if c.Accepted == 0 {
		return ""
	}
	return fmt.Sprintf("; %d more accepted", c.Accepted)
}

// StaleAfter is how old advisories may be before that is said in colour: most
// feeds change daily.
const StaleAfter = 7 * 24 * time.Hour

// age says how old the advisories are, always aloud.
func (p *page) age(r *Report) string {
	newest := r.Database.Newest()
	if newest.IsZero() {
		newest = r.Database.Built
	}
	age := r.Made.Sub(newest)
	text := fmt.Sprintf("advisories up to %s, %s old", newest.UTC().Format(time.DateOnly), days(age))
	if r.Database.Seed {
		text += "; they came with the program: castellan scan db update fetches today's"
	}
	if age > StaleAfter {
		return p.paint(styleYellow, text)
	}
	return p.paint(styleFaint, text)
}

func days(d time.Duration) string {
	n := int(d.Hours() / 24)
	if n < 1 {
		return "less than a day"
	}
	return plural(n, "day")
}

// maxCell is how much of a name or version a table shows: none that is real is
// longer, and one that is would push the rest off the screen.
const maxCell = 60

// steps writes one section of remedies.
func (p *page) steps(titles []string, all []remedy, belongs func(*remedy) bool) {
	var rows [][]string
	for i := range all {
		m := &all[i]
		if !belongs(m) {
			continue
		}
		rows = append(rows, []string{
			p.paint(severityStyle(m.worst()), m.worst().String()), fmt.Sprint(len(m.ids)),
			clip(untrusted.Text(m.name()), maxCell), clip(untrusted.Text(m.from), maxCell), p.target(m), p.marks(m), untrusted.Text(whence(m.places)),
		})
	}
	if len(rows) == 0 {
		return
	}
	p.line("")
	p.columns(titles, rows)
}

// target says where to move to, or why there is no such place.
func (p *page) target(m *remedy) string {
	if m.to != "" {
		return p.paint(styleGreen, untrusted.Text(m.to))
	}
	return p.paint(styleFaint, strings.ReplaceAll(string(m.state), "-", " "))
}

// marks are what makes a group urgent, and the first of its names.
func (p *page) marks(m *remedy) string {
	const shown = 2
	var parts []string
	if m.inUse() {
		parts = append(parts, p.paint(styleBold, "in use"))
	}
	if m.exploited() {
		parts = append(parts, p.paint(styleBadRed, "exploited"))
	}
	if e := m.epss(); e >= 0.01 {
		parts = append(parts, fmt.Sprintf("EPSS %.0f%%", e*100))
	}
	for i, id := range m.ids {
		if i == shown {
			parts = append(parts, fmt.Sprintf("+%d", len(m.ids)-shown))
			break
		}
		parts = append(parts, untrusted.Text(id))
	}
	return strings.Join(parts, " ")
}

// whence says which layer, or which file, brought a package.
func whence(places []inventory.Place) string {
	if len(places) == 0 {
		return ""
	}
	p := places[0]
	text := p.Path
	switch {
	case p.Written:
		text = "written since: " + p.Path
	case p.Layer > 0:
		text = strings.TrimSuffix(fmt.Sprintf("layer %d %s", p.Layer, p.Path), " ")
	}
	if len(places) > 1 {
		text += fmt.Sprintf(" +%d", len(places)-1)
	}
	return text
}

// each writes every vulnerability.
func (p *page) each(r *Report) {
	var rows [][]string
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		if v.Accepted != nil {
			continue
		}
		rows = append(rows, []string{p.paint(severityStyle(v.Severity), v.Severity.String()), untrusted.Text(v.ID),
			untrusted.Text(v.Package.FullName()), untrusted.Text(v.Package.Version), untrusted.Text(firstOf(v.Fixed, string(v.State))), untrusted.Text(clip(v.Summary, 80))})
	}
	if len(rows) > 0 {
		p.line("")
		p.columns([]string{"SEVERITY", "VULNERABILITY", "PACKAGE", "INSTALLED", "FIXED", ""}, rows)
	}
}

func (p *page) accepted(r *Report) {
	var rows [][]string
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		if v.Accepted == nil {
			continue
		}
		rows = append(rows, []string{untrusted.Text(v.ID), untrusted.Text(v.Package.FullName()), until(v.Accepted), untrusted.Text(v.Accepted.Reason)})
	}
	if len(rows) > 0 {
		p.line("")
		p.columns([]string{"ACCEPTED", "PACKAGE", "", "REASON"}, rows)
	}
}

// maxProblems is how many problems a person is shown; the JSON form has all.
const (
	maxProblems = 10
	maxProblem  = 300 // bytes of one
)

func (p *page) problems(r *Report) {
	if len(r.Inventory.Problems) == 0 {
		return
	}
	p.line("")
	p.line("%s", p.paint(styleYellow, fmt.Sprintf("%d could not be read, or not whole:", len(r.Inventory.Problems))))
	for i, pr := range r.Inventory.Problems {
		if i == maxProblems {
			p.line("  … %d more (-o json has all)", len(r.Inventory.Problems)-maxProblems)
			break
		}
		p.line("  %s", untrusted.Text(clip(pr.String(), maxProblem)))
	}
}

func (p *page) gate(r *Report) {
	if r.Gate == nil {
		return
	}
	p.line("")
	if r.Gate.Passed() {
		p.line("%s %s", p.paint(styleGreen, "passed:"), untrusted.Text(r.Gate.Rule))
	} else {
		p.line("%s %s: %s", p.paint(styleBadRed, "failed:"), untrusted.Text(r.Gate.Rule), r.Gate.broken())
	}
	if note := r.uncounted(); note != "" {
		p.line("%s", p.paint(styleYellow, note))
	}
}

func severityStyle(s finding.Severity) string {
	switch s {
	case finding.Critical:
		return styleBadRed
	case finding.High:
		return styleRed
	case finding.Medium:
		return styleYellow
	}
	return styleFaint
}

// firstOf returns the first text that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// short is a digest as people compare it.
func short(digest string) string {
	const enough = len("sha256:") + 12
	if len(digest) > enough {
		return digest[:enough]
	}
	return digest
}

// clip cuts a text after its first line or n bytes.
func clip(s string, n int) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
