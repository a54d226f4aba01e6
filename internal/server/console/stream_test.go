package console_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// message is one server-sent event.
type message struct{ name, id, data string }

// follow opens a stream and hands over its messages until the test ends.
func (h *house) follow(t *testing.T, path, lastID string) <-chan message {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(as(r.Context(), access.Viewer)))
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	answer, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("got %d %s", answer.StatusCode, got)
	}
	out, done := make(chan message), make(chan struct{})
	go func() {
		defer close(done)
		defer close(out)
		read(ctx, bufio.NewScanner(answer.Body), out)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = answer.Body.Close()
		srv.Close()
	})
	return out
}

func read(ctx context.Context, lines *bufio.Scanner, out chan<- message) {
	lines.Buffer(nil, 1<<20)
	var m message
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			m.name = value
		case "id":
			m.id = value
		case "data":
			m.data += value + "\n"
		case "":
			if m.name != "" {
				select {
				case out <- m:
				case <-ctx.Done():
					return
				}
			}
			m = message{}
		}
	}
}

func next(t *testing.T, from <-chan message) message {
	t.Helper()
	m, ok := <-from
	if !ok {
		t.Fatal("the stream ended before a message came")
	}
	return m
}

func TestTreeIsSentAnewWhenItChanges(t *testing.T) {
	h := shopHouse(t)
	stream := h.follow(t, "/workloads/"+consoletest.Storefront+"/live", "")
	m := next(t, stream)
	if m.name != "tree" || !strings.Contains(m.data, "/storefront") || strings.Contains(m.data, "p91000-") {
		t.Fatalf("got %q: %s", m.name, m.data)
	}
	h.happen(91_000)
	if m = next(t, stream); !strings.Contains(m.data, `id="p91000-`) {
		t.Errorf("the new process is not in %s", m.data)
	}
}

func TestRowsAreSentAsTheyCome(t *testing.T) {
	h := shopHouse(t)
	last := len(h.store.shop.Events)
	stream := h.follow(t, "/events/live?text=convert&group=shop/storefront/storefront&after="+strconv.Itoa(last), "")
	one := h.happen(91_000)
	m := next(t, stream)
	if m.name != "rows" || m.id != strconv.FormatInt(one.ID, 10) || !strings.Contains(m.data, `<tr id="e`+m.id+`"`) {
		t.Fatalf("got %q %s: %s", m.name, m.id, m.data)
	}
	two := h.happen(91_001)
	if m = next(t, stream); strings.Contains(m.data, `id="e`+strconv.FormatInt(one.ID, 10)+`"`) || m.id != strconv.FormatInt(two.ID, 10) {
		t.Errorf("want the second alone, got %s: %s", m.id, m.data)
	}
}

func TestABrowserThatComesBackMissesNothing(t *testing.T) {
	h := shopHouse(t)
	last := strconv.Itoa(len(h.store.shop.Events))
	one, two := h.happen(91_000), h.happen(91_001)
	m := next(t, h.follow(t, "/events/live?after=1", last))
	for _, e := range []int64{one.ID, two.ID} {
		if strings.Count(m.data, `id="e`+strconv.FormatInt(e, 10)+`"`) != 1 {
			t.Errorf("event %d is not there once", e)
		}
	}
	if strings.Contains(m.data, `id="e`+last+`"`) {
		t.Error("what the browser had comes again")
	}
}

func TestAFloodIsCountedNotShown(t *testing.T) {
	h := shopHouse(t)
	last := strconv.Itoa(len(h.store.shop.Events))
	for i := range uint32(180) {
		h.happen(91_000 + i)
	}
	m := next(t, h.follow(t, "/events/live?after="+last, ""))
	if got := strings.Count(m.data, "<tr id="); got != 50 {
		t.Errorf("got %d rows, want 50", got)
	}
	if !strings.Contains(m.data, "At least 130 events more") {
		t.Error("the message does not say how many are not shown")
	}
}
