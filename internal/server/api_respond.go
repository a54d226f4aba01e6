package server

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
)

// maxResponseWait bounds how long a request waits for the end of a response, in
// seconds: requests have half a minute altogether.
const maxResponseWait = 20

type respondForm struct {
	Body struct {
		Kind     string `json:"kind" enum:"kill,quarantine,release,stop,snapshot,revoke,reinstate" doc:"What is to be done"`
		Workload string `json:"workload" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"The container's id"`
		Process  string `json:"process,omitempty" maxLength:"40" doc:"Of kill: pid-start, as GET /workloads/{id}/processes has it, or a pid on the host; else all of the container"`
		Freeze   bool   `json:"freeze,omitempty" doc:"Of quarantine: all processes stand still, too"`
		Packets  int    `json:"packets,omitempty" minimum:"0" maximum:"60" doc:"Of snapshot: for how many seconds packets are captured"`
		Values   bool   `json:"values,omitempty" doc:"Of snapshot: with the values of environment variables, which are secrets"`
		Files    bool   `json:"files,omitempty" doc:"Of snapshot: with the content of small changed files and of programs"`
		DryRun   bool   `json:"dry_run,omitempty" doc:"Change nothing: say what would be done"`
		Reason   string `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit log"`
	}
}

type responseQuery struct {
	Workload string `query:"workload" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"Of this workload alone"`
	Standing bool   `query:"standing" doc:"Those alone that are under way, or hold until they are undone"`
}

type responseList struct {
	Responses []respond.Response `json:"responses" nullable:"false" doc:"The newest first: all that are under way or hold, and the newest of the others; the audit log has all"`
}

// ResponseID names a response. It is exported because huma looks only at exported
// fields.
type ResponseID struct {
	ID   string `path:"id" maxLength:"64"`
	Wait int    `query:"wait" minimum:"0" maximum:"20" doc:"Seconds to wait for its end"`
}

func (a *api) respondRoutes() {
	handle(a, route{
		method: http.MethodPost, path: "/respond", id: "respond", tag: "respond", scope: access.ManageResponse, status: http.StatusAccepted,
		summary: "Do something about a threat in a workload", about: "Its agent is told at once and must be connected. GET /respond/{id} tells what came of it.",
	}, func(q ask[respondForm]) (*body[respond.Response], error) {
		b := &q.input.Body
		r, err := a.respond.Ask(q.ctx, q.who, respond.Ask{
			Kind: response.Kind(b.Kind), Workload: b.Workload, Process: b.Process, Freeze: b.Freeze, DryRun: b.DryRun, Reason: b.Reason,
			Packets: time.Duration(b.Packets) * time.Second, Values: b.Values, Files: b.Files,
		})
		return &body[respond.Response]{r}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/respond", id: "list-responses", tag: "respond", scope: access.ReadResponse,
		summary: "What was done about threats lately, and what came of it",
	}, func(q ask[responseQuery]) (*body[responseList], error) {
		all, err := a.respond.Responses(q.ctx, q.who, q.input.Workload)
		if q.input.Standing {
			all = slices.DeleteFunc(all, func(r respond.Response) bool { return !r.Standing() })
		}
		return &body[responseList]{responseList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/respond/{id}", id: "get-response", tag: "respond", scope: access.ReadResponse,
		summary: "What came of one response",
	}, func(q ask[ResponseID]) (*body[respond.Response], error) {
		ctx, cancel := context.WithTimeout(q.ctx, min(time.Duration(q.input.Wait), maxResponseWait)*time.Second)
		defer cancel()
		r, err := a.respond.Wait(ctx, q.who, q.input.ID)
		return &body[respond.Response]{r}, err
	})
}
