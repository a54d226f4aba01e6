package verify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	agentID = "AGENTONE"
	other   = "AGENTTWO"
	shop    = "reg.example/shop"
)

var digest = "sha256:" + strings.Repeat("a", 64)

func policy(why string) string {
	return "version: 1\nimages:\n  - match: reg.example/shop\n    deny: " + why + "\n"
}

// fleet is a real store, and agents that the test plays.
type fleet struct {
	*testing.T
	st    *db.DB
	s     *verify.Service
	admin access.Identity
	asked chan link.VerifyWish // of agentID

	mu  sync.Mutex
	now time.Time
}

func (f *fleet) Listening() []string { return []string{agentID, other} }

func (f *fleet) AskVerify(id string, w link.VerifyWish) {
	if id != agentID {
		f.Errorf("agent %s is asked about %s, which it does not have", id, w.Repository)
	}
	f.asked <- w
}

func (f *fleet) EndVerify(string, string) {}

func (f *fleet) clock() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.now }

func (f *fleet) pass(d time.Duration) { f.mu.Lock(); defer f.mu.Unlock(); f.now = f.now.Add(d) }

func start(t *testing.T, change ...func(*verify.Options)) *fleet {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db")}, log)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{T: t, st: st, asked: make(chan link.VerifyWish, 10), now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC),
		admin: access.Identity{Actor: "user:anna", Scopes: access.Administrator.Scopes()}}
	for _, id := range []string{agentID, other} {
		if err := st.PutAgent(t.Context(), asset.Agent{ID: id, Abilities: []string{link.AbilityVerify}}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(id, reference, digest string) asset.Workload {
		return asset.Workload{ID: strings.Repeat(id, 64), AgentID: agentID, Group: "shop/web", State: asset.Running,
			Image: asset.Image{Reference: reference, ID: "sha256:" + strings.Repeat(id, 64), Digest: digest}}
	}
	if err := st.PutWorkloads(t.Context(), []asset.Workload{run("1", shop+":2", digest), run("2", "built-here", "")}); err != nil {
		t.Fatal(err)
	}
	o := verify.Options{Store: st, Directions: f, Every: time.Millisecond, Clock: f.clock, Log: log}
	for _, c := range change {
		c(&o)
	}
	f.s = verify.New(o)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.s.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fleet) set(text string, after int64) {
	f.Helper()
	if _, err := f.s.SetPolicy(f.Context(), f.admin, text, "why", after); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) wish() link.VerifyWish {
	f.Helper()
	select {
	case w := <-f.asked:
		return w
	case <-time.After(20 * time.Second):
		f.Fatal("no agent is asked")
		panic("unreachable")
	}
}

func answer(w link.VerifyWish, allowed bool, change func(*trust.Verdict)) link.Verified {
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) // by the agent's clock
	v := trust.Verdict{Allowed: allowed, Reason: "because", Repository: w.Repository, Digest: w.Digest, Policy: w.PolicyDigest, At: at, Until: at.Add(48 * time.Hour)}
	if change != nil {
		change(&v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return link.Verified{AgentID: agentID, Job: w.Job, Repository: w.Repository, Digest: w.Digest, PolicyDigest: w.PolicyDigest, Verdict: b}
}

func (f *fleet) want(state store.TrustState) store.TrustImage {
	f.Helper()
	v, err := f.s.Image(f.Context(), f.admin, shop, digest)
	if err != nil {
		f.Fatal(err)
	}
	if v.State != state {
		f.Errorf("got state %s (%s), want %s", v.State, v.Reason, state)
	}
	return v
}

// until waits for the loop to come to a state.
func (f *fleet) until(state store.TrustState) {
	f.Helper()
	late := time.After(20 * time.Second)
	for tick := time.Tick(time.Millisecond); ; {
		v, err := f.s.Image(f.Context(), f.admin, shop, digest)
		if err != nil {
			f.Fatal(err)
		}
		if v.State == state {
			return
		}
		select {
		case <-tick:
		case <-late:
			f.Fatalf("it stays %s, want %s", v.State, state)
		}
	}
}

func (f *fleet) send(v link.Verified) {
	f.Helper()
	if err := f.s.Verdict(f.Context(), v); err != nil {
		f.Fatal(err)
	}
}

func TestImagesAreVerifiedAndAgainWhenThePolicyChanges(t *testing.T) {
	f := start(t)
	f.set(policy("old"), 0)
	w := f.wish()
	if w.Repository != shop || w.Digest != digest || string(w.Policy) != policy("old") {
		t.Errorf("got wish %+v", w)
	}
	f.send(answer(w, true, nil))
	if v := f.want(store.TrustAllowed); !v.Next.Equal(f.clock().Add(6 * time.Hour)) {
		t.Errorf("it is kept until %s, want six hours whatever an agent says", v.Next)
	}
	f.set(policy("new"), 1)
	again := f.wish()
	if again.PolicyDigest == w.PolicyDigest || again.Job == w.Job {
		t.Error("it is asked for by the old policy")
	}
	f.send(answer(again, false, nil))
	f.want(store.TrustDenied)
	f.pass(11 * time.Minute)
	f.send(answer(f.wish(), true, nil)) // somebody signed it meanwhile
	f.want(store.TrustAllowed)
	f.pass(7 * time.Hour)
	failed := answer(f.wish(), true, nil)
	failed.Verdict, failed.Error = nil, "registry does not answer"
	f.send(failed)
	if v := f.want(store.TrustUndecided); v.Tries != 1 || !v.Next.After(f.clock()) {
		t.Errorf("got %d tries, next %s", v.Tries, v.Next)
	}
	local, err := f.s.Images(t.Context(), f.admin, store.TrustQuery{State: store.TrustLocal})
	if err != nil || len(local) != 1 || local[0].Repository != "built-here" {
		t.Errorf("got images of no registry %+v, %v", local, err)
	}
}

func TestNobodyAnswersWhatHeWasNotAsked(t *testing.T) {
	f := start(t)
	f.set(policy("old"), 0)
	w := f.wish()
	for name, change := range map[string]func(*link.Verified){
		"another agent":      func(v *link.Verified) { v.AgentID = other },
		"another job":        func(v *link.Verified) { v.Job = "x" },
		"another repository": func(v *link.Verified) { v.Repository = "reg.example/bank" },
		"another digest":     func(v *link.Verified) { v.Digest = "sha256:" + strings.Repeat("b", 64) },
		"another policy":     func(v *link.Verified) { v.PolicyDigest = "sha256:" + strings.Repeat("b", 64) },
	} {
		v := answer(w, true, nil)
		change(&v)
		if err := f.s.Verdict(t.Context(), v); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: got %v, want conflict", name, err)
		}
	}
	f.want(store.TrustWaiting)
	f.set(policy("new"), 1)
	if err := f.s.Verdict(t.Context(), answer(w, true, nil)); !fault.Is(err, fault.Conflict) {
		t.Errorf("an answer by the policy of before: got %v, want conflict", err)
	}
	next := f.wish()
	f.send(answer(next, false, nil))
	if err := f.s.Verdict(t.Context(), answer(next, true, nil)); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second answer: got %v, want conflict", err)
	}
	f.want(store.TrustDenied)
}

func TestHostileVerdictsAllowNothing(t *testing.T) {
	for name, change := range map[string]func(*link.Verified){
		"inside about another image": func(v *link.Verified) {
			v.Verdict = []byte(strings.ReplaceAll(string(v.Verdict), digest, "sha256:"+strings.Repeat("b", 64)))
		},
		"inside by another policy": func(v *link.Verified) {
			v.Verdict = []byte(strings.ReplaceAll(string(v.Verdict), v.PolicyDigest, "sha256:0"))
		},
		"no JSON":         func(v *link.Verified) { v.Verdict = []byte{0xff} },
		"too many values": func(v *link.Verified) { v.Verdict = []byte("[" + strings.Repeat("{},", 60_000) + "{}]") },
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			f.set(policy("old"), 0)
			v := answer(f.wish(), true, nil)
			change(&v)
			if err := f.s.Verdict(t.Context(), v); !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v, want invalid", err)
			}
			f.want(store.TrustUndecided)
		})
	}
}

func TestAnAgentThatIsSilentLeavesItUndecided(t *testing.T) {
	f := start(t)
	f.set(policy("old"), 0)
	w := f.wish()
	f.pass(4 * time.Minute)
	if err := f.s.Verdict(t.Context(), answer(w, true, nil)); !fault.Is(err, fault.Conflict) {
		t.Errorf("an answer that comes too late: got %v, want conflict", err)
	}
	f.until(store.TrustUndecided)
	f.pass(3 * time.Hour)
	f.wish()
}

func TestPoliciesAreCheckedBeforeTheyHold(t *testing.T) {
	f := start(t)
	for name, text := range map[string]string{
		"no policy":       "nonsense",
		"one that reads":  "version: 1\nroots:\n  keys:\n    build: /etc/passwd\nimages:\n  - match: a/b\n    deny: x\n",
		"one of no bound": strings.Repeat("#", store.MaxTrustPolicy+1),
	} {
		if _, err := f.s.SetPolicy(t.Context(), f.admin, text, "", 0); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
		if problems, err := f.s.Check(f.admin, text); err != nil || len(problems) == 0 {
			t.Errorf("%s: got problems %v, %v", name, problems, err)
		}
	}
	operator := access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}
	if _, err := f.s.SetPolicy(t.Context(), operator, policy("x"), "", 0); !fault.Is(err, fault.Denied) {
		t.Errorf("an operator: got %v, want denied", err)
	}
	f.set(policy("x"), 0)
	if _, err := f.s.SetPolicy(t.Context(), f.admin, policy("y"), "", 0); !fault.Is(err, fault.Conflict) {
		t.Errorf("a change of an older version: got %v, want conflict", err)
	}
	lines, err := f.st.Audit(t.Context(), 0, 10)
	if err != nil || len(lines) != 1 || lines[0].Action != "trust.policy" || lines[0].Actor != "user:anna" {
		t.Errorf("got audit %+v, %v", lines, err)
	}
}

// TestImagesOfAbsentAgentsStandInNobodysWay has more of them due than a page
// holds.
func TestImagesOfAbsentAgentsStandInNobodysWay(t *testing.T) {
	f := start(t)
	var away []asset.Workload
	for i := range store.MaxPage + 1 {
		away = append(away, asset.Workload{ID: fmt.Sprintf("%064x", i), AgentID: "AGENTAWAY", State: asset.Running,
			Image: asset.Image{Reference: "reg.example/away:1", ID: fmt.Sprintf("sha256:%064x", i), Digest: fmt.Sprintf("sha256:%064x", i)}})
	}
	if err := f.st.PutWorkloads(t.Context(), away); err != nil {
		t.Fatal(err)
	}
	f.pass(time.Second)
	f.set(policy("x"), 0)
	f.send(answer(f.wish(), true, nil))
	f.pass(7 * time.Hour) // it is due last of all now
	if w := f.wish(); w.Repository != shop {
		t.Errorf("asked for %s", w.Repository)
	}
}
