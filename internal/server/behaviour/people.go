package behaviour

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

func (s *Service) audit(ctx context.Context, who access.Identity, action, target, detail string) error {
	return audit.Log{Store: s.Store, Clock: s.Clock}.Done(ctx, who, action, target, detail)
}

// Groups returns a page of groups. It needs access.ReadBehaviour.
func (s *Service) Groups(ctx context.Context, who access.Identity, q store.BehaviourQuery) ([]store.BehaviourGroup, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return nil, err
	}
	return s.Store.BehaviourGroups(ctx, q)
}

// Totals counts groups and violations. It needs access.ReadBehaviour.
func (s *Service) Totals(ctx context.Context, who access.Identity) (store.BehaviourTotals, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return store.BehaviourTotals{}, err
	}
	return s.Store.BehaviourTotals(ctx)
}

// Detail is a group with how it is held.
type Detail struct {
	store.BehaviourGroup
	Effective profile.Mode             `json:"effective"` // the mode that hosts hold it to
	Policy    store.BehaviourPromotion `json:"policy"`    // its own, or the fleet's
	Held      []HeldBy                 `json:"held"`
	// Notes say what of its profile rules can't hold to.
	Notes []string `json:"notes"`
	// Signers are the keys of which one must sign its profile where people change it:
	// permits and starting profiles are refused then. None: nobody has to.
	Signers []string `json:"signers,omitempty"`
}

// Group returns one group. It needs access.ReadBehaviour.
func (s *Service) Group(ctx context.Context, who access.Identity, name asset.Group) (d Detail, err error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return d, err
	}
	err = s.with(ctx, func(ctx context.Context, k *keeper) error {
		g, err := k.known(name)
		if err != nil {
			return err
		}
		if err := k.flush(ctx); err != nil {
			return err
		}
		if g.Mode == profile.Discover || g.Relearning {
			l, err := k.learner(ctx, g)
			if err != nil {
				return err
			}
			l.Expect(s.hosts.count(name))
			g.Settled = l.Settled(s.Clock())
		}
		if !g.stored {
			if err := k.store(ctx, []*group{g}, &store.BehaviourChange{}); err != nil {
				return err
			}
		}
		d.BehaviourGroup, d.Effective = copyOf(g), stateOf(g).Effective()
		p := k.policy(g)
		d.Policy = store.BehaviourPromotion{Promote: string(p.Promote), After: p.After, Most: p.Most, NewVersion: string(p.NewVersion)}
		return nil
	})
	if err != nil {
		return Detail{}, err
	}
	row, err := s.Store.BehaviourGroup(ctx, name)
	if err != nil {
		return Detail{}, err
	}
	d.Running, d.Violations = row.Running, row.Violations
	d.Notes, d.Signers = []string{}, s.Signers()
	if d.Held, err = s.heldBy(ctx, name); err != nil {
		return Detail{}, err
	}
	for i := range d.Held {
		h := &d.Held[i]
		if h.At.IsZero() {
			continue // it holds none
		}
		c, err := s.rulesOf(ctx, place{h.AgentID, name})
		if err != nil {
			return Detail{}, err
		}
		h.Current = h.Stamp == c.Stamp && h.Error == "" // it names rules that it could not put in force, too
		for _, n := range c.notes {
			if !slices.Contains(d.Notes, n) {
				d.Notes = append(d.Notes, n)
			}
		}
	}
	return d, nil
}

// copyOf is a group as it is now, of which nothing is shared.
func copyOf(g *group) store.BehaviourGroup {
	c := g.BehaviourGroup
	c.Answers = maps.Clone(c.Answers)
	if c.Proposal != nil {
		p := *c.Proposal
		c.Proposal = &p
	}
	if c.Promotion != nil {
		p := *c.Promotion
		c.Promotion = &p
	}
	return c
}

// Decision is what a person decides on a group's mode.
type Decision struct {
	Mode profile.Mode
	// Anyway protects a group though its profile is not settled.
	Anyway  bool
	Comment string
}

// SetMode changes the mode of a group. It is Conflict to protect one whose profile is
// not settled, unless that is wanted anyway, and Invalid to hold one to nothing at
// all. It needs access.ManageBehaviour.
func (s *Service) SetMode(ctx context.Context, who access.Identity, name asset.Group, d Decision) (out store.BehaviourGroup, err error) {
	return s.change(ctx, who, name, d.Comment, func(ctx context.Context, k *keeper, g *group) error {
		p, err := k.current(ctx, g)
		if err != nil {
			return err
		}
		if d.Mode != profile.Discover && watch.Entries(p) == 0 {
			return fault.New(fault.Invalid, "nothing is learned of %s yet: all that it does would lie outside", g.Group).
				With("let it run in discover for a while, or import a profile: castellan watch profile import")
		}
		if d.Mode == profile.Protect && !d.Anyway {
			if err := k.ripe(ctx, g); err != nil {
				return err
			}
		}
		g.By = who.Actor
		return k.changes(ctx, who, g, watch.Decide{Now: s.Clock().UTC(), Mode: d.Mode, Actor: who.Actor, Reason: d.Comment})
	})
}

// monitoredLong is for how long nothing may have lain outside of a group that is monitored
// and whose profile is not settled, until it may be protected: it has done by then what it
// does once a day.
const monitoredLong = 24 * time.Hour

// ripe returns Conflict for a group that protect could block in what is normal: its profile
// is not settled, and it was not monitored for long either with nothing outside.
func (k *keeper) ripe(ctx context.Context, g *group) error {
	at, now, quiet := g.Settled, k.s.Clock(), g.Since
	if g.Quiet.After(quiet) {
		quiet = g.Quiet
	}
	switch {
	case g.Mode == profile.Protect, g.Proposal != nil && g.Proposal.Mode == profile.Protect,
		g.Mode == profile.Monitor && now.Sub(quiet) >= monitoredLong:
		return nil
	case g.Mode == profile.Discover:
		l, err := k.learner(ctx, g)
		if err != nil {
			return err
		}
		at = l.Settled(now)
	}
	if at.Measure >= settledMeasure {
		return nil
	}
	why := ""
	if len(at.Waits) > 0 {
		why = " " + at.Waits[0]
	}
	return fault.New(fault.Conflict, "the profile of %s is not settled (%d%%): protect could block what is normal.%s", g.Group, int(at.Measure*100), why).
		With("let it monitor until nothing lay outside for a day, rehearse (castellan watch rehearse), or say that you want it anyway: --anyway")
}

// change does something to a group that is stored and written down by do.
func (s *Service) change(ctx context.Context, who access.Identity, name asset.Group, comment string, do func(context.Context, *keeper, *group) error) (out store.BehaviourGroup, err error) {
	if err := who.Need(access.ManageBehaviour); err != nil {
		return out, err
	}
	if err := audit.CheckComment(comment); err != nil {
		return out, err
	}
	err = s.with(ctx, func(ctx context.Context, k *keeper) error {
		g, err := k.known(name)
		if err != nil {
			return err
		}
		if err := k.flush(ctx); err != nil { // what was outside before is not after
			return err
		}
		err = do(ctx, k, g)
		out = copyOf(g)
		return err
	})
	return out, err
}

// Decline says no to a proposal. It needs access.ManageBehaviour.
func (s *Service) Decline(ctx context.Context, who access.Identity, name asset.Group) (store.BehaviourGroup, error) {
	return s.change(ctx, who, name, "", func(ctx context.Context, k *keeper, g *group) error {
		if g.Proposal == nil {
			return fault.New(fault.Conflict, "nothing is proposed for %s", g.Group)
		}
		return k.changes(ctx, who, g, watch.Decline{Now: s.Clock().UTC(), Actor: who.Actor})
	})
}

// controlNames lists all controls for people.
func controlNames() string {
	var names []string
	for _, c := range profile.Controls() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

// SetReleased lets go of a protected group, or holds it again. It needs
// access.ManageBehaviour.
func (s *Service) SetReleased(ctx context.Context, who access.Identity, name asset.Group, released bool, comment string) (store.BehaviourGroup, error) {
	return s.change(ctx, who, name, comment, func(ctx context.Context, k *keeper, g *group) error {
		if !released {
			return k.changes(ctx, who, g, watch.Arm{Now: s.Clock().UTC(), Actor: who.Actor})
		}
		if g.Mode != profile.Protect {
			return fault.New(fault.Conflict, "%s is not protected: nothing of it is blocked", g.Group)
		}
		return k.changes(ctx, who, g, watch.Release{Now: s.Clock().UTC(), Actor: who.Actor, Reason: comment})
	})
}

// SetAnswers replaces the answers that are set for single controls: off or audit;
// others follow from the mode. It needs access.ManageBehaviour.
func (s *Service) SetAnswers(ctx context.Context, who access.Identity, name asset.Group, answers map[profile.Control]profile.Answer, comment string) (store.BehaviourGroup, error) {
	var words []string
	for _, c := range slices.Sorted(maps.Keys(answers)) {
		a := answers[c]
		if !slices.Contains(profile.Controls(), c) || a != profile.Off && a != profile.Audit {
			return store.BehaviourGroup{}, fault.New(fault.Invalid, "%s=%s: a control can be switched to audit or off; there are %s", c, a, controlNames())
		}
		words = append(words, string(c)+" "+string(a))
	}
	return s.change(ctx, who, name, comment, func(ctx context.Context, k *keeper, g *group) error {
		was := g.Answers
		g.Answers, g.By = maps.Clone(answers), who.Actor
		if err := k.store(ctx, []*group{g}, &store.BehaviourChange{}); err != nil {
			g.Answers = was
			return err
		}
		return s.audit(ctx, who, "behaviour.answers", "group:"+string(name), strings.TrimSpace(strings.Join(words, ", ")+" "+comment))
	})
}

// SetPromotion says how the mode of a group changes by itself, or with "" that of
// all groups that have no promotion of their own; nil gives a group the fleet's. It
// needs access.ManageBehaviour.
func (s *Service) SetPromotion(ctx context.Context, who access.Identity, name asset.Group, p *store.BehaviourPromotion) error {
	if err := who.Need(access.ManageBehaviour); err != nil {
		return err
	}
	if p != nil {
		if err := checkPromotion(p); err != nil {
			return err
		}
	}
	if name == "" && p == nil {
		p = &store.BehaviourPromotion{}
	}
	return s.with(ctx, func(ctx context.Context, k *keeper) error {
		if name == "" {
			if err := s.Store.SaveBehaviour(ctx, &store.BehaviourChange{Promotion: p}); err != nil {
				return err
			}
			k.promotion = *p
			return s.audit(ctx, who, "behaviour.promotion", "fleet", promotionWords(p))
		}
		g, err := k.known(name)
		if err != nil {
			return err
		}
		if err := k.flush(ctx); err != nil {
			return err
		}
		was := g.Promotion
		g.Promotion = p
		if err := k.store(ctx, []*group{g}, &store.BehaviourChange{}); err != nil {
			g.Promotion = was
			return err
		}
		return s.audit(ctx, who, "behaviour.promotion", "group:"+string(name), promotionWords(p))
	})
}

// Promotion returns that of the fleet. It needs access.ReadBehaviour.
func (s *Service) Promotion(ctx context.Context, who access.Identity) (p store.BehaviourPromotion, err error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return p, err
	}
	m, err := s.Store.BehaviourMarks(ctx)
	return m.Promotion, err
}

// maxAfter bounds for how long a group must be settled.
const maxAfter = 90 * 24 * time.Hour

func checkPromotion(p *store.BehaviourPromotion) error {
	switch {
	case !slices.Contains([]watch.Promote{watch.PromoteNever, watch.PromotePropose, watch.PromoteAuto}, watch.Promote(p.Promote)):
		return fault.New(fault.Invalid, "promotion %q: want propose, promote or nothing", p.Promote)
	case p.After < 0 || p.After > maxAfter:
		return fault.New(fault.Invalid, "promotion after %s: want at most %d days", p.After, int(maxAfter.Hours()/24))
	case p.Most != profile.Discover && p.Most != profile.Monitor && p.Most != profile.Protect:
		return fault.New(fault.Invalid, "promotion to %q: want monitor or protect", p.Most)
	case !slices.Contains([]watch.NewVersion{watch.NewVersionRelearn, watch.NewVersionHold}, watch.NewVersion(p.NewVersion)):
		return fault.New(fault.Invalid, "new version %q: want hold or nothing", p.NewVersion)
	}
	return nil
}

func promotionWords(p *store.BehaviourPromotion) string {
	if p == nil {
		return "as the fleet"
	}
	words := "never"
	if p.Promote != "" {
		words = fmt.Sprintf("%s after %s, to %s at most", p.Promote, p.After, p.Most)
	}
	if p.NewVersion != "" {
		words += ", new versions: " + p.NewVersion
	}
	return words
}

// Forget forgets all that is known of a group: it is learned anew from what it does
// from now on. It needs access.ManageBehaviour.
func (s *Service) Forget(ctx context.Context, who access.Identity, name asset.Group, comment string) error {
	_, err := s.change(ctx, who, name, comment, func(ctx context.Context, k *keeper, g *group) error {
		if err := s.Store.ForgetBehaviour(ctx, name); err != nil {
			return err
		}
		if g.learner != nil {
			k.learners--
		}
		delete(k.groups, name)
		s.fleet.drop(name)
		return s.audit(ctx, who, "behaviour.forget", "group:"+string(name), comment)
	})
	return err
}
