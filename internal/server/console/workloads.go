package console

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// recentShown is how many events the page of one workload shows.
const recentShown = 12

// workloadsData is the list of workloads.
type workloadsData struct {
	Filter  filter
	List    []asset.Workload
	Pages   pages
	Problem string // what is wrong with the filter
	Running int    // on this page
	// Marks are the states of images that may not run, by trustName.
	Marks map[string]store.TrustState
}

func (c *Console) workloads(w http.ResponseWriter, r *http.Request, v visit) error {
	d := workloadsData{Filter: workloadFilter(r.URL.Query())}
	status := http.StatusOK
	q, err := query.Workloads(d.Filter.values("after", r.URL.Query().Get("after")))
	if err != nil {
		if d.Problem, status, err = c.unlisted(err); err != nil {
			return err
		}
	} else if err := c.listWorkloads(r, &d, q); err != nil {
		return err
	} else if d.Marks, err = c.trustMarks(r.Context(), v); err != nil {
		return err
	}
	return c.show(w, r, status, workloadsBody(c.page(r, v, "workloads", "Workloads"), d))
}

func (c *Console) listWorkloads(r *http.Request, d *workloadsData, q store.WorkloadQuery) error {
	q.Limit = onePageAnd
	list, err := c.Store.Workloads(r.Context(), q)
	if fault.Is(err, fault.Invalid) && q.After != "" { // the one to continue behind is gone
		d.Problem = "The list has changed meanwhile. Begin at its first page."
		return nil
	}
	if err != nil {
		return err
	}
	var more bool
	if d.List, more = onePage(list); len(d.List) > 0 {
		d.Pages = afterPages(d.Filter, d.List[len(d.List)-1].ID, more, q.After == "")
	}
	for _, w := range d.List {
		if w.State == asset.Running {
			d.Running++
		}
	}
	return nil
}

// workloadData is the page of one workload.
type workloadData struct {
	asset.Workload
	Host  string            // of its agent
	Known *store.Image      // what is known of its image, nil for nothing
	Trust *store.TrustImage // what the trust policy says of its image, nil for nothing
	// Behaviour is what the profile of its group does, nil for nothing.
	Act       *actOn // nil: who looks may not act, or it does not run
	Behaviour *store.BehaviourGroup
	Traits    []trait
	Tree      tree
	Recent    []event.Event
	Chart     chart
}

func (c *Console) workload(w http.ResponseWriter, r *http.Request, v visit) error {
	ctx := r.Context()
	one, err := c.Store.Workload(ctx, r.PathValue("id"))
	if err != nil {
		return err
	}
	d := workloadData{Workload: one, Host: one.AgentID, Traits: isolation(one)}
	switch a, err := c.Store.Agent(ctx, one.AgentID); {
	case err == nil:
		d.Host = a.Hostname
	case !fault.Is(err, fault.NotFound):
		return err
	}
	if d.Known, err = c.imageOf(ctx, v, one); err != nil {
		return err
	}
	if d.Trust, err = c.trustOf(ctx, v, one); err != nil {
		return err
	}
	if d.Behaviour, err = c.behaviourOf(ctx, v, one); err != nil {
		return err
	}
	recent, err := c.Store.Events(ctx, store.EventQuery{
		WorkloadID: one.ID, Kinds: []event.Kind{event.KindExec, event.KindExit}, Limit: recentShown,
	})
	if err != nil {
		return err
	}
	d.Recent = recent.Events
	since, until := lastHour(v.now)
	rates, err := c.Store.EventRate(ctx, one.ID, since, until, time.Minute)
	if err != nil {
		return err
	}
	d.Chart = newChart(rates, since, until)
	procs, known := c.Tables.Tree(one.ID)
	d.Tree = newTree(procs, known, one.AgentID)
	if d.Act, err = c.actsOf(ctx, v, one); err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, workloadBody(c.page(r, v, "workloads", workloadName(one)), d))
}

// imageOf returns what is known of a workload's image; nil when it is not known
// or not for who looks.
func (c *Console) imageOf(ctx context.Context, v visit, w asset.Workload) (*store.Image, error) {
	if w.Image.ID == "" || !v.who.May(access.ReadImages) {
		return nil, nil
	}
	m, err := c.Store.Image(ctx, w.Image.ID)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return &m, err
}

// behaviourOf returns how a workload's group behaves; nil when nothing is known of it
// or not for who looks.
func (c *Console) behaviourOf(ctx context.Context, v visit, w asset.Workload) (*store.BehaviourGroup, error) {
	if c.Watch == nil || !v.who.May(access.ReadBehaviour) {
		return nil, nil
	}
	g, err := c.Watch.Group(ctx, v.who, w.Group)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return &g.BehaviourGroup, err
}

// risky returns the traits that ask for attention.
func (d workloadData) risky() (n int) {
	for _, t := range d.Traits {
		if t.Tone == danger {
			n++
		}
	}
	for _, m := range d.Settings.Mounts {
		if mountTrait(m).Tone == danger {
			n++
		}
	}
	return n
}

// task is "family:revision", as the task definition is called.
func task(e asset.ECS) string {
	if e.Family == "" {
		return ""
	}
	return strings.TrimSuffix(e.Family+":"+e.Revision, ":")
}
