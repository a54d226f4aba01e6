package agent_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// registrar gives certificates, and can be made to do it wrong. It is
// link.Joiner and, for the agent's side, agent.Renewer.
type registrar struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
	// id, when set, is whom the certificates are for, whoever asks.
	id string
	// stranger signs instead of root's key.
	stranger *ecdsa.PrivateKey
	serial   int64
	renewed  int
	from     link.JoinRequest // of the last join
}

func newRegistrar(t testing.TB) *registrar {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &registrar{key: key, root: root, serial: 1}
}

func (r *registrar) sign(id string, csr []byte) (link.Credentials, error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return link.Credentials{}, err
	}
	key := r.key
	if r.stranger != nil {
		key = r.stranger
	}
	if r.id != "" {
		id = r.id
	}
	r.serial++
	parent := &x509.Certificate{Subject: r.root.Subject, PublicKey: key.Public(), SubjectKeyId: r.root.SubjectKeyId}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(r.serial), Subject: pkix.Name{CommonName: id},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
	}, parent, req.PublicKey, key)
	return link.Credentials{AgentID: id, Certificate: der, Authority: r.root.Raw}, err
}

func (r *registrar) Join(_ context.Context, req link.JoinRequest) (link.Credentials, error) {
	r.from = req
	return r.sign(req.AgentID, req.CSR)
}

func (r *registrar) renewer(id string) agent.Renewer { return renewer{r, id} }

type renewer struct {
	r  *registrar
	id string
}

func (r renewer) Renew(_ context.Context, csr []byte) (link.Credentials, error) {
	return r.r.sign(r.id, csr)
}
func (r renewer) Renewed() { r.r.renewed++ }

func (r *registrar) Renew(_ context.Context, agentID string, csr []byte) (link.Credentials, error) {
	return r.sign(agentID, csr)
}

// serve lets agents join r. The listener's certificate is of another authority
// than the one that agents get: no server of ours does that.
func (r *registrar) serve(t *testing.T) (address, fingerprint string) {
	t.Helper()
	path, h := link.JoinHandler(r, func(*http.Request) string { return "192.0.2.1" }, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	ts := httptest.NewUnstartedServer(mux)
	ts.EnableHTTP2 = true
	ts.StartTLS()
	t.Cleanup(ts.Close)
	// httptest's certificate is its own authority; it is sent once, so it is
	// sent twice here, as leaf and as root.
	c := &ts.TLS.Certificates[0]
	c.Certificate = append(c.Certificate, c.Certificate[0])
	return ts.URL, link.Fingerprint(ts.Certificate())
}

func TestServerThatIsAnotherThanThePinnedGetsNothingKept(t *testing.T) {
	r := newRegistrar(t)
	address, fingerprint := r.serve(t)
	dir := t.TempDir()
	// The listener is the pinned one; the authority that it hands out is not.
	_, err := agent.Join(t.Context(), dir, agent.JoinOptions{Server: address, Fingerprint: fingerprint, Token: "t"})
	if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "authority") {
		t.Errorf("got %v, want a refusal of the authority", err)
	}
	if r.from.Token != "t" || r.from.Address != "192.0.2.1" {
		t.Errorf("the server was asked with %+v", r.from)
	}
	if _, err := agent.OpenCredentials(dir); !fault.Is(err, fault.NotFound) || fault.Remedy(err) == "" {
		t.Errorf("got %v, want nothing kept", err)
	}
}

// credentials writes what an agent that joined has, and opens it.
func credentials(t testing.TB, r *registrar, dir, id string) *agent.Credentials {
	t.Helper()
	if err := agent.KeepCredentials(dir, "https://h:1", id, r.sign); err != nil {
		t.Fatal(err)
	}
	c, err := agent.OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCredentialsAreKeptForTheirOwnerAlone(t *testing.T) {
	r, dir := newRegistrar(t), t.TempDir()
	c := credentials(t, r, dir, "AGENTAAAAAAAA")
	if c.AgentID() != "AGENTAAAAAAAA" || c.Server() != "https://h:1" || !c.Authority().Equal(r.root) {
		t.Errorf("got agent %s, server %s", c.AgentID(), c.Server())
	}
	path := filepath.Join(dir, "joined.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("got mode %v, %v, want 600", info.Mode(), err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"torn": b[:len(b)/2], "empty": nil, "no object": []byte("[]"), "endless": append(b, make([]byte, 1<<20)...),
		"another key": []byte(strings.Replace(string(b), `"key": "M`, `"key": "N`, 1)),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := agent.OpenCredentials(dir); !fault.Is(err, fault.Corrupt) || fault.Remedy(err) == "" {
			t.Errorf("%s: got %v, want corrupt with a remedy", name, err)
		}
	}
}

func TestRenewalKeepsTheOldUntilTheNewIsInOrder(t *testing.T) {
	const id = "AGENTAAAAAAAA"
	r, dir := newRegistrar(t), t.TempDir()
	c := credentials(t, r, dir, id)
	first := c.Certificate()
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.id = "ANOTHERAGENT"
	if err := c.Renew(t.Context(), r.renewer(id)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("for another agent: got %v, want corrupt", err)
	}
	r.id, r.stranger = "", stranger
	if err := c.Renew(t.Context(), r.renewer(id)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("not signed by the authority: got %v, want corrupt", err)
	}
	other := newRegistrar(t)
	if err := c.Renew(t.Context(), other.renewer(id)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("of another authority: got %v, want corrupt", err)
	}
	if c.Certificate() != first || r.renewed+other.renewed != 0 {
		t.Error("what was refused is used")
	}
	r.stranger = nil
	if err := c.Renew(t.Context(), r.renewer(id)); err != nil {
		t.Fatal(err)
	}
	again, err := agent.OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := c.Certificate().Leaf
	if now.Equal(first.Leaf) || !again.Certificate().Leaf.Equal(now) || r.renewed != 1 {
		t.Errorf("renewed %d times; used %x, kept %x", r.renewed, now.SerialNumber, again.Certificate().Leaf.SerialNumber)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".new-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAnAgentThatJoinedIsNotOverwritten(t *testing.T) {
	r, dir := newRegistrar(t), t.TempDir()
	credentials(t, r, dir, "AGENTAAAAAAAA")
	_, err := agent.Join(t.Context(), dir, agent.JoinOptions{Server: "https://192.0.2.1:1", Token: "t"})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Remedy(err), "--again") {
		t.Errorf("got %v, want a conflict that names --again", err)
	}
}

// FuzzOpenCredentials: whatever lies in the file, it is credentials or Corrupt.
func FuzzOpenCredentials(f *testing.F) {
	dir := f.TempDir()
	credentials(f, newRegistrar(f), dir, "AGENTAAAAAAAA")
	path := filepath.Join(dir, "joined.json")
	b, err := fs.ReadFile(os.DirFS(dir), "joined.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"key":"AA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := agent.OpenCredentials(dir)
		if err != nil && !fault.Is(err, fault.Corrupt) || err == nil && c.Authority() == nil {
			t.Fatalf("got %v, %v", c, err)
		}
	})
}
