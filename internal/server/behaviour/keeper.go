package behaviour

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	// maxLearners bounds the learners in memory: one has some hundred kilobytes.
	// Beyond, those that were idle longest are stored, and read again.
	maxLearners = 1_000
	// idleAfter a learner goes from memory, once it is stored.
	idleAfter = time.Hour
)

// keeper is what the owner knows. Nobody else touches it.
type keeper struct {
	s         *Service
	groups    map[asset.Group]*group
	workloads workloads
	promotion store.BehaviourPromotion
	// position is the ID of the last event that was taken, compared that up to which
	// violations are stored.
	position, compared int64
	// outside are violations that wait to be stored.
	outside map[outsideKey]*profile.Violation

	looked, saved, promoted, sampled time.Time
	ticks                            ticks
	learners                         int
	// stale says that somebody else has changed what is kept: all is to be read anew.
	stale bool
}

type outsideKey struct {
	group       asset.Group
	fingerprint string
}

// group is one group as it is now.
type group struct {
	store.BehaviourGroup
	learner *watch.Learner // nil: not in memory
	index   *watch.Index   // of the profile, for comparing; nil: not in memory
	used    time.Time      // one of both
	// dirty says that the learner knows more than is stored, touched that the row is
	// another one.
	dirty, touched bool
	stored         bool // the store has it
	// learned is when what was learned last became a revision, if the newest revision
	// is that one.
	learned time.Time
	// versions are those of the image that are known of it; nil: not looked for yet.
	versions map[string]bool
	missed   []gap     // that the learner has not heard of
	heard    bool      // it has heard of some since it was stored
	offered  bool      // whether there is a starting profile was looked for
	judged   time.Time // when it was last looked whether it is settled
	revised  time.Time // when a person last made another profile of it, since the server's start
	end      *ending
}

// load reads what is kept.
func (s *Service) load(ctx context.Context) (*keeper, error) {
	marks, err := s.Store.BehaviourMarks(ctx)
	if err != nil {
		return nil, err
	}
	now := s.Clock()
	k := &keeper{
		s: s, groups: map[asset.Group]*group{}, promotion: marks.Promotion, position: marks.Learned, compared: marks.Compared,
		outside: map[outsideKey]*profile.Violation{}, looked: now, saved: now, ticks: ticks{now.Round(0), s.Uptime(now)},
	}
	k.workloads.init()
	q := store.BehaviourQuery{Limit: store.MaxPage}
	for {
		page, err := s.Store.BehaviourGroups(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page {
			g := &group{BehaviourGroup: page[i], stored: true}
			k.groups[g.Group] = g
			s.fleet.put(g)
		}
		if len(page) < store.MaxPage {
			break
		}
		q.After = page[len(page)-1].Group
	}
	if err := s.hosts.load(ctx, s.Store, now); err != nil {
		return nil, err
	}
	since, long, err := s.away(ctx, now)
	if err != nil {
		return nil, err
	}
	if long && len(k.groups) > 0 {
		s.Log.Info("nobody watched for a while, or the clock was set: for how long groups have been settled counts anew", "since", since.UTC())
		k.jump(since, now)
	}
	s.fleet.nudge()
	return k, nil
}

// group returns the group of an event, new if it must be; nil if there is no room.
func (k *keeper) group(name asset.Group, e *event.Event) *group {
	g := k.groups[name]
	if g != nil {
		return g
	}
	if len(k.groups) >= store.MaxBehaviourGroups || len(name) > maxGroup {
		k.s.mu.Lock()
		k.s.progress.Left++
		k.s.mu.Unlock()
		return nil
	}
	g = &group{BehaviourGroup: store.BehaviourGroup{Group: name, First: e.Time, Since: k.s.Clock().UTC()}, touched: true}
	k.groups[name] = g
	k.saved = time.Time{} // so that people see it soon
	k.s.fleet.put(g)
	k.s.fleet.nudge()
	return g
}

// maxGroup bounds the name of a group, as the names that it is made of are.
const maxGroup = 1_024

// known returns a group that somebody names.
func (k *keeper) known(name asset.Group) (*group, error) {
	if g := k.groups[name]; g != nil {
		return g, nil
	}
	return nil, fault.New(fault.NotFound, "nothing is known of how group %.200q behaves", name).
		With("castellan watch groups lists those of which something is; a group appears with its first events")
}

// learner returns what learns of a group, as it was stored last.
func (k *keeper) learner(ctx context.Context, g *group) (*watch.Learner, error) {
	g.used = k.s.Clock()
	if g.learner != nil {
		g.hear()
		return g.learner, nil
	}
	st, err := k.s.Store.BehaviourState(ctx, g.Group)
	if err != nil {
		return nil, err
	}
	l := watch.NewLearner(g.Group)
	if len(st.State) > 0 {
		if l, err = watch.LoadLearner(st.State); err != nil {
			return nil, fault.New(fault.Corrupt, "read what was learned of group %s: %w", g.Group, err).
				With("have it learned anew: castellan watch forget GROUP")
		}
	}
	g.learner = l
	k.learners++
	g.hear()
	return l, nil
}

// hear has the learner hear of gaps, each once.
func (g *group) hear() {
	for _, m := range g.missed {
		g.learner.ClockSet(m.was, m.now)
		g.heard = true
	}
	g.missed = nil
}

// profile returns the newest stored profile of a group; nil if there is none.
func (k *keeper) profile(ctx context.Context, g *group) (*profile.Profile, error) {
	if g.Revision == 0 {
		return nil, nil
	}
	if p := k.s.fleet.profile(g.Group, g.Revision); p != nil {
		return p, nil
	}
	r, err := k.s.Store.BehaviourRevision(ctx, g.Group, g.Revision)
	if err != nil {
		return nil, err
	}
	if r.Actor == byItself {
		g.learned = r.Created
	}
	k.s.fleet.keep(g.Group, r.Profile)
	return r.Profile, nil
}

// compares returns what events of a group are held against.
func (k *keeper) compares(ctx context.Context, g *group) (*watch.Index, error) {
	g.used = k.s.Clock()
	if g.index != nil {
		return g.index, nil
	}
	p, err := k.profile(ctx, g)
	if err != nil {
		return nil, err
	}
	if p == nil {
		p = &profile.Profile{Group: g.Group}
	}
	g.index = watch.NewIndex(p)
	return g.index, nil
}

// notice learns from an event of a group, or compares it.
func (k *keeper) notice(ctx context.Context, g *group, e *event.Event, w *asset.Workload) error {
	version := ""
	if w != nil {
		version = watch.VersionOf(w)
		if err := k.version(ctx, g, version, w.Image.Reference); err != nil {
			return err
		}
		if err := k.offer(g, w); err != nil {
			return err
		}
	}
	learns := stateOf(g).Learns(version)
	if !learns && e.Reaction == event.ReactionNone {
		if learns = g.end.before(k, g, e); learns {
			k.saved = time.Time{} // hosts are to have it soon
		}
	}
	if learns {
		l, err := k.learner(ctx, g)
		if err != nil {
			return err
		}
		l.Take(e, w)
		g.dirty = true
	}
	// What a host's kernel has answered is told whatever the mode is by now.
	if learns && e.Reaction == event.ReactionNone || e.ID <= k.compared {
		return nil
	}
	x, err := k.compares(ctx, g)
	if err != nil {
		return err
	}
	if e.Reaction != event.ReactionNone && x.Permits(e, w) {
		if late, err := k.late(ctx, g, e); late || err != nil {
			return err
		}
	}
	if v := x.CompareOf(e, w); v != nil {
		v.Mode, v.Revision = g.Mode, g.Revision
		k.add(v)
		k.step(g, watch.Outside{Now: k.s.Clock().UTC()})
	}
	return nil
}

// offer notes which starting profile the image of a group has.
func (k *keeper) offer(g *group, w *asset.Workload) error {
	if g.offered || g.Starting != "" {
		return nil
	}
	g.offered = true
	name, err := startingOf(w)
	if err != nil {
		return err
	}
	g.Starting = name
	return nil
}

// add has a violation stored soon, folded with those that wait.
func (k *keeper) add(v *profile.Violation) {
	key := outsideKey{v.Group, v.Fingerprint}
	if have := k.outside[key]; have != nil {
		v.Fold(have)
	}
	k.outside[key] = v
}

// count notes how far it has come.
func (k *keeper) count(events int) {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.progress.Position = k.position
	k.s.progress.Events += uint64(events)
}

// workloads remembers those of events. The store is asked for others.
type workloads struct{ of map[string]*asset.Workload }

// maxWorkloads bounds them: some 20 MiB. Beyond, all are asked for again.
const maxWorkloads = 10_000

func (w *workloads) init() { w.of = map[string]*asset.Workload{} }

// get returns a workload; nil if nothing is known of it.
func (w *workloads) get(ctx context.Context, st Workloads, id string) (*asset.Workload, error) {
	if have, ok := w.of[id]; ok {
		return have, nil
	}
	v, err := st.Workload(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read workload %s: %w", asset.ShortID(id), err)
	}
	if len(w.of) >= maxWorkloads {
		clear(w.of)
	}
	if !v.Partial {
		w.of[id] = &v
	}
	return &v, nil
}
