package behaviour

import (
	"context"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

// judgedFor is for how many looks at promotions a judgement of settledness stands:
// it changes slowly, and costs making the whole profile.
const judgedFor = 10

func cmpText(a, b string) int { return strings.Compare(a, b) }

// stateOf is where a group is, in the words of the room. The policy is left out.
func stateOf(g *group) watch.State {
	s := watch.State{Mode: g.Mode, Since: g.Since, Settled: g.Quiet, Version: g.Version, Relearning: g.Relearning, Released: g.Released}
	if g.Proposal != nil {
		s.Proposed = g.Proposal.Mode
	}
	return s
}

// policy is how a group's mode changes by itself.
func (k *keeper) policy(g *group) watch.ModePolicy {
	p := k.promotion
	if g.Promotion != nil {
		p = *g.Promotion
	}
	return watch.ModePolicy{Promote: watch.Promote(p.Promote), After: p.After, Most: p.Most, NewVersion: watch.NewVersion(p.NewVersion)}
}

// step has something come to pass, and does what it comes to. What is to be written
// down is returned: it is, once the group is stored.
func (k *keeper) step(g *group, in watch.Input) []watch.Effect {
	s := stateOf(g)
	s.Policy = k.policy(g)
	s, effects := watch.Step(s, in)
	if g.Mode != s.Mode {
		g.index = nil
	}
	g.Mode, g.Since, g.Quiet, g.Version, g.Relearning, g.Released = s.Mode, s.Since, s.Settled, s.Version, s.Relearning, s.Released
	g.touched = true
	if s.Proposed == profile.Discover {
		g.Proposal = nil
	}
	for _, e := range effects {
		if e.Kind == watch.EffectAsk {
			g.Proposal = &store.BehaviourProposal{Mode: e.Mode, At: k.s.Clock().UTC(), Why: e.Sentence}
		}
	}
	return effects
}

// record writes effects into the audit log.
func (k *keeper) record(ctx context.Context, who access.Identity, g *group, effects []watch.Effect) error {
	for _, e := range effects {
		if e.Kind != watch.EffectRecord {
			continue
		}
		if err := k.s.audit(ctx, who, "behaviour.mode", "group:"+string(g.Group), e.Sentence); err != nil {
			return err
		}
	}
	return nil
}

// itself is who does what nobody asked for.
func itself() access.Identity { return access.Identity{Actor: byItself} }

// changes has something come to pass that stores the group at once, because rules
// depend on it.
func (k *keeper) changes(ctx context.Context, who access.Identity, g *group, in watch.Input) error {
	// What was outside is stored before the group's position moves on.
	if err := k.flush(ctx); err != nil {
		return err
	}
	was := *g
	learning := g.Mode == profile.Discover || g.Relearning
	if learning {
		if _, err := k.learner(ctx, g); err != nil {
			return err
		}
		g.dirty = true // what was learned is what is compared with from now on
	}
	effects := k.step(g, in)
	ends := learning && g.Mode != profile.Discover && !g.Relearning
	taught, err := k.newest(ctx)
	if err != nil {
		g.BehaviourGroup = was.BehaviourGroup
		return err
	}
	if err := k.store(ctx, []*group{g}, &store.BehaviourChange{}); err != nil {
		g.BehaviourGroup = was.BehaviourGroup
		return err
	}
	if ends {
		g.end = &ending{at: k.s.Clock(), taught: taught, revision: g.Revision, held: map[string]time.Time{}}
	}
	return k.record(ctx, who, g, effects)
}

// promote looks which groups are settled.
func (k *keeper) promote(ctx context.Context, now time.Time) error {
	for _, g := range k.groups {
		p := k.policy(g)
		if p.Promote == watch.PromoteNever && !g.Relearning {
			continue
		}
		if g.Mode == profile.Discover || g.Relearning {
			if now.Sub(g.judged) < judgedFor*k.s.Pace.Promote && g.Settled.Measure < settledMeasure {
				continue
			}
			l, err := k.learner(ctx, g)
			if err != nil {
				return err
			}
			l.Expect(k.s.hosts.count(g.Group))
			g.Settled, g.judged = l.Settled(now), now
		}
		before := stateOf(g)
		trial := before
		trial.Policy = p
		after, effects := watch.Step(trial, watch.Tick{Now: now, Settled: g.Settled})
		switch {
		case len(effects) > 0:
			if err := k.changes(ctx, itself(), g, watch.Tick{Now: now, Settled: g.Settled}); err != nil {
				return err
			}
		case after.Settled != before.Settled:
			k.step(g, watch.Tick{Now: now, Settled: g.Settled})
		}
	}
	return nil
}

// settledMeasure is from which measure on it is looked at each time.
const settledMeasure = 0.9

// version has a group hear of a version of its image.
func (k *keeper) version(ctx context.Context, g *group, version, reference string) error {
	if version == "" || version == g.Version || g.versions[version] {
		return nil
	}
	if g.versions == nil {
		g.versions = map[string]bool{}
		p, err := k.profile(ctx, g)
		if err != nil {
			return err
		}
		if p != nil {
			for _, v := range p.Versions {
				g.versions[v.Digest] = true
			}
		}
	}
	known := g.versions[version]
	if known && g.Version != "" {
		return nil
	}
	if len(g.versions) >= maxVersions {
		clear(g.versions)
	}
	g.versions[version] = true
	in := watch.ImageSeen{Now: k.s.Clock().UTC(), Version: version, Reference: reference, Known: known}
	if g.Version == "" || g.Mode == profile.Discover {
		return k.record(ctx, itself(), g, k.step(g, in))
	}
	return k.changes(ctx, itself(), g, in)
}

// maxVersions bounds the versions of an image that are remembered of a group.
const maxVersions = 200
