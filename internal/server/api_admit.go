package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/store"
)

// maxAsk bounds the body of a request that is to be decided on.
const maxAsk = store.MaxAdmissionRequest

type admitAsk struct{ Body admission.Request }

type admitTrial struct {
	Body struct {
		Text    string            `json:"text" maxLength:"262144" doc:"The policy"`
		Request admission.Request `json:"request"`
	}
}

type admitPolicyForm struct {
	Body struct {
		Text    string `json:"text" maxLength:"262144" doc:"The policy"`
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why it is changed"`
		After   int64  `json:"after" minimum:"0" doc:"The version that was changed, 0 for none: it must be the newest still"`
	}
}

type admitPolicyList struct {
	Policies []store.AdmissionPolicy `json:"policies" nullable:"false" doc:"Without their texts, the newest first"`
}

// AdmitFilters are the filters of a list of verdicts, and of a replay. They are
// exported because huma looks only at exported fields.
type AdmitFilters struct {
	Outcome string    `query:"outcome" json:"outcome,omitempty" enum:"deny,wait,allow" doc:"How it ended"`
	Door    string    `query:"door" json:"door,omitempty" enum:"docker,service,cloudformation,eventbridge,ci" doc:"Which door asked"`
	Rule    string    `query:"rule" json:"rule,omitempty" maxLength:"512" doc:"A rule that had something against it"`
	Group   string    `query:"group" json:"group,omitempty" maxLength:"512" doc:"Group that its containers are of: cluster/service/container"`
	Family  string    `query:"family" json:"family,omitempty" maxLength:"512" doc:"Family of the task definition"`
	Cluster string    `query:"cluster" json:"cluster,omitempty" maxLength:"512"`
	Service string    `query:"service" json:"service,omitempty" maxLength:"512"`
	Image   string    `query:"image" json:"image,omitempty" maxLength:"512" doc:"Digest of an image, the engine's id of it, or registry/repository"`
	Host    string    `query:"host" json:"host,omitempty" maxLength:"512" doc:"Agent on whose host it was to run"`
	Audited bool      `query:"audited" json:"audited,omitempty" doc:"Only those that a rule that only reports would have denied"`
	Since   time.Time `query:"since" json:"since,omitzero" doc:"From this time on, by the server's clock"`
	Until   time.Time `query:"until" json:"until,omitzero" doc:"Before this time"`
	Before  int64     `query:"before" json:"before,omitempty" minimum:"0" doc:"Continue behind this verdict"`
}

type admitVerdictQuery struct {
	AdmitFilters
	Limit int `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

func (f *AdmitFilters) query() store.AdmissionQuery {
	return store.AdmissionQuery{
		Outcome: admission.Outcome(f.Outcome), Door: admission.Door(f.Door), Rule: f.Rule, Group: asset.Group(f.Group), Family: f.Family, Cluster: f.Cluster,
		Service: f.Service, Image: f.Image, Host: f.Host, Audited: f.Audited, Since: f.Since, Until: f.Until, Before: f.Before,
	}
}

type admitVerdictList struct {
	Verdicts []store.AdmissionLine `json:"verdicts" nullable:"false" doc:"The newest first"`
	Totals   store.AdmissionTotals `json:"totals" doc:"Of the last thirty days, whatever was asked for"`
}

type admitVerdictName struct {
	ID string `path:"id" maxLength:"256" doc:"Number of the verdict, or id of the request"`
}

type admitReplayForm struct {
	Body struct {
		Text    string `json:"text,omitempty" maxLength:"262144" doc:"The policy; empty: the version"`
		Version int64  `json:"version,omitempty" minimum:"0" doc:"Version of the fleet's policy; the newest unless given"`
		AdmitFilters
		Limit int `json:"limit,omitempty" minimum:"0" maximum:"2000" doc:"How many requests are looked at, at most; 2000 unless given"`
	}
}

type admitExceptionForm struct {
	Body struct {
		Rules     []string  `json:"rules" minItems:"1" maxItems:"50" nullable:"false" doc:"Rules that it is an exception from"`
		Owner     string    `json:"owner" maxLength:"512" doc:"Who answers for it"`
		Reason    string    `json:"reason" maxLength:"2000" doc:"Why it can be lived with"`
		Expires   time.Time `json:"expires" doc:"When it ends, within a year"`
		Image     string    `json:"image,omitempty" maxLength:"512" doc:"Digest of an image, or a pattern of repositories"`
		Container string    `json:"container,omitempty" maxLength:"512"`
		Family    string    `json:"family,omitempty" maxLength:"512"`
		Service   string    `json:"service,omitempty" maxLength:"512"`
		Cluster   string    `json:"cluster,omitempty" maxLength:"512"`
		Subject   string    `json:"subject,omitempty" maxLength:"512" doc:"One thing alone: a CVE number, an id of a check"`
		Host      string    `json:"host,omitempty" maxLength:"512" doc:"Id of an agent"`
	}
}

type admitExceptionQuery struct {
	All bool `query:"all" doc:"Also those that are over"`
}

type admitExceptionList struct {
	Exceptions []store.AdmissionException `json:"exceptions" nullable:"false" doc:"The newest first"`
}

type admitExceptionName struct {
	ID string `path:"id" maxLength:"20" doc:"Number of the exception"`
}

type admitFactsQuery struct {
	Image []string `query:"image,explode" required:"true" maxItems:"32" doc:"repository@digest, or a digest alone; may be repeated"`
}

type admitFactsList struct {
	Facts []admission.Facts `json:"facts" nullable:"false" doc:"In the order of the images"`
}

// totalsFor is over how many days the totals beside a list are.
const totalsFor = 30

func (a *api) admitRoutes() {
	handle(a, route{
		method: http.MethodPost, path: "/admit/decide", id: "decide-admission", tag: "admit", scope: access.DecideAdmission, most: maxAsk,
		summary: "Whether something may be deployed, by the fleet's admission policy",
		about: "For the doors of deployment. The verdict is kept. Without a policy nothing is allowed. After \"wait\" ask again when the verdict says so. " +
			"An answer that is none of 200 says that nobody could decide.",
	}, func(q ask[admitAsk]) (*body[admission.Verdict], error) {
		v, err := a.gate.Decide(q.ctx, q.who, q.input.Body)
		return &body[admission.Verdict]{v}, err
	})
	a.admitPolicyRoutes()
	a.admitVerdictRoutes()
	handle(a, route{
		method: http.MethodGet, path: "/admit/exceptions", id: "list-admission-exceptions", tag: "admit", scope: access.ReadAdmission,
		summary: "The exceptions that hold",
	}, func(q ask[admitExceptionQuery]) (*body[admitExceptionList], error) {
		all, err := a.gate.Exceptions(q.ctx, q.who, q.input.All)
		return &body[admitExceptionList]{admitExceptionList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/admit/exceptions", id: "add-admission-exception", tag: "admit", scope: access.ManageAdmission,
		status: http.StatusCreated, summary: "Make an exception, for a time",
	}, func(q ask[admitExceptionForm]) (*body[store.AdmissionException], error) {
		b := &q.input.Body
		e, err := a.gate.Except(q.ctx, q.who, admission.Exception{
			Rules: b.Rules, Owner: b.Owner, Reason: b.Reason, Expires: b.Expires, Image: b.Image, Container: b.Container, Family: b.Family,
			Service: b.Service, Cluster: b.Cluster, Subject: b.Subject, Host: b.Host,
		})
		return &body[store.AdmissionException]{e}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/admit/exceptions/{id}", id: "withdraw-admission-exception", tag: "admit", scope: access.ManageAdmission,
		summary: "Withdraw an exception",
	}, func(q ask[admitExceptionName]) (*body[store.AdmissionException], error) {
		e, err := a.gate.Withdraw(q.ctx, q.who, q.input.ID)
		return &body[store.AdmissionException]{e}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/admit/facts", id: "get-admission-facts", tag: "admit", scope: access.ReadAdmission,
		summary: "What decisions know of images now",
	}, func(q ask[admitFactsQuery]) (*body[admitFactsList], error) {
		all, err := a.gate.Facts(q.ctx, q.who, q.input.Image)
		return &body[admitFactsList]{admitFactsList{list(all)}}, err
	})
}

func (a *api) admitPolicyRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/admit/policy", id: "get-admission-policy", tag: "admit", scope: access.ReadAdmission,
		summary: "The admission policy: what may be deployed",
	}, func(q ask[policyVersion]) (*body[store.AdmissionPolicy], error) {
		p, err := a.gate.Policy(q.ctx, q.who, q.input.Version)
		return &body[store.AdmissionPolicy]{p}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/admit/policy", id: "put-admission-policy", tag: "admit", scope: access.ManageAdmission,
		summary: "Change the admission policy", about: "It holds at once, and agents are told.",
	}, func(q ask[admitPolicyForm]) (*body[store.AdmissionPolicy], error) {
		b := &q.input.Body
		p, err := a.gate.SetPolicy(q.ctx, q.who, b.Text, b.Comment, b.After)
		return &body[store.AdmissionPolicy]{p}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/admit/policies", id: "list-admission-policies", tag: "admit", scope: access.ReadAdmission,
		summary: "Who changed the admission policy, when and why",
	}, func(q ask[policyPage]) (*body[admitPolicyList], error) {
		all, err := a.gate.Policies(q.ctx, q.who, q.input.Before, q.input.Limit)
		return &body[admitPolicyList]{admitPolicyList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/admit/policy/check", id: "check-admission-policy", tag: "admit", scope: access.ReadAdmission,
		summary: "What is wrong with a text as an admission policy",
	}, func(q ask[policyText]) (*body[policyProblems], error) {
		problems, err := a.gate.Check(q.who, q.input.Body.Text)
		told := []policyProblem{}
		for _, p := range problems {
			told = append(told, policyProblem{p.Line, p.Column, p.Text, p.Remedy})
		}
		return &body[policyProblems]{policyProblems{told}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/admit/policy/try", id: "try-admission-policy", tag: "admit", scope: access.ReadAdmission, most: maxAsk + store.MaxAdmissionPolicy,
		summary: "What a request would come to by a text as the policy", about: "With what is known now. It is not kept.",
	}, func(q ask[admitTrial]) (*body[admission.Verdict], error) {
		v, err := a.gate.Try(q.ctx, q.who, q.input.Body.Text, q.input.Body.Request)
		return &body[admission.Verdict]{v}, err
	})
}

func (a *api) admitVerdictRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/admit/verdicts", id: "list-admission-verdicts", tag: "admit", scope: access.ReadAdmission,
		summary: "What was asked for, and how it ended",
	}, func(q ask[admitVerdictQuery]) (*body[admitVerdictList], error) {
		f := q.input.query()
		f.Limit = q.input.Limit
		all, err := a.gate.Verdicts(q.ctx, q.who, f)
		if err != nil {
			return nil, err
		}
		totals, err := a.gate.Totals(q.ctx, q.who, a.cfg.Clock().AddDate(0, 0, -totalsFor))
		return &body[admitVerdictList]{admitVerdictList{list(all), totals}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/admit/verdicts/{id}", id: "get-admission-verdict", tag: "admit", scope: access.ReadAdmission,
		summary: "One verdict with its request, all reasons, and what was known of the images",
	}, func(q ask[admitVerdictName]) (*body[gate.Record], error) {
		v, err := a.gate.Verdict(q.ctx, q.who, q.input.ID)
		return &body[gate.Record]{v}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/admit/replay", id: "replay-admission", tag: "admit", scope: access.ReadAdmission,
		summary: "What requests of the past would come to by another policy",
		about: "With what was known of their images then. A part at a time, the newest first: repeat with \"before\" as \"next\" says, until there is none. " +
			"One replay runs at a time.",
	}, func(q ask[admitReplayForm]) (*body[gate.Replayed], error) {
		b := &q.input.Body
		r := gate.Replay{Text: b.Text, Version: b.Version, Of: b.query()}
		r.Of.Limit = b.Limit
		out, err := a.gate.Replay(q.ctx, q.who, r)
		return &body[gate.Replayed]{out}, err
	})
}
