package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// An agent across the wire tells of threats, which become incidents, and gets the rules
// and silences that people write.
func TestRulesOfDetectionOverTheAPI(t *testing.T) {
	h := open(t, nil)
	joined, client := h.join(t, t.TempDir())
	web, at := strings.Repeat("ab", 32), time.Now().UTC()
	r := reportOf(joined.AgentID())
	r.Workloads = []asset.Workload{{ID: web, Name: "web", State: asset.Running, Created: at, Updated: at, ECS: asset.ECS{Cluster: "shop", Service: "store", Container: "web"}}}
	r.Complete, r.ThreatSeries = true, "SERIES"
	tell := func(number uint64) {
		t.Helper()
		r.Threats = []link.NumberedThreat{{Number: number, Threat: threat.Threat{
			Version: threat.Version, Print: strings.Repeat("0f", 16), Rule: "escape-core-pattern", Severity: finding.Critical, Tactic: threat.PrivilegeEscalation,
			Title: "The host's core_pattern was set from a container", Summary: "sh did", First: at, Last: at, Count: 1, WorkloadID: web,
			Process: event.Process{Key: event.Key{PID: 9, Start: 9}, Name: "sh"}, Root: event.Key{PID: 9, Start: 9},
			Evidence: []threat.Evidence{{Boot: "b", Seq: number, Time: at, Kind: event.KindKernelKnob, Words: "w"}},
		}}}
		receipt, err := client.Report(t.Context(), r)
		if err != nil || receipt.ThreatsTaken != number {
			t.Fatalf("threats up to %d were taken, %v, want %d", receipt.ThreatsTaken, err, number)
		}
	}
	incidents := func() (all []threat.Incident) {
		t.Helper()
		var page struct{ Incidents []threat.Incident }
		h.ask(t, "GET", "/api/v1/detect/incidents", nil, h.as(access.Viewer)...).into(t, &page)
		return page.Incidents
	}
	tell(1)
	got := incidents()
	if len(got) != 1 || got[0].Count != 1 || len(got[0].Groups) != 1 || got[0].Groups[0] != "shop/store/web" {
		t.Fatalf("incidents: %+v", got)
	}

	heard := make(chan link.Directive, 10)
	go func() {
		_ = client.Directives(t.Context(), link.Caller{}, func(d link.Directive) { heard <- d })
	}()
	await(t, "the first directive", heard)
	operator := h.as(access.Operator)
	form := map[string]any{"text": "lists: {ours: {value: [a], meaning: m}}", "after": 0}
	if a := h.ask(t, "PUT", "/api/v1/detect/documents/shop.yaml", form, h.as(access.Viewer)...); a.status != http.StatusForbidden {
		t.Errorf("a viewer writes: got %d %s, want forbidden", a.status, a.body)
	}
	var set store.DetectionDocument
	h.ask(t, "PUT", "/api/v1/detect/documents/shop.yaml", form, operator...).into(t, &set)
	if set.Version != 1 || set.Actor != "token:operator/test" {
		t.Errorf("what was set: %+v", set)
	}
	var d link.Directive
	for d.Detect == nil {
		d = await(t, "that rules are others", heard)
	}
	b, err := client.Detections(t.Context(), link.DetectionsAsk{Boot: "1", Rules: []threat.RuleStats{{Rule: "escape-core-pattern", Looked: 5, Hits: 2}}})
	if err != nil || b.Stamp != d.Detect.Stamp || len(b.Texts.Documents) != 1 || b.Texts.Documents[0].Text != form["text"] {
		t.Errorf("the agent gets %+v, %v", b, err)
	}
	var rule detections.Rule
	h.ask(t, "GET", "/api/v1/detect/rules/escape-core-pattern", nil, operator...).into(t, &rule)
	if rule.Stats.Hits != 2 || rule.Stats.Looked != 5 {
		t.Errorf("the rule fares %+v", rule.Stats)
	}
	h.ask(t, "GET", "/api/v1/detect/documents/shop.yaml?version=1", nil, operator...).into(t, &set)
	if set.Text != form["text"] {
		t.Errorf("the document is %q", set.Text)
	}
	silence := map[string]any{"rule": "escape-*", "groups": []string{"shop/*/*"}, "reason": "r", "until": at.Add(time.Hour)}
	if a := h.ask(t, "POST", "/api/v1/detect/silences", silence, operator...); a.status != http.StatusCreated {
		t.Fatalf("silence: got %d %s", a.status, a.body)
	}
	tell(2) // by an agent that has not heard of it
	if got := incidents(); len(got) != 1 || got[0].Count != 1 {
		t.Errorf("what is silenced became part of an incident: %+v", got)
	}
}
