package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/server/respond"
)

// deedRoutes adds the pages on which people act on a workload.
func (c *Console) deedRoutes(seen, done func(access.Scope, string, view)) {
	seen(access.ManageResponse, "GET /responses/deeds/new", c.askDeed)
	done(access.ManageResponse, "POST /responses/deeds", c.doDeed)
	seen(access.ReadResponse, "GET /responses/deeds/{id}", c.deed)
	seen(access.ReadResponse, "GET /responses/deeds/{id}/live", c.deedLive)
	seen(access.ManageResponse, "GET /responses/deeds/{id}/snapshot", c.snapshot)
}

// deedForm is the page that says what a deed does to whom, and asks why.
type deedForm struct {
	Kind      response.Kind
	Workload  asset.Workload
	Host      string
	Away      bool   // the agent of its host has not reported for long
	Process   string // whom Kill ends: a process's key, or allOfIt; "" is not chosen yet
	Processes []span // that it may end
	Freeze    bool
	Files     bool
	Packets   string // a duration, "" for none
	Reason    string
	Incident  int64 // about which it is done; 0 about none
	Problem   string
}

// deedHref is where somebody is asked whether a deed is to be done.
func deedHref(k response.Kind, workload string, incident int64, process string) string {
	v := url.Values{"do": {string(k)}, "workload": {workload}}
	if incident != 0 {
		v.Set("incident", strconv.FormatInt(incident, 10))
	}
	if process != "" {
		v.Set("process", process)
	}
	return "/responses/deeds/new?" + v.Encode()
}

// back is where the form leads that is left.
func (d *deedForm) back() string {
	if d.Incident != 0 {
		return incidentHref(d.Incident)
	}
	return "/workloads/" + d.Workload.ID
}

// askDeed shows the form of a deed.
func (c *Console) askDeed(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readDeedForm(r.Context(), r.URL.Query(), v.now)
	if err != nil {
		return err
	}
	return c.showDeedForm(w, r, v, http.StatusOK, d)
}

func (c *Console) showDeedForm(w http.ResponseWriter, r *http.Request, v visit, status int, d deedForm) error {
	return c.show(w, r, status, deedFormBody(c.page(r, v, "incidents", deedTitle(d.Kind, &d.Workload)), d))
}

// readDeedForm reads what an address or a form names.
func (c *Console) readDeedForm(ctx context.Context, in url.Values, now time.Time) (d deedForm, err error) {
	d = deedForm{
		Kind: response.Kind(in.Get("do")), Process: in.Get("process"), Freeze: in.Has("freeze"), Files: in.Has("files"), Packets: in.Get("packets"), Reason: strings.TrimSpace(in.Get("reason")),
	}
	if !slices.Contains(response.Kinds(), d.Kind) {
		return d, fault.New(fault.Invalid, "%.40q is nothing that can be done", in.Get("do")).With("choose one of the buttons of an incident or a workload")
	}
	if s := in.Get("incident"); s != "" {
		if d.Incident, err = strconv.ParseInt(s, 10, 64); err != nil || d.Incident < 1 {
			return d, fault.New(fault.Invalid, "%.40q is no number of an incident", s)
		}
	}
	if d.Workload, err = c.Store.Workload(ctx, in.Get("workload")); err != nil {
		return d, err
	}
	hosts, err := c.hostNames(ctx)
	if err != nil {
		return d, err
	}
	d.Host = hostName(hosts, d.Workload.AgentID)
	if d.Away, err = c.isAway(ctx, d.Workload.AgentID, now); err != nil {
		return d, err
	}
	if d.Kind == response.Kill {
		d.Processes = c.processesOf(d.Workload.ID, d.Process)
	}
	return d, nil
}

// actsOf is what may be done about a workload; nil when it does not run, or who looks
// may do nothing.
func (c *Console) actsOf(ctx context.Context, v visit, w asset.Workload) (*actOn, error) {
	if c.Responses == nil || !v.who.May(access.ManageResponse) || !w.State.Runs() {
		return nil, nil
	}
	list, err := c.Responses.Responses(ctx, v.who, w.ID)
	if err != nil {
		return nil, err
	}
	a := &actOn{Workload: w}
	a.standing(list)
	return a, nil
}

// isAway reports that an agent has not reported for long: what is asked of it is
// refused.
func (c *Console) isAway(ctx context.Context, agentID string, now time.Time) (bool, error) {
	all, err := c.Store.Agents(ctx)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(all, func(a asset.Agent) bool { return a.ID == agentID })
	return i < 0 || all[i].Silent(now), nil
}

// processesShown is how many processes of a container a form offers to end; what an
// incident names is always among them.
const processesShown = 100

// processesOf lists the processes that may be ended: the one that is meant first,
// those that run, and all of them.
func (c *Console) processesOf(workload, meant string) (all []span) {
	running, _ := c.Tables.Tree(workload)
	gone := meant != "" && meant != allOfIt
	for i := range running {
		p := &running[i]
		if p.Ended != nil {
			continue
		}
		key := p.Process.Key.String()
		one := span{key, fmt.Sprintf("%d, %s", p.Process.Key.PID, runningCommand(p))}
		if key == meant {
			gone = false
			all = slices.Insert(all, 0, one)
		} else if len(all) < processesShown {
			all = append(all, one)
		}
	}
	if gone {
		all = slices.Insert(all, 0, span{meant, pidOf(meant) + ", of the incident; it is not seen running any more"})
	}
	if meant == "" || meant == allOfIt {
		all = slices.Insert(all, 0, span{"", "choose…"}) // nobody ends all of it by not looking
	}
	return append(all, span{allOfIt, "all processes of the container"})
}

// allOfIt stands for all processes of a container, in an address and a form.
const allOfIt = "all"

// pidOf is the pid of a process key as text.
func pidOf(key string) string {
	pid, _, _ := strings.Cut(key, "-")
	return pid
}

// doDeed has a deed done that somebody has confirmed. Why it can't be is said above
// the form, which stays as it was filled in.
func (c *Console) doDeed(w http.ResponseWriter, r *http.Request, v visit) error {
	form := r.PostForm
	d, err := c.readDeedForm(r.Context(), form, v.now)
	if err != nil {
		return err
	}
	q := respond.Ask{
		Kind: d.Kind, Workload: d.Workload.ID, Freeze: d.Freeze, Files: d.Files, DryRun: form.Has("try"), Reason: d.Reason,
	}
	if d.Kind == response.Kill && d.Process != allOfIt {
		q.Process = d.Process
	}
	switch {
	case d.Kind == response.Kill && d.Process == "":
		err = fault.New(fault.Invalid, "choose which processes are to end")
	case d.Reason == "":
		err = fault.New(fault.Invalid, "say why: whoever reads the incident or the audit log wants to know")
	case d.Packets != "":
		if q.Packets, err = query.Duration(d.Packets); err != nil {
			err = fault.New(fault.Invalid, "%.40q is no time to capture packets for", d.Packets).With("choose one of the list")
		}
	}
	var done respond.Response
	if err == nil {
		done, err = c.Responses.Ask(r.Context(), v.who, q)
	}
	if err == nil {
		redirect(w, r, responseHref(done.Deed.ID, d.Incident))
		return nil
	}
	said, ok := refused(err)
	if !ok && (fault.Is(err, fault.Denied) || fault.Is(err, fault.Unavailable) || fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unsupported)) {
		said, ok = sentence(err), true
	}
	if !ok {
		return err
	}
	d.Problem = said
	return c.showDeedForm(w, r, v, c.Status(err), d)
}

// responseHref is the page of one deed; incident is where whoever asked comes from.
func responseHref(id string, incident int64) string {
	return underIncident("/responses/deeds/"+url.PathEscape(id), incident)
}

// live is where a deed is followed.
func (d *deedData) live() string {
	return underIncident("/responses/deeds/"+url.PathEscape(d.Deed.ID)+"/live", d.Incident)
}

// underIncident is an address that knows from which incident somebody comes.
func underIncident(to string, incident int64) string {
	if incident != 0 {
		to += "?incident=" + strconv.FormatInt(incident, 10)
	}
	return to
}

// deedData is the page of one deed: how far it is, and what came of it.
type deedData struct {
	respond.Response
	Host     string
	Known    *asset.Workload // nil: its container is not kept any more
	Incident int64
	Manage   bool
	Audits   bool // who looks may read the audit log
}

func (c *Console) deed(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readDeed(r, v)
	if err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, deedBody(c.page(r, v, "incidents", deedHeading(&d)), d))
}

func (c *Console) readDeed(r *http.Request, v visit) (d deedData, err error) {
	d.Manage, d.Audits = v.who.May(access.ManageResponse), v.who.May(access.ReadAudit)
	if d.Response, err = c.Responses.Response(r.Context(), v.who, r.PathValue("id")); err != nil {
		return d, err
	}
	if n, err := strconv.ParseInt(r.URL.Query().Get("incident"), 10, 64); err == nil && n > 0 {
		d.Incident = n
	}
	hosts, err := c.hostNames(r.Context())
	if err != nil {
		return d, err
	}
	d.Host = hostName(hosts, d.AgentID)
	one, err := c.Store.Workload(r.Context(), d.Deed.Workload)
	switch {
	case err == nil:
		d.Known = &one
	case !fault.Is(err, fault.NotFound):
		return d, err
	}
	return d, nil
}

// deedLive sends a deed anew when it has ended, and when it was taken back. It asks
// the service as long as the stream lasts.
func (c *Console) deedLive(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readDeed(r, v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), streamFor)
	defer cancel()
	s, p := newStream(w), c.page(r, v, "incidents", "")
	for {
		p.Now = c.Clock()
		if s.sendNews(ctx, "part", deedPart(p, d)) != nil {
			return nil // the browser has gone
		}
		if !d.Answer.State.Ended() {
			turn, stop := context.WithTimeout(ctx, beat)
			_, err = c.Responses.Wait(turn, v.who, d.Deed.ID)
			stop()
			if err != nil {
				return nil
			}
		} else if !pace.Wait(ctx, beat) {
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if d, err = c.readDeed(r, v); err != nil {
			return nil // it is not kept any more; the browser asks again and is told
		}
	}
}

// downloadFor is how long an archive of the largest size may take: 256 MiB at 4 Mbit/s.
const downloadFor = 10 * time.Minute

// snapshot sends the archive that a deed made.
func (c *Console) snapshot(w http.ResponseWriter, r *http.Request, v visit) error {
	f, about, err := c.Responses.OpenSnapshot(r.Context(), v.who, r.PathValue("id"), strings.HasPrefix(orElse(r.Header.Get("Range"), "bytes=0-"), "bytes=0-"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	// A server without deadlines needs none set; the browser tells the rest.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadFor))
	h := w.Header()
	h.Set("Content-Type", "application/gzip")
	h.Set("Content-Disposition", `attachment; filename="castellan-`+about.ID+`.tar.gz"`)
	h.Set("Cache-Control", "no-store")
	http.ServeContent(w, r, "", about.Taken, f)
	return nil
}
