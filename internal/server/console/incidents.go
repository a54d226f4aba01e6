package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/incidents"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// Incidents keeps the stories that threats make; *incidents.Service satisfies it. It
// refuses what an identity may not do.
type Incidents interface {
	Incidents(ctx context.Context, who access.Identity, q store.IncidentQuery) ([]threat.Incident, error)
	Incident(ctx context.Context, who access.Identity, id int64) (threat.Incident, error)
	Totals(ctx context.Context, who access.Identity) (store.IncidentTotals, error)
	Rules(ctx context.Context, who access.Identity, r threat.Resolution) (map[string]int, error)
	Change(ctx context.Context, who access.Identity, id int64, c incidents.Change) (threat.Incident, error)
	Changed(ctx context.Context) (<-chan struct{}, error)
}

// incidentsData is the list of incidents.
type incidentsData struct {
	Filter  filter
	List    []threat.Incident
	Totals  store.IncidentTotals
	Hosts   map[string]string
	Pages   pages
	Live    string // where the list is followed, "" behind its first page
	Problem string // what is wrong with the filter
	Manage  bool   // who looks may resolve them
	Me      string // the name of who looks
	Comment string // why several are resolved, as it was typed
}

// incidentRoutes adds the pages of incidents.
func (c *Console) incidentRoutes(seen, done func(access.Scope, string, view)) {
	if c.Incidents == nil {
		return
	}
	seen(access.ReadIncidents, "GET /incidents", c.incidents)
	seen(access.ReadIncidents, "GET /incidents/live", c.incidentsLive)
	seen(access.ReadIncidents, "GET /incidents/{id}", c.incident)
	seen(access.ReadIncidents, "GET /incidents/{id}/live", c.incidentLive)
	seen(access.ReadIncidents, "GET /incidents/{id}/export", c.exportIncident)
	seen(access.ReadEvents, "GET /events/at", c.evidence)
	done(access.WriteIncidents, "POST /incidents/{id}", c.changeIncident)
	done(access.WriteIncidents, "POST /incidents/resolve", c.resolveIncidents)
	if c.Detections != nil {
		done(access.WriteDetect, "POST /incidents/{id}/silence", c.silenceIncident)
	}
}

func incidentFilter(v url.Values) filter {
	return newFilter("/incidents", []string{"text", "state", "severity", "group", "rule", "technique", "workload", "agent", "assignee", "since", "until"}, v)
}

func (c *Console) incidents(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readIncidents(r.Context(), v, r.URL.Query())
	if err != nil {
		return err
	}
	return c.show(w, r, status, incidentsBody(c.page(r, v, "incidents", "Incidents"), d, c.detectTabs(v)))
}

// readIncidents reads what the address asks for. A filter that makes no sense is told
// in the list, with the status that it gets.
func (c *Console) readIncidents(ctx context.Context, v visit, asked url.Values) (d incidentsData, status int, err error) {
	d.Filter, d.Manage, d.Me = incidentFilter(asked), v.who.May(access.WriteIncidents), v.who.Name
	if d.Totals, err = c.Incidents.Totals(ctx, v.who); err != nil {
		return d, 0, err
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return d, 0, err
	}
	q, err := incidentQuery(d.Filter, asked.Get("before"), v)
	var list []threat.Incident
	if err == nil {
		list, err = c.Incidents.Incidents(ctx, v.who, q)
	}
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	var more bool
	if d.List, more = onePage(list); more {
		d.Pages.Next = d.Filter.address("before", strconv.FormatInt(d.List[len(d.List)-1].ID, 10))
	}
	if q.Before != 0 {
		d.Pages.First = d.Filter.address()
	} else {
		d.Live = d.Filter.at("/incidents/live")
	}
	return d, http.StatusOK, nil
}

// activeWord asks for incidents that somebody must still do something about.
const activeWord = "active"

// incidentQuery reads what a filter asks for; before is where the page before ended.
func incidentQuery(f filter, before string, v visit) (q store.IncidentQuery, err error) {
	q = store.IncidentQuery{
		Group: f.get("group"), Rule: f.get("rule"), Technique: f.get("technique"), AgentID: f.get("agent"), Workload: f.get("workload"), Assignee: f.get("assignee"), Text: f.get("text"), Limit: onePageAnd,
	}
	switch s := threat.State(f.get("state")); {
	case s == activeWord:
		q.States = activeStates()
	case s != "" && !offered(incidentStates(), string(s)):
		return q, fault.New(fault.Invalid, "%.40q is no state of an incident", string(s)).With("choose one of the list")
	case s != "":
		q.States = []threat.State{s}
	}
	if s := f.get("severity"); s != "" {
		if q.Severity, err = finding.ParseSeverity(s); err != nil {
			return q, fault.New(fault.Invalid, "%.40q is no severity", s).With("choose one of the list")
		}
	}
	if s := f.get("since"); s != "" {
		if q.Since, err = query.Time(s, v.now); err != nil {
			return q, err
		}
	}
	if s := f.get("until"); s != "" {
		if q.Until, err = query.Time(s, v.now); err != nil {
			return q, err
		}
	}
	if before != "" {
		if q.Before, err = strconv.ParseInt(before, 10, 64); err != nil || q.Before < 1 {
			return q, fault.New(fault.Invalid, "no page of the list ends at %.60q", before)
		}
	}
	return q, nil
}

// incidentsLive sends the list anew when something of an incident changed.
func (c *Console) incidentsLive(w http.ResponseWriter, r *http.Request, v visit) error {
	asked := r.URL.Query()
	d, status, err := c.readIncidents(r.Context(), v, asked)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Invalid, "%s", d.Problem)
	}
	address := d.Filter.at("/incidents/live")
	if d.Manage {
		address += "#manage" // there are boxes to choose them in it
	}
	return c.followChanges(w, r, address, tabPause, c.Incidents.Changed, func(ctx context.Context) (templ.Component, error) {
		d, _, err := c.readIncidents(ctx, visit{who: v.who, now: c.Clock()}, asked)
		return incidentsPart(c.bare(), d), err
	})
}

// incidentData is the page of one incident.
type incidentData struct {
	threat.Incident
	Hosts     map[string]string
	Workloads map[string]asset.Workload // those that are still known
	Roots     []*incidentNode
	Acts      []actOn            // what may be done about its containers by who looks
	Deeds     []respond.Response // what people and rules did about them, the newest first
	Before    []threat.Incident  // of the same rule in the same group, the newest first
	Manage    bool
	Acting    bool   // who looks may act on containers
	Silences  bool   // who looks may silence rules
	Me        string // the name of who looks
	Problem   string
	Comment   string
	Silence   silenceForm
}

// silenceForm is what was typed into the form that silences a rule.
type silenceForm struct{ Rule, Groups, About, Reason string }

// incidentNode is a process in the tree of an incident.
type incidentNode struct {
	threat.Node
	Children []*incidentNode
}

func incidentHref(id int64) string { return fmt.Sprintf("/incidents/%d", id) }

func (c *Console) incident(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	d, err := c.readIncident(r.Context(), v, id)
	if err != nil {
		return err
	}
	if d.ID != id { // it became part of another
		redirect(w, r, incidentHref(d.ID))
		return nil
	}
	return c.showIncident(w, r, v, http.StatusOK, d)
}

func (c *Console) showIncident(w http.ResponseWriter, r *http.Request, v visit, status int, d incidentData) error {
	return c.show(w, r, status, incidentBody(c.page(r, v, "incidents", fmt.Sprintf("Incident %d", d.ID)), d))
}

func (c *Console) readIncident(ctx context.Context, v visit, id int64) (d incidentData, err error) {
	d.Manage, d.Me = v.who.May(access.WriteIncidents), v.who.Name
	if d.Incident, err = c.Incidents.Incident(ctx, v.who, id); err != nil {
		return d, err
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return d, err
	}
	d.Workloads = map[string]asset.Workload{}
	for _, id := range d.Incident.Workloads[:min(len(d.Incident.Workloads), workloadsShown)] {
		switch one, err := c.Store.Workload(ctx, id); {
		case err == nil:
			d.Workloads[id] = one
		case !fault.Is(err, fault.NotFound):
			return d, err
		}
	}
	d.Roots = incidentTree(d.Processes)
	if d.Before, err = c.sameBefore(ctx, v, &d.Incident); err != nil {
		return d, err
	}
	return d, c.readActs(ctx, v, &d)
}

// sameShown is how many incidents of before are named.
const sameShown = 5

// sameBefore reads incidents of the gravest rule of one, in its first group.
func (c *Console) sameBefore(ctx context.Context, v visit, i *threat.Incident) ([]threat.Incident, error) {
	if len(i.Rules) == 0 {
		return nil, nil
	}
	q := store.IncidentQuery{Rule: i.Rules[0].Rule, Limit: sameShown, Before: i.ID}
	if len(i.Groups) > 0 {
		q.Group = i.Groups[0]
	}
	return c.Incidents.Incidents(ctx, v.who, q)
}

// actsShown is for how many containers of an incident there are buttons.
const actsShown = 5

// readActs reads what may be done about the containers of an incident, and what was.
func (c *Console) readActs(ctx context.Context, v visit, d *incidentData) error {
	d.Silences = c.Detections != nil && v.who.May(access.WriteDetect)
	if c.Responses == nil || !v.who.May(access.ReadResponse) {
		return nil
	}
	d.Acting = v.who.May(access.ManageResponse)
	for _, id := range d.Incident.Workloads[:min(len(d.Incident.Workloads), workloadsShown)] {
		list, err := c.Responses.Responses(ctx, v.who, id)
		if err != nil {
			return err
		}
		d.Deeds = append(d.Deeds, list...)
		one, known := d.Workloads[id]
		if !known || !one.State.Runs() || !d.Acting || len(d.Acts) >= actsShown {
			continue
		}
		a := actOn{Workload: one, Incident: d.ID}
		a.Process, a.What = worst(d.Processes, id)
		a.standing(list)
		d.Acts = append(d.Acts, a)
	}
	slices.SortStableFunc(d.Deeds, func(a, b respond.Response) int { return b.Deed.Asked.Compare(a.Deed.Asked) })
	d.Deeds = d.Deeds[:min(len(d.Deeds), deedsShown)]
	return nil
}

// deedsShown is how many responses stand beside an incident; its timeline has all.
const deedsShown = 10

// workloadsShown is how many containers of an incident are named; the API has all.
const workloadsShown = 20

// incidentTree links processes to their parents, which come before them.
func incidentTree(all []threat.Node) (roots []*incidentNode) {
	type place struct{ agent, key string }
	at := map[place]*incidentNode{}
	for _, p := range all {
		n := &incidentNode{Node: p}
		if parent := at[place{p.AgentID, p.Parent.String()}]; parent != nil && !p.Parent.IsZero() {
			parent.Children = append(parent.Children, n)
		} else {
			roots = append(roots, n)
		}
		at[place{p.AgentID, p.Key.String()}] = n
	}
	return roots
}

// incidentLive sends what happened anew when something of an incident changed.
func (c *Console) incidentLive(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	d, err := c.readIncident(r.Context(), v, id)
	if err != nil {
		return err
	}
	address := incidentHref(id) + "/live"
	if d.Acting {
		address += "#act" // there are buttons in it
	}
	return c.followChanges(w, r, address, tabPause, c.Incidents.Changed, func(ctx context.Context) (templ.Component, error) {
		d, err := c.readIncident(ctx, visit{who: v.who, now: c.Clock()}, id)
		return incidentPart(c.bare(), d), err
	})
}

// changeIncident does what a form says. Why it can't is said above the forms.
func (c *Console) changeIncident(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	form := r.PostForm
	do := threat.Input(form.Get("do"))
	_, err = c.Incidents.Change(r.Context(), v.who, id, incidents.Change{
		Do: do, Assignee: form.Get("assignee"), Resolution: threat.Resolution(form.Get("resolution")), Comment: form.Get("comment"),
	})
	if err == nil {
		redirect(w, r, incidentHref(id)+"?done=incident-"+string(do))
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d, e := c.readIncident(r.Context(), v, id)
	if e != nil {
		return e
	}
	d.Problem, d.Comment = said, form.Get("comment")
	return c.showIncident(w, r, v, c.Status(err), d)
}

// resolveIncidents resolves those that were chosen of the list. What can't be is said
// above it, with those that remain.
func (c *Console) resolveIncidents(w http.ResponseWriter, r *http.Request, v visit) error {
	form := r.PostForm
	back := "/incidents"
	if u, err := url.Parse(localPath(form.Get("back"))); err == nil && u.Path == back {
		back = u.RequestURI()
	}
	if len(form["incident"]) == 0 {
		return c.unresolved(w, r, v, back, fault.New(fault.Invalid, "no incident was chosen").With("tick some of the list"))
	}
	for n, s := range form["incident"][:min(len(form["incident"]), store.DefaultPage)] {
		id, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			err = fault.New(fault.Invalid, "%.40q is no number of an incident", s)
		} else {
			_, err = c.Incidents.Change(r.Context(), v.who, id, incidents.Change{Do: threat.Resolve, Resolution: threat.Resolution(form.Get("resolution")), Comment: form.Get("comment")})
		}
		if err != nil {
			return c.unresolved(w, r, v, back, fmt.Errorf("%s resolved, then incident %.20s was not: %w", plural(n, "is", "are"), s, err))
		}
	}
	to := incidentFilter(nil)
	if u, err := url.Parse(back); err == nil {
		to = incidentFilter(u.Query())
	}
	redirect(w, r, to.address("done", "incidents-resolved"))
	return nil
}

// unresolved shows the list again, with why not all of the chosen ones are resolved.
func (c *Console) unresolved(w http.ResponseWriter, r *http.Request, v visit, back string, why error) error {
	said, ok := refused(why)
	if !ok {
		return why
	}
	u, err := url.Parse(back)
	if err != nil {
		return err
	}
	d, _, err := c.readIncidents(r.Context(), v, u.Query())
	if err != nil {
		return err
	}
	d.Problem, d.Comment = said, r.PostForm.Get("comment")
	return c.show(w, r, c.Status(why), incidentsBody(c.page(r, v, "incidents", "Incidents"), d, c.detectTabs(v)))
}

// silenceIncident has a rule of an incident not be heard for a while where it happened,
// and notes that in the incident. Why it can't is said above the forms.
func (c *Console) silenceIncident(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	form := r.PostForm
	typed := silenceForm{form.Get("rule"), form.Get("groups"), strings.TrimSpace(form.Get("about")), form.Get("comment")}
	made, err := c.silence(r.Context(), v, typed, form.Get("days"))
	if err == nil && v.who.May(access.WriteIncidents) {
		_, err = c.Incidents.Change(r.Context(), v.who, id, incidents.Change{
			Do: threat.Comment, Comment: fmt.Sprintf("rule %s is silenced in %s until %s: %s", made.Rule, orElse(strings.Join(made.Groups, ", "), "all groups"), day(made.Until), made.Reason),
		})
	}
	if err == nil {
		redirect(w, r, incidentHref(id)+"?done=silenced")
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d, e := c.readIncident(r.Context(), v, id)
	if e != nil {
		return e
	}
	d.Problem, d.Silence = said, typed
	return c.showIncident(w, r, v, c.Status(err), d)
}
