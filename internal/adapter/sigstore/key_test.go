package sigstore_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

func TestTimesOfKeys(t *testing.T) {
	s, image, key := start(t), subjectOf("image"), newKey(t, "P-256")
	now := time.Now()
	day := 24 * time.Hour
	made := now.Add(-2 * day) // when a log took the signature
	proven := s.forge(t, image, recipe{key: key, keyed: true, log: true, logTime: made})
	stamped := s.forge(t, image, recipe{key: key, keyed: true, stamp: &standin.Stamp{At: made}})
	unproven := s.forge(t, image, recipe{key: key, keyed: true})
	for _, tc := range []struct {
		name                string
		e                   signature.Envelope
		before, after, lost time.Duration // from now; 0 is never
		want                signature.Reason
		until               time.Duration
		proof               signature.Proof
	}{
		{name: "proven, no limits", e: proven, proof: signature.Logged},
		{name: "stamped, no limits", e: stamped, proof: signature.Timestamped},
		{name: "unproven, no limits", e: unproven},
		{name: "proven, in time", e: proven, before: -3 * day, after: -day, lost: -day, proof: signature.Logged},
		{name: "stamped, in time", e: stamped, before: -3 * day, after: -day, lost: -day, proof: signature.Timestamped},
		{name: "proven, too early", e: proven, before: -day, want: signature.NotYet},
		{name: "proven, too late", e: proven, after: -3 * day, want: signature.Expired},
		{name: "proven, after it was lost", e: proven, lost: -3 * day, want: signature.Revoked},
		{name: "stamped, after it was lost", e: stamped, lost: -3 * day, want: signature.Revoked},
		{name: "unproven, still in time", e: unproven, before: -day, after: day, until: day},
		{name: "unproven, key over", e: unproven, after: -day, want: signature.NoTime},
		{name: "unproven, key lost", e: unproven, lost: -day, want: signature.NoTime},
		{name: "unproven, key to come", e: unproven, before: day, want: signature.NotYet},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := func(d time.Duration) time.Time {
				if d == 0 {
					return time.Time{}
				}
				return now.Add(d)
			}
			k := signature.Key{Name: "release", Public: key.Public(), NotBefore: at(tc.before), NotAfter: at(tc.after), Lost: at(tc.lost)}
			got, err := s.opener(t, standin.All(), k).Open(context.Background(), tc.e, image, now)
			if tc.want != opens {
				wantRefusal(t, err, tc.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Proof != tc.proof || !got.Until.Equal(at(tc.until)) {
				t.Errorf("Open() = proof %q until %v, want %q until %v", got.Proof, got.Until, tc.proof, at(tc.until))
			}
			// The same key once more in the roots, without limits, changes nothing.
			again, err := s.opener(t, standin.All(), signature.Key{Name: "same", Public: key.Public()}, k).Open(context.Background(), tc.e, image, now)
			if err != nil || !again.Until.Equal(got.Until) {
				t.Errorf("with the key twice: until %v, %v", again.Until, err)
			}
		})
	}
	// A time that only an unknown log gives proves nothing.
	o := opener(t, signature.Roots{Keys: []signature.Key{{Name: "release", Public: key.Public(), Lost: now.Add(-day)}}})
	_, err := open(o, proven, image)
	wantRefusal(t, err, signature.NoTime)
	// A limit in one of two entries for a key counts.
	o = s.opener(t, standin.All(), signature.Key{Name: "a", Public: key.Public()}, signature.Key{Name: "b", Public: key.Public(), Lost: now.Add(-3 * day)})
	_, err = open(o, proven, image)
	wantRefusal(t, err, signature.Revoked)
}

func TestKeysThatAreRefused(t *testing.T) {
	small := must(x509.ParsePKIXPublicKey(must(base64.StdEncoding.DecodeString(
		"MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANDiE2+Xi/WnO+s120NiiJhNyIButVu6zxqlVzz0wy2j4kQVUC4ZRZD80IY+4wIiX2YxKBZKGnd2TtPkcJ/ljkUCAwEAAQ=="))(t)))(t)
	for name, pub := range map[string]crypto.PublicKey{"RSA of 512 bits": small, "P-224": newKey(t, "P-224").Public(), "none": nil} {
		if _, err := sigstore.New(signature.Roots{Keys: []signature.Key{{Name: "bad", Public: pub}}}, sigstore.Options{}); err == nil {
			t.Errorf("%s: New() takes the key", name)
		}
	}
	if _, err := sigstore.NewSigner(sigstore.SignerOptions{Key: newKey(t, "P-224")}); err == nil {
		t.Error("NewSigner() signs with P-224")
	}
}

// bare is a bundle with a signature over the manifest itself.
func bare(t *testing.T, key crypto.Signer, manifest string) signature.Envelope {
	t.Helper()
	digest := sha256.Sum256([]byte(manifest))
	var sig []byte
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		sig = must(key.Sign(rand.Reader, digest[:], crypto.SHA256))(t)
	} else {
		sig = must(key.Sign(rand.Reader, []byte(manifest), crypto.Hash(0)))(t)
	}
	return signature.Envelope{MediaType: sigstore.BundleMediaType, Payload: marshal(m{
		"mediaType": sigstore.BundleMediaType, "verificationMaterial": m{"publicKey": m{"hint": "x"}},
		"messageSignature": m{"messageDigest": m{"algorithm": "SHA2_256", "digest": digest[:]}, "signature": sig},
	})}
}

func TestSignaturesOverTheManifest(t *testing.T) {
	key, ed := newKey(t, "P-256"), newKey(t, "Ed25519")
	o := opener(t, signature.Roots{Keys: []signature.Key{{Name: "release", Public: key.Public()}}})
	e := bare(t, key, "image")
	got := must(open(o, e, subjectOf("image")))(t)
	if got.Statement != nil || got.Old {
		t.Errorf("Open() = %+v", got)
	}
	_, err := open(o, e, subjectOf("another"))
	wantRefusal(t, err, signature.OtherSubject)
	_, err = open(o, edit(t, e, "SHA2_512", "messageSignature", "messageDigest", "algorithm"), subjectOf("image"))
	wantRefusal(t, err, signature.Malformed)
	o = opener(t, signature.Roots{Keys: []signature.Key{{Name: "release", Public: ed.Public()}}})
	_, err = open(o, bare(t, ed, "image"), subjectOf("image"))
	wantRefusal(t, err, signature.Unsupported)
}

func TestOldTricks(t *testing.T) {
	ctx, s, image, key := context.Background(), start(t), subjectOf("image"), newKey(t, "P-256")
	parts := standin.Parts{Fulcio: true, CT: true, Log1: true, TSA: true}
	o := s.opener(t, parts, signature.Key{Name: "release", Public: key.Public()})
	keyed := must(signer(t, sigstore.SignerOptions{Key: key, Services: s.services(t, parts)}).SignOld(ctx, image, nil))(t)
	cert := must(s.keyless(t, parts).SignOld(ctx, image, nil))(t)
	another := must(s.keyless(t, parts).SignOld(ctx, image, nil))(t)
	payload := func(text string) signature.Envelope {
		digest := sha256.Sum256([]byte(text))
		sig := must(key.Sign(rand.Reader, digest[:], crypto.SHA256))(t)
		return signature.Envelope{MediaType: sigstore.SimpleMediaType, Payload: []byte(text), Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)}}
	}
	const sig, certificate, chain, bundle, stamp = "dev.cosignproject.cosign/signature", "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain", "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"
	critical := func(kind, digest string) string {
		return `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"` + digest + `"},"type":"` + kind + `"},"optional":null}`
	}
	for _, tc := range []struct {
		name string
		e    signature.Envelope
		want signature.Reason
	}{
		{"key", keyed, opens},
		{"certificate", cert, opens},
		{"payload by hand", payload(critical("cosign container image signature", image.Digest)), opens},
		{"other digest", payload(critical("cosign container image signature", subjectOf("x").Digest)), signature.OtherSubject},
		{"other type", payload(critical("atomic container signature", image.Digest)), signature.Malformed},
		{"two digests", payload(strings.Replace(critical("cosign container image signature", image.Digest), `"image":`, `"image":{"docker-manifest-digest":"`+image.Digest+`"},"image":`, 1)), signature.Malformed},
		{"something behind it", payload(critical("cosign container image signature", image.Digest) + "{}"), signature.Malformed},
		{"digest in capitals", payload(critical("cosign container image signature", strings.ToUpper(image.Digest))), signature.OtherSubject},
		{"no signature", note(keyed, sig, ""), signature.Malformed},
		{"signature of another", note(keyed, sig, cert.Annotations[sig]), signature.NoRoot},
		{"certificate of another", note(cert, certificate, another.Annotations[certificate]), signature.Forged},
		{"log entry of another", note(cert, bundle, another.Annotations[bundle]), signature.NoLog},
		{"key's signature with the log entry of another", note(keyed, bundle, another.Annotations[bundle]), signature.NoLog},
		{"time stamp of another", note(cert, stamp, another.Annotations[stamp]), signature.Forged},
		{"no log entry", note(cert, bundle, ""), signature.NoLog},
		{"two certificates", note(cert, certificate, cert.Annotations[certificate]+another.Annotations[certificate]), signature.Malformed},
		{"a private key for a certificate", note(cert, certificate, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), signature.Malformed},
		{"garbage behind a certificate", note(cert, certificate, cert.Annotations[certificate]+"x"), signature.Malformed},
		{"a chain of a thousand", note(cert, chain, strings.Repeat(cert.Annotations[certificate], 1000)), signature.TooLarge},
		{"an entry that says two things", note(cert, bundle, strings.Replace(cert.Annotations[bundle], `"Payload"`, `"Payload":{},"Payload"`, 1)), signature.Malformed},
		{"an entry with more", note(cert, bundle, strings.Replace(cert.Annotations[bundle], `"Payload"`, `"X":1,"Payload"`, 1)), signature.Malformed},
		{"a large entry", note(cert, bundle, strings.Repeat("x", 1<<20)), signature.TooLarge},
		{"a time stamp of garbage", note(cert, stamp, "{}{"), signature.Malformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := open(o, tc.e, image)
			if tc.want == opens {
				if err != nil || !got.Old {
					t.Fatalf("Open() = %+v, %v, want it to open as old", got, err)
				}
				return
			}
			wantRefusal(t, err, tc.want)
		})
	}
}

// authority is a certificate authority of one's own, without any service.
type authority struct {
	root, leaf *x509.Certificate
	rootKey    *ecdsa.PrivateKey
	key        crypto.Signer
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{rootKey: newKey(t, "P-256").(*ecdsa.PrivateKey), key: newKey(t, "P-384")}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Acme Root", Country: []string{"CH"}}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	a.root = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, root, root, a.rootKey.Public(), a.rootKey))(t)))(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "release, build", Organization: []string{"Acme"}, Country: []string{"CH"}}, DNSNames: []string{"build.acme.test"},
		EmailAddresses: []string{"build@acme.test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, CRLDistributionPoints: []string{"http://crl.acme.test"},
	}
	a.leaf = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, leaf, a.root, a.key.Public(), a.rootKey))(t)))(t)
	return a
}

func (a authority) list(t *testing.T, next time.Time, serials ...int64) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: next}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now()})
	}
	return must(x509.CreateRevocationList(rand.Reader, l, a.root, a.rootKey))(t)
}

// TestNamesOfAnotherForm has names of one kind that read like those of another,
// to which name constraints may not reach.
func TestNamesOfAnotherForm(t *testing.T) {
	a, image := newAuthority(t), subjectOf("image")
	leaf := *a.leaf
	leaf.URIs = []*url.URL{{Path: "other.acme.test"}, {Scheme: "https", Host: "acme.test", Path: "/x"}}
	leaf.EmailAddresses = append(leaf.EmailAddresses, "https://acme.test/@")
	leaf.ExtraExtensions, leaf.Extensions = nil, nil
	a.leaf = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, &leaf, a.root, a.key.Public(), a.rootKey))(t)))(t)
	s := signer(t, sigstore.SignerOptions{Key: a.key, Chain: []*x509.Certificate{a.leaf, a.root}})
	o := opener(t, signature.Roots{Stores: []signature.Store{{Kind: signature.StoreCA, Name: "acme", Certificates: []*x509.Certificate{a.root}}}})
	got, err := open(o, must(s.Sign(context.Background(), image, nil))(t), image)
	if want := []string{"build.acme.test", "build@acme.test", "https://acme.test/x"}; err != nil || !slices.Equal(got.Identity.Names, want) {
		t.Errorf("Open() = %q, %v, want the names %q", got.Identity.Names, err, want)
	}
}

func TestAnAuthorityOfOnesOwn(t *testing.T) {
	ctx, image, a, other := context.Background(), subjectOf("image"), newAuthority(t), newAuthority(t)
	s := signer(t, sigstore.SignerOptions{Key: a.key, Chain: []*x509.Certificate{a.leaf, a.root}})
	roots := func(lists ...[]byte) signature.Roots {
		return signature.Roots{Stores: []signature.Store{{Kind: signature.StoreCA, Name: "acme", Certificates: []*x509.Certificate{a.root}}}, Revoked: lists}
	}
	tomorrow := time.Now().Add(12 * time.Hour).Truncate(time.Second)
	for _, tc := range []struct {
		name  string
		roots signature.Roots
		want  signature.Reason
		state signature.Revocation
		until time.Time
	}{
		{"no list", roots(), opens, signature.RevocationSilent, a.leaf.NotAfter},
		{"a list", roots(a.list(t, tomorrow, 8)), opens, signature.NotRevoked, tomorrow},
		{"an old list", roots(a.list(t, time.Now().Add(-time.Minute), 8)), opens, signature.RevocationStale, a.leaf.NotAfter},
		{"a list of somebody of the same name", roots(other.list(t, tomorrow, 7)), opens, signature.RevocationSilent, a.leaf.NotAfter},
		{"revoked", roots(a.list(t, tomorrow, 7)), signature.Revoked, "", time.Time{}},
		{"another authority", signature.Roots{Stores: []signature.Store{{Kind: signature.StoreCA, Name: "acme", Certificates: []*x509.Certificate{other.root}}}}, signature.NoRoot, "", time.Time{}},
		{"an authority for time stamps", signature.Roots{Stores: []signature.Store{{Kind: signature.StoreTSA, Name: "acme", Certificates: []*x509.Certificate{a.root}}}}, signature.NoRoot, "", time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, sign := range []func(context.Context, signature.Subject, map[string]string) (signature.Envelope, error){s.Sign, s.SignOld} {
				got, err := open(opener(t, tc.roots), must(sign(ctx, image, nil))(t), image)
				if tc.want != opens {
					wantRefusal(t, err, tc.want)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if got.Identity.Store != "acme" || got.Identity.Name != `C=CH,O=Acme,CN=release\, build` || got.Identity.Subject != "" || len(got.Identity.Names) != 2 {
					t.Errorf("Identity = %+v", got.Identity)
				}
				if got.Revocation != tc.state || !got.Until.Equal(tc.until) || got.Proof != signature.Unproven {
					t.Errorf("Open() = revocation %q until %v proof %q, want %q until %v", got.Revocation, got.Until, got.Proof, tc.state, tc.until)
				}
			}
		})
	}
	e := must(s.Sign(ctx, image, nil))(t)
	_, err := opener(t, roots()).Open(ctx, e, image, time.Now().Add(30*time.Hour))
	wantRefusal(t, err, signature.Expired)
	_, err = opener(t, roots()).Open(ctx, e, image, time.Now().Add(-30*time.Hour))
	wantRefusal(t, err, signature.NotYet)
}

// TestAPlainAuthorityIsNoFulcio: an authority for certificates must not say who
// somebody is at an OIDC issuer.
func TestAPlainAuthorityIsNoFulcio(t *testing.T) {
	s, image := start(t), subjectOf("image")
	e := s.forge(t, image, keylessRecipe())
	o := opener(t, signature.Roots{Stores: []signature.Store{{Kind: signature.StoreCA, Name: "acme", Certificates: []*x509.Certificate{s.Root, s.Issuer}}}})
	_, err := open(o, e, image)
	wantRefusal(t, err, signature.NoRoot)
}

// TestACertificateOverALostKey: a lost key's certificate is lost with it.
func TestACertificateOverALostKey(t *testing.T) {
	ctx, image, a := context.Background(), subjectOf("image"), newAuthority(t)
	e := must(signer(t, sigstore.SignerOptions{Key: a.key, Chain: []*x509.Certificate{a.leaf}}).Sign(ctx, image, nil))(t)
	roots := signature.Roots{Stores: []signature.Store{{Kind: signature.StoreCA, Name: "acme", Certificates: []*x509.Certificate{a.root}}}}
	lost := time.Now().Add(time.Hour)
	roots.Keys = []signature.Key{{Name: "build", Public: a.key.Public(), NotAfter: time.Now().Add(-time.Hour), Lost: lost}}
	if got, err := open(opener(t, roots), e, image); err != nil || !got.Until.Equal(lost) {
		t.Errorf("before it is lost: until %v, %v", got.Until, err)
	}
	roots.Keys[0].Lost = time.Now().Add(-time.Hour)
	_, err := open(opener(t, roots), e, image)
	wantRefusal(t, err, signature.NoTime)
}

func TestRootsThatCannotBeUsed(t *testing.T) {
	s := start(t)
	good := string(s.TrustedRoot(s.url, standin.All()))
	for name, doc := range map[string]string{
		"nothing": "", "no JSON": "x", "another document": `{"mediaType":"application/json"}`, "trusts nobody": `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`,
		"a name twice":               strings.Replace(good, `"mediaType"`, `"mediaType":"x","mediaType"`, 1),
		"a log without an id":        strings.ReplaceAll(good, `"logId"`, `"logID"`),
		"a time that is none":        strings.Replace(good, `"start":"`, `"start":"x`, 1),
		"a certificate that is none": strings.Replace(good, base64.StdEncoding.EncodeToString(s.Root.Raw), "AAAA", 1),
		"too large":                  strings.Repeat(" ", 5<<20),
	} {
		if _, err := sigstore.New(signature.Roots{Sigstore: [][]byte{[]byte(doc)}}, sigstore.Options{}); err == nil {
			t.Errorf("%s: New() takes the root", name)
		}
	}
	if _, err := sigstore.New(signature.Roots{Revoked: [][]byte{{1}}}, sigstore.Options{}); err == nil {
		t.Error("New() takes a revocation list that is none")
	}
}

func TestATrustedRootALine(t *testing.T) {
	a, b, image := start(t), start(t), subjectOf("image")
	file := append(append(a.TrustedRoot(a.url, standin.All()), '\n'), b.TrustedRoot(b.url, standin.All())...)
	o := opener(t, signature.Roots{Sigstore: [][]byte{append(file, '\n')}})
	for _, s := range []running{a, b} {
		if _, err := open(o, s.forge(t, image, keylessRecipe()), image); err != nil {
			t.Errorf("Open() = %v", err)
		}
	}
	_, err := open(o, start(t).forge(t, image, keylessRecipe()), image)
	wantRefusal(t, err, signature.NoRoot)
}

func TestThresholdOfLogs(t *testing.T) {
	s, image := start(t), subjectOf("image")
	o, err := sigstore.New(signature.Roots{Sigstore: [][]byte{s.TrustedRoot(s.url, standin.All())}}, sigstore.Options{Logs: 2})
	if err != nil {
		t.Fatal(err)
	}
	r := keylessRecipe()
	_, err = open(o, s.forge(t, image, r), image)
	wantRefusal(t, err, signature.NoLog)
	r.log2 = true
	r.stamp = &standin.Stamp{}
	doc := s.forge(t, image, recipe{holder: r.holder, log: true, log2: true, stamp: r.stamp})
	if _, err := open(o, doc, image); err != nil {
		t.Errorf("with two logs: %v", err)
	}
}

// note gives an envelope another annotation.
func note(e signature.Envelope, name, value string) signature.Envelope {
	notes := map[string]string{name: value}
	for k, v := range e.Annotations {
		if k != name {
			notes[k] = v
		}
	}
	e.Annotations = notes
	return e
}
