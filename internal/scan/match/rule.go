package match

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Rule accepts findings: all that it names must meet, and it must name something.
type Rule struct {
	// ID is any name of the weakness or of an advisory about it.
	ID string `json:"id,omitempty"`
	// Package is a package's name, that of its source, or a package URL, with
	// or without a version.
	Package string `json:"package,omitempty"`
	// Path is where the package was found, with the patterns of path.Match; one
	// that ends in "/**" means everything below. All places of a package must
	// meet, or a copy elsewhere would be accepted with it.
	Path string `json:"path,omitempty"`
	// Resource is what a misconfiguration is of, or "resource/container", with the
	// patterns of path.Match. A rule with one is about no package.
	Resource string `json:"resource,omitempty"`
	// Reason says why; there is none without.
	Reason string `json:"reason"`
	By     string `json:"by,omitempty"`
	// Expires is when the rule ends; zero: never. A date without a time is the
	// last day on which it holds.
	Expires time.Time `json:"expires,omitzero"`
}

// UnmarshalJSON reads a rule; what it does not know is an error, because a
// misspelt limit would accept too much.
func (r *Rule) UnmarshalJSON(b []byte) error {
	type plain Rule
	var x struct {
		plain
		Expires string `json:"expires"`
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return err
	}
	*r = Rule(x.plain)
	if x.Expires == "" {
		return nil
	}
	if day, err := time.Parse(time.DateOnly, x.Expires); err == nil {
		r.Expires = day.AddDate(0, 0, 1)
		return nil
	}
	t, err := time.Parse(time.RFC3339, x.Expires)
	if err != nil {
		return fault.New(fault.Invalid, "expires %q: want a date (2026-12-31) or a time (RFC 3339)", x.Expires)
	}
	r.Expires = t
	return nil
}

// Check returns an error if a rule is none.
func (r *Rule) Check() error {
	switch {
	case strings.TrimSpace(r.Reason) == "":
		return fault.New(fault.Invalid, "no reason").With("say why this is accepted: reason: …")
	case r.ID == "" && r.Package == "" && r.Path == "" && r.Resource == "":
		return fault.New(fault.Invalid, "it names no id, package, path or resource, and would accept everything")
	}
	if _, err := path.Match(strings.TrimSuffix(r.Path, "/**"), ""); err != nil {
		return fault.New(fault.Invalid, "path %q: %w", r.Path, err)
	}
	if _, err := path.Match(r.Resource, ""); err != nil {
		return fault.New(fault.Invalid, "resource %q: %w", r.Resource, err)
	}
	return nil
}

// over says whether a rule holds no longer.
func (r *Rule) over(now time.Time) bool { return !r.Expires.IsZero() && !r.Expires.After(now) }

// acceptance is what becomes of what a rule meets.
func (r *Rule) acceptance() *finding.Acceptance {
	return &finding.Acceptance{Reason: r.Reason, By: r.By, Expires: r.Expires}
}

// policy is what the user says, and what of it was heeded.
type policy struct {
	inv        *inventory.Inventory
	rules      []Rule
	used       []bool
	expired    []Rule
	statements []statement
}

func newPolicy(inv *inventory.Inventory, o Options) *policy {
	p := &policy{inv: inv}
	for _, r := range o.Rules {
		if r.over(o.Now) {
			p.expired = append(p.expired, r)
			continue
		}
		p.rules = append(p.rules, r)
	}
	p.used = make([]bool, len(p.rules))
	p.statements = statementsAbout(inv, o.Statements)
	return p
}

// apply lets the user's words change a finding.
func (p *policy) apply(f *found) {
	if len(p.rules) == 0 && len(p.statements) == 0 {
		return
	}
	names := namesOf(f)
	p.state(f, names)
	for i, r := range p.rules {
		if !r.meets(f.p, names, p.inv) {
			continue
		}
		p.used[i] = true
		if f.accepted == nil {
			f.accepted = r.acceptance()
		}
	}
}

// unused returns the rules that met nothing.
func (p *policy) unused() (rules []Rule) {
	for i, r := range p.rules {
		if !p.used[i] {
			rules = append(rules, r)
		}
	}
	return rules
}

// namesOf returns every name under which somebody may know a finding.
func namesOf(f *found) []string {
	names := append([]string{f.id}, f.aliases...)
	for _, a := range f.advisories {
		names = append(names, a.ID)
	}
	return names
}

func (r *Rule) meets(p *inventory.Package, names []string, inv *inventory.Inventory) bool {
	if r.Resource != "" {
		return false
	}
	if r.ID != "" && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, r.ID) }) {
		return false
	}
	if r.Package != "" && r.Package != p.Name && r.Package != p.FullName() && r.Package != p.Source.Name && !meetsURL(r.Package, p, inv.OS) {
		return false
	}
	if r.Path == "" {
		return true
	}
	return len(p.Places) > 0 && !slices.ContainsFunc(p.Places, func(at inventory.Place) bool { return !r.meetsPath(at.Path) })
}

func (r *Rule) meetsPath(p string) bool {
	if below, ok := strings.CutSuffix(r.Path, "/**"); ok {
		// The pattern is for as many folders as it has.
		parts := strings.Split(p, "/")
		n := strings.Count(below, "/") + 1
		if len(parts) <= n {
			return false
		}
		p = strings.Join(parts[:n], "/")
		ok, _ := path.Match(below, p)
		return ok
	}
	ok, _ := path.Match(r.Path, p)
	return ok
}

// String names a rule for people.
func (r Rule) String() string {
	var parts []string
	for _, part := range []struct{ name, value string }{{"id", r.ID}, {"package", r.Package}, {"path", r.Path}, {"resource", r.Resource}} {
		if part.value != "" {
			parts = append(parts, part.name+" "+part.value)
		}
	}
	return fmt.Sprintf("%s (%s)", strings.Join(parts, ", "), r.Reason)
}
