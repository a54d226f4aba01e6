package report

import (
	_ "embed" // the template
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/untrusted"
)

//go:embed report.html
var htmlText string

// htmlPage is what the template is given.
type htmlPage struct {
	Tool, Version string
	Reports       []htmlReport
}

type htmlReport struct {
	*Report
	ID       string // of its part of the page
	Title    string
	About    []string
	Counts   []htmlCount
	Total    counts
	Age      string
	Ended    string // that the system gets no fixes any more
	Stale    bool
	Compared bool
	Do, Wait []htmlRemedy
	Layers   []htmlLayer
	Rows     []htmlRow
	Accepted []htmlRow
	// Documents says that the report is of documents alone.
	Documents              bool
	Since                  string
	DocumentsRead          string
	FaultCounts            []htmlCount
	Faults, AcceptedFaults []htmlFault
	Special                []inventory.File
	Missing                []string
	Secrets                []htmlSecret
	// SecretsSought says that they were looked for, SecretsInWords how many there
	// are.
	SecretsSought bool
	// Malware is what was found of it, where it was looked for.
	Malware        []htmlMalware
	MalwareInWords string
	// History says that there is nothing but secrets.
	History        bool
	SecretsInWords string
	// Broken says how much breaks the gate, Uncounted that what could not be read
	// does not.
	Broken, Uncounted string
}

type htmlCount struct {
	Severity string
	N        int
	Percent  float64
}

type htmlRemedy struct {
	Worst, Name, From, To, Whence string
	Gone                          int
	Exploited, InUse              bool
	EPSS                          string
}

type htmlLayer struct {
	N           int
	Instruction string
	Size        string
	Packages    int
	Counts      []htmlCount
	Total       int
}

type htmlRow struct {
	*finding.Vulnerability
	Package, Installed, State string
	Score, EPSS               string
	Places                    []string
	Links                     []string
	Search                    string
}

// writeHTML writes one page that needs nothing else: no script or style from
// elsewhere, readable on paper and without scripts.
func writeHTML(w io.Writer, reports []Report, o Options) error {
	t, err := template.New("report").Funcs(template.FuncMap{"show": untrusted.Text, "date": htmlDate}).Parse(htmlText)
	if err != nil {
		return err
	}
	page := htmlPage{Tool: o.Tool, Version: o.Version}
	for i := range reports {
		r := htmlReportOf(&reports[i], o)
		r.ID = fmt.Sprintf("r%d", i+1)
		page.Reports = append(page.Reports, r)
	}
	return t.Execute(w, page)
}

func htmlDate(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

func htmlReportOf(r *Report, o Options) htmlReport {
	h := htmlReport{Report: r, Title: r.title(), Total: r.counts(), Compared: !r.Database.Built.IsZero()}
	p := page{o: Options{Compare: o.Compare}}
	if h.Compared {
		h.Age = p.age(r)
		h.Ended = r.unmaintained()
		h.Stale = r.Made.Sub(r.Database.Newest()) > StaleAfter
	}
	h.Counts = htmlCounts(h.Total.by[:])
	if h.History = r.secretsAlone(); !h.History {
		h.About = aboutOf(&r.Inventory, func(digest string) string { return digest })
	}
	for _, m := range remedies(r.Vulnerabilities, o.Compare) {
		if one := htmlRemedyOf(&m); m.to != "" {
			h.Do = append(h.Do, one)
		} else {
			h.Wait = append(h.Wait, one)
		}
	}
	h.Layers = htmlLayers(r)
	h.Secrets, h.SecretsSought, h.SecretsInWords = htmlSecrets(r), r.Secrets != nil, r.secretCounts().inWords()
	h.Malware = htmlMalwareOf(r)
	if r.Malware != nil {
		h.MalwareInWords = r.malwareCounts().inWords()
	}
	h.Missing = r.notCompared()
	h.Uncounted = r.uncounted()
	if r.Gate != nil {
		h.Broken = r.Gate.broken()
	}
	h.Since = r.Since.inWords()
	h.Documents, h.DocumentsRead = r.onlyDocuments(), r.Documents.inWords()
	c, _ := r.faultCounts()
	h.FaultCounts = htmlCounts(c.by[:])
	h.Faults, h.AcceptedFaults = htmlFaults(r)
	for _, f := range r.Inventory.Files {
		if f.Why != inventory.PackageCache {
			h.Special = append(h.Special, f)
		}
	}
	for i := range r.Vulnerabilities {
		row := htmlRowOf(&r.Vulnerabilities[i])
		if row.Vulnerability.Accepted != nil {
			h.Accepted = append(h.Accepted, row)
		} else {
			h.Rows = append(h.Rows, row)
		}
	}
	return h
}

func htmlCounts(by []int) []htmlCount {
	all := 0
	for _, n := range by {
		all += n
	}
	var out []htmlCount
	for _, s := range worstFirst() {
		if n := by[s]; n > 0 {
			out = append(out, htmlCount{s.String(), n, 100 * float64(n) / float64(all)})
		}
	}
	return out
}

func htmlRemedyOf(m *remedy) htmlRemedy {
	h := htmlRemedy{Worst: m.worst().String(), Name: strings.Join(m.names, ", "), From: m.from, To: m.to, Gone: len(m.ids),
		Whence: whence(m.places), Exploited: m.exploited(), InUse: m.inUse()}
	if m.to == "" {
		h.To = strings.ReplaceAll(string(m.state), "-", " ")
	}
	if e := m.epss(); e >= 0.01 {
		h.EPSS = fmt.Sprintf("%.0f%%", e*100)
	}
	return h
}

// htmlLayers says what each layer brought.
func htmlLayers(r *Report) []htmlLayer {
	i := r.Inventory.Image
	if i == nil {
		return nil
	}
	out := make([]htmlLayer, len(i.Layers))
	by := make([][finding.Critical + 1]int, len(i.Layers))
	for n, l := range i.Layers {
		out[n] = htmlLayer{N: n + 1, Instruction: l.Instruction, Size: bytesInWords(l.Size)}
	}
	layerOf := func(p *inventory.Package) int {
		if len(p.Places) > 0 && p.Places[0].Layer > 0 && p.Places[0].Layer <= len(out) {
			return p.Places[0].Layer - 1
		}
		return -1
	}
	for n := range r.Inventory.Packages {
		if at := layerOf(&r.Inventory.Packages[n]); at >= 0 {
			out[at].Packages++
		}
	}
	for n := range r.Vulnerabilities {
		v := &r.Vulnerabilities[n]
		if at := layerOf(&v.Package); at >= 0 && v.Accepted == nil {
			by[at][min(v.Severity, finding.Critical)]++
			out[at].Total++
		}
	}
	for n := range out {
		out[n].Counts = htmlCounts(by[n][:])
	}
	return out
}

func htmlRowOf(v *finding.Vulnerability) htmlRow {
	row := htmlRow{Vulnerability: v, Package: v.Package.FullName(), Installed: v.Package.Version, Links: links(v.References), State: strings.ReplaceAll(string(v.State), "-", " ")}
	for _, p := range v.Package.Places {
		row.Places = append(row.Places, whence([]inventory.Place{p}))
	}
	for _, s := range v.Scores {
		if row.Score == "" || s.Version > "3" {
			row.Score = fmt.Sprintf("%.1f", s.Base)
		}
	}
	if v.EPSS != nil && v.EPSS.EPSS >= 0.001 {
		row.EPSS = fmt.Sprintf("%.1f%%", v.EPSS.EPSS*100)
	}
	row.Search = strings.ToLower(untrusted.Text(v.ID + " " + strings.Join(v.Aliases, " ") + " " + row.Package + " " + v.Severity.String() + " " + row.State))
	return row
}

// bytesInWords is a size as people read it; "" for none.
func bytesInWords(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 1<<20:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	case n < 1<<30:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
