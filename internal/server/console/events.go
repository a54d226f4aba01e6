package console

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// eventsData is the list of events.
type eventsData struct {
	Filter  filter
	List    []event.Event
	Older   string // address of the next page, or ""
	Newest  string // address of the first page, "" on it
	Live    string // address to follow, "" where following makes no sense
	Problem string
	// Partial says that the store stopped looking before the page was full, at
	// Reached: what it did not find may still be there.
	Partial bool
	Reached *time.Time
}

func (c *Console) events(w http.ResponseWriter, r *http.Request, v visit) error {
	d := eventsData{Filter: eventFilter(r.URL.Query())}
	before := r.URL.Query().Get("before")
	status := http.StatusOK
	q, err := query.Events(d.Filter.values("before", before), v.now)
	if err != nil {
		if d.Problem, status, err = c.unlisted(err); err != nil {
			return err
		}
	} else if err := c.listEvents(r, &d, q); err != nil {
		return err
	}
	return c.show(w, r, status, eventsBody(c.page(r, v, "events", "Events"), d))
}

// listEvents reads one page and where it goes on.
func (c *Console) listEvents(r *http.Request, d *eventsData, q store.EventQuery) error {
	found, err := c.Store.Events(r.Context(), q)
	if err != nil {
		return err
	}
	list := found.Events
	if found.Next != 0 {
		d.Older = d.Filter.address("before", strconv.FormatInt(found.Next, 10))
	}
	d.List, d.Partial, d.Reached = list, found.Partial, found.Reached
	if q.Before != 0 {
		d.Newest = d.Filter.address()
	}
	if q.Before == 0 && q.Until.IsZero() {
		d.Live = d.Filter.at("/events/live", "after", strconv.FormatInt(newest(list), 10))
	}
	return nil
}

func newest(list []event.Event) (id int64) {
	for _, e := range list {
		id = max(id, e.ID)
	}
	return id
}

// eventData is the page of one event.
type eventData struct {
	event.Event
	Workload *asset.Workload // nil for the host's, or when it is forgotten
	Host     string
}

func (c *Console) event(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return fault.New(fault.NotFound, "no event has the number %q", r.PathValue("id"))
	}
	ctx := r.Context()
	e, err := c.Store.Event(ctx, id)
	if err != nil {
		return err
	}
	d := eventData{Event: e, Host: e.AgentID}
	if e.WorkloadID != "" {
		one, err := c.Store.Workload(ctx, e.WorkloadID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil {
			d.Workload = &one
		}
	}
	switch a, err := c.Store.Agent(ctx, e.AgentID); {
	case err == nil:
		d.Host = a.Hostname
	case !fault.Is(err, fault.NotFound):
		return err
	}
	return c.show(w, r, http.StatusOK, eventBody(c.page(r, v, "events", "Event "+strconv.FormatInt(id, 10)), d))
}

// imageLayers are the layers of the workload's image; nil when not known.
func (d eventData) imageLayers() []string {
	if d.Workload == nil {
		return nil
	}
	return d.Workload.Image.Layers
}

// chain is the way from the oldest known ancestor down to the process itself.
func (d eventData) chain() []event.Ancestor {
	if d.Exec == nil {
		return nil
	}
	out := make([]event.Ancestor, 0, len(d.Exec.Ancestors)+1)
	for i := len(d.Exec.Ancestors) - 1; i >= 0; i-- {
		out = append(out, d.Exec.Ancestors[i])
	}
	return append(out, event.Ancestor{Key: d.Process.Key, Name: d.Process.Name, Executable: d.Process.Executable})
}

// where is the short name of what an event belongs to: the last part of its
// group is the container.
func where(e event.Event) string {
	if e.Group != "" {
		return e.Group
	}
	if e.WorkloadID != "" {
		return asset.ShortID(e.WorkloadID)
	}
	return "host"
}

// what is the text of an event in a list: the command line of an exec, the way
// of an end.
func what(e event.Event) string {
	switch {
	case e.Exec != nil && len(e.Exec.Args) > 0:
		return untrusted.CommandLine(e.Exec.Args)
	case e.Exit != nil:
		return exitWords(*e.Exit) + " after " + lasted(e.Exit.Lifetime)
	case e.Kind == event.KindFork:
		return "child of " + strconv.FormatUint(uint64(e.Process.Parent.PID), 10)
	}
	return says(e)
}

// shortGroup splits a group so that its last part, the container, can stand
// out.
func shortGroup(g string) (owner, name string) {
	i := strings.LastIndexByte(g, '/')
	return g[:i+1], g[i+1:]
}
