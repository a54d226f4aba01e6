package behaviour

import (
	"context"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

// Amendment is what a person changes of a profile, and leaves the rest.
type Amendment struct {
	// Add are entries that are permitted besides, Remove those that are no more;
	// either may be nil.
	Add, Remove *profile.Profile
	Limits      *profile.Limits // nil: as they are
	Comment     string
}

// amendWords bounds the changes that a revision names.
const amendWords = 3

// Amend changes single entries of a group's profile, whatever is learned meanwhile. It
// is Conflict if that would change nothing, or leave a group that is held to its
// profile with an empty one, and Denied where profiles must be signed. It needs
// access.ManageBehaviour.
func (s *Service) Amend(ctx context.Context, who access.Identity, name asset.Group, a Amendment) (store.BehaviourGroup, error) {
	return s.change(ctx, who, name, a.Comment, func(ctx context.Context, k *keeper, g *group) error {
		if err := s.unsigned("a change of single entries"); err != nil {
			return err
		}
		had, err := k.current(ctx, g)
		if err != nil {
			return err
		}
		p := had
		if a.Remove != nil {
			p = subtract(p, a.Remove)
		}
		if a.Add != nil {
			p = watch.Merge(p, asPerson(a.Add, who.Actor, a.Comment, s.Clock()))
		}
		if a.Limits != nil {
			with := *p
			with.Limits = *a.Limits
			with.Limits.Source = profile.Person
			p = &with
		}
		says := amended(had, p)
		switch {
		case says == "":
			return fault.New(fault.Conflict, "that changes nothing: the profile of %s says so already", name)
		case g.Mode != profile.Discover && watch.Entries(p) == 0:
			return fault.New(fault.Conflict, "the profile of %s would permit nothing any more", name)
		}
		if a.Comment != "" {
			says += ": " + a.Comment
		}
		if err := k.revise(ctx, who, g, p, says, &store.BehaviourChange{}); err != nil {
			return err
		}
		return s.audit(ctx, who, "behaviour.amend", "group:"+string(name), says)
	})
}

// amended says what a person changed; "" if nothing.
func amended(before, after *profile.Profile) string {
	var words []string
	changes := watch.Changes(before, after)
	for _, c := range changes[:min(len(changes), amendWords)] {
		sign := "no longer "
		if c.Added {
			sign = "now "
		}
		words = append(words, sign+c.Sentence)
	}
	if more := len(changes) - amendWords; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	limits := after.Limits
	limits.Source = before.Limits.Source
	if limits != before.Limits {
		words = append(words, "other limits")
	}
	return strings.Join(words, ", ")
}
