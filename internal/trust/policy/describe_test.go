package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/trust/policy"
)

// describedKey is a public key that stays the same, so that its fingerprint does.
const describedKey = `
        -----BEGIN PUBLIC KEY-----
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENU8SAK+JA9euLBlR1v94oaUrtlwR
        4libEtA8O7r+xirnxH0reNXPo6ZKqgYg8RyCbTS17kdBRnrUbm0qh3NVcw==
        -----END PUBLIC KEY-----
`

func TestDescribe(t *testing.T) {
	store, _ := newCertificate(t)
	text := `version: 1
roots:
  keys:
    build:
      notBefore: 2026-01-01
      notAfter: 2026-06-30T12:00:00Z
      pem: |` + describedKey + `  stores:
    acme: {kind: ca, pem: ` + "\"" + strings.ReplaceAll(store, "\n", `\n`) + "\"" + `}
  sigstore: [{name: public, pem: '` + trustedRoot + `'}]
signers:
  build: {key: build}
  quality:
    team: true
    certificate: {store: acme, subject: "O=Acme, OU=Quality"}
  release:
    keyless: {issuer: https://issuer.acme.example, subject: "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/*"}
  idle: {certificate: {store: acme, subject: "CN=idle"}}
images:
  - name: shop
    match: ghcr.io/acme/**
    require:
      - signers: [build, quality]
        threshold: 2
        log: true
    attestations:
      - type: slsaprovenance
        signers: [release]
        maxAge: 30d
        condition: |
          predicate.a == 1 &&
          predicate.b == 2
  - match: [ghcr.io/acme/web, nginx]
    require: [{signers: [build]}]
  - match: "**"
    deny: "nobody looked at it \u202e"
exceptions:
  - digest: sha256:` + strings.Repeat("ab", 32) + `
    match: ghcr.io/acme/**
    reason: until the build signs
    expires: 2027-01-01
`
	p, err := policy.Read([]byte(text), "castellan-trust.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if err := policy.WriteDescription(&got, p); err != nil {
		t.Fatal(err)
	}
	want := `Rule "shop": images of ghcr.io/acme/** (line 24)
    ghcr.io/acme/** is every repository below ghcr.io/acme
    but those of ghcr.io/acme/web fall under the rule in line 37 alone: it is narrower
    may run only if all of this holds:
        2 of build, quality must have signed it, in a transparency log
            each of them counts once, whatever it signs with
            quality counts once for each of its members
        release must have attested slsaprovenance, at most 30 days old, under a condition
            slsaprovenance is https://slsa.dev/provenance/v1, or https://slsa.dev/provenance/v0.2
            what it says must fulfil: predicate.a == 1 &&
                predicate.b == 2
Images of ghcr.io/acme/web, nginx (line 37)
    nginx is docker.io/library/nginx in full
    may run only if this holds:
        build must have signed it
Images of ** (line 39)
    ** is every image, those of no registry too
    but those of ghcr.io/acme/** fall under the rule in line 24 alone: it is narrower
    but those of ghcr.io/acme/web fall under the rule in line 37 alone: it is narrower
    but those of nginx fall under the rule in line 37 alone: it is narrower
    are never allowed: nobody looked at it \u202e
What no rule is for is denied.
Signer build is whoever signs with (line 16)
    the key build (sha256:5e3dbc7d3dacf6d6a2dae1351d9d50ecb2b0c910c5ef93aeafa9ec801f23891f)
        of which signatures count from 2026-01-01 on
        of which signatures after 2026-06-30 12:00 UTC do not count
The members of the team quality sign with (line 17)
    a certificate with O=Acme,OU=Quality of store acme
Signer release is whoever signs with (line 20)
    a short-lived certificate (keyless) for https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/* of https://issuer.acme.example
No rule asks for idle, who signs with (line 22)
    a certificate with CN=idle of store acme
Exception: sha256:` + strings.Repeat("ab", 32) + ` of ghcr.io/acme/** may run unsigned until 2027-01-01: until the build signs (line 42)
`
	if d := cmp.Diff(want, got.String()); d != "" {
		t.Error(d)
	}
}

func TestDescribeIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\nimages:\n  - {match: \"**\", deny: never}\n")
	for i := range 400 {
		b.WriteString("  - {match: reg.example/" + strings.Repeat("a", i+1) + ", deny: never}\n")
	}
	p, err := policy.Read([]byte(b.String()), "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(p.Describe()[0].Parts); got > 10 {
		t.Errorf("a rule that 400 others narrow has %d parts", got)
	}
}
