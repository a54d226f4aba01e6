package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
)

// follow opens a stream and returns what comes, one message at a time.
func (h *house) follow(t *testing.T, query string, header ...string) <-chan message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+"/api/v1/events/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	header = append(header, h.as(access.Viewer)...)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := h.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %d %q", res.StatusCode, res.Header.Get("Content-Type"))
	}
	out := make(chan message)
	go func() {
		defer close(out)
		var m message
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case lines.Text() == "" && m.data != "":
				select {
				case out <- m:
				case <-ctx.Done():
					return
				}
				m = message{}
			case name == "data":
				m.data = value
			case name == "id":
				m.id = value
			case name == "event":
				m.name = value
			}
		}
	}()
	return out
}

type message struct{ name, id, data string }

func (m message) event(t *testing.T) event.Event {
	t.Helper()
	var e event.Event
	if err := json.Unmarshal([]byte(m.data), &e); err != nil || m.name != "" {
		t.Fatalf("got message %q %q: %v", m.name, m.data, err)
	}
	return e
}

func TestStreamShowsWhatIsStored(t *testing.T) {
	h := open(t, nil)
	h.report(t, "before")
	all, curls := h.follow(t, ""), h.follow(t, "?executable=/bin/curl")
	h.report(t, "sh", "curl")
	for _, want := range []string{"sh", "curl"} {
		if e := (<-all).event(t); e.Process.Name != want || e.Group != "shop/web/web" {
			t.Errorf("got %s of %s, want %s", e.Process.Name, e.Group, want)
		}
	}
	if e := (<-curls).event(t); e.Process.Name != "curl" {
		t.Errorf("filtered: got %s, want curl", e.Process.Name)
	}
}

func TestStreamGoesOnWhereItWas(t *testing.T) {
	h := open(t, nil)
	h.report(t, "one", "two", "three")
	for _, c := range []struct {
		name, query string
		header      []string
	}{
		{"parameter after", "?after=1", nil},
		{"Last-Event-ID", "", []string{"Last-Event-ID", "1"}},
		{"the later of both", "?after=0", []string{"Last-Event-ID", "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := h.follow(t, c.query, c.header...)
			for _, want := range []string{"two", "three"} {
				if m := <-s; m.event(t).Process.Name != want {
					t.Errorf("got %s, want %s", m.data, want)
				}
			}
		})
	}
}

// TestStreamDropsNothing reports far more than any buffer holds before the
// reader reads a thing.
func TestStreamDropsNothing(t *testing.T) {
	h := open(t, nil)
	s := h.follow(t, "")
	const batches, each = 60, 500
	for range batches {
		names := make([]string, each)
		for i := range names {
			names[i] = "storm"
		}
		h.report(t, names...)
	}
	last := int64(0)
	for range batches * each {
		m, ok := <-s
		if !ok {
			t.Fatal("the stream ended early")
		}
		e := m.event(t)
		if e.ID != last+1 && last != 0 {
			t.Fatalf("got event %d after %d", e.ID, last)
		}
		last = e.ID
	}
}
