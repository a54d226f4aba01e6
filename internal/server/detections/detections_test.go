package detections_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

const own = `
theme: shop
rules:
- {id: shop-write, title: Somebody wrote, severity: high, tactic: execution, meaning: m., on: [file.write]}
`

var start = time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)

type fixture struct {
	*detections.Service
	t     *testing.T
	st    store.Store
	now   time.Time
	told  []string // stamps
	taken []string // rules of threats that went on
}

func (f *fixture) TellDetect(stamp string) { f.told = append(f.told, stamp) }

func (f *fixture) Take(_ context.Context, agentID string, threats []*threat.Threat) error {
	for _, t := range threats {
		f.taken = append(f.taken, agentID+" "+t.Rule+" "+t.Group)
	}
	return nil
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "a.db"), ProcessCrashOnly: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{t: t, st: st, now: start}
	f.Service = detections.New(detections.Options{
		Store: st, Directions: f, Next: f, Clock: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler),
	})
	return f
}

func who(role access.Role) access.Identity {
	return access.Identity{Actor: "user:" + string(role), Role: role, Scopes: role.Scopes()}
}

func (f *fixture) set(name, text string, after int64) store.DetectionDocument {
	f.t.Helper()
	d, err := f.Set(f.t.Context(), who(access.Operator), name, text, "why", after)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

func (f *fixture) ask(a link.DetectionsAsk) link.DetectionsBrief {
	f.t.Helper()
	b, err := f.Detections(f.t.Context(), a)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func TestADocumentReachesAgents(t *testing.T) {
	f := newFixture(t)
	if b := f.ask(link.DetectionsAsk{AgentID: "A", Boot: "1"}); b.Changed || b.Stamp != "" {
		t.Errorf("before anybody wrote: %+v", b)
	}
	f.set("shop.yaml", own, 0)
	b := f.ask(link.DetectionsAsk{AgentID: "A", Boot: "1"})
	want := []link.DetectionText{{Name: "shop.yaml", Version: 1, Text: own}}
	if diff := cmp.Diff(want, b.Texts.Documents); diff != "" || !b.Changed || b.Stamp != f.told[len(f.told)-1] {
		t.Errorf("changed: %v, documents (-want +got):\n%s", b.Changed, diff)
	}
	if again := f.ask(link.DetectionsAsk{AgentID: "A", Boot: "1", Stamp: b.Stamp}); again.Changed || again.Texts.Documents != nil {
		t.Error("what an agent has is sent again")
	}
	f.ask(link.DetectionsAsk{AgentID: "B", Boot: "1", Stamp: "old", Unusable: []link.UnusableText{{Name: "shop.yaml", Version: 1, Error: "no such field"}}})
	all, err := f.Documents(t.Context(), who(access.Viewer))
	if err != nil || len(all) != 1 {
		t.Fatalf("%d documents, %v", len(all), err)
	}
	if d := all[0]; d.Current != 1 || d.Behind != 1 || d.Unusable != 1 || d.Error != "no such field" || d.Text != "" || d.Actor != "user:operator" {
		t.Errorf("the document is %+v", d)
	}
	if _, err := f.Remove(t.Context(), who(access.Operator), "shop.yaml", "", 1); err != nil {
		t.Fatal(err)
	}
	if b := f.ask(link.DetectionsAsk{AgentID: "A", Boot: "1", Stamp: b.Stamp}); !b.Changed || b.Stamp != "" || len(b.Texts.Documents) != 0 {
		t.Errorf("after it was removed an agent gets %+v", b)
	}
	versions, err := f.Versions(t.Context(), who(access.Viewer), "shop.yaml", 0, 0)
	if err != nil || len(versions) != 2 || !versions[0].Removed {
		t.Errorf("its history is %+v, %v", versions, err)
	}
}

func TestWhatCanNotBeUsedIsNotTaken(t *testing.T) {
	f := newFixture(t)
	f.set("shop.yaml", own, 0)
	for _, tc := range []struct {
		name, text string
		after      int64
		kind       fault.Kind
		says       string
	}{
		{"other.yaml", "rules:\n- {id: x}\n", 0, fault.Invalid, "other.yaml:2:3"},
		{"other.yaml", own, 0, fault.Invalid, "shop-write"}, // the other document has that rule
		{"shop.yaml", own, 0, fault.Conflict, ""},
		{"Shop!", own, 0, fault.Invalid, "can't be called"},
		{"empty.yaml", "", 0, fault.Invalid, "empty"},
		{"large.yaml", strings.Repeat("#", 300_000), 0, fault.Invalid, "larger"},
	} {
		_, err := f.Set(t.Context(), who(access.Operator), tc.name, tc.text, "", tc.after)
		if !fault.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.says) {
			t.Errorf("%s: got %v, want %v that says %q", tc.name, err, tc.kind, tc.says)
		}
	}
	if _, err := f.Set(t.Context(), who(access.Viewer), "v.yaml", own, "", 0); !fault.Is(err, fault.Denied) {
		t.Errorf("a viewer may write: %v", err)
	}
	// What others rest on stays.
	f.set("change.yaml", "change:\n- {rule: shop-write, severity: low}\n", 0)
	if _, err := f.Remove(t.Context(), who(access.Operator), "shop.yaml", "", 1); !fault.Is(err, fault.Invalid) || !strings.Contains(fmt.Sprint(err), "change.yaml:2") {
		t.Errorf("a document that another rests on was removed: %v", err)
	}
	r, err := f.Rule(t.Context(), who(access.Viewer), "shop-write")
	if err != nil || r.Severity != finding.Low {
		t.Errorf("the rule's severity is %v, %v, want low", r.Severity, err)
	}
}

func TestSilencesHoldUntilTheirEnd(t *testing.T) {
	f := newFixture(t)
	ctx, op := t.Context(), who(access.Operator)
	for name, v := range map[string]threat.Silence{
		"no rule":   {Rule: "nothing-*", Reason: "r", Until: start.Add(time.Hour)},
		"no reason": {Rule: "escape-*", Reason: " ", Until: start.Add(time.Hour)},
		"over":      {Rule: "escape-*", Reason: "r", Until: start},
		"for ever":  {Rule: "escape-*", Reason: "r", Until: start.AddDate(3, 0, 0)},
	} {
		if _, err := f.Silence(ctx, op, v); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if _, err := f.Silence(ctx, op, threat.Silence{Rule: "escape-core-*", Groups: []string{"shop/*/*"}, Reason: "a test", By: "somebody else", Until: start.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	tell := func(group string) {
		t.Helper()
		if err := f.Service.Take(ctx, "A", []*threat.Threat{{Rule: "escape-core-pattern", Group: group, Last: f.now}}); err != nil {
			t.Fatal(err)
		}
	}
	tell("shop/store/web")
	tell("bank/store/web")
	b := f.ask(link.DetectionsAsk{AgentID: "A", Boot: "1"})
	if len(b.Texts.Silences) != 1 || b.Texts.Silences[0].By != "user:operator" {
		t.Errorf("agents are told of silences %+v", b.Texts.Silences)
	}
	r, err := f.Rule(ctx, op, "escape-core-pattern")
	if err != nil || len(r.Silences) != 1 {
		t.Errorf("the rule has silences %+v, %v", r.Silences, err)
	}
	f.now = start.Add(2 * time.Hour)
	tell("shop/store/web")
	if diff := cmp.Diff([]string{"A escape-core-pattern bank/store/web", "A escape-core-pattern shop/store/web"}, f.taken); diff != "" {
		t.Errorf("threats that went on (-want +got):\n%s", diff)
	}
	second, err := f.Silence(ctx, op, threat.Silence{Rule: "escape-*", Reason: "r", Until: f.now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Unsilence(ctx, op, second.ID); err != nil {
		t.Fatal(err)
	}
	if b := f.ask(link.DetectionsAsk{AgentID: "A", Boot: "1"}); b.Stamp != "" {
		t.Errorf("after all is over agents are told of %+v", b.Texts.Silences)
	}
}

func TestHowRulesFareIsSummedOverAgentsAndStarts(t *testing.T) {
	f := newFixture(t)
	tell := func(agent, boot string, hits uint64, errors string) {
		f.ask(link.DetectionsAsk{AgentID: agent, Boot: boot, Rules: []threat.RuleStats{
			{Rule: "escape-core-pattern", Looked: 10 * hits, Hits: hits, Spent: time.Duration(hits), Error: errors, Last: start}, {Rule: "made-up", Hits: 1},
		}})
	}
	hits := func() threat.RuleStats {
		t.Helper()
		r, err := f.Rule(t.Context(), who(access.Viewer), "escape-core-pattern")
		if err != nil {
			t.Fatal(err)
		}
		return r.Stats
	}
	tell("A", "1", 3, "")
	tell("A", "1", 4, "it is of no type")
	tell("B", "1", 10, "")
	if got := hits(); got.Hits != 14 || got.Looked != 140 || got.Error != "it is of no type" || !got.Last.Equal(start) {
		t.Errorf("got %+v", got)
	}
	tell("A", "2", 1, "")
	if got := hits(); got.Hits != 15 || got.Error != "" {
		t.Errorf("after another start: %+v, want 15 hits", got)
	}
	all, err := f.st.DetectionStats(t.Context(), []string{"made-up"})
	if err != nil || len(all) != 0 {
		t.Errorf("an agent's made-up rule is kept: %+v, %v", all, err)
	}
}
