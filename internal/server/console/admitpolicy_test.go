package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

// refuses is an admission policy that lets nothing start.
const refuses = "version: 1\nmode: enforce\nrules:\n  - id: closed\n    title: Nothing starts\n    for: container\n    deny: \"true\"\n    message: \"{container.name} may not start\"\n"

const admitEdit = "/admission/policy/edit"

func TestAdmissionPolicyIsShownWithItsMeaningAndHistory(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Viewer, "/admission/policy", "Version 2, set by user:admin", "What a rule has something against is refused", "No shell in production", "rule no-shell",
		"Scope the worker gets time: where family is shop-worker", "Every rule only tells (audit)", "Wherever none of these scopes fits", "Every rule refuses",
		"Version 1", "nobody said why", "Exceptions", "an administrator can change it")
	h.shows(t, access.Viewer, "/admission/policy/2", "What it changed in version 1", "put in: + mode: enforce", "taken out: − mode: audit", "in force")
	if w := h.get(t, access.Viewer, "/admission/policy/9"); w.Code != http.StatusNotFound {
		t.Errorf("no version: got %d", w.Code)
	}
	h.gate.policies = nil
	h.shows(t, access.Administrator, "/admission/policy", "There is no admission policy yet", "castellan admit init", "Write one")
	h.shows(t, access.Administrator, admitEdit, "It can be used", "What a rule has something against is told and let pass", "Every rule only tells (audit)")
}

func TestAdmissionEditorTellsWhatIsWrongAndHasTheSchema(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Administrator, admitEdit, "changes version 2", "At hand", "Built-in rules", "exploited-vulnerabilities", "for: container", "Fields of", "Functions", "Days back")
	w := h.post(t, access.Administrator, "/admission/policy/check", typed("", strings.Replace(refuses, `"true"`, "container.nothing", 1), "", "2"))
	whole := w.Body.String()
	if got := plainText(whole); !strings.Contains(got, "Line 7") || !strings.Contains(got, "nothing") || !strings.Contains(whole, "data-wrong") || strings.Contains(whole, "<!DOCTYPE") {
		t.Errorf("what is wrong: got %d %s", w.Code, got)
	}
}

func TestAdmissionEditorReplays(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, access.Administrator, admitEdit, typed("try", refuses, "", "2")+"&days=7")
	got := plainText(w.Body.String())
	for _, want := range []string{"Of 6 requests of the last 7 days, 3 would have been denied; 3 would end as they did.", "Rule that would deny", "closed3", "Storefront may not start"} {
		if !strings.Contains(got, want) {
			t.Errorf("a replay lacks %q: %s", want, w.Body)
		}
	}
	if len(h.gate.policies) != 2 {
		t.Error("a replay has changed the policy")
	}
	for form, want := range map[string]string{"&days=0": "Want a number of days", "&days=x": "Want a number of days", "&further=x": "No verdict is called"} {
		if w := h.post(t, access.Administrator, admitEdit, typed("try", refuses, "", "2")+form); w.Code != http.StatusUnprocessableEntity || !strings.Contains(plainText(w.Body.String()), want) {
			t.Errorf("%s: got %d without %q", form, w.Code, want)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, admitEdit, strings.NewReader(typed("", refuses, "", "2")+"&further=3&csrf="+csrfToken))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("HX-Request", "true")
	part := httptest.NewRecorder()
	h.ServeHTTP(part, r.WithContext(as(r.Context(), access.Administrator)))
	if got := plainText(part.Body.String()); strings.Contains(part.Body.String(), "<!DOCTYPE") || !strings.Contains(got, "Of 2 requests") || !strings.Contains(got, "This is a further part") {
		t.Errorf("a further part: got %d %s", part.Code, got)
	}
	h.gate.verdicts = nil
	w = h.post(t, access.Administrator, admitEdit, typed("try", refuses, "", "2"))
	if got := plainText(w.Body.String()); !strings.Contains(got, "Nothing was asked for in the last 7 days.") {
		t.Error("nothing to replay is not said")
	}
}

func TestAdmissionPolicyIsSavedAndMeetsAnother(t *testing.T) {
	h := shopHouse(t)
	if w := h.post(t, access.Administrator, admitEdit, typed("save", refuses, "", "2")); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("without a reason: got %d", w.Code)
	}
	h.gate.policies = append(h.gate.policies, store.AdmissionPolicy{Version: 3, Text: h.gate.policies[1].Text + "# theirs\n", Actor: "user:mira", Comment: consoletest.HostileName})
	w := h.post(t, access.Administrator, admitEdit, typed("save", refuses, "close it", "2"))
	if got := plainText(w.Body.String()); w.Code != http.StatusConflict || !strings.Contains(got, "Not saved: user:mira was quicker") || !strings.Contains(w.Body.String(), `name="after" value="3"`) {
		t.Errorf("two who meet: got %d", w.Code)
	}
	w = h.post(t, access.Administrator, admitEdit, typed("save", refuses, "close it", "3"))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/admission/policy?done=admission-set" || len(h.gate.policies) != 4 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	if len(h.gate.audit) != 1 || h.gate.audit[0].Action != "admission.policy" {
		t.Errorf("the audit log has %+v", h.gate.audit)
	}
	for _, role := range []access.Role{access.Viewer, access.Operator} {
		if w := h.post(t, role, admitEdit, typed("save", refuses, "why", "4")); w.Code != http.StatusForbidden {
			t.Errorf("%s: got %d", role, w.Code)
		}
	}
}

func TestExceptionsAreListed(t *testing.T) {
	h := shopHouse(t)
	body := h.shows(t, access.Viewer, "/admission/exceptions", "In force", "exec", "for service storefront, cluster shop", "the debugger of", "owner platform · made by user:mira", "until 28 Nov 2026",
		"Expired or withdrawn", "privileged", "withdrawn 15 Nov 2026", "withdrawn by user:mira", "only CVE-2021-44228", "expired")
	if strings.Contains(body, "Withdraw it") {
		t.Error("a viewer is offered to withdraw")
	}
	h.gate.exceptions = nil
	h.shows(t, access.Viewer, "/admission/exceptions", "Nothing is excepted.")
}

func TestExceptionIsMadeFromAVerdict(t *testing.T) {
	h := shopHouse(t)
	body := h.get(t, access.Administrator, "/admission/exceptions/new?verdict=6&reason=3").Body.String()
	digest := h.gate.verdicts[5].Request.Task.Containers[0].Image.Digest
	for _, want := range []string{`name="rules" value="vulnerabilities"`, `name="image" value="` + digest + `"`, `name="service" value="api"`, `name="family" value="shop-api"`, "CVE-2021-44228"} {
		if !strings.Contains(body, want) {
			t.Errorf("the form lacks %s", want)
		}
	}
	if w := h.get(t, access.Administrator, "/admission/exceptions/new?verdict=6&reason=9"); w.Code != http.StatusNotFound {
		t.Errorf("no reason: got %d", w.Code)
	}
	form := url.Values{"rules": {"vulnerabilities, not-signed"}, "owner": {"shop"}, "reason": {"until the rebuild"}, "service": {"api"}, "for": {"7d"}}
	for _, c := range []struct{ field, value, says string }{
		{"owner", "", "Owner and reason"}, {"reason", "", "Owner and reason"}, {"for", "", "An exception must end"}, {"until", "soon", `"soon" is no day`},
		{"service", "", "nothing is said"}, {"until", "2030-01-01", "more than a year ahead"}, {"rules", "", "Rules"},
	} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = v
		}
		bad.Set(c.field, c.value)
		w := h.post(t, access.Administrator, "/admission/exceptions", bad.Encode())
		if got := plainText(w.Body.String()); w.Code != http.StatusUnprocessableEntity || !strings.Contains(strings.ToLower(got), strings.ToLower(c.says)) {
			t.Errorf("%s %q: got %d without %q", c.field, c.value, w.Code, c.says)
		}
	}
	if w := h.post(t, access.Administrator, "/admission/exceptions", form.Encode()); w.Code != http.StatusSeeOther {
		t.Fatalf("got %d", w.Code)
	}
	e := h.gate.exceptions[0]
	if strings.Join(e.Rules, " ") != "vulnerabilities not-signed" || e.By != "user:admin" || e.Service != "api" || !e.Expires.Equal(h.now.AddDate(0, 0, 7)) {
		t.Errorf("got %+v", e)
	}
	h.shows(t, access.Administrator, "/admission/exceptions?done=exception-made", "The exception holds at once", "until the rebuild")
	if w := h.post(t, access.Operator, "/admission/exceptions", form.Encode()); w.Code != http.StatusForbidden {
		t.Errorf("an operator makes one: got %d", w.Code)
	}
}

func TestExceptionFromAVerdictIsForOneThingOrTheRule(t *testing.T) {
	h := shopHouse(t)
	body := h.shows(t, access.Administrator, "/admission/exceptions/new?verdict=6&reason=3", "For CVE-2021-44228 alone", "the other that the rule refuses here stays refused", "For all that the rule refuses")
	if strings.Contains(body, "One thing alone") {
		t.Error("the choice is there twice")
	}
	whole := h.get(t, access.Administrator, "/admission/exceptions/new?verdict=6&reason=3").Body.String()
	if strings.Contains(whole, `name="what" checked`) || strings.Contains(whole, `" checked required`) {
		t.Error("the choice is made for who makes the exception")
	}
	form := func(what string) string {
		return url.Values{"verdict": {"6"}, "because": {"3"}, "rules": {"vulnerabilities"}, "owner": {"shop"}, "reason": {"why"}, "service": {"api"}, "for": {"7d"}, "what": {what}, "subject": {"CVE-9"}}.Encode()
	}
	for _, what := range []string{"", "one:", "one:CVE-9", "all"} {
		w := h.post(t, access.Administrator, "/admission/exceptions", form(what))
		if got := plainText(w.Body.String()); w.Code != http.StatusUnprocessableEntity || !strings.Contains(got, "Say whether it is for one thing alone") || !strings.Contains(got, "For CVE-2021-44228 alone") {
			t.Errorf("%q: got %d %s", what, w.Code, got)
		}
	}
	for what, want := range map[string]string{"one:CVE-2021-44228": "CVE-2021-44228", "rule": ""} {
		if w := h.post(t, access.Administrator, "/admission/exceptions", form(what)); w.Code != http.StatusSeeOther {
			t.Fatalf("%q: got %d", what, w.Code)
		}
		if got := h.gate.exceptions[0].Subject; got != want {
			t.Errorf("%q: the exception is for %q, want %q", what, got, want)
		}
	}
	for from, want := range map[string]int{"verdict=6&because=9": http.StatusNotFound, "verdict=99&because=1": http.StatusNotFound} {
		if w := h.post(t, access.Administrator, "/admission/exceptions", from); w.Code != want {
			t.Errorf("%s: got %d, want %d", from, w.Code, want)
		}
	}
	// A verdict of before things were named: it is written by hand.
	h.gate.verdicts[5].Verdict.Reasons[2].Subjects = nil
	h.shows(t, access.Administrator, "/admission/exceptions/new?verdict=6&reason=3", "One thing alone")
	if w := h.post(t, access.Administrator, "/admission/exceptions", form("")); w.Code != http.StatusSeeOther || h.gate.exceptions[0].Subject != "CVE-9" {
		t.Errorf("by hand: got %d, for %q", w.Code, h.gate.exceptions[0].Subject)
	}
}

func TestExceptionIsWithdrawn(t *testing.T) {
	h := shopHouse(t)
	if w := h.post(t, access.Operator, "/admission/exceptions/3/withdraw", ""); w.Code != http.StatusForbidden {
		t.Errorf("an operator withdraws: got %d", w.Code)
	}
	if w := h.post(t, access.Administrator, "/admission/exceptions/3/withdraw", ""); w.Code != http.StatusSeeOther {
		t.Fatalf("got %d", w.Code)
	}
	h.shows(t, access.Viewer, "/admission/exceptions", "No exception holds now.", "withdrawn by user:admin")
	if len(h.gate.audit) != 1 || h.gate.audit[0].Action != "admission.withdraw" {
		t.Errorf("the audit log has %+v", h.gate.audit)
	}
	for id, want := range map[string]int{"3": http.StatusConflict, "77": http.StatusNotFound} {
		if w := h.post(t, access.Administrator, "/admission/exceptions/"+id+"/withdraw", ""); w.Code != want {
			t.Errorf("%s: got %d, want %d", id, w.Code, want)
		}
	}
}
