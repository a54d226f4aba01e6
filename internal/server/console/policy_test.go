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

// typed is the editor's form.
func typed(do, text, comment, after string) string {
	return url.Values{"do": {do}, "text": {strings.ReplaceAll(text, "\n", "\r\n")}, "comment": {comment}, "after": {after}}.Encode()
}

// denies is a policy that lets nothing run.
const denies = "version: 1\nimages:\n  - match: \"**\"\n    deny: nobody looked at it\n"

// newest is the shop's policy.
func (h *house) newest() string { return h.trust.policies[len(h.trust.policies)-1].Text }

func TestPolicyIsShownWithItsMeaningAndHistory(t *testing.T) {
	h := shopHouse(t)
	body := h.shows(t, access.Viewer, "/trust/policy", "Version 2, set by user:admin", "-----BEGIN PUBLIC KEY-----",
		`Rule "shop": images of 123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/**`, "each of build, quality must have signed it, in a transparency log",
		"build must have attested slsaprovenance, at most 90 days old", "it is narrower", "What no rule is for is denied.", "of which signatures count from 2026-01-01 on",
		"Version 1", "nobody said why", "an administrator can change it")
	if strings.Contains(body, "Change it") {
		t.Error("a viewer is offered to change it")
	}
	h.shows(t, access.Administrator, "/trust/policy", "Change it")
	h.shows(t, access.Viewer, "/trust/policy/2", "What it changed in version 1", "put in: +", "quality:", "taken out: − - name: everything", "in force", "lines that are the same")
	h.shows(t, access.Viewer, "/trust/policy/2?from=2", "No line differs")
	h.shows(t, access.Viewer, "/trust/policy/2?from=77", "That version is not kept any more")
	h.shows(t, access.Administrator, "/trust/policy/1", "Begin with this one")
	for path, want := range map[string]int{"/trust/policy/9": 404, "/trust/policy/0": 404, "/trust/policy/x": 404, "/trust/policy/2?from=x": 404, "/trust/policy?before=x": 404} {
		if w := h.get(t, access.Viewer, path); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
	h.trust.policies = nil
	h.shows(t, access.Viewer, "/trust/policy", "There is no trust policy yet", "castellan trust init")
}

func TestLongHistoryHasPages(t *testing.T) {
	h := shopHouse(t)
	for range 60 {
		p := h.trust.policies[1]
		p.Version = int64(len(h.trust.policies) + 1)
		h.trust.policies = append(h.trust.policies, p)
	}
	if body := h.get(t, access.Viewer, "/trust/policy").Body.String(); !strings.Contains(body, `href="/trust/policy?before=13#h-history"`) {
		t.Error("earlier versions are not led to")
	}
	h.shows(t, access.Viewer, "/trust/policy?before=13", "Version 12", "Version 1")
}

func TestEditorTellsWhatIsWrongAtItsLine(t *testing.T) {
	h := shopHouse(t)
	body := h.get(t, access.Administrator, "/trust/policy/edit").Body.String()
	for _, want := range []string{`name="after" value="2"`, "It can be used", "each of build, quality must have signed it", `<textarea`, "match: 123456789012"} {
		if !strings.Contains(body, want) {
			t.Errorf("the editor lacks %q", want)
		}
	}
	broken := strings.Replace(h.newest(), "signers: [build, quality]", "signers: [build, nobody]\n        odd\u202e: 1", 1)
	w := h.post(t, access.Administrator, "/trust/policy/edit", typed("check", broken, "", "2"))
	whole := w.Body.String()
	got := plainText(whole)
	for _, want := range []string{"What is wrong", "2 problems, the first in line 2", "Line 2", "column ", "there are signs"} {
		if !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
			t.Errorf("what is wrong lacks %q", want)
		}
	}
	if !strings.Contains(whole, `class="wrong"`) || !strings.Contains(whole, "data-wrong") || !strings.Contains(whole, `aria-invalid="true"`) {
		t.Error("no line is marked")
	}
	w = h.post(t, access.Administrator, "/trust/policy/check", typed("", "version: 1\nodd: <script>alert(1)</script>\n", "", "2"))
	if got := w.Body.String(); strings.Contains(got, "<!DOCTYPE") || !strings.Contains(got, `data-goto="2"`) || strings.Contains(got, "<script>") {
		t.Errorf("a part of the page: got %d %s", w.Code, got)
	}
	w = h.post(t, access.Administrator, "/trust/policy/check", typed("", denies, "", "0"))
	if got := plainText(w.Body.String()); !strings.Contains(got, "It can be used") || !strings.Contains(got, "are never allowed: nobody looked at it") {
		t.Errorf("what it means: got %s", got)
	}
}

func TestEditorBeginsWithoutAPolicy(t *testing.T) {
	h := shopHouse(t)
	h.trust.policies, h.trust.images = nil, nil
	body := h.get(t, access.Administrator, "/trust/policy/edit").Body.String()
	for _, want := range []string{"(the public key that signs images)", `name="after" value="0"`, `data-editor="false"`, "What is wrong"} {
		if !strings.Contains(body, want) {
			t.Errorf("the editor lacks %q", want)
		}
	}
	if w := h.post(t, access.Administrator, "/trust/policy/edit", typed("save", denies, "the first", "0")); w.Code != http.StatusSeeOther || len(h.trust.policies) != 1 {
		t.Errorf("the first policy is not saved: got %d", w.Code)
	}
}

func TestEditorTries(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, access.Administrator, "/trust/policy/edit", typed("try", denies, "", "2"))
	got := plainText(w.Body.String())
	for _, want := range []string{"What it would change", "2 images would be denied", "shop/storefront", "denies it: nobody looked at it", "1 workload"} {
		if !strings.Contains(got, want) {
			t.Errorf("a trial lacks %q: %s", want, got)
		}
	}
	if len(h.trust.policies) != 2 {
		t.Error("a trial has changed the policy")
	}
	w = h.post(t, access.Administrator, "/trust/policy/edit", typed("try", "version: 1\nodd: 1\n", "", "2"))
	if got := plainText(w.Body.String()); !strings.Contains(got, "It can't be tried: 1 problem, in line 2.") {
		t.Errorf("a trial of no policy: got %s", got)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/trust/policy/edit", strings.NewReader(typed("try", denies, "", "2")+"&csrf="+csrfToken))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("HX-Request", "true")
	part := httptest.NewRecorder()
	h.ServeHTTP(part, r.WithContext(as(r.Context(), access.Administrator)))
	if got := part.Body.String(); strings.Contains(got, "<!DOCTYPE") || !strings.Contains(got, `<div id="trial" data-say="2 images would be denied`) {
		t.Errorf("to the script: got %d %.300s", part.Code, got)
	}
}

func TestPolicyIsSaved(t *testing.T) {
	h := shopHouse(t)
	for _, c := range []struct {
		name, form string
		status     int
		says       string
	}{
		{"without a reason", typed("save", denies, " ", "2"), http.StatusUnprocessableEntity, "Say why it is changed"},
		{"unchanged", typed("save", h.newest(), "why", "2"), http.StatusUnprocessableEntity, "Nothing is changed"},
		{"no policy", typed("save", "version: 1\nodd: 1\n", "why", "2"), http.StatusUnprocessableEntity, "It is not saved: 1 problem, in line 2"},
		{"of no version", typed("save", denies, "why", "x"), http.StatusNotFound, "No version"},
	} {
		w := h.post(t, access.Administrator, "/trust/policy/edit", c.form)
		if w.Code != c.status || !strings.Contains(plainText(w.Body.String()), c.says) {
			t.Errorf("%s: got %d without %q", c.name, w.Code, c.says)
		}
	}
	w := h.post(t, access.Administrator, "/trust/policy/edit", typed("save", denies, "lock it", "2"))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/trust/policy?done=policy-set" {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	if p := h.trust.policies[2]; p.Text != denies || p.Comment != "lock it" || p.Actor != "user:admin" {
		t.Errorf("got %+v", p)
	}
	if len(h.trust.audit) != 1 || h.trust.audit[0].Action != "trust.policy" {
		t.Errorf("the audit log has %+v", h.trust.audit)
	}
	h.shows(t, access.Viewer, "/trust/policy?done=policy-set", "It is the trust policy now", "Version 3", "lock it")
}

func TestTwoWhoChangeThePolicyMeet(t *testing.T) {
	h := shopHouse(t)
	theirs := strings.Replace(h.newest(), "maxAge: 90d", "maxAge: 7d", 1)
	h.trust.policies = append(h.trust.policies, store.TrustPolicy{Version: 3, Text: theirs, Actor: "user:mira", Comment: "younger " + consoletest.HostileName})
	mine := strings.Replace(h.newest(), "log: true", "log: false", 1)
	w := h.post(t, access.Administrator, "/trust/policy/edit", typed("save", mine, "no log", "2"))
	got := plainText(w.Body.String())
	if w.Code != http.StatusConflict {
		t.Errorf("got %d, want a conflict", w.Code)
	}
	for _, want := range []string{"Not saved: user:mira was quicker", "Version 3 came in between: younger", "put in: + maxAge: 7d", "What your text would change in version 3", "log: false"} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if body := w.Body.String(); !strings.Contains(body, `name="after" value="3"`) || !strings.Contains(body, `value="no log"`) || strings.Contains(body, "<img src=x") {
		t.Error("what was typed is lost, or it can't be saved over the other version knowingly")
	}
}

func TestWhoMayNotChangeThePolicyCant(t *testing.T) {
	h := shopHouse(t)
	for _, role := range []access.Role{access.Viewer, access.Operator} {
		if w := h.get(t, role, "/trust/policy/edit"); w.Code != http.StatusForbidden {
			t.Errorf("%s opens the editor: got %d", role, w.Code)
		}
		for _, path := range []string{"/trust/policy/edit", "/trust/policy/check"} {
			if w := h.post(t, role, path, typed("save", denies, "why", "2")); w.Code != http.StatusForbidden {
				t.Errorf("%s sends to %s: got %d", role, path, w.Code)
			}
		}
	}
	if w := h.post(t, access.Administrator, "/trust/policy/edit", typed("save", denies, "why", "2")+"&csrf=odd"); w.Code != http.StatusForbidden {
		t.Errorf("from elsewhere: got %d", w.Code)
	}
	if len(h.trust.policies) != 2 {
		t.Error("the policy was changed")
	}
}

func TestLargePoliciesCanBeSent(t *testing.T) {
	h := shopHouse(t)
	large := denies + "# " + strings.Repeat("ü", (store.MaxTrustPolicy-len(denies)-3)/2) + "\n"
	if w := h.post(t, access.Administrator, "/trust/policy/edit", typed("save", large, "why", "2")); w.Code != http.StatusSeeOther {
		t.Errorf("of %d bytes: got %d", len(large), w.Code)
	}
	many := denies + strings.Repeat("\n", 200_000)
	if w := h.post(t, access.Administrator, "/trust/policy/edit", typed("check", many, "", "2")); w.Code != http.StatusOK || strings.Count(w.Body.String(), `<li id="l`) > 10_000 {
		t.Errorf("of many lines: got %d with %d numbers", w.Code, strings.Count(w.Body.String(), `<li id="l`))
	}
}
