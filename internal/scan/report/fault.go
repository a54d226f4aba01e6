package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Documents says how much was read of what says how something shall be built or
// run.
type Documents struct {
	Files     int `json:"files"`
	Resources int `json:"resources"`
	Checks    int `json:"checks"` // that each was held against
}

// Since says that a report has only what was not known before.
type Since struct {
	Base  string `json:"base"`  // a former report, or an image
	Known int    `json:"known"` // how many findings are left out
}

// inWords says what is left out; "" if nothing is.
func (s *Since) inWords() string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("only what is new since %s; %s known before", s.Base, plural(s.Known, "finding"))
}

// onlyDocuments says that a report is of documents alone: there are no packages
// and nothing to compare.
func (r *Report) onlyDocuments() bool { return r.Inventory.Subject.Kind == inventory.KindIaC }

// worth is the severity from which on a fault is shown, counted and failed by
// itself; those below are notes.
const worth = finding.Low

// faultCounts are how many faults there are of each severity, accepted ones apart.
func (r *Report) faultCounts() (c counts, notes int) {
	for i := range r.Misconfigurations {
		m := &r.Misconfigurations[i]
		switch {
		case m.Accepted != nil:
			c.Accepted++
			continue
		case m.Severity < worth:
			notes++
		}
		c.Shown++
		c.by[min(m.Severity, finding.Critical)]++
	}
	return c, notes
}

// faultPlace is where a fault is, as people and their editors write it.
func faultPlace(m *finding.Misconfiguration) string {
	switch {
	case m.File != "" && m.Start.Line > 0:
		return fmt.Sprintf("%s:%d", m.File, m.Start.Line)
	case m.File != "":
		return m.File
	case m.Layer > 0:
		return fmt.Sprintf("layer %d", m.Layer)
	}
	return ""
}

// faultOwner is the resource, and the container in it.
func faultOwner(m *finding.Misconfiguration) string {
	if m.Container != "" && !strings.HasSuffix(m.Resource, "."+m.Container) {
		return m.Resource + ", container " + m.Container
	}
	return m.Resource
}

// faults writes what is wrong, grouped by file and resource, and then what to do
// about each kind.
func (p *page) faults(r *Report) {
	c, notes := r.faultCounts()
	if c.Shown == 0 {
		if r.onlyDocuments() {
			p.acceptedFaults(r)
		}
		return
	}
	if !r.onlyDocuments() {
		p.line("")
		p.line("%s: %s%s", p.paint(styleBold, plural(c.Shown, "fault")), c.inWords(), acceptedNote(c))
	}
	file, owner := "\x00", ""
	var rows [][]string
	flush := func() {
		if len(rows) > 0 {
			p.table(rows, "    ")
			rows = nil
		}
	}
	for _, m := range r.sortedFaults() {
		if m.Accepted != nil || m.Severity < worth && !p.o.All {
			continue
		}
		if m.File != file {
			flush()
			p.line("")
			if m.File != "" {
				p.line("%s", p.paint(styleBold, untrusted.Text(m.File)))
			}
			file, owner = m.File, ""
		}
		if o := faultOwner(m); o != owner && m.File != "" {
			flush()
			p.line("  %s", untrusted.Text(o))
			owner = o
		}
		place := ""
		switch {
		case m.Start.Line > 0:
			place = fmt.Sprint(m.Start.Line)
		case m.Layer > 0:
			place = fmt.Sprintf("layer %d", m.Layer)
		}
		rows = append(rows, []string{p.paint(severityStyle(m.Severity), m.Severity.String()), place, m.Check, m.Title, p.paint(styleFaint, untrusted.Text(clip(m.Evidence, maxEvidence)))})
	}
	flush()
	p.remedies(r)
	if notes > 0 && !p.o.All {
		p.line("")
		p.line("%s", p.paint(styleFaint, fmt.Sprintf("%s below low not shown; --all shows them", plural(notes, "note"))))
	}
	p.acceptedFaults(r)
}

// maxEvidence is how much of what is there a table shows.
const maxEvidence = 120

// sortedFaults are the faults by file, resource and line.
func (r *Report) sortedFaults() []*finding.Misconfiguration {
	all := make([]*finding.Misconfiguration, len(r.Misconfigurations))
	for i := range r.Misconfigurations {
		all[i] = &r.Misconfigurations[i]
	}
	// Within an image there are no lines: the gravest first.
	slices.SortStableFunc(all, func(a, b *finding.Misconfiguration) int {
		if a.File == "" && b.File == "" {
			return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Layer, b.Layer))
		}
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Start.Line, b.Start.Line))
	})
	return all
}

// gravestFirst are the faults by severity, and then as they are sorted.
func (r *Report) gravestFirst() []*finding.Misconfiguration {
	all := r.sortedFaults()
	slices.SortStableFunc(all, func(a, b *finding.Misconfiguration) int { return cmp.Compare(b.Severity, a.Severity) })
	return all
}

// table writes rows without titles.
func (p *page) table(rows [][]string, indent string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], visible(c))
		}
	}
	for _, row := range rows {
		row[0] = indent + row[0]
		p.row(row, append([]int{widths[0] + len(indent)}, widths[1:]...))
	}
}

// remedies says once for each check what to do.
func (p *page) remedies(r *Report) {
	type one struct {
		m *finding.Misconfiguration
		n int
	}
	var order []string
	by := map[string]*one{}
	for i := range r.Misconfigurations {
		m := &r.Misconfigurations[i]
		if m.Accepted != nil || m.Severity < worth && !p.o.All {
			continue
		}
		if by[m.Check] == nil {
			by[m.Check] = &one{m: m}
			order = append(order, m.Check)
		}
		o := by[m.Check]
		if o.n++; m.Severity > o.m.Severity {
			o.m = m
		}
	}
	if len(order) == 0 {
		return
	}
	slices.SortStableFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(by[b].m.Severity, by[a].m.Severity), cmp.Compare(by[b].n, by[a].n), cmp.Compare(a, b))
	})
	var rows [][]string
	for _, id := range order {
		o := by[id]
		rows = append(rows, []string{p.paint(severityStyle(o.m.Severity), o.m.Severity.String()), fmt.Sprint(o.n), id, o.m.Remedy})
	}
	p.line("")
	p.columns([]string{"DO", "GONE", "CHECK", "HOW"}, rows)
}

func (p *page) acceptedFaults(r *Report) {
	var rows [][]string
	for _, m := range r.sortedFaults() {
		if m.Accepted != nil {
			rows = append(rows, []string{m.Check, untrusted.Text(clip(faultPlace(m)+" "+faultOwner(m), maxEvidence)), until(m.Accepted), untrusted.Text(m.Accepted.Reason)})
		}
	}
	if len(rows) > 0 {
		p.line("")
		p.columns([]string{"ACCEPTED", "WHERE", "", "REASON"}, rows)
	}
}

// headDocuments says what was read, and how bad it is.
func (p *page) headDocuments(r *Report) {
	p.line("%s", p.paint(styleBold, untrusted.Text(r.title())))
	p.line("  %s", p.paint(styleFaint, r.Documents.inWords()))
	p.since(r)
	c, _ := r.faultCounts()
	if c.Shown == 0 {
		text := "nothing is wrong with them"
		if r.Documents == nil || r.Documents.Files == 0 {
			text = "no document that says how containers are built or run"
		}
		p.line("  %s%s", p.paint(styleGreen, text), acceptedNote(c))
		return
	}
	p.line("  %s: %s%s", p.paint(styleBold, plural(c.Shown, "fault")), c.inWords(), acceptedNote(c))
}

// since says what is left out.
func (p *page) since(r *Report) {
	if text := r.Since.inWords(); text != "" {
		p.line("  %s", p.paint(styleYellow, untrusted.Text(text)))
	}
}

func (d *Documents) inWords() string {
	if d == nil {
		return "nothing was read"
	}
	return fmt.Sprintf("%s · %s · %s", plural(d.Files, "file"), plural(d.Resources, "resource"), plural(d.Checks, "check"))
}
