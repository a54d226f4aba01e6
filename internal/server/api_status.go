package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/store"
)

// overview is the state of the whole, as the command status prints it.
type overview struct {
	Version       string           `json:"version" doc:"Version of the server"`
	Started       time.Time        `json:"started" doc:"When the server started"`
	CAFingerprint string           `json:"ca_fingerprint" doc:"Fingerprint of the server's certificate authority, to be given to agents"`
	Store         *store.Health    `json:"store,omitempty" doc:"What the store says of itself; absent while it does not answer"`
	Conditions    []live.Condition `json:"conditions" nullable:"false" doc:"What is wrong with the server now"`
	Agents        agentCount       `json:"agents"`
	Workloads     workloadCount    `json:"workloads"`
	EventsStored  uint64           `json:"events_stored" doc:"Events stored since the server started"`
	Losses        []asset.Loss     `json:"losses" nullable:"false" doc:"Events seen and not stored: on the server since it started, on each agent since that started"`
}

type agentCount struct {
	Total  int `json:"total"`
	Silent int `json:"silent" doc:"Agents not heard of for 15 s"`
}

type workloadCount struct {
	Running int  `json:"running"`
	More    bool `json:"more,omitempty" doc:"There are more than could be counted"`
}

// maxCounted bounds how many workloads a status counts.
const maxCounted = 10 * store.MaxPage

func (a *api) statusRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/status", id: "status", tag: "status", scope: access.ReadAgents,
		summary: "The state of the whole: version, store, agents, what is wrong, what was lost",
	}, a.status)
}

func (a *api) status(q ask[empty]) (*body[overview], error) {
	o := overview{
		Version: a.cfg.Version, Started: a.started, CAFingerprint: a.CAFingerprint(),
		Conditions: list(a.conditions.List()), Losses: list(a.conditions.Losses()), EventsStored: a.intake.Stored(),
	}
	// A store that does not answer is among the conditions; the rest is still
	// worth telling.
	h, err := a.storeHealth(q.ctx)
	a.condition(q.ctx, partHealth, err)
	if err != nil {
		o.Conditions = list(a.conditions.List())
		return &body[overview]{o}, nil
	}
	o.Store = &h
	agents, err := a.st.Agents(q.ctx)
	if err != nil {
		return nil, err
	}
	now := a.cfg.Clock()
	o.Agents.Total = len(agents)
	for _, g := range agents {
		if g.Silent(now) {
			o.Agents.Silent++
		}
		for _, l := range g.Losses {
			if l.Count > 0 {
				o.Losses = append(o.Losses, asset.Loss{Where: g.Hostname + ": " + l.Where, Count: l.Count})
			}
		}
	}
	o.Workloads, err = a.countRunning(q)
	return &body[overview]{o}, err
}

func (a *api) countRunning(q ask[empty]) (workloadCount, error) {
	var n workloadCount
	wq := store.WorkloadQuery{States: []asset.State{asset.Running}, Limit: store.MaxPage}
	for n.Running < maxCounted {
		page, err := a.st.Workloads(q.ctx, wq)
		if err != nil {
			return n, err
		}
		n.Running += len(page)
		if len(page) < store.MaxPage {
			return n, nil
		}
		wq.After = page[len(page)-1].ID
	}
	n.More = true
	return n, nil
}
