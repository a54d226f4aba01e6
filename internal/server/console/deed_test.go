package console_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/console"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/server/incidents"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/threat"
)

// hosts are the agents of the shop as far as deeds are asked of them.
type hosts struct {
	mu    sync.Mutex
	asked []response.Deed
}

func (h *hosts) Listening() []string { return []string{consoletest.AgentID} }

func (h *hosts) AskRespond(_ string, d response.Deed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, d)
}

func (h *hosts) EndRespond(string, string) {}

// actingHouse is a console over the real services of incidents, rules and responses,
// with hosts that are asked.
func actingHouse(t *testing.T) (*house, *hosts, *respond.Service) {
	t.Helper()
	now, log := testNow(), slog.New(slog.DiscardHandler)
	clock := func() time.Time { return now }
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	shop := consoletest.New(now)
	if err := st.PutWorkloads(t.Context(), shop.Workloads); err != nil {
		t.Fatal(err)
	}
	in := incidents.New(incidents.Options{Store: st, Clock: clock, Log: log})
	at := &hosts{}
	acts := respond.New(respond.Options{
		Store: st, Directions: at, Clock: clock, Log: log, Noted: in.Responded,
		Tree: func(string) ([]event.Running, bool) { return shop.Running, true },
	})
	for _, x := range consoletest.Threats(now) {
		if err := in.Take(t.Context(), x.AgentID, []*threat.Threat{x}); err != nil {
			t.Fatal(err)
		}
	}
	found := detections.New(detections.Options{Store: st, Directions: quiet{}, Next: in, Clock: clock, Log: log})
	h, err := newHouse(shop, now, func(d *console.Deps) { d.Incidents, d.Responses, d.Detections = in, acts, found })
	if err != nil {
		t.Fatal(err)
	}
	return h, at, acts
}

func TestAContainerIsActedOn(t *testing.T) {
	h, at, acts := actingHouse(t)
	form := url.Values{"do": {"quarantine"}, "workload": {consoletest.Storefront}, "incident": {"1"}, "freeze": {"true"}, "reason": {"case 42"}}
	ask := "/responses/deeds/new?do=quarantine&incident=1&workload=" + consoletest.Storefront
	if body := h.get(t, access.Viewer, "/incidents/1").Body.String(); strings.Contains(body, "/responses/deeds/new") {
		t.Error("a viewer is offered to act")
	}
	if w := h.get(t, access.Viewer, ask); w.Code != http.StatusForbidden {
		t.Errorf("the form for a viewer: got %d", w.Code)
	}
	if w := h.post(t, access.Viewer, "/responses/deeds", form.Encode()); w.Code != http.StatusForbidden {
		t.Errorf("a viewer got %d", w.Code)
	}
	if w := h.post(t, access.Operator, "/responses/deeds", form.Encode()+"&csrf=wrong"); w.Code != http.StatusForbidden {
		t.Errorf("a form of elsewhere: got %d", w.Code)
	}
	h.shows(t, access.Operator, "/incidents/1", "Act now", "Quarantine…", "Kill…", "Revoke sessions…")
	h.shows(t, access.Operator, ask, "Quarantine storefront?", "whole network is cut", "Release undoes it", "Freeze its processes", "ip-10-0-3-17")
	for name, change := range map[string]func(url.Values){
		"without a reason":       func(f url.Values) { f.Del("reason") },
		"of a kind that is none": func(f url.Values) { f.Set("do", "explode") },
		"of no process":          func(f url.Values) { f.Set("do", "kill") },
		"with odd packets":       func(f url.Values) { f.Set("do", "snapshot"); f.Set("packets", "often") },
	} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = v
		}
		change(bad)
		if w := h.post(t, access.Operator, "/responses/deeds", bad.Encode()); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: got %d", name, w.Code)
		}
	}
	if len(at.asked) != 0 {
		t.Fatalf("the host was asked for %v", at.asked)
	}
	w := h.post(t, access.Operator, "/responses/deeds", form.Encode())
	page := w.Header().Get("Location")
	if w.Code != http.StatusSeeOther || len(at.asked) != 1 {
		t.Fatalf("got %d to %q, and the host was asked %d times", w.Code, page, len(at.asked))
	}
	d := at.asked[0]
	if d.Kind != response.Quarantine || !d.Freeze || d.Reason != "case 42" || d.By != "user:admin" || page != "/responses/deeds/"+d.ID+"?incident=1" {
		t.Errorf("the host was asked for %+v, and %s shows it", d, page)
	}
	h.shows(t, access.Operator, page, "Quarantine: storefront", "The agent of ip-10-0-3-17 is asked to do it.", "case 42")
	if err := acts.Responded(t.Context(), link.Responded{AgentID: consoletest.AgentID, Answer: response.Answer{
		ID: d.ID, State: response.Done, Did: []string{"cut the network of " + consoletest.HostileName}, Undo: response.Release}}); err != nil {
		t.Fatal(err)
	}
	h.shows(t, access.Viewer, page, "It is done.", "Cut the network of")
	if body := h.get(t, access.Operator, page).Body.String(); !strings.Contains(body, "do=release") || strings.Contains(body, "<img src=x") {
		t.Error("no undo is offered, or somebody's text is markup")
	}
	h.shows(t, access.Operator, "/incidents/1", "in quarantine", "Release…", "quarantine, done")
	h.shows(t, access.Operator, "/workloads/"+consoletest.Storefront, "Act on it", "in quarantine")
	h.shows(t, access.Administrator, page, "Its lines")
}

func TestTheAgentIsAway(t *testing.T) {
	h, _, _ := actingHouse(t)
	// The worker's host is not connected; what can't be done is said, and what was typed stays.
	form := url.Values{"do": {"kill"}, "process": {"all"}, "workload": {consoletest.Worker}, "reason": {"case 43"}}
	w := h.post(t, access.Operator, "/responses/deeds", form.Encode())
	if w.Code < 400 {
		t.Fatalf("got %d", w.Code)
	}
	if text := plainText(w.Body.String()); !strings.Contains(text, "not connected") || !strings.Contains(w.Body.String(), "case 43") {
		t.Errorf("got %.600s", text)
	}
}

func TestADeedIsTriedOnly(t *testing.T) {
	h, at, _ := actingHouse(t)
	form := url.Values{"do": {"kill"}, "workload": {consoletest.Storefront}, "process": {"4123-4123000"}, "reason": {"case 42"}, "try": {"true"}}
	if w := h.post(t, access.Operator, "/responses/deeds", form.Encode()); w.Code != http.StatusSeeOther {
		t.Fatalf("got %d", w.Code)
	}
	if d := at.asked[0]; !d.DryRun || d.Process != (event.Key{PID: 4123, Start: 4123000}) {
		t.Errorf("the host was asked for %+v", d)
	}
}

func TestIncidentsAreResolvedTogether(t *testing.T) {
	h := incidentHouse(t)
	const at = "/incidents/resolve"
	if w := h.post(t, access.Viewer, at, "incident=1&resolution=test"); w.Code != http.StatusForbidden {
		t.Errorf("a viewer got %d", w.Code)
	}
	for form, want := range map[string]int{
		"resolution=test": http.StatusUnprocessableEntity, "incident=1&resolution=odd": http.StatusUnprocessableEntity, "incident=x&resolution=test": http.StatusUnprocessableEntity,
	} {
		if w := h.post(t, access.Operator, at, form); w.Code != want {
			t.Errorf("%s: got %d", form, w.Code)
		}
	}
	w := h.post(t, access.Operator, at, "incident=1&incident=2&resolution=test&comment=drill&back=//evil.example/incidents")
	if got := w.Header().Get("Location"); w.Code != http.StatusSeeOther || got != "/incidents?done=incidents-resolved" {
		t.Fatalf("got %d to %q", w.Code, got)
	}
	h.shows(t, access.Operator, "/incidents?state=resolved&done=incidents-resolved", "The chosen incidents", "test")
	if w := h.post(t, access.Operator, at, "incident=3&incident=2&resolution=test&back="+url.QueryEscape("/incidents?severity=low")); w.Code != http.StatusConflict || !strings.Contains(plainText(w.Body.String()), "1 is resolved, then incident 2 was not") {
		t.Errorf("got %d: %.500s", w.Code, plainText(w.Body.String()))
	}
}

func TestARuleIsSilencedInAnIncident(t *testing.T) {
	h, _, _ := actingHouse(t)
	h.shows(t, access.Operator, "/incidents/1", "Silence the rule here")
	form := url.Values{"rule": {"escape-core-pattern"}, "groups": {"shop/storefront/*"}, "days": {"7"}, "comment": {"the backup does it"}}
	if w := h.post(t, access.Viewer, "/incidents/1/silence", form.Encode()); w.Code != http.StatusForbidden {
		t.Errorf("a viewer got %d", w.Code)
	}
	if w := h.post(t, access.Operator, "/incidents/1/silence", form.Encode()); w.Code != http.StatusSeeOther {
		t.Fatalf("got %d: %.400s", w.Code, plainText(w.Body.String()))
	}
	h.shows(t, access.Operator, "/incidents/1", "rule escape-core-pattern is silenced in shop/storefront/* until")
	form.Set("days", "0")
	if w := h.post(t, access.Operator, "/incidents/1/silence", form.Encode()); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "the backup does it") {
		t.Errorf("no days: got %d, or what was typed is gone", w.Code)
	}
}

func TestAnIncidentIsExported(t *testing.T) {
	h := incidentHouse(t)
	w := h.get(t, access.Viewer, "/incidents/3/export?as=json")
	var got threat.Incident
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.ID != 3 || len(got.Timeline) == 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	md := h.get(t, access.Viewer, "/incidents/1/export?as=md").Body.String()
	for _, want := range []string{"# Incident 1: What was downloaded was run", "| Severity | critical |", "`curl wrote /tmp/x from 203.0.113.9`", "## Processes", "    - 4123 `/tmp/x`", "`cdn.evil.example`"} {
		if !strings.Contains(md, want) {
			t.Errorf("the ticket lacks %q:\n%s", want, md)
		}
	}
	if odd := h.get(t, access.Viewer, "/incidents/3/export?as=md").Body.String(); strings.Contains(strings.ReplaceAll(odd, "`", ""), "\u202e") || !strings.Contains(odd, "\\<img") {
		t.Errorf("what a container chose is markup in the ticket:\n%s", odd)
	}
	if w := h.get(t, access.Viewer, "/incidents/1/export?as=exe"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("got %d", w.Code)
	}
}

func TestEvidenceLeadsToItsEvent(t *testing.T) {
	h := incidentHouse(t)
	e := h.store.shop.Events[0]
	v := url.Values{"boot": {e.Boot}, "seq": {"1"}, "kind": {string(e.Kind)}, "agent": {e.AgentID}, "time": {e.Time.UTC().Format(time.RFC3339Nano)}}
	v.Set("seq", jsonNumber(e.Seq))
	if w := h.get(t, access.Viewer, "/events/at?"+v.Encode()); w.Header().Get("Location") != "/events/"+jsonNumber(uint64(e.ID)) {
		t.Errorf("got %d to %q, want event %d", w.Code, w.Header().Get("Location"), e.ID)
	}
	v.Set("seq", "99999999")
	if w := h.get(t, access.Viewer, "/events/at?"+v.Encode()); !strings.HasPrefix(w.Header().Get("Location"), "/events?kind=") || !strings.HasSuffix(w.Header().Get("Location"), "done=no-event") {
		t.Errorf("one that is not stored: got %q", w.Header().Get("Location"))
	}
	for _, odd := range []string{"time", "seq"} {
		bad := url.Values{}
		for k, x := range v {
			bad[k] = x
		}
		bad.Set(odd, "odd")
		if w := h.get(t, access.Viewer, "/events/at?"+bad.Encode()); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("odd %s: got %d", odd, w.Code)
		}
	}
}

func jsonNumber(n uint64) string {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // a number always marshals
	}
	return string(b)
}
