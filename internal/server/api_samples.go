package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// sampleFilters are the parameters of GET /workloads/{id}/samples.
type sampleFilters struct {
	Asked
	ID    string `path:"id" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"The container's id, 64 hex digits"`
	Since string `query:"since" doc:"From: RFC 3339, or how long ago; an hour ago unless given" example:"1h"`
	Until string `query:"until" doc:"To: RFC 3339, or how long ago; now unless given"`
	Step  string `query:"step" doc:"The last sample of each step; as many as fit into one answer unless given" example:"1m"`
}

type samplePage struct {
	Step    float64        `json:"step_seconds" doc:"Length of a step; 0: all samples"`
	Samples []asset.Sample `json:"samples" nullable:"false" doc:"Oldest first"`
	Full    bool           `json:"full,omitempty" doc:"As many as one answer holds: there may be later ones"`
}

func (a *api) sampleRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/workloads/{id}/samples", id: "list-workload-samples", tag: "workloads", scope: access.ReadWorkloads,
		summary: "What one workload used over time: CPU, memory, processes, descriptors, disk, network",
		about: "Counters grow from the container's start and begin anew when it is started again: a rate is the difference of two " +
			"samples divided by the time between them. A field named in missing could not be told on that host.",
	}, a.listSamples)
	handle(a, route{
		method: http.MethodGet, path: "/usage", id: "list-usage", tag: "workloads", scope: access.ReadWorkloads,
		summary: "What all workloads use now: the newest sample of each, with the rates since the one before",
	}, func(ask[empty]) (*body[usagePage], error) {
		now := a.tables.Usage()
		page := usagePage{Usage: make([]workloadUsage, 0, len(now))}
		for _, u := range now {
			page.Usage = append(page.Usage, workloadUsage{Sample: u.Sample, Rates: u.Rates})
		}
		return &body[usagePage]{page}, nil
	})
}

type usagePage struct {
	Usage []workloadUsage `json:"usage" nullable:"false" doc:"In no order; a workload of which nothing was heard for a minute is missing"`
}

// workloadUsage is live.WorkloadUsage by a name of its own: the document has one Usage
// already, an agent's.
type workloadUsage struct {
	Sample asset.Sample `json:"sample" doc:"The newest"`
	Rates  *asset.Rates `json:"rates,omitempty" doc:"Since the sample before; absent while there was none"`
}

func (a *api) listSamples(q ask[sampleFilters]) (*body[samplePage], error) {
	since, until, step, err := query.Samples(q.input.values, a.cfg.Clock())
	if err != nil {
		return nil, err
	}
	if _, err := a.st.Workload(q.ctx, q.input.ID); err != nil {
		return nil, err
	}
	samples, err := a.st.Samples(q.ctx, q.input.ID, since, until, step)
	if err != nil {
		return nil, err
	}
	return &body[samplePage]{samplePage{
		Step: float64(step) / float64(time.Second), Samples: list(samples), Full: len(samples) == store.MaxSamples,
	}}, nil
}
