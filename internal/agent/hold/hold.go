// Package hold holds the containers of this host to what their groups normally do:
// it fetches the rules from the server, keeps them on disk, hands them to the
// kernel's doors, and ties each container to those of its group before it starts.
//
// What is held survives this program: the kernel goes on by itself, and after a
// restart the rules on disk are in force before the server has answered. Nothing
// is held on a host that was released: see Release.
package hold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/agent/rounds"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
)

const (
	// refreshEvery is how often the server is asked without having told of news:
	// it also hears then how the groups are held.
	refreshEvery = time.Minute
	// lookEvery is how often it is looked whether somebody released the host.
	lookEvery = time.Second
)

// Kernel enforces some controls. Its methods may be called concurrently; what it
// was told stays in force when this program ends.
type Kernel interface {
	// SetAll makes these the rules of their groups, each as a whole and each group once.
	// The errors are in the order of the rules, nil where these are in force; on an error
	// the former rules hold. Containers that are held to a group are held to its rules
	// from now on. Many cost little more than one.
	SetAll(all []profile.Rules) []error
	// Remove lets go of a group and of its containers. A group that is not there is
	// no error.
	Remove(g asset.Group) error
	// LetGo is Remove of all groups, at once.
	LetGo() error
	// Hold ties a container, which need not exist yet, to a group that has rules.
	Hold(container string, g asset.Group) error
	// HoldAll is Hold for many, which costs about as much as one: what runs already
	// is looked at once. On an error some are held and others are not.
	HoldAll(containers map[string]asset.Group) error
	// Forget lets go of a container. One that is not held is no error.
	Forget(container string) error
	// Containers are those that are held, from before this program too, with their
	// groups.
	Containers() (map[string]asset.Group, error)
	// Groups are those that have rules, from before this program too.
	Groups() ([]asset.Group, error)
	// Controls says how the controls of this door are held for rules with these
	// answers: less where this kernel can't do more.
	Controls(answers map[profile.Control]profile.Answer) []profile.HeldControl
	// Settle ends what another version of this program left in force: all rules that
	// are known have been set, and all containers tied.
	Settle() error
	// Lost reports that what was in force here is not any more, because somebody else
	// removed it: rules are to be set, and containers tied, again.
	Lost() bool
}

// Learner notes which system calls containers make.
type Learner interface {
	// Learn makes these the containers whose calls are noted; at most its own bound.
	Learn(containers []string) error
}

// Options are what a Keeper needs. All but Learner and Clock are required.
type Options struct {
	Dir     string // made with mode 0700; holds nothing else
	AgentID string
	Server  link.Behaviour
	Kernels []Kernel // each has controls of its own
	Learner Learner  // nil: system calls are not noted
	// Learners bounds the containers whose calls are noted at once.
	Learners int
	Clock    func() time.Time // time.Now
	Log      *slog.Logger
}

// Keeper holds this host's containers. It is safe for concurrent use.
type Keeper struct {
	o    Options
	wake rounds.Bell   // rung to have the server asked, and so told, soon
	turn chan struct{} // held by whoever asks the server

	mu         sync.Mutex
	groups     map[asset.Group]*group
	containers map[string]container // by id
	learning   []string             // as last given to the learner
	released   *Released            // nil: the host is held
	// asked are groups that the server was asked for because a container was about to
	// start, and when.
	asked   map[asset.Group]time.Time
	cut     int  // groups that the server left out, as it said last
	settled bool // what another version left in force has been ended
	dropped bool // groups that nobody has rules of have been let go
}

// group is what is known of one group.
type group struct {
	kept                  // the newest rules, as they came
	rules   profile.Rules // of kept
	inForce string        // stamp of those that the kernel has; empty for none
	since   time.Time
	err     error // why the newest rules are not in force
	unsaved bool  // the newest rules are not on disk
	former  bool  // these are not the newest, which the disk did not take
}

// Open returns a keeper that has put in force what is on disk. What can't be read
// there is left out, and told in the log: the server has it.
func Open(o Options) (*Keeper, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	k := &Keeper{o: o, wake: rounds.NewBell(), turn: make(chan struct{}, 1), groups: map[asset.Group]*group{}, containers: map[string]container{}, asked: map[asset.Group]time.Time{}}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fault.New(fault.Denied, "make the folder of rules: %w", err).With("let the agent write its data folder")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.readAll()
	k.look()
	if k.released != nil {
		k.letGo() // whoever released the host may have had no time for that
		return k, nil
	}
	k.enforce(k.newest())
	k.endIdle()
	return k, nil
}

// newest are the groups whose rules on disk are put in force at a start; k.mu is held. Of
// one whose newest rules the disk did not take, the kernel may have those still, from
// before this program: they hold until the server says more.
func (k *Keeper) newest() []*group {
	all := slices.Collect(maps.Values(k.groups))
	if !slices.ContainsFunc(all, func(g *group) bool { return g.former }) {
		return all // nearly always: the kernels need not be asked
	}
	held := map[asset.Group]bool{}
	for _, kernel := range k.o.Kernels {
		groups, err := kernel.Groups()
		if err != nil {
			k.o.Log.Error("what the kernel holds is not listed", "error", err)
		}
		for _, name := range groups {
			held[name] = true
		}
	}
	return slices.DeleteFunc(all, func(g *group) bool {
		stays := g.former && held[g.kept.Group]
		if stays {
			k.o.Log.Warn("the newest rules of a group are not on disk; those that the kernel has hold", "group", g.kept.Group)
		}
		return stays
	})
}

// settle ends what another version of this program left in force, once; k.mu is held.
// It waits for the engine's whole list: which containers are held can't be taken over
// from a version whose maps have another layout, and until they are tied again that
// version holds them.
func (k *Keeper) settle() {
	if k.settled {
		return
	}
	k.settled = true
	for _, kernel := range k.o.Kernels {
		if err := kernel.Settle(); err != nil {
			k.o.Log.Error("what another version holds is still in force", "error", err)
			k.settled = false
		}
	}
}

// enforceAll puts the rules of every group in force; k.mu is held.
func (k *Keeper) enforceAll() { k.enforce(slices.Collect(maps.Values(k.groups))) }

// enforce puts the newest rules of groups in force, in every kernel's door; k.mu is
// held. Where one refuses, the others hold the new ones all the same: each has
// controls of its own.
func (k *Keeper) enforce(groups []*group) {
	all := make([]profile.Rules, len(groups))
	for i, g := range groups {
		all[i], g.err = g.rules, nil
	}
	for _, kernel := range k.o.Kernels {
		for i, err := range kernel.SetAll(all) {
			groups[i].err = errors.Join(groups[i].err, err)
		}
	}
	for _, g := range groups {
		if g.err != nil {
			k.o.Log.Error("rules are not in force", "group", g.rules.Group, "revision", g.rules.Revision, "error", g.err, "remedy", fault.Remedy(g.err))
			continue
		}
		g.inForce, g.since = g.Stamp, k.o.Clock().UTC()
	}
}

// endIdle ends programs that hold no group, which whoever loaded or ended them was killed
// too early to do; k.mu is held.
func (k *Keeper) endIdle() {
	for _, kernel := range k.o.Kernels {
		groups, err := kernel.Groups()
		if err == nil && len(groups) == 0 {
			err = kernel.LetGo()
		}
		if err != nil {
			k.o.Log.Error("what holds no group is not ended", "error", err)
		}
	}
}

// dropUnknown lets go of what the kernel holds for groups that nobody has rules of, once
// the server has said of which it has. Before that they may be groups whose rules could
// not be written to the disk, or not be read from it; k.mu is held.
func (k *Keeper) dropUnknown() {
	if k.dropped || k.released != nil {
		return
	}
	k.dropped = true
	for _, kernel := range k.o.Kernels {
		groups, err := kernel.Groups()
		if err != nil {
			k.o.Log.Error("what the kernel holds is not listed", "error", err)
			k.dropped = false
			continue
		}
		for _, name := range groups {
			if k.groups[name] != nil {
				continue
			}
			if err := kernel.Remove(name); err != nil {
				k.o.Log.Error("a group is not let go", "group", name, "error", err)
				k.dropped = false
			}
		}
	}
}

// Wish says that the server told of other rules. Asking for them costs a stamp a
// group, so it is not looked at which.
func (k *Keeper) Wish(link.BehaviourWish) { k.wake.Ring() }

// Run fetches until ctx ends. What is in force stays so. Call it once.
func (k *Keeper) Run(ctx context.Context) {
	var looking sync.WaitGroup
	looking.Go(func() { k.lookAgain(ctx) })
	defer looking.Wait()
	rounds.Rounds{
		Every: refreshEvery, Turn: k.fetch, Wait: k.wake.Wait, Log: k.o.Log,
		Failed: "rules of behaviour are not fetched; those of before hold",
	}.Run(ctx)
}

// fetch asks until there is no more, and then once more where something came: the
// server, and so people, hear at once how it is held. Rules that the kernel refused
// are not asked for twice in one round: else the others would never come.
func (k *Keeper) fetch(ctx context.Context) error {
	k.again()
	came := map[asset.Group]string{}
	for told := false; ; {
		held := k.Held()
		for i := range held {
			if stamp, ok := came[held[i].Group]; ok {
				held[i].Stamp = stamp
			}
		}
		b, err := k.ask(ctx, link.BehaviourAsk{AgentID: k.o.AgentID, Held: held})
		if err != nil {
			return err
		}
		for _, r := range b.Rules {
			came[r.Group] = r.Stamp
		}
		switch {
		case b.More && len(b.Rules) == 0: // would be asked for for ever
			return fault.New(fault.Invalid, "the server says that there are more rules, and sends none")
		case b.More:
		case told || len(b.Rules)+len(b.Release) == 0:
			k.mu.Lock()
			k.dropUnknown()
			k.mu.Unlock()
			return nil
		default:
			told = true
		}
	}
}

// again tries what went wrong before: rules that a full disk did not take, or the kernel
// had no room for.
func (k *Keeper) again() {
	k.mu.Lock()
	defer k.mu.Unlock()
	var refused []*group
	for name, g := range k.groups {
		if g.unsaved {
			k.write(name, g)
		}
		if g.err != nil {
			refused = append(refused, g)
		}
	}
	if len(refused) > 0 && k.released == nil {
		k.enforce(refused)
		k.tie()
	}
}

// write writes the newest rules of a group down; k.mu is held. If that fails they hold all
// the same, and it is tried again: after a reboot the former ones would be in force.
func (k *Keeper) write(name asset.Group, g *group) {
	err := k.save(g.kept)
	if err != nil && !g.unsaved {
		k.o.Log.Error("rules are not written down", "group", name, "error", err)
	}
	g.unsaved = err != nil
}

// ask asks the server and puts in force what it said. Asks come one at a time, so
// that what an earlier one said never follows what a later one did.
func (k *Keeper) ask(ctx context.Context, a link.BehaviourAsk) (link.BehaviourBrief, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return link.BehaviourBrief{}, fault.New(fault.Unavailable, "ask the server for rules: %w", ctx.Err())
	}
	b, err := k.o.Server.Behaviour(ctx, a)
	if err != nil {
		return b, err
	}
	return b, k.take(b)
}

// take puts in force what the server said, and writes it down.
func (k *Keeper) take(b link.BehaviourBrief) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	fresh := map[asset.Group]*group{}
	for _, r := range b.Rules {
		rules, err := link.UnpackRules(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		g := k.groups[r.Group]
		if g == nil {
			g = &group{}
			k.groups[r.Group] = g
		}
		g.kept, g.rules, g.former = kept(r), rules, false
		k.write(r.Group, g)
		fresh[r.Group] = g
	}
	if k.released == nil {
		k.enforce(slices.Collect(maps.Values(fresh)))
		k.tellOf(fresh)
	}
	for _, name := range b.Release {
		k.release(name)
	}
	if k.cut != b.Cut && b.Cut > 0 {
		k.o.Log.Error("not all groups of this host are held: there are too many", "held", link.MaxHeldGroups, "not_held", b.Cut,
			"remedy", "run fewer services on one host, or forget groups that are gone: castellan watch forget")
	}
	k.cut = b.Cut
	k.tie()
	return errors.Join(errs...)
}

// tellOf logs which groups are held to other rules; k.mu is held. One that is only learned
// from is held to nothing.
func (k *Keeper) tellOf(fresh map[asset.Group]*group) {
	for name, g := range fresh {
		switch {
		case g.err != nil:
		case g.Mode == profile.Discover:
			k.o.Log.Debug("a group is learned from", "group", name)
		default:
			k.o.Log.Info("a group is held to other rules", "group", name, "mode", g.Mode.String(), "revision", g.rules.Revision)
		}
	}
}

// release lets go of a group; k.mu is held.
func (k *Keeper) release(name asset.Group) {
	if k.groups[name] == nil {
		return
	}
	for _, kernel := range k.o.Kernels {
		if err := kernel.Remove(name); err != nil {
			// The rules stay known, so that the next ask names them again.
			k.groups[name].err = err
			k.o.Log.Error("a group is not let go", "group", name, "error", err)
			return
		}
	}
	delete(k.groups, name)
	if err := k.forget(name); err != nil {
		k.o.Log.Error("rules of a group are still on disk", "group", name, "error", err)
	}
	k.o.Log.Info("a group is held no more", "group", name)
}

// Held says how each group is held, in the order of their names.
func (k *Keeper) Held() []profile.Held {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]profile.Held, 0, len(k.groups))
	counts := map[asset.Group]int{}
	for _, c := range k.containers {
		if !c.over {
			counts[c.group]++
		}
	}
	for name, g := range k.groups {
		h := profile.Held{Group: name, Stamp: g.inForce, Revision: g.rules.Revision, Since: g.since, Workloads: counts[name]}
		for _, kernel := range k.o.Kernels {
			h.Controls = append(h.Controls, kernel.Controls(g.rules.Answers)...)
		}
		switch {
		case k.released != nil:
			h.Controls = nil
			h.Stamp = g.Stamp // or it would be sent again and again
			h.Workloads = 0
			h.Error, h.Remedy = k.released.words(), "hold the host again with: castellan watch release --undo"
		case g.err != nil:
			h.Error, h.Remedy = clip(g.err.Error()), clip(fault.Remedy(g.err))
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b profile.Held) int { return cmp.Compare(a.Group, b.Group) })
	return out[:min(len(out), link.MaxHeldGroups)]
}

// clip cuts what is told to what is taken.
func clip(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s (cut, %d bytes)", s[:most], len(s))
}
