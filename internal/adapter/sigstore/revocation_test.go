package sigstore_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/signature"
)

// der encodes values, one after the other.
func der(t testing.TB, values ...any) []byte {
	t.Helper()
	var all []byte
	for _, v := range values {
		all = append(all, must(asn1.Marshal(v))(t)...)
	}
	return all
}

// TestListsThatDoNotTell has revocation lists that would not have the certificate
// if it were revoked: that it is not in them says nothing.
func TestListsThatDoNotTell(t *testing.T) {
	image, a := subjectOf("image"), newAuthority(t)
	e := must(signer(t, sigstore.SignerOptions{Key: a.key, Chain: []*x509.Certificate{a.leaf, a.root}}).Sign(context.Background(), image, nil))(t)
	point := func(url string) []byte { // an issuing distribution point
		full := asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: der(t, uri(url))}
		at := asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: der(t, full)}
		return der(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: der(t, at)})
	}
	flag := func(n int) []byte {
		return der(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: der(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: n, Bytes: []byte{0xff}})})
	}
	scope := func(value []byte) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: value}
	}
	hour := time.Hour
	for _, tc := range []struct {
		name  string
		from  time.Duration
		extra []pkix.Extension
		want  signature.Revocation
	}{
		{"whole", -hour, nil, signature.NotRevoked},
		{"the piece that the certificate names", -hour, []pkix.Extension{scope(point("http://crl.acme.test"))}, signature.NotRevoked},
		{"another piece", -hour, []pkix.Extension{scope(point("http://crl.acme.test/2"))}, signature.RevocationSilent},
		{"of authorities only", -hour, []pkix.Extension{scope(flag(2))}, signature.RevocationSilent},
		{"of users only", -hour, []pkix.Extension{scope(flag(1))}, signature.NotRevoked},
		{"of others' certificates", -hour, []pkix.Extension{scope(flag(4))}, signature.RevocationSilent},
		{"of attributes only", -hour, []pkix.Extension{scope(flag(5))}, signature.RevocationSilent},
		{"what is new", -hour, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: der(t, 1)}}, signature.RevocationSilent},
		{"with something critical", -hour, []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: der(t, 1)}}, signature.RevocationSilent},
		{"of tomorrow", hour, nil, signature.RevocationSilent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(tc.from), NextUpdate: time.Now().Add(48 * hour), ExtraExtensions: tc.extra}
			roots := signature.Roots{
				Stores:  []signature.Store{{Kind: signature.StoreCA, Name: "acme", Certificates: []*x509.Certificate{a.root}}},
				Revoked: [][]byte{must(x509.CreateRevocationList(rand.Reader, l, a.root, a.rootKey))(t)},
			}
			got, err := open(opener(t, roots), e, image)
			if err != nil || got.Revocation != tc.want {
				t.Errorf("Open() = %s, %v, want %s", got.Revocation, err, tc.want)
			}
		})
	}
}
