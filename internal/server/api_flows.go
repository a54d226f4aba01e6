package server

import (
	"net/http"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// flowFilters are the parameters of GET /flows; query.Flows reads them.
type flowFilters struct {
	Asked
	Workload string `query:"workload" doc:"Id of the workload, 64 hex digits"`
	Group    string `query:"group" doc:"Group: cluster/service/container, or docker/name" example:"shop/storefront/storefront"`
	Since    string `query:"since" doc:"From: RFC 3339, or how long ago; a day ago unless given. The hour it falls into counts whole" example:"24h"`
	Until    string `query:"until" doc:"To: RFC 3339, or how long ago; now unless given"`
	Limit    int    `query:"limit" minimum:"0" maximum:"5000" doc:"How many at most; 5000 unless given"`
}

type flowPage struct {
	Flows []store.Flow `json:"flows" nullable:"false" doc:"Busiest first"`
	// Full says that there may be more than the limit let through.
	Full bool `json:"full,omitempty" doc:"As many as the limit allows: there may be more"`
}

func (a *api) flowRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/flows", id: "list-flows", tag: "events", scope: access.ReadEvents,
		summary: "Who talks with whom: connections added up per workload, peer and port, busiest first",
		about:   "Counted by the hour: those that since and until fall into count whole.",
	}, a.listFlows)
}

func (a *api) listFlows(q ask[flowFilters]) (*body[flowPage], error) {
	fq, err := query.Flows(q.input.values, a.cfg.Clock())
	if err != nil {
		return nil, err
	}
	flows, err := a.st.Flows(q.ctx, fq)
	if err != nil {
		return nil, err
	}
	return &body[flowPage]{flowPage{Flows: list(flows), Full: len(flows) == fq.Limit}}, nil
}
