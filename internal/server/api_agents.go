package server

import (
	"net/http"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
)

type agentPage struct {
	Agents []asset.Agent `json:"agents" nullable:"false"`
}

type agentID struct {
	ID string `path:"id" maxLength:"64" doc:"The agent's id"`
}

func (a *api) agentRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/agents", id: "list-agents", tag: "agents", scope: access.ReadAgents,
		summary: "Agents and their hosts: kernel, sensors, what could be enforced there, what was lost",
	}, func(q ask[empty]) (*body[agentPage], error) {
		agents, err := a.st.Agents(q.ctx)
		return &body[agentPage]{agentPage{list(agents)}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/agents/{id}", id: "get-agent", tag: "agents", scope: access.ReadAgents,
		summary: "One agent",
	}, func(q ask[agentID]) (*body[asset.Agent], error) {
		g, err := a.st.Agent(q.ctx, q.input.ID)
		return &body[asset.Agent]{g}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/agents/{id}/processes", id: "get-agent-processes", tag: "agents", scope: access.ReadAgents,
		summary: "The processes of an agent's host that belong to no workload, now",
	}, func(q ask[agentID]) (*body[processTree], error) {
		if _, err := a.st.Agent(q.ctx, q.input.ID); err != nil {
			return nil, err
		}
		procs, known := a.tables.Host(q.input.ID)
		return &body[processTree]{processTree{Processes: list(procs), Known: known}}, nil
	})
}
