package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// EventFilters are the parameters of GET /events and its stream; query.Events
// reads them. It is exported because huma looks only at exported fields.
type EventFilters struct {
	Asked
	Kind       []string `query:"kind" doc:"Kinds of event, with commas: process.exec, file.write, … A sensor stands for all its kinds: file or file.*, network, dns, privilege, memory, resource" example:"file.*"`
	Agent      string   `query:"agent" doc:"Id of the agent that reported them"`
	Workload   string   `query:"workload" doc:"Id of the workload, 64 hex digits"`
	Group      string   `query:"group" doc:"Group: cluster/service/container, or docker/name" example:"shop/storefront/storefront"`
	Host       bool     `query:"host" doc:"Only events of the hosts themselves"`
	Executable string   `query:"executable" doc:"Path of the executable; a * at its end matches any rest" example:"/bin/*"`
	Process    string   `query:"process" doc:"Key of the process, as process.key shows it; with agent" example:"4711-81523000000"`
	Path       string   `query:"path" doc:"File that the event is about: exact, or with a * at its end for any rest" example:"/etc/*"`
	Peer       string   `query:"peer" doc:"Who was at the other end: an address, address:port, a name of the DNS, or a workload's id or group" example:"10.0.3.7:5432"`
	Origin     []string `query:"origin" doc:"Where executed files came from, with commas: image, written, mount, memory, host, unknown"`
	Entered    bool     `query:"entered" doc:"Only execs that came into a container from outside"`
	Text       string   `query:"text" doc:"Words, each the beginning of a word in executable, name, arguments, path, peer or name of the DNS"`
	Since      string   `query:"since" doc:"Not before: RFC 3339, or how long ago" example:"15m"`
	Until      string   `query:"until" doc:"Before: RFC 3339, or how long ago" example:"2026-11-23T10:00:00Z"`
	Before     int64    `query:"before" minimum:"0" doc:"Only ids below: next of the page before"`
	After      int64    `query:"after" minimum:"0" doc:"Only ids above, oldest first: for following"`
	Limit      int      `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type eventID struct {
	ID int64 `path:"id" minimum:"1" doc:"The event's id"`
}

// rateFilters are the parameters of GET /events/rate.
type rateFilters struct {
	Workload string `query:"workload" doc:"Id of one workload; all together unless given"`
	Since    string `query:"since" doc:"From: RFC 3339, or how long ago; a day ago unless given" example:"24h"`
	Until    string `query:"until" doc:"To: RFC 3339, or how long ago; now unless given"`
	Step     string `query:"step" doc:"Length of a bucket, at least 1m; the whole in some hundred buckets unless given" example:"15m"`
}

type ratePage struct {
	Step  int64        `json:"step_seconds" doc:"Length of a bucket"`
	Rates []store.Rate `json:"rates" nullable:"false" doc:"Buckets with events, by start and kind"`
}

// Limits of rates.
const (
	maxBuckets  = 2_000
	someBuckets = 100
	minStep     = time.Minute
)

func (a *api) eventRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/events", id: "list-events", tag: "events", scope: access.ReadEvents,
		summary: "Events, newest first",
		about: "All filters given must hold. A page that says partial ended because enough was read for one answer; " +
			"next goes on from there.",
	}, a.listEvents)
	handle(a, route{
		method: http.MethodGet, path: "/events/{id}", id: "get-event", tag: "events", scope: access.ReadEvents,
		summary: "One event",
	}, func(q ask[eventID]) (*body[event.Event], error) {
		e, err := a.st.Event(q.ctx, q.input.ID)
		return &body[event.Event]{e}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/events/rate", id: "get-event-rate", tag: "events", scope: access.ReadEvents,
		summary: "How many events of each kind, over time",
	}, a.eventRate)
}

func (a *api) listEvents(q ask[EventFilters]) (*body[store.EventPage], error) {
	eq, err := query.Events(q.input.values, a.cfg.Clock())
	if err != nil {
		return nil, err
	}
	page, err := a.st.Events(q.ctx, eq)
	if err != nil {
		return nil, err
	}
	page.Events = list(page.Events)
	return &body[store.EventPage]{page}, nil
}

func (a *api) eventRate(q ask[rateFilters]) (*body[ratePage], error) {
	since, until, step, err := span(q.input, a.cfg.Clock())
	if err != nil {
		return nil, err
	}
	rates, err := a.st.EventRate(q.ctx, q.input.Workload, since, until, step)
	if err != nil {
		return nil, err
	}
	return &body[ratePage]{ratePage{Step: int64(step / time.Second), Rates: list(rates)}}, nil
}

// span reads from when to when, and in which steps.
func span(f *rateFilters, now time.Time) (since, until time.Time, step time.Duration, err error) {
	if since, err = query.Time(f.Since, now); err != nil {
		return since, until, 0, fault.New(fault.Invalid, "parameter since: %w", err)
	}
	if until, err = query.Time(f.Until, now); err != nil {
		return since, until, 0, fault.New(fault.Invalid, "parameter until: %w", err)
	}
	if until.IsZero() {
		until = now
	}
	if since.IsZero() {
		since = until.Add(-24 * time.Hour)
	}
	long := until.Sub(since)
	if long <= 0 {
		return since, until, 0, fault.New(fault.Invalid, "parameter until: lies before since")
	}
	step = max(minStep, (long / someBuckets).Truncate(minStep))
	if f.Step != "" {
		if step, err = query.Duration(f.Step); err != nil {
			return since, until, 0, fault.New(fault.Invalid, "parameter step: %w", err)
		}
	}
	if step < minStep || long/step > maxBuckets {
		return since, until, 0, fault.New(fault.Invalid, "parameter step: want at least %s, and at most %d steps in all", minStep, maxBuckets)
	}
	return since, until, step, nil
}
