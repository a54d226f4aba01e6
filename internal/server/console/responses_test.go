package console_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/console"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/written"
)

const minersOut = "responses:\n  - id: miners-out\n    title: Miners lose their network\n    owner: platform\n    on: {themes: [miner]}\n    do: [quarantine]\n"

// pastDeeds answer what rules would have done, and note from when on they were asked.
type pastDeeds struct {
	unasked
	replayed respond.Replayed
	since    time.Time
	text     string
}

func (d *pastDeeds) Policy(context.Context, access.Identity, int64) (store.ResponsePolicy, error) {
	return store.ResponsePolicy{}, fault.New(fault.NotFound, "there is none")
}

func (d *pastDeeds) Policies(context.Context, access.Identity, int64, int) ([]store.ResponsePolicy, error) {
	return nil, nil
}

func (d *pastDeeds) Responses(context.Context, access.Identity, string) ([]respond.Response, error) {
	return nil, nil
}

func (d *pastDeeds) Check(access.Identity, string) (written.Problems, error) { return nil, nil }

func (d *pastDeeds) ReplayPast(_ context.Context, _ access.Identity, text string, since time.Time) (respond.Replayed, written.Problems, error) {
	d.text, d.since = text, since
	return d.replayed, nil, nil
}

func TestResponseEditorTriesOnThePast(t *testing.T) {
	now := testNow()
	acts := []respond.ReplayedAct{}
	for i := range 30 {
		acts = append(acts, respond.ReplayedAct{At: now.Add(time.Duration(i-40) * time.Hour), Incident: int64(100 + i), Threat: "miner-pool", Group: "shop/web/" + consoletest.HostileName,
			Rule: "miners-out", Do: []string{"snapshot", "quarantine"}})
	}
	d := &pastDeeds{replayed: respond.Replayed{Incidents: 40, Threats: 60, Older: true, Left: 2, Acts: acts,
		Rules: []respond.ReplayedRule{{Rule: "miners-out", Fits: 50, Acted: 32, Held: 18}, {Rule: "all-told", Fits: 9, Acted: 9, Dry: true}}}}
	h, err := newHouse(consoletest.New(now), now, func(x *console.Deps) { x.Responses = d })
	if err != nil {
		t.Fatal(err)
	}
	const edit = "/responses/policy/edit"
	h.shows(t, access.Operator, edit, "Days back", "Try on the past", "Nothing is done")
	try := func(form string) (int, string, string) {
		t.Helper()
		w := h.post(t, access.Operator, edit, typed("try", minersOut, "", "0")+form)
		return w.Code, plainText(w.Body.String()), w.Body.String()
	}
	code, got, whole := try("&days=30")
	for _, want := range []string{
		"What it would have done", "About 60 threats in 40 incidents of the last 30 days, these rules would have acted 32 times, and tried only 9 times.", "There are older incidents",
		"miners-out 503218", "all-told tries only", "Snapshot, then quarantine", "Incident 129", "Incident 105", "And 7 other times before",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("a trial lacks %q: %d %s", want, code, got)
		}
	}
	if strings.Contains(got, "Incident 104") || strings.Contains(whole, "<img src=x") {
		t.Error("more is shown than fits, or somebody's text is markup")
	}
	if d.text != minersOut || now.Sub(d.since) != 30*24*time.Hour {
		t.Errorf("asked about %q since %s", d.text, d.since)
	}
	if try("&days=366"); now.Sub(d.since) >= respond.MaxReplay { // the service's clock goes on
		t.Errorf("a year is asked for from %s on, which is too long ago", d.since)
	}
	for _, form := range []string{"&days=0", "&days=x", "&days=367"} {
		if code, got, _ := try(form); code != http.StatusUnprocessableEntity || !strings.Contains(got, "Want a number of days") {
			t.Errorf("%s: got %d %s", form, code, got)
		}
	}
	for want, r := range map[string]respond.Replayed{
		"There were no incidents in the last 7 days.":                                                                     {},
		"About 1 threat in 1 incident of the last 7 days, these rules would have done nothing.":                           {Incidents: 1, Threats: 1},
		"About 2 threats in 1 incident of the last 7 days, these rules would have tried 3 times, and done nothing.":       {Incidents: 1, Threats: 2, Rules: []respond.ReplayedRule{{Rule: "x", Acted: 3, Dry: true}}},
		"About 2 threats in 1 incident of the last 7 days, these rules would have acted 1 time. Rule Fits Acts Held back": {Incidents: 1, Threats: 2, Rules: []respond.ReplayedRule{{Rule: "x", Acted: 1}}},
	} {
		d.replayed = r
		want, _, _ = strings.Cut(want, " Rule Fits")
		if _, got, _ := try(""); !strings.Contains(got, want) {
			t.Errorf("a trial lacks %q: %s", want, got)
		}
	}
}
