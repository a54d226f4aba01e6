package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	agentID  = "AGENTAAAAAAAA"
	password = "a quiet harbour at dusk"
	// deadline is how long a test waits for what must happen; nothing takes a
	// tenth of it.
	deadline = 30 * time.Second
)

var shop = strings.Repeat("a1", 32)

// logBuffer is a log that may be written and read at once.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// broken is a store whose Agents call fails as a driver would.
type broken struct{ store.Store }

func (broken) Agents(context.Context) ([]asset.Agent, error) {
	return nil, errors.New("SELECT secret FROM agents: disk I/O")
}

// house is a running server.
type house struct {
	*server.Server
	dir    string
	base   string
	tls    *tls.Config
	log    *logBuffer
	tokens map[access.Role]string
	stop   context.CancelFunc
	done   chan error
	seq    uint64
}

// open starts a server on a free port with a real store; wrap may replace the
// store, and change the configuration.
func open(t testing.TB, wrap func(store.Store) store.Store, change ...func(*server.Config)) *house {
	t.Helper()
	// Socket paths are short, and the test's own folder may not be.
	dir, err := os.MkdirTemp("", "castellan")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &house{dir: dir, log: &logBuffer{}, tokens: map[access.Role]string{}, done: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	data, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "c.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := data.Close(); err != nil {
			t.Error(err)
		}
	})
	var st store.Store = data
	if wrap != nil {
		st = wrap(data)
	}
	cfg := server.Config{
		DataDir: dir, Listen: "127.0.0.1:0", Version: "test",
		Accounts: account.Options{Hashing: account.Hashing{Memory: 64, Time: 1, Threads: 1}},
	}
	for _, f := range change {
		f(&cfg)
	}
	h.Server, err = server.New(cfg, st, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Accounts().Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.people(t)
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() { h.done <- h.Run(ctx) }()
	t.Cleanup(func() { h.close(t) })
	select {
	case <-h.Ready():
	case err := <-h.done:
		t.Fatalf("run: %v", err)
	}
	h.base = "https://" + h.Addr()
	if h.tls, err = link.TLS("127.0.0.1", h.CAFingerprint()); err != nil {
		t.Fatal(err)
	}
	return h
}

// close stops the server and sees that it ends well.
func (h *house) close(t testing.TB) {
	h.stop()
	select {
	case err := <-h.done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
		h.done <- nil
	case <-time.After(deadline):
		t.Error("the server does not stop")
	}
}

func root() access.Identity {
	return access.Identity{Actor: "local:0", Name: "root", Role: access.Administrator, Scopes: access.Administrator.Scopes()}
}

// people makes a user and a token with all that it may carry for each role.
func (h *house) people(t testing.TB) {
	t.Helper()
	for _, role := range access.Roles() {
		first := "given by somebody else"
		if _, err := h.Accounts().CreateUser(t.Context(), root(), account.NewUser{Name: string(role), Role: role, Password: first}); err != nil {
			t.Fatal(err)
		}
		_, session, err := h.Accounts().SignIn(t.Context(), string(role), first, "test")
		if err != nil {
			t.Fatal(err)
		}
		who := access.Identity{Actor: "user:" + string(role), UserID: session.UserID, Name: string(role), Role: role, Scopes: role.Scopes()}
		if err := h.Accounts().ChangePassword(t.Context(), who, first, password); err != nil {
			t.Fatal(err)
		}
		if _, h.tokens[role], err = h.Accounts().CreateToken(t.Context(), who, account.NewToken{Name: "test", Scopes: account.Grantable(who)}); err != nil {
			t.Fatal(err)
		}
	}
}

// client returns a new browser or program without cookies.
func (h *house) client(t testing.TB) *http.Client {
	tr := &http.Transport{TLSClientConfig: h.tls.Clone(), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: deadline, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is what a test looks at of a response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) problem(t *testing.T) server.Problem {
	t.Helper()
	var p server.Problem
	if err := json.Unmarshal(a.body, &p); err != nil || a.header.Get("Content-Type") != "application/problem+json" || p.Status != a.status {
		t.Errorf("got no problem document: %d %q %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	return p
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("read %s: %v", a.body, err)
	}
}

// ask sends one request; body is JSON unless it is url.Values.
func (h *house) ask(t testing.TB, method, path string, body any, header ...string) answer {
	t.Helper()
	return ask(t, h.client(t), h.base, method, path, body, header...)
}

func ask(t testing.TB, c *http.Client, base, method, path string, body any, header ...string) answer {
	t.Helper()
	var r io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case string:
		r, kind = strings.NewReader(b), "application/json"
	case url.Values:
		r, kind = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	default:
		j, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r, kind = bytes.NewReader(j), "application/json"
	}
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, b}
}

// as returns the header of a role's token.
func (h *house) as(role access.Role) []string {
	return []string{"Authorization", "Bearer " + h.tokens[role]}
}

// report hands in one exec for each args, as an agent in this process would.
func (h *house) report(t *testing.T, execs ...string) {
	t.Helper()
	at := time.Now()
	r := link.Report{
		Agent:     asset.Agent{ID: agentID, Boot: "BOOTBOOT", Hostname: "host-7", Version: "1", Started: at, Losses: []asset.Loss{{Where: "kernel ring", Count: 2}}},
		Workloads: []asset.Workload{{ID: shop, Name: "web", State: asset.Running, Created: at, Updated: at, ECS: asset.ECS{Cluster: "shop", Service: "web", Container: "web"}}},
		Snapshot:  h.seq == 0, Complete: true,
	}
	for _, x := range execs {
		h.seq++
		r.Events = append(r.Events, event.Event{
			Seq: h.seq, Time: at, Kind: event.KindExec, WorkloadID: shop,
			Process: event.Process{Key: event.Key{PID: uint32(h.seq), Start: 5}, Name: x, Executable: "/bin/" + x},
			Exec:    &event.Exec{Args: []string{x}, Capabilities: 1, Origin: event.OriginImage, Entered: true},
		})
	}
	if _, err := h.Intake().Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestServesOverTLSAlone(t *testing.T) {
	h := open(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.base+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := h.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.ProtoMajor != 2 || res.TLS.Version != tls.VersionTLS13 {
		t.Errorf("got HTTP/%d over TLS %x, want HTTP/2 over 1.3", res.ProtoMajor, res.TLS.Version)
	}
	old := h.tls.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	d := tls.Dialer{Config: old}
	if c, err := d.DialContext(t.Context(), "tcp", h.Addr()); err == nil {
		c.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func TestOperatorsPathsSayNothing(t *testing.T) {
	h := open(t, nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := h.ask(t, "GET", path, nil); a.status != 204 || len(a.body) != 0 {
			t.Errorf("%s: got %d %q, want 204 and nothing", path, a.status, a.body)
		}
	}
	if a := h.ask(t, "GET", "/metrics", nil); a.status != 401 {
		t.Errorf("metrics for nobody: got %d, want 401", a.status)
	}
	h.report(t, "sh", "id")
	h.ask(t, "GET", "/api/v1/status", nil)
	a := h.ask(t, "GET", "/metrics", nil, h.as(access.Viewer)...)
	for _, want := range []string{"castellan_events_stored_total 2", `castellan_http_request_seconds_count{part="api",status="401"} 2`, "go_goroutines"} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("metrics lack %q", want)
		}
	}
}

func TestEveryAnswerCarriesTheSafeHeaders(t *testing.T) {
	h := open(t, nil)
	for _, path := range []string{"/", "/sign-in", "/api/v1/status", "/healthz", "/nowhere"} {
		a := h.ask(t, "GET", path, nil)
		csp := a.header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: got policy %q", path, csp)
		}
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Referrer-Policy") == "" {
			t.Errorf("%s: got headers %v", path, a.header)
		}
	}
	if a := h.ask(t, "GET", "/api/v1/status", nil, h.as(access.Viewer)...); a.header.Get("Cache-Control") != "no-store" {
		t.Error("an answer of the API may be cached")
	}
}

func TestUnknownErrorsShowANumberThatIsInTheLog(t *testing.T) {
	h := open(t, func(st store.Store) store.Store { return broken{st} })
	a := h.ask(t, "GET", "/api/v1/agents", nil, h.as(access.Viewer)...)
	p := a.problem(t)
	if a.status != 500 || p.ID == "" || strings.Contains(string(a.body), "SELECT") {
		t.Errorf("got %d %s, want 500 with a number and no cause", a.status, a.body)
	}
	if !strings.Contains(h.log.String(), p.ID) || !strings.Contains(h.log.String(), "SELECT secret") {
		t.Error("the log lacks the number or the cause")
	}
}

func TestErrorsHaveTheirStatusAndRemedy(t *testing.T) {
	h := open(t, nil)
	for _, c := range []struct {
		name, method, path string
		body               any
		status             int
		says               string
	}{
		{"no such route", "GET", "/api/v1/nothing", nil, 404, "openapi.json"},
		{"no such event", "GET", "/api/v1/events/99", nil, 404, "event"},
		{"no such workload", "GET", "/api/v1/workloads/" + shop, nil, 404, "workload"},
		{"id that is none", "GET", "/api/v1/workloads/..%2f..%2fetc", nil, 422, "path.id"},
		{"id of the wrong form", "GET", "/api/v1/workloads/xyz", nil, 422, "path.id"},
		{"misspelt filter", "GET", "/api/v1/events?kinds=process.exec", nil, 422, "kinds"},
		{"unknown kind", "GET", "/api/v1/events?kind=file.open", nil, 422, "kind"},
		{"bad time", "GET", "/api/v1/events?since=yesterday", nil, 422, "since"},
		{"bad limit", "GET", "/api/v1/events?limit=5000", nil, 422, "limit"},
		{"too many steps", "GET", "/api/v1/events/rate?since=30d&step=1m", nil, 422, "step"},
		{"stream that goes back", "GET", "/api/v1/events/stream?before=7", nil, 422, "before"},
		{"no JSON", "POST", "/api/v1/users", "hello", 400, ""},
		{"field missing", "POST", "/api/v1/users", map[string]any{"name": "x"}, 422, "role"},
		{"unknown field", "POST", "/api/v1/users", map[string]any{"name": "x", "role": "viewer", "password": password, "admin": true}, 422, "admin"},
		{"short password", "POST", "/api/v1/users", map[string]any{"name": "x", "role": "viewer", "password": "short"}, 422, "password"},
		{"name taken", "POST", "/api/v1/users", map[string]any{"name": "viewer", "role": "viewer", "password": password}, 409, "viewer"},
		{"body too large", "POST", "/api/v1/users", `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, 413, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := h.ask(t, c.method, c.path, c.body, h.as(access.Administrator)...)
			if a.status != c.status {
				t.Fatalf("got %d %s, want %d", a.status, a.body, c.status)
			}
			a.problem(t)
			if !strings.Contains(string(a.body), c.says) {
				t.Errorf("got %s, want it to say %q", a.body, c.says)
			}
		})
	}
}

func TestProblemsNeverRepeatWhatWasSent(t *testing.T) {
	h := open(t, nil)
	a := h.ask(t, "POST", "/api/v1/session", `{"name": "x", "password": ["hunter2hunter2"]}`)
	if a.status != 422 || strings.Contains(string(a.body), "hunter2") {
		t.Errorf("got %d %s, want a refusal without the password", a.status, a.body)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		listen string
		kind   fault.Kind
	}{
		{l.Addr().String(), fault.Conflict},
		{"192.0.2.1:8600", fault.Invalid},
		{"127.0.0.1:http-or-so", fault.Invalid},
		{"nonsense", fault.Invalid},
	} {
		h := stopped(t, t.TempDir(), c.listen)
		err := h.Run(t.Context())
		if !fault.Is(err, c.kind) || !strings.Contains(fault.Remedy(err), "--listen") {
			t.Errorf("%s: got %v (remedy %q), want %v with a remedy that names the flag", c.listen, err, fault.Remedy(err), c.kind)
		}
	}
}

// stopped returns a server that does not run, over a store of its own.
func stopped(t *testing.T, dir, listen string) *server.Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "c.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	s, err := server.New(server.Config{DataDir: dir, Listen: listen}, st, log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStopsCleanlyWithStreamsOpen(t *testing.T) {
	h := open(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.base+"/api/v1/events/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.tokens[access.Viewer])
	res, err := h.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	h.close(t)
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("the stream was cut off, not ended: %v", err)
	}
	if _, err := os.Stat(server.SocketPath(h.dir)); err == nil {
		t.Error("the socket is still there")
	}
}

func TestStatusTellsTheWhole(t *testing.T) {
	h := open(t, nil)
	h.report(t, "sh", "id", "curl")
	var got struct {
		Version       string
		CAFingerprint string `json:"ca_fingerprint"`
		Store         *store.Health
		Agents        struct{ Total, Silent int }
		Workloads     struct{ Running int }
		Stored        uint64 `json:"events_stored"`
		Losses        []asset.Loss
	}
	h.ask(t, "GET", "/api/v1/status", nil, h.as(access.Viewer)...).into(t, &got)
	if got.Version != "test" || got.CAFingerprint != h.CAFingerprint() || got.Store == nil || got.Store.Engine != "sqlite" {
		t.Errorf("got %+v", got)
	}
	if got.Agents.Total != 1 || got.Agents.Silent != 0 || got.Workloads.Running != 1 || got.Stored != 3 {
		t.Errorf("got %+v, want 1 agent, 1 workload, 3 events", got)
	}
	if len(got.Losses) != 1 || got.Losses[0] != (asset.Loss{Where: "host-7: kernel ring", Count: 2}) {
		t.Errorf("got losses %v, want the agent's", got.Losses)
	}
}

func TestFiltersReachTheStore(t *testing.T) {
	h := open(t, nil)
	h.report(t, "sh", "curl", "id")
	for query, want := range map[string]int{
		"":                                   3,
		"?executable=/bin/curl":              1,
		"?executable=/bin/*":                 3,
		"?text=cur":                          1,
		"?kind=process.exit":                 0,
		"?kind=process.exec,process.exit":    3,
		"?workload=" + shop:                  3,
		"?group=shop/web/web&entered=true":   3,
		"?agent=" + agentID + "&process=2-5": 1,
		"?host=true":                         0,
		"?since=1h":                          3,
		"?until=1h":                          0,
		"?limit=2":                           2,
		"?before=2":                          1,
		"?after=1":                           2,
		"?origin=written":                    0,
		"?origin=image":                      3,
		"?since=" + url.QueryEscape("2020-01-01T00:00:00+02:00"): 3,
	} {
		var page store.EventPage
		h.ask(t, "GET", "/api/v1/events"+query, nil, h.as(access.Viewer)...).into(t, &page)
		if len(page.Events) != want {
			t.Errorf("%s: got %d events, want %d", query, len(page.Events), want)
		}
	}
	var rate struct {
		Rates []store.Rate
		Step  int64 `json:"step_seconds"`
	}
	h.ask(t, "GET", "/api/v1/events/rate?since=1h&step=5m&workload="+shop, nil, h.as(access.Viewer)...).into(t, &rate)
	var sum int64
	for _, r := range rate.Rates {
		sum += r.Count
	}
	if sum != 3 || rate.Step != 300 {
		t.Errorf("rate: got %d in steps of %d s, want 3 in 300", sum, rate.Step)
	}
	var tree struct {
		Processes []event.Running
		Known     bool
	}
	h.ask(t, "GET", fmt.Sprintf("/api/v1/workloads/%s/processes", shop), nil, h.as(access.Viewer)...).into(t, &tree)
	if len(tree.Processes) != 3 || !tree.Known {
		t.Errorf("processes: got %d, known %v, want 3 and known", len(tree.Processes), tree.Known)
	}
}
