package notary_test

import (
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/signature"
)

const (
	pointA = "http://crl.example/a"
	pointB = "http://crl.example/b"
)

func revoke(t testing.TB, by *notarytest.Holder, edits ...func(*x509.RevocationList)) []byte {
	t.Helper()
	l := &x509.RevocationList{ThisUpdate: july.Add(-24 * time.Hour), NextUpdate: july.Add(24 * time.Hour)}
	for _, edit := range edits {
		edit(l)
	}
	der, err := notarytest.Revoke(by, l)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRevocation(t *testing.T) {
	w := newWorld(t)
	w.signer = issue(t, w.ca, notarytest.Signer, "build", w.signer.Key, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{pointA} })
	url := serve(t, w.stamper)
	plain := sign(t, w.signer, notary.SignOptions{})
	stamped := sign(t, w.signer, notary.SignOptions{TSA: &notary.TSA{URL: url, Roots: w.tsaRoot.Chain}})
	entry := func(reason int, exts ...pkix.Extension) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: w.signer.Chain[0].SerialNumber, RevocationTime: june.Add(time.Hour), ReasonCode: reason, ExtraExtensions: exts,
			}, x509.RevocationListEntry{SerialNumber: big.NewInt(1), RevocationTime: june})
		}
	}
	since := func(at time.Time) pkix.Extension {
		der, err := asn1.MarshalWithParams(at, "generalized")
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: der}
	}
	ext := func(critical bool, value []byte, oid ...int) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: value})
		}
	}
	delta := ext(true, []byte{2, 1, 1}, 2, 5, 29, 27)
	point := func(url string) func(*x509.RevocationList) { return ext(true, scopeOf(t, url), 2, 5, 29, 28) }
	when := func(from, to time.Time) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = from, to }
	}
	old := when(june.Add(-48*time.Hour), june.Add(24*time.Hour))
	stranger := issue(t, nil, notarytest.Authority, "Acme builds", key(t, elliptic.P256()))
	tsaList := revoke(t, w.tsaRoot, func(l *x509.RevocationList) {
		l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: w.tsa.Chain[0].SerialNumber, RevocationTime: july}}
	})
	for _, tc := range []struct {
		name  string
		lists [][]byte
		e     signature.Envelope
		want  string // the verdict, and the state of revocation
	}{
		{"no list", nil, plain, "good: claimed unknown"},
		{"an empty list", [][]byte{revoke(t, w.ca)}, plain, "good: claimed good"},
		{"a list with others", [][]byte{revoke(t, w.ca, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(9), RevocationTime: june}}
		})}, plain, "good: claimed good"},
		{"a list that has it", [][]byte{revoke(t, w.ca, entry(1))}, plain, "revoked"},
		{"without a reason", [][]byte{revoke(t, w.ca, entry(0))}, plain, "revoked"},
		{"an old list that has it", [][]byte{revoke(t, w.ca, entry(1), old)}, plain, "revoked"},
		{"an old list without it", [][]byte{revoke(t, w.ca, old)}, plain, "good: claimed stale"},
		{"an old one and a new one", [][]byte{revoke(t, w.ca, old), revoke(t, w.ca)}, plain, "good: claimed good"},
		{"the old one has it, the new one no longer", [][]byte{revoke(t, w.ca), revoke(t, w.ca, old, entry(1))}, plain, "revoked"},
		{"was on hold, is no longer", [][]byte{revoke(t, w.ca, old, entry(6)), revoke(t, w.ca)}, plain, "good: claimed good"},
		{"is on hold", [][]byte{revoke(t, w.ca, entry(6)), revoke(t, w.ca, old)}, plain, "revoked"},
		{"a list of tomorrow", [][]byte{revoke(t, w.ca, when(july.Add(time.Hour), july.Add(48*time.Hour)))}, plain, "good: claimed unknown"},
		{"a stranger's list", [][]byte{revoke(t, stranger, entry(1))}, plain, "good: claimed unknown"},
		{"the root's list", [][]byte{revoke(t, w.root, entry(1))}, plain, "good: claimed unknown"},
		{"the root revokes the authority", [][]byte{revoke(t, w.root, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: w.ca.Chain[0].SerialNumber, RevocationTime: june}}
		})}, plain, "revoked"},
		{"a delta list without it says nothing", [][]byte{revoke(t, w.ca, delta)}, plain, "good: claimed unknown"},
		{"a delta list that has it", [][]byte{revoke(t, w.ca, delta, entry(1))}, plain, "revoked"},
		{"a delta list that takes it out", [][]byte{revoke(t, w.ca, delta, entry(8))}, plain, "good: claimed unknown"},
		{"a list with what is not known", [][]byte{revoke(t, w.ca, ext(true, []byte{5, 0}, 1, 2, 3))}, plain, "good: claimed unknown"},
		{"its piece of a list", [][]byte{revoke(t, w.ca, point(pointA))}, plain, "good: claimed good"},
		{"another piece of a list", [][]byte{revoke(t, w.ca, point(pointB))}, plain, "good: claimed unknown"},
		{"a list of authorities", [][]byte{revoke(t, w.ca, ext(true, []byte{0x30, 3, 0x82, 1, 0xff}, 2, 5, 29, 28))}, plain, "good: claimed unknown"},
		{"a list of users", [][]byte{revoke(t, w.ca, ext(true, []byte{0x30, 3, 0x81, 1, 0xff}, 2, 5, 29, 28))}, plain, "good: claimed good"},
		{"a list of others' certificates", [][]byte{revoke(t, w.ca, ext(true, []byte{0x30, 3, 0x84, 1, 0xff}, 2, 5, 29, 28))}, plain, "good: claimed unknown"},
		{"a scope that is none", [][]byte{revoke(t, w.ca, ext(true, []byte{1}, 2, 5, 29, 28))}, plain, "good: claimed unknown"},
		{"invalid since after the time-stamp", [][]byte{revoke(t, w.ca, entry(1, since(june.Add(time.Minute))))}, stamped, "good: timestamp good"},
		{"invalid since before the time-stamp", [][]byte{revoke(t, w.ca, entry(1, since(june.Add(-time.Minute))))}, stamped, "revoked"},
		{"invalid since the time-stamp's own second", [][]byte{revoke(t, w.ca, entry(1, since(june)))}, stamped, "revoked"},
		{"invalid since after the time that only the signer claims", [][]byte{revoke(t, w.ca, entry(1, since(june.Add(time.Minute))))}, plain, "revoked"},
		{"the authority of time is revoked", [][]byte{tsaList}, stamped, "revoked"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			roots := w.roots()
			roots.Revoked = tc.lists
			o := opener(t, roots, notary.Options{})
			for range 2 { // the second time from what is remembered
				got, s := verdict(t, o, tc.e, july)
				if s.Revocation != "" {
					got += " " + string(s.Revocation)
				}
				if got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
				if s.Revocation == signature.NotRevoked && !s.Until.Equal(july.Add(24*time.Hour)) {
					t.Errorf("until %s, want the list's end", s.Until)
				}
			}
		})
	}
	t.Run("a list that is none", func(t *testing.T) {
		if _, err := notary.New(signature.Roots{Revoked: [][]byte{[]byte("hello")}}, notary.Options{}); err == nil {
			t.Error("got no error")
		}
	})
}

// scopeOf is an issuing distribution point with one URL.
func scopeOf(t testing.TB, url string) []byte {
	t.Helper()
	context := func(tag int, compound bool, b []byte) []byte {
		return mustDER(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: b})
	}
	point := context(0, true, context(0, true, context(6, false, []byte(url))))
	return mustDER(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: point})
}

// aws answers for AWS Signer.
type aws struct {
	revoked []string
	err     error
	asked   notary.AWSSignature
}

func (a *aws) ask(_ context.Context, s notary.AWSSignature) ([]string, error) {
	a.asked = s
	return a.revoked, a.err
}

const (
	profile  = "arn:aws:signer:us-west-2:111122223333:/signing-profiles/web"
	job      = "arn:aws:signer:us-west-2:111122223333:/signing-jobs/97af3947-e7b2-4533-8d9d-6741156f0b79"
	awsAlias = "arn:aws:signer:::/aliases/com.example.web"
	aliased  = "arn:aws:signer:us-west-2::/aliased-signing-profiles/db4a39f3-f858-4b92-8623-8b4c41649972"
)

func TestAWSSigner(t *testing.T) {
	w := newWorld(t)
	roots := signature.Roots{Stores: []signature.Store{store(signature.StoreAuthority, "aws-signer", w.root)}}
	const (
		plugin  = `"io.cncf.notary.verificationPlugin"`
		least   = `"io.cncf.notary.verificationPluginMinVersion"`
		version = `"com.amazonaws.signer.signingProfileVersion"`
		jobName = `"com.amazonaws.signer.signingJob"`
		alias   = `"com.amazonaws.signer.signingProfileAlias"`
	)
	attrs := func(kv ...string) (body, crit string) {
		for i := 0; i < len(kv); i += 2 {
			body += kv[i] + ":" + kv[i+1] + ","
			crit += "," + kv[i]
		}
		return body, crit
	}
	quoted := func(s string) string { return `"` + s + `"` }
	base := []string{plugin, `"com.amazonaws.signer.notation.plugin"`, least, `"1.0.298"`, version, quoted(profile + "/OF8IVUsPJq"), jobName, quoted(job)}
	with := func(i int, value string) []string {
		out := append([]string(nil), base...)
		out[i] = value
		return out
	}
	for _, tc := range []struct {
		name   string
		attrs  []string
		scheme string
		ask    *aws
		want   string
		id     signature.Identity
	}{
		{"nobody can be asked", base, "", nil, "good: authority unknown", signature.Identity{Profile: profile, ProfileVersion: profile + "/OF8IVUsPJq", Job: job}},
		{"not revoked", base, "", &aws{}, "good: authority good", signature.Identity{Profile: profile, ProfileVersion: profile + "/OF8IVUsPJq", Job: job}},
		{"revoked", base, "", &aws{revoked: []string{job}}, "revoked", signature.Identity{}},
		{"AWS does not answer", base, "", &aws{err: errors.New("no route")}, "good: authority unknown", signature.Identity{Profile: profile, ProfileVersion: profile + "/OF8IVUsPJq", Job: job}},
		{"an aliased profile", append(with(5, quoted(aliased)), alias, quoted(awsAlias)), "", &aws{}, "good: authority good", signature.Identity{Profile: aliased, ProfileAlias: awsAlias, Job: job}},
		{"a later version of the plugin", with(3, `"1.9.1"`), "", nil, "good: authority unknown", signature.Identity{Profile: profile, ProfileVersion: profile + "/OF8IVUsPJq", Job: job}},
		{"another version of the plugin", with(3, `"2.0.0"`), "", nil, "unsupported", signature.Identity{}},
		{"a version that is none", with(3, `"new"`), "", nil, "unsupported", signature.Identity{}},
		{"another plugin", with(1, `"com.example.plugin"`), "", nil, "unsupported", signature.Identity{}},
		{"another attribute that is critical", append(base[:8:8], `"com.amazonaws.signer.more"`, `"x"`), "", nil, "unsupported", signature.Identity{}},
		{"no profile", base[:4], "", nil, "malformed", signature.Identity{}},
		{"no job", base[:6], "", nil, "malformed", signature.Identity{}},
		{"a profile without version", with(5, quoted(profile)), "", nil, "malformed", signature.Identity{}},
		{"a profile of another service", with(5, `"arn:aws:s3:us-west-2:1:/signing-profiles/web/1"`), "", nil, "malformed", signature.Identity{}},
		{"a profile that is no text", with(5, `["`+profile+`/1"]`), "", nil, "malformed", signature.Identity{}},
		{"a profile with one more part", with(5, quoted(profile+"/a/b")), "", nil, "malformed", signature.Identity{}},
		{"a job that is a profile", with(7, quoted(profile+"/a")), "", nil, "malformed", signature.Identity{}},
		{"a profile without the plugin", base[4:], "", nil, "unsupported", signature.Identity{}},
		{"the plain scheme", base, "notary.x509", nil, "unsupported", signature.Identity{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body, crit := attrs(tc.attrs...)
			name, stamp, must := "notary.x509.signingAuthority", "authenticSigningTime", `,"io.cncf.notary.authenticSigningTime"`
			if tc.scheme != "" {
				name, stamp, must = tc.scheme, "signingTime", ""
			}
			head := `{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json",` + body + `"crit":["io.cncf.notary.signingScheme"` + must + crit + `],` +
				`"io.cncf.notary.signingScheme":"` + name + `","io.cncf.notary.` + stamp + `":"2026-06-01T12:00:00Z"}`
			e := seal(t, w.signer, head, goodPayload).envelope(t, signature.Envelope{MediaType: notary.JWS})
			opts := notary.Options{}
			if tc.ask != nil {
				opts.AWS = tc.ask.ask
			}
			got, s := verdict(t, opener(t, roots, opts), e, july)
			if s.Revocation != "" {
				got += " " + string(s.Revocation)
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if s.Identity.Name != "" || len(s.Identity.Names) > 0 {
				t.Errorf("got the name %s, which is the service's and not the signer's", s.Identity.Name)
			}
			id := signature.Identity{Profile: s.Identity.Profile, ProfileVersion: s.Identity.ProfileVersion, ProfileAlias: s.Identity.ProfileAlias, Job: s.Identity.Job}
			if d := cmp.Diff(tc.id, id); d != "" {
				t.Errorf("identity: want -, got +:\n%s", d)
			}
			if s.Revocation == signature.NotRevoked {
				want := notary.AWSSignature{Profile: profile + "/OF8IVUsPJq", Job: job, Chain: w.signer.Chain, At: june}
				if tc.id.ProfileAlias != "" {
					want.Profile = aliased
				}
				if d := cmp.Diff(want, tc.ask.asked); d != "" {
					t.Errorf("asked: want -, got +:\n%s", d)
				}
				if !s.Until.Equal(july.Add(time.Hour)) {
					t.Errorf("until %s, want an hour from then", s.Until)
				}
			}
		})
	}
}

func TestAuthoritysTime(t *testing.T) {
	w := newWorld(t)
	o := opener(t, signature.Roots{Stores: []signature.Store{store(signature.StoreAuthority, "sa", w.root)}}, notary.Options{})
	for _, tc := range []struct {
		name, signed string
		at           time.Time
		want         string
	}{
		{"while the certificate is valid", "2026-06-01T12:00:00Z", july, "good: authority"},
		{"after it has expired", "2026-06-01T12:00:00Z", next, "good: authority"},
		{"signed after it had expired", "2027-06-01T12:00:00Z", next, "expired"},
		{"signed before it was valid", "2025-06-01T12:00:00Z", july, "not-yet-valid"},
		{"signed in the future", "2026-08-01T12:00:00Z", july, "not-yet-valid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			head := `{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"],` +
				`"io.cncf.notary.signingScheme":"notary.x509.signingAuthority","io.cncf.notary.authenticSigningTime":"` + tc.signed + `"}`
			e := seal(t, w.signer, head, goodPayload).envelope(t, signature.Envelope{MediaType: notary.JWS})
			if got, _ := verdict(t, o, e, tc.at); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	t.Run("a certificate of an ordinary store does not make an authority", func(t *testing.T) {
		head := `{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"],` +
			`"io.cncf.notary.signingScheme":"notary.x509.signingAuthority","io.cncf.notary.authenticSigningTime":"2026-06-01T12:00:00Z"}`
		e := seal(t, w.signer, head, goodPayload).envelope(t, signature.Envelope{MediaType: notary.JWS})
		if got, _ := verdict(t, opener(t, w.roots(), notary.Options{}), e, july); got != "no-root" {
			t.Errorf("got %s, want no-root", got)
		}
	})
}
