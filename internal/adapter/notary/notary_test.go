package notary_test

import (
	"crypto"
	"crypto/elliptic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/signature"
)

func TestWhatIsSignedOpens(t *testing.T) {
	w := newWorld(t)
	o := opener(t, w.roots(), notary.Options{})
	rsaKey := func(bits int) crypto.Signer {
		k, err := notarytest.RSA(bits)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for name, k := range map[string]crypto.Signer{
		"P-256": key(t, elliptic.P256()), "P-384": key(t, elliptic.P384()), "P-521": key(t, elliptic.P521()),
		"RSA 2048": rsaKey(2048), "RSA 3072": rsaKey(3072), "RSA 4096": rsaKey(4096),
	} {
		h := issue(t, w.ca, notarytest.Signer, "build", k)
		for _, form := range []string{notary.JWS, notary.COSE} {
			t.Run(name+" "+form, func(t *testing.T) {
				e := sign(t, h, notary.SignOptions{MediaType: form, Annotations: map[string]string{"build": "7 <b>"}, Expiry: july.Add(time.Hour)})
				e.Digest, e.Way = "sha256:manifest", signature.ByReferrer
				got, err := o.Open(t.Context(), e, image, july)
				if err != nil {
					t.Fatal(err)
				}
				id := got.Identity
				if id.Key == "" || id.Certificate == "" || id.Root == "" {
					t.Errorf("identity lacks digests: %+v", id)
				}
				got.Identity.Key, got.Identity.Certificate, got.Identity.Root = "", "", ""
				want := signature.Signed{
					Kind: signature.Notary, Envelope: "sha256:manifest", Way: signature.ByReferrer,
					Identity:    signature.Identity{Name: "C=US,ST=WA,O=Acme,CN=build", Store: "acme"},
					Annotations: map[string]string{"build": "7 <b>"},
					At:          june, Proof: signature.Claimed, Expiry: july.Add(time.Hour), Until: july.Add(time.Hour),
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("want -, got +:\n%s", d)
				}
			})
		}
	}
}

func TestWhenItWasSigned(t *testing.T) {
	w := newWorld(t)
	stamped := &notary.TSA{URL: serve(t, w.stamper), Roots: w.tsaRoot.Chain}
	late := *w.stamper
	late.Clock = func() time.Time { return next }
	plain := sign(t, w.signer, notary.SignOptions{})
	withStamp := sign(t, w.signer, notary.SignOptions{TSA: stamped})
	expiring := sign(t, w.signer, notary.SignOptions{TSA: stamped, Expiry: july})
	future := sign(t, w.signer, notary.SignOptions{At: july.Add(time.Hour)})
	noTSA := signature.Roots{Stores: w.roots().Stores[:1]}
	for _, tc := range []struct {
		name  string
		e     signature.Envelope
		roots signature.Roots
		at    time.Time
		want  string
	}{
		{"the certificate is valid", plain, w.roots(), july, "good: claimed"},
		{"on its last second", plain, w.roots(), notarytest.Valid.To, "good: claimed"},
		{"a second later", plain, w.roots(), notarytest.Valid.To.Add(time.Second), "expired"},
		{"before it was valid", plain, w.roots(), notarytest.Valid.From.Add(-time.Second), "not-yet-valid"},
		{"signed tomorrow, says the signer", future, w.roots(), july, "not-yet-valid"},
		{"clocks differ a little", future, w.roots(), july.Add(56 * time.Minute), "good: claimed"},
		{"a time-stamp", withStamp, w.roots(), july, "good: timestamp"},
		{"a time-stamp outlives the certificate", withStamp, w.roots(), next, "good: timestamp"},
		{"nobody vouches for the time-stamp, which is not needed yet", withStamp, noTSA, july, "good: claimed"},
		{"nobody vouches for the time-stamp, which is needed", withStamp, noTSA, next, "no-time"},
		{"the clock here is before the time-stamp", withStamp, w.roots(), june.Add(-time.Hour), "not-yet-valid"},
		{"expired as its signer wanted", expiring, w.roots(), july, "expired"},
		{"a second before", expiring, w.roots(), july.Add(-time.Second), "good: timestamp"},
		{"a time-stamp from after the certificate", restamp(t, plain, &late), w.roots(), next.Add(time.Hour), "expired"},
		{"the same, seen before", restamp(t, plain, &late), w.roots(), july, "expired"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, _ := verdict(t, opener(t, tc.roots, notary.Options{}), tc.e, tc.at); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestUntil(t *testing.T) {
	w := newWorld(t)
	stamped := sign(t, w.signer, notary.SignOptions{TSA: &notary.TSA{URL: serve(t, w.stamper), Roots: w.tsaRoot.Chain}})
	o := opener(t, w.roots(), notary.Options{})
	for _, tc := range []struct {
		name     string
		at, want time.Time
	}{
		{"while the certificate is valid: until its end", july, notarytest.Valid.To},
		{"afterwards the time-stamp holds it", next, time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, s := verdict(t, o, stamped, tc.at); !s.Until.Equal(tc.want) {
				t.Errorf("got %s, want %s", s.Until, tc.want)
			}
		})
	}
}
