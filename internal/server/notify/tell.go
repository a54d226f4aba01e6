package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Bounds of a notice that others make: it waits with up to store.MaxNotices others,
// and is sent with some. The console has all.
const (
	maxID         = 200
	maxTitle      = 500
	maxDetail     = 4_000
	maxTechniques = 20
)

// Tell has the targets that want it told of an incident, a violation or a response.
// Whatever it is called with the same ID for, it is told once: give another one when
// there is news of the same Subject, as in "incident-7-3" for its third change.
//
// A Link that begins with a slash is a page of the console. Without an Owner, the
// rules of owners say who is responsible. Texts that are too long are cut.
//
// It only stores, and is quick. Errors: Invalid for a notice that is none; of the
// store, and then nothing is told and it may be called again.
func (s *Service) Tell(ctx context.Context, n notice.Notice) error {
	targets, err := s.prepare(ctx, &n)
	if err != nil {
		return err
	}
	var tellings []store.Telling
	for i := range targets {
		if t := &targets[i]; t.Filter.TakesNotice(&n) {
			tellings = append(tellings, store.Telling{Target: t.ID, Notice: n})
		}
	}
	return s.put(ctx, string(n.Kind)+" "+n.ID, tellings)
}

// TellTarget is Tell for the one target that is named, whatever its filter is: who
// asks has decided. Without an ID it is told each time. NotFound when there is no
// such target.
func (s *Service) TellTarget(ctx context.Context, target string, n notice.Notice) error {
	if n.ID == "" {
		n.ID = rand.Text()
	}
	targets, err := s.prepare(ctx, &n)
	if err != nil {
		return err
	}
	for i := range targets {
		if t := &targets[i]; t.Name == target {
			return s.put(ctx, fmt.Sprintf("%s %s for %d", n.Kind, n.ID, t.ID), []store.Telling{{Target: t.ID, Notice: n}})
		}
	}
	return fault.New(fault.NotFound, "no notification target is called %.80q", target).With("list them: castellan notify list")
}

// HasTarget reports whether there is a target of that name.
func (s *Service) HasTarget(ctx context.Context, target string) (bool, error) {
	targets, err := s.st.NotifyTargets(ctx)
	if err != nil {
		return false, fmt.Errorf("read targets: %w", err)
	}
	return slices.ContainsFunc(targets, func(t notice.Target) bool { return t.Name == target }), nil
}

// prepare checks a notice, bounds it and says who is responsible. It returns all
// targets.
func (s *Service) prepare(ctx context.Context, n *notice.Notice) ([]notice.Target, error) {
	switch {
	case n.ID == "" || len(n.ID) > maxID:
		return nil, fault.New(fault.Invalid, "notice: its id must have 1 to %d bytes", maxID)
	case !n.Kind.Happens():
		return nil, fault.New(fault.Invalid, "notice %s: its kind %.40q is of nothing that happens", n.ID, n.Kind)
	case n.Title == "" || n.Severity > finding.Critical:
		return nil, fault.New(fault.Invalid, "notice %s: it has no title, or no severity", n.ID)
	}
	s.bound(n)
	targets, err := s.st.NotifyTargets(ctx)
	if err != nil {
		return nil, fmt.Errorf("read targets: %w", err)
	}
	if len(targets) == 0 {
		return nil, nil // nobody wants to know who it is
	}
	if err := s.identify(ctx, n); err != nil {
		return nil, err
	}
	return targets, s.name(ctx, n)
}

// bound cuts what is too long and completes the link.
func (s *Service) bound(n *notice.Notice) {
	if n.Time.IsZero() {
		n.Time = s.clock()
	}
	n.Title, n.Detail = untrusted.Clip(n.Title, maxTitle), untrusted.Clip(n.Detail, maxDetail)
	n.Remedy, n.Owner = untrusted.Clip(n.Remedy, maxTitle), untrusted.Clip(n.Owner, maxTitle)
	n.Techniques = n.Techniques[:min(len(n.Techniques), maxTechniques)]
	if n.Link == "" || strings.HasPrefix(n.Link, "/") {
		n.Link = s.console() + n.Link
	}
}

// identify completes what is said of the workload that a notice is about. One that is
// not known any more is left as it is.
func (s *Service) identify(ctx context.Context, n *notice.Notice) error {
	if n.Workload == nil || n.Workload.ID == "" {
		return nil
	}
	w, err := s.st.Workload(ctx, n.Workload.ID)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the workload of notice %s: %w", n.ID, err)
	}
	to := *n.Workload // the caller's stays as it is
	for _, f := range []struct {
		to    *string
		value string
	}{
		{&to.Group, string(w.Group)}, {&to.Account, w.ECS.Account}, {&to.Region, w.ECS.Region}, {&to.Cluster, w.ECS.Cluster}, {&to.Task, w.ECS.TaskARN},
		{&to.Container, cmp.Or(w.ECS.Container, w.Name)}, {&to.Host, w.AgentID}, {&to.Image, w.Image.Reference},
	} {
		if *f.to == "" {
			*f.to = untrusted.Clip(f.value, maxTitle)
		}
	}
	n.Workload = &to
	return nil
}

// put puts notices into the queues of targets, unless they were there before.
func (s *Service) put(ctx context.Context, id string, tellings []store.Telling) error {
	if len(tellings) == 0 {
		return nil
	}
	fresh, err := s.st.PutNotices(ctx, id, tellings)
	if err != nil {
		return fmt.Errorf("store what is to be told of %s: %w", id, err)
	}
	if fresh {
		s.Nudge()
	}
	return nil
}

// name says who is responsible for what a notice is about, where that is known and
// not said.
func (s *Service) name(ctx context.Context, n *notice.Notice) error {
	if n.Owner != "" || n.Workload == nil && n.Image == nil {
		return nil
	}
	owners, err := s.st.Owners(ctx)
	if err != nil {
		return fmt.Errorf("read who owns what: %w", err)
	}
	n.Owner = ownerOf(owners, n.References(), n.Groups())
	return nil
}

// ownerOf returns who is responsible for an image with these names that runs in
// these groups; "" where no rule says it.
func ownerOf(owners asset.Owners, references, groups []string) string {
	all := make([]asset.Group, len(groups))
	for i, g := range groups {
		all[i] = asset.Group(g)
	}
	return owners.OfAll(references, all).Name
}
