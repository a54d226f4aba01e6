// Package cosign_test holds the door of Sigstore against the real cosign command
// and against Sigstore's own library: what they sign must open here, what is
// signed here must be believed by them, and what they refuse must be refused. It
// is a module of its own, so that what they need stays out of the program's go.mod.
package cosign_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

// version is of the cosign that is built.
const version = "v3.1.3"

// command is where the command is. It is built once, which takes seven minutes of
// one core, and kept in bin beside the other peers.
var command string

func TestMain(m *testing.M) {
	dir, err := filepath.Abs("../../bin/peers/cosign-" + version)
	if err != nil {
		log.Fatal(err)
	}
	command = filepath.Join(dir, "cosign")
	if _, err := os.Stat(command); err != nil {
		log.Printf("building cosign %s, once", version)
		build := exec.Command("go", "install", "-trimpath", "-ldflags", "-s -w", "github.com/sigstore/cosign/v3/cmd/cosign@"+version)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+dir, "GOFLAGS=")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			log.Fatalf("build cosign: %v", err)
		}
	}
	os.Exit(m.Run())
}

// bench is a registry, a Sigstore and a key, for one test.
type bench struct {
	*standin.Sigstore
	t        testing.TB
	url      string // of the Sigstore
	registry string
	dir      string
	key      *ecdsa.PrivateKey
	log      string // what cosign said last
}

func start(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	reg := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(reg.Close)
	b.registry = strings.TrimPrefix(reg.URL, "http://")
	var err error
	if b.Sigstore, err = standin.New("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(b.Handler())
	t.Cleanup(srv.Close)
	b.url = srv.URL
	if b.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	b.importKey("release", b.key)
	return b
}

// importKey gives cosign a key: NAME.key and NAME.pub.
func (b *bench) importKey(name string, key crypto.Signer) {
	b.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	plain := b.file(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	b.mustRun("import-key-pair", "--key", plain, "--output-key-prefix", filepath.Join(b.dir, name))
}

func (b *bench) file(name string, data []byte) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// run runs cosign, which may ask nobody but the stand-ins.
func (b *bench) run(args ...string) error {
	c := exec.Command(command, args...)
	c.Dir = b.dir
	c.Env = []string{"HOME=" + b.dir, "COSIGN_PASSWORD=secret", "COSIGN_YES=true", "PATH=/nowhere", "TUF_ROOT=" + b.dir + "/tuf", "HTTPS_PROXY=http://127.0.0.1:1", "TMPDIR=" + b.dir}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	b.log = out.String()
	return err
}

func (b *bench) mustRun(args ...string) {
	b.t.Helper()
	if err := b.run(args...); err != nil {
		b.t.Fatalf("cosign %s: %v\n%s", strings.Join(args, " "), err, b.log)
	}
}

// image pushes an image of its own and returns its reference by digest.
func (b *bench) image() name.Digest {
	b.t.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	repo, err := name.NewRepository(b.registry + "/shop/web")
	if err != nil {
		b.t.Fatal(err)
	}
	h, err := img.Digest()
	if err != nil {
		b.t.Fatal(err)
	}
	ref := repo.Digest(h.String())
	if err := remote.Write(ref, img); err != nil {
		b.t.Fatal(err)
	}
	return ref
}

func subject(ref name.Digest) signature.Subject {
	return signature.Subject{Repository: ref.Context().Name(), Digest: ref.DigestStr()}
}

// envelopes finds what is attached to an image: bundles that refer to it, and the
// tags of old.
func (b *bench) envelopes(ref name.Digest) []signature.Envelope {
	b.t.Helper()
	var all []signature.Envelope
	index, err := remote.Referrers(ref)
	if err != nil {
		b.t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, d := range m.Manifests {
		all = append(all, b.layers(ref.Context().Digest(d.Digest.String()), signature.ByReferrer)...)
	}
	for _, suffix := range []string{".sig", ".att"} {
		tag := ref.Context().Tag(strings.Replace(ref.DigestStr(), ":", "-", 1) + suffix)
		if _, err := remote.Head(tag); err == nil {
			all = append(all, b.layers(tag, signature.ByCosignTag)...)
		}
	}
	return all
}

func (b *bench) layers(ref name.Reference, way signature.Way) []signature.Envelope {
	b.t.Helper()
	img, err := remote.Image(ref)
	if err != nil {
		b.t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		b.t.Fatal(err)
	}
	var all []signature.Envelope
	for _, d := range m.Layers {
		l, err := img.LayerByDigest(d.Digest)
		if err != nil {
			b.t.Fatal(err)
		}
		r, err := l.Compressed()
		if err != nil {
			b.t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			b.t.Fatal(err)
		}
		notes := map[string]string{}
		for _, from := range []map[string]string{m.Annotations, d.Annotations} {
			for k, v := range from {
				notes[k] = v
			}
		}
		all = append(all, signature.Envelope{MediaType: string(d.MediaType), Payload: data, Annotations: notes, Way: way, Digest: d.Digest.String()})
	}
	return all
}

// attach puts an envelope beside an image: as a referrer, or at a tag of old.
func (b *bench) attach(ref name.Digest, e signature.Envelope, suffix string) {
	b.t.Helper()
	layer := static.NewLayer(e.Payload, types.MediaType(e.MediaType))
	if suffix == "" {
		b.attachReferrer(ref, e, layer)
		return
	}
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{Layer: layer, Annotations: e.Annotations})
	if err != nil {
		b.t.Fatal(err)
	}
	tag := ref.Context().Tag(strings.Replace(ref.DigestStr(), ":", "-", 1) + suffix)
	if err := remote.Write(tag, img); err != nil {
		b.t.Fatal(err)
	}
}

// manifest is an image manifest of OCI 1.1, written by hand: the library knows
// no artifactType.
type manifest struct {
	raw []byte
}

func (m manifest) RawManifest() ([]byte, error)        { return m.raw, nil }
func (m manifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func (b *bench) attachReferrer(ref name.Digest, e signature.Envelope, layer v1.Layer) {
	b.t.Helper()
	head, err := remote.Head(ref)
	if err != nil {
		b.t.Fatal(err)
	}
	config := static.NewLayer([]byte("{}"), "application/vnd.oci.empty.v1+json")
	describe := func(l v1.Layer, media string) map[string]any {
		h, err := l.Digest()
		if err != nil {
			b.t.Fatal(err)
		}
		size, err := l.Size()
		if err != nil {
			b.t.Fatal(err)
		}
		return map[string]any{"mediaType": media, "digest": h.String(), "size": size}
	}
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": e.ArtifactType, "annotations": e.Annotations,
		"config": describe(config, "application/vnd.oci.empty.v1+json"), "layers": []any{describe(layer, e.MediaType)},
		"subject": map[string]any{"mediaType": head.MediaType, "digest": head.Digest.String(), "size": head.Size},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	h, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, l := range []v1.Layer{config, layer} {
		if err := remote.WriteLayer(ref.Context(), l); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := remote.Put(ref.Context().Digest(h.String()), manifest{raw}); err != nil {
		b.t.Fatal(err)
	}
}

// config writes where cosign is to sign; no parts are no services.
func (b *bench) config(p standin.Parts) string {
	return b.file("signing-config.json", b.SigningConfig(b.url, p))
}

// form are the flags by which cosign signs in a form, with the services of p.
func (b *bench) form(p standin.Parts, old bool) []string {
	if !old {
		return []string{"--signing-config", b.config(p), "--trusted-root", b.root(p)}
	}
	flags := []string{"--new-bundle-format=false", "--use-signing-config=false", "--trusted-root", b.root(p), "--fulcio-url", b.url + "/fulcio", "--rekor-url", b.url + "/rekor"}
	if !p.Log1 {
		flags = append(flags, "--tlog-upload=false")
	}
	if p.TSA {
		flags = append(flags, "--timestamp-server-url", b.url+"/tsa")
	}
	return flags
}

func (b *bench) root(p standin.Parts) string {
	return b.file("trusted-root.json", b.TrustedRoot(b.url, p))
}

func (b *bench) opener(p standin.Parts) *sigstore.Opener {
	b.t.Helper()
	roots := signature.Roots{Keys: []signature.Key{{Name: "release", Public: b.key.Public()}}}
	if p != (standin.Parts{}) {
		roots.Sigstore = [][]byte{b.TrustedRoot(b.url, p)}
	}
	o, err := sigstore.New(roots, sigstore.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// open opens the only envelope of an image.
func (b *bench) open(ref name.Digest, p standin.Parts) signature.Signed {
	b.t.Helper()
	all := b.envelopes(ref)
	if len(all) != 1 {
		b.t.Fatalf("%s has %d envelopes, want one", ref, len(all))
	}
	s, err := b.opener(p).Open(context.Background(), all[0], subject(ref), time.Now())
	if err != nil {
		b.t.Fatalf("open what cosign wrote: %v\n%s", err, all[0].Payload)
	}
	return s
}

func (b *bench) signer(o sigstore.SignerOptions, p standin.Parts) *sigstore.Signer {
	b.t.Helper()
	var err error
	if o.Services, err = sigstore.ReadServices(b.SigningConfig(b.url, p), time.Now()); err != nil {
		b.t.Fatal(err)
	}
	s, err := sigstore.NewSigner(o)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) token() string {
	b.t.Helper()
	tok, err := b.Token(issuer, who)
	if err != nil {
		b.t.Fatal(err)
	}
	return tok
}

const (
	issuer = "https://token.example.org"
	who    = "https://github.com/acme/shop/.github/workflows/release.yml@refs/heads/main"
)
