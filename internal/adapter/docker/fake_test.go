package docker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/asset"
)

// patience bounds every wait; it passes in full only when a test fails.
const patience = 20 * time.Second

// webID is the container of testdata.
const webID = "9bd623004556da31b924b8e895ecde00eb13817b700891ef4b34a31c594f71f4"

// fake is an engine that answers with files of testdata, unless a test says
// otherwise for a path.
type fake struct {
	api, files string
	socket     string

	mu      sync.Mutex
	answers map[string]http.HandlerFunc // by path without the version
	asked   []string                    // paths with the version, in order
	queries map[string]string           // of the last request, by path without the version
	since   []string                    // of the subscriptions
	stream  chan string                 // events to send
	cut     chan struct{}               // closed to end the stream
}

// serve starts an engine that speaks api with the answers of a testdata folder.
func serve(t *testing.T, api, files string) *fake {
	t.Helper()
	// Not t.TempDir: a socket's path is short.
	dir, err := os.MkdirTemp("", "fake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &fake{
		api: api, files: files, socket: filepath.Join(dir, "s"),
		answers: map[string]http.HandlerFunc{}, queries: map[string]string{}, stream: make(chan string, 2000), cut: make(chan struct{}),
	}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(f)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	return f
}

var version = regexp.MustCompile(`^/v[0-9.]+`)

// ServeHTTP answers like an engine.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := version.ReplaceAllString(r.URL.Path, "")
	f.mu.Lock()
	f.asked = append(f.asked, r.URL.Path)
	f.queries[path] = r.URL.RawQuery
	answer := f.answers[path]
	f.mu.Unlock()
	w.Header().Set("Api-Version", f.api)
	if answer != nil {
		answer(w, r)
		return
	}
	switch {
	case path == "/_ping":
	case path == "/version":
		f.file(w, "version.json")
	case path == "/containers/json":
		f.file(w, "list.json")
	case path == "/containers/"+webID+"/json":
		f.file(w, "inspect.json")
	case strings.HasPrefix(path, "/images/"):
		f.file(w, "image.json")
	case path == "/events":
		f.events(w, r)
	default:
		notFound(w, r)
	}
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte(`{"message":"No such container"}`))
}

func (f *fake) file(w http.ResponseWriter, name string) {
	b, err := os.ReadFile(filepath.Join("testdata", f.files, name))
	if err != nil {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	_, _ = w.Write(b)
}

func (f *fake) events(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.since = append(f.since, r.URL.Query().Get("since"))
	cut := f.cut
	f.mu.Unlock()
	control := http.NewResponseController(w)
	_ = control.Flush()
	for {
		select {
		case line := <-f.stream:
			if _, err := w.Write([]byte(line)); err != nil {
				return
			}
			_ = control.Flush()
		case <-cut:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// answer replaces what is answered for a path.
func (f *fake) answer(path string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[path] = h
}

// say answers a path with text.
func (f *fake) say(path, text string) {
	f.answer(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
}

// disconnect ends the stream of events as an engine that goes away does.
func (f *fake) disconnect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.cut)
	f.cut = make(chan struct{})
}

// count returns how often a path was asked for, in any version.
func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, p := range f.asked {
		if version.ReplaceAllString(p, "") == path {
			n++
		}
	}
	return n
}

// id makes a container id of one digit.
func id(digit string) string { return strings.Repeat(digit, 64) }

// event is one line of an engine about a container at a second.
func event(action, id string, second int, attributes string) string {
	if attributes == "" {
		attributes = `"name":"job","image":"shop/job:1"`
	}
	return fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q,"Attributes":{%s}},"time":%d,"timeNano":%d}`+"\n",
		action, id, attributes, second, int64(second)*1e9)
}

// watcher remembers what the door tells.
type watcher struct {
	mu      sync.Mutex
	changed chan struct{}
	all     []asset.Inventory
	stop    func() error // ends Watch and returns what it returned
}

func watch(t *testing.T, host string) *watcher {
	t.Helper()
	door, err := docker.New(docker.Options{Host: host}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- door.Watch(ctx, w.see) }()
	w.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("Watch does not return")
		}
	})
	t.Cleanup(func() {
		if err := w.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Watch() = %v, want the context's error", err)
		}
	})
	return w
}

func (w *watcher) see(inv asset.Inventory) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, inv)
	close(w.changed)
	w.changed = make(chan struct{})
}

// wait returns when ok does, asked after each inventory.
func (w *watcher) wait(t *testing.T, what string, ok func(all []asset.Inventory) bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		w.mu.Lock()
		met, changed := ok(w.all), w.changed
		w.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("waited for %s; inventories: %+v", what, w.all)
		}
	}
}

// complete waits for the nth complete inventory and returns it.
func (w *watcher) complete(t *testing.T, n int) (got asset.Inventory) {
	t.Helper()
	w.wait(t, fmt.Sprintf("complete inventory %d", n), func(all []asset.Inventory) bool {
		seen := 0
		for _, inv := range all {
			if inv.Complete {
				seen++
				got = inv
			}
		}
		return seen >= n
	})
	return got
}

// until waits until the last word on a container fits, and returns it.
func (w *watcher) until(t *testing.T, id, what string, fits func(asset.Workload) bool) (got asset.Workload) {
	t.Helper()
	w.wait(t, "container "+asset.ShortID(id)+" "+what, func(all []asset.Inventory) bool {
		found := false
		for _, inv := range all {
			for _, wl := range inv.Workloads {
				if wl.ID == id {
					got, found = wl, true
				}
			}
		}
		return found && fits(got)
	})
	return got
}

func anyState(asset.Workload) bool { return true }

func in(s asset.State) func(asset.Workload) bool {
	return func(w asset.Workload) bool { return w.State == s }
}
