package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
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
