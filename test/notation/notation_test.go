// Package notation_test holds the door to the Notary Project against the project's
// own library: what one signs the other verifies, and what was tampered with both
// refuse, or it is said here why not. It is a module of its own, so that what the
// library needs stays out of the program's go.mod.
package notation_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/signer"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/notaryproject/tspclient-go"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	castellan "github.com/castellan-security/castellan/internal/signature"
)

const repository = "registry.example/shop/web"

var manifest = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`)

func descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
}

func subject() castellan.Subject {
	d := descriptor()
	return castellan.Subject{Repository: repository, Digest: d.Digest.String(), MediaType: d.MediaType, Size: d.Size}
}

// world is what both are given. The library asks the clock, so that everything
// is valid about now.
type world struct {
	root, ca, signer *notarytest.Holder
	tsaRoot, tsa     *notarytest.Holder
	stamper          *notarytest.TSA
	url              string
	now              time.Time
}

func about(from, to time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(from).UTC(), time.Now().Add(to).UTC()
	}
}

var current = about(-48*time.Hour, 48*time.Hour)

func issue(t testing.TB, by *notarytest.Holder, kind notarytest.Kind, name string, k crypto.Signer, edits ...func(*x509.Certificate)) *notarytest.Holder {
	t.Helper()
	h, err := notarytest.Issue(by, kind, name, k, append([]func(*x509.Certificate){current}, edits...)...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ec(t testing.TB) crypto.Signer { return curve(t, elliptic.P256()) }

func curve(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := notarytest.EC(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{now: time.Now()}
	w.root = issue(t, nil, notarytest.Authority, "Acme root", ec(t))
	w.ca = issue(t, w.root, notarytest.Authority, "Acme builds", ec(t))
	w.signer = issue(t, w.ca, notarytest.Signer, "build", ec(t))
	w.tsaRoot = issue(t, nil, notarytest.Authority, "Time root", ec(t))
	w.tsa = issue(t, w.tsaRoot, notarytest.Stamper, "Time", ec(t))
	w.stamper = &notarytest.TSA{By: w.tsa, Clock: time.Now}
	s := httptest.NewServer(w.stamper)
	t.Cleanup(s.Close)
	w.url = s.URL
	return w
}

// rootOf is the last certificate.
func rootOf(h *notarytest.Holder) *x509.Certificate { return h.Chain[len(h.Chain)-1] }

// trust is the trust store of both: every root in the one place it may be.
type trust struct{ ca, authority, tsa []*x509.Certificate }

func (s trust) GetCertificates(_ context.Context, kind truststore.Type, _ string) ([]*x509.Certificate, error) {
	switch kind {
	case truststore.TypeCA:
		return s.ca, nil
	case truststore.TypeSigningAuthority:
		return s.authority, nil
	}
	return s.tsa, nil
}

func (w *world) trust() trust {
	return trust{ca: w.root.Chain, authority: w.root.Chain, tsa: w.tsaRoot.Chain}
}

// theirs is the library's verifier. With tsa, it wants a time-stamp once the
// certificate has expired; it looks up no revocation, which needs a network.
func theirs(t testing.TB, s trust) notation.Verifier {
	t.Helper()
	stores := []string{"ca:acme", "signingAuthority:acme"}
	if len(s.tsa) > 0 {
		stores = append(stores, "tsa:time")
	}
	v, err := verifier.New(&trustpolicy.Document{Version: "1.0", TrustPolicies: []trustpolicy.TrustPolicy{{
		Name: "all", RegistryScopes: []string{"*"}, TrustStores: stores, TrustedIdentities: []string{"*"},
		SignatureVerification: trustpolicy.SignatureVerification{
			VerificationLevel: trustpolicy.LevelStrict.Name,
			VerifyTimestamp:   trustpolicy.OptionAfterCertExpiry,
			Override:          map[trustpolicy.ValidationType]trustpolicy.ValidationAction{trustpolicy.TypeRevocation: trustpolicy.ActionSkip},
		},
	}}}, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ours(t testing.TB, s trust) *notary.Opener {
	t.Helper()
	o, err := notary.New(castellan.Roots{Stores: []castellan.Store{
		{Kind: castellan.StoreCA, Name: "acme", Certificates: s.ca},
		{Kind: castellan.StoreAuthority, Name: "acme", Certificates: s.authority},
		{Kind: castellan.StoreTSA, Name: "time", Certificates: s.tsa},
	}}, notary.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// judge asks both.
func judge(t testing.TB, s trust, form string, data []byte) (our, their error) {
	t.Helper()
	_, our = ours(t, s).Open(t.Context(), castellan.Envelope{MediaType: form, Payload: data}, subject(), time.Now())
	_, their = theirs(t, s).Verify(t.Context(), descriptor(), data, notation.VerifierVerifyOptions{
		ArtifactReference: repository + "@" + descriptor().Digest.String(), SignatureMediaType: form,
	})
	return our, their
}

var forms = map[string]string{"JWS": jws.MediaTypeEnvelope, "COSE": cose.MediaTypeEnvelope}

func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	out := map[string]crypto.Signer{"P-256": ec(t), "P-384": curve(t, elliptic.P384()), "P-521": curve(t, elliptic.P521())}
	for name, bits := range map[string]int{"RSA-2048": 2048, "RSA-3072": 3072, "RSA-4096": 4096} {
		k, err := notarytest.RSA(bits)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = k
	}
	return out
}

func TestTheirSignaturesOpenHere(t *testing.T) {
	w := newWorld(t)
	o := ours(t, w.trust())
	stamper, err := tspclient.NewHTTPTimestamper(nil, w.url)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(rootOf(w.tsaRoot))
	for name, k := range keys(t) {
		h := issue(t, w.ca, notarytest.Signer, "build", k)
		s, err := signer.NewGenericSigner(k, h.Chain)
		if err != nil {
			t.Fatal(err)
		}
		for form, media := range forms {
			for kind, opts := range map[string]notation.SignerSignOptions{
				"plain": {}, "expiring": {ExpiryDuration: time.Hour}, "stamped": {Timestamper: stamper, TSARootCAs: pool},
			} {
				t.Run(name+" "+form+" "+kind, func(t *testing.T) {
					opts.SignatureMediaType = media
					desc := descriptor()
					desc.Annotations = map[string]string{"build": "7"}
					data, _, err := s.Sign(t.Context(), desc, opts)
					if err != nil {
						t.Fatal(err)
					}
					got, err := o.Open(t.Context(), castellan.Envelope{MediaType: media, Payload: data}, subject(), time.Now())
					if err != nil {
						t.Fatal(err)
					}
					want := map[string]castellan.Proof{"plain": castellan.Claimed, "expiring": castellan.Claimed, "stamped": castellan.Timestamped}[kind]
					if got.Proof != want || got.Annotations["build"] != "7" || got.Expiry.IsZero() != (kind != "expiring") {
						t.Errorf("got %+v, want the proof %s", got, want)
					}
				})
			}
		}
	}
}

func TestTheirSigningAuthorityOpensHere(t *testing.T) {
	w := newWorld(t)
	for form, media := range forms {
		t.Run(form, func(t *testing.T) {
			data := theirEnvelope(t, media, w.signer, func(r *signature.SignRequest) { r.SigningScheme = signature.SigningSchemeX509SigningAuthority })
			our, their := judge(t, w.trust(), media, data)
			if our != nil || their != nil {
				t.Errorf("got %v here and %v there, want none", our, their)
			}
			got, err := ours(t, w.trust()).Open(t.Context(), castellan.Envelope{MediaType: media, Payload: data}, subject(), time.Now())
			if err != nil || got.Proof != castellan.Authority {
				t.Errorf("got the proof %q, %v, want authority", got.Proof, err)
			}
		})
	}
}

// theirEnvelope signs with the core library, which lets one say more than
// its signer.
func theirEnvelope(t testing.TB, media string, h *notarytest.Holder, edits ...func(*signature.SignRequest)) []byte {
	t.Helper()
	s, err := signature.NewLocalSigner(h.Chain, h.Key)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(map[string]any{"targetArtifact": descriptor()})
	if err != nil {
		t.Fatal(err)
	}
	r := &signature.SignRequest{
		Payload: signature.Payload{ContentType: "application/vnd.cncf.notary.payload.v1+json", Content: payload},
		Signer:  s, SigningTime: time.Now(), SigningScheme: signature.SigningSchemeX509, SigningAgent: "notation",
	}
	for _, edit := range edits {
		edit(r)
	}
	e, err := signature.NewEnvelope(media)
	if err != nil {
		t.Fatal(err)
	}
	data, err := e.Sign(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOurSignaturesVerifyThere(t *testing.T) {
	w := newWorld(t)
	for name, k := range keys(t) {
		h := issue(t, w.ca, notarytest.Signer, "build", k)
		for form, media := range forms {
			for kind, opts := range map[string]notary.SignOptions{
				"plain": {}, "expiring": {Expiry: time.Now().Add(time.Hour), Annotations: map[string]string{"build": "7 <b>"}},
				"stamped": {TSA: &notary.TSA{URL: w.url, Roots: w.tsaRoot.Chain}},
			} {
				t.Run(name+" "+form+" "+kind, func(t *testing.T) {
					opts.MediaType = media
					e, err := notary.Sign(t.Context(), h.Key, h.Chain, subject(), opts)
					if err != nil {
						t.Fatal(err)
					}
					out, err := theirs(t, w.trust()).Verify(t.Context(), descriptor(), e.Payload, notation.VerifierVerifyOptions{
						ArtifactReference: repository + "@" + descriptor().Digest.String(), SignatureMediaType: media, UserMetadata: opts.Annotations,
					})
					if err != nil {
						t.Fatal(err)
					}
					if has := len(out.EnvelopeContent.SignerInfo.UnsignedAttributes.TimestampSignature) > 0; has != (kind == "stamped") {
						t.Errorf("time-stamp there: %v", has)
					}
				})
			}
		}
	}
}

// TestOursIsFoundInALayout keeps a signature as the comment of Sign says, and lets
// the library find and verify it.
func TestOursIsFoundInALayout(t *testing.T) {
	w := newWorld(t)
	for form, media := range map[string]string{"JWS": notary.JWS, "COSE": notary.COSE, "with an artifact type": notary.JWS} {
		t.Run(form, func(t *testing.T) {
			e, err := notary.Sign(t.Context(), w.signer.Key, w.signer.Chain, subject(), notary.SignOptions{MediaType: media})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			store, err := oci.New(dir)
			if err != nil {
				t.Fatal(err)
			}
			push := func(mediaType string, data []byte) ocispec.Descriptor {
				d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
				if err := store.Push(t.Context(), d, bytesReader(data)); err != nil {
					t.Fatal(err)
				}
				return d
			}
			image := push(ocispec.MediaTypeImageManifest, manifest)
			m := ocispec.Manifest{
				MediaType: ocispec.MediaTypeImageManifest,
				Config:    push(e.ArtifactType, []byte("{}")), Layers: []ocispec.Descriptor{push(e.MediaType, e.Payload)},
				Subject: &image, Annotations: e.Annotations,
			}
			m.SchemaVersion = 2
			if form == "with an artifact type" {
				m.ArtifactType = e.ArtifactType
			}
			data, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			push(ocispec.MediaTypeImageManifest, data)
			repo, err := registry.NewOCIRepository(dir, registry.RepositoryOptions{})
			if err != nil {
				t.Fatal(err)
			}
			_, outcomes, err := notation.Verify(t.Context(), theirs(t, w.trust()), repo, notation.VerifyOptions{
				ArtifactReference: repository + "@" + image.Digest.String(), MaxSignatureAttempts: 10,
			})
			if err != nil || len(outcomes) != 1 {
				t.Fatalf("got %d outcomes, %v, want one", len(outcomes), err)
			}
			var prints []string
			if err := json.Unmarshal([]byte(e.Annotations["io.cncf.notary.x509chain.thumbprint#S256"]), &prints); err != nil || len(prints) != len(w.signer.Chain) {
				t.Fatalf("got thumbprints %q, %v", prints, err)
			}
			for i, c := range w.signer.Chain {
				if sum := sha256.Sum256(c.Raw); prints[i] != hex.EncodeToString(sum[:]) {
					t.Errorf("thumbprint %d: got %s", i, prints[i])
				}
			}
		})
	}
}
