package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
)

const ownRule = `theme: shop
rules:
- id: shop-convert
  title: Somebody converts pictures
  severity: low
  tactic: execution
  techniques: [T1059.004]
  meaning: A picture is converted.
  false_alarms: All of them.
  tuning: Leave it.
  remedy: Nothing.
  on: [process.exec]
  says: "{process.program} was run"
`

func TestRulesAreWrittenInTheConsole(t *testing.T) {
	h := ruleHouse(t)
	const at = "/detect/documents"
	h.shows(t, access.Viewer, at, "Only the rules that come with the program hold.")
	if body := h.get(t, access.Viewer, at).Body.String(); strings.Contains(body, "Write it") {
		t.Error("a viewer is offered to write rules")
	}
	if w := h.get(t, access.Viewer, at+"/shop.yaml/edit"); w.Code != http.StatusForbidden {
		t.Errorf("the editor for a viewer: got %d", w.Code)
	}
	if w := h.get(t, access.Operator, at+"/new?name=Shop"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("a name that is none: got %d", w.Code)
	}
	if w := h.get(t, access.Operator, at+"/new?name=shop.yaml"); w.Header().Get("Location") != at+"/shop.yaml/edit" {
		t.Errorf("got %q", w.Header().Get("Location"))
	}
	h.shows(t, access.Operator, at+"/shop.yaml/edit", "own-key-read", "Try it")
	post := func(do, text, comment, after string) (int, string) {
		w := h.post(t, access.Operator, at+"/shop.yaml/edit", url.Values{"do": {do}, "text": {text}, "comment": {comment}, "after": {after}}.Encode())
		return w.Code, plainText(w.Body.String())
	}
	if _, says := post("check", strings.Replace(ownRule, "severity: low", "severity: odd", 1), "", "0"); !strings.Contains(says, "Line 5") {
		t.Errorf("what is wrong is not told at its line: %.900s", says)
	}
	if code, says := post("try", ownRule, "", "0"); code != http.StatusOK || !strings.Contains(says, "shop-convert") || !strings.Contains(says, "threats were found") {
		t.Errorf("the trial: %d, %.900s", code, says)
	}
	if code, says := post("save", ownRule, "we want to know", "0"); code != http.StatusSeeOther {
		t.Fatalf("save: got %d, %.900s", code, says)
	}
	h.shows(t, access.Viewer, at, "shop.yaml", "version 1, by admin: we want to know")
	h.shows(t, access.Viewer, at+"/shop.yaml", "Somebody converts pictures", "It looks at process.exec")
	h.shows(t, access.Viewer, "/detect/rules?text=shop-convert", "yours", "not yet")
	if code, says := post("save", strings.Replace(ownRule, "low", "high", 1), "graver", "0"); code != http.StatusConflict || !strings.Contains(says, "was quicker") {
		t.Errorf("over a version that is not known: %d, %.400s", code, says)
	}
	if w := h.post(t, access.Viewer, at+"/shop.yaml/remove", "after=1&comment=x"); w.Code != http.StatusForbidden {
		t.Errorf("a viewer removes it: got %d", w.Code)
	}
	if w := h.post(t, access.Operator, at+"/shop.yaml/remove", "after=1&comment=not+needed"); w.Code != http.StatusSeeOther {
		t.Errorf("remove: got %d", w.Code)
	}
	h.shows(t, access.Viewer, at, "Only the rules that come with the program hold.")
}

func TestResponseRulesAreWrittenInTheConsole(t *testing.T) {
	h, _, _ := actingHouse(t)
	const at = "/responses/policy"
	h.shows(t, access.Viewer, at, "Without response rules nothing is done by itself")
	if w := h.get(t, access.Viewer, at+"/edit"); w.Code != http.StatusForbidden {
		t.Errorf("the editor for a viewer: got %d", w.Code)
	}
	page := h.get(t, access.Operator, at+"/edit").Body.String()
	if !strings.Contains(plainText(page), "miners-out") || !strings.Contains(page, `value="try"`) {
		t.Error("the editor has no rule to begin with, or can't be tried")
	}
	const text = "responses:\n  - id: cut\n    owner: us\n    on: {themes: [miner], severity: high, groups: [shop/*]}\n    do: [quarantine: freeze]\n    until: 1h\n    dry_run: true\n"
	w := h.post(t, access.Operator, at+"/edit", url.Values{"do": {"check"}, "text": {text}, "after": {"0"}}.Encode())
	for _, want := range []string{"When a threat that is high or worse of the theme miner in the group shop/* is seen", "It does: quarantine and freeze", "It tries only"} {
		if !strings.Contains(plainText(w.Body.String()), want) {
			t.Errorf("lacks %q: %.900s", want, plainText(w.Body.String()))
		}
	}
	w = h.post(t, access.Operator, at+"/edit", url.Values{"do": {"check"}, "text": {strings.Replace(text, "owner: us", "owner: ''", 1)}, "after": {"0"}}.Encode())
	if !strings.Contains(plainText(w.Body.String()), "Line ") {
		t.Errorf("what is wrong is not told: %.700s", plainText(w.Body.String()))
	}
	if w := h.post(t, access.Operator, at+"/edit", url.Values{"do": {"save"}, "text": {text}, "comment": {"begin"}, "after": {"0"}}.Encode()); w.Code != http.StatusSeeOther {
		t.Fatalf("save: got %d", w.Code)
	}
	h.shows(t, access.Viewer, "/responses", "cut", "tries only", "never")
}

func TestTheMatrixTellsWhatIsCovered(t *testing.T) {
	h := ruleHouse(t)
	h.shows(t, access.Viewer, "/detect/matrix", "Privilege escalation", "Escape to Host", "T1611", "Implant Internal Image", "no rule")
	body := h.get(t, access.Viewer, "/detect/matrix").Body.String()
	if !strings.Contains(body, `href="/detect/rules?text=T1611"`) {
		t.Error("a technique does not lead to its rules")
	}
}
