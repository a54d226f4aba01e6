package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

func TestAdmissionListsWhatWasAskedFor(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Viewer, "/admission",
		"denied, last 30 days", "Version 2 of the policy decides, which user:admin set", "it has only told for long enough",
		"a rule that only reports would deny", "by the door ECS deployment", "and 2 other reasons", "Nothing is against it.", "ip-10-0-3-17",
		"Which rules had something against it", "not-signed", "would deny", "excepted")
	whole := h.get(t, access.Viewer, "/admission").Body.String()
	if !strings.Contains(whole, `data-live-part="/admission/live"`) {
		t.Error("the first page is not followed")
	}
	if strings.Contains(whole, "<img src=x") || !strings.Contains(whole, `href="/admission/verdicts/6"`) {
		t.Error("a verdict is not led to, or somebody's text is markup")
	}
}

// TestAdmissionIsFollowed: what was asked for, the policies and exceptions are sent
// anew when something of them changed.
func TestAdmissionIsFollowed(t *testing.T) {
	h := shopHouse(t)
	for path, wants := range map[string]string{
		"/admission/live?outcome=deny": "denied, last 30 days", "/admission/policy/live": "Version 2, set by",
		"/admission/exceptions/live": "In force", "/trust/policy/live": "set by",
	} {
		t.Run(path, func(t *testing.T) {
			stream := h.follow(t, path, "")
			if m := next(t, stream); m.name != "part" || !strings.Contains(m.data, wants) {
				t.Errorf("got %s: %.300s", m.name, m.data)
			}
			if path != "/admission/policy/live" {
				return
			}
			if w := h.post(t, access.Administrator, admitEdit, typed("save", refuses, "it has only told for long enough", "2")); w.Code >= http.StatusBadRequest {
				t.Fatalf("the policy is not changed: %d", w.Code)
			}
			if m := next(t, stream); m.name != "part" || !strings.Contains(m.data, "Version 3, set by") {
				t.Errorf("got %s: %.300s", m.name, m.data)
			}
		})
	}
	if w := h.get(t, access.Viewer, "/admission/live?since=never"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("a filter that makes no sense is answered with %d", w.Code)
	}
}

func TestAdmissionIsNarrowed(t *testing.T) {
	h := shopHouse(t)
	digest := h.gate.verdicts[5].Request.Task.Containers[0].Image.Digest
	for _, c := range []struct {
		asked string
		want  int // verdicts
	}{
		{"", 6}, {"outcome=allow", 3}, {"outcome=wait", 1}, {"door=ci", 1}, {"door=docker&audited=true", 1}, {"rule=privileged", 1}, {"service=api", 1},
		{"image=" + digest, 1}, {"since=40m", 2}, {"outcome=deny&door=ci", 0},
	} {
		body := h.get(t, access.Viewer, "/admission?"+c.asked).Body.String()
		if got := strings.Count(body, `<tr id="v`); got != c.want {
			t.Errorf("%q: got %d verdicts, want %d", c.asked, got, c.want)
		}
	}
	h.shows(t, access.Viewer, "/admission?outcome=deny&door=ci", "No verdict fits these filters.")
	if w := h.get(t, access.Viewer, "/admission?outcome=odd"); w.Code != http.StatusUnprocessableEntity || !strings.Contains(plainText(w.Body.String()), `"odd" is not an outcome`) {
		t.Errorf("no outcome: got %d", w.Code)
	}
}

func TestAdmissionHasPages(t *testing.T) {
	h := shopHouse(t)
	for len(h.gate.verdicts) < store.DefaultPage+10 {
		v := h.gate.verdicts[0]
		v.ID = int64(len(h.gate.verdicts) + 1)
		h.gate.verdicts = append(h.gate.verdicts, v)
	}
	first := h.get(t, access.Viewer, "/admission?door=service").Body.String()
	if got := strings.Count(first, `<tr id="v`); got != store.DefaultPage {
		t.Errorf("got %d on the first page, want %d", got, store.DefaultPage)
	}
	_, rest, _ := strings.Cut(first, `href="/admission?door=service&amp;before=`)
	before, _, _ := strings.Cut(rest, `"`)
	second := h.get(t, access.Viewer, "/admission?door=service&before="+before).Body.String()
	if before == "" || strings.Count(second, `<tr id="v`) != 0 && strings.Contains(second, `id="v`+before+`"`) || strings.Contains(second, "data-live-part") || !strings.Contains(second, ">First page<") {
		t.Errorf("behind verdict %q: the second page shows it again, is followed, or leads nowhere", before)
	}
}

func TestAdmissionBegins(t *testing.T) {
	h := shopHouse(t)
	h.gate.policies, h.gate.verdicts = nil, nil
	h.shows(t, access.Viewer, "/admission", "There is no admission policy yet", "castellan admit init", "castellan admit policy set", "It needs an administrator",
		"Nothing was asked for yet", "castellan admit decide", "docs/admission-docker.md", "docs/admission-aws.md", "Without a policy every answer is no")
	if body := h.get(t, access.Administrator, "/admission").Body.String(); !strings.Contains(body, `href="/admission/policy/edit"`) {
		t.Error("an administrator is not led to the editor")
	}
}

func TestVerdictTellsAllReasons(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Administrator, "/admission/verdicts/6",
		"denied", "by the door ECS deployment, asked by token:gate, decided by version 2 of the policy", "3 deny",
		"CVE-2021-44228", "about CVE-2021-44228, CVE-2024-21538", "line 15", "→", "Make an exception…",
		"What was asked for", "to start", "eu-central-1", "shop/api", "workloads of it",
		"What was known then", "2 critical", "1 is known to be exploited", "1 secret", "there is no signature that counts by build, quality")
	whole := h.get(t, access.Administrator, "/admission/verdicts/6").Body.String()
	for _, want := range []string{
		`href="/admission/policy/2#l15"`, `href="/images/` + consoletest.ImageID("api:2.4.1") + `"`, `href="/workloads?group=shop%2Fapi%2Fapi"`,
		`href="/admission/exceptions/new?verdict=6&amp;reason=1"`,
	} {
		if !strings.Contains(whole, want) {
			t.Errorf("it lacks %s", want)
		}
	}
	if strings.Contains(whole, "<img src=x") {
		t.Error("somebody's text is markup")
	}
	if body := h.get(t, access.Viewer, "/admission/verdicts/6").Body.String(); strings.Contains(body, "exceptions/new") {
		t.Error("a viewer is offered to make an exception")
	}
	h.shows(t, access.Viewer, "/admission/verdicts/2", "would deny; the rule only reports here", "privileged", "/var/run/docker.sock at /var/run/docker.sock", "the ECS agent", "could not be found out", "decided by the agent of ip-10-0-3-17")
	h.shows(t, access.Viewer, "/admission/verdicts/4", "would deny; an exception holds", "Excepted for platform until", "to run a process in", "/bin/sh -c")
	h.shows(t, access.Viewer, "/admission/verdicts/5", "to wait", "waits", "deploy/storefront.json", "refs/heads/main, by OIDC", "being found out")
	h.shows(t, access.Viewer, "/admission/verdicts/req-1", "allowed", "No rule of the policy has anything against it.")
}

func TestVerdictThatNobodyHas(t *testing.T) {
	h := shopHouse(t)
	if w := h.get(t, access.Viewer, "/admission/verdicts/99"); w.Code != http.StatusNotFound {
		t.Errorf("got %d, want 404", w.Code)
	}
	v := &h.gate.verdicts[5]
	v.Verdict.Policy, v.Verdict.Declared, v.FactsLost, v.Verdict.Omitted = "sha256:of another", true, true, 7
	h.shows(t, access.Viewer, "/admission/verdicts/6", "Nobody could decide", "line 15 of the policy", "More was known than is kept", "And 7 other reasons")
	if body := h.get(t, access.Viewer, "/admission/verdicts/6").Body.String(); strings.Contains(body, "/admission/policy/2#") {
		t.Error("a policy that did not decide is led to")
	}
}

func TestOverviewTellsOfAdmissionAndTrust(t *testing.T) {
	h := shopHouse(t)
	today := url.QueryEscape(h.now.UTC().Truncate(24 * time.Hour).Format(time.RFC3339))
	body := h.get(t, access.Viewer, "/").Body.String()
	for _, want := range []string{
		`href="/admission?outcome=deny&amp;since=` + today + `"`, `href="/admission?audited=true&amp;since=` + today + `"`, `href="/admission/exceptions#h-holding"`,
		`href="/trust?state=denied&amp;running=true"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the overview lacks %s", want)
		}
	}
	h.shows(t, access.Viewer, "/", "2 deployments refused today", "1 exceptions that end in two weeks", "1 hosts without the engine", "images that run unsigned or wrongly signed")
	h.shows(t, access.Viewer, "/agents", "the engine can ask here", "not asked: it runs without --admission-plugin")
	h.shows(t, access.Viewer, "/admission?outcome=deny&since="+today, "since")
	h.gate.exceptions, h.gate.verdicts = nil, nil
	h.shows(t, access.Viewer, "/", "0 deployments refused today", "0 refusals only told today", "0 exceptions that end")
}
