package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// The pace of what moves by itself.
const (
	// treePause is the least time between two trees: an eye follows no more.
	treePause = 300 * time.Millisecond
	// rowsPause gathers events into one message.
	rowsPause = 250 * time.Millisecond
	// rowsAtOnce bounds one message; what comes faster is counted, not shown.
	rowsAtOnce = 50
	// beat keeps middle boxes from closing a quiet stream, refreshes what
	// fades, and finds out that the browser has gone.
	beat = 10 * time.Second
	// streamFor ends every stream, so that the browser comes back and its
	// session is looked at again: a revoked one sees no more than this.
	streamFor = 2 * time.Minute
	// writeFor is how long a browser may take to accept one message.
	writeFor = 15 * time.Second
)

// stream writes server-sent events: https://html.spec.whatwg.org/#server-sent-events
type stream struct {
	w    http.ResponseWriter
	c    *http.ResponseController
	last [sha256.Size]byte // of what sendFrame sent
}

func newStream(w http.ResponseWriter) *stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	return &stream{w: w, c: http.NewResponseController(w)}
}

// send writes one message: its name, its id ("" for none) and a component.
func (s *stream) send(ctx context.Context, name, id string, body templ.Component) error {
	var html bytes.Buffer
	if err := body.Render(ctx, &html); err != nil {
		return err
	}
	return s.write(messageOf(name, id, html.Bytes()))
}

func messageOf(name, id string, html []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\n", name)
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	for line := range bytes.Lines(html) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// sendNews is send, but for a message that is what it was the last time.
func (s *stream) sendNews(ctx context.Context, name string, body templ.Component) error {
	var html bytes.Buffer
	if err := body.Render(ctx, &html); err != nil {
		return err
	}
	return s.sendFrame(frame{messageOf(name, "", html.Bytes()), sha256.Sum256(html.Bytes())})
}

// sendFrame sends what a view shows. Of one that is as it was the last time the
// browser is only told that there is nothing new.
func (s *stream) sendFrame(f frame) error {
	if f.sum == s.last {
		return s.ping()
	}
	s.last = f.sum
	return s.write(f.message)
}

// ping writes a comment, which a browser ignores.
func (s *stream) ping() error { return s.write([]byte(": \n\n")) }

func (s *stream) write(b []byte) error {
	// A server without deadlines needs none set; the write tells the rest.
	_ = s.c.SetWriteDeadline(time.Now().Add(writeFor))
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.c.Flush()
}

// workloadLive sends the process tree of a workload whenever it changes.
func (c *Console) workloadLive(w http.ResponseWriter, r *http.Request, v visit) error {
	one, err := c.Store.Workload(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), streamFor)
	defer cancel()
	changed, err := c.Feed.Changed(ctx, one.ID)
	if err != nil {
		return err
	}
	s := newStream(w)
	follow(ctx, changed, treePause, func() bool {
		procs, known := c.Tables.Tree(one.ID)
		return s.send(ctx, "tree", "", treePart(newTree(procs, known, one.AgentID), c.Clock())) == nil // else the browser has gone
	})
	return nil
}

// follow shows a view at once and whenever something changed, at most once in a
// pause and at least with every beat, until show says that nobody looks any more,
// or ctx ends.
func follow(ctx context.Context, changed <-chan struct{}, atMost time.Duration, show func() bool) {
	quiet := time.NewTicker(beat)
	defer quiet.Stop()
	for show() && pace.Wait(ctx, atMost) {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-changed:
			if !ok {
				return // ctx has ended
			}
		case <-quiet.C:
		}
	}
}

// eventsLive sends the rows of new events that pass the filter. A browser that
// comes back names the last it has seen, so none is missed and none comes
// twice.
func (c *Console) eventsLive(w http.ResponseWriter, r *http.Request, v visit) error {
	f := eventFilter(r.URL.Query())
	last := r.URL.Query().Get("after")
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		last = id
	}
	q, err := query.Events(f.values("after", last), v.now)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), streamFor)
	defer cancel()
	sub, err := c.Feed.Subscribe(ctx, query.Match(q))
	if err != nil {
		return err
	}
	missed, full, err := c.missed(ctx, q)
	if err != nil {
		return err
	}
	t := tail{stream: newStream(w), page: c.page(r, v, "events", ""), filter: f, last: q.After, clock: c.Clock}
	t.take(missed.Events)
	if full {
		t.skipped++
	}
	return t.follow(ctx, sub.C(), sub.Dropped)
}

// missed reads what was stored between the page and the stream. More than a
// page of the store, or than it looks through at once, is a page that nobody
// has looked at for long: full says so, and following begins where that ends.
func (c *Console) missed(ctx context.Context, q store.EventQuery) (p store.EventPage, full bool, err error) {
	if q.After == 0 {
		return p, false, nil
	}
	q.Limit = store.MaxPage
	p, err = c.Store.Events(ctx, q)
	return p, p.Partial || len(p.Events) == store.MaxPage, err
}

// tail is one browser that follows events.
type tail struct {
	*stream
	page    page
	filter  filter
	last    int64 // the newest ID taken
	waiting []event.Event
	skipped uint64 // taken, but not shown for rowsAtOnce
	dropped uint64 // of the subscription, already told
	clock   func() time.Time
}

// take keeps the newest of what it has not had yet.
func (t *tail) take(batch []event.Event) {
	had := t.last
	for _, e := range batch {
		if e.ID <= had {
			continue
		}
		t.last = max(t.last, e.ID)
		t.waiting = append(t.waiting, e)
	}
	if over := len(t.waiting) - rowsAtOnce; over > 0 {
		t.skipped += uint64(over)
		t.waiting = t.waiting[over:]
	}
}

func (t *tail) follow(ctx context.Context, batches <-chan []event.Event, dropped func() uint64) error {
	quiet := time.NewTicker(beat)
	defer quiet.Stop()
	if t.ping() != nil { // so that the browser knows it is connected
		return nil
	}
	for {
		if len(t.waiting) > 0 {
			if t.flush(ctx, dropped()) != nil || !pace.Wait(ctx, rowsPause) {
				return nil // the browser has gone, or must come back
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case b, ok := <-batches:
			if !ok {
				return nil
			}
			t.take(b)
			t.drain(batches)
		case <-quiet.C:
			if t.ping() != nil {
				return nil
			}
		}
	}
}

// drain takes what waits already, without waiting for more.
func (t *tail) drain(batches <-chan []event.Event) {
	for {
		select {
		case b, ok := <-batches:
			if !ok {
				return
			}
			t.take(b)
		default:
			return
		}
	}
}

// flush sends the waiting rows, newest first, with how many are not shown.
func (t *tail) flush(ctx context.Context, dropped uint64) error {
	missed := t.skipped + dropped - t.dropped
	t.skipped, t.dropped = 0, dropped
	rows := make([]event.Event, 0, len(t.waiting))
	for i := len(t.waiting) - 1; i >= 0; i-- {
		rows = append(rows, t.waiting[i])
	}
	t.waiting = nil
	t.page.Now = t.clock()
	return t.send(ctx, "rows", strconv.FormatInt(t.last, 10), liveRows(t.page, rows, t.filter, missed))
}
