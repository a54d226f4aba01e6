package decide

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/admit/policy"
)

// excepted returns the exception for what a rule refuses, nil if there is none;
// lapsed is one that was for it and is over.
func (d *decision) excepted(rule *policy.Rule, s *condition.Scope) (e, lapsed *admission.Exception) {
	for _, x := range d.exceptions {
		switch {
		case !slices.Contains(x.Rules, rule.ID) || !d.isFor(x, s):
		case d.now.Before(x.Expires):
			return x, nil
		case lapsed == nil || x.Expires.After(lapsed.Expires):
			lapsed = x
		}
	}
	return nil, lapsed
}

// isFor says whether all that an exception names fits. What nobody knows fits
// nothing.
func (d *decision) isFor(e *admission.Exception, s *condition.Scope) bool {
	for _, f := range []struct{ want, field string }{
		{e.Family, policy.Family}, {e.Service, policy.Service}, {e.Cluster, policy.Cluster}, {e.Host, policy.Host},
	} {
		if got, unknown := d.place(f.field); f.want != "" && (unknown || got != f.want) {
			return false
		}
	}
	if e.Subject != "" && e.Subject != s.Subject() {
		return false
	}
	if e.Container != "" && !ofContainer(e.Container, s) {
		return false
	}
	if e.Image == "" {
		return true
	}
	if i := s.ImageOf(); i != nil {
		return ofImage(e.Image, i)
	}
	all := d.view.Images() // of a rule about the whole: every image of it
	return len(all) > 0 && !slices.ContainsFunc(all, func(i *condition.Image) bool { return !ofImage(e.Image, i) })
}

// ofContainer says whether something is about one container alone.
func ofContainer(name string, s *condition.Scope) bool {
	if c := s.ContainerName(); c != "" {
		return c == name
	}
	if f := s.Fault(); f != nil {
		return f.Container == name
	}
	i := s.ImageOf()
	return i != nil && len(i.Containers) > 0 && !slices.ContainsFunc(i.Containers, func(c string) bool { return c != name })
}

func ofImage(want string, i *condition.Image) bool {
	if i.Unsaid() {
		return false
	}
	if strings.HasPrefix(want, "sha256:") {
		return i.Digest == want
	}
	return condition.Like(RepositoryOf(i.Image), want)
}
