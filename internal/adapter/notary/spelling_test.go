package notary_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
)

// TestKeyOfAnotherSpelling has a certificate over a key that is written with a
// NULL too many, which the standard library passes over: it is the same key, and
// must not count as another one.
func TestKeyOfAnotherSpelling(t *testing.T) {
	w := newWorld(t)
	var tbs []asn1.RawValue
	if _, err := asn1.Unmarshal(w.signer.Chain[0].RawTBSCertificate, &tbs); err != nil {
		t.Fatal(err)
	}
	var spki struct {
		Algorithm []asn1.RawValue
		Key       asn1.BitString
	}
	for i := range tbs {
		if string(tbs[i].FullBytes) != string(w.signer.Chain[0].RawSubjectPublicKeyInfo) {
			continue
		}
		if _, err := asn1.Unmarshal(tbs[i].FullBytes, &spki); err != nil {
			t.Fatal(err)
		}
		spki.Algorithm = append(spki.Algorithm, asn1.NullRawValue)
		tbs[i] = asn1.RawValue{FullBytes: marshal(t, spki)}
	}
	body := marshal(t, tbs)
	sum := sha256.Sum256(body)
	sig, err := ecdsa.SignASN1(rand.Reader, w.ca.Key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var outer []asn1.RawValue
	if _, err := asn1.Unmarshal(w.signer.Chain[0].Raw, &outer); err != nil {
		t.Fatal(err)
	}
	outer[0] = asn1.RawValue{FullBytes: body}
	outer[2] = asn1.RawValue{FullBytes: marshal(t, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)})}
	odd, err := x509.ParseCertificate(marshal(t, outer))
	if err != nil {
		t.Skipf("this Go refuses it: %v", err)
	}
	h := &notarytest.Holder{Key: w.signer.Key, Chain: append([]*x509.Certificate{odd}, w.signer.Chain[1:]...)}
	der, err := x509.MarshalPKIXPublicKey(w.signer.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	got, s := verdict(t, opener(t, w.roots(), notary.Options{}), seal2(t, h), july)
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(der)); got != "good: claimed" || s.Identity.Key != want {
		t.Errorf("got %s by the key %s, want %s", got, s.Identity.Key, want)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
