package match

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// statement is a VEX statement about the subject or about packages in it.
type statement struct {
	advisory.Exploitability
	// packages are package URLs of which one must meet, unless all are meant.
	packages []string
	all      bool
}

// statementsAbout leaves the statements that can be about an inventory, the
// latest last.
func statementsAbout(inv *inventory.Inventory, all []advisory.Exploitability) []statement {
	var kept []statement
	for _, e := range all {
		s := statement{Exploitability: e}
		for _, product := range e.Products {
			switch {
			case isSubject(product, inv) && len(e.Subcomponents) == 0:
				s.all = true
			case isSubject(product, inv), len(e.Subcomponents) > 0 && holds(inv, product):
				s.packages = append(s.packages, e.Subcomponents...)
			case len(e.Subcomponents) == 0:
				s.packages = append(s.packages, product)
			}
		}
		if s.all || len(s.packages) > 0 {
			kept = append(kept, s)
		}
	}
	slices.SortStableFunc(kept, func(a, b statement) int { return a.Timestamp.Compare(b.Timestamp) })
	return kept
}

// isSubject says whether a product of VEX is the image that was scanned: by its
// digest, as a package URL with that digest, or, if it has none, with its name.
func isSubject(product string, inv *inventory.Inventory) bool {
	image := inv.Image
	if image == nil {
		return product == inv.Subject.Name
	}
	if product == image.Digest || product == image.ID || product == image.Reference {
		return product != ""
	}
	u, ok := inventory.ParsePURL(product)
	if !ok || u.Type != "oci" && u.Type != "docker" {
		return false
	}
	if u.Version != "" {
		return u.Version == image.Digest || u.Version == image.ID
	}
	name, _, _ := strings.Cut(image.Reference, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		if tag := u.Qualifiers["tag"]; tag != "" && tag != name[i+1:] {
			return false
		}
		name = name[:i]
	}
	if repository := u.Qualifiers["repository_url"]; repository != "" {
		return repository == name
	}
	return u.Name == path.Base(name) && u.Namespace == ""
}

// holds says whether a package URL is of a package of the inventory.
func holds(inv *inventory.Inventory, product string) bool {
	return slices.ContainsFunc(inv.Packages, func(p inventory.Package) bool { return meetsURL(product, &p, inv.OS) })
}

// state applies the last statement about a finding.
func (p *policy) state(f *found, names []string) {
	for i := range slices.Backward(p.statements) {
		s := &p.statements[i]
		about := func(name string) bool { return name == s.Vulnerability || slices.Contains(s.Aliases, name) }
		if !slices.ContainsFunc(names, about) {
			continue
		}
		if !s.all && !slices.ContainsFunc(s.packages, func(u string) bool { return meetsURL(u, f.p, p.inv.OS) }) {
			continue
		}
		s.change(f)
		return
	}
}

func (s *statement) change(f *found) {
	by := cmp.Or(s.Author, "the author of a VEX document")
	switch s.Status {
	case advisory.VEXNotAffected:
		f.state, f.note = finding.NotAffected, said(by, "not affected", strings.ReplaceAll(s.Justification, "_", " "), s.Impact)
	case advisory.VEXFixed:
		f.state, f.note = finding.NotAffected, said(by, "fixed here", s.Impact)
	case advisory.VEXUnderInvestigation:
		if f.state != finding.Fixable {
			f.state = finding.UnderInvestigation
		}
		f.note = said(by, "under investigation", s.Impact)
	case advisory.VEXAffected:
		f.note = said(by, "affected", s.Action, s.Impact)
	}
}

// said joins what somebody said: `not affected, says Jane: code not reachable`.
func said(by, what string, why ...string) string {
	why = slices.DeleteFunc(why, func(s string) bool { return s == "" })
	text := what + ", says " + by
	if len(why) > 0 {
		text += ": " + strings.Join(why, "; ")
	}
	return text
}

// meetsURL says whether a package is what a package URL names. What the URL leaves
// out does not matter; of qualifiers, those that the package has as well must be
// the same.
func meetsURL(s string, p *inventory.Package, os inventory.OS) bool {
	want, ok := inventory.ParsePURL(s)
	if !ok || want.Type != p.Type {
		return false
	}
	have, ok := inventory.ParsePURL(p.PURL(os))
	if !ok || !sameName(want.Type, want.Name, have.Name) || !sameName(want.Type, want.Namespace, have.Namespace) {
		return false
	}
	if want.Version != "" && want.Version != have.Version {
		return false
	}
	for name, value := range want.Qualifiers {
		if mine, ok := have.Qualifiers[name]; ok && mine != value {
			return false
		}
	}
	return true
}

// sameName compares names as the type of package URL has it.
func sameName(kind, a, b string) bool {
	switch kind {
	case "pypi":
		return strings.EqualFold(strings.ReplaceAll(a, "_", "-"), b)
	case "deb", "apk", "composer", "github", "nuget":
		return strings.EqualFold(a, b)
	}
	return a == b
}
