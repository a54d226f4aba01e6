package behaviour

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
	"github.com/castellan-security/castellan/internal/written"
)

// DocumentName is what problems call the text of a profile.
const DocumentName = "profile"

// current is the profile of a group as it is now: of one that learns, with all that
// it has learned.
func (k *keeper) current(ctx context.Context, g *group) (*profile.Profile, error) {
	if g.Mode != profile.Discover && !g.Relearning {
		p, err := k.profile(ctx, g)
		if p == nil && err == nil {
			p = &profile.Profile{Group: g.Group}
		}
		return p, err
	}
	l, err := k.learner(ctx, g)
	if err != nil {
		return nil, err
	}
	p := l.Profile()
	p.Revision = g.Revision
	return p, nil
}

// revise makes p the profile of a group, by a person, together with what else has
// changed.
func (k *keeper) revise(ctx context.Context, who access.Identity, g *group, p *profile.Profile, comment string, c *store.BehaviourChange) error {
	l, err := k.learner(ctx, g)
	if err != nil {
		return err
	}
	before, err := l.Save()
	if err != nil {
		return err
	}
	p.Group, p.Revision = g.Group, g.Revision+1
	l.Adopt(p)
	was, dirty := g.BehaviourGroup, g.dirty
	st := store.BehaviourState{Group: g.Group, Position: k.position}
	if st.State, err = l.Save(); err == nil {
		g.Revision, g.By, g.dirty = p.Revision, who.Actor, false
		c.States = append(c.States, st)
		c.Revisions = append(c.Revisions, store.BehaviourRevision{
			Group: g.Group, Revision: p.Revision, Created: k.s.Clock().UTC(), Actor: who.Actor, Comment: comment, Entries: watch.Entries(p), Profile: p,
		})
		k.s.fleet.keep(g.Group, p)
		err = k.store(ctx, []*group{g}, c)
	}
	if err != nil {
		g.BehaviourGroup, g.dirty, g.learner = was, dirty, nil
		k.learners--
		old, again := watch.LoadLearner(before)
		if again == nil {
			g.learner = old
			k.learners++
		}
		k.s.fleet.drop(g.Group)
		k.s.fleet.put(g)
		return errors.Join(err, again)
	}
	g.index = nil
	g.revised = k.s.Clock()
	g.learned = time.Time{} // the next that is learned is a revision of its own, whoever sets the clock
	return nil
}

// Profiled is a profile with what is known of its group.
type Profiled struct {
	profile.Profile
	// Text is the profile as people edit it, Digest that of its entries.
	Text   string `json:"text"`
	Digest string `json:"digest"`
	// Learning says that more may be learned: it is not stored as a revision yet.
	Learning bool `json:"learning,omitempty"`
}

// Profile returns a revision of a group's profile, or with 0 what it is now. It needs
// access.ReadBehaviour.
func (s *Service) Profile(ctx context.Context, who access.Identity, name asset.Group, revision int64) (Profiled, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return Profiled{}, err
	}
	if revision != 0 {
		r, err := s.Store.BehaviourRevision(ctx, name, revision)
		if err != nil {
			return Profiled{}, err
		}
		return profiled(r.Profile, false), nil
	}
	var p *profile.Profile
	learning := false
	err := s.with(ctx, func(ctx context.Context, k *keeper) error {
		g, err := k.known(name)
		if err != nil {
			return err
		}
		learning = g.Mode == profile.Discover || g.Relearning
		p, err = k.current(ctx, g)
		return err
	})
	if err != nil {
		return Profiled{}, err
	}
	return profiled(p, learning), nil
}

func profiled(p *profile.Profile, learning bool) Profiled {
	return Profiled{Profile: *p, Text: string(watch.Write(p, "")), Digest: watch.Digest(p), Learning: learning}
}

// Revisions returns the history of a profile as store.BehaviourRevisions does. It
// needs access.ReadBehaviour.
func (s *Service) Revisions(ctx context.Context, who access.Identity, name asset.Group, before int64, limit int) ([]store.BehaviourRevision, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return nil, err
	}
	return s.Store.BehaviourRevisions(ctx, name, before, limit)
}

// Changes says in words what one revision permits that another does not; with to 0 it
// is the profile as it is now, with from 0 the revision before to. It needs
// access.ReadBehaviour.
func (s *Service) Changes(ctx context.Context, who access.Identity, name asset.Group, from, to int64) ([]watch.Change, error) {
	after, err := s.Profile(ctx, who, name, to)
	if err != nil {
		return nil, err
	}
	before := Profiled{Profile: profile.Profile{Group: name}}
	if from == 0 {
		at := after.Revision
		if to == 0 && after.Learning {
			at++ // what is learned since the newest
		}
		older, err := s.Store.BehaviourRevisions(ctx, name, max(at, 1), 1)
		if err != nil {
			return nil, err
		}
		if len(older) > 0 {
			from = older[0].Revision
		}
	}
	if from != 0 {
		if before, err = s.Profile(ctx, who, name, from); err != nil {
			return nil, err
		}
	}
	return watch.Changes(&before.Profile, &after.Profile), nil
}

// VersionChanges says what the newest version of the image does that those before did
// not, or the one with that digest. It needs access.ReadBehaviour.
func (s *Service) VersionChanges(ctx context.Context, who access.Identity, name asset.Group, version string) ([]watch.Change, error) {
	p, err := s.Profile(ctx, who, name, 0)
	if err != nil {
		return nil, err
	}
	if n := len(p.Versions); version == "" && n > 0 {
		version = p.Versions[n-1].Digest
	}
	return watch.VersionChanges(&p.Profile, version), nil
}

// CheckProfile says what is wrong with the text of a profile; nothing is, without an
// answer. It needs access.ReadBehaviour.
func (s *Service) CheckProfile(who access.Identity, text string) ([]written.Problem, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return nil, err
	}
	_, problems := readProfile(text)
	return problems, nil
}

func readProfile(text string) (*watch.Document, []written.Problem) {
	if !utf8.ValidString(text) {
		return nil, []written.Problem{{File: DocumentName, Text: "it is no text"}}
	}
	d, err := watch.Read([]byte(text), DocumentName)
	if err == nil {
		return d, nil
	}
	if problems := written.ProblemsOf(err); len(problems) > 0 {
		return nil, problems
	}
	return nil, []written.Problem{{File: DocumentName, Text: err.Error(), Remedy: fault.Remedy(err)}}
}

// Edit is a text that becomes the profile of a group.
type Edit struct {
	Text string
	// Signature is what castellan watch profile sign wrote for exactly that text; it may
	// be empty where no signatures are asked for.
	Signature string
	Comment   string
	// After is the revision that was changed, which must be the newest still; less than
	// 0 is whatever it is.
	After int64
}

// Import makes a text the profile of a group. What is no profile, or that of another
// group, is Invalid, and one that is not signed as it must be is Denied. It needs
// access.ManageBehaviour.
func (s *Service) Import(ctx context.Context, who access.Identity, name asset.Group, e Edit) (store.BehaviourGroup, error) {
	if err := who.Need(access.ManageBehaviour); err != nil {
		return store.BehaviourGroup{}, err
	}
	if err := audit.CheckComment(e.Comment); err != nil {
		return store.BehaviourGroup{}, err
	}
	d, problems := readProfile(e.Text)
	if len(problems) > 0 {
		return store.BehaviourGroup{}, written.Refused(problems)
	}
	key, err := s.signed(e)
	if err != nil {
		return store.BehaviourGroup{}, err
	}
	if key != "" {
		e.Comment = strings.TrimSpace("signed by " + key + " " + e.Comment)
	}
	if g := d.Profile.Group; g != "" && g != name {
		return store.BehaviourGroup{}, fault.New(fault.Invalid, "the profile is of group %s, not of %s", g, name).
			With("leave the group out of the text if it is for any")
	}
	return s.adopt(ctx, who, name, d.Profile, e)
}

// Start gives a group a starting profile, with what it has already. It needs
// access.ManageBehaviour.
func (s *Service) Start(ctx context.Context, who access.Identity, name asset.Group, starting string) (store.BehaviourGroup, error) {
	st, err := watch.StartingNamed(starting)
	if err != nil {
		return store.BehaviourGroup{}, fault.New(fault.NotFound, "%w", err)
	}
	return s.change(ctx, who, name, "", func(ctx context.Context, k *keeper, g *group) error {
		if err := s.unsigned("a starting profile"); err != nil {
			return err
		}
		p, err := k.current(ctx, g)
		if err != nil {
			return err
		}
		if err := k.revise(ctx, who, g, watch.Merge(p, st.Profile), "starting profile "+starting, &store.BehaviourChange{}); err != nil {
			return err
		}
		return s.audit(ctx, who, "behaviour.start", "group:"+string(name), starting)
	})
}

func (s *Service) adopt(ctx context.Context, who access.Identity, name asset.Group, read *profile.Profile, e Edit) (store.BehaviourGroup, error) {
	return s.change(ctx, who, name, "", func(ctx context.Context, k *keeper, g *group) error {
		if e.After >= 0 && e.After != g.Revision {
			return fault.New(fault.Conflict, "the profile of %s is at revision %d, the change is of %d", name, g.Revision, e.After).
				With("somebody else has changed it meanwhile: export it again, and make the change anew")
		}
		had, err := k.current(ctx, g)
		if err != nil {
			return err
		}
		if g.Mode != profile.Discover && watch.Entries(read) == 0 {
			return fault.New(fault.Invalid, "the profile permits nothing: all that %s does would lie outside", name).With("let it discover first: castellan watch mode discover")
		}
		if err := k.revise(ctx, who, g, watch.Import(had, read), e.Comment, &store.BehaviourChange{}); err != nil {
			return err
		}
		return s.audit(ctx, who, "behaviour.import", "group:"+string(name), e.Comment)
	})
}
