package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	shownGroup   = "shop/shown/app"
	shownProfile = "profile: 1\nexecutables:\n  - path: /bin/shown\n    origin: image\n"
)

// fillBehaviour stores a group with a proposal, a violation and a permit.
func fillBehaviour(t *testing.T, st store.Store) {
	t.Helper()
	at := time.Now().Add(-time.Hour)
	p := &profile.Profile{Group: shownGroup, Revision: 1, Executables: []profile.Executable{
		{Path: "/bin/shown", Origin: event.OriginImage}, {Path: "/bin/permitted", Origin: event.OriginImage},
	}}
	violation := func(path string) profile.Violation {
		return profile.Violation{
			Group: shownGroup, Fingerprint: path, Control: profile.ControlExec, Kind: event.KindExec, Subject: path, Sentence: "ran " + path, Count: 1,
			Permit: &profile.Profile{Group: shownGroup, Executables: []profile.Executable{{Path: profile.Pattern(path), Origin: event.OriginImage}}},
			First:  at, Last: at, Mode: profile.Monitor, Revision: 1,
		}
	}
	for _, c := range []store.BehaviourChange{
		{
			Groups: []store.BehaviourGroup{{Group: shownGroup, Mode: profile.Monitor, Since: at, Revision: 1, First: at, Last: at,
				Proposal: &store.BehaviourProposal{Mode: profile.Protect, At: at, Why: "it is settled"}}},
			Revisions:  []store.BehaviourRevision{{Group: shownGroup, Revision: 1, Created: at, Actor: "system", Entries: 2, Profile: p}},
			Violations: []profile.Violation{violation("/bin/other"), violation("/bin/permitted")},
		},
		{Permit: &store.BehaviourPermit{Group: shownGroup, ViolationID: 2, Sentence: "ran /bin/permitted", Actor: "user:a", Created: at, Revision: 1,
			Added: &profile.Profile{Executables: []profile.Executable{{Path: "/bin/permitted", Origin: event.OriginImage, Evidence: profile.Evidence{Source: profile.Person}}}}}},
	} {
		if err := st.SaveBehaviour(t.Context(), &c); err != nil {
			t.Fatal(err)
		}
	}
}

// watched is a house with an agent on another host, whose events are learned from.
type watched struct {
	*house
	t       *testing.T
	client  *link.Client
	agentID string
}

func watching(t *testing.T) *watched {
	t.Helper()
	h := open(t, nil, func(c *server.Config) { c.Behaviour = behaviour.Pace{Save: time.Millisecond, Tell: time.Millisecond} })
	joined, client := h.join(t, t.TempDir())
	return &watched{h, t, client, joined.AgentID()}
}

// run tells of programs that the shop's container ran, and waits until that is known.
func (w *watched) run(paths ...string) {
	w.t.Helper()
	at := time.Now()
	r := reportOf(w.agentID)
	r.Workloads = []asset.Workload{{ID: shop, Name: "web", State: asset.Running, Created: at, Updated: at, Image: asset.Image{Reference: "nginx:1", Digest: "sha256:1"},
		ECS: asset.ECS{Cluster: "shop", Service: "web", Container: "web"}}}
	for _, path := range paths {
		w.seq++
		r.Events = append(r.Events, event.Event{
			Seq: w.seq, Time: at, Kind: event.KindExec, WorkloadID: shop, Process: event.Process{Key: event.Key{PID: 5, Start: 5}, Name: "x", Executable: path},
			Exec: &event.Exec{Args: []string{path}, Origin: event.OriginImage, Ancestors: []event.Ancestor{{Name: "init", Executable: "/sbin/init"}}},
		})
	}
	before := w.Behaviour().Progress().Events
	if _, err := w.client.Report(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
	until(w.t, "the events are known", func() bool { return w.Behaviour().Progress().Events >= before+uint64(len(paths)) })
}

func (w *watched) api(method, path string, body any, status int, says string) answer {
	w.t.Helper()
	a := w.ask(w.t, method, "/api/v1/watch"+path, body, w.as(access.Operator)...)
	if a.status != status || !strings.Contains(string(a.body), says) {
		w.t.Fatalf("%s %s: got %d %s, want %d with %q", method, path, a.status, a.body, status, says)
	}
	return a
}

const webGroup = "shop/web/web"

// TestBehaviourTheWholeWay goes from events over the agent link to a violation that a
// person makes normal, and takes back; the agent learns of each by the link.
func TestBehaviourTheWholeWay(t *testing.T) {
	w := watching(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told := make(chan string, 100)
	go func() {
		_ = w.client.Directives(ctx, link.Caller{}, func(d link.Directive) {
			if d.Behaviour != nil {
				told <- d.Behaviour.Stamp
			}
		})
	}()
	held := profile.Held{Group: webGroup}
	ask := func() link.BehaviourBrief {
		t.Helper()
		b, err := w.client.Behaviour(t.Context(), link.BehaviourAsk{Held: []profile.Held{held}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	rules := func(mode profile.Mode) profile.Rules {
		t.Helper()
		b := ask()
		if len(b.Rules) != 1 || b.Rules[0].Mode != mode {
			t.Fatalf("brief: got %+v, want the rules of %s", b, mode)
		}
		r, err := link.UnpackRules(b.Rules[0])
		if err != nil {
			t.Fatal(err)
		}
		held.Stamp, held.Revision, held.Since = b.Rules[0].Stamp, r.Revision, time.Now().UTC()
		ask() // which says what it holds from now on
		return r
	}
	w.run("/usr/sbin/nginx", "/bin/sh")
	if r := rules(profile.Discover); r.Answers[profile.ControlExec] != profile.Off {
		t.Errorf("in discover: got %+v", r.Answers)
	}
	w.api("GET", "/group?group="+webGroup, nil, http.StatusOK, `"starting":"nginx"`)
	w.api("PUT", "/mode", map[string]any{"group": webGroup, "mode": "monitor", "comment": "begin"}, http.StatusOK, `"mode":"monitor"`)
	await(t, "a directive", told)
	if r := rules(profile.Monitor); r.Answers[profile.ControlExec] != profile.Audit || len(r.Exec.Paths) != 2 {
		t.Errorf("in monitor: got %+v", r)
	}
	w.run("/bin/sh", "/bin/evil")
	until(t, "the violation is stored", func() bool {
		return strings.Contains(string(w.ask(t, "GET", "/api/v1/watch/violations?open=true", nil, w.as(access.Viewer)...).body), "/bin/evil")
	})
	w.api("POST", "/violations/1/permit", map[string]any{"comment": "ours"}, http.StatusCreated, `"id":1`)
	w.api("GET", "/violations?open=true", nil, http.StatusOK, `"violations":[]`)
	if r := rules(profile.Monitor); len(r.Exec.Paths) != 3 {
		t.Errorf("permitted: got %+v", r.Exec)
	}
	w.run("/bin/evil")
	w.api("GET", "/violations?open=true", nil, http.StatusOK, `"violations":[]`)
	w.api("POST", "/permits/1/undo", map[string]any{}, http.StatusOK, `"undone_by"`)
	if r := rules(profile.Monitor); len(r.Exec.Paths) != 2 {
		t.Errorf("undone: got %+v", r.Exec)
	}
	w.run("/bin/evil")
	until(t, "it is a violation again", func() bool {
		return strings.Contains(string(w.ask(t, "GET", "/api/v1/watch/violations?open=true", nil, w.as(access.Viewer)...).body), `"count":2`)
	})
}

func TestBehaviourOverTheAPI(t *testing.T) {
	w := watching(t)
	w.run("/usr/sbin/nginx", "/bin/sh")
	group := map[string]any{"group": webGroup}
	with := func(more ...any) map[string]any {
		m := map[string]any{"group": webGroup}
		for i := 0; i < len(more); i += 2 {
			m[fmt.Sprint(more[i])] = more[i+1]
		}
		return m
	}
	until(t, "the group is listed", func() bool {
		return strings.Contains(string(w.ask(t, "GET", "/api/v1/watch/groups", nil, w.as(access.Viewer)...).body), webGroup)
	})
	for _, c := range []struct {
		name, method, path string
		body               any
		role               access.Role
		status             int
		says               string
	}{
		{"listed", "GET", "/groups?mode=discover&text=web", nil, access.Viewer, http.StatusOK, `"modes":{"discover":1}`},
		{"no such mode", "GET", "/groups?mode=attack", nil, access.Viewer, http.StatusUnprocessableEntity, ""},
		{"nobody", "GET", "/groups", nil, "", http.StatusUnauthorized, ""},
		{"unknown", "GET", "/group?group=a/b/c", nil, access.Viewer, http.StatusNotFound, "castellan watch groups"},
		{"a viewer may not", "PUT", "/mode", with("mode", "monitor"), access.Viewer, http.StatusForbidden, "behaviour:manage"},
		{"not settled", "PUT", "/mode", with("mode", "protect"), access.Operator, http.StatusConflict, "--anyway"},
		{"nothing is proposed", "POST", "/decline", group, access.Operator, http.StatusConflict, "nothing is proposed"},
		{"profile", "GET", "/profile?group=" + webGroup, nil, access.Viewer, http.StatusOK, `/usr/sbin/nginx`},
		{"what is wrong", "POST", "/profile/check", map[string]any{"text": "profile: 1\nodd: 1\n"}, access.Viewer, http.StatusOK, `"line":2`},
		{"no profile", "PUT", "/profile", with("text", "profile: 1\nodd: 1\n", "after", -1), access.Operator, http.StatusUnprocessableEntity, "profile:2:1"},
		{"imported", "PUT", "/profile", with("text", shownProfile, "after", -1, "comment", "mine"), access.Operator, http.StatusOK, `"revision":`},
		{"an old one", "PUT", "/profile", with("text", shownProfile, "after", 0), access.Operator, http.StatusConflict, "meanwhile"},
		{"history", "GET", "/profile/history?group=" + webGroup, nil, access.Viewer, http.StatusOK, `"comment":"mine"`},
		{"changes", "GET", "/profile/changes?from=1&group=" + webGroup, nil, access.Viewer, http.StatusOK, `/bin/sh`},
		{"started", "POST", "/profile/start", with("name", "redis"), access.Operator, http.StatusOK, `"revision":`},
		{"no such start", "POST", "/profile/start", with("name", "cobol"), access.Operator, http.StatusNotFound, "nginx"},
		{"answers", "PUT", "/answers", with("answers", map[string]any{"network": "off"}), access.Operator, http.StatusOK, `"network":"off"`},
		{"no answer", "PUT", "/answers", with("answers", map[string]any{"network": "deny"}), access.Operator, http.StatusUnprocessableEntity, "to audit or off"},
		{"promotion", "PUT", "/promotion", map[string]any{"promote": "propose", "after": "2d"}, access.Operator, http.StatusNoContent, ""},
		{"its promotion", "GET", "/group?group=" + webGroup, nil, access.Viewer, http.StatusOK, `"promote":"propose"`},
		{"anyway", "PUT", "/mode", with("mode", "protect", "anyway", true), access.Operator, http.StatusOK, `"mode":"protect"`},
		{"released", "PUT", "/release", with("released", true, "comment", "shop is down"), access.Operator, http.StatusOK, `"released":true`},
		{"how it is held", "GET", "/group?group=" + webGroup, nil, access.Viewer, http.StatusOK, `"effective":"monitor"`},
		{"rehearsed", "POST", "/rehearse", group, access.Viewer, http.StatusOK, `"sentence":"Of 2 events`},
		{"no violation", "POST", "/violations/77/permit", map[string]any{}, access.Operator, http.StatusNotFound, "castellan watch violations"},
		{"a viewer forgets nothing", "DELETE", "/group?group=" + webGroup, nil, access.Viewer, http.StatusForbidden, ""},
		{"forgotten", "DELETE", "/group?comment=anew&group=" + url.QueryEscape(webGroup), nil, access.Operator, http.StatusNoContent, ""},
		{"gone", "GET", "/group?group=" + webGroup, nil, access.Viewer, http.StatusNotFound, ""},
	} {
		if a := w.ask(t, c.method, "/api/v1/watch"+c.path, c.body, w.as(c.role)...); a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: got %d %s, want %d with %q", c.name, a.status, a.body, c.status, c.says)
		}
	}
}
