package respond_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	server "github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

const host = "AGENTAAAAAAAAAAAAAAAAAAAAA"

var (
	web   = strings.Repeat("ab", 32)
	agent = strings.Repeat("cd", 32)
	start = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	otto  = access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}
)

// fleet is a store, the agents of all hosts, and who is told.
type fleet struct {
	t   *testing.T
	svc *server.Service
	now time.Time

	mu        sync.Mutex
	policies  []store.ResponsePolicy
	runs      []store.ResponseRun
	deeds     []store.ResponseDeed
	gone      bool  // web is, and nobody knows it
	silent    bool  // agents do not answer
	unkept    error // why no deed can be kept
	audit     []string
	noted     []string                            // in incidents
	did       []string                            // by agents
	told      []notice.Notice                     // of targets that rules name
	notices   []notice.Notice                     // of all who want it
	answer    func(response.Deed) response.Answer // of agents
	incidents []threat.Incident                   // of the past, by id
	parts     map[string]error                    // conditions
	away      bool                                // the agent is
	task      asset.ECS                           // of web
}

func open(t *testing.T) *fleet {
	f := &fleet{t: t, now: start, parts: map[string]error{}}
	f.answer = func(d response.Deed) response.Answer {
		return response.Answer{State: response.Done, Did: []string{"did " + string(d.Kind)}, Undo: d.Kind.Undo()}
	}
	f.restart()
	return f
}

func (f *fleet) restart() {
	f.svc = server.New(server.Options{
		Store: f, Directions: f, Tree: func(string) ([]event.Running, bool) { return nil, false }, Notifier: f, Noted: f.note, Detections: f.detections,
		Theme: func(_ context.Context, rule string) string { theme, _, _ := strings.Cut(rule, "-"); return theme },
		Condition: func(_ context.Context, part string, err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.parts[part] = err
		},
		Clock: func() time.Time { return f.now }, Log: slog.New(slog.NewTextHandler(f.t.Output(), nil)),
	})
}

func (f *fleet) Workload(_ context.Context, id string) (asset.Workload, error) {
	switch id {
	case web:
		if f.gone {
			break
		}
		return asset.Workload{ID: id, AgentID: host, Name: "web-1", Group: "shop/web/web", ECS: f.task}, nil
	case agent:
		return asset.Workload{ID: id, AgentID: host, Name: "ecs-agent", Group: "docker/ecs-agent", Image: asset.Image{Reference: "amazon/amazon-ecs-agent:latest"}}, nil
	}
	return asset.Workload{}, fault.New(fault.NotFound, "no workload")
}

func (f *fleet) AppendAudit(_ context.Context, a access.Audit) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.audit = append(f.audit, a.Actor+" "+a.Action+" "+a.Outcome)
	return nil
}

func (f *fleet) PutResponsePolicy(_ context.Context, p store.ResponsePolicy, after int64) (store.ResponsePolicy, error) {
	if int(after) != len(f.policies) {
		return p, fault.New(fault.Conflict, "not the newest")
	}
	p.Version = after + 1
	f.policies = append(f.policies, p)
	return p, nil
}

func (f *fleet) ResponsePolicy(context.Context, int64) (store.ResponsePolicy, error) {
	if len(f.policies) == 0 {
		return store.ResponsePolicy{}, fault.New(fault.NotFound, "none")
	}
	return f.policies[len(f.policies)-1], nil
}

func (f *fleet) ResponsePolicies(context.Context, int64, int) ([]store.ResponsePolicy, error) {
	return f.policies, nil
}

func (f *fleet) PutResponseRun(_ context.Context, r store.ResponseRun) (store.ResponseRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.ID == 0 {
		r.ID = int64(len(f.runs) + 1)
		f.runs = append(f.runs, r)
	}
	f.runs[r.ID-1] = r
	return r, nil
}

func (f *fleet) ResponseRuns(_ context.Context, q store.ResponseRunQuery) (out []store.ResponseRun, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Backward(f.runs) {
		if (q.Undo.IsZero() || !r.UndoAt.IsZero() && !r.UndoAt.After(q.Undo)) && (q.Workload == "" || r.Workload == q.Workload) {
			out = append(out, r)
		}
	}
	return out, nil
}

func (f *fleet) CountResponseRuns(_ context.Context, rule string) (n int, last time.Time, _ error) {
	for _, r := range f.runs {
		if r.Rule == rule {
			n, last = n+1, r.At
		}
	}
	return n, last, nil
}

func (f *fleet) PutResponseDeed(_ context.Context, d store.ResponseDeed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unkept != nil {
		return f.unkept
	}
	i := slices.IndexFunc(f.deeds, func(o store.ResponseDeed) bool { return o.Deed.ID == d.Deed.ID })
	if i < 0 {
		f.deeds = append(f.deeds, d)
		return nil
	}
	f.deeds[i] = d
	return nil
}

func (f *fleet) ResponseDeeds(_ context.Context, q store.ResponseDeedQuery) (all []store.ResponseDeed, last int64, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, d := range slices.Backward(f.deeds) {
		if n := int64(i + 1); (q.Before == 0 || n < q.Before) && (!q.Standing || d.Standing()) && len(all) < q.Limit {
			all, last = append(all, d), n
		}
	}
	return all, last, nil
}

func (f *fleet) Listening() []string {
	if f.away {
		return nil
	}
	return []string{host}
}

func (f *fleet) AskRespond(id string, d response.Deed) {
	f.mu.Lock()
	what := string(d.Kind)
	if !d.Process.IsZero() {
		what += " " + d.Process.String()
	}
	if d.DryRun {
		what += "?"
	}
	f.did = append(f.did, what)
	f.mu.Unlock()
	if f.silent {
		return
	}
	a := f.answer(d)
	a.ID = d.ID
	if err := f.svc.Responded(context.Background(), link.Responded{AgentID: id, Answer: a}); err != nil {
		f.t.Error(err)
	}
}

func (f *fleet) EndRespond(string, string) {}

func (f *fleet) TellTarget(_ context.Context, target string, n notice.Notice) error {
	if target != "oncall" {
		return fault.New(fault.NotFound, "there is no notification target %q", target)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, n)
	return nil
}

func (f *fleet) Tell(_ context.Context, n notice.Notice) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notices = append(f.notices, n)
	return nil
}

func (f *fleet) HasTarget(_ context.Context, target string) (bool, error) {
	return target == "oncall", nil
}

// heard writes the notices of responses, without their order.
func (f *fleet) heard() (out []string) {
	for _, n := range f.notices {
		over := ""
		if n.Resolved {
			over = " over"
		}
		out = append(out, fmt.Sprintf("%s: %s, %s%s", n.Severity, n.Title, n.Link, over))
	}
	f.notices = nil
	slices.Sort(out)
	return out
}

func (f *fleet) note(_ context.Context, incident int64, _, by, text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noted = append(f.noted, fmt.Sprintf("%d %s %s", incident, by, text))
	return nil
}

func (f *fleet) set(rules string) {
	f.t.Helper()
	if _, err := f.svc.SetPolicy(f.t.Context(), otto, "responses:\n"+rules, "", int64(len(f.policies))); err != nil {
		f.t.Fatal(err)
	}
}

// happens has a threat considered in a workload.
func (f *fleet) happens(workload string) {
	f.t.Helper()
	t := threat.Threat{
		Rule: "miner-stratum", Title: "a miner", Summary: "xmrig spoke\nstratum", Severity: finding.High, WorkloadID: workload, Group: "shop/web/web", Last: f.now, Count: 1,
		Process: event.Process{Key: event.Key{PID: 77, Start: 5}},
	}
	f.svc.Consider(f.t.Context(), &threat.Incident{ID: 7, Severity: finding.Critical}, &t)
	f.svc.Settle(f.t.Context())
}

// ran writes what rules did, the oldest first.
func (f *fleet) ran() (out []string) {
	for _, r := range f.runs {
		out = append(out, fmt.Sprintf("%s %s %s", r.Rule, r.Did, r.State))
	}
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestRulesAct(t *testing.T) {
	f := open(t)
	f.happens(web) // without rules
	f.set("- {id: miners, owner: anna, on: {themes: miner}, do: [kill, quarantine, {notify: oncall}, {notify: nobody}], until: 1h}\n" +
		"- {id: trial, owner: anna, on: {themes: miner}, do: stop, dry_run: true}")
	f.happens(web)
	slices.Sort(f.did[1:]) // the dry run is another rule's, at the same time
	ran := f.ran()
	slices.Sort(ran)
	same(t, "rules ran", ran, []string{"miners kill the process done", "miners notify nobody refused", "miners notify oncall done", "miners quarantine done", "trial stop done"})
	if did := strings.Join(f.did, " "); !strings.Contains(did, "kill 77-5") || !strings.Contains(did, "stop?") {
		t.Errorf("agents did %q", did)
	}
	if n := f.told[0]; n.Rule != "miner-stratum" || n.Severity != finding.Critical || n.Workload.ID != web || n.Subject != "incident:7" || n.ID == "" || n.Link != "/incidents/7" {
		t.Errorf("told: %+v", n)
	}
	same(t, "notices", f.heard(), []string{
		"critical: kill the process in shop/web/web, by rule:miners: done, /incidents/7", "critical: notify nobody in shop/web/web, by rule:miners: refused, /incidents/7",
		"critical: quarantine in shop/web/web, by rule:miners: done, /incidents/7", "low: stop in shop/web/web, by rule:trial: done (dry run), /incidents/7",
	})
	for _, want := range []string{"user:otto respond.policy done", "rule:miners respond.kill asked", "agent:" + host + " respond.kill done",
		"rule:trial respond.stop.dry-run asked", "rule:miners respond.notify done"} {
		if !slices.Contains(f.audit, want) {
			t.Errorf("the audit log lacks %q: %q", want, f.audit)
		}
	}
	all, err := f.svc.Responses(t.Context(), otto, "")
	if err != nil || all[0].Deed.Reason != "incident 7, miner-stratum: xmrig spoke stratum" {
		t.Errorf("reason %q, %v", all[0].Deed.Reason, err)
	}

	// It cools down, also for a server that starts anew.
	f.did = nil
	f.restart()
	if err := f.svc.Recall(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.happens(web)
	same(t, "within the cool-down", f.did, nil)
	lines, err := f.svc.Rules(t.Context(), otto)
	if err != nil || lines[0].Held != 1 || lines[0].Runs != 4 || !strings.Contains(lines[0].HeldWhy, "cool") || !lines[0].HeldAt.Equal(f.now) {
		t.Errorf("rules: %+v, %v", lines, err)
	}

	// It is undone.
	f.now = start.Add(59 * time.Minute)
	f.svc.Undo(t.Context())
	same(t, "before its time", f.did, nil)
	f.now, f.away = start.Add(61*time.Minute), true
	f.svc.Undo(t.Context())
	same(t, "of a host that is away", f.did, nil)
	f.away = false
	f.svc.Undo(t.Context())
	f.svc.Undo(t.Context())
	same(t, "after it", f.did, []string{"release"})
	i := slices.IndexFunc(f.runs, func(r store.ResponseRun) bool { return r.Kind == response.Quarantine })
	if r := f.runs[i]; r.State != response.Undone || r.Undone.IsZero() {
		t.Errorf("the run: %+v", r)
	}
}

func TestRulesKeepTheirHandsOff(t *testing.T) {
	f := open(t)
	f.set("- {id: miners, owner: anna, on: {themes: miner}, do: [{kill: container}, {notify: oncall}]}")
	f.happens(agent)                    // the ECS agent
	f.happens(strings.Repeat("ef", 32)) // one that nobody knows
	f.happens("")                       // the host
	same(t, "did", f.did, nil)
	same(t, "ran", f.ran(), []string{"miners kill all processes refused", "miners notify oncall done", "miners kill all processes refused",
		"miners notify oncall done", "miners notify oncall done"})
}

// What a person took back or keeps is nobody's to undo.
func TestPeopleGoBeforeRules(t *testing.T) {
	f := open(t)
	f.set("- {id: miners, owner: anna, on: {themes: miner}, do: quarantine, until: 1h}")
	f.happens(web)
	if _, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Release, Workload: web}); err != nil {
		t.Fatal(err)
	}
	f.now = start.Add(2 * time.Hour)
	f.svc.Undo(t.Context())
	same(t, "did", f.did, []string{"quarantine", "release"})
	same(t, "noted", f.noted, []string{"7 rule:miners quarantine, done: did quarantine", "0 user:otto release, done: did release"})

	f.happens(web)
	f.answer = func(response.Deed) response.Answer {
		return response.Answer{State: response.Refused, Error: "user:otto has quarantined it"}
	}
	f.now = start.Add(4 * time.Hour)
	f.svc.Undo(t.Context())
	f.svc.Undo(t.Context())
	same(t, "did, then", f.did, []string{"quarantine", "release", "quarantine", "release"})
	if r := f.runs[1]; r.State != response.Done || !strings.Contains(r.Detail, "not undone: user:otto") {
		t.Errorf("the run: %+v", r)
	}
}

func TestMoreThreatsThanCanBeHeld(t *testing.T) {
	f := open(t)
	for range server.MaxWaiting + 5 {
		f.svc.Consider(t.Context(), nil, &threat.Threat{Rule: "miner-stratum"})
	}
	f.svc.Settle(t.Context())
	if err := f.parts[server.PartPace]; err == nil || !strings.HasPrefix(err.Error(), "5 threats") {
		t.Errorf("said %v", err)
	}
	f.now = f.now.Add(2 * time.Hour)
	f.svc.Settle(t.Context())
	if err := f.parts[server.PartPace]; err != nil {
		t.Errorf("two hours later: %v", err)
	}
}

func TestPolicyIsChecked(t *testing.T) {
	f := open(t)
	_, err := f.svc.SetPolicy(t.Context(), otto, "responses: [{id: x}]", "", 0)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "policy:1:13: rule x lacks owner") {
		t.Errorf("got %v", err)
	}
	viewer := access.Identity{Actor: "user:anna", Scopes: access.Viewer.Scopes()}
	if _, err := f.svc.SetPolicy(t.Context(), viewer, "responses: []", "", 0); !fault.Is(err, fault.Denied) {
		t.Errorf("a viewer: %v", err)
	}
	tried, problems, err := f.svc.Try(t.Context(), viewer, "responses:\n- {id: a, owner: x, on: {themes: miner}, do: stop}\n- {id: b, owner: x, on: {themes: shell}, do: stop}",
		&threat.Threat{Rule: "miner-x", Severity: finding.High, WorkloadID: web}, respond.Case{})
	want := []server.Tried{{Rule: "a", Fits: true, Do: []string{"stop"}}, {Rule: "b", Why: "theme miner"}}
	if diff := cmp.Diff(want, tried); diff != "" || problems != nil || err != nil {
		t.Errorf("%v, %v, (-want +got):\n%s", problems, err, diff)
	}
}

// iam is whose sessions are revoked, by role.
type iam map[string]time.Time

func (i iam) Role(_ context.Context, of asset.ECS) (string, error) {
	if of.TaskID == "" {
		return "", fault.New(fault.NotFound, "the task has ended")
	}
	return "arn:aws:iam::1:role/web", nil
}

func (i iam) Revoke(_ context.Context, role string, before time.Time) error {
	i[role] = before
	return nil
}

func (i iam) Reinstate(_ context.Context, role string) error {
	delete(i, role)
	return nil
}

// Sessions are revoked by a rule and reinstated when its time is over, also when the
// task has ended and the server has started anew meanwhile.
func TestSessionsOfARole(t *testing.T) {
	f := open(t)
	revoked := iam{}
	f.svc.Sessions = revoked
	f.away = true // no agent is asked
	f.set("- {id: thieves, owner: anna, on: {themes: miner}, do: revoke, until: 1h}")
	f.task = asset.ECS{TaskARN: "arn:aws:ecs:eu-west-1:1:task/shop/1", TaskID: "1", Cluster: "shop"}
	if r, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Revoke, Workload: web, DryRun: true}); err != nil || r.Answer.State != response.Done || len(revoked) != 0 {
		t.Errorf("dry run: %+v, %v, revoked %v", r.Answer, err, revoked)
	}
	f.happens(web)
	same(t, "ran", f.ran(), []string{"thieves revoke done"})
	if at := revoked["arn:aws:iam::1:role/web"]; !at.Equal(start) {
		t.Errorf("revoked %v", revoked)
	}
	f.task.TaskID = ""
	f.restart()
	f.svc.Sessions = revoked
	f.now = start.Add(2 * time.Hour)
	f.svc.Undo(t.Context())
	if len(revoked) != 0 || f.runs[0].State != response.Undone {
		t.Errorf("after its time: revoked %v, run %+v", revoked, f.runs[0])
	}
	f.task = asset.ECS{}
	if r, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Revoke, Workload: web}); err != nil || r.Answer.State != response.Refused {
		t.Errorf("of no task: %+v, %v", r.Answer, err)
	}
}

func (f *fleet) Incidents(_ context.Context, q store.IncidentQuery) (out []threat.Incident, _ error) {
	for _, i := range slices.Backward(f.incidents) {
		if q.Before == 0 || i.ID < q.Before {
			i.Timeline, i.Peers = nil, nil // in brief
			out = append(out, i)
		}
	}
	return out[:min(len(out), q.Limit)], nil
}

func (f *fleet) Incident(_ context.Context, id int64) (threat.Incident, error) {
	return f.incidents[id-1], nil
}

func (f *fleet) BehaviourGroups(context.Context, store.BehaviourQuery) ([]store.BehaviourGroup, error) {
	return []store.BehaviourGroup{{Group: "shop/web/web"}}, nil
}

func (f *fleet) detections(context.Context) []*threat.Rule {
	return []*threat.Rule{{ID: "miner-stratum", Theme: "miner", Tactic: threat.Impact}, {ID: "shell-reverse", Theme: "shell", Tactic: threat.Execution}}
}

// TestPastIsReplayed holds rules against incidents that are over.
func TestPastIsReplayed(t *testing.T) {
	f := open(t)
	at := func(ago time.Duration, rule string, s finding.Severity) threat.Entry {
		return threat.Entry{Kind: threat.EntryThreat, Time: start.Add(-ago), Rule: rule, Severity: s, Text: rule}
	}
	for n := range int64(150) { // two pages, all a day apart
		f.incidents = append(f.incidents, threat.Incident{
			ID: n + 1, Severity: finding.High, Workloads: []string{web}, Groups: []string{"shop/web/web"}, Last: start.Add(-time.Duration(150-n) * 24 * time.Hour),
			Timeline: []threat.Entry{at(time.Duration(150-n)*24*time.Hour, "shell-reverse", finding.Low), {Kind: threat.EntryComment, Text: "hm"}},
		})
	}
	last := &f.incidents[149]
	last.Severity = finding.Critical
	for i := range 4 {
		last.Timeline = append(last.Timeline, at(24*time.Hour-time.Duration(i+1)*time.Minute, "miner-stratum", finding.High))
	}
	f.set("- {id: miners, owner: anna, on: {themes: miner}, do: [kill, quarantine], cool_down: 90s}\n" +
		"- {id: grave, owner: anna, on: {incident: critical}, do: stop, dry_run: true}\n" +
		"- {id: rare, owner: anna, on: {tactics: execution}, do: {notify: oncall}, cool_down: 0s, limit: {times: 1, within: 24h}}")
	got, _, err := f.svc.ReplayPast(t.Context(), otto, "", start.Add(-100*24*time.Hour-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	want := []server.ReplayedRule{{Rule: "miners", Fits: 4, Acted: 2, Held: 2}, {Rule: "grave", Fits: 1, Acted: 1, Dry: true}, {Rule: "rare", Fits: 100, Acted: 100}}
	if diff := cmp.Diff(want, got.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if got.Threats != 104 || got.Incidents != 150 || len(got.Acts) != 103 {
		t.Errorf("%d threats, %d incidents, %d acts", got.Threats, got.Incidents, len(got.Acts))
	}
	if a := got.Acts[len(got.Acts)-1]; a.Rule != "grave" || a.Incident != 150 || !a.Dry || a.Workload != web {
		t.Errorf("the last act: %+v", a)
	}
	same(t, "did", f.did, nil)
	same(t, "ran", f.ran(), nil)
	if _, _, err := f.svc.ReplayPast(t.Context(), otto, "", start.Add(time.Hour)); !fault.Is(err, fault.Invalid) {
		t.Errorf("of the future: %v", err)
	}
	if _, problems, err := f.svc.ReplayPast(t.Context(), otto, "responses: [{id: X}]", start.Add(-time.Hour)); err != nil || len(problems) == 0 {
		t.Errorf("of what is no policy: %v, %v", problems, err)
	}
}

func TestRulesWarn(t *testing.T) {
	f := open(t)
	got, err := f.svc.Warnings(t.Context(), otto, "responses:\n- {id: good, owner: a, on: {themes: miner, rules: [miner-*], groups: [shop/*]}, do: {notify: oncall}}\n"+
		"- {id: bad, owner: a, on: {themes: mining, rules: [miner-x], groups: [stage/*]}, do: [kill, {notify: nobody}]}")
	if err != nil || len(got) != 4 {
		t.Fatalf("warnings %q, %v", got, err)
	}
	for i, want := range []string{`target is called "nobody"`, `no group is as "stage/*"`, `no rule of detection is as "miner-x"`, `theme "mining"`} {
		if !strings.HasPrefix(got[i], "rule bad: ") || !strings.Contains(got[i], want) {
			t.Errorf("warning %q, want %s", got[i], want)
		}
	}
}
