package decide

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/admit/policy"
)

// mode returns what becomes of what a rule refuses of something. Of a whole
// request it is the strictest of what holds for its images.
func (d *decision) mode(rule *policy.Rule, s *condition.Scope) policy.Mode {
	if i := s.ImageOf(); i != nil {
		if d.last.rule != rule || d.last.image != i { // hundreds of vulnerabilities are of one image
			d.last.rule, d.last.image, d.last.mode = rule, i, d.modeOf(rule, i)
		}
		return d.last.mode
	}
	images := d.view.Images()
	if len(images) == 0 {
		return d.modeOf(rule, nil)
	}
	mode := policy.Off
	for _, i := range images {
		mode = mode.Stricter(d.modeOf(rule, i))
	}
	return mode
}

// modeOf is the mode by the first scope that fits. A scope of which nobody can
// know whether it fits may be meant: then the stricter of it and of what follows
// holds.
func (d *decision) modeOf(rule *policy.Rule, i *condition.Image) policy.Mode {
	mode := policy.Off
	for _, s := range d.fitting(i) {
		mode = mode.Stricter(d.p.ModeIn(s, rule))
	}
	return mode
}

// fitting returns the scopes that fit, or may fit, up to the first that does; nil
// in it stands for the policy itself.
func (d *decision) fitting(i *condition.Image) []*policy.Scope {
	name, unknown := "", false
	if i != nil {
		name, unknown = RepositoryOf(i.Image), i.Unsaid()
	}
	key := name
	if unknown {
		key = "?" // no repository is called that
	}
	if out, ok := d.scopes[key]; ok {
		return out
	}
	var out []*policy.Scope
	sure := false
	for _, s := range d.p.Scopes {
		fit := d.fits(s, name, unknown)
		if fit != no {
			out = append(out, s)
		}
		if sure = fit == yes; sure {
			break
		}
	}
	if !sure {
		out = append(out, nil)
	}
	if d.scopes == nil {
		d.scopes = map[string][]*policy.Scope{}
	}
	d.scopes[key] = out
	return out
}

// fit says whether a scope is meant.
type fit int

const (
	no fit = iota
	maybe
	yes
)

func (d *decision) fits(s *policy.Scope, repository string, unsaid bool) fit {
	out := yes
	for _, w := range s.Where {
		value, unknown := d.place(w.Field)
		if w.Field == policy.Repository {
			value, unknown = repository, unsaid
		}
		switch {
		case unknown:
			out = min(out, maybe)
		case value == "" || !slices.ContainsFunc(w.Patterns, func(p string) bool { return condition.Like(value, p) }):
			return no
		}
	}
	return out
}

// place returns a field of the request by which scopes are chosen.
func (d *decision) place(field string) (value string, unknown bool) {
	p := &d.r.Place
	switch field {
	case policy.Door:
		return string(d.r.Door), false
	case policy.Family:
		return d.r.Task.Family, d.view.IsUnknown("task.family")
	case policy.Account:
		value = p.Account
	case policy.Region:
		value = p.Region
	case policy.Cluster:
		value = p.Cluster
	case policy.Service:
		value = p.Service
	case policy.Host:
		value = p.Host
	}
	return value, d.view.IsUnknown("place." + field)
}

// RepositoryOf is an image's repository with its registry, as patterns of
// policies mean it.
func RepositoryOf(i *admission.Image) string {
	if i.Repository == "" {
		return ""
	}
	if i.Registry == "" {
		return i.Repository
	}
	return strings.TrimSuffix(i.Registry, "/") + "/" + i.Repository
}
