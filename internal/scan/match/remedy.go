package match

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// remedy says in one sentence what to do. source is the source package whose
// version the fix is, if it is not the package's own.
func remedy(v *finding.Vulnerability, source string) string {
	p := &v.Package
	name := p.FullName()
	switch v.State {
	case finding.Fixable:
		return upgrade(p, name, v.Fixed, source)
	case finding.NotAffected:
		return "nothing: " + name + " is not affected"
	case finding.Withdrawn:
		return "nothing: the advisory was withdrawn"
	case finding.EndOfLife:
		return "move to a release that is still maintained: " + place(p) + " gets no fix for " + name
	case finding.WontFix:
		return "remove " + name + " or shield it: " + place(p) + " will not get a fix"
	case finding.Deferred:
		return "wait for the next update of " + name + ": the fix is put off"
	case finding.UnderInvestigation:
		return "watch " + v.ID + ": it is being looked into"
	}
	return "remove or shield " + name + " until there is a fix"
}

func upgrade(p *inventory.Package, name, fixed, source string) string {
	switch {
	case p.Type == "golang" && name == "stdlib":
		return "rebuild with Go " + strings.TrimPrefix(fixed, "go")
	case p.Found == inventory.Compiled:
		return "rebuild with " + name + " " + fixed
	case source != "":
		return fmt.Sprintf("upgrade %s to one built from %s %s", name, source, fixed)
	}
	return "upgrade " + name + " to " + fixed
}

// place returns the distribution's release, or the ecosystem, in words.
func place(p *inventory.Package) string {
	return cmp.Or(strings.ReplaceAll(p.Ecosystem, ":", " "), p.Type)
}
