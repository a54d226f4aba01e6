package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// tab is one view of a workload, with an address of its own.
type tab struct{ Name, Label string }

// tabs lists the views, the overview first: its address has no name.
func tabs() []tab {
	return []tab{
		{"", "Overview"}, {"processes", "Processes"}, {"files", "Files"}, {"connections", "Connections"},
		{"dns", "DNS"}, {"resources", "Resources"},
	}
}

// tabHref is the address of a view.
func (d workloadData) tabHref(name string) string {
	if name == "" {
		return "/workloads/" + d.ID
	}
	return "/workloads/" + d.ID + "/" + name
}

// live reports that something can still happen in the workload.
func (d workloadData) live() bool {
	return d.State.Runs() || d.State == asset.Created
}

// tabData is one view of a workload.
type tabData struct {
	workloadData
	Tab     string
	Windows []window // of time, where there is a choice
	Window  window
	Files   []fileLine
	Flows   []store.Flow
	Names   []nameLine
	Plots   []plot
	Events  []event.Event // of resources
	Read    int           // events that were grouped
	Cut     bool          // there is more than is shown
	Reached *time.Time    // how far a search came that ended early
	Peers   map[string]string
}

// workloadTab answers with one view of a workload.
func (c *Console) workloadTab(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readTab(r, r.PathValue("tab"), v.now)
	if err != nil {
		return err
	}
	if d.Trust, err = c.trustOf(r.Context(), v, d.Workload); err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, tabBody(c.page(r, v, "workloads", workloadName(d.Workload)), d))
}

// readTab reads the workload and what the view shows.
func (c *Console) readTab(r *http.Request, name string, now time.Time) (tabData, error) {
	ctx := r.Context()
	one, err := c.Store.Workload(ctx, r.PathValue("id"))
	if err != nil {
		return tabData{}, err
	}
	d := tabData{workloadData: workloadData{Workload: one, Host: one.AgentID}, Tab: name}
	read := map[string]func(context.Context, *tabData, time.Time) error{
		"processes": c.readProcesses, "files": c.readFiles, "connections": c.readFlows, "dns": c.readNames, "resources": c.readSamples,
	}[name]
	if read == nil {
		return tabData{}, fault.New(fault.NotFound, "a workload has no page called %q", name)
	}
	switch name {
	case "connections":
		d.Windows = flowWindows()
	case "resources":
		d.Windows = sampleWindows()
	}
	if d.Windows != nil {
		d.Window = pick(d.Windows, r.URL.Query().Get("since"))
	}
	return d, read(ctx, &d, now)
}

func (c *Console) readProcesses(_ context.Context, d *tabData, _ time.Time) error {
	procs, known := c.Tables.Tree(d.ID)
	d.Tree = newTree(procs, known, d.AgentID)
	return nil
}

// readEvents reads the newest events of a sensor to be grouped. Where the store
// bounds its search before the page is full it is asked on, a few times.
func (c *Console) readEvents(ctx context.Context, d *tabData, sensor string) ([]event.Event, error) {
	q := store.EventQuery{WorkloadID: d.ID, Kinds: query.Kinds(sensor), Limit: groupedEvents}
	var found []event.Event
	for range searches {
		page, err := c.Store.Events(ctx, q)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Events...)
		d.Cut, d.Reached = page.Next != 0, page.Reached
		if !page.Partial || page.Next == 0 || len(found) >= groupedEvents {
			break
		}
		q.Before, q.Limit = page.Next, groupedEvents-len(found)
	}
	d.Read = len(found)
	return found, nil
}

func (c *Console) readFiles(ctx context.Context, d *tabData, _ time.Time) error {
	events, err := c.readEvents(ctx, d, "file")
	d.Files = byPath(events)
	if len(d.Files) > linesShown {
		d.Files, d.Cut = d.Files[:linesShown], true
	}
	return err
}

func (c *Console) readNames(ctx context.Context, d *tabData, _ time.Time) error {
	events, err := c.readEvents(ctx, d, "dns")
	d.Names = byName(events)
	if len(d.Names) > linesShown {
		d.Names, d.Cut = d.Names[:linesShown], true
	}
	return err
}

func (c *Console) readFlows(ctx context.Context, d *tabData, now time.Time) (err error) {
	d.Flows, err = c.Store.Flows(ctx, store.FlowQuery{WorkloadID: d.ID, Since: now.Add(-d.Window.Long), Until: now, Limit: linesShown + 1})
	if len(d.Flows) > linesShown {
		d.Flows, d.Cut = d.Flows[:linesShown], true
	}
	if err != nil {
		return err
	}
	d.Peers, err = c.hostNames(ctx)
	return err
}

// hostNames are what the hosts of the agents are called.
func (c *Console) hostNames(ctx context.Context) (map[string]string, error) {
	agents, err := c.Store.Agents(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(agents))
	for _, a := range agents {
		names[a.ID] = a.Hostname
	}
	return names, nil
}

func (c *Console) readSamples(ctx context.Context, d *tabData, now time.Time) error {
	since := now.Add(-d.Window.Long)
	samples, err := c.Store.Samples(ctx, d.ID, since, now, (d.Window.Long / pointsShown).Truncate(time.Second))
	if err != nil {
		return err
	}
	if len(samples) > 0 {
		d.Plots = plots(samples, since, now)
	}
	page, err := c.Store.Events(ctx, store.EventQuery{WorkloadID: d.ID, Kinds: query.Kinds("resource"), Limit: recentShown})
	d.Events = page.Events
	return err
}

// tabPause is the least time between two updates of a view: each reads the
// store.
const tabPause = 2 * time.Second

// tabLive sends a view anew when something of its kind happened in the
// workload, and now and then besides: what is shown fades, and samples come
// without events.
func (c *Console) tabLive(w http.ResponseWriter, r *http.Request, v visit) error {
	name := r.PathValue("tab")
	sensor := map[string]string{"files": "file", "connections": "network", "dns": "dns", "resources": "resource"}[name]
	if sensor == "" { // the tree has a stream of its own
		return fault.New(fault.NotFound, "no page called %q is followed here", name)
	}
	d, err := c.readTab(r, name, c.Clock())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), streamFor)
	defer cancel()
	sub, err := c.Feed.Subscribe(ctx, query.Match(store.EventQuery{WorkloadID: d.ID, Kinds: query.Kinds(sensor)}))
	if err != nil {
		return err
	}
	s, p := newStream(w), c.page(r, v, "workloads", "")
	quiet := time.NewTicker(beat)
	defer quiet.Stop()
	for {
		p.Now = c.Clock()
		if s.send(ctx, "part", "", tabPart(p, d)) != nil || !pace.Wait(ctx, tabPause) {
			return nil // the browser has gone, or must come back
		}
		select {
		case <-ctx.Done():
			return nil
		case <-sub.C():
			drained(sub.C())
		case <-quiet.C:
		}
		if d, err = c.readTab(r, name, c.Clock()); err != nil {
			c.Log.Warn("live view not read", "workload", r.PathValue("id"), "tab", name, "error", err)
			return nil // the browser asks again
		}
	}
}

// drained takes what waits already: one read of the store has it all.
func drained(batches <-chan []event.Event) {
	for {
		select {
		case _, ok := <-batches:
			if !ok {
				return
			}
		default:
			return
		}
	}
}

// liveHref is where the view is followed, with the time that it shows.
func (d tabData) liveHref() string {
	href := d.tabHref(d.Tab) + "/live"
	if d.Windows != nil {
		href += "?since=" + d.Window.Word
	}
	return href
}

// byLength orders windows as they are offered, the shortest first.
func byLength(all []window) []window {
	return slices.SortedFunc(slices.Values(all), func(a, b window) int { return cmp.Compare(a.Long, b.Long) })
}

// reachedWords say how far back the store looked, when that is not all.
func (d tabData) reachedWords() string {
	if d.Reached == nil {
		return ""
	}
	return ", of what was looked through, back to " + moment(*d.Reached)
}

// yet ends the sentence that nothing was found.
func (d tabData) yet() string {
	if d.Reached == nil {
		return " yet."
	}
	return " since " + moment(*d.Reached) + "."
}
