package server_test

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
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/agent/brief"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/account"
)

// TestAHostDecidesByTheFleetsPolicy goes the whole way: a policy that is set by
// people reaches an agent on another host over the link, which decides by it, goes
// on while the server is away, and tells what it decided.
func TestAHostDecidesByTheFleetsPolicy(t *testing.T) {
	h := open(t, nil)
	dir := t.TempDir()
	joined, client := h.join(t, dir)
	k, err := brief.Open(brief.Options{Dir: filepath.Join(dir, "admission"), AgentID: joined.AgentID(), Server: client, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	wg.Go(func() {
		_ = client.Directives(ctx, link.Caller{}, func(d link.Directive) {
			if d.Admission != nil {
				k.Wish(*d.Admission)
			}
		})
	})
	t.Cleanup(func() { stop(); wg.Wait() })

	set := func(text string, after int, changed <-chan struct{}) {
		t.Helper()
		a := h.ask(t, "PUT", "/api/v1/admit/policy", map[string]any{"text": text, "after": after}, h.as(access.Administrator)...)
		if a.status != http.StatusOK {
			t.Fatalf("set policy: got %d %s", a.status, a.body)
		}
		await(t, "the policy at the agent", changed)
	}
	decide := func(id string, want admission.Outcome) {
		t.Helper()
		r := deployment(id, true)
		r.Door = admission.Docker
		s, _ := k.Standing()
		p, err := admit.Read(s.Policy, "policy")
		if err != nil {
			t.Fatal(err)
		}
		m := &r.Task.Containers[0].Image
		known := k.Facts(t.Context(), []link.AskedImage{{Registry: m.Registry, Repository: m.Repository, Digest: m.Digest}})
		v := p.Decide(t.Context(), &r, admit.Given{Facts: map[string]*admission.Facts{m.Digest: known[0]}, Exceptions: s.Exceptions, Now: time.Now()})
		if v.Outcome != want {
			t.Fatalf("request %s: got %s %+v, want %s", id, v.Outcome, v.Reasons, want)
		}
		k.Decided(r, v)
	}
	for { // until it has said that there is none
		changed := k.Changed()
		if _, have := k.Standing(); have {
			break
		}
		await(t, "the first brief", changed)
	}
	set(noPrivileged, 0, k.Changed())
	decide("h1", admission.Deny)
	set(strings.Replace(noPrivileged, "enforce", "audit", 1), 1, k.Changed())
	decide("h2", admission.Allow)

	late := time.After(deadline)
	for waiting := 1; waiting > 0; waiting, _ = k.Unsent() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			t.Fatal("verdicts do not arrive")
		}
	}
	for _, path := range []string{"/verdicts/h1", "/verdicts?audited=true&host=" + joined.AgentID()} {
		a := h.ask(t, "GET", "/api/v1/admit"+path, nil, h.as(access.Viewer)...)
		if a.status != http.StatusOK || !strings.Contains(string(a.body), `"agent_id":"`+joined.AgentID()) || !strings.Contains(string(a.body), `"privileged"`) {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
		}
	}
	h.close(t)
	decide("h3", admission.Allow)
	if waiting, _ := k.Unsent(); waiting != 1 {
		t.Errorf("%d verdicts wait for the server, want 1", waiting)
	}
}

// A token of a door may ask for decisions, and nothing else.
func TestATokenOfADoorMayOnlyDecide(t *testing.T) {
	h := open(t, nil)
	_, secret, err := h.Accounts().CreateToken(t.Context(), root(), account.NewToken{Name: "door", Scopes: []access.Scope{access.DecideAdmission}})
	if err != nil {
		t.Fatal(err)
	}
	door := []string{"Authorization", "Bearer " + secret}
	if a := h.ask(t, "POST", "/api/v1/admit/decide", deployment("r1", false), door...); a.status != http.StatusOK {
		t.Errorf("decide: got %d %s", a.status, a.body)
	}
	for _, path := range []string{"/admit/policy", "/admit/verdicts", "/admit/verdicts/r1", "/admit/exceptions", "/images", "/workloads", "/agents"} {
		if a := h.ask(t, "GET", "/api/v1"+path, nil, door...); a.status != http.StatusForbidden {
			t.Errorf("%s: got %d, want forbidden", path, a.status)
		}
	}
}
