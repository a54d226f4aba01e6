package link_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

var update = flag.Bool("update", false, "write the recorded report anew")

// serverFunc is a link.Server of one function.
type serverFunc func(context.Context, link.Report) (link.Receipt, error)

func (f serverFunc) Report(ctx context.Context, r link.Report) (link.Receipt, error) {
	return f(ctx, r)
}

func (serverFunc) Directives(ctx context.Context, _ link.Caller, _ func(link.Directive)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (serverFunc) Inventory(context.Context, link.Scanned) error { return nil }
func (serverFunc) Verdict(context.Context, link.Verified) error  { return nil }

// gate takes everybody for the agent of full; the certificates of agents are
// tested with the server.
type gate struct{}

func (gate) Admit(r *http.Request) (string, context.Context, func(), error) {
	return full().Agent.ID, r.Context(), func() {}, nil
}

// none is the certificate of who has none.
func none() *tls.Certificate { return &tls.Certificate{} }

// serve carries calls to f over TLS and returns a client that trusts exactly
// that server, and what the server logs.
func serve(t *testing.T, f serverFunc) (*link.Client, *bytes.Buffer) {
	t.Helper()
	logged := &bytes.Buffer{}
	path, h := link.Handler(f, nil, gate{}, slog.New(slog.NewTextHandler(logged, nil)))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return client(t, mux), logged
}

// rawClient returns an HTTP client for h that no limit of this package holds.
func rawClient(t *testing.T, h http.Handler) (c *http.Client, server string) {
	t.Helper()
	ts := httptest.NewUnstartedServer(h)
	ts.EnableHTTP2 = true
	ts.StartTLS()
	t.Cleanup(ts.Close)
	return ts.Client(), ts.URL
}

func client(t *testing.T, h http.Handler) *link.Client {
	t.Helper()
	ts := httptest.NewUnstartedServer(h)
	ts.EnableHTTP2 = true
	ts.StartTLS()
	t.Cleanup(ts.Close)
	// httptest's certificate is its own authority.
	cl, err := link.NewClient(link.ClientOptions{Server: ts.URL, Authority: ts.Certificate(), Certificate: none})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// full is a report with every field set.
func full() link.Report {
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC)
	later := at.Add(time.Second)
	code := 3
	process := event.Process{
		Key: event.Key{PID: 4711, Start: 81_523_000_000}, ContainerPID: 7, Parent: event.Key{PID: 4700, Start: 81_000_000_000},
		Name: "sh", Executable: "/bin/busybox", UID: 1000, EUID: 0, GID: 100,
	}
	exit := &event.Exit{Code: 3, Signal: 9, CoreDumped: true, Lifetime: 42 * time.Millisecond}
	id := strings.Repeat("ab", 32)
	return link.Report{
		Agent: asset.Agent{
			ID: "AGENTAGENTAGENT", Boot: "BOOTBOOT", Hostname: "ip-10-0-0-7", Version: "1.2.3", Started: at, Seen: at,
			Host:    asset.Host{OS: "Debian", Kernel: "6.1", Arch: "arm64", BootID: "b", CPUs: 2, Memory: 1 << 30, Cgroup: "v2", BTF: true, LSMs: []string{"bpf"}, Missing: []string{"x"}},
			Engine:  asset.Engine{Name: "docker", Version: "25", APIVersion: "1.44", Connected: true},
			Sensors: []asset.Sensor{{Name: "process", State: asset.SensorRunning, Events: 5, Lost: 1}},
			Rungs:   []asset.Rung{{Control: "exec", Best: "BPF LSM", Enforces: true, Why: "w"}},
			Losses:  []asset.Loss{{Where: "kernel ring", Count: 1}}, Usage: asset.Usage{CPUSeconds: 1.5, RSS: 9, Goroutines: 3}, Events: 5,
		},
		Workloads: []asset.Workload{{
			ID: id, AgentID: "AGENTAGENTAGENT", Name: "web", Group: "shop/web/web", State: asset.Exited, PID: 12,
			ECS:     asset.ECS{Account: "1", Region: "eu-central-1", Cluster: "shop", Service: "web", Family: "web", Revision: "3", TaskARN: "arn", TaskID: "t", Container: "web"},
			Image:   asset.Image{Reference: "web:1", ID: "sha256:1", Digest: "sha256:2"},
			Created: at, Started: &at, Finished: &later, ExitCode: &code, OOMKilled: true, Partial: true, Updated: later,
			Settings: asset.Settings{
				User: "0", Entrypoint: []string{"/web"}, Privileged: true, ReadOnlyRoot: true, NetworkMode: "awsvpc", PIDMode: "host", IPCMode: "host",
				CapAdd: []string{"SYS_ADMIN"}, CapDrop: []string{"ALL"}, SecurityOpt: []string{"x"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
				Ports:  []asset.Port{{Protocol: "tcp", Port: 80, HostAddr: netip.MustParseAddr("::1"), HostPort: 8080}},
				Mounts: []asset.Mount{{Kind: "bind", Source: "/", Target: "/host", ReadOnly: true}}, MemoryLimit: 5, PidsLimit: 6,
			},
		}},
		Events: []event.Event{
			{Version: 1, AgentID: "AGENTAGENTAGENT", Boot: "BOOTBOOT", Seq: 1, Time: at, Kind: event.KindFork, Process: process},
			{Version: 1, AgentID: "AGENTAGENTAGENT", Boot: "BOOTBOOT", Seq: 2, Time: at, Kind: event.KindExec, WorkloadID: id, Process: process, Exec: &event.Exec{
				Requested: "/bin/sh", Args: []string{"sh", "-c", "id"}, ArgsTruncated: true, Cwd: "/tmp", PathTruncated: true, Origin: event.OriginWritten, Deleted: true,
				Inode: 7, Device: 8, SetUID: true, SetGID: true, Capabilities: 0x3ffffffffff, Entered: true,
				Ancestors:   []event.Ancestor{{Key: event.Key{PID: 1, Start: 2}, Name: "init", Executable: "/sbin/init"}},
				Environment: []string{"LD_PRELOAD=/tmp/a.so"}, EnvironmentTruncated: true,
				Stdio: []event.Stream{{Kind: event.StreamTCP, Remote: netip.MustParseAddrPort("192.0.2.1:4444"), Inode: 9}, {Kind: event.StreamPipe, Inode: 8}, {Kind: event.StreamNone}},
			}},
			{Version: 1, AgentID: "AGENTAGENTAGENT", Boot: "BOOTBOOT", Seq: 9, Time: at, Kind: event.KindExit, WorkloadID: id, Process: process, Exit: exit},
		},
		Processes: []event.Running{
			{WorkloadID: id, Process: process, Args: []string{"sh"}, Origin: event.OriginImage, Entered: true, Started: at, Ended: &later, Exit: exit},
			{Process: process, Started: at},
		},
		Snapshot: true, Complete: true,
	}
}

var sameReport = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})}

func TestReportArrivesAsItWasSent(t *testing.T) {
	var got link.Report
	c, _ := serve(t, func(_ context.Context, r link.Report) (link.Receipt, error) {
		got = r
		return link.Receipt{WantSnapshot: true}, nil
	})
	sent := full()
	// Newer than the recorded report:
	sent.Workloads[0].Image.Layers = []string{"sha256:3", "sha256:4"}
	sent.Uses = []asset.Use{{WorkloadID: sent.Workloads[0].ID, Paths: []string{"/lib/libc.so.6", "/app/a.jar"}}}
	receipt, err := c.Report(t.Context(), sent)
	if err != nil {
		t.Fatal(err)
	}
	if !receipt.WantSnapshot {
		t.Error("the receipt lost its wish for a snapshot")
	}
	if diff := cmp.Diff(sent, got, sameReport, sameAddresses); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// carried returns r as the server gets it.
func carried(t *testing.T, r link.Report) link.Report {
	t.Helper()
	var got link.Report
	c, _ := serve(t, func(_ context.Context, r link.Report) (link.Receipt, error) {
		got = r
		return link.Receipt{}, nil
	})
	if _, err := c.Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestHostileTextIsMadeValid(t *testing.T) {
	r := full()
	r.Events[1].Exec.Args = []string{"ok", "\xff\xfe", strings.Repeat("x", 10)}
	r.Events[1].Process.Executable = "/tmp/\x80\n\x1b[2J"
	var got link.Report
	c, _ := serve(t, func(_ context.Context, r link.Report) (link.Receipt, error) {
		got = r
		return link.Receipt{}, nil
	})
	if _, err := c.Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ok", "\ufffd", "xxxxxxxxxx"}, got.Events[1].Exec.Args); diff != "" {
		t.Errorf("args (-want +got):\n%s", diff)
	}
	if want := "/tmp/\ufffd\n\x1b[2J"; got.Events[1].Process.Executable != want {
		t.Errorf("got path %q, want %q", got.Events[1].Process.Executable, want)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	for k := fault.Invalid; k <= fault.Corrupt; k++ {
		t.Run(k.String(), func(t *testing.T) {
			c, _ := serve(t, func(context.Context, link.Report) (link.Receipt, error) {
				return link.Receipt{}, fmt.Errorf("store: %w", fault.New(k, "no good").With("do this"))
			})
			_, err := c.Report(t.Context(), full())
			if fault.Of(err) != k || fault.Remedy(err) != "do this" || !strings.Contains(err.Error(), "no good") {
				t.Errorf("got %v (%v, remedy %q)", err, fault.Of(err), fault.Remedy(err))
			}
		})
	}
}

func TestUnknownErrorShowsANumberOnly(t *testing.T) {
	c, logged := serve(t, func(context.Context, link.Report) (link.Receipt, error) {
		return link.Receipt{}, errors.New("secret of the driver")
	})
	_, err := c.Report(t.Context(), full())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Fatalf("got %v, want an error that hides its cause", err)
	}
	_, id, _ := strings.Cut(err.Error(), "unexpected error ")
	id, _, _ = strings.Cut(id, ";")
	if len(id) < 20 || !strings.Contains(logged.String(), id) || !strings.Contains(logged.String(), "secret of the driver") {
		t.Errorf("number %q is not in the log with its cause: %s", id, logged)
	}
}

func TestWhatTheNetworkDoesIsUnavailable(t *testing.T) {
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		want fault.Kind
	}{
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fault.Unavailable},
		{"a proxy's 502", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, fault.Unavailable},
		{"not our server", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, fault.Unavailable},
		{"a redirect is not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://192.0.2.1/", http.StatusTemporaryRedirect)
		}, fault.Unavailable},
		{"certificate wanted", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, fault.Unauthenticated},
		{"certificate refused", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, fault.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := client(t, c.h).Report(t.Context(), full())
			if fault.Of(err) != c.want {
				t.Errorf("got %v (%v), want %v", err, fault.Of(err), c.want)
			}
		})
	}
}

func TestLimitsAreHeldOnBothSides(t *testing.T) {
	called := false
	c, _ := serve(t, func(context.Context, link.Report) (link.Receipt, error) {
		called = true
		return link.Receipt{}, nil
	})
	huge := full()
	huge.Workloads[0].Name = strings.Repeat("x", link.MaxMessage)
	for name, r := range map[string]link.Report{
		"events":    {Events: make([]event.Event, link.MaxEvents+1)},
		"workloads": {Workloads: make([]asset.Workload, link.MaxWorkloads+1)},
		"processes": {Processes: make([]event.Running, link.MaxProcesses+1)},
		"samples":   {Samples: make([]asset.Sample, link.MaxSamples+1)},
		"uses":      {Uses: make([]asset.Use, link.MaxUses+1)},
		"paths":     {Uses: []asset.Use{{Paths: make([]string, asset.MaxUsePaths+1)}}},
		"all paths": {Uses: slices.Repeat([]asset.Use{{Paths: make([]string, asset.MaxUsePaths)}}, link.MaxUsedPaths/asset.MaxUsePaths+1)},
		"bytes":     huge,
	} {
		if _, err := c.Report(t.Context(), r); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if called {
		t.Error("a report beyond the limits was carried")
	}
}

func TestOnlyTheAuthorityOfTheJoinIsTrusted(t *testing.T) {
	ts := httptest.NewTLSServer(http.NotFoundHandler())
	defer ts.Close()
	for name, fingerprint := range map[string]string{"another": "sha256:" + strings.Repeat("00", 32), "the system's": ""} {
		_, err := link.Join(t.Context(), ts.URL, fingerprint, link.JoinRequest{})
		if !fault.Is(err, fault.Unavailable) || fault.Remedy(err) == "" {
			t.Errorf("join, %s: got %v, want unavailable with a remedy", name, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	same := &x509.Certificate{
		SerialNumber: ts.Certificate().SerialNumber, RawSubject: ts.Certificate().RawSubject, IsCA: true, BasicConstraintsValid: true,
		NotBefore: ts.Certificate().NotBefore, NotAfter: ts.Certificate().NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, same, same, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	namesake, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c, err := link.NewClient(link.ClientOptions{Server: ts.URL, Authority: namesake, Certificate: none})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Report(t.Context(), full()); !fault.Is(err, fault.Unavailable) || fault.Remedy(err) == "" {
		t.Errorf("report, an authority of the same name: got %v, want unavailable with a remedy", err)
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	good := link.ClientOptions{Server: "https://h:1", Authority: &x509.Certificate{}, Certificate: none}
	if _, err := link.NewClient(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*link.ClientOptions){
		"http":           func(o *link.ClientOptions) { o.Server = "http://h:1" },
		"no scheme":      func(o *link.ClientOptions) { o.Server = "h:1" },
		"a path":         func(o *link.ClientOptions) { o.Server = "https://h:1/api" },
		"no authority":   func(o *link.ClientOptions) { o.Authority = nil },
		"no certificate": func(o *link.ClientOptions) { o.Certificate = nil },
	} {
		o := good
		change(&o)
		if _, err := link.NewClient(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	for _, fingerprint := range []string{"sha256:abcd", "md5:" + strings.Repeat("00", 32)} {
		if _, err := link.TLS("h", fingerprint); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", fingerprint, err)
		}
	}
	if _, err := link.TLS("h", strings.ToUpper(strings.Repeat("ab:", 31)+"ab")); err != nil {
		t.Errorf("openssl's form: got %v", err)
	}
}

func TestAnAgentSpeaksForItselfAlone(t *testing.T) {
	called := false
	c, _ := serve(t, func(context.Context, link.Report) (link.Receipt, error) {
		called = true
		return link.Receipt{}, nil
	})
	r := full()
	r.Agent.ID = "ANOTHERAGENT"
	if _, err := c.Report(t.Context(), r); !fault.Is(err, fault.Denied) || called {
		t.Errorf("got %v, taken %v; want denied", err, called)
	}
}

// refusing lets nobody in.
type refusing struct{}

func (refusing) Admit(*http.Request) (string, context.Context, func(), error) {
	return "", nil, nil, fault.New(fault.Denied, "revoked").With("join again")
}

func TestWhoIsRefusedSendsNothing(t *testing.T) {
	path, h := link.Handler(serverFunc(nil), nil, refusing{}, slog.New(slog.DiscardHandler))
	body := &counted{r: strings.NewReader("0123456789")}
	for _, call := range []string{"Report", "Directives", "Renew", "Inventory"} {
		req := httptest.NewRequest(http.MethodPost, path+call, body)
		req.Header.Set("Content-Type", "application/proto")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if body.n != 0 || rec.Code != http.StatusForbidden && !strings.Contains(rec.Body.String(), "permission_denied") {
			t.Errorf("%s: got %d %s after %d bytes", call, rec.Code, rec.Body, body.n)
		}
	}
	mux := http.NewServeMux()
	mux.Handle(path, h)
	c := client(t, mux)
	if _, err := c.Report(t.Context(), full()); !fault.Is(err, fault.Denied) || fault.Remedy(err) != "join again" {
		t.Errorf("report: got %v (remedy %q)", err, fault.Remedy(err))
	}
	err := c.Directives(t.Context(), link.Caller{}, func(link.Directive) { t.Error("a directive came") })
	if !fault.Is(err, fault.Denied) || fault.Remedy(err) != "join again" {
		t.Errorf("directives: got %v (remedy %q)", err, fault.Remedy(err))
	}
}

// ending is a gate whose calls end with a reason.
type ending struct{ ctx context.Context }

func (g ending) Admit(*http.Request) (string, context.Context, func(), error) {
	return full().Agent.ID, g.ctx, func() {}, nil
}

// TestWhoWaitsInVainIsTold holds that a report which nobody read is never
// answered as one that is stored.
func TestWhoWaitsInVainIsTold(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	entered := make(chan struct{})
	path, h := link.Handler(serverFunc(func(ctx context.Context, _ link.Report) (link.Receipt, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return link.Receipt{}, ctx.Err()
	}), nil, ending{ctx}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	const read, waiting = 16, 4 // large ones are read at once; what comes then waits
	large := full()
	for range link.MaxEvents - len(large.Events) {
		e := large.Events[0]
		e.Process.Executable = strings.Repeat("x", 200)
		large.Events = append(large.Events, e)
	}
	errs := make(chan error, read+waiting)
	ask := func(c *link.Client, n int) {
		for range n {
			go func() {
				_, err := c.Report(t.Context(), large)
				errs <- err
			}()
		}
	}
	// On connections of their own: what waits unread holds up its connection.
	ask(client(t, mux), read)
	for range read {
		<-entered
	}
	ask(client(t, mux), waiting)
	end(fault.New(fault.Denied, "revoked").With("join again"))
	for range read + waiting {
		if err := <-errs; !fault.Is(err, fault.Denied) || fault.Remedy(err) != "join again" {
			t.Errorf("got %v, want denied", err)
		}
	}
}

func TestOnlyTheBoundedFormIsRead(t *testing.T) {
	path, h := link.Handler(serverFunc(nil), nil, gate{}, slog.New(slog.DiscardHandler))
	for _, kind := range []string{"application/json", "application/connect+json", "application/json; charset=utf-8"} {
		req := httptest.NewRequest(http.MethodPost, path+"Report", strings.NewReader("{}"))
		req.Header.Set("Content-Type", kind)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != http.StatusUnsupportedMediaType {
			t.Errorf("%s: got %d", kind, rec.Code)
		}
	}
}

type counted struct {
	r io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// directing is a link.Server that plays directives.
type directing struct {
	serverFunc
	play func(context.Context, link.Caller, func(link.Directive)) error
}

func (d directing) Directives(ctx context.Context, who link.Caller, take func(link.Directive)) error {
	return d.play(ctx, who, take)
}

func TestDirectivesArriveAsTheyWereGiven(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 1, time.UTC)
	given := []link.Directive{
		{ID: "a", Kind: link.DirectiveSettings, Issued: at, Settings: &asset.AgentSettings{SensorsOff: []string{"file"}, SensitivePaths: []string{"/k/*"}, Window: time.Minute}},
		{ID: "b", Kind: link.DirectiveSnapshot, Issued: at},
		{ID: "s", Kind: link.DirectiveScan, Issued: at, Scan: &link.ScanWish{Job: "j", ImageID: "sha256:1", Reference: "web:1", Until: at.Add(time.Hour)}},
		{ID: "c", Kind: "of a newer server", Issued: at},
	}
	var who link.Caller
	path, h := link.Handler(directing{play: func(_ context.Context, w link.Caller, take func(link.Directive)) error {
		who = w
		for _, d := range given {
			take(d)
		}
		return fault.New(fault.Denied, "revoked").With("join again")
	}}, nil, gate{}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	var got []link.Directive
	err := client(t, mux).Directives(t.Context(), link.Caller{AgentID: "SOMEBODYELSE", Boot: "B", Version: "1"}, func(d link.Directive) { got = append(got, d) })
	if !fault.Is(err, fault.Denied) || fault.Remedy(err) != "join again" {
		t.Errorf("got %v, want denied with a remedy", err)
	}
	if diff := cmp.Diff(given, got); diff != "" {
		t.Errorf("directives (-want +got):\n%s", diff)
	}
	if want := (link.Caller{AgentID: full().Agent.ID, Boot: "B", Version: "1"}); who != want {
		t.Errorf("the server was told of %v, want %v", who, want)
	}
}

const recorded = "testdata/report-v1.bin"

// TestRecordedReportIsStillRead holds the promise that an old agent and a new
// server understand each other. -update writes the file anew, which only the
// first version of a form may do: add another file instead.
func TestRecordedReportIsStillRead(t *testing.T) {
	if *update {
		c := client(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err == nil {
				err = os.WriteFile(recorded, b, 0o644)
			}
			if err != nil {
				t.Error(err)
			}
		}))
		c.Report(t.Context(), full())
	}
	b, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	var got link.Report
	path, h := link.Handler(serverFunc(func(_ context.Context, r link.Report) (link.Receipt, error) {
		got = r
		return link.Receipt{}, nil
	}), nil, gate{}, slog.New(slog.DiscardHandler))
	req := httptest.NewRequest(http.MethodPost, path+"Report", bytes.NewReader(b))
	req.Header.Set("Content-Type", "application/proto")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		t.Fatalf("got %d %s", rec.Code, rec.Body)
	}
	want := full()
	for _, e := range want.Events {
		if e.Exec != nil { // what is younger than the recording
			e.Exec.Environment, e.Exec.EnvironmentTruncated, e.Exec.Stdio = nil, false, nil
		}
	}
	if diff := cmp.Diff(want, got, sameReport, sameAddresses); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}
