package console_test

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	rules "github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/console"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/server/incidents"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// incidentHouse is a console over the real service of incidents, which was told what
// rules saw in the shop.
func incidentHouse(t *testing.T) *house {
	t.Helper()
	now, log := testNow(), slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	s := incidents.New(incidents.Options{Store: st, Clock: func() time.Time { return now }, Log: log})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, x := range consoletest.Threats(now) {
		if err := s.Take(t.Context(), x.AgentID, []*threat.Threat{x}); err != nil {
			t.Fatal(err)
		}
	}
	h, err := newHouse(consoletest.New(now), now, func(d *console.Deps) { d.Incidents = s })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestIncidentsAreListed(t *testing.T) {
	h := incidentHouse(t)
	h.shows(t, access.Viewer, "/incidents", "4 incidents are not resolved", "What was downloaded was run, in shop/storefront/storefront", "critical", "killed", "open", "ip-10-0-3-17")
	for _, c := range []struct {
		asked string
		want  int
	}{
		{"", 4}, {"severity=high", 2}, {"severity=medium", 3}, {"state=active", 4}, {"state=resolved", 0}, {"rule=package-manager", 1},
		{"group=shop/*", 2}, {"text=apt-get", 1}, {"technique=T1059", 1}, {"technique=T1059.004", 1}, {"technique=t99", 0}, {"agent=" + consoletest.Agent2ID, 1}, {"workload=" + consoletest.Storefront, 1}, {"since=1h", 3}, {"until=1h", 1},
	} {
		if got := strings.Count(h.get(t, access.Viewer, "/incidents?"+c.asked).Body.String(), `<tr id="i`); got != c.want {
			t.Errorf("%q: got %d incidents, want %d", c.asked, got, c.want)
		}
	}
	for _, odd := range []string{"state=odd", "severity=odd", "before=x", "since=odd"} {
		if w := h.get(t, access.Viewer, "/incidents?"+odd); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: got %d", odd, w.Code)
		}
	}
	h.shows(t, access.Viewer, "/", "incidents that need somebody")
}

func TestAnIncidentIsShown(t *testing.T) {
	h := incidentHouse(t)
	h.shows(t, access.Viewer, "/incidents/1", "Timeline", "gunicorn", "curl wrote /tmp/x from 203.0.113.9", "The kernel killed what did it", "cdn.evil.example", "203.0.113.9:4444", "T1059.004",
		"/tmp/x called 203.0.113.9:4444 every 5 s", "×42", "execution → credential access → command and control", "An operator or administrator can take it")
	body := h.get(t, access.Viewer, "/incidents/1").Body.String()
	if want := `href="/events/at?agent=` + consoletest.AgentID + `&amp;boot=`; !strings.Contains(body, want) {
		t.Errorf("no entry leads to its events, by %s", want)
	}
	if strings.Contains(body, `method="post" action="/incidents/`) {
		t.Error("a viewer is offered to change it")
	}
	if w := h.get(t, access.Viewer, "/incidents/99"); w.Code != http.StatusNotFound {
		t.Errorf("no such incident: got %d", w.Code)
	}
	for _, path := range []string{"/incidents", "/incidents/1", "/incidents/2", "/incidents/3"} {
		if whole := h.get(t, access.Operator, path).Body.String(); strings.Contains(whole, "<img src=x") {
			t.Errorf("%s: somebody's text is markup", path)
		}
	}
}

func TestAnIncidentIsTakenAndResolved(t *testing.T) {
	h := incidentHouse(t)
	const at = "/incidents/1"
	if w := h.post(t, access.Viewer, at, "do=assign"); w.Code != http.StatusForbidden {
		t.Errorf("a viewer got %d", w.Code)
	}
	if w := h.post(t, access.Operator, at, "csrf=wrong&do=assign"); w.Code != http.StatusForbidden {
		t.Errorf("a form of elsewhere: got %d", w.Code)
	}
	for _, c := range []struct {
		form string
		want int
	}{
		{"do=assign&assignee=mira", http.StatusSeeOther}, {"do=comment&comment=looking", http.StatusSeeOther}, {"do=comment&comment=", http.StatusUnprocessableEntity},
		{"do=resolve&resolution=odd", http.StatusUnprocessableEntity}, {"do=resolve&resolution=attack&comment=image+replaced", http.StatusSeeOther},
		{"do=assign&assignee=mira", http.StatusConflict}, {"do=odd", http.StatusUnprocessableEntity},
	} {
		if w := h.post(t, access.Operator, at, c.form); w.Code != c.want {
			t.Errorf("%s: got %d, want %d: %.300s", c.form, w.Code, c.want, plainText(w.Body.String()))
		}
	}
	h.shows(t, access.Operator, at+"?done=incident-resolve", "It is resolved.", "an attack, dealt with", "looking", "image replaced", "Reopen it")
	if w := h.post(t, access.Operator, at, "do=reopen&comment=it+is+back"); w.Code != http.StatusSeeOther {
		t.Errorf("reopen: got %d", w.Code)
	}
	h.shows(t, access.Operator, at, "reopened", "it is back")
}

// quiet has no agents to tell.
type quiet struct{}

func (quiet) TellDetect(string) {}

// TestRulesShowTheirFalseAlarms: a rule is shown with how many incidents of it people
// said were false alarms.
func TestRulesShowTheirFalseAlarms(t *testing.T) {
	h := ruleHouse(t, "escape-core-pattern", "escape-core-pattern", "escape-kernel-knob")
	if got := strings.Count(plainText(h.get(t, access.Viewer, "/detect/rules").Body.String()), "false alarm"); got != 2 {
		t.Errorf("%d rules have false alarms, want 2", got)
	}
	h.shows(t, access.Viewer, "/detect/rules?text=escape-core-pattern", "2 false alarms")
}

// ruleHouse has rules, and for each of some an incident that was a false alarm.
func ruleHouse(t *testing.T, wrong ...string) *house {
	t.Helper()
	now, log := testNow(), slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, rule := range wrong {
		i := threat.Incident{Title: rule, State: threat.Resolved, Resolution: threat.FalseAlarm, Rules: []threat.Fold{{Rule: rule}}, Opened: now, Updated: now, Last: now}
		if err := st.SaveIncidents(t.Context(), &store.IncidentChange{Put: []store.IncidentPut{{Incident: &i, Memory: []byte("{}")}}}); err != nil {
			t.Fatal(err)
		}
	}
	clock := func() time.Time { return now }
	in := incidents.New(incidents.Options{Store: st, Clock: clock, Log: log})
	s := detections.New(detections.Options{Store: st, Directions: quiet{}, Next: in, Clock: clock, Log: log})
	h, err := newHouse(consoletest.New(now), now, func(d *console.Deps) { d.Incidents, d.Detections = in, s })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestRulesOfDetectionAreShownAndSilenced(t *testing.T) {
	h := ruleHouse(t)
	const id = "escape-core-pattern"
	h.shows(t, access.Viewer, "/detect/rules", "escape", id, "T1611")
	h.shows(t, access.Viewer, "/detect/rules?text="+id, "1 of")
	h.shows(t, access.Viewer, "/detect/rules?text=nothinghasthis", "No rule fits these filters.")
	h.shows(t, access.Viewer, "/detect/rules/"+id, "False alarms", "Tuning", "What to do", "It is heard in all groups.")
	if w := h.get(t, access.Viewer, "/detect/rules/nosuch"); w.Code != http.StatusNotFound {
		t.Errorf("no such rule: got %d", w.Code)
	}
	const at = "/detect/rules/" + id + "/silence"
	if w := h.post(t, access.Viewer, at, "days=3&comment=x"); w.Code != http.StatusForbidden {
		t.Errorf("a viewer got %d", w.Code)
	}
	for _, c := range []struct {
		form string
		want int
	}{
		{"days=3&comment=", http.StatusUnprocessableEntity}, {"days=x&comment=y", http.StatusUnprocessableEntity}, {"days=4000&comment=y", http.StatusUnprocessableEntity},
		{"days=3&comment=it+is+tested&groups=lab/*+test/*", http.StatusSeeOther},
	} {
		if w := h.post(t, access.Operator, at, c.form); w.Code != c.want {
			t.Errorf("%s: got %d, want %d", c.form, w.Code, c.want)
		}
	}
	h.shows(t, access.Operator, "/detect/rules/"+id, "lab/*, test/*", "it is tested", "Hear it again")
	h.shows(t, access.Operator, "/detect/rules?silenced=true", id, "silenced", "1 of")
	if w := h.post(t, access.Operator, "/detect/silences/1/end", "rule="+id); w.Code != http.StatusSeeOther {
		t.Errorf("end: got %d", w.Code)
	}
	h.shows(t, access.Operator, "/detect/rules/"+id, "It is heard in all groups.")
}

// deeds are what was done about threats.
type deeds struct {
	unasked
	now time.Time
}

// unasked is what of responses these tests don't ask for.
type unasked struct{ console.Responses }

func (d deeds) SnapshotList(context.Context, access.Identity) ([]respond.Snapshot, error) {
	return []respond.Snapshot{{ID: "1", Taken: d.now, Name: consoletest.HostileName, By: "user:mira", Size: 4096}}, nil
}

func (d deeds) Responses(context.Context, access.Identity, string) ([]respond.Response, error) {
	return []respond.Response{{
		Deed:   response.Deed{ID: "1", Kind: response.Quarantine, Workload: consoletest.Storefront, Reason: consoletest.HostileName, By: "user:mira", Asked: d.now},
		Answer: response.Answer{State: response.Done, Did: []string{"cut the container's network off"}}, AgentID: consoletest.AgentID, Name: consoletest.HostileName,
	}}, nil
}

func (d deeds) Rules(context.Context, access.Identity) ([]respond.RuleLine, error) {
	return []respond.RuleLine{{Rule: rules.Rule{ID: "cut-miners", Title: "Cut miners off", Owner: "platform", Do: []rules.Action{{Kind: response.Quarantine, Freeze: true}}, DryRun: true}, Runs: 3, Last: d.now}}, nil
}

func (d deeds) Runs(context.Context, access.Identity, store.ResponseRunQuery) ([]store.ResponseRun, error) {
	return []store.ResponseRun{{ID: 1, At: d.now, Rule: "cut-miners", Threat: "miner-pool", Incident: 7, Did: "quarantine and freeze", DryRun: true, Detail: consoletest.HostileName}}, nil
}

func TestResponsesAreShown(t *testing.T) {
	now := testNow()
	h, err := newHouse(consoletest.New(now), now, func(d *console.Deps) { d.Responses = deeds{now: now} })
	if err != nil {
		t.Fatal(err)
	}
	h.shows(t, access.Viewer, "/responses", "Cut the container's network off", "Cut miners off", "tries only", "quarantine and freeze", "Incident 7", "4.0 KiB, by mira")
	if strings.Contains(h.get(t, access.Viewer, "/responses").Body.String(), "<img src=x") {
		t.Error("somebody's text is markup")
	}
}
