package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

const unsignedPolicy = `version: 1
images:
  - match: %[1]s/never
    deny: nobody may
  - match: %[1]s/**
    require:
      - signers: [build]
signers:
  build: {key: build}
roots:
  keys:
    build:
      pem: |
        -----BEGIN PUBLIC KEY-----
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
        q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
        -----END PUBLIC KEY-----
exceptions:
  - digest: sha256:%[2]s
    reason: being replaced
    expires: 2090-01-01
`

// TestTheChildVerifiesByTheRegistry runs the real child against a registry.
func TestTheChildVerifiesByTheRegistry(t *testing.T) {
	r := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0))))
	defer r.Close()
	host := strings.TrimPrefix(r.URL, "http://")
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	g := &globals{dataDir: t.TempDir()}
	v, err := g.openImageVerifier(log)
	if err != nil {
		t.Fatal(err)
	}
	defer v.program.Close()
	excepted := strings.Repeat("e", 64)
	text := fmt.Sprintf(unsignedPolicy, host, excepted)
	p, err := trust.Read([]byte(text), "policy", nil)
	if err != nil {
		t.Fatal(err)
	}
	wish := func(path, digest string) link.VerifyWish {
		return link.VerifyWish{Job: "j", Repository: host + "/" + path, Digest: "sha256:" + digest, Policy: []byte(text), PolicyDigest: p.Digest}
	}
	unsigned := strings.Repeat("a", 64)
	for _, tc := range []struct {
		name, path, digest string
		allowed            bool
		reason             string
	}{
		{"not signed", "shop", unsigned, false, "no signature that counts by build"},
		{"denied", "never", unsigned, false, "nobody may"},
		{"excepted", "shop", excepted, true, "being replaced"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := v.VerifyImage(t.Context(), wish(tc.path, tc.digest))
			if err != nil {
				t.Fatal(err)
			}
			var got trust.Verdict
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatal(err)
			}
			if got.Allowed != tc.allowed || !strings.Contains(got.Reason, tc.reason) || got.Policy != p.Digest || got.Repository != host+"/"+tc.path {
				t.Errorf("got allowed %v: %s (policy %s, repository %s)", got.Allowed, got.Reason, got.Policy, got.Repository)
			}
		})
	}
	r.Close()
	if b, err := v.VerifyImage(t.Context(), wish("shop", unsigned)); err == nil {
		t.Errorf("of a registry that is gone: got verdict %s", b)
	}
	bad := wish("shop", unsigned)
	bad.Policy = []byte("nonsense")
	if b, err := v.VerifyImage(t.Context(), bad); err == nil {
		t.Errorf("by no policy: got verdict %s", b)
	}
}

func TestVerdictsAreMadeToFit(t *testing.T) {
	large := strings.Repeat("x", link.MaxVerdict)
	facts := trust.Verdict{Reason: "whole", Facts: &trust.Facts{Opened: []*trust.Fact{{Signed: signature.Signed{Reference: large}}}}}
	for _, tc := range []struct {
		name  string
		whole trust.Verdict
		short trust.Verdict
		err   error
		want  string
	}{
		{"small", trust.Verdict{Reason: "whole"}, trust.Verdict{Reason: "short"}, nil, "whole"},
		{"large facts", facts, trust.Verdict{Reason: "short"}, nil, "whole"},
		{"large", trust.Verdict{Reason: large}, trust.Verdict{Reason: "short"}, nil, "short"},
		{"large, and can't be had shorter", trust.Verdict{Reason: large}, trust.Verdict{Reason: large}, nil, ""},
		{"large, and then it can't be found out", trust.Verdict{Reason: large}, trust.Verdict{Reason: "short"}, errors.New("no registry"), ""},
	} {
		b, err := fitting(tc.whole, func() (trust.Verdict, error) { return tc.short, tc.err })
		var got trust.Verdict
		switch {
		case tc.want == "":
			if err == nil {
				t.Errorf("%s: got %d bytes, want an error", tc.name, len(b))
			}
		case err != nil || json.Unmarshal(b, &got) != nil || got.Reason != tc.want || got.Facts != nil:
			t.Errorf("%s: got %q, %v, want %q", tc.name, got.Reason, err, tc.want)
		}
	}
}
