package link_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
)

// behaving is a link.Server that keeps profiles.
type behaving struct {
	serverFunc
	behaviour func(link.BehaviourAsk) (link.BehaviourBrief, error)
}

func (b behaving) Behaviour(_ context.Context, a link.BehaviourAsk) (link.BehaviourBrief, error) {
	return b.behaviour(a)
}

func behaviourServer(t *testing.T, b behaving) *link.Client {
	t.Helper()
	path, h := link.Handler(b, nil, gate{}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return client(t, mux)
}

func someRules() profile.Rules {
	r := profile.Rules{Group: "shop/web/nginx", Revision: 4, Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Deny
	}
	r.Exec.Paths = []profile.Pattern{"/usr/sbin/nginx", "/tmp/build-*"}
	r.Privilege.Capabilities = 1 << 10
	r.Privilege.Kinds = []event.Kind{event.KindMemfd}
	return r
}

func packed(t testing.TB, r profile.Rules) []byte {
	t.Helper()
	b, err := link.PackRules(&r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRulesArriveAsTheyWereSent(t *testing.T) {
	sent := link.BehaviourBrief{Stamp: "all", More: true, Release: []asset.Group{"shop/old/app"}, Rules: []link.BriefRules{
		{Group: "shop/web/nginx", Stamp: "s1", Mode: profile.Protect, Packed: packed(t, someRules())},
		{Group: "shop/db/postgres", Stamp: "s2", Packed: []byte("any")},
	}}
	asked := link.BehaviourAsk{AgentID: "SOMEBODYELSE", Held: []profile.Held{
		{Group: "shop/web/nginx", Stamp: "s0", Revision: 3, Since: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), Workloads: 2, Controls: []profile.HeldControl{
			{Control: profile.ControlExec, Answer: profile.Deny, Rung: "BPF LSM"},
			{Control: profile.ControlFile, Answer: profile.Audit, Rung: "report only", Error: "this kernel has no BPF LSM"},
		}}, {Group: "shop/old/app", Error: "no room in the map", Remedy: "make it larger"},
	}}
	var got link.BehaviourAsk
	c := behaviourServer(t, behaving{behaviour: func(a link.BehaviourAsk) (link.BehaviourBrief, error) { got = a; return sent, nil }})
	b, err := c.Behaviour(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	asked.AgentID = full().Agent.ID // the certificate says it
	if diff := cmp.Diff(asked, got); diff != "" {
		t.Errorf("ask (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sent, b, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("brief (-want +got):\n%s", diff)
	}
	r, err := link.UnpackRules(b.Rules[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(someRules(), r); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func TestWhatNobodyHoldsIsRefused(t *testing.T) {
	asked := 0
	c := behaviourServer(t, behaving{behaviour: func(link.BehaviourAsk) (link.BehaviourBrief, error) { asked++; return link.BehaviourBrief{}, nil }})
	for name, held := range map[string][]profile.Held{
		"no group":      {{Stamp: "s"}},
		"a long stamp":  {{Group: "a/b/c", Stamp: strings.Repeat("s", 200)}},
		"a long error":  {{Group: "a/b/c", Error: strings.Repeat("s", 2000)}},
		"no answer":     {{Group: "a/b/c", Controls: []profile.HeldControl{{Control: profile.ControlExec}}}},
		"many controls": {{Group: "a/b/c", Controls: make([]profile.HeldControl, 100)}},
		"many groups":   make([]profile.Held, link.MaxHeldGroups+1),
	} {
		if _, err := c.Behaviour(t.Context(), link.BehaviourAsk{Held: held}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if asked != 0 {
		t.Errorf("%d of them were carried", asked)
	}
}

func TestABriefThatIsNoneIsRefused(t *testing.T) {
	var sent link.BehaviourBrief
	c := behaviourServer(t, behaving{behaviour: func(link.BehaviourAsk) (link.BehaviourBrief, error) { return sent, nil }})
	one := link.BriefRules{Group: "a/b/c", Stamp: "s", Packed: []byte("x")}
	for name, change := range map[string]func(*link.BriefRules){
		"no group":         func(r *link.BriefRules) { r.Group = "" },
		"no stamp":         func(r *link.BriefRules) { r.Stamp = "" },
		"nothing in it":    func(r *link.BriefRules) { r.Packed = nil },
		"an unknown mode":  func(r *link.BriefRules) { r.Mode = "attack" },
		"a long stamp":     func(r *link.BriefRules) { r.Stamp = strings.Repeat("s", 2000) },
		"nothing but mode": func(r *link.BriefRules) { *r = link.BriefRules{Mode: profile.Protect} },
	} {
		r := one
		change(&r)
		sent = link.BehaviourBrief{Rules: []link.BriefRules{r}}
		if _, err := c.Behaviour(t.Context(), link.BehaviourAsk{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func TestAServerWithoutProfilesSaysSo(t *testing.T) {
	c, _ := serve(t, func(context.Context, link.Report) (link.Receipt, error) { return link.Receipt{}, nil })
	if _, err := c.Behaviour(t.Context(), link.BehaviourAsk{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("got %v, want unsupported", err)
	}
	older := client(t, http.NewServeMux()) // answers 404
	if _, err := older.Behaviour(t.Context(), link.BehaviourAsk{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("of an older server: got %v, want unsupported", err)
	}
}

func TestRulesThatAreNoneAreRefused(t *testing.T) {
	unanswered := someRules()
	unanswered.Answers = nil
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"not compressed":  []byte(`{"group":"shop/web/nginx"}`),
		"without answers": packed(t, unanswered),
		"of nobody":       packed(t, profile.Rules{}),
	} {
		if _, err := link.UnpackRules(link.BriefRules{Group: "shop/web/nginx", Packed: b}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if _, err := link.UnpackRules(link.BriefRules{Group: "another/group/here", Packed: packed(t, someRules())}); !fault.Is(err, fault.Invalid) {
		t.Errorf("of another group: got %v, want invalid", err)
	}
	large := someRules()
	large.Exec.Paths = []profile.Pattern{profile.Pattern("/" + strings.Repeat("x", link.MaxRulesUnpacked))}
	if _, err := link.PackRules(&large); !fault.Is(err, fault.Exhausted) {
		t.Errorf("too large: got %v, want exhausted", err)
	}
}

func FuzzUnpackRules(f *testing.F) {
	f.Add(packed(f, someRules()))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := link.UnpackRules(link.BriefRules{Group: "shop/web/nginx", Packed: b})
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("got an error of another kind: %v", err)
			}
			return
		}
		if _, err := link.PackRules(&r); err != nil {
			t.Errorf("what was read can't be written: %v", err)
		}
	})
}
