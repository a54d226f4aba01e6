package server

import (
	"encoding/json"
	"net/http"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

type policyVersion struct {
	Version int64 `query:"version" minimum:"0" doc:"Which version; the newest unless given"`
}

type policyForm struct {
	Body struct {
		Text    string `json:"text" maxLength:"262144" doc:"The policy. Keys, certificates and trusted roots stand in it, below pem: it can't name files"`
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why it is changed"`
		After   int64  `json:"after" minimum:"0" doc:"The version that was changed, 0 for none: it must be the newest still"`
	}
}

type policyText struct {
	Body struct {
		Text string `json:"text" maxLength:"262144" doc:"The policy"`
	}
}

type policyTrial struct {
	Body struct {
		Text       string `json:"text" maxLength:"262144" doc:"The policy"`
		Repository string `json:"repository,omitempty" maxLength:"512" doc:"With digest, only this image, and with the whole explanation"`
		Digest     string `json:"digest,omitempty" maxLength:"160"`
	}
}

type policyTried struct {
	Problems []policyProblem          `json:"problems" nullable:"false" doc:"What is wrong with the text; then there is nothing else"`
	Before   map[store.TrustState]int `json:"before,omitempty" doc:"Images that run by their states"`
	After    map[store.TrustState]int `json:"after,omitempty" doc:"The same by the states that they would have; anew: what is kept of it does not say, it would have to be verified anew"`
	Changes  []verify.Change          `json:"changes" nullable:"false" doc:"Images whose state would be another: those that would be denied first; a hundred of each state at most"`
	More     int                      `json:"more,omitempty" doc:"Changes that are not told"`
	Untried  int                      `json:"untried,omitempty" doc:"Images for which there was no time"`
	Image    *verify.Change           `json:"image,omitempty" doc:"The image that was asked for"`
	Verdict  any                      `json:"verdict,omitempty" doc:"On that image, step by step"`
}

// policyProblem is trust.Problem, under a name that errors of the API don't have.
type policyProblem struct {
	Line   int    `json:"line,omitempty" doc:"0: it is about the whole"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

type policyProblems struct {
	Problems []policyProblem `json:"problems" nullable:"false" doc:"What is wrong, in the order of the lines; none: it can be used"`
}

type policyPage struct {
	Before int64 `query:"before" minimum:"0" doc:"Continue behind this version"`
	Limit  int   `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type policyList struct {
	Policies []store.TrustPolicy `json:"policies" nullable:"false" doc:"Without their texts, the newest first"`
}

type trustFilters struct {
	State      string `query:"state" enum:"denied,undecided,local,waiting,allowed" doc:"What came of it"`
	Running    bool   `query:"running" doc:"Only images of which workloads run"`
	Signer     string `query:"signer" maxLength:"512" doc:"A signer's name in the policy, or an identity, exactly"`
	Repository string `query:"repository" maxLength:"512" doc:"Part of the repository's name"`
	Image      string `query:"image" maxLength:"128" doc:"The engine's id of the image"`
	After      int64  `query:"after" minimum:"0" doc:"Id of the last image of the page before"`
	Limit      int    `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type trustPage struct {
	Images []store.TrustImage `json:"images" nullable:"false" doc:"What runs first, then what ran, then what registries hold that are watched; each by state: denied, undecided, local, waiting, allowed"`
	Totals store.TrustTotals  `json:"totals" doc:"Of all images that run"`
}

type trustName struct {
	Repository string `query:"repository" required:"true" maxLength:"512" doc:"Full name of the repository"`
	Digest     string `query:"digest" required:"true" maxLength:"160" doc:"Digest of the image"`
}

type trustVerdict struct {
	store.TrustImage
	Verdict any `json:"verdict,omitempty" doc:"All of it, step by step; none before it was decided"`
}

func (a *api) trustRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/trust/policy", id: "get-trust-policy", tag: "trust", scope: access.ReadImages,
		summary: "The trust policy: who must have signed images",
	}, func(q ask[policyVersion]) (*body[store.TrustPolicy], error) {
		p, err := a.trust.Policy(q.ctx, q.who, q.input.Version)
		return &body[store.TrustPolicy]{p}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/trust/policy", id: "put-trust-policy", tag: "trust", scope: access.ManageTrust,
		summary: "Change the trust policy", about: "All images that run are then verified anew.",
	}, func(q ask[policyForm]) (*body[store.TrustPolicy], error) {
		b := &q.input.Body
		p, err := a.trust.SetPolicy(q.ctx, q.who, b.Text, b.Comment, b.After)
		return &body[store.TrustPolicy]{p}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/trust/policy/check", id: "check-trust-policy", tag: "trust", scope: access.ReadImages,
		summary: "What is wrong with a text as a trust policy",
	}, func(q ask[policyText]) (*body[policyProblems], error) {
		problems, err := a.trust.Check(q.who, q.input.Body.Text)
		return &body[policyProblems]{policyProblems{problemsOf(problems)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/trust/policy/try", id: "try-trust-policy", tag: "trust", scope: access.ReadImages,
		summary: "What a text would say, as the trust policy, of what runs now",
		about:   "By what was found of the images before: no registry is asked, and nothing changes.",
	}, a.tryPolicy)
	handle(a, route{
		method: http.MethodGet, path: "/trust/policies", id: "list-trust-policies", tag: "trust", scope: access.ReadImages,
		summary: "Who changed the trust policy, when and why",
	}, func(q ask[policyPage]) (*body[policyList], error) {
		all, err := a.trust.Policies(q.ctx, q.who, q.input.Before, q.input.Limit)
		return &body[policyList]{policyList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/trust/images", id: "list-trust-images", tag: "trust", scope: access.ReadImages,
		summary: "Images that run or ran, with who signed them and what the trust policy says",
	}, a.trustImages)
	handle(a, route{
		method: http.MethodGet, path: "/trust/image", id: "get-trust-image", tag: "trust", scope: access.ReadImages,
		summary: "One image, with all steps of its verdict",
	}, func(q ask[trustName]) (*body[trustVerdict], error) {
		v, err := a.trust.Image(q.ctx, q.who, q.input.Repository, q.input.Digest)
		out := trustVerdict{TrustImage: v}
		if len(v.Details) > 0 {
			out.Verdict = json.RawMessage(v.Details)
		}
		return &body[trustVerdict]{out}, err
	})
}

func (a *api) trustImages(q ask[trustFilters]) (*body[trustPage], error) {
	in := q.input
	all, err := a.trust.Images(q.ctx, q.who, store.TrustQuery{
		State: store.TrustState(in.State), Running: in.Running, Signer: in.Signer, Repository: in.Repository,
		ImageID: in.Image, After: in.After, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	totals, err := a.trust.Totals(q.ctx, q.who)
	return &body[trustPage]{trustPage{list(all), totals}}, err
}

func problemsOf(problems []trust.Problem) []policyProblem {
	told := []policyProblem{}
	for _, p := range problems {
		told = append(told, policyProblem{p.Line, p.Column, p.Text, p.Remedy})
	}
	return told
}

func (a *api) tryPolicy(q ask[policyTrial]) (*body[policyTried], error) {
	in := &q.input.Body
	if (in.Repository == "") != (in.Digest == "") {
		return nil, fault.New(fault.Invalid, "an image has a repository and a digest: one of them is missing")
	}
	if in.Repository == "" {
		t, err := a.trust.Try(q.ctx, q.who, in.Text)
		return &body[policyTried]{policyTried{
			Problems: problemsOf(t.Problems), Before: t.Before, After: t.After, Changes: list(t.Changes), More: t.More, Untried: t.Untried,
		}}, err
	}
	t, err := a.trust.TryImage(q.ctx, q.who, in.Text, in.Repository, in.Digest)
	out := policyTried{Problems: problemsOf(t.Problems), Changes: []verify.Change{}}
	if err == nil && len(t.Problems) == 0 {
		out.Image = &t.Change
	}
	if t.Verdict != nil {
		out.Verdict = t.Verdict
	}
	return &body[policyTried]{out}, err
}
