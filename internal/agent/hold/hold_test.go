package hold_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/agent/hold"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
)

const (
	shop   asset.Group = "shop/store/web"
	orders asset.Group = "shop/orders/api"
)

func id(c string) string { return strings.Repeat(c, 64) }

// kernel is one that the test looks into. What it was told outlives its keeper, as
// it does in a real one.
type kernel struct {
	mu         sync.Mutex
	groups     map[asset.Group]int64 // revisions
	containers map[string]asset.Group
	broken     error
	lost       bool
	settled    [][]string // containers that were tied when Settle was called
}

func newKernel() *kernel {
	return &kernel{groups: map[asset.Group]int64{}, containers: map[string]asset.Group{}}
}

func (k *kernel) SetAll(all []profile.Rules) []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	errs := make([]error, len(all))
	for i, r := range all {
		if errs[i] = k.broken; k.broken == nil {
			k.groups[r.Group] = r.Revision
		}
	}
	return errs
}

func (k *kernel) Remove(g asset.Group) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.groups, g)
	maps.DeleteFunc(k.containers, func(_ string, of asset.Group) bool { return of == g })
	return nil
}

func (k *kernel) LetGo() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.groups)
	clear(k.containers)
	return nil
}

func (k *kernel) Hold(container string, g asset.Group) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.groups[g]; !ok {
		return errors.New("no such group")
	}
	k.containers[container] = g
	return nil
}

func (k *kernel) HoldAll(containers map[string]asset.Group) error {
	var errs []error
	for id, g := range containers {
		errs = append(errs, k.Hold(id, g))
	}
	return errors.Join(errs...)
}

func (k *kernel) Forget(container string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.containers, container)
	return nil
}

func (k *kernel) Containers() (map[string]asset.Group, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.containers), nil
}

func (k *kernel) Groups() (out []asset.Group, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for g := range k.groups {
		out = append(out, g)
	}
	return out, nil
}

// Settle notes which containers were tied when another version was ended.
func (k *kernel) Settle() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settled = append(k.settled, slices.Sorted(maps.Keys(k.containers)))
	return nil
}

// Lost reports once that the test took away what was in force.
func (k *kernel) Lost() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	lost := k.lost
	k.lost = false
	return lost
}

func (k *kernel) Controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	return []profile.HeldControl{{Control: profile.ControlExec, Answer: answers[profile.ControlExec], Rung: "BPF LSM"}}
}

func (k *kernel) has(t *testing.T, groups map[asset.Group]int64, containers map[string]asset.Group) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := cmp.Diff(k.groups, groups); d != "" {
		t.Errorf("groups (-got +want):\n%s", d)
	}
	if d := cmp.Diff(k.containers, containers); d != "" {
		t.Errorf("containers (-got +want):\n%s", d)
	}
}

// fleet is a server that the test plays.
type fleet struct {
	mu    sync.Mutex
	rules map[asset.Group]link.BriefRules
	away  error
	// unseen are of groups that the server knows no container of on this host.
	unseen map[asset.Group]link.BriefRules
	held   []profile.Held // as last told
	asked  int
}

func (f *fleet) Behaviour(_ context.Context, a link.BehaviourAsk) (b link.BehaviourBrief, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.away != nil {
		return b, f.away
	}
	f.held = a.Held
	has := map[asset.Group]string{}
	for _, h := range a.Held {
		has[h.Group] = h.Stamp
		if _, ok := f.rules[h.Group]; !ok {
			b.Release = append(b.Release, h.Group)
		}
	}
	for _, g := range a.Wanted {
		if r, ok := f.unseen[g]; ok {
			f.rules[g] = r
		}
	}
	for g, r := range f.rules {
		if has[g] == r.Stamp {
			continue
		}
		if len(b.Rules) == 1 { // one at a time, so that there is more
			b.More = true
			break
		}
		b.Rules = append(b.Rules, r)
	}
	b.Stamp = "all"
	return b, a.Check()
}

func (f *fleet) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

func rules(t *testing.T, g asset.Group, revision int64, mode profile.Mode) link.BriefRules {
	t.Helper()
	r := profile.Rules{Group: g, Revision: revision, Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Deny
	}
	packed, err := link.PackRules(&r)
	if err != nil {
		t.Fatal(err)
	}
	return link.BriefRules{Group: g, Stamp: time.Unix(revision, 0).String(), Mode: mode, Packed: packed}
}

// learner remembers whose calls are to be noted.
type learner struct{ ids []string }

func (l *learner) Learn(ids []string) error { l.ids = ids; return nil }

func open(t *testing.T, dir string, f *fleet, k *kernel, l hold.Learner) *hold.Keeper {
	t.Helper()
	o := hold.Options{Dir: dir, AgentID: "A", Server: f, Kernels: []hold.Kernel{k}, Learner: l, Learners: 256, Log: slog.New(slog.DiscardHandler)}
	keeper, err := hold.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return keeper
}

// run runs the keeper until stop is called.
func run(t *testing.T, k *hold.Keeper) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

// former has an agent run, which holds the shop to rules of revision 3, and end.
func former(t *testing.T, dir string) (*fleet, *kernel) {
	t.Helper()
	f, k := &fleet{rules: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect)}}, newKernel()
	stop := run(t, open(t, dir, f, k, nil))
	synctest.Wait()
	stop()
	return f, k
}

func workload(c string, g asset.Group, s asset.State) asset.Workload {
	part := strings.Split(string(g), "/")
	return asset.Workload{ID: id(c), State: s, ECS: asset.ECS{Cluster: part[0], Service: part[1], Container: part[2]}}
}

func TestContainersAreHeldBeforeTheyRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, k := &fleet{rules: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect), orders: rules(t, orders, 1, profile.Monitor)}}, newKernel()
		l := &learner{}
		keeper := open(t, t.TempDir(), f, k, l)
		defer run(t, keeper)()
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 3, orders: 1}, map[string]asset.Group{})

		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Created), workload("b", "x/y/z", asset.Running)}, Complete: true})
		k.has(t, map[asset.Group]int64{shop: 3, orders: 1}, map[string]asset.Group{id("a"): shop})
		if d := cmp.Diff(l.ids, []string{id("b")}); d != "" {
			t.Errorf("learned from (-got +want):\n%s", d)
		}
		// One that has ended may be started again.
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Exited)}})
		if err := keeper.Starting(t.Context(), id("c"), orders); err != nil {
			t.Fatal(err)
		}
		k.has(t, map[asset.Group]int64{shop: 3, orders: 1}, map[string]asset.Group{id("a"): shop, id("c"): orders})
		// One that was removed can't be, and neither can one that is not listed.
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Exited)}, Removed: []string{id("a")}})
		k.has(t, map[asset.Group]int64{shop: 3, orders: 1}, map[string]asset.Group{id("c"): orders})
		if err := keeper.Starting(t.Context(), id("a"), shop); err != nil {
			t.Fatal(err)
		}
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("c", orders, asset.Running)}, Complete: true, Asked: time.Now()})
		k.has(t, map[asset.Group]int64{shop: 3, orders: 1}, map[string]asset.Group{id("c"): orders})

		// The server hears of it, and can let go of a group.
		f.set(func() { delete(f.rules, shop) })
		keeper.Wish(link.BehaviourWish{Stamp: "other"})
		synctest.Wait()
		k.has(t, map[asset.Group]int64{orders: 1}, map[string]asset.Group{id("c"): orders})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(f.held) != 1 || f.held[0].Group != orders || f.held[0].Workloads != 1 || f.held[0].Controls[0].Answer != profile.Deny {
			t.Errorf("the server was told %+v", f.held)
		}
	})
}

// While the server is away what is on disk is in force, from the first moment.
func TestRulesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f, _ := former(t, dir)
		f.set(func() { f.away = fault.New(fault.Unavailable, "away") })
		// The host has rebooted.
		k := newKernel()
		keeper := open(t, dir, f, k, nil)
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{})
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Running)}, Complete: true})
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{id("a"): shop})
		// Damaged files are left out, and fetched again.
		files, err := filepath.Glob(filepath.Join(dir, "*.rules"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		k = newKernel()
		keeper = open(t, dir, f, k, nil)
		k.has(t, map[asset.Group]int64{}, map[string]asset.Group{})
		f.set(func() { f.away = nil })
		defer run(t, keeper)()
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{})
	})
}

// Another version of the program goes on holding until all containers are tied: its
// maps may have another layout, so that they are not taken over.
func TestAnotherVersionHoldsUntilAllContainersAreTied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f, _ := former(t, dir)
		k := newKernel()
		keeper := open(t, dir, f, k, nil)
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Running)}})
		if len(k.settled) != 0 {
			t.Fatalf("ended before the engine's whole list was there: %v", k.settled)
		}
		for range 2 {
			keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Running), workload("b", shop, asset.Running)}, Complete: true})
		}
		if d := cmp.Diff(k.settled, [][]string{{id("a"), id("b")}}); d != "" {
			t.Errorf("what was tied when the other version was ended (-got +want):\n%s", d)
		}
	})
}

// Rules that the kernel refuses leave the former ones in force, and are told.
func TestRefusedRulesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, k := &fleet{rules: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect)}}, newKernel()
		keeper := open(t, t.TempDir(), f, k, nil)
		defer run(t, keeper)()
		synctest.Wait()
		if len(f.held) != 1 || f.held[0].Stamp != f.rules[shop].Stamp {
			t.Errorf("the server has not heard at once that its rules are in force: %+v", f.held)
		}
		k.mu.Lock()
		k.broken = fault.New(fault.Exhausted, "too many states").With("use fewer patterns")
		k.mu.Unlock()
		// Another group's rules come all the same, one a time.
		f.set(func() {
			f.rules[shop], f.rules[orders] = rules(t, shop, 4, profile.Protect), rules(t, orders, 1, profile.Protect)
		})
		keeper.Wish(link.BehaviourWish{Stamp: "other"})
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{})
		h := keeper.Held()
		if f.asked != 5 { // once at the start and twice more, and after both once to tell
			t.Errorf("the server was asked %d times", f.asked)
		}
		if !slices.ContainsFunc(f.held, func(h profile.Held) bool { return h.Group == shop && h.Error != "" }) {
			t.Errorf("the server has not heard that rules were refused: %+v", f.held)
		}
		h = slices.DeleteFunc(h, func(h profile.Held) bool { return h.Group == orders })
		if len(h) != 1 || h[0].Stamp != time.Unix(3, 0).String() || !strings.Contains(h[0].Error, "too many states") || h[0].Remedy == "" {
			t.Errorf("held: %+v", h)
		}
	})
}

func TestAReleasedHostHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f, k := &fleet{rules: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect)}}, newKernel()
		keeper := open(t, dir, f, k, nil)
		stop := run(t, keeper)
		synctest.Wait()
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Running)}, Complete: true})
		if err := hold.Release(dir, hold.Released{At: time.Now(), By: "root", Reason: "shop is down"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		k.has(t, map[asset.Group]int64{}, map[string]asset.Group{})
		if h := keeper.Held(); len(h) != 1 || !strings.Contains(h[0].Error, "shop is down") || h[0].Controls != nil {
			t.Errorf("held: %+v", h)
		}
		// Neither the server nor a restart takes it back.
		f.set(func() { f.rules[shop] = rules(t, shop, 4, profile.Protect) })
		keeper.Wish(link.BehaviourWish{Stamp: "other"})
		synctest.Wait()
		asked := f.asked
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if f.asked != asked {
			t.Errorf("the server is asked all the time: %d times", f.asked-asked)
		}
		stop()
		keeper = open(t, dir, f, k, nil)
		defer run(t, keeper)()
		synctest.Wait()
		k.has(t, map[asset.Group]int64{}, map[string]asset.Group{})
		if groups, err := hold.Groups(dir); err != nil || !maps.Equal(groups, map[asset.Group]profile.Mode{shop: profile.Protect}) {
			t.Errorf("groups on disk: %v, %v", groups, err)
		}
		keeper.Seen(asset.Inventory{Workloads: []asset.Workload{workload("a", shop, asset.Running)}, Complete: true})
		if was, err := hold.Undo(dir); err != nil || !was {
			t.Fatal(was, err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 4}, map[string]asset.Group{id("a"): shop})
	})
}

// The first container of a group on a host is held too: its rules are fetched while
// its start waits. A server that does not answer is not asked at each start.
func TestRulesOfAGroupThatIsNewHereAreFetchedBeforeItsContainerStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, k := &fleet{rules: map[asset.Group]link.BriefRules{}, unseen: map[asset.Group]link.BriefRules{shop: rules(t, shop, 3, profile.Protect)}}, newKernel()
		keeper := open(t, t.TempDir(), f, k, nil)
		if err := keeper.Starting(t.Context(), id("a"), shop); err != nil {
			t.Fatal(err)
		}
		k.has(t, map[asset.Group]int64{shop: 3}, map[string]asset.Group{id("a"): shop})
		if err := keeper.Starting(t.Context(), id("b"), shop); err != nil || f.asked != 1 {
			t.Errorf("asked %d times, %v", f.asked, err)
		}

		f.set(func() { f.away = fault.New(fault.Unavailable, "away") })
		if err := keeper.Starting(t.Context(), id("c"), orders); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v, want that the server is away", err)
		}
		for range 5 {
			if err := keeper.Starting(t.Context(), id("d"), orders); err != nil || f.asked != 2 {
				t.Errorf("asked %d times, %v", f.asked, err)
			}
		}
		// They are tied when the rules come at last.
		f.set(func() { f.away, f.rules[orders] = nil, rules(t, orders, 1, profile.Protect) })
		defer run(t, keeper)()
		synctest.Wait()
		k.has(t, map[asset.Group]int64{shop: 3, orders: 1}, map[string]asset.Group{id("a"): shop, id("b"): shop, id("c"): orders, id("d"): orders})
	})
}
