package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// A person asks for deeds, an agent across the wire does them, and the audit log
// has who asked and what came of it.
func TestDeedsOverTheAPI(t *testing.T) {
	h := open(t, nil)
	joined, client := h.join(t, t.TempDir())
	web := strings.Repeat("ab", 32)
	at := time.Now()
	r := reportOf(joined.AgentID())
	r.Workloads = []asset.Workload{{ID: web, Name: "web", State: asset.Running, Created: at, Updated: at}}
	r.Complete = true
	if _, err := client.Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	form := map[string]any{"kind": "quarantine", "workload": web, "freeze": true, "reason": "miner"}
	operator := h.as(access.Operator)
	if a := h.ask(t, "POST", "/api/v1/respond", form, operator...); a.status != http.StatusServiceUnavailable {
		t.Errorf("of an agent that is away: got %d %s, want unavailable", a.status, a.body)
	}
	heard := make(chan link.Directive, 10)
	go func() {
		_ = client.Directives(t.Context(), link.Caller{}, func(d link.Directive) { heard <- d })
	}()
	await(t, "the first directive", heard)

	if a := h.ask(t, "POST", "/api/v1/respond", form, h.as(access.Viewer)...); a.status != http.StatusForbidden {
		t.Errorf("a viewer asks: got %d %s, want forbidden", a.status, a.body)
	}
	if a := h.ask(t, "POST", "/api/v1/respond", map[string]any{"kind": "stop", "workload": web, "freeze": true}, operator...); a.status/100 != 4 {
		t.Errorf("a stop that freezes: got %d %s", a.status, a.body)
	}
	do := func(form map[string]any, answer response.Answer) respond.Response {
		t.Helper()
		var asked, got respond.Response
		h.ask(t, "POST", "/api/v1/respond", form, operator...).into(t, &asked)
		var d link.Directive
		for d.Respond == nil {
			d = await(t, "the deed", heard)
		}
		if d.Respond.ID != asked.Deed.ID || d.Respond.By != "token:operator/test" {
			t.Fatalf("the agent heard %+v, want %s by token:operator/test", d.Respond, asked.Deed.ID)
		}
		answer.ID = asked.Deed.ID
		if err := client.Responded(t.Context(), link.Responded{Answer: answer}); err != nil {
			t.Fatal(err)
		}
		h.ask(t, "GET", "/api/v1/respond/"+asked.Deed.ID+"?wait=20", nil, operator...).into(t, &got)
		if err := client.Responded(t.Context(), link.Responded{Answer: answer}); err == nil {
			t.Error("a second answer is taken")
		}
		return got
	}
	q := do(form, response.Answer{State: response.Done, Did: []string{"cut"}, Undo: response.Release})
	if q.Answer.State != response.Done || q.Deed.Reason != "miner" || !q.Deed.Freeze {
		t.Errorf("quarantine: %+v", q)
	}
	do(map[string]any{"kind": "release", "workload": web}, response.Answer{State: response.Done})
	var all struct{ Responses []respond.Response }
	h.ask(t, "GET", "/api/v1/respond", nil, h.as(access.Viewer)...).into(t, &all)
	if len(all.Responses) != 2 || all.Responses[1].Answer.State != response.Undone {
		t.Errorf("responses: %+v, want a quarantine that is undone", all.Responses)
	}
	a := h.ask(t, "GET", "/api/v1/audit", nil, h.as(access.Administrator)...)
	for _, want := range []string{"respond.quarantine", "respond.release", "miner", "agent:" + joined.AgentID(), "token:operator/test"} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("the audit log lacks %q", want)
		}
	}
}

// An agent hands over a snapshot in pieces, some of them twice; whoever may have things
// done downloads it, in parts.
func TestSnapshotOverTheAPI(t *testing.T) {
	h := open(t, nil)
	joined, client := h.join(t, t.TempDir())
	web := strings.Repeat("ab", 32)
	at := time.Now()
	r := reportOf(joined.AgentID())
	r.Workloads = []asset.Workload{{ID: web, Name: "web", State: asset.Running, Created: at, Updated: at}}
	r.Complete = true
	if _, err := client.Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	heard := make(chan link.Directive, 10)
	go func() {
		_ = client.Directives(t.Context(), link.Caller{}, func(d link.Directive) { heard <- d })
	}()
	await(t, "the first directive", heard)
	operator := h.as(access.Operator)
	var asked respond.Response
	h.ask(t, "POST", "/api/v1/respond", map[string]any{"kind": "snapshot", "workload": web, "packets": 5, "files": true}, operator...).into(t, &asked)
	var d link.Directive
	for d.Respond == nil {
		d = await(t, "the deed", heard)
	}
	if d.Respond.Packets != 5*time.Second || !d.Respond.Files || d.Respond.Values {
		t.Errorf("the agent heard %+v", d.Respond)
	}

	archive := []byte(strings.Repeat("0123456789abcdef", link.MaxPiece/8)) // two pieces
	sum := sha256.Sum256(archive)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	piece := func(change func(*link.SnapshotPiece)) error {
		p := link.SnapshotPiece{Deed: asked.Deed.ID, Size: int64(len(archive)), Digest: digest}
		change(&p)
		p.Piece = archive[p.Offset:min(p.Offset+link.MaxPiece, p.Size)]
		return client.SnapshotPiece(t.Context(), p)
	}
	for _, tc := range []struct {
		name   string
		change func(*link.SnapshotPiece)
		want   fault.Kind
	}{
		{"of another deed", func(p *link.SnapshotPiece) { p.Deed = "OTHER" }, fault.Conflict},
		{"of a path", func(p *link.SnapshotPiece) { p.Deed = "../../x" }, fault.Conflict},
		{"the second first", func(p *link.SnapshotPiece) { p.Offset = link.MaxPiece }, fault.Conflict},
		{"the first", func(*link.SnapshotPiece) {}, fault.Unknown},
		{"the first again", func(*link.SnapshotPiece) {}, fault.Unknown},
		{"with another digest", func(p *link.SnapshotPiece) {
			p.Offset, p.Digest = link.MaxPiece, "sha256:"+strings.Repeat("0", 64)
		}, fault.Corrupt},
		{"the first, anew", func(*link.SnapshotPiece) {}, fault.Unknown},
		{"the second", func(p *link.SnapshotPiece) { p.Offset = link.MaxPiece }, fault.Unknown},
		{"the second again", func(p *link.SnapshotPiece) { p.Offset = link.MaxPiece }, fault.Unknown},
	} {
		if err := piece(tc.change); (err == nil) != (tc.want == fault.Unknown) || err != nil && !fault.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
	kept := response.Kept{File: "/data/x.tar.gz", Size: int64(len(archive)), Digest: digest}
	if err := client.Responded(t.Context(), link.Responded{Answer: response.Answer{ID: asked.Deed.ID, State: response.Done, Kept: &kept}}); err != nil {
		t.Fatal(err)
	}
	if err := piece(func(*link.SnapshotPiece) {}); !fault.Is(err, fault.Conflict) {
		t.Errorf("after the answer: %v", err)
	}
	var got respond.Response
	h.ask(t, "GET", "/api/v1/respond/"+asked.Deed.ID, nil, operator...).into(t, &got)
	if got.Answer.Kept == nil || !got.Answer.Kept.Sent {
		t.Errorf("the answer: %+v", got.Answer)
	}
	var all struct{ Snapshots []respond.Snapshot }
	h.ask(t, "GET", "/api/v1/respond/snapshots", nil, h.as(access.Viewer)...).into(t, &all)
	if len(all.Snapshots) != 1 || all.Snapshots[0].Workload != web || all.Snapshots[0].Digest != digest {
		t.Fatalf("snapshots: %+v", all.Snapshots)
	}
	path := "/api/v1/respond/snapshots/" + asked.Deed.ID
	if a := h.ask(t, "GET", path, nil, h.as(access.Viewer)...); a.status != http.StatusForbidden {
		t.Errorf("a viewer downloads: %d", a.status)
	}
	if a := h.ask(t, "GET", path, nil, append([]string{"Range", "bytes=16-31"}, operator...)...); a.status != http.StatusPartialContent || string(a.body) != "0123456789abcdef" {
		t.Errorf("a part: %d, %.40q", a.status, a.body)
	}
	if a := h.ask(t, "GET", path, nil, operator...); a.status != http.StatusOK || string(a.body) != string(archive) {
		t.Errorf("the whole: %d, %d bytes", a.status, len(a.body))
	}
	if a := h.ask(t, "GET", "/api/v1/respond/snapshots/..%2Fx", nil, operator...); a.status/100 != 4 {
		t.Errorf("a path: %d", a.status)
	}
	if a := h.ask(t, "DELETE", path, nil, operator...); a.status != http.StatusNoContent {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	if a := h.ask(t, "GET", path, nil, operator...); a.status != http.StatusNotFound {
		t.Errorf("after it: %d", a.status)
	}
	audit := string(h.ask(t, "GET", "/api/v1/audit", nil, h.as(access.Administrator)...).body)
	for _, want := range []string{"respond.snapshot.download", "respond.snapshot.delete"} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit log lacks %q", want)
		}
	}
}

// A threat that an agent tells is an incident, a rule has the agent quarantine the
// workload, and the incident tells so.
func TestRulesActOnThreats(t *testing.T) {
	h := open(t, nil)
	joined, client := h.join(t, t.TempDir())
	web := strings.Repeat("ab", 32)
	at := time.Now()
	r := reportOf(joined.AgentID())
	r.Workloads = []asset.Workload{{ID: web, Name: "web", State: asset.Running, Created: at, Updated: at}}
	r.Complete = true
	if _, err := client.Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	heard := make(chan link.Directive, 10)
	go func() {
		_ = client.Directives(t.Context(), link.Caller{}, func(d link.Directive) { heard <- d })
	}()
	await(t, "the first directive", heard)
	const rules = "responses:\n- {id: hosts-files, owner: anna, on: {themes: [miner, shell], groups: [\"docker/*\"]}, do: [kill, quarantine], until: 1h}\n"
	if a := h.ask(t, "PUT", "/api/v1/respond/policy", map[string]any{"text": rules, "after": 0}, h.as(access.Operator)...); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	rule := h.rulesOf(t, "miner")[0] // one of those that come with the program
	if err := h.Incidents().Take(t.Context(), joined.AgentID(), []*threat.Threat{{
		Version: threat.Version, Print: "p", Rule: rule, Severity: finding.High, Tactic: threat.Impact, Title: "A miner", Summary: "xmrig runs", First: at, Last: at, Count: 1,
		AgentID: joined.AgentID(), WorkloadID: web, Group: "docker/web", Process: event.Process{Key: event.Key{PID: 77, Start: 5}, Name: "xmrig"}, Root: event.Key{PID: 77, Start: 5},
		Evidence: []threat.Evidence{{Boot: "BOOTBOOT", Seq: 1, Time: at, Kind: event.KindExec, Words: "xmrig runs"}},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []response.Kind{response.Kill, response.Quarantine} {
		var d link.Directive
		for d.Respond == nil {
			d = await(t, string(want), heard)
		}
		if d.Respond.Kind != want || d.Respond.By != "rule:hosts-files" || want == response.Kill && d.Respond.Process.PID != 77 {
			t.Errorf("the agent heard %+v, want %s", d.Respond, want)
		}
		if err := client.Responded(t.Context(), link.Responded{Answer: response.Answer{ID: d.Respond.ID, State: response.Done, Did: []string{"did it"}, Undo: want.Undo()}}); err != nil {
			t.Fatal(err)
		}
	}
	news := make(chan string, 1)
	go func() {
		for t.Context().Err() == nil {
			if a := h.ask(t, "GET", "/api/v1/detect/incidents/1", nil, h.as(access.Viewer)...); strings.Contains(string(a.body), "quarantine, done") {
				news <- string(a.body)
				return
			}
		}
	}()
	if told := await(t, "the response in the incident", news); !strings.Contains(told, "rule:hosts-files") {
		t.Errorf("the incident: %s", told)
	}
	var runs struct{ Runs []store.ResponseRun }
	h.ask(t, "GET", "/api/v1/respond/runs", nil, h.as(access.Viewer)...).into(t, &runs)
	if len(runs.Runs) != 2 || runs.Runs[0].Incident != 1 || runs.Runs[0].Threat != rule {
		t.Errorf("runs: %+v", runs.Runs)
	}
}

// rulesOf returns the ids of rules of detection of a theme.
func (h *house) rulesOf(t *testing.T, theme string) (ids []string) {
	t.Helper()
	var all struct{ Rules []threat.Rule }
	h.ask(t, "GET", "/api/v1/detect/rules?theme="+theme, nil, h.as(access.Viewer)...).into(t, &all)
	for _, r := range all.Rules {
		ids = append(ids, r.ID)
	}
	if len(ids) == 0 {
		t.Fatalf("no rule of %s", theme)
	}
	return ids
}
