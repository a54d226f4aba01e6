package consoletest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// Keys of the shop's trust policy; nobody has the private ones.
const (
	buildKey = `MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENU8SAK+JA9euLBlR1v94oaUrtlwR
        4libEtA8O7r+xirnxH0reNXPo6ZKqgYg8RyCbTS17kdBRnrUbm0qh3NVcw==`
	qualityKey = `MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEOh70VtPCusVmpChjXcuhjPP0Qd5o
        wWigPnxAth2o1nZMJxXNZB+6tm0lQxDGe1QMNyJETb5lypRSFg7JWjME4w==`
)

// firstPolicy trusts the build alone.
const firstPolicy = `version: 1
roots:
  keys:
    build:
      pem: |
        -----BEGIN PUBLIC KEY-----
        ` + buildKey + `
        -----END PUBLIC KEY-----
signers:
  build: {key: build}
images:
  - name: everything
    match: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/**
    require:
      - signers: [build]
`

// secondPolicy wants one of quality besides.
const secondPolicy = `version: 1
roots:
  keys:
    build:
      pem: |
        -----BEGIN PUBLIC KEY-----
        ` + buildKey + `
        -----END PUBLIC KEY-----
    quality:
      notBefore: 2026-01-01
      pem: |
        -----BEGIN PUBLIC KEY-----
        ` + qualityKey + `
        -----END PUBLIC KEY-----
signers:
  build: {key: build}
  quality: {key: quality}
images:
  - name: shop
    match: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/**
    require:
      - signers: [build, quality]
        log: true
    attestations:
      - type: slsaprovenance
        signers: [build]
        maxAge: 90d
  - name: base
    match: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/store
    require:
      - signers: [build]
`

// TrustPolicies are the versions of the shop's trust policy, the newest last.
func TrustPolicies(now time.Time) []store.TrustPolicy {
	of := func(version int64, text, actor, comment string, days int) store.TrustPolicy {
		sum := sha256.Sum256([]byte(text))
		return store.TrustPolicy{
			Version: version, Text: text, Digest: "sha256:" + hex.EncodeToString(sum[:]), Actor: actor, Comment: comment,
			Created: now.UTC().Truncate(time.Millisecond).Add(-time.Duration(days) * 24 * time.Hour),
		}
	}
	return []store.TrustPolicy{
		of(1, firstPolicy, "user:admin", "", 40),
		of(2, secondPolicy, "user:admin", "quality has a key of its own now "+HostileName, 2),
	}
}

// TrustImages are the shop's images as they were verified by the newest policy:
// one allowed, one that strangers have signed, one unsigned, one of which nobody
// could find out, one of no registry, and one that runs no more.
func (s Shop) TrustImages(now time.Time) []store.TrustImage {
	now = now.UTC().Truncate(time.Millisecond)
	var out []store.TrustImage
	for _, w := range s.Workloads {
		m := store.TrustImage{Images: []string{w.Image.ID}, Groups: []asset.Group{w.Group}, Running: 1, Seen: now.Add(-3 * time.Hour)}
		m.Repository, m.Digest, m.State = asset.Repository(w.Image.Reference), w.Image.Digest, store.TrustWaiting
		if m.Digest == "" {
			m.Digest, m.State = w.Image.ID, store.TrustLocal
		} else {
			m.Policy, m.Agent = TrustPolicies(now)[1].Digest, AgentID
			m.Checked, m.Next = now.Add(-4*time.Minute), now.Add(6*time.Minute)
		}
		switch w.ID {
		case Storefront:
			allow(&m, now)
		case API:
			deny(&m, stranger(now))
		case Worker:
			deny(&m)
		case DB:
			m.State, m.Tries, m.Reason = store.TrustUndecided, 2, "list referrers: the registry answered 401 Unauthorized"
			m.Remedy = "log in on that host: docker login; or let the instance's role call ecr:BatchGetImage"
		case Client:
			m.Running, m.Groups, m.Policy, m.Agent, m.Checked, m.Next = 0, nil, "", "", time.Time{}, time.Time{}
		}
		m.ID = int64(len(out) + 1)
		out = append(out, m)
	}
	return out
}

// envelope is a signature of the shop's images.
func envelope(n int) string { return "sha256:" + strings.Repeat(fmt.Sprintf("%02x", 0xc0+n), 32) }

// kept fills in what is kept of a verdict.
func kept(m *store.TrustImage, v trust.Verdict) {
	v.Repository, v.Digest, v.At, v.Policy, v.PolicyFile = m.Repository, m.Digest, m.Checked, m.Policy, "policy"
	v.Rule = &trust.VerdictRule{Name: "shop", Pattern: "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/**", Line: 23}
	v.Looked = []trust.VerdictLooked{{Digest: m.Digest, Found: len(v.Signatures)}}
	m.State, m.Reason, m.Remedy = store.TrustDenied, v.Reason, v.Remedy
	if v.Allowed {
		m.State, m.Remedy = store.TrustAllowed, ""
	}
	for i := range v.Signatures {
		if x := &v.Signatures[i]; x.State == trust.SignatureGood {
			m.Signers = append(m.Signers, store.TrustSigner{
				Names: x.Signers, Identity: x.By.String(), Kind: string(x.Kind), At: x.Time, Proof: string(x.Proof), Attests: x.Predicate, LogIndex: x.Log,
			})
		}
	}
	var err error
	if m.Details, err = json.Marshal(v); err != nil {
		panic("a verdict of the shop is no JSON: " + err.Error()) // it is a value of this file
	}
}

// allow makes an image one that the right ones have signed.
func allow(m *store.TrustImage, now time.Time) {
	signed, entry := now.Add(-9*24*time.Hour), int64(48_211_734)
	key := "sha256:" + strings.Repeat("b13d", 16)
	kept(m, trust.Verdict{
		Allowed: true, Reason: `all that rule "shop" (line 23) requires is there`,
		Signatures: []trust.VerdictCase{
			{Envelope: envelope(1), Subject: m.Digest, Way: signature.ByReferrer, Kind: signature.Sigstore, State: trust.SignatureGood, Signers: []string{"build"},
				By: &trust.VerdictWho{Key: key}, Time: &signed, Proof: signature.Logged, Log: &entry},
			{Envelope: envelope(2), Subject: m.Digest, Way: signature.ByReferrer, Kind: signature.Notary, State: trust.SignatureGood, Signers: []string{"quality"},
				By: &trust.VerdictWho{Key: key, Store: "aws", Profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/quality"}, Time: &signed, Proof: signature.Authority},
			{Envelope: envelope(3), Subject: m.Digest, Way: signature.ByReferrer, Kind: signature.Sigstore, State: trust.SignatureGood, Signers: []string{"build"},
				By: &trust.VerdictWho{Key: key}, Predicate: "https://slsa.dev/provenance/v1", Time: &signed, Proof: signature.Logged, Log: &entry},
		},
		Steps: []trust.VerdictStep{
			{Mark: trust.MarkYes, Text: `rule "shop" (line 23) of policy is for ` + m.Repository + ": of the patterns that match, it is the most specific"},
			{Mark: trust.MarkNote, Text: "3 envelopes found about the image", Steps: []trust.VerdictStep{
				{Mark: trust.MarkYes, Text: envelope(1) + " is a good signature (sigstore, by referrer)", Steps: []trust.VerdictStep{{Mark: trust.MarkNote, Text: "signed by build: key " + key}}},
			}},
			{Mark: trust.MarkYes, Text: "what the rule requires", Steps: []trust.VerdictStep{
				{Mark: trust.MarkYes, Text: "each of build, quality must have signed it, in a transparency log (line 26)"},
			}},
		},
	})
}

// stranger is a signature of somebody whom the policy does not name.
func stranger(now time.Time) trust.VerdictCase {
	signed := now.Add(-50 * time.Hour)
	return trust.VerdictCase{
		Envelope: envelope(4), Way: signature.ByCosignTag, Kind: signature.Sigstore, State: trust.SignatureGood, Old: true, Time: &signed, Proof: signature.Claimed,
		By: &trust.VerdictWho{Key: "sha256:" + strings.Repeat("66", 32), Issuer: "https://token.actions.githubusercontent.com", Subject: "https://github.com/evil/" + HostileName},
	}
}

// deny makes an image one that the right ones have not signed.
func deny(m *store.TrustImage, signatures ...trust.VerdictCase) {
	for i := range signatures {
		signatures[i].Subject = m.Digest
	}
	v := trust.Verdict{
		Reason: "there is no signature that counts by build, quality: 0 of 2 count", Remedy: "let the signer run castellan trust sign " + m.Repository + "@" + m.Digest,
		Signatures: signatures,
		Steps: []trust.VerdictStep{
			{Mark: trust.MarkYes, Text: `rule "shop" (line 23) of policy is for ` + m.Repository},
			{Mark: trust.MarkNo, Text: "what the rule requires", Steps: []trust.VerdictStep{{
				Mark: trust.MarkNo, Text: "each of build, quality must have signed it, in a transparency log (line 26)",
				Steps: []trust.VerdictStep{{Mark: trust.MarkNo, Text: "there is no signature that counts by build, quality: 0 of 2 count", Remedy: "let the signer run castellan trust sign"}},
			}}},
		},
	}
	if len(signatures) > 0 {
		v.Signatures = append(v.Signatures, trust.VerdictCase{
			Envelope: envelope(5), Subject: m.Digest, Way: signature.ByReferrer, Kind: signature.Notary, State: trust.SignatureRefused, Reason: signature.Forged,
			Detail: HostileArg, Remedy: "sign it anew",
		})
		v.Steps[1].Steps[0].Steps = append(v.Steps[1].Steps[0].Steps, trust.VerdictStep{
			Mark: trust.MarkNo, Text: envelope(4) + " does not count: it is by https://github.com/evil/" + HostileName + ", which is none of the signers",
		})
	}
	kept(m, v)
}

// FillTrust puts the shop's trust policy and what came of it into a store. That
// runs which Fill has brought in.
func (s Shop) FillTrust(ctx context.Context, st store.Trust, now time.Time) error {
	for _, p := range TrustPolicies(now) {
		if _, err := st.PutTrustPolicy(ctx, p, p.Version-1); err != nil {
			return fmt.Errorf("fill trust policies: %w", err)
		}
	}
	var ran, run []store.TrustSeen
	for _, m := range s.TrustImages(now) {
		seen := store.TrustSeen{Repository: m.Repository, Digest: m.Digest, Local: m.State == store.TrustLocal, Images: m.Images, Groups: m.Groups, Running: 1}
		ran = append(ran, seen)
		if m.Running > 0 {
			run = append(run, seen)
		}
	}
	for _, seen := range [][]store.TrustSeen{ran, run} {
		if err := st.NoteTrustImages(ctx, seen, now, now.Add(-24*time.Hour)); err != nil {
			return fmt.Errorf("fill what runs: %w", err)
		}
	}
	for _, m := range s.TrustImages(now) {
		if m.Checked.IsZero() || m.State == store.TrustLocal {
			continue
		}
		if err := st.PutTrustVerdict(ctx, m.TrustVerdict); err != nil {
			return fmt.Errorf("fill the verdict of %s: %w", m.Repository, err)
		}
	}
	return nil
}
