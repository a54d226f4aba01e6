package gate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	agentID = "AGENTONE"
	other   = "AGENTTWO"
	// scanned refuses what is not scanned, and waits where that makes sense.
	scanned = `version: 1
mode: enforce
rules:
  - id: no-criticals
    for: vulnerability
    deny: vulnerability.severity >= critical && !vulnerability.accepted
    message: "{vulnerability.id} in {vulnerability.package}"
    unknown: wait
`
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// failing is a store that can be told to fail.
type failing struct {
	*db.DB
	mu  sync.Mutex
	put error // of PutAdmissionVerdicts
}

func (f *failing) PutAdmissionVerdicts(ctx context.Context, vs []store.AdmissionVerdict) error {
	f.mu.Lock()
	err := f.put
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.DB.PutAdmissionVerdicts(ctx, vs)
}

func (f *failing) fail(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.put = err }

// house is a real store with the service on it.
type house struct {
	testing.TB
	st    *failing
	s     *gate.Service
	admin access.Identity
	users *inventory.Users // of what scan stores

	mu      sync.Mutex
	now     time.Time
	told    []link.AdmissionWish
	sought  []string
	wanted  []store.TrustName
	wrong   chan error
	lacking atomic.Pointer[error] // what is said of the policy, once something is
}

func (h *house) clock() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now }

func (h *house) pass(d time.Duration) { h.mu.Lock(); defer h.mu.Unlock(); h.now = h.now.Add(d) }

func (h *house) TellAdmission(w link.AdmissionWish) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, w)
}

// last is what the agents were told last.
func (h *house) last() link.AdmissionWish {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.told) == 0 {
		return link.AdmissionWish{}
	}
	return h.told[len(h.told)-1]
}

func (h *house) Seek(host, repository string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sought = append(h.sought, host+"/"+repository)
	return host == "reg.example"
}

// want is Options.Want.
func (h *house) want(registry, repository string, n store.TrustName) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if registry != "r" || repository != "shop" {
		h.Errorf("%s is wanted of %s in %s", n.Repository, registry, repository)
	}
	h.wanted = append(h.wanted, n)
	return true
}

func start(t testing.TB) *house {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{TB: t, st: &failing{DB: st}, now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), wrong: make(chan error, 100),
		admin: access.Identity{Actor: "user:anna", Scopes: access.Administrator.Scopes()}}
	h.s = gate.New(gate.Options{
		Store: h.st, Seeker: h, Want: h.want, Directions: h, Clock: h.clock, Log: log,
		Advisories: func() (string, time.Time) { return "gen", h.now.AddDate(0, 0, -1) },
		Condition: func(_ context.Context, part string, err error) {
			if part == gate.PartPolicy {
				h.lacking.Store(&err)
				return
			}
			select {
			case h.wrong <- err:
			default:
			}
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.s.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// TestDoorsWithoutAPolicyAreToldOf says that a fleet with doors and no policy refuses
// everything, until it has one.
func TestDoorsWithoutAPolicyAreToldOf(t *testing.T) {
	h := start(t)
	v, err := h.s.Decide(t.Context(), h.admin, admission.Request{ID: "1", Door: admission.Service, Action: admission.Run})
	h.must(err)
	if v.Allowed() || !strings.Contains(v.Reasons[0].Message+v.Reasons[0].Remedy, "castellan admit policy set") {
		t.Errorf("without a policy: %+v", v)
	}
	if said := h.lacking.Load(); said == nil || !fault.Is(*said, fault.NotFound) || fault.Remedy(*said) == "" {
		t.Errorf("nobody is told that there is no policy: %v", said)
	}
	h.set("version: 1\nmode: audit\nrules: [{use: privileged}]\n", 0)
	if said := h.lacking.Load(); *said != nil {
		t.Errorf("with a policy it is still said: %v", *said)
	}
}

func (h *house) set(text string, after int64) store.AdmissionPolicy {
	h.Helper()
	p, err := h.s.SetPolicy(h.Context(), h.admin, text, "why", after)
	h.must(err)
	return p
}

// scan stores what a scan of an image found: vulnerabilities of these severities.
func (h *house) scan(id, manifest string, severities ...finding.Severity) {
	h.Helper()
	now := h.clock()
	_, err := h.st.NoteImages(h.Context(), []store.Image{{ID: id, Digest: manifest}}, now)
	h.must(err)
	if m, err := h.st.Image(h.Context(), id); err != nil || m.Scan.State != store.ScanDone {
		_, err = h.st.LeaseImage(h.Context(), id, store.Lease{AgentID: agentID, Job: "j", Now: now, Until: now.Add(time.Hour)})
		h.must(err)
		inv := inventory.Inventory{Users: h.users, Image: &inventory.Image{Config: inventory.Config{User: "app"}}, OS: inventory.OS{ID: "debian"}}
		h.must(h.st.PutInventory(h.Context(), id, "j", inv, now))
	}
	var vs []finding.Vulnerability
	for i, s := range severities {
		v := finding.Vulnerability{ID: "CVE-2026-" + string(rune('1'+i)), Severity: s, State: finding.Fixable, Package: inventory.Package{Type: "deb", Name: "openssl", Version: "3"}}
		v.Print()
		vs = append(vs, v)
	}
	h.must(h.st.PutFindings(h.Context(), store.ImageFindings{ImageID: id, Database: "gen", Matched: now, Vulnerabilities: vs}))
	h.s.Touch()
}

func ask(id, repository, digest string) admission.Request {
	return admission.Request{ID: id, Door: admission.Service, Action: admission.Run, Task: admission.Task{Family: "web", Containers: []admission.Container{
		{Name: "app", Image: admission.Image{Reference: "reg.example/" + repository + ":1", Registry: "reg.example", Repository: repository, Digest: digest}},
	}}}
}

func (h *house) decide(r admission.Request, want admission.Outcome, says string) admission.Verdict {
	h.Helper()
	v, err := h.s.Decide(h.Context(), h.admin, r)
	h.must(err)
	text := ""
	for _, x := range v.Reasons {
		text += x.Message + "; "
	}
	if v.Outcome != want || !strings.Contains(text, says) {
		h.Errorf("request %s: got %s (%s), want %s with %q", r.ID, v.Outcome, text, want, says)
	}
	return v
}

func (h *house) facts(reference string) admission.Facts {
	h.Helper()
	all, err := h.s.Facts(h.Context(), h.admin, []string{reference})
	h.must(err)
	return all[0]
}

func TestWhatIsKnownOfAnImage(t *testing.T) {
	h := start(t)
	want := func(name, digest string, state admission.State, why string) {
		t.Helper()
		if f := h.facts(digest); f.Scan.State != state || !strings.Contains(f.Scan.Why, why) || f.Digest != digest {
			t.Errorf("%s: got %q (%s), want %q with %q", name, f.Scan.State, f.Scan.Why, state, why)
		}
	}
	want("nobody knows it", digest("9"), admission.Unknown, "registries add")
	_, err := h.st.NoteImages(t.Context(), []store.Image{{ID: digest("1"), Digest: digest("a")}}, h.clock())
	h.must(err)
	h.s.Touch()
	want("it waits for an agent", digest("a"), admission.Waiting, "waiting")
	_, err = h.st.LeaseImage(t.Context(), digest("1"), store.Lease{AgentID: agentID, Job: "j", Now: h.clock(), Until: h.clock().Add(time.Hour)})
	h.must(err)
	h.s.Touch()
	want("an agent is at it", digest("a"), admission.Waiting, "running")
	h.must(h.st.ScanFailed(t.Context(), digest("1"), "j", "the disk is full", time.Time{}))
	h.s.Touch()
	want("given up", digest("a"), admission.Failed, "the disk is full")
	h.must(h.st.ScanAgain(t.Context(), digest("1"), h.clock()))
	h.scan(digest("1"), digest("a"), finding.Critical, finding.Low)
	f := h.facts(digest("a"))
	if f.Scan.State != admission.Known || len(f.Scan.Vulnerabilities) != 2 || f.Scan.Vulnerabilities[0].Severity != finding.Critical || f.User != "app" ||
		f.Scan.Distribution != "debian" || !f.Scan.Database.Equal(h.clock().AddDate(0, 0, -1)) {
		t.Errorf("scanned: got %+v", f)
	}
	if same := h.facts(digest("1")); same.Scan.State != admission.Known {
		t.Errorf("by the engine's id: got %+v", same.Scan)
	}
}

func TestAnIndexIsAsGoodAsItsWorstPlatform(t *testing.T) {
	h := start(t)
	h.scan(digest("1"), digest("a"), finding.Low)
	h.scan(digest("2"), digest("a"), finding.Critical)
	f := h.facts(digest("a"))
	if f.Scan.State != admission.Known || len(f.Scan.Vulnerabilities) != 2 {
		t.Errorf("both platforms: got %+v", f.Scan)
	}
	_, err := h.st.NoteImages(t.Context(), []store.Image{{ID: digest("3"), Digest: digest("a")}}, h.clock())
	h.must(err)
	h.s.Touch()
	if f := h.facts(digest("a")); f.Scan.State != admission.Waiting {
		t.Errorf("with one that is not scanned: got %q", f.Scan.State)
	}
	// The engine says which one it is.
	b, err := h.s.Brief(t.Context(), link.AdmissionAsk{AgentID: agentID, Images: []link.AskedImage{{Digest: digest("a"), ID: digest("1")}}})
	h.must(err)
	one, _, err := link.UnpackFacts(b.Facts[0].Packed)
	if err != nil || one.Scan.State != admission.Known || len(one.Scan.Vulnerabilities) != 1 {
		t.Errorf("of one platform: got %+v, %v", one.Scan, err)
	}
}

// TestAUserIsAsRootAsOnTheWorstPlatform: the users of an image are told as its scan
// found them, and of several platforms as they hold for all.
func TestAUserIsAsRootAsOnTheWorstPlatform(t *testing.T) {
	h := start(t)
	h.users = &inventory.Users{Root: []string{"root", "toor"}, Others: []string{"app", "web"}}
	h.scan(digest("1"), digest("a"))
	if f := h.facts(digest("a")); f.Users == nil || !slices.Equal(f.Users.Root, h.users.Root) || !slices.Equal(f.Users.Others, h.users.Others) {
		t.Errorf("of one image: got %+v", f.Users)
	}
	h.users = &inventory.Users{Root: []string{"root", "web"}, Others: []string{"app", "toor"}}
	h.scan(digest("2"), digest("a"))
	if f := h.facts(digest("a")); f.Users == nil || !slices.Equal(f.Users.Root, []string{"root", "toor", "web"}) || !slices.Equal(f.Users.Others, []string{"app"}) {
		t.Errorf("of two platforms: got %+v", f.Users)
	}
	h.users = nil
	h.scan(digest("3"), digest("a"))
	if f := h.facts(digest("a")); f.Users != nil {
		t.Errorf("with a platform of which they are not known: got %+v", f.Users)
	}
}

// What an agent calls an image is of no weight where the registry knows it.
func TestAnAgentDoesNotPassOneImageOffAsAnother(t *testing.T) {
	h := start(t)
	h.must(h.st.CreateRegistry(t.Context(), store.WatchedRegistry{Registry: asset.Registry{Name: "r", Kind: asset.RegistryOCI, Host: "reg.example"}, Created: h.clock()}))
	_, err := h.st.PutListing(t.Context(), store.Listing{Registry: "r", Repository: "shop", At: h.clock(), Images: []store.ListedImage{
		{RegistryImage: asset.RegistryImage{Repository: "shop", Digest: digest("a"), Tags: []string{"1"}}},
	}})
	h.must(err)
	e, err := h.st.TakeRegistryScan(t.Context(), h.clock(), nil)
	h.must(err)
	h.scan(digest("1"), "", finding.Critical)
	h.must(h.st.EndRegistryScan(t.Context(), e.ID, store.RegistryScanEnd{State: store.RegistryDone, Analysis: 1, Platforms: []store.RegistryPlatform{{ImageID: digest("1")}}}))
	h.scan(digest("2"), digest("a")) // a clean image under the name of the other
	h.set(scanned, 0)
	h.decide(ask("r1", "shop", digest("a")), admission.Deny, "CVE-2026-1")
	r := ask("r2", "shop", digest("a"))
	r.Task.Containers[0].Image.ID = digest("2")
	h.decide(r, admission.Deny, "CVE-2026-1")
}

func TestDecisionsFollowWhatIsFoundOut(t *testing.T) {
	h := start(t)
	h.decide(ask("r0", "shop", digest("a")), admission.Deny, "no admission policy")
	p := h.set(scanned, 0)
	if w := h.last(); w.Version != p.Version || w.Digest != p.Digest {
		t.Errorf("agents were told %+v", w)
	}
	v := h.decide(ask("r1", "shop", digest("a")), admission.Wait, "")
	if v.Again <= 0 || v.Policy != p.Digest || len(h.sought) != 1 || h.sought[0] != "reg.example/shop" {
		t.Errorf("again after %s, sought %q", v.Again, h.sought)
	}
	h.decide(ask("r2", "shop", digest("a")), admission.Wait, "")
	if len(h.sought) != 1 {
		t.Errorf("the registry is asked at each decision: %q", h.sought)
	}
	r := ask("r3", "pay", digest("b"))
	r.Task.Containers[0].Image.Registry = "elsewhere.example"
	h.decide(r, admission.Deny, "")
	h.scan(digest("1"), digest("a"), finding.High)
	h.decide(ask("r4", "shop", digest("a")), admission.Allow, "")
	h.pass(time.Hour)
	h.scan(digest("1"), digest("a"), finding.Critical) // a new advisory
	h.decide(ask("r5", "shop", digest("a")), admission.Deny, "CVE-2026-1 in openssl")
	h.pass(20 * time.Minute)
	h.decide(ask("r6", "gone", digest("e")), admission.Wait, "")
	h.pass(20 * time.Minute)
	h.decide(ask("r7", "gone", digest("e")), admission.Deny, "")
	lines, err := h.s.Verdicts(t.Context(), h.admin, store.AdmissionQuery{})
	if err != nil || len(lines) != 8 || lines[0].Request != "r7" || lines[0].Actor != "user:anna" {
		t.Errorf("got %d verdicts, %v", len(lines), err)
	}
	one, err := h.s.Verdict(t.Context(), h.admin, "r5")
	if err != nil || len(one.Facts) != 1 || len(one.Facts[0].Scan.Vulnerabilities) != 1 || one.Verdict.Outcome != admission.Deny {
		t.Errorf("got %+v, %v", one, err)
	}
}

func TestTrustIsToldAsItIsKnown(t *testing.T) {
	h := start(t)
	trust := func() admission.Trust { h.s.Touch(); return h.facts("reg.example/shop@" + digest("a")).Trust }
	if f := trust(); f.State != admission.Unknown || !strings.Contains(f.Why, "no trust policy") {
		t.Errorf("without a policy: got %+v", f)
	}
	_, err := h.st.PutTrustPolicy(t.Context(), store.TrustPolicy{Digest: "p", Text: "x"}, 0)
	h.must(err)
	if f := trust(); f.State != admission.Waiting || !strings.Contains(f.Why, "its registry is asked") {
		t.Errorf("not seen: got %+v", f)
	}
	if f := h.facts("elsewhere.example/shop@" + digest("a")).Trust; f.State != admission.Unknown || !strings.Contains(f.Why, "nobody has verified") || f.Remedy == "" {
		t.Errorf("of a registry that is not watched: got %+v", f)
	}
	h.must(h.st.NoteTrustImages(t.Context(), []store.TrustSeen{{Repository: "reg.example/shop", Digest: digest("a"), Running: 1}}, h.clock(), h.clock()))
	if f := trust(); f.State != admission.Waiting {
		t.Errorf("waiting: got %+v", f)
	}
	put := func(state store.TrustState) {
		h.must(h.st.PutTrustVerdict(t.Context(), store.TrustVerdict{
			Repository: "reg.example/shop", Digest: digest("a"), State: state, Policy: "p", Reason: "because", Agent: agentID,
			Checked: h.clock(), Next: h.clock().Add(time.Hour), Signers: []store.TrustSigner{{Names: []string{"build"}, Identity: "key", Kind: "sigstore"}},
		}))
	}
	put(store.TrustUndecided)
	if f := trust(); f.State != admission.Failed || f.Why != "because" {
		t.Errorf("undecided: got %+v", f)
	}
	put(store.TrustDenied)
	if f := trust(); f.State != admission.Known || f.Allowed {
		t.Errorf("denied: got %+v", f)
	}
	put(store.TrustAllowed)
	if f := trust(); f.State != admission.Known || !f.Allowed || len(f.Signers) != 1 {
		t.Errorf("allowed: got %+v", f)
	}
	if f := h.facts(digest("a")).Trust; f.State != admission.Unknown {
		t.Errorf("without a repository: got %+v", f)
	}
	for id, allowed := range map[string]bool{agentID: true, other: false} {
		b, err := h.s.Brief(t.Context(), link.AdmissionAsk{AgentID: id, Images: []link.AskedImage{{Registry: "reg.example", Repository: "shop", Digest: digest("a")}}})
		h.must(err)
		if f, _, err := link.UnpackFacts(b.Facts[0].Packed); err != nil || f.Trust.Allowed != allowed {
			t.Errorf("agent %s is told %+v, %v", id, f.Trust, err)
		}
	}
	h.pass(2 * time.Hour)
	if f := trust(); f.State != admission.Unknown || f.Allowed {
		t.Errorf("too old: got %+v", f)
	}
	_, err = h.st.PutTrustPolicy(t.Context(), store.TrustPolicy{Digest: "q", Text: "y"}, 1)
	h.must(err)
	if f := trust(); f.State != admission.Waiting {
		t.Errorf("by another policy: got %+v", f)
	}
}

func TestAgentsAreBriefedAndHeard(t *testing.T) {
	h := start(t)
	h.set(scanned, 0)
	h.scan(digest("1"), digest("a"))
	images := []link.AskedImage{{Digest: digest("a")}, {Digest: digest("f")}}
	b, err := h.s.Brief(t.Context(), link.AdmissionAsk{AgentID: agentID, Images: images})
	if err != nil || !b.Changed || string(b.Policy) != scanned || len(b.Facts) != 2 || b.Stamp != h.last().Stamp {
		t.Fatalf("got %+v, %v", b, err)
	}
	images[0].Have = b.Facts[0].Hash
	again, err := h.s.Brief(t.Context(), link.AdmissionAsk{AgentID: agentID, Stamp: b.Stamp, Images: images})
	if err != nil || again.Changed || !again.Facts[0].Same || again.Facts[1].Same {
		t.Errorf("again: got %+v, %v", again, err)
	}
	_, err = h.s.Except(t.Context(), h.admin, admission.Exception{Rules: []string{"no-criticals"}, Owner: "a", Reason: "b", Family: "web", Expires: h.clock().Add(time.Hour)})
	h.must(err)
	changed, err := h.s.Brief(t.Context(), link.AdmissionAsk{AgentID: agentID, Stamp: b.Stamp})
	if err != nil || !changed.Changed || len(changed.Exceptions) != 1 || h.last().Stamp != changed.Stamp {
		t.Errorf("with an exception: got %+v, %v", changed, err)
	}
	report := func(host, id string) error {
		r := ask(id, "shop", digest("a"))
		r.Door, r.Place.Host = admission.Docker, host
		v := admission.Verdict{Request: id, Outcome: admission.Deny, At: h.clock()}
		return h.s.Admitted(t.Context(), link.AdmissionReport{AgentID: agentID, Verdicts: []link.ReportedVerdict{{Request: r, Verdict: v}}})
	}
	h.must(report(agentID, "d1"))
	h.must(report(agentID, "d1"))
	if err := report(other, "d2"); !fault.Is(err, fault.Invalid) {
		t.Errorf("of another host: got %v, want invalid", err)
	}
	lines, err := h.s.Verdicts(t.Context(), h.admin, store.AdmissionQuery{Host: agentID})
	if err != nil || len(lines) != 1 || lines[0].Agent != agentID || lines[0].Door != admission.Docker {
		t.Errorf("got %+v, %v", lines, err)
	}
	for i := 0; i < 3_000; i++ {
		if err = report(agentID, "d1"); err != nil {
			break
		}
	}
	if !fault.Is(err, fault.Exhausted) {
		t.Errorf("one that tells without end: got %v, want exhausted", err)
	}
}

func TestVerdictsWaitForTheStore(t *testing.T) {
	h := start(t)
	h.set(scanned, 0)
	h.st.fail(fault.New(fault.Exhausted, "the disk is full"))
	for _, id := range []string{"r1", "r2"} {
		h.decide(ask(id, "shop", digest("a")), admission.Wait, "")
	}
	for err := range h.wrong {
		if fault.Is(err, fault.Exhausted) {
			break
		}
	}
	h.st.fail(nil)
	for err := range h.wrong {
		if err == nil {
			break
		}
	}
	lines, err := h.s.Verdicts(t.Context(), h.admin, store.AdmissionQuery{})
	if err != nil || len(lines) != 2 || h.s.Lost() != 0 {
		t.Errorf("got %d verdicts, %d lost, %v", len(lines), h.s.Lost(), err)
	}
	h.st.fail(fault.New(fault.Invalid, "it can't be kept"))
	h.decide(ask("r3", "shop", digest("a")), admission.Wait, "")
	lines, err = h.s.Verdicts(t.Context(), h.admin, store.AdmissionQuery{})
	if err != nil || len(lines) != 2 || h.s.Lost() != 1 {
		t.Errorf("one that can't be kept: got %d verdicts, %d lost, %v", len(lines), h.s.Lost(), err)
	}
}

// What was answered, and what an agent was thanked for, is in the store, so that a
// server may be killed then; a store that takes nothing holds no answer up.
func TestAnAnswerIsStored(t *testing.T) {
	h := start(t)
	h.set(scanned, 0)
	h.decide(ask("r0", "shop", digest("a")), admission.Wait, "")
	if _, err := h.s.Verdicts(t.Context(), h.admin, store.AdmissionQuery{}); err != nil { // it runs
		t.Fatal(err)
	}
	kept := func() int {
		t.Helper()
		lines, err := h.st.AdmissionLines(t.Context(), store.AdmissionQuery{Limit: 100})
		h.must(err)
		return len(lines)
	}
	for i := 1; i < 20; i++ {
		h.decide(ask(fmt.Sprint("r", i), "shop", digest("a")), admission.Wait, "")
		if got := kept(); got != i+1 {
			t.Fatalf("%d verdicts are stored after %d answers", got, i+1)
		}
	}
	r := ask("d1", "shop", digest("a"))
	r.Door, r.Place.Host = admission.Docker, "AGENTTWO"
	told := link.AdmissionReport{AgentID: "AGENTTWO", Verdicts: []link.ReportedVerdict{{Request: r, Verdict: admission.Verdict{Request: "d1", Outcome: admission.Deny, At: h.clock()}}}}
	h.must(h.s.Admitted(t.Context(), told))
	if got := kept(); got != 21 {
		t.Errorf("%d verdicts are stored, want that of the agent, too", got)
	}
	h.st.fail(fault.New(fault.Exhausted, "the disk is full"))
	h.decide(ask("s1", "shop", digest("a")), admission.Wait, "")
	for err := range h.wrong {
		if fault.Is(err, fault.Exhausted) {
			break
		}
	}
	began := time.Now()
	for i := range 20 {
		h.decide(ask(fmt.Sprint("t", i), "shop", digest("a")), admission.Wait, "")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("20 answers took %s while the store takes nothing", took)
	}
	if err := h.s.Admitted(t.Context(), told); !fault.Is(err, fault.Unavailable) {
		t.Errorf("an agent's verdict that is not stored: got %v, want unavailable", err)
	}
	h.st.fail(nil)
}

func TestWhatIsNotLookedUpIsAnsweredAsDeclared(t *testing.T) {
	h := start(t)
	h.set(scanned, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.s.Decide(ctx, h.admin, ask("r1", "shop", digest("a"))); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever asked has gone: got %v", err)
	}
	h.must(h.st.Close())
	v := h.decide(ask("r2", "shop", digest("a")), admission.Deny, "the store is closed")
	if !v.Declared {
		t.Error("nobody decided, and the verdict does not say so")
	}
	if _, err := h.s.SetPolicy(t.Context(), h.admin, scanned, "", 1); err == nil {
		t.Error("a policy is set that nobody keeps")
	}
}

func TestPoliciesAndExceptionsAreAudited(t *testing.T) {
	h := start(t)
	operator := access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}
	e := admission.Exception{Rules: []string{"no-criticals"}, Owner: "a", Reason: "b", Family: "web", Expires: h.clock().Add(time.Hour)}
	if _, err := h.s.SetPolicy(t.Context(), operator, scanned, "", 0); !fault.Is(err, fault.Denied) {
		t.Errorf("an operator: got %v, want denied", err)
	}
	if _, err := h.s.Except(t.Context(), operator, e); !fault.Is(err, fault.Denied) {
		t.Errorf("an operator: got %v, want denied", err)
	}
	for name, change := range map[string]func(*admission.Exception){
		"no rule":      func(e *admission.Exception) { e.Rules = nil },
		"no owner":     func(e *admission.Exception) { e.Owner = " " },
		"all":          func(e *admission.Exception) { e.Family = "" },
		"every image":  func(e *admission.Exception) { e.Family, e.Image = "", "**" },
		"for ever":     func(e *admission.Exception) { e.Expires = time.Time{} },
		"too long":     func(e *admission.Exception) { e.Expires = h.clock().AddDate(3, 0, 0) },
		"over":         func(e *admission.Exception) { e.Expires = h.clock() },
		"control code": func(e *admission.Exception) { e.Cluster = "a\x1bb" },
	} {
		bad := e
		change(&bad)
		if _, err := h.s.Except(t.Context(), h.admin, bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	h.set(scanned, 0)
	kept, err := h.s.Except(t.Context(), h.admin, e)
	h.must(err)
	h.scan(digest("1"), digest("a"), finding.Critical)
	h.decide(ask("r1", "shop", digest("a")), admission.Allow, "CVE-2026-1")
	h.decide(ask("r1b", "shop", digest("a")), admission.Allow, "CVE-2026-1")
	h.pass(59*time.Minute + 59*time.Second)
	h.decide(ask("r1c", "shop", digest("a")), admission.Allow, "CVE-2026-1")
	h.pass(2 * time.Second)
	h.decide(ask("r2", "shop", digest("a")), admission.Deny, "CVE-2026-1") // it is over
	if _, err := h.s.Withdraw(t.Context(), h.admin, kept.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("one that is over: got %v, want conflict", err)
	}
	lines, err := h.st.Audit(t.Context(), 0, 10)
	if err != nil || len(lines) != 2 || lines[0].Action != "admission.except" || lines[1].Action != "admission.policy" || lines[0].Actor != "user:anna" {
		t.Errorf("got audit %+v, %v", lines, err)
	}
}

func TestReplayDecidesWithWhatWasKnownThen(t *testing.T) {
	h := start(t)
	h.set("version: 1\nmode: audit\nrules:\n  - use: privileged\n", 0)
	h.scan(digest("1"), digest("a"), finding.Critical)
	h.decide(ask("r1", "shop", digest("a")), admission.Allow, "")
	h.pass(time.Hour)
	h.scan(digest("1"), digest("a")) // it was fixed meanwhile
	h.decide(ask("r2", "shop", digest("a")), admission.Allow, "")
	out, err := h.s.Replay(t.Context(), h.admin, gate.Replay{Text: scanned})
	h.must(err)
	if out.Examined != 2 || out.Same != 1 || out.Denied != 1 || out.Rules["no-criticals"] != 1 || out.Next != 0 ||
		len(out.Changes) != 1 || out.Changes[0].Request != "r1" || out.Changes[0].Was != admission.Allow || out.Changes[0].Now != admission.Deny {
		t.Errorf("got %+v", out)
	}
	later, err := h.s.Replay(t.Context(), h.admin, gate.Replay{Text: scanned, Of: store.AdmissionQuery{Since: h.clock()}})
	if err != nil || later.Examined != 1 || later.Denied != 0 {
		t.Errorf("of the last hour: got %+v, %v", later, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.s.Replay(ctx, h.admin, gate.Replay{Text: scanned}); err == nil {
		t.Error("a replay goes on that was cancelled")
	}
	if _, err := h.s.Replay(t.Context(), h.admin, gate.Replay{Text: "nonsense"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("by no policy: got %v, want invalid", err)
	}
}
