package sigstore_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

func TestTimeStampTricks(t *testing.T) {
	s, image := start(t), subjectOf("image")
	o := s.opener(t, standin.All())
	type accuracy struct{ Seconds int }
	extensions := func(critical bool) asn1.RawValue {
		e := der(t, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: critical, Value: []byte("revoked")})
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: e}
	}
	name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: s.TSALeaf.RawSubject})}
	for _, tc := range []struct {
		name  string
		stamp standin.Stamp
		want  signature.Reason
	}{
		{"all that may be there", standin.Stamp{Rest: der(t, accuracy{1}, true, big.NewInt(7), name, extensions(false))}, opens},
		{"an accuracy of milliseconds", standin.Stamp{Rest: der(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: []byte{0x80, 1, 100}})}, opens},
		{"a critical extension", standin.Stamp{Rest: der(t, extensions(true))}, signature.Malformed},
		{"an accuracy of a day", standin.Stamp{Rest: der(t, accuracy{86400})}, signature.Malformed},
		{"an accuracy of less than nothing", standin.Stamp{Rest: der(t, accuracy{-1})}, signature.Malformed},
		{"an accuracy beyond all numbers", standin.Stamp{Rest: der(t, struct{ Seconds *big.Int }{new(big.Int).Lsh(big.NewInt(1), 80)})}, signature.Malformed},
		{"a second time behind it", standin.Stamp{Rest: der(t, asn1.RawValue{Tag: asn1.TagGeneralizedTime, Bytes: []byte("20200101000000Z")})}, signature.Malformed},
		{"two nonces", standin.Stamp{Rest: der(t, big.NewInt(7), big.NewInt(8))}, signature.Malformed},
		{"two signers", standin.Stamp{Signers: 2}, signature.Malformed},
		{"certificates without end", standin.Stamp{Bag: slices.Repeat([][]byte{s.TSARoot.Raw}, 30)}, signature.Malformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := keylessRecipe()
			r.log, r.log2, r.stamp = false, true, &tc.stamp
			_, err := open(o, s.forge(t, image, r), image)
			wantOutcome(t, err, tc.want)
		})
	}
}

// TestStampOfAnotherRequest has an authority of time, or somebody before it, answer
// with an older stamp of the same signature: RSA signs the same statement alike.
func TestStampOfAnotherRequest(t *testing.T) {
	s, image := start(t), subjectOf("image")
	var first []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first == nil {
			rec := httptest.NewRecorder()
			s.Handler().ServeHTTP(rec, r)
			first = rec.Body.Bytes()
		} else if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		if _, err := w.Write(first); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	k := signer(t, sigstore.SignerOptions{Key: newKey(t, "RSA-2048"), Services: sigstore.Services{Stamps: []string{srv.URL + "/tsa"}}})
	if _, err := k.Sign(context.Background(), image, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(context.Background(), image, nil); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("Sign() = %v, want that the nonce is another", err)
	}
}

// TestFulcioExtensionTricks has Fulcio's extensions twice and in other types of
// text: readers that take the first and those that take the last would disagree.
func TestFulcioExtensionTricks(t *testing.T) {
	s, image := start(t), subjectOf("image")
	o := s.opener(t, standin.All())
	typed := func(n int, tag string) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: must(asn1.MarshalWithParams(issuer, tag))(t)}
	}
	below := fulcioText(t, 8, "https://evil.example")
	below.Id = append(below.Id, 1)
	for _, tc := range []struct {
		name  string
		extra []pkix.Extension
		want  signature.Reason
	}{
		{"as it should be", []pkix.Extension{fulcioText(t, 8, issuer)}, opens},
		{"printable text", []pkix.Extension{typed(8, "printable")}, signature.Malformed},
		{"text of IA5", []pkix.Extension{typed(8, "ia5")}, signature.Malformed},
		{"bytes", []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: der(t, []byte(issuer))}}, signature.Malformed},
		{"an empty issuer", []pkix.Extension{fulcioText(t, 8, "")}, signature.Malformed},
		{"text in DER where raw text belongs", []pkix.Extension{typed(1, "utf8")}, signature.Malformed},
		{"an arc below the issuer's", []pkix.Extension{fulcioText(t, 8, issuer), below}, opens},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := keylessRecipe()
			r.holder.Issuer, r.holder.Extra = "", tc.extra
			got, err := open(o, s.forge(t, image, r), image)
			if tc.want != opens {
				wantRefusal(t, err, tc.want)
			} else if err != nil || got.Identity.Issuer != issuer || got.Identity.Subject != builder {
				t.Errorf("Open() = %+v, %v", got.Identity, err)
			}
		})
	}
}

// TestExtensionsTwice has what no certificate may have, as the standard library
// would not make it either.
func TestExtensionsTwice(t *testing.T) {
	s, image := start(t), subjectOf("image")
	o, e, key := s.opener(t, standin.All()), s.forge(t, image, keylessRecipe()), newKey(t, "P-256")
	for name, twice := range map[string][]pkix.Extension{
		"the issuer, alike": {fulcioText(t, 8, issuer), fulcioText(t, 8, issuer)},
		"the issuer":        {fulcioText(t, 8, issuer), fulcioText(t, 8, "https://evil.example")},
		"the old issuer":    {fulcioRaw(1, issuer), fulcioRaw(1, "https://evil.example")},
		"a claim":           {fulcioText(t, 20, "push"), fulcioText(t, 20, "pull_request")},
		"the names":         {names(t, uri(builder)), names(t, uri("https://evil.example/x"))},
	} {
		t.Run(name, func(t *testing.T) {
			c := &x509.Certificate{SerialNumber: big.NewInt(9), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), ExtraExtensions: twice}
			raw := must(x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: s.Issuer.Subject}, key.Public(), key))(t)
			_, err := open(o, edit(t, e, raw, "verificationMaterial", "certificate", "rawBytes"), image)
			wantRefusal(t, err, signature.Malformed)
		})
	}
}

func TestDigestTricks(t *testing.T) {
	s, image := start(t), subjectOf("image")
	hexed := strings.TrimPrefix(image.Digest, "sha256:")
	key := newKey(t, "P-256")
	o := s.opener(t, standin.All(), signature.Key{Name: "release", Public: key.Public()})
	zero := strings.Repeat("0", 64)
	for _, tc := range []struct {
		name, digest, payloadType string
		want                      signature.Reason
	}{
		{"in capitals", `{"sha256":"` + strings.ToUpper(hexed) + `"}`, "", opens},
		{"another, and ours under a name in capitals", `{"sha256":"` + zero + `","SHA256":"` + hexed + `"}`, "", signature.OtherSubject},
		{"another, and ours under a name with a space", `{"sha256":"` + zero + `","sha256 ":"` + hexed + `"}`, "", signature.OtherSubject},
		{"ours for another hash", `{"sha256":"` + zero + `","sha512":"` + hexed + `"}`, "", signature.OtherSubject},
		{"ours as that of a git commit", `{"gitCommit":"` + hexed + `"}`, "", signature.OtherSubject},
		{"ours with its algorithm before it", `{"sha256":"sha256:` + hexed + `"}`, "", signature.OtherSubject},
		{"ours with something behind it", `{"sha256":"` + hexed + `00"}`, "", signature.OtherSubject},
		{"ours in letters that look alike", `{"sha256":"` + strings.Replace(hexed, hexed[:1], "\u0430", 1) + `"}`, "", signature.OtherSubject},
		{"ours in a list", `{"sha256":["` + hexed + `"]}`, "", signature.Malformed},
		{"type of the payload with a parameter", `{"sha256":"` + hexed + `"}`, "application/vnd.in-toto+json; charset=utf-8", signature.Unsupported},
		{"type of the payload in capitals", `{"sha256":"` + hexed + `"}`, "application/vnd.in-toto+JSON", signature.Unsupported},
		{"type of cosign's older payload", `{"sha256":"` + hexed + `"}`, sigstore.SimpleMediaType, signature.Unsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":` + tc.digest + `}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
			_, err := open(o, s.forge(t, image, recipe{key: key, keyed: true, statement: st, payloadType: tc.payloadType}), image)
			wantOutcome(t, err, tc.want)
		})
	}
}

// TestKindsOfEntries has true entries of a kind that binds less than the envelope has.
func TestKindsOfEntries(t *testing.T) {
	s, image := start(t), subjectOf("image")
	o := s.opener(t, standin.All())
	for _, tc := range []struct {
		name string
		body func(record) []byte
		want signature.Reason
	}{
		{"in-toto without a signature, as cosign 1 wrote", func(r record) []byte {
			return marshal(m{"apiVersion": "0.0.1", "kind": "intoto", "spec": m{"publicKey": []byte(r.verifier), "content": m{"payloadHash": hexHash(r.payload)}}})
		}, opens},
		{"the same for another payload", func(r record) []byte {
			return marshal(m{"apiVersion": "0.0.1", "kind": "intoto", "spec": m{"publicKey": []byte(r.verifier), "content": m{"payloadHash": hexHash(r.message)}}})
		}, signature.NoLog},
		{"the same with only the envelope's hash", func(r record) []byte {
			return marshal(m{"apiVersion": "0.0.1", "kind": "intoto", "spec": m{"publicKey": []byte(r.verifier), "content": m{"hash": hexHash(r.payload)}}})
		}, signature.NoLog},
		{"the same without a key", func(r record) []byte {
			return marshal(m{"apiVersion": "0.0.1", "kind": "intoto", "spec": m{"content": m{"payloadHash": hexHash(r.payload)}}})
		}, signature.NoLog},
		{"a record for a statement", func(r record) []byte {
			return marshal(m{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": m{"data": m{"hash": hexHash(r.message)}, "signature": m{"content": r.signature, "publicKey": m{"content": []byte(r.verifier)}}}})
		}, signature.NoLog},
		{"two signatures in one entry", func(r record) []byte {
			sig := m{"signature": r.signature, "verifier": []byte(r.verifier)}
			return marshal(m{"apiVersion": "0.0.1", "kind": "dsse", "spec": m{"payloadHash": hexHash(r.payload), "signatures": []m{sig, sig}}})
		}, signature.TooLarge},
		{"a weak hash", func(r record) []byte {
			return marshal(m{"apiVersion": "0.0.1", "kind": "dsse", "spec": m{"payloadHash": m{"algorithm": "sha1", "value": hex.EncodeToString(r.payload[:20])}, "signatures": []m{{"signature": r.signature, "verifier": []byte(r.verifier)}}}})
		}, signature.NoLog},
		{"the certificate behind another PEM block", func(r record) []byte {
			r.verifier = pemText("PUBLIC KEY", r.spki) + r.verifier
			return dsseBody(r)
		}, signature.NoLog},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := keylessRecipe()
			r.body = tc.body
			_, err := open(o, s.forge(t, image, r), image)
			wantOutcome(t, err, tc.want)
		})
	}
}
