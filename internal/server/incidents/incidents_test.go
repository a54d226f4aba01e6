package incidents_test

import (
	"context"
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

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/incidents"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	agentID  = "AGENTONE"
	deadline = 20 * time.Second
)

var began = time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)

func container(n int) string { return fmt.Sprintf("%064x", n) }

// house is a service over a real store.
type house struct {
	testing.TB
	st   *db.DB
	s    *incidents.Service
	anna access.Identity
	told chan notice.Notice
	// folded are the threats that were folded, with their incidents.
	folded []string
	halt   func()

	mu      sync.Mutex
	now     time.Time
	telling error // what Tell answers
}

func (h *house) clock() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now }

func (h *house) pass(d time.Duration) { h.mu.Lock(); defer h.mu.Unlock(); h.now = h.now.Add(d) }

func open(t testing.TB) *house {
	t.Helper()
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db"), ProcessCrashOnly: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{TB: t, st: st, told: make(chan notice.Notice, 100), now: began,
		anna: access.Identity{Actor: "user:anna", Name: "anna", Scopes: access.Operator.Scopes()}}
	h.start()
	t.Cleanup(func() {
		h.halt()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// start begins a service over what is stored.
func (h *house) start() {
	h.s = incidents.New(incidents.Options{Store: h.st, Tell: h.tell, Folded: h.fold, Clock: h.clock, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); h.s.Run(ctx) }()
	h.halt = func() { cancel(); <-over }
}

func (h *house) restart() { h.halt(); h.start() }

func (h *house) fold(_ context.Context, i *threat.Incident, t *threat.Threat) {
	h.folded = append(h.folded, fmt.Sprint(i.ID, " ", t.Rule))
}

func (h *house) tell(_ context.Context, n notice.Notice) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.telling == nil {
		h.told <- n
	}
	return h.telling
}

// wantTold waits for what people are told next.
func (h *house) wantTold(id, title string) notice.Notice {
	h.Helper()
	select {
	case n := <-h.told:
		if n.ID != id || !strings.HasPrefix(n.Title, title) {
			h.Errorf("told %s %q, want %s %q", n.ID, n.Title, id, title)
		}
		return n
	case <-time.After(deadline):
		h.Fatalf("nobody was told %s", id)
		return notice.Notice{}
	}
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) take(ts ...*threat.Threat) {
	h.Helper()
	h.must(h.s.Take(h.Context(), agentID, ts))
}

// list returns all incidents whole, the newest first.
func (h *house) list() (out []threat.Incident) {
	h.Helper()
	all, err := h.s.Incidents(h.Context(), h.anna, store.IncidentQuery{})
	h.must(err)
	for i := range all {
		one, err := h.s.Incident(h.Context(), h.anna, all[i].ID)
		h.must(err)
		out = append(out, one)
	}
	return out
}

// hit is a threat of a rule, in a container, after a while.
func hit(rule string, n int, after time.Duration, change ...func(*threat.Threat)) *threat.Threat {
	at := began.Add(after)
	k := event.Key{PID: uint32(100 + n), Start: 7}
	t := &threat.Threat{
		Version: threat.Version, Rule: rule, Severity: finding.Medium, Title: "The title of " + rule, Summary: rule + " did it", First: at, Last: at, Count: 1,
		AgentID: agentID, WorkloadID: container(n), Group: "shop/web/nginx", Root: k,
		Process: event.Process{Key: k, Name: "nginx", Executable: "/usr/sbin/nginx"}, Evidence: []threat.Evidence{{Boot: "b", Seq: uint64(after) + 1, Time: at, Words: "ran"}},
	}
	for _, f := range change {
		f(t)
	}
	t.Print = threat.PrintOf(t.Rule, t.AgentID, t.WorkloadID, t.Root)
	return t
}

func TestThreatsBecomeIncidents(t *testing.T) {
	h := open(t)
	changed, err := h.s.Changed(t.Context())
	h.must(err)
	h.take(hit("shell", 1, 0), hit("shell", 2, 0))
	<-changed
	h.take(hit("beacon", 1, time.Minute, func(t *threat.Threat) { t.Severity = finding.High }))
	all := h.list()
	if len(all) != 2 || all[1].Count != 2 || all[1].Severity != finding.High || all[1].State != threat.Open || all[1].Title != "The title of beacon, in shop/web/nginx, and 1 more thing" {
		t.Fatalf("%d incidents: %+v", len(all), all)
	}
	h.take(hit("beacon", 1, time.Minute, func(t *threat.Threat) { t.Severity = finding.High })) // its answer was lost
	if got := h.list()[1]; got.Count != 2 {
		t.Errorf("told twice, counted %d times", got.Count)
	}
}

func TestTakeRefuses(t *testing.T) {
	h := open(t)
	for name, bad := range map[string]*threat.Threat{
		"of another agent": hit("a", 1, 0, func(t *threat.Threat) { t.AgentID = "OTHER" }),
		"without a rule":   hit("", 1, 0),
		"with a long name": hit("a", 1, 0, func(t *threat.Threat) { t.Group = strings.Repeat("x", 5_000) }),
		"nothing":          nil,
	} {
		if err := h.s.Take(t.Context(), agentID, []*threat.Threat{hit("good", 2, 0), bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	if all := h.list(); len(all) != 0 {
		t.Errorf("%d incidents of what was refused", len(all))
	}
}

func TestARestartLosesNothing(t *testing.T) {
	h := open(t)
	h.take(hit("shell", 1, 0))
	h.wantTold("incident-1-1", "The title of shell")
	h.restart()
	h.take(hit("shell", 1, 0), hit("beacon", 1, time.Minute))
	all := h.list()
	if len(all) != 1 || all[0].Count != 2 {
		t.Fatalf("after a restart: %+v", all)
	}
}

func TestALateReportTiesTwo(t *testing.T) {
	h := open(t)
	tree := func(pid uint32) func(*threat.Threat) {
		return func(t *threat.Threat) { t.Root = event.Key{PID: pid, Start: 1} }
	}
	h.pass(time.Hour)
	h.take(hit("a", 1, 0, tree(1)))
	h.take(hit("c", 1, 15*time.Minute, tree(3)))
	if n := len(h.list()); n != 2 {
		t.Fatalf("%d incidents, want 2", n)
	}
	_, err := h.s.Change(t.Context(), h.anna, 2, incidents.Change{Do: threat.Assign})
	h.must(err)
	h.take(hit("b", 1, 8*time.Minute, tree(2)))
	h.take(hit("b", 1, 8*time.Minute, tree(2))) // again: that is no news
	if d := cmp.Diff([]string{"1 a", "2 c", "1 b"}, h.folded); d != "" {
		t.Errorf("folded (-want +got):\n%s", d)
	}
	all := h.list()
	if len(all) != 1 || all[0].ID != 1 || all[0].Count != 3 || all[0].State != threat.Assigned || all[0].Assignee != "anna" || !slices.Equal(all[0].Merged, []int64{2}) {
		t.Fatalf("after the late report: %+v", all)
	}
	got, err := h.s.Incident(t.Context(), h.anna, 2)
	h.must(err)
	if got.ID != 1 {
		t.Errorf("incident 2 leads to %d", got.ID)
	}
}

func TestWhatPeopleDo(t *testing.T) {
	h := open(t)
	h.take(hit("shell", 1, 0))
	h.wantTold("incident-1-1", "The title of shell")
	do := func(c incidents.Change) threat.Incident {
		t.Helper()
		i, err := h.s.Change(t.Context(), h.anna, 1, c)
		h.must(err)
		return i
	}
	if i := do(incidents.Change{Do: threat.Assign}); i.State != threat.Assigned || i.Assignee != "anna" {
		t.Errorf("assigned: %s, %s", i.State, i.Assignee)
	}
	do(incidents.Change{Do: threat.Comment, Comment: "I look at it"})
	if i := do(incidents.Change{Do: threat.Unassign}); i.State != threat.Open || i.Assignee != "" {
		t.Errorf("not assigned: %s, %q", i.State, i.Assignee)
	}
	i := do(incidents.Change{Do: threat.Resolve, Resolution: threat.Test, Comment: "that was me"})
	if i.State != threat.Resolved || i.Resolution != threat.Test || i.Resolved == nil {
		t.Errorf("resolved: %+v", i)
	}
	if n := h.wantTold("incident-1-2", "Resolved as test: The title of shell"); !n.Resolved || n.Subject != "incident:1" {
		t.Errorf("told %+v", n)
	}
	_, err := h.s.Change(t.Context(), h.anna, 1, incidents.Change{Do: threat.Assign})
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("assigning a resolved one: %v, want conflict", err)
	}
	h.pass(time.Hour)
	h.take(hit("shell", 1, 30*time.Minute)) // it happens again
	h.wantTold("incident-1-3", "Again: The title of shell")
	all := h.list()
	if len(all) != 1 || all[0].State != threat.Reopened || all[0].Count != 2 || all[0].Resolved != nil {
		t.Fatalf("recurred: %+v", all)
	}
	var said []string
	for _, e := range all[0].Timeline {
		if e.Kind != threat.EntryThreat {
			said = append(said, e.By+" "+e.Text)
		}
	}
	want := []string{"user:anna assigned to anna", "user:anna I look at it", "user:anna no longer assigned to anna", "user:anna resolved as test: that was me",
		"system it happened again after it was resolved as test"}
	if d := cmp.Diff(want, said); d != "" {
		t.Errorf("timeline (-want +got):\n%s", d)
	}
	var audited []string
	log, err := h.st.Audit(t.Context(), 0, 10)
	h.must(err)
	for _, a := range slices.Backward(log) {
		audited = append(audited, a.Action+" "+a.Target)
	}
	if d := cmp.Diff([]string{"incident.assign incident:1", "incident.comment incident:1", "incident.unassign incident:1", "incident.resolve incident:1"}, audited); d != "" {
		t.Errorf("audit log (-want +got):\n%s", d)
	}
}

func TestChangesThatAreNone(t *testing.T) {
	h := open(t)
	h.take(hit("shell", 1, 0))
	viewer := access.Identity{Actor: "user:vera", Scopes: access.Viewer.Scopes()}
	for _, tc := range []struct {
		name string
		who  access.Identity
		id   int64
		c    incidents.Change
		want fault.Kind
	}{
		{"a viewer", viewer, 1, incidents.Change{Do: threat.Assign}, fault.Denied},
		{"nobody", access.Identity{}, 1, incidents.Change{Do: threat.Assign}, fault.Unauthenticated},
		{"another incident", h.anna, 9, incidents.Change{Do: threat.Assign}, fault.NotFound},
		{"a recurrence", h.anna, 1, incidents.Change{Do: threat.Recur}, fault.Invalid},
		{"an empty comment", h.anna, 1, incidents.Change{Do: threat.Comment, Comment: " "}, fault.Invalid},
		{"a long comment", h.anna, 1, incidents.Change{Do: threat.Comment, Comment: strings.Repeat("x", threat.MaxComment+1)}, fault.Invalid},
		{"a resolution that is none", h.anna, 1, incidents.Change{Do: threat.Resolve, Resolution: "fine"}, fault.Invalid},
		{"reopening an open one", h.anna, 1, incidents.Change{Do: threat.Reopen}, fault.Conflict},
		{"an old revision", h.anna, 1, incidents.Change{Do: threat.Assign, Revision: 99}, fault.Conflict},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := h.s.Change(t.Context(), tc.who, tc.id, tc.c); !fault.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestPeopleAreToldOnceOfEachNews(t *testing.T) {
	h := open(t)
	h.mu.Lock()
	h.telling = errors.New("the store is away")
	h.mu.Unlock()
	h.take(hit("shell", 1, 0))
	h.restart() // nobody was told
	h.mu.Lock()
	h.telling = nil
	h.mu.Unlock()
	h.restart()
	n := h.wantTold("incident-1-1", "The title of shell")
	if n.Kind != notice.Incident || n.Workload.ID != container(1) || n.Link != "/incidents/1" || n.Severity != finding.Medium {
		t.Errorf("told %+v", n)
	}
	h.take(hit("other", 1, time.Minute))
	h.take(hit("grave", 1, 2*time.Minute, func(t *threat.Threat) { t.Severity = finding.Critical }))
	h.wantTold("incident-1-2", "Graver now: The title of grave")
	// From a container of another group to this one.
	h.take(hit("beside", 9, 2*time.Minute, func(t *threat.Threat) {
		t.Group, t.Peers = "shop/api/node", []threat.Peer{{Address: netip.MustParseAddrPort("10.0.0.2:6379"), Peer: event.Peer{Kind: event.PeerWorkload, WorkloadID: container(1)}}}
	}))
	n = h.wantTold("incident-1-3", "Spread to another group: ")
	all := &notice.Filter{Kinds: []notice.Kind{notice.Incident}, Groups: []string{"shop/api/*"}}
	if groups := n.Groups(); len(groups) != 2 || !all.TakesNotice(&n) {
		t.Errorf("told of %q, which targets of shop/api/* do not take", groups)
	}
	h.restart()
	h.take(hit("again", 2, 3*time.Minute))
	h.wantTold("incident-2-1", "The title of again")
}

func TestLongAfterANewOneNamesTheFormer(t *testing.T) {
	h := open(t)
	h.take(hit("shell", 1, 0))
	_, err := h.s.Change(t.Context(), h.anna, 1, incidents.Change{Do: threat.Resolve, Resolution: threat.Harmless})
	h.must(err)
	h.pass(72 * time.Hour)
	h.take(hit("shell", 1, 72*time.Hour))
	all := h.list()
	if len(all) != 2 || all[0].Former != 1 || all[1].State != threat.Resolved {
		t.Errorf("three days later: %+v", all)
	}
}

func TestViolationsJoin(t *testing.T) {
	h := open(t)
	v := profile.Violation{Group: "shop/web/nginx", Fingerprint: "f", Control: profile.ControlFile, Kind: event.KindFileWrite, Mode: profile.Monitor, Sentence: "nginx wrote /etc/x",
		WorkloadID: container(1), AgentID: agentID, EventID: 7, Count: 3, First: began, Last: began}
	other := v
	other.Mode, other.WorkloadID = profile.Discover, container(1)
	other.Fingerprint = "g"
	h.must(h.s.TakeViolations(t.Context(), []profile.Violation{v, other}))
	if n := len(h.list()); n != 0 {
		t.Fatalf("%d incidents of what was only seen", n)
	}
	h.take(hit("shell", 1, time.Minute))
	if i := h.list()[0]; len(i.Timeline) != 2 || i.Timeline[0].Kind != threat.EntryViolation || i.Timeline[0].Evidence[0].ID != 7 {
		t.Errorf("timeline %+v", i.Timeline)
	}
}

func TestWhatWasDoneAboutIt(t *testing.T) {
	h := open(t)
	h.must(h.s.Responded(t.Context(), 0, container(1), "user:anna", "there is no incident yet"))
	h.must(h.s.Responded(t.Context(), 7, "", "rule:stop", "nor such a one"))
	h.take(hit("shell", 1, 0), hit("shell", 2, 0))
	h.must(h.s.Responded(t.Context(), 0, container(1), "user:anna", "quarantined a1"))
	for range 300 {
		h.must(h.s.Responded(t.Context(), 1, "", "rule:stop", "stopped its task"))
	}
	_, err := h.s.Change(t.Context(), h.anna, 1, incidents.Change{Do: threat.Comment, Comment: "there is room for me"})
	h.must(err)
	i, err := h.s.Incident(t.Context(), h.anna, 1)
	h.must(err)
	if len(i.Timeline) > threat.MaxTimeline || i.Timeline[0].Kind != threat.EntryThreat && i.Timeline[0].Kind != threat.EntryResponse {
		t.Errorf("timeline of %d: %+v", len(i.Timeline), i.Timeline[0])
	}
	var said []string
	for _, e := range i.Timeline {
		if e.Kind != threat.EntryThreat && !slices.Contains(said, e.By+" "+e.Text) {
			said = append(said, e.By+" "+e.Text)
		}
	}
	if d := cmp.Diff([]string{"user:anna quarantined a1", "rule:stop stopped its task", "user:anna there is room for me"}, said); d != "" {
		t.Errorf("timeline (-want +got):\n%s", d)
	}
}

func TestWeaknessesThatFit(t *testing.T) {
	h := open(t)
	const image = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	h.must(h.st.PutWorkloads(t.Context(), []asset.Workload{{ID: container(1), AgentID: agentID, Name: "web", Group: "shop/web/nginx", State: asset.Running,
		Image: asset.Image{Reference: "shop/web:1", ID: image}, Settings: asset.Settings{Ports: []asset.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}}}}))
	_, err := h.st.NoteImages(t.Context(), []store.Image{{ID: image, References: []string{"shop/web:1"}}}, began)
	h.must(err)
	_, err = h.st.LeaseImage(t.Context(), image, store.Lease{AgentID: agentID, Job: "job", Now: began, Until: began.Add(time.Hour)})
	h.must(err)
	pkg := func(name string, files ...string) inventory.Package {
		return inventory.Package{Type: "deb", Namespace: "debian", Name: name, Version: "1.0", Files: files, Places: []inventory.Place{{Path: "/var/lib/dpkg/status", Layer: 1}}}
	}
	inv := inventory.Inventory{Packages: []inventory.Package{pkg("nginx", "/usr/sbin/nginx"), pkg("openssl", "/usr/lib/libssl.so"), pkg("perl", "/usr/bin/perl")}}
	h.must(h.st.PutInventory(t.Context(), image, "job", inv, began))
	vulnerability := func(id, name, vector string, inUse bool) finding.Vulnerability {
		v := finding.Vulnerability{ID: id, Package: pkg(name), Severity: finding.High, Scores: []finding.Score{{Version: "3.1", Vector: vector, Base: 8}}, InUse: inUse, State: finding.Unfixed}
		v.Print()
		return v
	}
	const network, local = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"
	h.must(h.st.PutFindings(t.Context(), store.ImageFindings{ImageID: image, Database: "d", Matched: began, Vulnerabilities: []finding.Vulnerability{
		vulnerability("CVE-2026-1", "nginx", local, false), vulnerability("CVE-2026-2", "openssl", network, true),
		vulnerability("CVE-2026-3", "perl", network, false), vulnerability("CVE-2026-4", "openssl", local, true),
	}}))
	h.take(hit("server-shell", 1, 0, func(t *threat.Threat) { t.Tactic, t.Techniques = threat.InitialAccess, []string{"T1190"} }))
	h.wantTold("incident-1-1", "The title of server-shell")
	changed, err := h.s.Changed(t.Context())
	h.must(err)
	for i := h.list()[0]; len(i.Weaknesses) == 0; i = h.list()[0] {
		<-changed
	}
	var got []string
	for _, w := range h.list()[0].Weaknesses {
		got = append(got, w.ID+": "+w.Why)
	}
	want := []string{"CVE-2026-1: /usr/sbin/nginx, which is of this package, is among the processes of what happened",
		"CVE-2026-2: it can be used over the network, the container takes connections at port 80, and somebody came in from outside"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("weaknesses (-want +got):\n%s", d)
	}
}

func TestPeersOfTwoAgents(t *testing.T) {
	h := open(t)
	peer := func(t *threat.Threat) {
		t.Peers = []threat.Peer{{Address: netip.MustParseAddrPort("203.0.113.9:4444"), Peer: event.Peer{Kind: event.PeerPublic}}}
	}
	h.take(hit("beacon", 1, 0, peer))
	other := hit("beacon", 2, time.Minute, peer, func(t *threat.Threat) { t.AgentID = "AGENTTWO" })
	h.must(h.s.Take(t.Context(), "AGENTTWO", []*threat.Threat{other}))
	if all := h.list(); len(all) != 1 || len(all[0].Agents) != 2 || len(all[0].Peers) != 1 {
		t.Errorf("one peer of two hosts: %+v", all)
	}
}
