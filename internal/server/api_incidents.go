package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/incidents"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// maxIncidentBody bounds a body with a comment in it, which may be all escapes.
const maxIncidentBody = 8 * threat.MaxComment

type incidentQuery struct {
	State     []string  `query:"state,explode" enum:"open,assigned,resolved,reopened" maxItems:"4" doc:"May be repeated; any unless given"`
	Severity  string    `query:"severity" enum:"negligible,low,medium,high,critical" doc:"This grave at least"`
	Group     string    `query:"group" maxLength:"512" doc:"cluster/service/container; a trailing * stands for any rest"`
	Rule      string    `query:"rule" maxLength:"256" doc:"A rule that fired"`
	Agent     string    `query:"agent" maxLength:"64" doc:"Id of an agent on whose host it happened"`
	Workload  string    `query:"workload" maxLength:"64" doc:"Id of a container in which it happened"`
	Assignee  string    `query:"assignee" maxLength:"256" doc:"To whom it is assigned"`
	Technique string    `query:"technique" maxLength:"16" pattern:"^(T[0-9]{1,4}(\\.[0-9]{1,3})?)?$" doc:"A technique of MITRE ATT&CK, or its beginning: T1059 is T1059.004, too"`
	Since     time.Time `query:"since" doc:"Its newest threat happened from then on, by the agents' clocks"`
	Until     time.Time `query:"until" doc:"Its newest threat happened before then"`
	Text      string    `query:"text" maxLength:"256" doc:"Part of its title, its story, or a name in it"`
	Before    int64     `query:"before" minimum:"0" doc:"Continue behind this incident"`
	Limit     int       `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type incidentTotals struct {
	States map[threat.State]int `json:"states"`
	Active map[string]int       `json:"active" doc:"Those that are not resolved, by severity"`
}

type incidentList struct {
	Incidents []threat.Incident `json:"incidents" nullable:"false" doc:"The newest first, in brief: without processes, peers, files, weaknesses and timeline"`
	Totals    incidentTotals    `json:"totals" doc:"Of all incidents"`
}

// IncidentNumber names an incident. It is exported because huma looks only at exported
// fields.
type IncidentNumber struct {
	ID int64 `path:"id" minimum:"1"`
}

type incidentForm struct {
	IncidentNumber
	Body struct {
		Do         string `json:"do" enum:"assign,unassign,comment,resolve,reopen" doc:"What is done about it"`
		Assignee   string `json:"assignee,omitempty" maxLength:"256" doc:"Of assign: to whom; to who asks unless given"`
		Resolution string `json:"resolution,omitempty" enum:",attack,test,harmless,false-alarm" doc:"Of resolve: what came of it"`
		Comment    string `json:"comment,omitempty" maxLength:"8192" doc:"What is to be said about it; of comment it must be there"`
		Revision   int64  `json:"revision,omitempty" minimum:"0" doc:"The revision that you know: refused when there is a newer one"`
	}
}

func (a *api) incidentRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/detect/incidents", id: "list-incidents", tag: "detect", scope: access.ReadIncidents,
		summary: "Incidents: threats and violations that belong together",
	}, a.listIncidents)
	handle(a, route{
		method: http.MethodGet, path: "/detect/incidents/{id}", id: "get-incident", tag: "detect", scope: access.ReadIncidents,
		summary: "One incident with all it has", about: "The id of one that became part of another leads to that other.",
	}, func(q ask[IncidentNumber]) (*body[threat.Incident], error) {
		i, err := a.incidents.Incident(q.ctx, q.who, q.input.ID)
		return &body[threat.Incident]{whole(i)}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/detect/incidents/{id}/changes", id: "change-incident", tag: "detect", scope: access.WriteIncidents, most: maxIncidentBody,
		summary: "Assign, comment, resolve or reopen an incident",
	}, func(q ask[incidentForm]) (*body[threat.Incident], error) {
		b := &q.input.Body
		i, err := a.incidents.Change(q.ctx, q.who, q.input.ID, incidents.Change{
			Do: threat.Input(b.Do), Assignee: b.Assignee, Resolution: threat.Resolution(b.Resolution), Comment: b.Comment, Revision: b.Revision,
		})
		return &body[threat.Incident]{whole(i)}, err
	})
}

func (a *api) listIncidents(q ask[incidentQuery]) (*body[incidentList], error) {
	in := q.input
	f := store.IncidentQuery{
		Group: in.Group, Rule: in.Rule, AgentID: in.Agent, Workload: in.Workload, Assignee: in.Assignee,
		Technique: in.Technique, Since: in.Since, Until: in.Until, Text: in.Text, Before: in.Before, Limit: in.Limit,
	}
	for _, s := range in.State {
		f.States = append(f.States, threat.State(s))
	}
	if in.Severity != "" {
		s, err := finding.ParseSeverity(in.Severity)
		if err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
		f.Severity = s
	}
	all, err := a.incidents.Incidents(q.ctx, q.who, f)
	if err != nil {
		return nil, err
	}
	totals, err := a.incidents.Totals(q.ctx, q.who)
	for i := range all {
		all[i] = whole(all[i])
	}
	out := incidentTotals{States: totals.States, Active: map[string]int{}}
	for severity, n := range totals.Active {
		out.Active[severity.String()] = n
	}
	return &body[incidentList]{incidentList{list(all), out}}, err
}

// whole has lists where nothing may be missing.
func whole(i threat.Incident) threat.Incident {
	i.Rules, i.Agents = list(i.Rules), list(i.Agents)
	return i
}
