package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

const streamPath = apiPrefix + "/events/stream"

// The pace of a stream.
const (
	// streamPause gathers what happens within it into one read of the store.
	streamPause = 100 * time.Millisecond
	// heartbeat keeps middle boxes from closing a quiet stream, and finds out
	// that the client has gone.
	heartbeat = 15 * time.Second
	// recheck is how long somebody may go on reading whose right was taken away.
	recheck = time.Minute
	// streamWrite is how long a client may take to accept one page. Who is
	// slower is cut off, and goes on from where it was.
	streamWrite = 15 * time.Second
)

// streamFilters are eventFilters and where to go on from.
type streamFilters struct {
	EventFilters
	LastEventID int64 `header:"Last-Event-ID" minimum:"0" doc:"Go on behind this event: browsers send it by themselves when they reconnect"`
}

func (a *api) streamRoute() {
	op := a.operation(route{
		method: http.MethodGet, path: "/events/stream", id: "follow-events", tag: "events", scope: access.ReadEvents,
		summary: "Events as they are stored, as server-sent events",
		about: "Each message is one event as JSON, with its id. A stream that is cut off goes on where it was with Last-Event-ID " +
			"or the parameter after; nothing is dropped: a slow reader is behind, and what it has not read waits in the store. " +
			"A message of the name error is a problem document and the last one.",
	})
	op.Responses["200"] = &huma.Response{
		Description: "A stream without end",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{
			Type: huma.TypeString, Description: "data is an event, as GET /events/{id} answers it",
		}}},
	}
	huma.Register(a.huma, op, func(_ context.Context, in *streamFilters) (*huma.StreamResponse, error) {
		q, err := query.Events(in.values, a.cfg.Clock())
		if err != nil {
			return nil, problem(err, a.log)
		}
		q.After = max(q.After, in.LastEventID)
		if q.Before != 0 {
			return nil, problem(fault.New(fault.Invalid, "parameter before: a stream goes forward"), a.log)
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			a.follow(w, r, q)
		}}, nil
	})
}

// follower is one stream under way.
type follower struct {
	*Server
	w   http.ResponseWriter
	rc  *http.ResponseController
	r   *http.Request
	q   store.EventQuery
	log *slog.Logger
}

// follow answers with a stream until the client goes, the server stops or the
// right to read ends.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, q store.EventQuery) {
	f := &follower{Server: s, w: w, rc: http.NewResponseController(w), r: r, q: q, log: s.log}
	// Subscribed before the first read, so that nothing falls in between. What
	// the feed hands over only says that there is news: the store has it in
	// order and whole, also for a reader who is slow.
	news, err := s.feed.Subscribe(r.Context(), query.Match(q))
	if err != nil {
		writeProblem(w, r, err, s.log)
		return
	}
	if err := f.begin(); err != nil {
		writeProblem(w, r, err, s.log)
		return
	}
	if err := f.run(news.C()); err != nil && r.Context().Err() == nil {
		f.end(err)
	}
}

// begin finds where a stream that was not told goes on from, and answers.
func (f *follower) begin() error {
	if f.q.After == 0 {
		newest, err := f.newest(f.r.Context())
		if err != nil {
			return err
		}
		f.q.After = newest
	}
	f.q.Limit = store.MaxPage
	h := f.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold it back
	f.w.WriteHeader(http.StatusOK)
	return nil
}

// newest returns the id of the newest event, 0 when there is none.
func (f *follower) newest(ctx context.Context) (int64, error) {
	page, err := f.st.Events(ctx, store.EventQuery{Limit: 1})
	if err != nil || len(page.Events) == 0 {
		return 0, err
	}
	return page.Events[0].ID, nil
}

// run sends what is new until there is an error or the context ends.
func (f *follower) run(news <-chan []event.Event) error {
	beat, check := time.NewTicker(heartbeat), time.NewTicker(recheck)
	defer beat.Stop()
	defer check.Stop()
	ctx := f.r.Context()
	if err := f.send(": castellan events\n\n"); err != nil {
		return err
	}
	for {
		if err := f.catchUp(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-news:
			if !ok || !pace.Wait(ctx, streamPause) {
				return nil
			}
			drain(news)
		case <-beat.C:
			if err := f.send(fmt.Sprintf("id: %d\n: alive\n\n", f.q.After)); err != nil {
				return err
			}
		case <-check.C:
			if err := f.permitted(); err != nil {
				return err
			}
		}
	}
}

// drain empties the channel: one read of the store gets it all.
func drain(news <-chan []event.Event) {
	for {
		select {
		case _, ok := <-news:
			if !ok {
				return
			}
		default:
			return
		}
	}
}

// catchUp sends everything from where the stream is to the newest.
func (f *follower) catchUp(ctx context.Context) error {
	if f.q.After == 0 {
		return f.fromTheFirst(ctx)
	}
	for {
		page, err := f.st.Events(ctx, f.q)
		if err != nil {
			return err
		}
		if err := f.sendEvents(page.Events); err != nil {
			return err
		}
		f.q.After = max(f.q.After, page.Next)
		if !page.Partial && len(page.Events) < f.q.Limit {
			return nil
		}
	}
}

// fromTheFirst does for a store that was empty what After, which begins at 1,
// cannot ask for. It is the first moment's events that it turns round.
func (f *follower) fromTheFirst(ctx context.Context) error {
	newest, err := f.newest(ctx)
	if err != nil || newest == 0 {
		return err
	}
	q := f.q
	q.Before = newest + 1
	var events []event.Event
	for q.Before > 0 {
		page, err := f.st.Events(ctx, q)
		if err != nil {
			return err
		}
		events = append(events, page.Events...)
		q.Before = page.Next
	}
	slices.Reverse(events)
	f.q.After = newest
	return f.sendEvents(events)
}

func (f *follower) sendEvents(events []event.Event) error {
	if len(events) == 0 {
		return nil
	}
	var b []byte
	for i := range events {
		data, err := json.Marshal(&events[i])
		if err != nil {
			return fmt.Errorf("write event %d: %w", events[i].ID, err)
		}
		b = append(b, "id: "...)
		b = strconv.AppendInt(b, events[i].ID, 10)
		b = append(b, "\ndata: "...)
		b = append(b, data...) // JSON has no line breaks
		b = append(b, "\n\n"...)
		f.q.After = max(f.q.After, events[i].ID)
	}
	return f.send(string(b))
}

func (f *follower) send(s string) error {
	if err := f.rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return fmt.Errorf("set the time limit of a stream: %w", err)
	}
	if _, err := f.w.Write([]byte(s)); err != nil {
		return fmt.Errorf("write to a stream: %w", err)
	}
	return f.rc.Flush()
}

// permitted looks again whether who reads may still do so.
func (f *follower) permitted() error {
	ctx, err := f.identify(f.r)
	if err != nil {
		return err
	}
	return permit(ctx, access.ReadEvents)
}

// end tells the client why nothing more comes. It may be gone.
func (f *follower) end(err error) {
	data, _ := json.Marshal(problem(err, f.log)) // a Problem has nothing that JSON can't hold
	if err := f.send("event: error\ndata: " + string(data) + "\n\n"); err != nil {
		f.log.Debug("end of a stream not told", "error", err)
	}
}
