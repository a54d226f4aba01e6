package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	awsProfile = "arn:aws:signer:eu-central-1:111122223333:/signing-profiles/web"
	awsJob     = "arn:aws:signer:eu-central-1:111122223333:/signing-jobs/97af3947-e7b2-4533-8d9d-6741156f0b79"
)

// signedByAWS is a signature of an image as AWS Signer makes them.
func signedByAWS(t *testing.T, s signature.Subject) (e signature.Envelope, root *x509.Certificate) {
	t.Helper()
	valid := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)
	}
	issue := func(by *notarytest.Holder, kind notarytest.Kind, name string) *notarytest.Holder {
		k, err := notarytest.EC(elliptic.P256())
		if err != nil {
			t.Fatal(err)
		}
		h, err := notarytest.Issue(by, kind, name, k, valid)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	authority := issue(nil, notarytest.Authority, "Signer root")
	signer := issue(authority, notarytest.Signer, "AWS Signer")
	head := fmt.Sprintf(`{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json",`+
		`"io.cncf.notary.signingScheme":"notary.x509.signingAuthority","io.cncf.notary.authenticSigningTime":%q,`+
		`"io.cncf.notary.verificationPlugin":"com.amazonaws.signer.notation.plugin","io.cncf.notary.verificationPluginMinVersion":"1.0.298",`+
		`"com.amazonaws.signer.signingProfileVersion":%q,"com.amazonaws.signer.signingJob":%q,`+
		`"crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime","io.cncf.notary.verificationPlugin",`+
		`"io.cncf.notary.verificationPluginMinVersion","com.amazonaws.signer.signingProfileVersion","com.amazonaws.signer.signingJob"]}`,
		time.Now().Add(-time.Minute).UTC().Format(time.RFC3339), awsProfile+"/OF8IVUsPJq", awsJob)
	enc := base64.RawURLEncoding
	payload := fmt.Sprintf(`{"targetArtifact":{"mediaType":%q,"digest":%q,"size":%d}}`, s.MediaType, s.Digest, s.Size)
	covered := enc.EncodeToString([]byte(head)) + "." + enc.EncodeToString([]byte(payload))
	sum := sha256.Sum256([]byte(covered))
	key, ok := signer.Key.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("no key on a curve")
	}
	r, v, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	value := append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	b, err := json.Marshal(map[string]any{
		"payload": enc.EncodeToString([]byte(payload)), "protected": enc.EncodeToString([]byte(head)), "signature": enc.EncodeToString(value),
		"header": map[string]any{"x5c": [][]byte{signer.Chain[0].Raw, authority.Chain[0].Raw}, "io.cncf.notary.signingAgent": "test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return signature.Envelope{ArtifactType: notary.ArtifactType, MediaType: notary.JWS, Payload: b}, authority.Chain[0]
}

func awsPolicy(host string, root *x509.Certificate, revocation string) string {
	text := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})))
	return fmt.Sprintf(`version: 1
roots:
  stores:
    aws:
      kind: signingAuthority
      pem: |
        %s
signers:
  web: {awsSigner: {store: aws, profile: %q}}
images:
  - match: %s/**
    require: [{signers: [web], revocation: %s}]
`, strings.ReplaceAll(text, "\n", "\n        "), awsProfile, host, revocation)
}

// TestAWSSignerIsAskedForTheChild runs the real child, which has no network, on an
// image signed by AWS Signer.
func TestAWSSignerIsAskedForTheChild(t *testing.T) {
	r := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0)), registry.WithReferrersSupport(true)))
	defer r.Close()
	host := strings.TrimPrefix(r.URL, "http://")
	g := &globals{dataDir: t.TempDir()}
	v, err := g.openImageVerifier(slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer v.program.Close()
	image := pushedImage(t, host+"/shop/web", "aws")
	e, root := signedByAWS(t, image)
	to, err := oci.NewRegistry(oci.Options{}, v.log)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := to.Attach(t.Context(), image, e); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, revocation string
		answer           func(aws.Revocable) ([]string, error)
		allowed          bool
		says             string
	}{
		{"not revoked", "strict", func(aws.Revocable) ([]string, error) { return nil, nil }, true, "revocation of its certificate: good"},
		{"revoked", "soft", func(aws.Revocable) ([]string, error) { return []string{awsJob}, nil }, false, "is refused (revoked): AWS Signer says that"},
		{"no answer", "strict", func(aws.Revocable) ([]string, error) { return nil, errors.New("no role") }, false, "is not known (unknown)"},
		{"no answer, and none is needed", "soft", func(aws.Revocable) ([]string, error) { return nil, errors.New("no role") }, true, "revocation of its certificate: unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked []aws.Revocable
			v.revoked = func(_ context.Context, a aws.Revocable) ([]string, error) {
				asked = append(asked, a)
				return tc.answer(a)
			}
			text := awsPolicy(host, root, tc.revocation)
			b, err := v.VerifyImage(t.Context(), link.VerifyWish{Job: "j", Repository: image.Repository, Digest: image.Digest, Policy: []byte(text), PolicyDigest: "p"})
			if err != nil {
				t.Fatal(err)
			}
			var got trust.Verdict
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatal(err)
			}
			steps, err := json.Marshal(got.Steps)
			if err != nil || got.Allowed != tc.allowed || !strings.Contains(string(steps), tc.says) {
				t.Errorf("got allowed %v: %s\n%s, want %q", got.Allowed, got.Reason, steps, tc.says)
			}
			if len(asked) != 1 || asked[0].Profile != awsProfile+"/OF8IVUsPJq" || asked[0].Job != awsJob || len(asked[0].Chain) != 2 || asked[0].At.IsZero() {
				t.Fatalf("AWS Signer is asked %+v", asked)
			}
			if c := asked[0].Chain[1]; string(c.RawTBSCertificate) != string(root.RawTBSCertificate) || c.Raw != nil {
				t.Error("it is asked about another root, or the agent has read a stranger's certificate")
			}
		})
	}
}

// TestAChildCannotAskForEver plays a child that somebody has taken over.
func TestAChildCannotAskForEver(t *testing.T) {
	asks := 0
	d := &revocationDesk{log: slog.New(slog.DiscardHandler), ask: func(context.Context, aws.Revocable) ([]string, error) { asks++; return nil, nil }}
	post := func(body string) revocationAnswer {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/revoked", strings.NewReader(body)))
		var a revocationAnswer
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, odd := range []string{"", "[]", `{"Chain":["` + strings.Repeat("A", maxRevocationAsk) + `"]}`} {
		if a := post(odd); a.Error == "" || asks > 0 {
			t.Errorf("%.20q: got %+v, asked %d times", odd, a, asks)
		}
	}
	for range 3 * maxRevocationAsks {
		post("{}")
	}
	if asks != maxRevocationAsks {
		t.Errorf("asked %d times, want %d", asks, maxRevocationAsks)
	}
	d = &revocationDesk{log: d.log, ask: func(context.Context, aws.Revocable) ([]string, error) {
		asks++
		return nil, fault.New(fault.Denied, "no role")
	}}
	asks = 0
	if a, b := post("{}"), post("{}"); a.Error != "no role" || b.Error != "no role" || asks != 1 {
		t.Errorf("after a failure: got %+v, %+v, asked %d times", a, b, asks)
	}
}
