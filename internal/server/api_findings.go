package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// LineFilters are the parameters by which secrets, faults and malware are
// selected; query.Findings reads them. It is exported because huma looks only at
// exported fields.
type LineFilters struct {
	Asked
	Severity string `query:"severity" doc:"The least severity: critical, high, medium, low, negligible"`
	Owner    string `query:"owner" doc:"Only in images of this owner, by name; - for those without one"`
	Running  bool   `query:"running" doc:"Only in images with running workloads"`
	Accepted bool   `query:"accepted" doc:"Accepted findings alone; without it there are none"`
	Text     string `query:"text" doc:"Part of a rule, check, title, path, name or fingerprint"`
	Key      string `query:"key" doc:"One finding by its key"`
	Offset   int    `query:"offset" minimum:"0" doc:"How many to pass over: next of the page before. The order may have changed meanwhile"`
	Limit    int    `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type fleetLineFilters struct {
	LineFilters
	Image string `query:"image" doc:"Id of one image"`
}

type imageLineFilters struct {
	LineFilters
	ID string `path:"id" maxLength:"128" doc:"The engine's image id"`
}

type linePage struct {
	Findings []store.FindingLine `json:"findings" nullable:"false" doc:"One a line for each finding over all images, the gravest first, then the newest"`
	Next     int                 `json:"next,omitempty" doc:"The parameter offset of the next page; absent on the last"`
}

type imageLinePage struct {
	Findings []store.Finding `json:"findings" nullable:"false" doc:"The gravest first"`
	Next     int             `json:"next,omitempty" doc:"The parameter offset of the next page; absent on the last"`
}

type lineKey struct {
	Key string `path:"key" maxLength:"64" doc:"The finding's key, as lists show it"`
}

// findingDetail is one finding and the images that have it.
type findingDetail struct {
	Open     []store.Finding `json:"open" nullable:"false" doc:"In one image each, where it counts"`
	Accepted []store.Finding `json:"accepted" nullable:"false" doc:"In one image each, where somebody lives with it"`
}

type trendFilters struct {
	Kind string `path:"kind" doc:"vulnerability, secret, fault or malware" enum:"vulnerability,secret,fault,malware"`
	Days int    `query:"days" minimum:"0" maximum:"400" doc:"How many days back; 30 unless given"`
}

type trendPage struct {
	Days []store.TrendDay `json:"days" nullable:"false" doc:"Of what runs, a line a day (UTC) and severity, the oldest first; a day on which the server did not run is absent"`
}

// defaultTrend is how far a trend goes back.
const defaultTrend = 30

// findingWord is what a kind is called where there are several of it.
func findingWord(k store.FindingKind) string {
	switch k {
	case store.KindSecret:
		return "secrets"
	case store.KindFault:
		return "faults"
	}
	return string(k)
}

func (a *api) findingRoutes() {
	for _, kind := range store.FindingKinds() {
		word := findingWord(kind)
		handle(a, route{
			method: http.MethodGet, path: "/" + word, id: "list-" + word, tag: word, scope: access.ReadImages,
			summary: "The " + word + " of all images, the gravest first",
			about:   map[bool]string{true: "The value of a secret is in no field and in no database; a fingerprint is made with the installation's salt."}[kind == store.KindSecret],
		}, func(q ask[fleetLineFilters]) (*body[linePage], error) { return a.listLines(q, kind) })
		handle(a, route{
			method: http.MethodGet, path: "/" + word + "/{key}", id: "get-" + word, tag: word, scope: access.ReadImages,
			summary: "One of the " + word + ": the images that have it",
		}, func(q ask[lineKey]) (*body[findingDetail], error) { return a.showFinding(q, kind) })
		handle(a, route{
			method: http.MethodGet, path: "/images/{id}/" + word, id: "list-image-" + word, tag: "images", scope: access.ReadImages,
			summary: "The " + word + " of one image, the gravest first",
		}, func(q ask[imageLineFilters]) (*body[imageLinePage], error) { return a.listImageLines(q, kind) })
	}
	handle(a, route{
		method: http.MethodGet, path: "/trends/{kind}", id: "get-trend", tag: "findings", scope: access.ReadImages,
		summary: "How many findings of a kind were open each day, became new, and were resolved",
		about:   "Only what runs counts: a finding is resolved when no running workload's image has it any more.",
	}, func(q ask[trendFilters]) (*body[trendPage], error) {
		back := time.Duration(max(q.input.Days, 0)) * 24 * time.Hour
		if back == 0 {
			back = defaultTrend * 24 * time.Hour
		}
		days, err := a.st.Trend(q.ctx, store.FindingKind(q.input.Kind), a.cfg.Clock().Add(-back))
		return &body[trendPage]{trendPage{list(days)}}, err
	})
	a.ownerRoutes()
}

func (a *api) listLines(q ask[fleetLineFilters], kind store.FindingKind) (*body[linePage], error) {
	fq, err := query.Findings(kind, q.input.values)
	if err != nil {
		return nil, err
	}
	fq.Limit = pageOf(fq.Limit)
	found, err := a.st.FindingLines(q.ctx, fq)
	if err != nil {
		return nil, err
	}
	return &body[linePage]{linePage{Findings: list(found), Next: nextOffset(fq.Offset, fq.Limit, len(found))}}, nil
}

func (a *api) listImageLines(q ask[imageLineFilters], kind store.FindingKind) (*body[imageLinePage], error) {
	fq, err := query.Findings(kind, q.input.values)
	if err != nil {
		return nil, err
	}
	fq.Limit = pageOf(fq.Limit)
	if _, err := a.st.Image(q.ctx, q.input.ID); err != nil {
		return nil, err // an unknown image is not one without findings
	}
	fq.ImageID = q.input.ID
	found, err := a.st.FindingsIn(q.ctx, fq)
	if err != nil {
		return nil, err
	}
	return &body[imageLinePage]{imageLinePage{Findings: list(found), Next: nextOffset(fq.Offset, fq.Limit, len(found))}}, nil
}

func (a *api) showFinding(q ask[lineKey], kind store.FindingKind) (*body[findingDetail], error) {
	var d findingDetail
	for _, part := range []struct {
		accepted bool
		to       *[]store.Finding
	}{{false, &d.Open}, {true, &d.Accepted}} {
		found, err := a.st.FindingsIn(q.ctx, store.FindingQuery{Kind: kind, Key: q.input.Key, Accepted: part.accepted, Limit: store.MaxPage})
		if err != nil {
			return nil, err
		}
		*part.to = list(found)
	}
	if len(d.Open)+len(d.Accepted) == 0 {
		return nil, fault.New(fault.NotFound, "no image has a finding %.64q among its %s", q.input.Key, findingWord(kind))
	}
	return &body[findingDetail]{d}, nil
}

type ownerPage struct {
	Owners asset.Owners `json:"owners" nullable:"false" doc:"In their order; the last that fits an image decides"`
}

type ownerForm struct {
	Body asset.OwnerRule
}

type ownerPattern struct {
	Asked
	Image string `query:"image" maxLength:"512" doc:"Pattern of the rule, of images"`
	Group string `query:"group" maxLength:"512" doc:"Pattern of the rule, of groups"`
}

func (a *api) ownerRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/owners", id: "list-owners", tag: "owners", scope: access.ReadImages,
		summary: "Who is responsible for which images",
	}, func(q ask[empty]) (*body[ownerPage], error) {
		rules, err := a.images.Owners(q.ctx, q.who)
		return &body[ownerPage]{ownerPage{list(rules)}}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/owners", id: "set-owner", tag: "owners", scope: access.ManageImages, status: http.StatusNoContent,
		summary: "Say who is responsible for the images that a pattern names, or that the groups run which it names",
		about:   "A rule with the same pattern is replaced where it stands; a new one is the last, and so decides before all others.",
	}, func(q ask[ownerForm]) (*empty, error) {
		return &empty{}, a.images.SetOwner(q.ctx, q.who, q.input.Body)
	})
	handle(a, route{
		method: http.MethodDelete, path: "/owners", id: "remove-owner", tag: "owners", scope: access.ManageImages,
		status: http.StatusNoContent, summary: "Take a rule of owners away, by its pattern",
	}, func(q ask[ownerPattern]) (*empty, error) {
		return &empty{}, a.images.RemoveOwner(q.ctx, q.who, asset.OwnerRule{Image: q.input.Image, Group: q.input.Group})
	})
}
