package server

import (
	"context"
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
)

type invitationPage struct {
	Invitations []access.Invitation `json:"invitations" nullable:"false" doc:"Newest first"`
}

type invitationForm struct {
	Body struct {
		Name      string `json:"name,omitempty" maxLength:"64" doc:"What it is for"`
		ExpiresIn int64  `json:"expires_in_seconds,omitempty" minimum:"0" maximum:"86400" doc:"How long its token is good; an hour unless given"`
	}
}

type newInvitation struct {
	Invitation  access.Invitation `json:"invitation"`
	Token       string            `json:"token" doc:"Good once, and shown this once"`
	Server      string            `json:"server" doc:"Address that the agent may reach this server by: the first of its names" example:"https://castellan.example.org:8600"`
	Fingerprint string            `json:"ca_fingerprint" doc:"Of the server's certificate authority: the agent trusts the server by it"`
}

type certificatePage struct {
	Certificates []access.Certificate `json:"certificates" nullable:"false" doc:"Newest first"`
}

type revocation struct {
	Revoked int `json:"revoked" doc:"How many certificates still held"`
}

// settingsState is what is kept and what holds.
type settingsState struct {
	Settings  asset.AgentSettings `json:"settings" doc:"As they were set here"`
	Effective asset.AgentSettings `json:"effective" doc:"What holds: the agent's own, else those of all agents"`
}

// settingsForm is asset.AgentSettings as people write it. Its Window is named
// by its unit.
type settingsForm struct {
	Body settingsBody
}

type settingsBody struct {
	SensorsOff     []string `json:"sensors_off,omitempty" maxItems:"32" nullable:"false" doc:"Sensors to switch off, by name, in addition to the agent's own flags"`
	SensitivePaths []string `json:"sensitive_paths,omitempty" maxItems:"200" nullable:"false" doc:"Files whose reading is to be told, as containers see them; * stands for any part of one name"`
	WindowNS       int64    `json:"window_ns,omitempty" minimum:"0" doc:"How long what was told of a container is only counted, in nanoseconds; 0 is the agent's default"`
}

func (b settingsBody) settings() asset.AgentSettings {
	return asset.AgentSettings{SensorsOff: b.SensorsOff, SensitivePaths: b.SensitivePaths, Window: time.Duration(b.WindowNS)}
}

type oneSettingsForm struct {
	ID   string `path:"id" maxLength:"64" doc:"The agent's id"`
	Body settingsBody
}

func (a *api) enrolRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/agents/invitations", id: "list-invitations", tag: "agents", scope: access.EnrolAgents,
		summary: "The invitations by which agents join",
	}, func(q ask[empty]) (*body[invitationPage], error) {
		all, err := a.enrol.Invitations(q.ctx, q.who)
		return &body[invitationPage]{invitationPage{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/agents/invitations", id: "invite-agent", tag: "agents", scope: access.InviteAgents,
		status: http.StatusCreated, summary: "Invite one agent; the answer has the token, once",
		about: "The token is good for one certificate: castellan agent join.",
	}, func(q ask[invitationForm]) (*body[newInvitation], error) {
		b := q.input.Body
		i, token, err := a.enrol.Invite(q.ctx, q.who, b.Name, time.Duration(b.ExpiresIn)*time.Second)
		return &body[newInvitation]{newInvitation{Invitation: i, Token: token, Server: a.address(), Fingerprint: a.CAFingerprint()}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/agents/certificates", id: "list-certificates", tag: "agents", scope: access.ReadAgents,
		summary: "The certificates that agents were given",
	}, func(q ask[empty]) (*body[certificatePage], error) {
		all, err := a.enrol.Certificates(q.ctx, q.who, "")
		return &body[certificatePage]{certificatePage{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/agents/{id}/certificates", id: "revoke-agent", tag: "agents", scope: access.EnrolAgents,
		summary: "Revoke an agent: it is cut off within a second",
		about:   "What it reported stays. It may join again with a new invitation.",
	}, func(q ask[agentID]) (*body[revocation], error) {
		n, err := a.enrol.Revoke(q.ctx, q.who, q.input.ID)
		return &body[revocation]{revocation{n}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/agents/{id}/snapshot", id: "ask-snapshot", tag: "agents", scope: access.ManageAgents,
		status: http.StatusNoContent, summary: "Ask an agent to report everything anew",
	}, func(q ask[agentID]) (*empty, error) {
		return &empty{}, a.direct.AskSnapshot(q.ctx, q.who, q.input.ID)
	})
	a.settingsRoutes()
}

func (a *api) settingsRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/agents/settings", id: "get-settings", tag: "agents", scope: access.ReadAgents,
		summary: "The settings of all agents that have none of their own",
	}, func(q ask[empty]) (*body[settingsState], error) { return a.settingsOf(q.ctx, q.who, "") })
	handle(a, route{
		method: http.MethodPut, path: "/agents/settings", id: "put-settings", tag: "agents", scope: access.ManageAgents,
		summary: "Replace the settings of all agents that have none of their own",
		about:   "Connected agents have them within a second. An empty body removes them.",
	}, func(q ask[settingsForm]) (*body[settingsState], error) {
		if err := a.direct.PutSettings(q.ctx, q.who, "", q.input.Body.settings()); err != nil {
			return nil, err
		}
		return a.settingsOf(q.ctx, q.who, "")
	})
	handle(a, route{
		method: http.MethodGet, path: "/agents/{id}/settings", id: "get-agent-settings", tag: "agents", scope: access.ReadAgents,
		summary: "The settings of one agent",
	}, func(q ask[agentID]) (*body[settingsState], error) {
		if _, err := a.st.Agent(q.ctx, q.input.ID); err != nil {
			return nil, err
		}
		return a.settingsOf(q.ctx, q.who, q.input.ID)
	})
	handle(a, route{
		method: http.MethodPut, path: "/agents/{id}/settings", id: "put-agent-settings", tag: "agents", scope: access.ManageAgents,
		summary: "Replace the settings of one agent",
		about:   "A connected agent has them within a second. An empty body removes them, and those of all agents hold again.",
	}, func(q ask[oneSettingsForm]) (*body[settingsState], error) {
		if _, err := a.st.Agent(q.ctx, q.input.ID); err != nil {
			return nil, err
		}
		if err := a.direct.PutSettings(q.ctx, q.who, q.input.ID, q.input.Body.settings()); err != nil {
			return nil, err
		}
		return a.settingsOf(q.ctx, q.who, q.input.ID)
	})
}

// settingsOf answers with what is kept under an id and what holds; it is also
// the answer to a change, whose maker may read what they made.
func (a *api) settingsOf(ctx context.Context, who access.Identity, id string) (*body[settingsState], error) {
	own, effective, err := a.direct.Settings(ctx, who, id)
	return &body[settingsState]{settingsState{Settings: own, Effective: effective}}, err
}
