package server

import (
	"net/http"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/query"
)

// workloadFilters are the parameters of GET /workloads; query.Workloads reads
// them.
type workloadFilters struct {
	Asked
	Agent   string   `query:"agent" doc:"Id of the agent on whose host they run"`
	Group   string   `query:"group" doc:"Group: cluster/service/container, or docker/name" example:"shop/storefront/storefront"`
	Cluster string   `query:"cluster" doc:"Name of the ECS cluster"`
	Image   string   `query:"image" doc:"The engine's id of the image that they run, sha256: and 64 hex digits"`
	State   []string `query:"state" doc:"States, with commas: created, running, paused, exited, lost"`
	Text    string   `query:"text" doc:"Part of name, group, image reference or id"`
	After   string   `query:"after" doc:"Id of the last workload of the page before"`
	Limit   int      `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type workloadPage struct {
	Workloads []asset.Workload `json:"workloads" nullable:"false" doc:"Running ones first, then the newest"`
	Next      string           `json:"next,omitempty" doc:"The parameter after of the next page; absent on the last"`
}

type workloadID struct {
	ID string `path:"id" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"The container's id, 64 hex digits"`
}

type processTree struct {
	Processes []event.Running `json:"processes" nullable:"false" doc:"Oldest first: those that run and those that ended in the last minutes"`
	Known     bool            `json:"known" doc:"False while the agent has not sent its process table: an empty list says nothing then"`
}

func (a *api) workloadRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/workloads", id: "list-workloads", tag: "workloads", scope: access.ReadWorkloads,
		summary: "Workloads: running first, then newest first",
	}, a.listWorkloads)
	handle(a, route{
		method: http.MethodGet, path: "/workloads/{id}", id: "get-workload", tag: "workloads", scope: access.ReadWorkloads,
		summary: "One workload",
	}, func(q ask[workloadID]) (*body[asset.Workload], error) {
		w, err := a.st.Workload(q.ctx, q.input.ID)
		return &body[asset.Workload]{w}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/workloads/{id}/processes", id: "get-workload-processes", tag: "workloads",
		scope: access.ReadWorkloads, summary: "The processes of one workload, now",
	}, func(q ask[workloadID]) (*body[processTree], error) {
		if _, err := a.st.Workload(q.ctx, q.input.ID); err != nil {
			return nil, err
		}
		procs, known := a.tables.Tree(q.input.ID)
		return &body[processTree]{processTree{Processes: list(procs), Known: known}}, nil
	})
}

func (a *api) listWorkloads(q ask[workloadFilters]) (*body[workloadPage], error) {
	wq, err := query.Workloads(q.input.values)
	if err != nil {
		return nil, err
	}
	wq.Limit = pageOf(wq.Limit)
	ws, err := a.st.Workloads(q.ctx, wq)
	if err != nil {
		return nil, err
	}
	next := nextAfter(ws, wq.Limit, func(w *asset.Workload) string { return w.ID })
	return &body[workloadPage]{workloadPage{Workloads: list(ws), Next: next}}, nil
}

// list returns a list that is [] and never null in JSON.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
