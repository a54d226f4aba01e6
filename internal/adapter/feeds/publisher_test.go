package feeds

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// publisher is a server that stands for all publishers, and misbehaves as it is
// told.
type publisher struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	files    map[string]*published
	requests []string // "GET host/path" with the range that was asked for
	active   int
	busiest  int
}

// published is one file. Its tag is made of its content.
type published struct {
	content  string
	header   http.Header
	cuts     []int         // after how many bytes the next answers break off
	statuses []int         // what the next answers are instead
	answer   http.Handler  // instead of all that
	wait     chan struct{} // answers wait for it
}

func newPublisher(t *testing.T) *publisher {
	p := &publisher{t: t, files: map[string]*published{}}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

// put publishes a file at host/path.
func (p *publisher) put(address, content string) *published {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &published{content: content, header: http.Header{}}
	p.files[address] = f
	return f
}

// asked returns the requests since the last call.
func (p *publisher) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.requests
	p.requests = nil
	return r
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	address := r.Host + r.URL.Path
	if r.URL.RawQuery != "" {
		address += "?" + r.URL.RawQuery
	}
	p.mu.Lock()
	line := address
	if h := r.Header.Get("Range"); h != "" {
		line += " " + h
	}
	p.requests = append(p.requests, line)
	p.active++
	p.busiest = max(p.busiest, p.active)
	f := p.files[address]
	var status, cut int
	if f != nil && len(f.statuses) > 0 {
		status, f.statuses = f.statuses[0], f.statuses[1:]
	}
	if f != nil && status == 0 && len(f.cuts) > 0 {
		cut, f.cuts = f.cuts[0], f.cuts[1:]
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.active--
		p.mu.Unlock()
	}()
	switch {
	case f == nil:
		http.NotFound(w, r)
	case f.answer != nil:
		f.answer.ServeHTTP(w, r)
	default:
		f.serve(w, r, status, cut)
	}
}

func (f *published) serve(w http.ResponseWriter, r *http.Request, status, cut int) {
	if f.wait != nil {
		<-f.wait
	}
	for k, v := range f.header {
		w.Header()[k] = v
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	if w.Header().Get("ETag") == "" {
		w.Header().Set("ETag", `"`+strconv.FormatUint(fnv(f.content), 36)+`"`)
	}
	if cut > 0 {
		w = &cutter{ResponseWriter: w, left: cut}
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(f.content))
}

func fnv(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// cutter breaks the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

// everywhere sends requests for all hosts to the publisher.
type everywhere struct{ to string }

func (e everywhere) RoundTrip(r *http.Request) (*http.Response, error) {
	u, err := url.Parse(e.to)
	if err != nil {
		return nil, err
	}
	out := r.Clone(r.Context())
	out.Host = r.URL.Host
	out.URL.Scheme, out.URL.Host = u.Scheme, u.Host
	return http.DefaultTransport.RoundTrip(out)
}

// fetcher returns one for a new folder, which asks the publisher instead of the
// world and does not wait between tries.
func (p *publisher) fetcher() *Fetcher {
	return p.fetcherIn(p.t.TempDir(), Options{})
}

func (p *publisher) fetcherIn(dir string, o Options) *Fetcher {
	p.t.Helper()
	o.Transport = everywhere{p.server.URL}
	f, err := NewFetcher(dir, o)
	if err != nil {
		p.t.Fatal(err)
	}
	f.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return f
}

// update updates one source and returns what became of it.
func update1(t *testing.T, f *Fetcher, name string) Updated {
	t.Helper()
	s, ok := Named(name)
	if !ok {
		t.Fatalf("no source %s", name)
	}
	all, _ := f.Update(t.Context(), []Source{s})
	return all[0]
}

func mustUpdate(t *testing.T, f *Fetcher, name string) Updated {
	t.Helper()
	u := update1(t, f, name)
	if u.Err != nil {
		t.Fatal(u.Err)
	}
	return u
}

// content returns a file of the layout, "" if it isn't there.
func content(t *testing.T, f *Fetcher, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, filepath.FromSlash(name)))
	if err != nil {
		return ""
	}
	return string(b)
}
