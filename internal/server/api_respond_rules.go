package server

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/respond"
	respondings "github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

type respondPolicyForm struct {
	Body struct {
		Text    string `json:"text" maxLength:"262144" doc:"The rules"`
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why they are changed"`
		After   int64  `json:"after" minimum:"0" doc:"The version that was changed, 0 for none: it must be the newest still"`
	}
}

type respondPolicyList struct {
	Policies []store.ResponsePolicy `json:"policies" nullable:"false" doc:"Without their texts, the newest first"`
}

type responseRuleList struct {
	Rules []responseRule `json:"rules" nullable:"false" doc:"In the order in which they are asked"`
}

// responseRule is a rule as people are told of it.
type responseRule struct {
	ID       string    `json:"id"`
	Title    string    `json:"title,omitempty"`
	Owner    string    `json:"owner" doc:"Who answers for it"`
	Do       []string  `json:"do" nullable:"false" doc:"What it does, in a few words"`
	DryRun   bool      `json:"dry_run,omitempty" doc:"It does nothing, and keeps what it would have done"`
	Off      bool      `json:"off,omitempty"`
	Times    int       `json:"times" doc:"How often it acts in a group within \"within\""`
	Within   string    `json:"within"`
	CoolDown string    `json:"cool_down" doc:"For how long it leaves a workload alone that it acted on"`
	Until    string    `json:"until,omitempty" doc:"After how long what can be undone is"`
	Runs     int       `json:"runs" doc:"Things that it did, or in a dry run would have done, of those that are kept"`
	Last     time.Time `json:"last,omitzero" doc:"When the newest was"`
	Held     int       `json:"held,omitempty" doc:"How often it was held back since the server started"`
	HeldWhy  string    `json:"held_why,omitempty" doc:"What held it back last"`
	HeldAt   time.Time `json:"held_at,omitzero" doc:"When that was"`
}

type responseRunQuery struct {
	Rule     string    `query:"rule" maxLength:"64" doc:"Of this rule alone"`
	Workload string    `query:"workload" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"Of this workload alone"`
	Since    time.Time `query:"since" doc:"From this time on"`
	Before   int64     `query:"before" minimum:"0" doc:"Continue behind this run"`
	Limit    int       `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type responseRunList struct {
	Runs []store.ResponseRun `json:"runs" nullable:"false" doc:"What rules did, the newest first"`
}

type respondTrial struct {
	Body struct {
		Text     string    `json:"text,omitempty" maxLength:"262144" doc:"The rules; empty: those in force"`
		Rule     string    `json:"rule" maxLength:"64" doc:"Id of the rule of detection that fires"`
		Theme    string    `json:"theme,omitempty" maxLength:"64" doc:"Its theme; else that of the rule of that id"`
		Tactic   string    `json:"tactic,omitempty" maxLength:"64"`
		Severity string    `json:"severity,omitempty" enum:"negligible,low,medium,high,critical" doc:"Of the threat; high unless given"`
		Incident string    `json:"incident,omitempty" enum:"negligible,low,medium,high,critical" doc:"Severity of the incident; that of the threat unless given"`
		Group    string    `json:"group,omitempty" maxLength:"512"`
		Name     string    `json:"name,omitempty" maxLength:"512" doc:"Name of the workload"`
		Host     bool      `json:"host,omitempty" doc:"It is of the host itself, not of a workload"`
		External bool      `json:"external,omitempty" doc:"It is about a peer outside of the fleet"`
		At       time.Time `json:"at,omitzero" doc:"When it happens; now unless given"`
	}
}

type respondTried struct {
	Problems []policyProblem     `json:"problems" nullable:"false" doc:"What is wrong with the text; then there is nothing else"`
	Theme    string              `json:"theme" doc:"Of the rule of detection; empty: there is none of that id"`
	Rules    []respondings.Tried `json:"rules" nullable:"false" doc:"What each rule says to it"`
}

type respondChecked struct {
	Problems []policyProblem `json:"problems" nullable:"false" doc:"What is wrong, in the order of the lines; none: it can be used"`
	Warnings []string        `json:"warnings" nullable:"false" doc:"What rules name that is not there: targets, groups, rules of detection"`
}

type respondReplay struct {
	Body struct {
		Text  string    `json:"text,omitempty" maxLength:"262144" doc:"The rules; empty: those in force"`
		Since time.Time `json:"since" doc:"From this time on, a year ago at most"`
	}
}

type respondReplayed struct {
	Problems []policyProblem `json:"problems" nullable:"false" doc:"What is wrong with the text; then there is nothing else"`
	respondings.Replayed
}

func policyProblemsOf(all written.Problems) []policyProblem {
	out := []policyProblem{}
	for _, p := range all {
		out = append(out, policyProblem{p.Line, p.Column, p.Text, p.Remedy})
	}
	return out
}

func (a *api) respondRuleRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/respond/policy", id: "get-response-policy", tag: "respond", scope: access.ReadResponse,
		summary: "The response policy: rules of what is done about threats by itself",
	}, func(q ask[policyVersion]) (*body[store.ResponsePolicy], error) {
		p, err := a.respond.Policy(q.ctx, q.who, q.input.Version)
		return &body[store.ResponsePolicy]{p}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/respond/policy", id: "put-response-policy", tag: "respond", scope: access.ManageResponse,
		summary: "Change the response policy", about: "It holds for what happens from then on.",
	}, func(q ask[respondPolicyForm]) (*body[store.ResponsePolicy], error) {
		b := &q.input.Body
		p, err := a.respond.SetPolicy(q.ctx, q.who, b.Text, b.Comment, b.After)
		return &body[store.ResponsePolicy]{p}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/respond/policies", id: "list-response-policies", tag: "respond", scope: access.ReadResponse,
		summary: "Who changed the response policy, when and why",
	}, func(q ask[policyPage]) (*body[respondPolicyList], error) {
		all, err := a.respond.Policies(q.ctx, q.who, q.input.Before, q.input.Limit)
		return &body[respondPolicyList]{respondPolicyList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/respond/policy/check", id: "check-response-policy", tag: "respond", scope: access.ReadResponse,
		summary: "What is wrong with a text as a response policy",
	}, func(q ask[policyText]) (*body[respondChecked], error) {
		problems, err := a.respond.Check(q.who, q.input.Body.Text)
		told := respondChecked{Problems: policyProblemsOf(problems), Warnings: []string{}}
		if err == nil && len(problems) == 0 && q.input.Body.Text != "" {
			var warnings []string
			warnings, err = a.respond.Warnings(q.ctx, q.who, q.input.Body.Text)
			told.Warnings = list(warnings)
		}
		return &body[respondChecked]{told}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/respond/policy/replay", id: "replay-response-policy", tag: "respond", scope: access.ReadResponse,
		summary: "What rules would have done about past incidents", about: "Nothing is done.",
	}, func(q ask[respondReplay]) (*body[respondReplayed], error) {
		got, problems, err := a.respond.ReplayPast(q.ctx, q.who, q.input.Body.Text, q.input.Body.Since)
		return &body[respondReplayed]{respondReplayed{policyProblemsOf(problems), got}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/respond/policy/try", id: "try-response-policy", tag: "respond", scope: access.ReadResponse,
		summary: "What rules would do about a threat", about: "With what rules did lately. Nothing is done.",
	}, func(q ask[respondTrial]) (*body[respondTried], error) { return a.tryResponse(q) })
	handle(a, route{
		method: http.MethodGet, path: "/respond/rules", id: "list-response-rules", tag: "respond", scope: access.ReadResponse,
		summary: "The rules in force, and how often each acted",
	}, func(q ask[struct{}]) (*body[responseRuleList], error) {
		all, err := a.respond.Rules(q.ctx, q.who)
		out := []responseRule{}
		for i := range all {
			out = append(out, ruleOf(&all[i]))
		}
		return &body[responseRuleList]{responseRuleList{out}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/respond/runs", id: "list-response-runs", tag: "respond", scope: access.ReadResponse,
		summary: "What rules did, and what came of it",
	}, func(q ask[responseRunQuery]) (*body[responseRunList], error) {
		in := q.input
		all, err := a.respond.Runs(q.ctx, q.who, store.ResponseRunQuery{Rule: in.Rule, Workload: in.Workload, Since: in.Since, Before: in.Before, Limit: in.Limit})
		return &body[responseRunList]{responseRunList{list(all)}}, err
	})
}

func ruleOf(l *respondings.RuleLine) responseRule {
	r := responseRule{
		ID: l.ID, Title: l.Title, Owner: l.Owner, Do: []string{}, DryRun: l.DryRun, Off: l.Off, Times: l.Times, Within: l.Within.String(),
		CoolDown: l.CoolDown.String(), Runs: l.Runs, Last: l.Last, Held: l.Held, HeldWhy: l.HeldWhy, HeldAt: l.HeldAt,
	}
	for _, d := range l.Do {
		r.Do = append(r.Do, d.String())
	}
	if l.Until > 0 {
		r.Until = l.Until.String()
	}
	return r
}

// Of a threat that does not happen.
const (
	triedWorkload = "0000000000000000000000000000000000000000000000000000000000000000"
	triedPeer     = "198.51.100.1:443" // of TEST-NET-2, RFC 5737
)

func (a *api) tryResponse(q ask[respondTrial]) (*body[respondTried], error) {
	b := &q.input.Body
	severity, incident := finding.High, finding.Unknown
	for _, x := range []struct {
		text string
		to   *finding.Severity
	}{{b.Severity, &severity}, {b.Incident, &incident}} {
		if x.text == "" {
			continue
		}
		s, err := finding.ParseSeverity(x.text)
		if err != nil {
			return nil, fault.New(fault.Invalid, "severity: %w", err)
		}
		*x.to = s
	}
	t := &threat.Threat{
		Rule: b.Rule, Severity: severity, Tactic: threat.Tactic(b.Tactic), Group: b.Group, WorkloadID: triedWorkload, Last: b.At,
		Process: event.Process{Key: event.Key{PID: 2, Start: 1}},
	}
	if b.Host {
		t.WorkloadID = ""
	}
	if b.External {
		t.Peers = []threat.Peer{{Address: netip.MustParseAddrPort(triedPeer), Peer: event.Peer{Kind: event.PeerPublic}}}
	}
	theme := b.Theme
	if theme == "" {
		theme = a.detections.Theme(q.ctx, b.Rule)
	}
	all, problems, err := a.respond.Try(q.ctx, q.who, b.Text, t, respond.Case{Theme: theme, Incident: max(severity, incident), Name: b.Name, At: b.At})
	return &body[respondTried]{respondTried{Theme: theme, Problems: policyProblemsOf(problems), Rules: list(all)}}, err
}
