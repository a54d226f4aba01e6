package respond_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
)

func TestStep(t *testing.T) {
	denied, broken := fault.New(fault.Denied, "no"), errors.New("broken")
	life := func(s response.State) respond.Life { return respond.Life{State: s, Kind: response.Quarantine} }
	dry := respond.Life{State: response.Done, Kind: response.Quarantine, Dry: true}
	killed := respond.Life{State: response.Done, Kind: response.Kill}
	for _, tc := range []struct {
		name string
		from respond.Life
		in   respond.Input
		want response.State
		next []respond.Effect
	}{
		{"begins", life(response.Asked), respond.Input{What: respond.Begin}, response.Running, []respond.Effect{respond.Act}},
		{"is refused", life(response.Asked), respond.Input{What: respond.Begin, Err: broken}, response.Refused, []respond.Effect{respond.Tell}},
		{"works", life(response.Running), respond.Input{What: respond.End}, response.Done, []respond.Effect{respond.Tell}},
		{"fails", life(response.Running), respond.Input{What: respond.End, Err: broken}, response.Failed, []respond.Effect{respond.Tell}},
		{"may not", life(response.Running), respond.Input{What: respond.End, Err: denied}, response.Refused, []respond.Effect{respond.Tell}},
		{"is undone", life(response.Done), respond.Input{What: respond.Undo}, response.Undone, []respond.Effect{respond.Tell}},
		{"a dry run has nothing to undo", dry, respond.Input{What: respond.Undo}, response.Done, nil},
		{"nobody is brought back to life", killed, respond.Input{What: respond.Undo}, response.Done, nil},
		{"half of it is undone", respond.Life{State: response.Failed, Kind: response.Quarantine, Part: true}, respond.Input{What: respond.Undo}, response.Undone, []respond.Effect{respond.Tell}},
		{"what failed has nothing to undo", life(response.Failed), respond.Input{What: respond.Undo}, response.Failed, nil},
		{"ends by itself", life(response.Done), respond.Input{What: respond.Gone}, response.Over, []respond.Effect{respond.Tell}},
		{"what was undone does not end again", life(response.Undone), respond.Input{What: respond.Gone}, response.Undone, nil},
		{"holds, though nobody answered", life(response.Failed), respond.Input{What: respond.Hold}, response.Done, []respond.Effect{respond.Tell}},
		{"holds, as was known", life(response.Done), respond.Input{What: respond.Hold}, response.Done, nil},
		{"what is killed does not last", killed, respond.Input{What: respond.Gone}, response.Done, nil},
		{"does not begin twice", life(response.Running), respond.Input{What: respond.Begin}, response.Running, nil},
		{"does not end before it began", life(response.Asked), respond.Input{What: respond.End}, response.Asked, nil},
		{"nothing", respond.Life{}, respond.Input{}, "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, next := respond.Step(tc.from, tc.in)
			if got.State != tc.want || !slices.Equal(next, tc.next) {
				t.Errorf("got %s, %v; want %s, %v", got.State, next, tc.want, tc.next)
			}
		})
	}
}

const one, two = "1111111111111111111111111111111111111111111111111111111111111111", "2222222222222222222222222222222222222222222222222222222222222222"

func TestUntouchable(t *testing.T) {
	task := asset.ECS{TaskARN: "arn:aws:ecs:eu-west-1:1:task/c/1", Container: "web"}
	pause := task
	pause.Container = "~internal~ecs~pause"
	for _, tc := range []struct {
		name string
		w    asset.Workload
		want string // part of it
	}{
		{"an ordinary one", asset.Workload{ID: one, ECS: task}, ""},
		{"this agent", asset.Workload{ID: two}, "this agent"},
		{"pause of a task", asset.Workload{ID: one, ECS: pause}, "pause container"},
		{"pause by its image", asset.Workload{ID: one, ECS: task, Image: asset.Image{Reference: "amazon/amazon-ecs-pause:0.1.0"}}, "pause container"},
		{"the ECS agent", asset.Workload{ID: one, Name: "ecs-agent", Image: asset.Image{Reference: "amazon/amazon-ecs-agent:latest"}}, "ECS agent"},
		{"a task that calls itself so", asset.Workload{ID: one, Name: "ecs-agent", ECS: task, Image: asset.Image{Reference: "evil/amazon-ecs-agent"}}, ""},
		{"an image alone that calls itself pause", asset.Workload{ID: one, Image: asset.Image{Reference: "amazon/amazon-ecs-pause"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := respond.Untouchable(tc.w, two)
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q in it", got, tc.want)
			}
		})
	}
}

// kernel is all doors, and notes what is asked of it.
type kernel struct {
	did    []string
	fail   map[string]error
	cuts   []string // containers that are found cut off
	frozen bool
	still  []string // containers that are found frozen
	paused string   // the one of them that the engine has paused
	doing  func()   // as something is cut; nil for nothing
}

func (k *kernel) note(what string, dry bool) error {
	if dry {
		what += "?"
	}
	k.did = append(k.did, what)
	return k.fail[strings.TrimSuffix(what, "?")]
}

func (k *kernel) Kill(_ context.Context, _ string, key event.Key, dry bool) (string, error) {
	return "xmrig", k.note(fmt.Sprint("kill ", key.PID), dry)
}
func (k *kernel) KillAll(_ context.Context, _ string, dry bool) (int, error) {
	return 3, k.note("kill all", dry)
}
func (k *kernel) SendsRaw(context.Context, string) (bool, error) { return false, nil }
func (k *kernel) Freeze(_ context.Context, _ string, dry bool) (int, error) {
	return 3, k.note("freeze", dry)
}
func (k *kernel) Thaw(context.Context, string) error { return k.note("thaw", false) }
func (k *kernel) Frozen(id string) (bool, error) {
	return k.frozen || slices.Contains(k.still, id), nil
}
func (k *kernel) AllFrozen(context.Context) ([]string, error) { return k.still, nil }
func (k *kernel) Paused(_ context.Context, id string) (bool, error) {
	return k.paused == id, k.fail["paused"]
}
func (k *kernel) Cuts() ([]string, error)        { return k.cuts, k.fail["cuts"] }
func (k *kernel) Unified(string) (string, error) { return "/cgroup", k.fail["unified"] }
func (k *kernel) Cut(_, _ string, dry bool) error {
	if k.doing != nil {
		k.doing()
	}
	return k.note("cut", dry)
}
func (k *kernel) Restore(string) error                             { return k.note("restore", false) }
func (k *kernel) Stop(_ context.Context, _ string, dry bool) error { return k.note("stop", dry) }

type fixture struct {
	*respond.Responder
	k    *kernel
	now  time.Time
	file string
	n    int
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{k: &kernel{fail: map[string]error{}}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), file: filepath.Join(t.TempDir(), "quarantine.json")}
	f.open(t)
	return f
}

func (f *fixture) open(t *testing.T) {
	t.Helper()
	var err error
	f.Responder, err = respond.New(respond.Options{
		Processes: f.k, Freezer: f.k, Cgroups: f.k, Network: f.k, Engine: f.k, Own: two, File: f.file,
		Clock: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if f.Standing() != nil {
		t.Error("before it was looked for what is cut off, that is told")
	}
	if err := f.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) do(t *testing.T, d response.Deed) response.Answer {
	t.Helper()
	f.n++
	if d.ID == "" {
		d.ID = fmt.Sprint("d", f.n)
	}
	if d.Workload == "" {
		d.Workload = one
	}
	if d.Asked.IsZero() {
		d.Asked = f.now
		d.Until = f.now.Add(time.Minute)
	}
	f.k.did = nil
	return f.Do(t.Context(), d, asset.Workload{ID: d.Workload, Group: "shop/web/web"})
}

func TestDeeds(t *testing.T) {
	v1 := fault.New(fault.Unsupported, "version 1")
	for _, tc := range []struct {
		name  string
		d     response.Deed
		fail  map[string]error
		state response.State
		did   []string
	}{
		{"kill one", response.Deed{Kind: response.Kill, Process: event.Key{PID: 7, Start: 1}}, nil, response.Done, []string{"kill 7"}},
		{"kill all", response.Deed{Kind: response.Kill}, nil, response.Done, []string{"kill all"}},
		{"try to kill", response.Deed{Kind: response.Kill, DryRun: true}, nil, response.Done, []string{"kill all?"}},
		{"the first process", response.Deed{Kind: response.Kill, Process: event.Key{PID: 1}}, nil, response.Refused, nil},
		{"quarantine", response.Deed{Kind: response.Quarantine}, nil, response.Done, []string{"cut"}},
		{"freeze first", response.Deed{Kind: response.Quarantine, Freeze: true}, nil, response.Done, []string{"freeze", "cut"}},
		{"frozen but not cut", response.Deed{Kind: response.Quarantine, Freeze: true}, map[string]error{"unified": v1}, response.Refused, []string{"freeze"}},
		{"release", response.Deed{Kind: response.Release}, nil, response.Done, []string{"restore", "thaw"}},
		{"stop", response.Deed{Kind: response.Stop}, nil, response.Done, []string{"stop"}},
		{"stop what is away", response.Deed{Kind: response.Stop}, map[string]error{"stop": errors.New("away")}, response.Failed, []string{"stop"}},
		{"the agent itself", response.Deed{Kind: response.Stop, Workload: two}, nil, response.Refused, nil},
		{"no camera", response.Deed{Kind: response.Snapshot}, nil, response.Refused, nil},
		{"no deed", response.Deed{Kind: "explode"}, nil, response.Refused, nil},
		{"too late", response.Deed{Kind: response.Kill, Asked: time.Unix(1, 0), Until: time.Unix(2, 0)}, nil, response.Refused, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			if tc.fail != nil {
				f.k.fail = tc.fail
			}
			a := f.do(t, tc.d)
			if a.State != tc.state || (a.Error != "") != (tc.state != response.Done) {
				t.Errorf("ended as %s with error %q, want %s", a.State, a.Error, tc.state)
			}
			if diff := cmp.Diff(tc.did, f.k.did); diff != "" {
				t.Errorf("did (-want +got):\n%s", diff)
			}
		})
	}
}

func TestADeedIsDoneOnce(t *testing.T) {
	f := newFixture(t)
	first := f.do(t, response.Deed{ID: "x", Kind: response.Kill})
	again := f.do(t, response.Deed{ID: "x", Kind: response.Kill})
	if diff := cmp.Diff(first, again); diff != "" || len(f.k.did) != 0 {
		t.Errorf("did %v, answered (-first +again):\n%s", f.k.did, diff)
	}
}

func TestTooManyDeeds(t *testing.T) {
	f := newFixture(t)
	for range respond.PerGroup {
		if a := f.do(t, response.Deed{Kind: response.Kill}); a.State != response.Done {
			t.Fatal(a.Error)
		}
	}
	if a := f.do(t, response.Deed{Kind: response.Kill}); a.State != response.Refused || a.Remedy == "" {
		t.Errorf("one too many: %+v", a)
	}
	if a := f.do(t, response.Deed{Kind: response.Kill, DryRun: true}); a.State != response.Done {
		t.Errorf("a dry run: %+v", a)
	}
	if a := f.do(t, response.Deed{Kind: response.Release}); a.State != response.Done {
		t.Errorf("a release: %+v", a)
	}
	f.now = f.now.Add(time.Minute)
	if a := f.do(t, response.Deed{Kind: response.Kill}); a.State != response.Done {
		t.Errorf("a minute later: %+v", a)
	}
}

func TestQuarantineIsKept(t *testing.T) {
	f := newFixture(t)
	if a := f.do(t, response.Deed{ID: "q", Kind: response.Quarantine, Freeze: true, By: "user:otto", Reason: "miner"}); a.Undo != response.Release {
		t.Fatalf("undo by %q, want release", a.Undo)
	}
	f.open(t)
	f.k.did = nil
	f.Renew(t.Context(), map[string]string{})
	if diff := cmp.Diff([]string{"freeze", "cut"}, f.k.did); diff != "" {
		t.Errorf("renewed (-want +got):\n%s", diff)
	}
	held, err := f.Quarantined()
	if err != nil || held[one].By != "user:otto" || held[one].Reason != "miner" {
		t.Errorf("quarantined %+v, %v", held, err)
	}
	if a := f.do(t, response.Deed{Kind: response.Release}); !strings.Contains(strings.Join(a.Did, " "), "user:otto") {
		t.Errorf("released: %q", a.Did)
	}
	f.k.did = nil
	f.Renew(t.Context(), map[string]string{})
	if len(f.k.did) != 0 {
		t.Errorf("renewed after the release: %q", f.k.did)
	}
	if err := os.WriteFile(f.file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := f.do(t, response.Deed{Kind: response.Kill}); a.State != response.Refused {
		t.Errorf("with a damaged file: %+v", a)
	}
}

// What the engine began in a frozen container (docker exec) stands still with it, and
// the engine waits for that before it stops anything.
func TestAFrozenContainerIsKilledBeforeItIsStopped(t *testing.T) {
	f := newFixture(t)
	f.do(t, response.Deed{Kind: response.Quarantine, Freeze: true})
	f.do(t, response.Deed{Kind: response.Stop, DryRun: true})
	if diff := cmp.Diff([]string{"stop?"}, f.k.did); diff != "" {
		t.Errorf("a dry run did (-want +got):\n%s", diff)
	}
	a := f.do(t, response.Deed{Kind: response.Stop})
	if diff := cmp.Diff([]string{"kill all", "stop"}, f.k.did); diff != "" || a.State != response.Done {
		t.Errorf("ended as %s; did (-want +got):\n%s", a.State, diff)
	}
	f.k.fail["kill all"] = errors.New("broken")
	if a = f.do(t, response.Deed{Kind: response.Stop}); a.State != response.Done || len(a.Lacks) != 1 {
		t.Errorf("though they can't be killed before: %+v", a)
	}
	f.k.fail["kill all"] = fault.New(fault.NotFound, "it does not run")
	if a = f.do(t, response.Deed{Kind: response.Stop}); a.State != response.Done || len(a.Lacks) != 0 {
		t.Errorf("that does not run: %+v", a)
	}
}

func TestQuarantineEndsWithItsContainer(t *testing.T) {
	f := newFixture(t)
	f.do(t, response.Deed{Kind: response.Quarantine, By: "user:otto"})
	gone := fault.New(fault.NotFound, "it does not run")
	f.k.fail["unified"] = gone
	held := func() int {
		t.Helper()
		f.Renew(t.Context(), map[string]string{})
		all, err := f.Quarantined()
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if held() != 1 {
		t.Error("one that is only stopped is forgotten")
	}
	f.k.fail["stop"] = errors.New("the engine is away")
	f.now = f.now.Add(time.Hour)
	if held() != 1 {
		t.Error("it is forgotten while the engine is away")
	}
	f.k.fail["stop"] = gone
	f.k.did = nil
	if held() != 1 || len(f.k.did) != 0 {
		t.Errorf("the engine is asked with every look: %q", f.k.did)
	}
	f.now = f.now.Add(time.Hour)
	if held() != 0 {
		t.Error("one that was removed is kept")
	}
	if diff := cmp.Diff([]string{"stop?", "restore"}, f.k.did); diff != "" {
		t.Errorf("did (-want +got):\n%s", diff)
	}
}

// A container that is not known any more, as after the agent's restart, is let go.
func TestReleaseOfWhatIsGone(t *testing.T) {
	f := newFixture(t)
	f.do(t, response.Deed{Kind: response.Quarantine})
	d := response.Deed{ID: "gone", Kind: response.Release, Workload: one, Asked: f.now, Until: f.now.Add(time.Minute)}
	if a := f.Do(t.Context(), d, asset.Workload{}); a.State != response.Done {
		t.Errorf("%+v", a)
	}
	d.ID = "again"
	if a := f.Do(t.Context(), d, asset.Workload{}); a.State != response.Refused {
		t.Errorf("of one that is not in quarantine: %+v", a)
	}
}

// An agent that is killed while it cuts a container off knows of it at its next start.
func TestQuarantineIsWrittenDownBeforeItIsDone(t *testing.T) {
	f := newFixture(t)
	var killed []byte
	f.k.doing = func() {
		var err error
		if killed, err = os.ReadFile(f.file); err != nil {
			t.Error(err)
		}
	}
	f.do(t, response.Deed{ID: "q", Kind: response.Quarantine, By: "user:otto", Reason: "miner"})
	if err := os.WriteFile(f.file, killed, 0o600); err != nil {
		t.Fatal(err)
	}
	f.k.doing = nil
	f.open(t)
	now := f.Standing()
	if len(now.Held) != 1 || now.Held[0].WorkloadID != one || now.Held[0].By != "user:otto" || now.Held[0].Deed != "q" {
		t.Errorf("held after the next start: %+v", now)
	}

	// What did not work at all is not held.
	f = newFixture(t)
	f.k.fail["cut"] = errors.New("broken")
	f.do(t, response.Deed{Kind: response.Quarantine})
	if now := f.Standing(); len(now.Held) != 0 {
		t.Errorf("held though it failed: %+v", now)
	}
	f.open(t)
	if now := f.Standing(); len(now.Held) != 0 {
		t.Errorf("held after the next start though it failed: %+v", now)
	}
}

// What is cut off on the host is listed and can be released, even if the file is lost
// that says why.
func TestWhatIsCutIsListed(t *testing.T) {
	f := newFixture(t)
	f.do(t, response.Deed{ID: "q", Kind: response.Quarantine, By: "user:otto"})
	f.k.cuts, f.k.frozen = []string{one, two, "strange"}, true
	if err := f.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.open(t) // it is written down
	held := f.Standing().Held
	if len(held) != 2 || held[0].By != "user:otto" && held[1].By != "user:otto" {
		t.Fatalf("held: %+v", held)
	}
	i := slices.IndexFunc(held, func(h asset.Held) bool { return h.WorkloadID == two })
	if h := held[i]; !h.Freeze || h.By != "" || !strings.Contains(h.Reason, "found cut off") || h.Deed == "" {
		t.Errorf("found: %+v", h)
	}
	if a := f.do(t, response.Deed{Kind: response.Release, Workload: two}); a.State != response.Done {
		t.Errorf("release: %+v", a)
	}
	if len(f.Standing().Held) != 1 {
		t.Errorf("after the release: %+v", f.Standing())
	}
	f.k.fail["cuts"] = errors.New("broken")
	if err := f.Adopt(t.Context()); err == nil {
		t.Error("that it can't be looked is no error")
	}
}

// What is frozen without being cut off is listed, too, unless its engine has paused it, and
// nothing is done to keep it so.
func TestWhatIsFrozenIsListed(t *testing.T) {
	f := newFixture(t)
	three := strings.Repeat("3", 64)
	f.k.still, f.k.paused = []string{two, three, "strange"}, three
	f.k.fail["paused"] = fault.New(fault.Unavailable, "the engine is away")
	f.open(t)
	said := map[string]string{}
	look := func() []asset.Held {
		f.now = f.now.Add(time.Minute)
		f.Renew(t.Context(), said)
		return f.Standing().Held
	}
	if held := look(); len(held) != 0 {
		t.Errorf("while the engine is away: %+v", held)
	}
	delete(f.k.fail, "paused")
	held := look()
	if len(held) != 1 || held[0].WorkloadID != two || !held[0].Freeze || held[0].By != "" || !strings.Contains(held[0].Reason, "found frozen") || held[0].Deed == "" {
		t.Fatalf("found: %+v", held)
	}
	f.k.did = nil
	if again := look(); len(again) != 1 || again[0].Deed != held[0].Deed || len(f.k.did) != 0 {
		t.Errorf("looked at again: %+v, did %q", again, f.k.did)
	}
	f.open(t) // it is written down
	if again := look(); len(again) != 1 || again[0].Deed != held[0].Deed || len(f.k.did) != 0 {
		t.Errorf("after the next start: %+v, did %q", again, f.k.did)
	}
	if a := f.do(t, response.Deed{Kind: response.Release, Workload: two}); a.State != response.Done || !slices.Contains(f.k.did, "thaw") {
		t.Errorf("release: %+v, did %q", a, f.k.did)
	}
	if left := look(); len(left) != 0 {
		t.Errorf("after the release: %+v", left)
	}

	f.open(t)
	if len(look()) != 1 {
		t.Fatal("not found again")
	}
	f.k.still = nil // somebody lets it go on
	if left := look(); len(left) != 0 {
		t.Errorf("of one that goes on: %+v", left)
	}
}

// Who quarantines what was found frozen has all of it done.
func TestWhatWasFoundFrozenCanBeQuarantined(t *testing.T) {
	for _, by := range []string{"user:otto", "rule:r"} {
		f := newFixture(t)
		f.k.still = []string{one}
		f.open(t)
		f.Renew(t.Context(), map[string]string{})
		if a := f.do(t, response.Deed{Kind: response.Quarantine, By: by, Workload: one}); a.State != response.Done {
			t.Errorf("%s: %+v", by, a)
		}
		f.k.did = nil
		f.Renew(t.Context(), map[string]string{})
		if !slices.Contains(f.k.did, "cut") {
			t.Errorf("%s: kept so by %q, want cut among it", by, f.k.did)
		}
	}
}

// Who compares what is held has nothing to do while nothing is.
func TestLookingIsToldWhileSomethingIsHeld(t *testing.T) {
	f := newFixture(t)
	first := f.Standing().Looked
	look := func() time.Time {
		f.now = f.now.Add(time.Second)
		f.Renew(t.Context(), map[string]string{})
		return f.Standing().Looked
	}
	if now := look(); !now.Equal(first) {
		t.Errorf("looked at %s with nothing held, at first %s", now, first)
	}
	f.do(t, response.Deed{Kind: response.Quarantine})
	if now := look(); !now.Equal(f.now) {
		t.Errorf("looked at %s with something held, it is %s", now, f.now)
	}
	f.k.fail["freeze"], f.k.fail["unified"] = nil, errors.New("no cgroup")
	look()
	if h := f.Standing().Held; len(h) != 1 || h[0].Problem != "no cgroup" {
		t.Errorf("held badly: %+v", h)
	}
	f.do(t, response.Deed{Kind: response.Release})
	if now := f.Standing(); len(now.Held) != 0 || !now.Looked.Equal(f.now) {
		t.Errorf("after the release: %+v, it is %s", now, f.now)
	}
}
