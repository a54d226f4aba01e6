package behaviour_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/server/topology"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	agentID = "AGENTONE"
	web     = asset.Group("shop/web/nginx")
	// deadline is how long a test waits for what must happen.
	deadline = 20 * time.Second
)

func container(n int) string { return fmt.Sprintf("%064x", n) }

// house is a real store with the service on it.
type house struct {
	testing.TB
	st    *db.DB
	x     *topology.Index
	s     *behaviour.Service
	admin access.Identity
	halt  func()
	seq   uint64
	last  int64 // ID of the last event that was stored
	boot  string
	// wrongBy is by how much the clock of the host is wrong.
	wrongBy time.Duration

	mu      sync.Mutex
	now     time.Time
	moved   time.Duration // by how much the clock was set
	told    map[string]string
	wrong   []error
	outside uint64 // how often Outside heard of something
	news    chan struct{}
}

// began is when clocks of tests begin.
var began = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func (h *house) clock() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now }

func (h *house) pass(d time.Duration) { h.mu.Lock(); defer h.mu.Unlock(); h.now = h.now.Add(d) }

// setClock moves the clock while no time goes by.
func (h *house) setClock(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now, h.moved = h.now.Add(d), h.moved+d
}

func (h *house) uptime(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Sub(began) - h.moved
}

func (h *house) TellBehaviour(agentID, stamp string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told[agentID] = stamp
}

func start(t testing.TB) *house {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{
		TB: t, st: st, x: topology.New(), now: began, told: map[string]string{}, boot: "BOOTBOOT",
		news: make(chan struct{}, 1), admin: access.Identity{Actor: "user:anna", Scopes: access.Administrator.Scopes()},
	}
	h.run(log)
	t.Cleanup(func() {
		h.halt()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// run starts the service, as at the start of a server.
func (h *house) run(log *slog.Logger) {
	h.s = behaviour.New(behaviour.Options{
		Store: h.st, Map: h.x, Directions: h, Clock: h.clock, Uptime: h.uptime, Log: log, Pace: behaviour.Pace{Tell: time.Millisecond, Save: time.Nanosecond},
		News: func(context.Context) (<-chan struct{}, error) { return h.news, nil },
		Outside: func(_ context.Context, all []profile.Violation) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			for i := range all {
				h.outside += all[i].Count
			}
			return errors.New("nobody takes them") // which loses nothing
		},
		Condition: func(_ context.Context, _ string, err error) {
			if err != nil {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.wrong = append(h.wrong, err)
			}
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.s.Run(ctx) })
	h.halt = func() { stop(); wg.Wait() }
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// workloads are stored and told of.
func (h *house) workloads(ws ...asset.Workload) {
	h.Helper()
	h.must(h.st.PutWorkloads(h.Context(), ws))
	h.x.Put(ws, h.clock())
	h.s.Noted(ws)
}

func nginx(n int, digest string) asset.Workload {
	return asset.Workload{
		ID: container(n), AgentID: agentID, Name: "web", Group: web, State: asset.Running,
		Image: asset.Image{Reference: "reg.example/own:1", ID: "sha256:" + digest, Digest: "sha256:" + digest},
	}
}

// exec is a program that a container of nginx runs.
func exec(n int, path string) event.Event {
	return event.Event{
		Kind: event.KindExec, WorkloadID: container(n), Group: string(web),
		Process: event.Process{Key: event.Key{PID: 7, Start: 9}, Name: "x", Executable: path},
		Exec:    &event.Exec{Args: []string{path}, Origin: event.OriginImage, Ancestors: []event.Ancestor{{Name: "init", Executable: "/sbin/init"}}},
	}
}

// happen stores events, and waits until they are known.
func (h *house) happen(events ...event.Event) {
	h.Helper()
	h.stored(events)
	select {
	case h.news <- struct{}{}:
	default:
	}
	last := h.last
	h.eventually("the events are known", func() bool { return h.s.Progress().Position >= last })
}

// stored stores events of the agent, and returns the number of the last.
func (h *house) stored(events []event.Event) uint64 {
	h.Helper()
	for i := range events {
		h.seq++
		e := &events[i]
		e.AgentID, e.Boot, e.Seq, e.Time, e.Received = agentID, h.boot, h.seq, h.clock().Add(h.wrongBy), h.clock()
	}
	h.must(h.st.AppendEvents(h.Context(), events))
	h.last = events[len(events)-1].ID
	return h.seq
}

func decisionFor(m profile.Mode) behaviour.Decision { return behaviour.Decision{Mode: m, Anyway: true} }

func (h *house) eventually(what string, so func() bool) {
	h.Helper()
	for late := time.Now().Add(deadline); !so(); {
		if time.Now().After(late) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.Fatalf("it does not come that %s; errors: %v", what, h.wrong)
		}
		time.Sleep(time.Millisecond)
	}
}

func (h *house) group() behaviour.Detail {
	h.Helper()
	d, err := h.s.Group(h.Context(), h.admin, web)
	h.must(err)
	return d
}

func (h *house) mode(m profile.Mode) {
	h.Helper()
	_, err := h.s.SetMode(h.Context(), h.admin, web, behaviour.Decision{Mode: m, Anyway: true, Comment: "because"})
	h.must(err)
}

func (h *house) programs() string {
	h.Helper()
	p, err := h.s.Profile(h.Context(), h.admin, web, 0)
	h.must(err)
	var all []string
	for _, x := range p.Executables {
		all = append(all, string(x.Path))
	}
	return strings.Join(all, " ")
}

func (h *house) violations(q store.ViolationQuery) []store.BehaviourViolation {
	h.Helper()
	h.group() // stores those that wait
	all, err := h.s.Violations(h.Context(), h.admin, q)
	h.must(err)
	return all
}

func (h *house) ask(held ...profile.Held) link.BehaviourBrief {
	h.Helper()
	b, err := h.s.Behaviour(h.Context(), link.BehaviourAsk{AgentID: agentID, Held: held})
	h.must(err)
	return b
}

func TestFromLearningToPermit(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"), exec(1, "/bin/sh"))
	if d := h.group(); d.Mode != profile.Discover || d.Settled.Measure == 0 || d.Version != "sha256:v1" || d.Running != 1 {
		t.Errorf("group: got %+v", d)
	}
	if got := h.programs(); got != "/bin/sh /usr/sbin/nginx" {
		t.Errorf("learned: %s", got)
	}
	_, err := h.s.SetMode(t.Context(), h.admin, web, behaviour.Decision{Mode: profile.Protect})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "not settled") {
		t.Errorf("protected at once: got %v, want a conflict", err)
	}
	h.mode(profile.Monitor)
	h.happen(exec(1, "/bin/sh"), exec(1, "/bin/evil"), exec(1, "/bin/evil"))
	vs := h.violations(store.ViolationQuery{Open: true})
	if len(vs) != 1 || vs[0].Count != 2 || vs[0].Subject != "/bin/evil" || vs[0].Mode != profile.Monitor || vs[0].Revision == 0 {
		t.Fatalf("violations: got %+v", vs)
	}
	if got := h.programs(); strings.Contains(got, "evil") {
		t.Errorf("monitor has learned: %s", got)
	}
	p, err := h.s.Permit(t.Context(), h.admin, vs[0].ID, behaviour.Permitting{Comment: "it is ours"})
	h.must(err)
	if got := h.programs(); got != "/bin/evil /bin/sh /usr/sbin/nginx" {
		t.Errorf("permitted: %s", got)
	}
	if _, err := h.s.Permit(t.Context(), h.admin, vs[0].ID, behaviour.Permitting{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("twice: got %v, want a conflict", err)
	}
	h.happen(exec(1, "/bin/evil"))
	if vs := h.violations(store.ViolationQuery{Open: true}); len(vs) != 0 {
		t.Errorf("after the permit: got %+v", vs)
	}
	if _, err := h.s.Undo(t.Context(), h.admin, p.ID, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.s.Undo(t.Context(), h.admin, p.ID, ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("undone twice: got %v, want a conflict", err)
	}
	if got := h.programs(); got != "/bin/sh /usr/sbin/nginx" {
		t.Errorf("undone: %s", got)
	}
	h.happen(exec(1, "/bin/evil"))
	if vs := h.violations(store.ViolationQuery{Open: true}); len(vs) != 1 || vs[0].Count != 3 {
		t.Errorf("after it was undone: got %+v", vs)
	}
	lines, err := h.st.Audit(t.Context(), 0, 100)
	h.must(err)
	var actions []string
	for _, l := range lines {
		actions = append(actions, l.Action)
	}
	if got := strings.Join(actions, " "); got != "behaviour.undo behaviour.permit behaviour.mode" {
		t.Errorf("audit: %s", got)
	}
	history, err := h.s.Revisions(t.Context(), h.admin, web, 0, 0)
	h.must(err)
	changes, err := h.s.Changes(t.Context(), h.admin, web, p.Revision-1, p.Revision)
	h.must(err)
	if len(history) < 3 || len(changes) == 0 || !strings.Contains(changes[0].Sentence, "/bin/evil") {
		t.Errorf("history %+v, changes %+v", history, changes)
	}
}

// A whole folder is made normal with one file of it, and goes with it again.
func TestAPermitIsAsWideAsAPersonSays(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	write := func(path string) event.Event {
		return event.Event{
			Kind: event.KindFileCreate, WorkloadID: container(1), Group: string(web), Process: event.Process{Key: event.Key{PID: 7, Start: 9}, Executable: "/usr/sbin/nginx"},
			File: &event.File{Path: path},
		}
	}
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	h.happen(write("/srv/news/today"))
	id := h.violations(store.ViolationQuery{Open: true})[0].ID
	_, err := h.s.Permit(t.Context(), h.admin, id, behaviour.Permitting{Width: "world"})
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Remedy(err), "this, folder, tree") {
		t.Errorf("got %v, remedy %q", err, fault.Remedy(err))
	}
	p, err := h.s.Permit(t.Context(), h.admin, id, behaviour.Permitting{Width: "folder"})
	h.must(err)
	h.happen(write("/srv/news/yesterday"), write("/srv/news/old/one"))
	vs := h.violations(store.ViolationQuery{Open: true})
	if len(vs) != 1 || vs[0].Subject != "/srv/news/old/one" {
		t.Errorf("outside: %+v", vs)
	}
	if want := "all files in /srv/news"; !strings.Contains(p.Sentence, want) {
		t.Errorf("the permit says %q, want %q in it", p.Sentence, want)
	}
	_, err = h.s.Undo(t.Context(), h.admin, p.ID, "")
	h.must(err)
	h.happen(write("/srv/news/tomorrow"))
	if vs := h.violations(store.ViolationQuery{Open: true, Text: "/srv/news/tomorrow"}); len(vs) != 1 {
		t.Errorf("after it was undone: %+v", vs)
	}
}

// A builder that is given another folder is one violation for each of its programs, and
// one decision.
func TestManyFilesOfAFolderAreOneDecision(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	write := func(program, path string) event.Event {
		return event.Event{
			Kind: event.KindFileCreate, WorkloadID: container(1), Group: string(web), Process: event.Process{Key: event.Key{PID: 7, Start: 9}, Executable: program},
			File: &event.File{Path: path},
		}
	}
	h.happen(exec(1, "/usr/sbin/nginx"), write("/usr/bin/as", "/srv/build/shop/a.o"))
	h.mode(profile.Monitor)
	var events []event.Event
	mkdir := write("/usr/bin/mkdir", "/srv/build/new")
	mkdir.File.Type = "folder"
	events = append(events, mkdir)
	for n := range 40 {
		events = append(events, write("/usr/bin/as", fmt.Sprintf("/srv/build/new/o%d/part%d.o", n%3, n)))
	}
	h.happen(append(events, write("/usr/bin/ld", "/srv/build/new/bin/shop"), write("/usr/bin/ld", "/etc/passwd"))...)
	vs := h.violations(store.ViolationQuery{Open: true})
	many := slices.IndexFunc(vs, func(v store.BehaviourViolation) bool { return v.Gathered() })
	if len(vs) != 4 || many < 0 || vs[many].Count != 40 || vs[many].Subject != "/srv/build/new" {
		t.Fatalf("outside: %+v", vs)
	}
	p, err := h.s.Permit(t.Context(), h.admin, vs[many].ID, behaviour.Permitting{})
	h.must(err)
	vs = h.violations(store.ViolationQuery{Open: true})
	if len(vs) != 1 || vs[0].Subject != "/etc/passwd" || p.Also != 2 {
		t.Errorf("with the folder permitted, and %d others, lies outside: %+v", p.Also, vs)
	}
	h.happen(write("/usr/bin/as", "/srv/build/new/deep/er/x.o"))
	if vs := h.violations(store.ViolationQuery{Open: true}); len(vs) != 1 {
		t.Errorf("what is below lies outside again: %+v", vs)
	}
	_, err = h.s.Undo(t.Context(), h.admin, p.ID, "")
	h.must(err)
	if vs := h.violations(store.ViolationQuery{Open: true}); len(vs) != 4 {
		t.Errorf("after it was undone: %+v", vs)
	}
}

// What was learned survives a stop and a kill, and no event counts twice.
func TestNothingIsLostOrCountedTwice(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"), exec(1, "/bin/sh"))
	h.halt()
	h.run(slog.New(slog.DiscardHandler))
	h.happen(exec(1, "/bin/sh"), exec(1, "/bin/ls"))
	p, err := h.s.Profile(t.Context(), h.admin, web, 0)
	h.must(err)
	counts := map[string]uint64{}
	for _, x := range p.Executables {
		counts[string(x.Path)] = x.Count
	}
	if counts["/usr/sbin/nginx"] != 1 || counts["/bin/sh"] != 2 || counts["/bin/ls"] != 1 {
		t.Errorf("counted %v", counts)
	}
	h.mode(profile.Monitor)
	h.happen(exec(1, "/bin/evil"))
	h.violations(store.ViolationQuery{})
	h.halt()
	h.run(slog.New(slog.DiscardHandler))
	h.happen(exec(1, "/bin/evil"))
	if vs := h.violations(store.ViolationQuery{}); len(vs) != 1 || vs[0].Count != 2 {
		t.Errorf("violations: got %+v", vs)
	}
	h.mu.Lock()
	if h.outside != 2 {
		t.Errorf("others heard of %d violations, want 2", h.outside)
	}
	h.mu.Unlock()
	if got := h.group().Mode; got != profile.Monitor {
		t.Errorf("mode %s after a restart", got)
	}
}

func TestAgentsAreToldWhatToHold(t *testing.T) {
	h := start(t)
	db := asset.Workload{ID: container(9), AgentID: "AGENTTWO", Group: "shop/db/postgres", State: asset.Running}
	db.Settings.NetworkMode, db.Settings.Addresses = "none", []netip.Addr{netip.MustParseAddr("10.0.0.9")}
	h.workloads(nginx(1, "v1"), db)
	connect := event.Event{
		Kind: event.KindConnect, WorkloadID: container(1), Group: string(web), Process: event.Process{Key: event.Key{PID: 7, Start: 9}, Executable: "/usr/sbin/nginx"},
		Connection: &event.Connection{Protocol: "tcp", Remote: netip.MustParseAddrPort("10.0.0.9:5432"), Peer: event.Peer{Kind: event.PeerWorkload, Group: "shop/db/postgres"}},
	}
	h.happen(exec(1, "/usr/sbin/nginx"), connect)
	b := h.ask()
	if len(b.Rules) != 1 || b.Rules[0].Group != web || b.Rules[0].Mode != profile.Discover {
		t.Fatalf("rules: got %+v", b.Rules)
	}
	held := profile.Held{Group: web, Stamp: b.Rules[0].Stamp, Controls: []profile.HeldControl{{Control: profile.ControlExec, Answer: profile.Off}}}
	if b := h.ask(held, profile.Held{Group: "shop/db/postgres", Stamp: "x"}); len(b.Rules) != 0 || len(b.Release) != 1 || b.Release[0] != "shop/db/postgres" {
		t.Errorf("what is unchanged: got %+v", b)
	}
	if d := h.group(); len(d.Held) != 1 || !d.Held[0].Current || d.Held[0].AgentID != agentID {
		t.Errorf("held: got %+v", d.Held)
	}
	h.mode(profile.Protect)
	protects := func() (profile.Rules, link.BehaviourBrief) {
		b := h.ask(held)
		if len(b.Rules) != 1 || b.Rules[0].Mode != profile.Protect {
			t.Fatalf("rules: got %+v", b.Rules)
		}
		r, err := link.UnpackRules(b.Rules[0])
		h.must(err)
		return r, b
	}
	r, b := protects()
	if r.Answers[profile.ControlExec] != profile.Deny || len(r.Exec.Paths) != 1 || len(r.Network.Destinations) != 1 || r.Network.Destinations[0].Network.String() != "10.0.0.9/32" {
		t.Errorf("rules: got %+v", r)
	}
	h.eventually("the agent is told", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.told[agentID] == b.Stamp })
	if h.group().Held[0].Current {
		t.Error("an agent that holds the old rules counts as current")
	}
	db.Settings.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.10")}
	h.workloads(db)
	if r, _ := protects(); r.Network.Destinations[0].Network.String() != "10.0.0.10/32" {
		t.Errorf("a peer that moved: got %+v", r.Network)
	}
	h.eventually("the agent is told again", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.told[agentID] != b.Stamp })
	_, err := h.s.SetReleased(t.Context(), h.admin, web, true, "now")
	h.must(err)
	if b := h.ask(held); b.Rules[0].Mode != profile.Monitor {
		t.Errorf("released: got %+v", b.Rules[0])
	}
	ended := nginx(1, "v1")
	ended.State = asset.Exited
	h.workloads(ended)
	if b := h.ask(held); len(b.Release) != 0 {
		t.Errorf("a group that ended a moment ago is let go of: %+v", b)
	}
	h.pass(48 * time.Hour)
	if b := h.ask(held); len(b.Rules) != 0 || len(b.Release) != 1 {
		t.Errorf("a group that ended long ago: got %+v", b)
	}
}

func TestAnswersOfTheKernelAreKept(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Protect)
	denied := exec(1, "/bin/evil")
	denied.Reaction = event.ReactionDenied
	h.happen(denied, exec(1, "/bin/evil"))
	if vs := h.violations(store.ViolationQuery{}); len(vs) != 1 || vs[0].Count != 1 || vs[0].Reaction != event.ReactionDenied || vs[0].Mode != profile.Protect {
		t.Errorf("got %+v", vs)
	}
}

func TestProfilesAreImported(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"), exec(1, "/bin/sh"))
	p, err := h.s.Profile(t.Context(), h.admin, web, 0)
	h.must(err)
	if !strings.Contains(p.Text, "/bin/sh") || p.Digest == "" || !p.Learning {
		t.Errorf("profile: got %+v", p)
	}
	edited := strings.ReplaceAll(p.Text, "/bin/sh", "/bin/dash")
	for name, c := range map[string]struct {
		text  string
		after int64
		want  fault.Kind
	}{
		"nothing":          {"", -1, fault.Invalid},
		"broken":           {p.Text + "\nodd: 1\n", -1, fault.Invalid},
		"an old one":       {edited, 77, fault.Conflict},
		"of another group": {strings.ReplaceAll(p.Text, string(web), "shop/other/app"), -1, fault.Invalid},
	} {
		if _, err := h.s.Import(t.Context(), h.admin, web, behaviour.Edit{Text: c.text, After: c.after}); !fault.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if problems, err := h.s.CheckProfile(h.admin, p.Text+"\nodd: 1\n"); err != nil || len(problems) == 0 || problems[0].Line == 0 {
		t.Errorf("problems: got %+v, %v", problems, err)
	}
	_, err = h.s.Import(t.Context(), h.admin, web, behaviour.Edit{Text: edited, Comment: "dash", After: -1})
	h.must(err)
	if got := h.programs(); got != "/bin/dash /usr/sbin/nginx" {
		t.Errorf("imported: %s", got)
	}
	h.happen(exec(1, "/bin/ls"))
	if got := h.programs(); got != "/bin/dash /bin/ls /usr/sbin/nginx" {
		t.Errorf("learned on top: %s", got)
	}
}

// Where profiles must be signed, people change none in another way, and what is
// learned goes on.
func TestProfilesMustBeSigned(t *testing.T) {
	h := start(t)
	public, private, err := ed25519.GenerateKey(nil)
	h.must(err)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	p, err := h.s.Profile(t.Context(), h.admin, web, 0)
	h.must(err)
	text := strings.ReplaceAll(p.Text, "/usr/sbin/nginx", "/usr/sbin/nginx-debug")
	signature, err := watch.SignProfile([]byte(text), private)
	h.must(err)
	signed := behaviour.Edit{Text: text, Signature: string(signature), Comment: strings.Repeat("x", audit.MaxComment), After: -1}
	if _, err := h.s.Import(t.Context(), h.admin, web, signed); !fault.Is(err, fault.Invalid) {
		t.Errorf("signed for a server without keys: got %v", err)
	}

	h.s.Keys = []crypto.PublicKey{public}
	if _, err := h.s.Import(t.Context(), h.admin, web, behaviour.Edit{Text: text, After: -1}); !fault.Is(err, fault.Denied) || fault.Remedy(err) == "" {
		t.Errorf("not signed: got %v", err)
	}
	changed := signed
	changed.Text = p.Text
	if _, err := h.s.Import(t.Context(), h.admin, web, changed); !fault.Is(err, fault.Denied) {
		t.Errorf("another text: got %v", err)
	}
	if _, err := h.s.Start(t.Context(), h.admin, web, watch.StartingNames()[0]); !fault.Is(err, fault.Denied) {
		t.Errorf("a starting profile: got %v", err)
	}
	_, err = h.s.Import(t.Context(), h.admin, web, signed)
	h.must(err)
	if got := h.programs(); got != "/usr/sbin/nginx-debug" {
		t.Errorf("imported: %s", got)
	}
	revisions, err := h.s.Revisions(t.Context(), h.admin, web, 0, 1)
	h.must(err)
	if !strings.HasPrefix(revisions[0].Comment, "signed by sha256:") || !strings.HasSuffix(revisions[0].Comment, " "+signed.Comment) {
		t.Errorf("history: got %q", revisions[0].Comment)
	}
	h.happen(exec(1, "/bin/ls"))
	if got := h.programs(); got != "/bin/ls /usr/sbin/nginx-debug" {
		t.Errorf("learned on top: %s", got)
	}

	_, err = h.s.SetMode(t.Context(), h.admin, web, behaviour.Decision{Mode: profile.Monitor})
	h.must(err)
	h.happen(exec(1, "/bin/nc"))
	outside := h.violations(store.ViolationQuery{Group: web, Limit: 10})
	if len(outside) == 0 {
		t.Fatal("nothing lies outside")
	}
	if _, err := h.s.Permit(t.Context(), h.admin, outside[0].ID, behaviour.Permitting{}); !fault.Is(err, fault.Denied) {
		t.Errorf("a permit: got %v", err)
	}
	if g := h.group(); len(g.Signers) != 1 || !strings.HasPrefix(g.Signers[0], "sha256:") {
		t.Errorf("signers: got %q", g.Signers)
	}
}

func TestPromotion(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	promote := func(p string) {
		t.Helper()
		h.must(h.s.SetPromotion(t.Context(), h.admin, "", &store.BehaviourPromotion{Promote: p, After: time.Hour, Most: profile.Protect}))
	}
	promote("propose")
	h.pass(2 * time.Hour)
	h.eventually("it is proposed", func() bool { p := h.group().Proposal; return p != nil && p.Mode == profile.Protect })
	if all, err := h.s.Groups(t.Context(), h.admin, store.BehaviourQuery{Proposed: true}); err != nil || len(all) != 1 {
		t.Errorf("proposals: got %+v, %v", all, err)
	}
	h.happen(exec(1, "/bin/evil"))
	if p := h.group().Proposal; p != nil {
		t.Errorf("still proposed: %+v", p)
	}
	promote("promote")
	h.pass(2 * time.Hour)
	h.eventually("it is protected", func() bool { return h.group().Mode == profile.Protect })
	if err := h.s.SetPromotion(t.Context(), h.admin, "", &store.BehaviourPromotion{Promote: "perhaps"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want invalid", err)
	}
}

// A clock that is set forward is no time in which nothing was outside.
func TestNoPromotionByAClockThatIsSet(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	h.must(h.s.SetPromotion(t.Context(), h.admin, "", &store.BehaviourPromotion{Promote: "promote", After: time.Hour, Most: profile.Protect}))
	for _, by := range []time.Duration{48 * time.Hour, -24 * time.Hour, 3 * time.Hour} {
		h.setClock(by)
		h.eventually("it counts anew", func() bool { return h.group().Quiet.Equal(h.clock()) })
		if m := h.group().Mode; m != profile.Monitor {
			t.Fatalf("the clock was set by %s: the group is in %s", by, m)
		}
	}
	h.pass(59 * time.Minute)
	h.happen(exec(1, "/usr/sbin/nginx"))
	if m := h.group().Mode; m != profile.Monitor {
		t.Fatalf("too early: the group is in %s", m)
	}
	h.pass(time.Minute)
	h.eventually("it is protected", func() bool { return h.group().Mode == profile.Protect })
}

func TestANewVersionIsLearnedOnTop(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Protect)
	h.workloads(nginx(2, "v2"))
	h.happen(exec(2, "/usr/sbin/nginx"), exec(2, "/usr/bin/new"), exec(1, "/bin/evil"))
	d := h.group()
	if !d.Relearning || d.Effective != profile.Monitor || d.Version != "sha256:v2" {
		t.Errorf("group: got %+v", d)
	}
	if got := h.programs(); got != "/usr/bin/new /usr/sbin/nginx" {
		t.Errorf("learned: %s", got)
	}
	if vs := h.violations(store.ViolationQuery{}); len(vs) != 1 || vs[0].Subject != "/bin/evil" {
		t.Errorf("violations of the old version: got %+v", vs)
	}
}

func TestRehearsal(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	h.happen(exec(1, "/bin/evil"), exec(1, "/usr/sbin/nginx"))
	r, err := h.s.Rehearse(t.Context(), h.admin, behaviour.Rehearse{Group: web})
	h.must(err)
	if r.Events != 3 || r.Blocked != 1 || len(r.Cases) != 1 || r.Cases[0].Subject != "/bin/evil" || r.Cut {
		t.Errorf("got %+v", r)
	}
}

func TestRights(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	viewer := access.Identity{Actor: "user:v", Scopes: access.Viewer.Scopes()}
	nobody := access.Identity{}
	ctx := t.Context()
	for name, do := range map[string]func(access.Identity) error{
		"mode": func(w access.Identity) error {
			_, err := h.s.SetMode(ctx, w, web, behaviour.Decision{Mode: profile.Monitor})
			return err
		},
		"answers":   func(w access.Identity) error { _, err := h.s.SetAnswers(ctx, w, web, nil, ""); return err },
		"promotion": func(w access.Identity) error { return h.s.SetPromotion(ctx, w, web, nil) },
		"permit":    func(w access.Identity) error { _, err := h.s.Permit(ctx, w, 1, behaviour.Permitting{}); return err },
		"undo":      func(w access.Identity) error { _, err := h.s.Undo(ctx, w, 1, ""); return err },
		"import": func(w access.Identity) error {
			_, err := h.s.Import(ctx, w, web, behaviour.Edit{Text: "profile: 1\n", After: -1})
			return err
		},
		"forget": func(w access.Identity) error { return h.s.Forget(ctx, w, web, "") },
	} {
		if err := do(viewer); !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v for a viewer, want denied", name, err)
		}
	}
	if _, err := h.s.Groups(ctx, nobody, store.BehaviourQuery{}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("nobody reads: got %v", err)
	}
	if _, err := h.s.Profile(ctx, viewer, web, 0); err != nil {
		t.Errorf("a viewer reads: %v", err)
	}
	_, err := h.s.SetAnswers(ctx, h.admin, web, map[profile.Control]profile.Answer{profile.ControlFile: profile.Audit}, "")
	h.must(err)
	_, err = h.s.SetAnswers(ctx, h.admin, web, map[profile.Control]profile.Answer{profile.ControlFile: profile.Deny}, "")
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("deny: got %v, want invalid", err)
	}
	if got := h.group().Answers[profile.ControlFile]; got != profile.Audit {
		t.Errorf("answer %s", got)
	}
	h.must(h.s.Forget(ctx, h.admin, web, "anew"))
	if _, err := h.s.Group(ctx, h.admin, web); !fault.Is(err, fault.NotFound) {
		t.Errorf("forgotten: got %v, want not found", err)
	}
}

func TestLimitsAreLearned(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	var samples []asset.Sample
	for i := range 100 {
		samples = append(samples, asset.Sample{WorkloadID: container(1), Time: h.clock().Add(time.Duration(i) * time.Second), Memory: 100 << 20, Pids: 40, Descriptors: 9})
	}
	h.must(h.st.PutSamples(t.Context(), samples))
	h.pass(10 * time.Minute)
	limits := func() profile.Limits {
		p, err := h.s.Profile(t.Context(), h.admin, web, 0)
		h.must(err)
		return p.Limits
	}
	h.eventually("limits are learned", func() bool { return limits().Memory > 100<<20 && limits().Processes > 40 })
	h.mode(profile.Protect)
	r, err := link.UnpackRules(h.ask().Rules[0])
	h.must(err)
	if r.Limits.Memory != limits().Memory || r.Limits.Memory == 0 {
		t.Errorf("rules have the limits %+v", r.Limits)
	}
}

// What lay outside is not lost when a group changes its mode before it was stored, and
// the server is killed then.
func TestAKillAfterAChangeLosesNothing(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	h.happen(exec(1, "/bin/evil"))
	h.mode(profile.Protect)
	// As a kill leaves it: a second service begins with what is stored.
	first := h.halt
	h.run(slog.New(slog.DiscardHandler))
	second := h.halt
	h.halt = func() { second(); first() }
	if vs := h.violations(store.ViolationQuery{}); len(vs) != 1 || vs[0].Count != 1 {
		t.Errorf("got %+v", vs)
	}
	if got := h.group().Mode; got != profile.Protect {
		t.Errorf("mode %s", got)
	}
}

// Two servers that hold one store, as while one takes over from the other: what the one
// has learned never takes back what a person has told the other.
func TestWhatIsLearnedNeverOverwritesWhatAPersonDid(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.group()
	one, first := h.s, h.halt
	h.run(slog.New(slog.DiscardHandler))
	other, second := h.s, h.halt
	h.halt = func() { second(); first() }
	h.happen(exec(1, "/usr/sbin/nginx"))
	own := &profile.Profile{Executables: []profile.Executable{{Path: "/bin/own"}}}
	_, err := other.Amend(t.Context(), h.admin, web, behaviour.Amendment{Add: own, Comment: "ours"})
	h.must(err)
	audit := map[profile.Control]profile.Answer{profile.ControlFile: profile.Audit}
	h.eventually("the other one knows of it", func() bool {
		g, err := one.SetAnswers(t.Context(), h.admin, web, audit, "")
		if err != nil && !fault.Is(err, fault.Conflict) {
			t.Fatal(err)
		}
		return err == nil && g.Revision > 0
	})
	for _, s := range []*behaviour.Service{one, other} {
		h.s = s
		h.eventually("both have what a person did", func() bool { return h.programs() == "/bin/own /usr/sbin/nginx" })
	}
	h.halt()
	h.run(slog.New(slog.DiscardHandler))
	if got := h.programs(); got != "/bin/own /usr/sbin/nginx" {
		t.Errorf("after a restart: %s", got)
	}
	if g := h.group(); g.Answers[profile.ControlFile] != profile.Audit {
		t.Errorf("answers %v", g.Answers)
	}
}

// A clock that is set back has no revision of a person replaced by what is learned.
func TestAClockThatIsSetBackReplacesNoRevision(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.group()
	own := &profile.Profile{Executables: []profile.Executable{{Path: "/bin/own"}}}
	g, err := h.s.Amend(t.Context(), h.admin, web, behaviour.Amendment{Add: own})
	h.must(err)
	h.setClock(-2 * time.Hour)
	h.happen(exec(1, "/bin/sh"))
	h.mode(profile.Monitor)
	all, err := h.s.Revisions(t.Context(), h.admin, web, 0, 0)
	h.must(err)
	if !slices.ContainsFunc(all, func(r store.BehaviourRevision) bool { return r.Revision == g.Revision && r.Actor == h.admin.Actor }) {
		t.Errorf("the person's revision %d is gone: %+v", g.Revision, all)
	}
}

// A group that is new to a host gets its rules before its first container starts
// there; and people are told of hosts that run a group and do not hold it, and why.
func TestRulesComeBeforeTheFirstContainerOfAHost(t *testing.T) {
	h := start(t)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	h.mode(profile.Protect)
	const other = "AGENTTWO"
	ask := func(wanted ...asset.Group) link.BehaviourBrief {
		t.Helper()
		b, err := h.s.Behaviour(t.Context(), link.BehaviourAsk{AgentID: other, Wanted: wanted})
		h.must(err)
		return b
	}
	if b := ask(); len(b.Rules) != 0 {
		t.Fatalf("a host without containers of the group gets %+v", b.Rules)
	}
	if b := ask(web); len(b.Rules) != 1 || b.Rules[0].Mode != profile.Protect {
		t.Fatalf("got %+v, want the rules of the group", b.Rules)
	}
	if b := ask(); len(b.Rules) != 1 {
		t.Errorf("a moment later they are gone: %+v", b)
	}
	h.pass(48 * time.Hour)
	if b := ask(); len(b.Rules) != 0 {
		t.Errorf("nothing came of it, and days later they are still sent: %+v", b)
	}

	h.must(h.st.PutAgent(t.Context(), asset.Agent{ID: agentID, Version: "0.4.0"}))
	held := func() behaviour.HeldBy {
		t.Helper()
		d := h.group()
		if len(d.Held) != 1 {
			t.Fatalf("held: %+v", d.Held)
		}
		return d.Held[0]
	}
	if x := held(); x.Error != "the agent of this host does not hold containers to profiles: it has version 0.4.0" || x.Remedy == "" || x.Current {
		t.Errorf("an older agent: %+v", x)
	}
	h.must(h.st.PutAgent(t.Context(), asset.Agent{ID: agentID, Version: "0.4.0", Abilities: []string{link.AbilityHold}}))
	if x := held(); !strings.Contains(x.Error, "has not asked for rules") {
		t.Errorf("an agent that is away: %+v", x)
	}
	h.ask()
	if x := held(); !strings.Contains(x.Error, "has not fetched the rules") {
		t.Errorf("an agent that has just asked: %+v", x)
	}
	h.ask(profile.Held{Group: web, Stamp: "x"})
	if x := held(); x.Error != "" {
		t.Errorf("an agent that holds the group: %+v", x)
	}
}

// Of too many groups of a host those go first that people have decided of, and then those
// that run: that the others are not learned from as closely is no reason for alarm.
func TestMoreGroupsThanAHostHolds(t *testing.T) {
	h := start(t)
	ours := nginx(2000, "v1")
	h.workloads(ours)
	h.happen(exec(2000, "/usr/sbin/nginx"))
	h.mode(profile.Monitor)
	ours.State = asset.Exited
	ws := []asset.Workload{ours}
	for i := range link.MaxHeldGroups + 5 {
		w := nginx(i, "v1")
		w.Group = asset.Group(fmt.Sprintf("shop/service-%04d/x", i))
		if i < 10 {
			w.State = asset.Exited
		}
		ws = append(ws, w)
	}
	h.workloads(ws...)
	sent := map[asset.Group]bool{}
	var held []profile.Held
	for more := true; more; {
		b := h.ask(held...)
		if b.Cut != 0 {
			t.Fatalf("%d groups are not held that should be", b.Cut)
		}
		for _, r := range b.Rules {
			sent[r.Group] = true
			held = append(held, profile.Held{Group: r.Group, Stamp: r.Stamp})
		}
		more = b.More
	}
	ended := 0
	for g := range sent {
		if g < "shop/service-0010" {
			ended++
		}
	}
	if len(sent) != link.MaxHeldGroups || ended != 4 || !sent[web] {
		t.Errorf("%d groups are sent, of ten that have ended %d, and the one that is monitored: %v; want %d, 4 and true", len(sent), ended, sent[web], link.MaxHeldGroups)
	}
}
