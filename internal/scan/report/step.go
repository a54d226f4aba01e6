package report

import (
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Step is one thing to do and what is gone then: how every form for people
// groups findings.
type Step struct {
	// Names are the packages that move together: the binary packages of one
	// source package, or one package.
	Names []string
	From  string
	To    string // empty where there is no fix
	State finding.State
	// Places show the packages.
	Places []inventory.Place
	// Gone are the findings, gravest first, and IDs their weaknesses, each once.
	Gone []*finding.Vulnerability
	IDs  []string
	// Worst is the gravest severity of what is gone, EPSS its highest
	// probability.
	Worst     finding.Severity
	Exploited bool
	InUse     bool
	EPSS      float32
}

// Steps groups findings by what makes them go, best first, as the reports do;
// accepted ones are left out. What is returned points into vs.
func Steps(vs []finding.Vulnerability, compare func(ecosystem, a, b string) int) []Step {
	all := remedies(vs, compare)
	out := make([]Step, 0, len(all))
	for i := range all {
		r := &all[i]
		out = append(out, Step{
			Names: r.names, From: r.from, To: r.to, State: r.state, Places: r.places, Gone: r.gone, IDs: r.ids,
			Worst: r.worst(), Exploited: r.exploited(), InUse: r.inUse(), EPSS: r.epss(),
		})
	}
	return out
}
