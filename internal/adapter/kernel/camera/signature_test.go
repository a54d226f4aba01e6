package camera

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// signs is what an agent proves itself with.
type signs struct {
	cert      *tls.Certificate
	authority *x509.Certificate
}

func (s signs) Certificate() *tls.Certificate { return s.cert }
func (s signs) Authority() *x509.Certificate  { return s.authority }

// issue makes a certificate; without an issuer it is an authority's own.
func issue(t *testing.T, name string, by *tls.Certificate, from, to time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to}
	parent, signer := c, crypto.Signer(key)
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		parent, signer = by.Leaf, by.PrivateKey.(crypto.Signer)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestSignature(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	from, to := at.Add(-time.Hour), at.Add(time.Hour)
	ours, others := issue(t, "authority", nil, from, to), issue(t, "authority", nil, from, to)
	agent := issue(t, "host-1", ours, from, to)
	m := Manifest{Version: Version, Deed: "D", Agent: "host-1", Ended: at}
	b := archivedAs(t, m, signs{agent, ours.Leaf})
	v, err := Verify(bytes.NewReader(b))
	if err != nil || len(v.Wrong) > 0 || v.Signature == nil || v.Signature.Agent != "host-1" || !v.Signature.Under(link.Fingerprint(ours.Leaf)) {
		t.Fatalf("%+v, %v", v, err)
	}
	if v.Signature.Under(link.Fingerprint(others.Leaf)) || v.Signature.Under("") || (*Signature)(nil).Under(link.Fingerprint(ours.Leaf)) {
		t.Error("it is signed under an authority that it is not")
	}
	if by, err := SignedBy(bytes.NewReader(b), ours.Leaf); err != nil || by != "host-1" {
		t.Errorf("signed by %q, %v", by, err)
	}
	if by, err := SignedBy(bytes.NewReader(archivedAs(t, m, nil)), ours.Leaf); err != nil || by != "" {
		t.Errorf("nobody's is signed by %q, %v", by, err)
	}
	with := func(name string, to func([]byte) []byte) []byte {
		return changed(t, b, func(h *tar.Header, body []byte) ([]byte, bool) {
			if h.Name == name {
				return to(body), true
			}
			return body, true
		})
	}
	signature := func(change func(*signedManifest)) []byte {
		return with(signatureName, func(body []byte) []byte {
			var x signedManifest
			if err := json.Unmarshal(body, &x); err != nil {
				t.Fatal(err)
			}
			change(&x)
			out, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			return out
		})
	}
	late := m
	late.Ended = to.Add(time.Minute)
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"the manifest is another":     {with(manifestName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"D"`), []byte(`"E"`), 1) }), "not of this manifest"},
		"another agent's":             {archivedAs(t, m, signs{issue(t, "host-2", ours, from, to), ours.Leaf}), "is of agent host-2"},
		"the authority is forged":     {signature(func(x *signedManifest) { x.Authority = others.Leaf.Raw }), "not of the authority"},
		"the certificate is another":  {signature(func(x *signedManifest) { x.Certificate = issue(t, "host-1", ours, from, to).Leaf.Raw }), "not of this manifest"},
		"after its certificate ended": {archivedAs(t, late, signs{agent, ours.Leaf}), "its certificate holds from"},
		"no certificate":              {signature(func(x *signedManifest) { x.Certificate = []byte("x") }), "read its certificate"},
		"no signature":                {signature(func(x *signedManifest) { x.Signature = []byte("[]") }), "not of this manifest"},
		"no document":                 {with(signatureName, func([]byte) []byte { return []byte("[") }), "it is none"},
	} {
		v, err := Verify(bytes.NewReader(c.b))
		if err != nil || !strings.Contains(strings.Join(v.Wrong, "; "), c.want) {
			t.Errorf("%s: %+v, %v; want %q", name, v, err, c.want)
		}
		if by, err := SignedBy(bytes.NewReader(c.b), ours.Leaf); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: signed by %q, %v", name, by, err)
		}
	}
	forged := archivedAs(t, m, signs{issue(t, "host-1", others, from, to), others.Leaf}) // whole, and by an authority of the forger's own
	if v, err := Verify(bytes.NewReader(forged)); err != nil || len(v.Wrong) > 0 || v.Signature.Under(link.Fingerprint(ours.Leaf)) {
		t.Errorf("by another authority: %+v, %v", v, err)
	}
	if by, err := SignedBy(bytes.NewReader(forged), ours.Leaf); !fault.Is(err, fault.Corrupt) {
		t.Errorf("by another authority: signed by %q, %v", by, err)
	}
	long := changed(t, b, func(h *tar.Header, body []byte) ([]byte, bool) {
		if h.Name == signatureName {
			body = bytes.Repeat([]byte(" "), signatureRoom+1)
		}
		return body, true
	})
	if _, err := Verify(io.LimitReader(bytes.NewReader(long), int64(len(long)))); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a signature that is too long: %v", err)
	}
}
