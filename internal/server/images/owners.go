package images

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// owning is whether the owners of images are to be worked out anew.
type owning struct {
	mu    sync.Mutex
	dirty bool
	// change is held while the rules are changed: they are read and written whole.
	change sync.Mutex
}

func (o *owning) soon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dirty = true
}

func (o *owning) take() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	dirty := o.dirty
	o.dirty = false
	return dirty
}

// Owners returns the rules that say who is responsible for what, in their order.
// It needs access.ReadImages.
func (s *Service) Owners(ctx context.Context, who access.Identity) (asset.Owners, error) {
	if !who.May(access.ManageImages) {
		if err := who.Need(access.ReadImages); err != nil {
			return nil, err
		}
	}
	return s.st.Owners(ctx)
}

// SetOwner makes a rule: in the place of the one with the same pattern, or as the
// last, which decides before all others. It needs access.ManageImages.
func (s *Service) SetOwner(ctx context.Context, who access.Identity, rule asset.OwnerRule) error {
	if err := who.Need(access.ManageImages); err != nil {
		return err
	}
	for _, text := range []*string{&rule.Image, &rule.Group, &rule.Name, &rule.Contact} {
		*text = strings.TrimSpace(*text)
	}
	if err := rule.Check(); err != nil {
		return fault.New(fault.Invalid, "owner: %w", err).
			With("patterns are those of repositories (shop/*, registry.example/team/**) or of groups (cluster/service/container)")
	}
	for _, text := range []string{rule.Pattern(), rule.Name, rule.Contact} {
		if untrusted.Text(text) != text || strings.ContainsFunc(text, unicode.IsControl) {
			return fault.New(fault.Invalid, "owner: %.80q is no plain text", text)
		}
	}
	err := s.changeOwners(ctx, func(rules asset.Owners) (asset.Owners, error) {
		if i := slices.IndexFunc(rules, sameSubject(rule)); i >= 0 {
			rules[i] = rule
			return rules, nil
		}
		return append(rules, rule), nil
	})
	if err != nil {
		return err
	}
	return s.audit(ctx, who, "owner.set", ownerTarget(rule), rule.Name)
}

// RemoveOwner takes a rule away; NotFound when there is none with its pattern. It
// needs access.ManageImages.
func (s *Service) RemoveOwner(ctx context.Context, who access.Identity, rule asset.OwnerRule) error {
	if err := who.Need(access.ManageImages); err != nil {
		return err
	}
	err := s.changeOwners(ctx, func(rules asset.Owners) (asset.Owners, error) {
		left := slices.DeleteFunc(slices.Clone(rules), sameSubject(rule))
		if len(left) == len(rules) {
			return nil, fault.New(fault.NotFound, "no rule of owners has the pattern %.80q", rule.Pattern()).With("castellan owners lists them")
		}
		return left, nil
	})
	if err != nil {
		return err
	}
	return s.audit(ctx, who, "owner.remove", ownerTarget(rule), "")
}

func sameSubject(as asset.OwnerRule) func(asset.OwnerRule) bool {
	return func(r asset.OwnerRule) bool { return r.Image == as.Image && r.Group == as.Group }
}

func ownerTarget(r asset.OwnerRule) string {
	if r.Group != "" {
		return "group:" + r.Group
	}
	return "image:" + r.Image
}

// changeOwners replaces the rules, and has the owners of all images worked out.
func (s *Service) changeOwners(ctx context.Context, change func(asset.Owners) (asset.Owners, error)) error {
	s.owning.change.Lock()
	defer s.owning.change.Unlock()
	rules, err := s.st.Owners(ctx)
	if err != nil {
		return fmt.Errorf("read owners: %w", err)
	}
	if rules, err = change(rules); err != nil {
		return err
	}
	if err := s.st.PutOwners(ctx, rules); err != nil {
		return fmt.Errorf("store owners: %w", err)
	}
	s.owning.soon()
	s.nudge()
	return nil
}

// assignOwners works out whose each image is, if anything may have changed that,
// and stores what is another's now.
func (s *Service) assignOwners(ctx context.Context) (err error) {
	if !s.owning.take() {
		return nil
	}
	defer func() {
		if err != nil {
			s.owning.soon()
		}
	}()
	rules, err := s.st.Owners(ctx)
	if err != nil {
		return fmt.Errorf("read owners: %w", err)
	}
	after, touched := "", false
	for {
		page, err := s.st.OwnedImages(ctx, after)
		if err != nil {
			return fmt.Errorf("list images: %w", err)
		}
		changed := map[string]string{}
		for i := range page {
			m := &page[i]
			if owner := rules.OfAll(m.References, m.Groups).Name; owner != m.Owner {
				changed[m.ID] = owner
			}
		}
		// A page at a time: the store takes nothing else while it is written to.
		if err := s.st.PutImageOwners(ctx, changed); err != nil {
			return fmt.Errorf("store the owners of images: %w", err)
		}
		touched = touched || len(changed) > 0
		if len(page) < store.MaxPage {
			break
		}
		after = page[len(page)-1].ID
	}
	if touched {
		s.listeners.touch("")
	}
	return nil
}
