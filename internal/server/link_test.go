package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/store"
)

// told is a store that tells what events it was given.
type told struct {
	store.Store
	events chan event.Event
}

func (s told) AppendEvents(ctx context.Context, events []event.Event) error {
	err := s.Store.AppendEvents(ctx, events)
	for _, e := range events {
		s.events <- e
	}
	return err
}

// doors are those of an agent, played by the test.
type doors struct {
	sense   chan []event.Event
	applied chan asset.AgentSettings
	reports chan link.Report // handed over, or tried to
	link.Server
}

func (d *doors) Run(ctx context.Context, emit func([]event.Event)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-d.sense:
			emit(e)
		}
	}
}

func (d *doors) Watch(ctx context.Context, see func(asset.Inventory)) error {
	see(asset.Inventory{Complete: true, Engine: asset.Engine{Connected: true}})
	<-ctx.Done()
	return ctx.Err()
}
func (d *doors) Status() []asset.Sensor                               { return nil }
func (d *doors) Close() error                                         { return nil }
func (d *doors) Describe(context.Context) (asset.Host, []asset.Rung)  { return asset.Host{}, nil }
func (d *doors) Processes(context.Context) ([]event.Running, error)   { return nil, nil }
func (d *doors) Usage() asset.Usage                                   { return asset.Usage{} }
func (d *doors) Apply(_ context.Context, s asset.AgentSettings) error { d.applied <- s; return nil }
func (d *doors) Report(ctx context.Context, r link.Report) (link.Receipt, error) {
	receipt, err := d.Server.Report(ctx, r)
	select {
	case d.reports <- r:
	default:
	}
	return receipt, err
}

// invite returns a new token.
func (h *house) invite(t *testing.T) string {
	t.Helper()
	var made struct {
		Token       string
		Fingerprint string `json:"ca_fingerprint"`
		Server      string
	}
	h.ask(t, "POST", "/api/v1/agents/invitations", map[string]any{}, h.as(access.Administrator)...).into(t, &made)
	if made.Server != h.base || made.Fingerprint != h.CAFingerprint() || made.Token == "" {
		t.Fatalf("got %+v", made)
	}
	return made.Token
}

// join lets the agent of that folder join, and returns its link.
func (h *house) join(t *testing.T, dir string) (*agent.Credentials, *link.Client) {
	t.Helper()
	if _, err := agent.Join(t.Context(), dir, agent.JoinOptions{Server: h.base, Fingerprint: h.CAFingerprint(), Token: h.invite(t)}); err != nil {
		t.Fatal(err)
	}
	c, err := agent.OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, h.link(t, c)
}

func (h *house) link(t *testing.T, c *agent.Credentials) *link.Client {
	t.Helper()
	cl, err := link.NewClient(link.ClientOptions{Server: c.Server(), Authority: c.Authority(), Certificate: c.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func reportOf(id string) link.Report {
	return link.Report{Agent: asset.Agent{ID: id, Boot: "BOOTBOOT", Hostname: "far"}}
}

// await returns what comes through c; nothing here waits for time to pass.
func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(deadline):
		t.Fatalf("%s does not come", what)
		panic("unreachable")
	}
}

// TestAgentWorksAsItIsTold runs an agent with played doors against a server
// over mutual TLS: it reports, gets settings at once and after each change, and
// reports everything anew when it is asked to.
func TestAgentWorksAsItIsTold(t *testing.T) {
	stored := make(chan event.Event, 10)
	h := open(t, func(s store.Store) store.Store { return told{s, stored} })
	joined, client := h.join(t, t.TempDir())
	d := &doors{
		sense: make(chan []event.Event), applied: make(chan asset.AgentSettings, 10),
		reports: make(chan link.Report, 1), Server: client,
	}
	a := agent.New(agent.Config{ID: joined.AgentID(), Version: "1"},
		agent.Parts{Engine: d, Sensors: d, Host: d, Server: d, Tuner: d}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()

	d.sense <- []event.Event{{Kind: event.KindExec, Time: time.Now(), Process: event.Process{Key: event.Key{PID: 7, Start: 7}, Executable: "/bin/sh"}, Exec: &event.Exec{Args: []string{"sh"}}}}
	if e := await(t, "the event", stored); e.AgentID != joined.AgentID() || e.Process.Executable != "/bin/sh" {
		t.Errorf("got an event of agent %q, file %q", e.AgentID, e.Process.Executable)
	}
	want := asset.AgentSettings{SensorsOff: []string{"dns"}, SensitivePaths: []string{"/etc/app/*.key"}, Window: time.Minute}
	if a := h.ask(t, "PUT", "/api/v1/agents/"+joined.AgentID()+"/settings", want, h.as(access.Operator)...); a.status != http.StatusOK {
		t.Fatalf("put settings: got %d %s", a.status, a.body)
	}
	if diff := cmp.Diff(want, await(t, "the changed settings", d.applied)); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	for r := await(t, "a report", d.reports); !cmp.Equal(r.Agent.Settings, want); r = await(t, "a report with the settings in force", d.reports) {
	}
	if a := h.ask(t, "POST", "/api/v1/agents/"+joined.AgentID()+"/snapshot", nil, h.as(access.Operator)...); a.status != http.StatusNoContent {
		t.Fatalf("ask for a snapshot: got %d %s", a.status, a.body)
	}
	for r := await(t, "a report", d.reports); !r.Snapshot || !r.Complete; r = await(t, "a snapshot", d.reports) {
	}
	stop()
	if err := await(t, "the agent's end", ended); err != nil {
		t.Error(err)
	}
}

// TestRevokedAgentIsCutOffAtOnce revokes an agent whose stream of directives
// and another connection are open.
func TestRevokedAgentIsCutOffAtOnce(t *testing.T) {
	h := open(t, nil)
	joined, client := h.join(t, t.TempDir())
	stays, bystander := h.join(t, t.TempDir())
	if _, err := client.Report(t.Context(), reportOf(joined.AgentID())); err != nil {
		t.Fatal(err)
	}
	heard, ended := make(chan link.Directive, 10), make(chan error, 1)
	go func() {
		ended <- client.Directives(t.Context(), link.Caller{}, func(d link.Directive) { heard <- d })
	}()
	await(t, "the first directive", heard)
	conf := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{*joined.Certificate()}}
	conf.RootCAs.AddCert(joined.Authority())
	raw, err := tls.Dial("tcp", h.Addr(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	// A request that is in no form keeps the connection.
	io.WriteString(raw, "POST /castellan.link.v1.LinkService/Renew HTTP/1.1\r\nHost: x\r\nContent-Type: application/proto\r\nContent-Length: 0\r\n\r\n")
	in := bufio.NewReader(raw)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)

	var done struct{ Revoked int }
	h.ask(t, "DELETE", "/api/v1/agents/"+joined.AgentID()+"/certificates", nil, h.as(access.Administrator)...).into(t, &done)
	if done.Revoked != 1 {
		t.Errorf("%d certificates revoked, want 1", done.Revoked)
	}
	if err := await(t, "the end of the stream", ended); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Remedy(err), "join again with a new invitation") {
		t.Errorf("the stream ended with %v, remedy %q", err, fault.Remedy(err))
	}
	raw.SetReadDeadline(time.Now().Add(deadline))
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("the other connection: got %v, want its end", err)
	}
	_, err = client.Report(t.Context(), reportOf(joined.AgentID()))
	if fault.Is(err, fault.Unavailable) { // it went out on the connection that was being cut
		_, err = client.Report(t.Context(), reportOf(joined.AgentID()))
	}
	if !fault.Is(err, fault.Denied) || !strings.Contains(fault.Remedy(err), "join again with a new invitation") {
		t.Errorf("the next report: got %v, remedy %q", err, fault.Remedy(err))
	}
	if _, err := bystander.Report(t.Context(), reportOf(stays.AgentID())); err != nil {
		t.Errorf("another agent: %v", err)
	}
}

func TestWhoIsNoAgentHere(t *testing.T) {
	h := open(t, nil)
	joined, client := h.join(t, t.TempDir())
	id := joined.AgentID()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: id}, Issuer: joined.Authority().Subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	namesake := &x509.Certificate{Subject: joined.Authority().Subject, SerialNumber: big.NewInt(2)}
	der, err := x509.CreateCertificate(rand.Reader, self, namesake, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	with := func(c *tls.Certificate) error {
		cl, err := link.NewClient(link.ClientOptions{Server: h.base, Authority: joined.Authority(), Certificate: func() *tls.Certificate { return c }})
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		_, err = cl.Report(t.Context(), reportOf(id))
		return err
	}
	if err := with(&tls.Certificate{}); !fault.Is(err, fault.Unauthenticated) || fault.Remedy(err) == "" {
		t.Errorf("no certificate: got %v, want unauthenticated with a remedy", err)
	}
	if err := with(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}); !fault.Is(err, fault.Denied) || fault.Remedy(err) == "" {
		t.Errorf("of another authority: got %v, want denied with a remedy", err)
	}
	if _, err := client.Report(t.Context(), reportOf("ANOTHERAGENT")); !fault.Is(err, fault.Denied) {
		t.Errorf("for another agent: got %v, want denied", err)
	}
	// A token of an API speaks for nobody.
	a := h.ask(t, "POST", "/castellan.link.v1.LinkService/Report", map[string]any{}, h.as(access.Administrator)...)
	if a.status != http.StatusUnauthorized {
		t.Errorf("an API token: got %d %s, want 401", a.status, a.body)
	}
	// And a certificate is nobody at the API.
	conf := h.tls.Clone()
	conf.Certificates = []tls.Certificate{*joined.Certificate()}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: deadline}
	defer c.CloseIdleConnections()
	if a := ask(t, c, h.base, "GET", "/api/v1/agents", nil); a.status != http.StatusUnauthorized {
		t.Errorf("a certificate at the API: got %d, want 401", a.status)
	}
	var page struct{ Agents []asset.Agent }
	h.ask(t, "GET", "/api/v1/agents", nil, h.as(access.Viewer)...).into(t, &page)
	if len(page.Agents) != 0 {
		t.Errorf("got agents %v", page.Agents)
	}
}

func TestJoiningOverTheLink(t *testing.T) {
	h := open(t, nil)
	token, dir := h.invite(t), t.TempDir()
	join := func(dir string, change func(*agent.JoinOptions)) error {
		o := agent.JoinOptions{Server: h.base, Fingerprint: h.CAFingerprint(), Token: token}
		if change != nil {
			change(&o)
		}
		_, err := agent.Join(t.Context(), dir, o)
		return err
	}
	if err := join(dir, func(o *agent.JoinOptions) { o.Fingerprint = "sha256:" + strings.Repeat("00", 32) }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a server of another authority: got %v, want unavailable", err)
	}
	if err := join(dir, func(o *agent.JoinOptions) { o.Fingerprint = "" }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a server that nobody vouches for: got %v, want unavailable", err)
	}
	if err := join(dir, func(o *agent.JoinOptions) { o.Token = "cji_" + strings.Repeat("A", 43) }); !fault.Is(err, fault.Denied) || fault.Remedy(err) == "" {
		t.Errorf("an unknown token: got %v, want denied with a remedy", err)
	}
	if err := join(dir, nil); err != nil {
		t.Fatal(err)
	}
	if err := join(dir, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("joined already: got %v, want a conflict", err)
	}
	if err := join(t.TempDir(), nil); !fault.Is(err, fault.Denied) {
		t.Errorf("the token again: got %v, want denied", err)
	}
	// The same id with a new token, while its certificate holds.
	token = h.invite(t)
	if err := join(dir, func(o *agent.JoinOptions) { o.Again = true }); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Remedy(err), "castellan agents revoke") {
		t.Errorf("the id again: got %v, remedy %q", err, fault.Remedy(err))
	}
	if _, err := agent.OpenCredentials(dir); err != nil {
		t.Errorf("what failed took the certificate away: %v", err)
	}
	id, err := agent.Identity(dir)
	if err != nil {
		t.Fatal(err)
	}
	h.ask(t, "DELETE", "/api/v1/agents/"+id+"/certificates", nil, h.as(access.Administrator)...)
	if err := join(dir, func(o *agent.JoinOptions) { o.Again = true }); err != nil {
		t.Errorf("after its revocation: %v", err)
	}
}

// TestRenewedCertificateIsUsedWithoutAGap moves the server's clock past the end
// of an agent's first certificate, with reports and directives under way.
func TestRenewedCertificateIsUsedWithoutAGap(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Now()
	var ahead atomic.Int64
	h := open(t, nil, func(c *server.Config) {
		c.Clock = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
	})
	dir := t.TempDir()
	joined, client := h.join(t, dir)
	first := joined.Certificate().Leaf
	for _, tc := range []struct {
		after time.Duration
		due   bool
	}{{0, false}, {9 * day, false}, {10 * day, true}} {
		if got := joined.Due(start.Add(tc.after)); got != tc.due {
			t.Errorf("due after %s: %v, want %v", tc.after, got, tc.due)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	heard, ended := make(chan link.Directive, 10), make(chan error, 2)
	go func() {
		ended <- client.Directives(ctx, link.Caller{}, func(d link.Directive) { heard <- d })
	}()
	await(t, "the first directive", heard)
	reported := make(chan int)
	renewed := make(chan struct{})
	go func() {
		n := 0
		for {
			if _, err := client.Report(t.Context(), reportOf(joined.AgentID())); err != nil {
				ended <- err
				break
			}
			n++
			select {
			case <-renewed:
				reported <- n
				return
			default:
			}
		}
		reported <- n
	}()
	ahead.Store(int64(20 * day))
	if err := joined.Renew(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	close(renewed)
	if n := await(t, "the reports' end", reported); n == 0 {
		t.Error("nothing was reported meanwhile")
	}
	ahead.Store(int64(31 * day))
	if now := joined.Certificate().Leaf; now.NotAfter.Sub(first.NotAfter) < 19*day {
		t.Errorf("the certificate ends %s, the first one %s", now.NotAfter, first.NotAfter)
	}
	await(t, "the directives of the new connection", heard)
	if _, err := client.Report(t.Context(), reportOf(joined.AgentID())); err != nil {
		t.Errorf("report after the first certificate's end: %v", err)
	}
	if a := h.ask(t, "PUT", "/api/v1/agents/settings", map[string]any{"sensors_off": []string{"dns"}}, h.as(access.Operator)...); a.status != http.StatusOK {
		t.Fatalf("put settings: got %d %s", a.status, a.body)
	}
	if d := await(t, "a change of settings", heard); d.Settings == nil || len(d.Settings.SensorsOff) != 1 {
		t.Errorf("got %+v", d)
	}
	again, err := agent.OpenCredentials(dir)
	if err != nil || again.Certificate().Leaf.SerialNumber.Cmp(joined.Certificate().Leaf.SerialNumber) != 0 {
		t.Errorf("the renewed certificate is not what a restart finds: %v", err)
	}
	stop()
	if err := await(t, "the end of directives", ended); err != context.Canceled {
		t.Errorf("ended with %v", err)
	}
}
