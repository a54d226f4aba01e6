package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// JUnit's form as Jenkins and its kin read it: a suite a subject, a case a
// vulnerability.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Errors    int         `xml:"errors,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
		Error   *junitFailure `xml:"error,omitempty"`
		Skipped *junitSkipped `xml:"skipped,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
	junitSkipped struct {
		Message string `xml:"message,attr"`
	}
)

func writeJUnit(w io.Writer, reports []Report, o Options) error {
	all := junitSuites{Name: o.Tool + " scan"}
	for i := range reports {
		s := junitSuiteOf(&reports[i])
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// junitSuiteOf makes a case of each vulnerability, and of what could not be read.
// With a gate, only what breaks it fails; without one, everything that is not
// accepted.
func junitSuiteOf(r *Report) junitSuite {
	s := junitSuite{Name: xmlText(r.title()), Timestamp: r.Made.UTC().Format("2006-01-02T15:04:05")}
	breaks := map[string]bool{}
	if r.Gate != nil {
		for _, f := range r.Gate.Violations {
			breaks[f] = true
		}
	}
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		c := junitCase{Class: xmlText(v.Package.FullName() + " " + v.Package.Version), Name: xmlText(v.ID)}
		switch {
		case v.Accepted != nil:
			c.Skipped = &junitSkipped{xmlText("accepted: " + v.Accepted.Reason)}
			s.Skipped++
		case r.Gate == nil || breaks[v.Fingerprint]:
			c.Failure = junitFailureOf(v)
			s.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	s.addFaults(r, breaks)
	s.addSecrets(r, breaks)
	s.addMalware(r, breaks)
	for _, p := range r.Inventory.Problems {
		s.add(r.Gate, &p)
	}
	if len(s.Cases) == 0 { // a suite without cases is taken for one that did not run
		s.Cases = []junitCase{{Class: s.Name, Name: nothingFound(r)}}
	}
	s.Tests = len(s.Cases)
	return s
}

// nothingFound names the case that stands for all that there is not.
func nothingFound(r *Report) string {
	if r.onlyDocuments() {
		return "nothing is wrong"
	}
	return "no known vulnerability"
}

// add adds what could not be read. Without a gate it is an error, as everything
// that is found is a failure.
func (s *junitSuite) add(g *Gate, p *inventory.Problem) {
	c := junitCase{Class: "what could not be read", Name: xmlText(firstOf(p.Path, clip(p.What, 200)))}
	why := &junitFailure{Message: xmlText(p.What), Type: "unreadable"}
	switch {
	case g == nil:
		c.Error = why
		s.Errors++
	case g.counts(p):
		c.Failure = why
		s.Failures++
	default:
		c.Skipped = &junitSkipped{xmlText("could not be read, and does not count: " + p.What)}
		s.Skipped++
	}
	s.Cases = append(s.Cases, c)
}

func junitFailureOf(v *finding.Vulnerability) *junitFailure {
	var places []string
	for _, p := range v.Package.Places {
		places = append(places, whence([]inventory.Place{p}))
	}
	return &junitFailure{
		Message: xmlText(fmt.Sprintf("%s: %s", v.Severity, firstOf(clip(v.Summary, 200), v.ID))), Type: v.Severity.String(),
		Text: xmlText(v.Remedy + "\n" + strings.Join(places, "\n") + "\n" + strings.Join(links(v.References), "\n")),
	}
}

// xmlText leaves out what XML 1.0 cannot hold, escaped or not.
func xmlText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r', r >= 0x20 && r <= 0xd7ff, r >= 0xe000 && r <= 0xfffd, r >= 0x10000 && r <= 0x10ffff:
			return r
		}
		return -1
	}, s)
}
