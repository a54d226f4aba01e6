package images

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

// accepted are the decisions to live with weaknesses, as the loop applies them.
type accepted struct {
	// mu is held while one is stored, too, so that a comparison knows those that
	// are older than itself.
	mu  sync.Mutex
	all []store.Acceptance
	// dirty says that the store has others since loaded.
	dirty   bool
	loaded  time.Time
	revised time.Time // when what had changed by then was acted on
}

// kindRules are acceptances by what they are about; "" are vulnerabilities.
type kindRules map[store.FindingKind][]scan.Rule

// rules returns the acceptances that concern an image now, and the time as of
// which they are all there are.
func (a *accepted) rules(m *store.Image, clock func() time.Time) (rules kindRules, now, asOf time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now = clock()
	asOf = now
	if a.dirty {
		asOf = a.loaded
	}
	rules = kindRules{}
	for i := range a.all {
		x := &a.all[i]
		if x.Holds(now) && concerns(x, m) {
			rules[x.Kind] = append(rules[x.Kind], scan.Rule{
				ID: x.Name(), Package: x.Package, Path: x.Path, Reason: x.Reason, By: x.By, Expires: x.Expires,
			})
		}
	}
	return rules, now, asOf
}

// concerns reports whether an acceptance is about an image.
func concerns(a *store.Acceptance, m *store.Image) bool {
	if a.Image == "" || a.Image == m.ID {
		return true
	}
	for _, r := range m.References {
		if asset.Repository(r) == a.Image {
			return true
		}
	}
	return false
}

// dueAt returns when the next one expires; zero when none does.
func (a *accepted) dueAt() (next time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.all {
		x := &a.all[i]
		if x.Ended.IsZero() && x.Expires.After(a.revised) && (next.IsZero() || x.Expires.Before(next)) {
			next = x.Expires
		}
	}
	return next
}

func (a *accepted) isDirty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dirty
}

// load reads all acceptances, and returns the time as of which they are all, and
// that of the time before.
func (s *Service) load(ctx context.Context) (all []store.Acceptance, since, now time.Time, err error) {
	a := &s.accepted
	a.mu.Lock()
	defer a.mu.Unlock()
	now = s.clock()
	if all, err = s.st.Acceptances(ctx); err != nil {
		return nil, since, now, fmt.Errorf("read what is accepted: %w", err)
	}
	a.all, a.dirty, a.loaded = all, false, now
	return all, a.revised, now, nil
}

// revise has the images compared anew that an acceptance bears on which was made
// or ended, or expired, since they were.
func (s *Service) revise(ctx context.Context) (err error) {
	all, since, now, err := s.load(ctx)
	defer func() {
		s.accepted.mu.Lock()
		defer s.accepted.mu.Unlock()
		if err != nil {
			s.accepted.dirty = true
			return
		}
		s.accepted.revised = now
	}()
	if err != nil || len(all) == 0 {
		return err
	}
	images, err := s.scanned(ctx)
	if err != nil {
		return err
	}
	if since.IsZero() {
		since = oldest(images)
	}
	for i := range all {
		changed := lastChange(&all[i], now)
		if changed.Before(since) {
			continue
		}
		ids, err := s.having(ctx, &all[i], images)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if m := images[id]; m != nil && concerns(&all[i], m) && !m.Scan.Matched.After(changed) {
				s.queue.soon(id)
			}
		}
	}
	s.listeners.touch("")
	return nil
}

// lastChange returns when an acceptance last became another one.
func lastChange(a *store.Acceptance, now time.Time) time.Time {
	switch {
	case !a.Ended.IsZero():
		return a.Ended
	case !now.Before(a.Expires):
		return a.Expires
	}
	return a.Created
}

func oldest(images map[string]*store.Image) (t time.Time) {
	for _, m := range images {
		if t.IsZero() || m.Scan.Matched.Before(t) {
			t = m.Scan.Matched
		}
	}
	return t
}

// scanned returns the images that were compared before; the others will be.
func (s *Service) scanned(ctx context.Context) (map[string]*store.Image, error) {
	images := map[string]*store.Image{}
	q := store.ImageQuery{Limit: store.MaxPage}
	for {
		page, err := s.st.Images(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		for i := range page {
			if !page[i].Scan.Matched.IsZero() {
				images[page[i].ID] = &page[i]
			}
		}
		if len(page) < store.MaxPage {
			return images, nil
		}
		q.After = page[len(page)-1].ID
	}
}

// havingFinding returns the images with what an acceptance of another kind names.
// A rule that is part of another's name is among them: too many are compared, never
// too few.
func (s *Service) havingFinding(ctx context.Context, a *store.Acceptance) ([]string, error) {
	ids := map[string]bool{}
	for _, accepted := range []bool{false, true} {
		q := store.FindingQuery{Kind: a.Kind, Text: a.Rule, Accepted: accepted, Limit: store.MaxPage}
		if a.Kind == store.KindFault {
			q.Text = "" // the check may be named as other catalogues do
		}
		for {
			page, err := s.st.FindingsIn(ctx, q)
			if err != nil {
				return nil, fmt.Errorf("list images with %s: %w", a.Rule, err)
			}
			for i := range page {
				ids[page[i].ImageID] = true
			}
			if len(page) < store.MaxPage {
				break
			}
			q.Offset += len(page)
		}
	}
	return slices.Collect(maps.Keys(ids)), nil
}

// having returns the images with the weakness that an acceptance names. Findings
// are known by their CVE and GHSA numbers; of other names only a comparison tells
// whether one is meant.
func (s *Service) having(ctx context.Context, a *store.Acceptance, images map[string]*store.Image) ([]string, error) {
	if a.Kind != "" {
		return s.havingFinding(ctx, a)
	}
	var ids []string
	if !strings.HasPrefix(a.Vulnerability, "CVE-") && !strings.HasPrefix(a.Vulnerability, "GHSA-") {
		for id := range images {
			ids = append(ids, id)
		}
		return ids, nil
	}
	for _, accepted := range []bool{false, true} {
		q := store.VulnerabilityQuery{ID: a.Vulnerability, Accepted: accepted, Limit: store.MaxPage}
		if strings.HasPrefix(a.Image, "sha256:") {
			q.ImageID = a.Image
		}
		for {
			page, err := s.st.Vulnerabilities(ctx, q)
			if err != nil {
				return nil, fmt.Errorf("list images with %s: %w", a.Vulnerability, err)
			}
			for i := range page {
				ids = append(ids, page[i].ImageID)
			}
			if len(page) < store.MaxPage {
				break
			}
			q.Offset += len(page)
		}
	}
	return ids, nil
}
