package enrol_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/enrol"
	"github.com/castellan-security/castellan/internal/server/pki"
)

const (
	agentID = "AGENTAAAAAAAA"
	other   = "AGENTBBBBBBBB"
	home    = "10.0.0.7"
)

var admin = access.Identity{Actor: "user:admin", Scopes: access.Administrator.Scopes(), Address: "10.0.0.1"}

// memory is a store with the semantics of store.Store.
type memory struct {
	mu           sync.Mutex
	invitations  []access.Invitation
	certificates []access.Certificate
	lines        []access.Audit
	broken       error // of the next PutCertificate
}

func (m *memory) PutInvitation(_ context.Context, i access.Invitation) (access.Invitation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i.ID = int64(len(m.invitations) + 1)
	m.invitations = append([]access.Invitation{i}, m.invitations...)
	return i, nil
}

func (m *memory) UseInvitation(_ context.Context, hash []byte, agentID string, now time.Time) (access.Invitation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.invitations {
		i := &m.invitations[n]
		if slices.Equal(i.Hash, hash) && i.Used == nil && now.Before(i.Expires) {
			i.Used, i.AgentID = &now, agentID
			return *i, nil
		}
	}
	return access.Invitation{}, fault.New(fault.Denied, "no such invitation")
}

func (m *memory) Invitations(context.Context) ([]access.Invitation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.invitations), nil
}

func (m *memory) PutCertificate(_ context.Context, c access.Certificate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	m.certificates = append([]access.Certificate{c}, m.certificates...)
	return nil
}

func (m *memory) Certificates(_ context.Context, agentID string) (out []access.Certificate, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.certificates {
		if agentID == "" || c.AgentID == agentID {
			out = append(out, c)
		}
	}
	return out, nil
}

func (m *memory) RevokeCertificates(_ context.Context, agentID string, now time.Time) (n int, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.certificates {
		if c := &m.certificates[i]; c.AgentID == agentID && c.Revoked == nil {
			c.Revoked = &now
			n++
		}
	}
	return n, nil
}

func (m *memory) AppendAudit(_ context.Context, a access.Audit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, a)
	return nil
}

// audited counts the lines of an action.
func (m *memory) audited(action string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lines {
		if l.Action == action {
			n++
		}
	}
	return n
}

// fixture is a service with a clock of its own.
type fixture struct {
	*enrol.Service
	st  *memory
	ca  *pki.Authority
	now time.Time
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{st: &memory{}, now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	var err error
	if f.ca, err = pki.Open(t.TempDir(), []string{"localhost"}, f.clock); err != nil {
		t.Fatal(err)
	}
	f.restart(t)
	return f
}

func (f *fixture) clock() time.Time { return f.now }

func (f *fixture) restart(t *testing.T) {
	t.Helper()
	var err error
	if f.Service, err = enrol.New(t.Context(), f.st, f.ca, f.clock, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) invite(t *testing.T, life time.Duration) string {
	t.Helper()
	_, token, err := f.Invite(t.Context(), admin, "host 7", life)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func csr(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (f *fixture) join(t *testing.T, token, id string) (*x509.Certificate, error) {
	t.Helper()
	c, err := f.Join(t.Context(), link.JoinRequest{Token: token, CSR: csr(t), AgentID: id, Hostname: "ip-10-0-0-7", Address: home})
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(c.Certificate)
	if err != nil || c.AgentID != id || cert.Subject.CommonName != id {
		t.Fatalf("got a certificate for %q, answer for %q, %v", cert.Subject.CommonName, c.AgentID, err)
	}
	return cert, nil
}

// request is one that came over a connection with this certificate.
func request(t *testing.T, cert *x509.Certificate) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	r.TLS = &tls.ConnectionState{}
	if cert != nil {
		r.TLS.VerifiedChains = [][]*x509.Certificate{{cert}}
	}
	return r
}

func (f *fixture) admits(t *testing.T, cert *x509.Certificate) error {
	t.Helper()
	id, _, leave, err := f.Admit(request(t, cert))
	if err == nil {
		leave()
		if id != cert.Subject.CommonName {
			t.Errorf("taken for %q", id)
		}
	}
	return err
}

func TestLifeOfAnAgent(t *testing.T) {
	f := newFixture(t)
	token := f.invite(t, 0)
	if !strings.HasPrefix(token, "cji_") || len(token) != 47 {
		t.Errorf("got token of form %q…, %d bytes", token[:4], len(token))
	}
	first, err := f.join(t, token, agentID)
	if err != nil {
		t.Fatal(err)
	}
	if life := first.NotAfter.Sub(f.now); life != 30*24*time.Hour || !slices.Equal(first.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || first.IsCA {
		t.Errorf("got a certificate for %s, uses %v, authority %v", life, first.ExtKeyUsage, first.IsCA)
	}
	if err := f.admits(t, first); err != nil {
		t.Errorf("joined: %v", err)
	}
	f.now = f.now.Add(11 * 24 * time.Hour)
	got, err := f.Renew(t.Context(), agentID, csr(t))
	if err != nil {
		t.Fatal(err)
	}
	second, err := x509.ParseCertificate(got.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]*x509.Certificate{"old": first, "renewed": second} {
		if err := f.admits(t, cert); err != nil {
			t.Errorf("%s certificate: %v", name, err)
		}
	}
	f.now = first.NotAfter.Add(time.Second)
	if err := f.admits(t, first); !fault.Is(err, fault.Denied) || fault.Remedy(err) == "" {
		t.Errorf("expired certificate: got %v, want denied with a remedy", err)
	}
	if n, err := f.Revoke(t.Context(), admin, agentID); err != nil || n != 2 {
		t.Errorf("revoked %d, %v; want 2", n, err)
	}
	if err := f.admits(t, second); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Remedy(err), "join again with a new invitation") {
		t.Errorf("revoked: got %v, remedy %q", err, fault.Remedy(err))
	}
	f.restart(t)
	if err := f.admits(t, second); !fault.Is(err, fault.Denied) {
		t.Errorf("revoked, after a restart: got %v, want denied", err)
	}
	third, err := f.join(t, f.invite(t, 0), agentID)
	if err != nil {
		t.Fatalf("joins again: %v", err)
	}
	if err := f.admits(t, third); err != nil {
		t.Errorf("joined again: %v", err)
	}
	if err := f.admits(t, second); !fault.Is(err, fault.Denied) {
		t.Errorf("the revoked one, after joining again: got %v, want denied", err)
	}
	for action, want := range map[string]int{"agent.invite": 2, "agent.join": 2, "agent.renew": 1, "agent.revoke": 1} {
		if got := f.st.audited(action); got != want {
			t.Errorf("%d lines of %s in the audit log, want %d", got, action, want)
		}
	}
}

func TestTokenIsGoodOnceAndForItsTime(t *testing.T) {
	f := newFixture(t)
	token, old := f.invite(t, 0), f.invite(t, time.Minute)
	f.now = f.now.Add(time.Minute)
	for name, tk := range map[string]string{"expired": old, "unknown": "cji_" + strings.Repeat("A", 43), "malformed": "cst_x", "none": ""} {
		if _, err := f.join(t, tk, agentID); !fault.Is(err, fault.Denied) || fault.Remedy(err) == "" {
			t.Errorf("%s: got %v, want denied with a remedy", name, err)
		}
	}
	if _, err := f.join(t, token, agentID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.join(t, token, other); !fault.Is(err, fault.Denied) {
		t.Errorf("twice: got %v, want denied", err)
	}
	if got := f.st.audited("agent.refused"); got != 5 {
		t.Errorf("%d refusals in the audit log, want 5", got)
	}
	for _, l := range f.st.lines {
		if strings.Contains(fmt.Sprint(l), token) {
			t.Errorf("the audit log shows the token: %v", l)
		}
	}
}

func TestOneTokenManyAtOnce(t *testing.T) {
	f := newFixture(t)
	token := f.invite(t, 0)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = f.join(t, token, fmt.Sprintf("AGENTNUMBER%d", i)) })
	}
	wg.Wait()
	joined := 0
	for _, err := range errs {
		if err == nil {
			joined++
		} else if !fault.Is(err, fault.Denied) {
			t.Errorf("got %v, want denied", err)
		}
	}
	if joined != 1 || len(f.st.certificates) != 1 {
		t.Errorf("%d joined with %d certificates, want 1", joined, len(f.st.certificates))
	}
}

func TestNobodyTakesAnIDOver(t *testing.T) {
	f := newFixture(t)
	if _, err := f.join(t, f.invite(t, 0), agentID); err != nil {
		t.Fatal(err)
	}
	f.Reserve(other)
	token := f.invite(t, 0)
	for _, id := range []string{agentID, other} {
		if _, err := f.join(t, token, id); !fault.Is(err, fault.Conflict) || fault.Remedy(err) == "" {
			t.Errorf("%s: got %v, want a conflict with a remedy", id, err)
		}
	}
	for _, id := range []string{"", "short", "with space!", strings.Repeat("A", 65), "a/../../b"} {
		if _, err := f.join(t, token, id); !fault.Is(err, fault.Invalid) {
			t.Errorf("id %q: got %v, want invalid", id, err)
		}
	}
	f.now = f.now.Add(time.Minute) // the pause after so many failures
	bad := link.JoinRequest{Token: token, CSR: []byte("x"), AgentID: "AGENTCCCCCCC", Address: home}
	if _, err := f.Join(t.Context(), bad); !fault.Is(err, fault.Invalid) {
		t.Errorf("bad request: got %v, want invalid", err)
	}
	if _, err := f.join(t, token, "AGENTCCCCCCC"); err != nil {
		t.Errorf("the token was used up by what was refused: %v", err)
	}
	f.now = f.now.Add(31 * 24 * time.Hour)
	if _, err := f.join(t, f.invite(t, 0), agentID); err != nil {
		t.Errorf("after the certificate's end: %v", err)
	}
}

func TestFailedJoinsAreSlowedDown(t *testing.T) {
	f := newFixture(t)
	token := f.invite(t, time.Hour)
	wrong := "cji_" + strings.Repeat("A", 43)
	for range 10 {
		if _, err := f.join(t, wrong, agentID); !fault.Is(err, fault.Denied) {
			t.Fatalf("got %v, want denied", err)
		}
	}
	for range 3 {
		if _, err := f.join(t, token, agentID); !fault.Is(err, fault.Exhausted) {
			t.Fatalf("got %v, want exhausted", err)
		}
	}
	if got := f.st.audited("agent.refused"); got != 11 {
		t.Errorf("%d refusals in the audit log, want 10 and one for the pause", got)
	}
	r := link.JoinRequest{Token: wrong, CSR: csr(t), AgentID: agentID, Address: "10.0.0.8"}
	if _, err := f.Join(t.Context(), r); !fault.Is(err, fault.Denied) {
		t.Errorf("another address: got %v, want denied", err)
	}
	f.now = f.now.Add(time.Minute)
	if _, err := f.join(t, token, agentID); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	f.now = f.now.Add(time.Minute)
	var last error
	for i := range 400 {
		_, last = f.Join(t.Context(), link.JoinRequest{Token: wrong, AgentID: agentID, Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250)})
	}
	if !fault.Is(last, fault.Exhausted) {
		t.Errorf("from everywhere: got %v, want exhausted", last)
	}
}

func TestWhatIsNotRecordedIsNotHandedOut(t *testing.T) {
	f := newFixture(t)
	f.st.broken = errors.New("disk I/O")
	if c, err := f.Join(t.Context(), link.JoinRequest{Token: f.invite(t, 0), CSR: csr(t), AgentID: agentID, Address: home}); err == nil || c.Certificate != nil {
		t.Errorf("got %v, %v; want an error alone", c, err)
	}
}

func TestRevocationEndsWhatIsUnderWay(t *testing.T) {
	f := newFixture(t)
	cert, err := f.join(t, f.invite(t, 0), agentID)
	if err != nil {
		t.Fatal(err)
	}
	bystander, err := f.join(t, f.invite(t, 0), other)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer far.Close()
	r := request(t, cert)
	r = r.WithContext(f.ConnContext(r.Context(), near))
	_, ctx, leave, err := f.Admit(r)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	_, theirs, leaveToo, err := f.Admit(request(t, bystander))
	if err != nil {
		t.Fatal(err)
	}
	defer leaveToo()
	if _, err := f.Revoke(t.Context(), admin, agentID); err != nil {
		t.Fatal(err)
	}
	if err := context.Cause(ctx); !fault.Is(err, fault.Denied) {
		t.Errorf("its call goes on: %v", err)
	}
	if theirs.Err() != nil {
		t.Error("another agent's call was ended")
	}
	// A renewal that began before must not give it a way around.
	if _, err := f.Renew(ctx, agentID, csr(t)); !fault.Is(err, fault.Denied) {
		t.Errorf("renewal under way: got %v, want denied", err)
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the connection stays open")
	}
}

func TestOnlyAgentsCertificatesCount(t *testing.T) {
	f := newFixture(t)
	server, err := f.ca.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewRequest(http.MethodPost, "/", nil)
	for name, r := range map[string]*http.Request{
		"no TLS": plain, "none": request(t, nil), "the authority's": request(t, f.ca.Root()), "the server's": request(t, server.Leaf),
	} {
		if _, _, _, err := f.Admit(r); !fault.Is(err, fault.Unauthenticated) || fault.Remedy(err) == "" {
			t.Errorf("%s: got %v, want unauthenticated with a remedy", name, err)
		}
	}
}

func TestRenewalsAreBounded(t *testing.T) {
	f := newFixture(t)
	if _, err := f.join(t, f.invite(t, 0), agentID); err != nil {
		t.Fatal(err)
	}
	for range 9 {
		if _, err := f.Renew(t.Context(), agentID, csr(t)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Renew(t.Context(), agentID, csr(t)); !fault.Is(err, fault.Exhausted) {
		t.Errorf("got %v, want exhausted", err)
	}
	f.now = f.now.Add(time.Hour)
	if _, err := f.Renew(t.Context(), agentID, csr(t)); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestRightsAndLimitsOfManaging(t *testing.T) {
	f := newFixture(t)
	operator := access.Identity{Actor: "user:otto", Scopes: access.Operator.Scopes()}
	for name, err := range map[string]error{
		"invite":       func() error { _, _, err := f.Invite(t.Context(), operator, "", 0); return err }(),
		"invitations":  func() error { _, err := f.Invitations(t.Context(), operator); return err }(),
		"revoke":       func() error { _, err := f.Revoke(t.Context(), operator, agentID); return err }(),
		"certificates": func() error { _, err := f.Certificates(t.Context(), access.Identity{Actor: "token:x"}, ""); return err }(),
	} {
		if !fault.Is(err, fault.Denied) {
			t.Errorf("%s: got %v, want denied", name, err)
		}
	}
	inviter := access.Identity{Actor: "token:local/hosts", Scopes: []access.Scope{access.InviteAgents}}
	if _, _, err := f.Invite(t.Context(), inviter, "", 0); err != nil {
		t.Errorf("invite with no more than the right to: %v", err)
	}
	if _, err := f.Revoke(t.Context(), inviter, agentID); !fault.Is(err, fault.Denied) {
		t.Errorf("revoke with the right to invite: got %v, want denied", err)
	}
	for name, err := range map[string]error{
		"too long a life":  func() error { _, _, err := f.Invite(t.Context(), admin, "", 25*time.Hour); return err }(),
		"too short a life": func() error { _, _, err := f.Invite(t.Context(), admin, "", time.Second); return err }(),
		"an odd name":      func() error { _, _, err := f.Invite(t.Context(), admin, "a\x1b[2J", 0); return err }(),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if _, err := f.Revoke(t.Context(), admin, "AGENTNEVERSEEN"); !fault.Is(err, fault.NotFound) {
		t.Errorf("revoke nobody: got %v, want not found", err)
	}
}
