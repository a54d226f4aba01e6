package sigstore_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

// What an envelope claims is told without any root, and what does not hold against
// its own certificate, or is about another image, is refused.
func TestClaimed(t *testing.T) {
	ctx, s, image, key := t.Context(), start(t), subjectOf("image"), newKey(t, "P-256")
	parts := standin.Parts{Fulcio: true, CT: true, Log1: true, TSA: true}
	keyless, keyed := s.keyless(t, parts), signer(t, sigstore.SignerOptions{Key: key})
	keySigned := must(keyed.Sign(ctx, image, nil))(t)
	fingerprint := must(opener(t, signature.Roots{Keys: []signature.Key{{Name: "k", Public: key.Public()}}}).Open(ctx, keySigned, image, time.Now()))(t).Identity.Key
	for _, tc := range []struct {
		name string
		e    signature.Envelope
		want signature.Claim
	}{
		{"keyless", must(keyless.Sign(ctx, image, nil))(t), signature.Claim{Identity: signature.Identity{Issuer: issuer, Subject: builder}}},
		{"keyless attestation", must(keyless.Attest(ctx, image, "a:b", []byte("{}")))(t), signature.Claim{Identity: signature.Identity{Issuer: issuer, Subject: builder}, Attests: "a:b"}},
		{"keyless, old form", must(keyless.SignOld(ctx, image, nil))(t), signature.Claim{Identity: signature.Identity{Issuer: issuer, Subject: builder}}},
		{"a key with its hint", keySigned, signature.Claim{Identity: signature.Identity{Key: fingerprint}}},
		{"a key, old form, without hint", must(keyed.SignOld(ctx, image, nil))(t), signature.Claim{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := sigstore.Claimed(tc.e, image)
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != signature.Sigstore || got.Identity.Issuer != tc.want.Identity.Issuer || got.Identity.Subject != tc.want.Identity.Subject || got.Attests != tc.want.Attests {
				t.Errorf("got %+v", got)
			}
			if tc.want.Identity.Issuer == "" && got.Identity.Key != tc.want.Identity.Key {
				t.Errorf("got key %q, want %q", got.Identity.Key, tc.want.Identity.Key)
			}
			if _, err := sigstore.Claimed(tc.e, subjectOf("other")); !refusedFor(err, signature.OtherSubject) {
				t.Errorf("of another image: %v", err)
			}
		})
	}
	// The certificate of somebody else beside a signature.
	mine, theirs := decoded(t, must(keyless.Sign(ctx, image, nil))(t)), decoded(t, must(s.keyless(t, parts).Sign(ctx, image, nil))(t))
	mine["verificationMaterial"].(map[string]any)["certificate"] = theirs["verificationMaterial"].(map[string]any)["certificate"]
	_, err := sigstore.Claimed(signature.Envelope{MediaType: sigstore.BundleMediaType, Payload: must(json.Marshal(mine))(t)}, image)
	if !refusedFor(err, signature.Forged) {
		t.Errorf("with the certificate of somebody else: %v", err)
	}
}

func decoded(t *testing.T, e signature.Envelope) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(e.Payload, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func refusedFor(err error, want signature.Reason) bool {
	var r *signature.Refusal
	return errors.As(err, &r) && r.Reason == want
}

// FuzzClaimed wants a claim or a refusal.
func FuzzClaimed(f *testing.F) {
	s, image, key := start(f), subjectOf("image"), newKey(f, "P-256")
	for _, r := range []recipe{{key: key, keyed: true}, keylessRecipe()} {
		f.Add(s.forge(f, image, r).Payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := sigstore.Claimed(signature.Envelope{MediaType: sigstore.BundleMediaType, Payload: b}, image)
		var r *signature.Refusal
		if err != nil && !errors.As(err, &r) {
			t.Fatalf("got %v, want a refusal", err)
		}
		if err == nil && c.Kind != signature.Sigstore {
			t.Fatalf("got %+v", c)
		}
	})
}
