package notary_test

import (
	"crypto/elliptic"
	"errors"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/signature"
)

// What an envelope claims is told with its own root, and what does not hold against
// that is refused.
func TestClaimed(t *testing.T) {
	w := newWorld(t)
	stranger := issue(t, w.root, notarytest.Signer, "stranger", key(t, elliptic.P256()))
	for _, form := range []string{notary.JWS, notary.COSE} {
		e := sign(t, w.signer, notary.SignOptions{MediaType: form})
		c, err := notary.Claimed(e, image)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		if c.Kind != signature.Notary || c.Identity.Name != "C=US,ST=WA,O=Acme,CN=build" || !c.Root.Equal(w.root.Chain[0]) || c.Store != signature.StoreCA || c.Identity.Store != "" {
			t.Errorf("%s: got %+v", form, c)
		}
		other := image
		other.Digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
		if _, err := notary.Claimed(e, other); !refusedFor(err, signature.OtherSubject) {
			t.Errorf("%s: of another image: %v", form, err)
		}
	}
	e := sign(t, w.signer, notary.SignOptions{MediaType: notary.JWS})
	j, theirs := parts(t, e), parts(t, sign(t, stranger, notary.SignOptions{MediaType: notary.JWS}))
	j["header"].(map[string]any)["x5c"] = theirs["header"].(map[string]any)["x5c"]
	if _, err := notary.Claimed(j.envelope(t, e), image); !refusedFor(err, signature.Forged) {
		t.Errorf("with the certificate of somebody else: %v", err)
	}
}

func refusedFor(err error, want signature.Reason) bool {
	var r *signature.Refusal
	return errors.As(err, &r) && r.Reason == want
}

// FuzzClaimed wants a claim with its root, or a refusal.
func FuzzClaimed(f *testing.F) {
	for _, k := range kept {
		f.Add(read(f, k.file), k.form == notary.COSE)
	}
	f.Fuzz(func(t *testing.T, b []byte, cose bool) {
		e := signature.Envelope{MediaType: notary.JWS, Payload: b}
		if cose {
			e.MediaType = notary.COSE
		}
		c, err := notary.Claimed(e, image)
		var r *signature.Refusal
		if err != nil && !errors.As(err, &r) {
			t.Fatalf("got %v, want a refusal", err)
		}
		if err == nil && (c.Root == nil || c.Identity.Key == "" || c.Identity.Store != "") {
			t.Fatalf("got %+v", c)
		}
	})
}
