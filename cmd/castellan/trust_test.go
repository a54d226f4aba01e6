package main

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ageform "filippo.io/age"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	pushing "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ocsp"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// startSigstore starts a Sigstore of its own for a script: sigstore FOLDER puts
// its trusted root, its signing configuration and an OIDC token there, and has an
// issuer whose address is in ISSUER, at which ann@acme.example signs in.
func startSigstore(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sigstore FOLDER")
	}
	s := must(standin.New("127.0.0.1"))
	issuer := &standin.Issuer{Sigstore: s, Subject: "ann@acme.example", Pending: []string{"authorization_pending"}}
	mux := http.NewServeMux()
	mux.Handle("/", s.Handler())
	mux.Handle("/oidc/", http.StripPrefix("/oidc", issuer.Handler()))
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	issuer.Base = server.URL + "/oidc"
	ts.Setenv("ISSUER", issuer.Base)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	for name, content := range map[string][]byte{
		"trusted_root.json":   s.TrustedRoot(server.URL, standin.All()),
		"signing_config.json": s.SigningConfig(server.URL, standin.All()),
		"token":               []byte(must(s.Token("https://issuer.example", "https://example.org/acme/shop/release.yml"))),
	} {
		ts.Check(os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}

// certify makes a key with its chain of certificates: certify FOLDER NAME TSA, which
// also has the root, and starts a time-stamping authority whose root is there too and
// whose address is in a variable. With a file as a fourth argument the certificate
// names an OCSP responder, which says what the file says: good, revoked, or unknown.
func certify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 && len(args) != 4 {
		ts.Fatalf("usage: certify FOLDER NAME TSA-VARIABLE [FILE]")
	}
	now := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	issue := func(by *notarytest.Holder, kind notarytest.Kind, name string, edits ...func(*x509.Certificate)) *notarytest.Holder {
		return must(notarytest.Issue(by, kind, name, must(notarytest.EC(elliptic.P256())), append(edits, now)...))
	}
	root := issue(nil, notarytest.Authority, "root of "+args[1])
	responder := httptest.NewServer(answersBy(root, ts.MkAbs(args[len(args)-1])))
	ts.Defer(responder.Close)
	signer := issue(root, notarytest.Signer, args[1], func(c *x509.Certificate) {
		if len(args) == 4 {
			c.OCSPServer = []string{responder.URL}
		}
	})
	stamps := issue(nil, notarytest.Authority, "root of time")
	server := httptest.NewServer(&notarytest.TSA{By: issue(stamps, notarytest.Stamper, "time"), Clock: time.Now})
	ts.Defer(server.Close)
	ts.Setenv(args[2], server.URL)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	for name, certs := range map[string][]*x509.Certificate{"chain.pem": signer.Chain, "ca.pem": root.Chain, "tsa.pem": stamps.Chain} {
		var b bytes.Buffer
		for _, c := range certs {
			ts.Check(pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
		ts.Check(os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644))
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(signer.Key))})
	ts.Check(os.WriteFile(filepath.Join(dir, "signer.key"), private, 0o600))
}

// visitPage waits for the address of a page in a file and goes there, as a browser
// would: visit FILE.
func visitPage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: visit FILE")
	}
	address := regexp.MustCompile(`https?://\S+/authorize\S+`)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if where := address.Find(b); err == nil && where != nil && bytes.HasSuffix(b, []byte("\n")) {
			resp, err := http.Get(string(where))
			ts.Check(err)
			ts.Check(resp.Body.Close())
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("no address after 30 s: %s", b)
		case <-tick.C:
		}
	}
}

// answersBy is an OCSP responder that says what a file says.
func answersBy(issuer *notarytest.Holder, file string) *notarytest.Responder {
	return &notarytest.Responder{Issuer: issuer, Clock: time.Now, Edit: func(r *ocsp.Response) {
		b, err := os.ReadFile(file)
		switch says := strings.TrimSpace(string(b)); {
		case err != nil || says == "unknown":
			r.Status = ocsp.Unknown
		case says == "revoked":
			r.Status, r.RevokedAt, r.RevocationReason = ocsp.Revoked, time.Now(), ocsp.KeyCompromise
		}
	}}
}

// makeRecipient makes an identity of age: recipient VARIABLE FILE puts it into a file
// and its recipient into a variable.
func makeRecipient(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: recipient VARIABLE FILE")
	}
	i := must(ageform.GenerateX25519Identity())
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte("# "+args[0]+"\n"+i.String()+"\n"), 0o600))
	ts.Setenv(args[0], i.Recipient().String())
}

// multi is an image for two platforms.
func multi() v1.ImageIndex {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		image := must(mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), static.NewLayer([]byte(arch), types.OCILayer)))
		image = must(mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: must(image.ConfigFile()).RootFS}))
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	return index
}

// pushIndex puts an image for two platforms into a registry: index REFERENCE; or
// into a layout on disk: index FOLDER TAG.
func pushIndex(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case !neg && len(args) == 1:
		ts.Check(pushing.WriteIndex(must(name.ParseReference(args[0], name.Insecure)), multi()))
	case !neg && len(args) == 2:
		l := must(layout.Write(ts.MkAbs(args[0]), empty.Index))
		ts.Check(l.AppendIndex(multi(), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": args[1]})))
	default:
		ts.Fatalf("usage: index REFERENCE, or index FOLDER TAG")
	}
}

func TestPulledAs(t *testing.T) {
	const one, two = "sha256:1111111111111111111111111111111111111111111111111111111111111111", "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	local := []docker.LocalImage{
		{ID: two, Names: []string{"nginx:latest"}, Digests: []string{"nginx@" + one}},
		{ID: one, Names: []string{"ghcr.io/acme/shop:2", "mirror.example/shop:2"}, Digests: []string{"ghcr.io/acme/shop@" + one, "mirror.example/shop@" + two}},
		{ID: "sha256:3333333333333333333333333333333333333333333333333333333333333333", Names: []string{"built:1"}},
	}
	for _, tc := range []struct{ name, want, wrong string }{
		{"nginx", "nginx@" + one, ""},
		{"docker.io/library/nginx:latest", "nginx@" + one, ""},
		{"ghcr.io/acme/shop:2", "ghcr.io/acme/shop@" + one, ""},
		{"mirror.example/shop:2", "mirror.example/shop@" + two, ""},
		{"ghcr.io/acme/shop@" + one, "ghcr.io/acme/shop@" + one, ""},
		{"111111111111", "", "several names"},
		{"222222222222", "nginx@" + one, ""},
		{"22", "", "no image"},
		{"built:1", "", "no digest of a registry"},
		{"ghcr.io/acme/shop:3", "", "no image"},
	} {
		got, err := pulledAs(tc.name, local)
		if got != tc.want || (err == nil) != (tc.wrong == "") || err != nil && !bytes.Contains([]byte(err.Error()), []byte(tc.wrong)) {
			t.Errorf("pulledAs(%q) = %q, %v; want %q, error with %q", tc.name, got, err, tc.want, tc.wrong)
		}
	}
}

func TestRelative(t *testing.T) {
	for _, tc := range []struct{ folder, path, want string }{
		{".", "keys/build.pub", "keys/build.pub"},
		{"policies", "keys/build.pub", "../keys/build.pub"},
		{"policies", "/keys/build.pub", "/keys/build.pub"},
		{".", "", ""},
	} {
		if got := relative(tc.folder, tc.path); got != tc.want {
			t.Errorf("relative(%q, %q) = %q, want %q", tc.folder, tc.path, got, tc.want)
		}
	}
}

func TestFormOf(t *testing.T) {
	for _, tc := range []struct{ name, content, want string }{
		{"bundle", `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`, "application/vnd.dev.sigstore.bundle.v0.3+json"},
		{"older bundle", `{"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.2"}`, "application/vnd.dev.sigstore.bundle+json;version=0.2"},
		{"DSSE", `{"payloadType":"application/vnd.in-toto+json","payload":""}`, "application/vnd.dsse.envelope.v1+json"},
		{"JWS", `{"protected":"e30","payload":"","signature":""}`, "application/jose+json"},
		{"COSE", "\xd2\x84", "application/cose"},
		{"another document", `{"mediaType":"application/vnd.oci.image.manifest.v1+json"}`, ""},
		{"no object", `[]`, ""},
		{"nothing", ``, ""},
	} {
		if got := formOf([]byte(tc.content)); got != tc.want {
			t.Errorf("%s: formOf() = %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestRepositoryPattern(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"ghcr.io/acme/shop:2", "ghcr.io/acme/shop"},
		{"ghcr.io/acme/shop:2@sha256:aa", "ghcr.io/acme/shop"},
		{"registry:localhost:5000/shop", "localhost:5000/shop"},
		{"ghcr.io/acme/**", "ghcr.io/acme/**"},
		{"nginx", "nginx"},
	} {
		if got := repositoryPattern(tc.name); got != tc.want {
			t.Errorf("repositoryPattern(%q) = %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestImagesOfTasks(t *testing.T) {
	g := &globals{streams: streams{in: strings.NewReader(`{"family":"shop","containerDefinitions":[{"name":"a","image":"nginx:1"},{"name":"b","image":"shop:2"},{"name":"c","image":"nginx:1"}]}`)}}
	got, err := g.imagesOfTasks([]string{"shop:2", "task:-"})
	if want := []string{"shop:2", "nginx:1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("imagesOfTasks() = %q, %v; want %q", got, err, want)
	}
}

func FuzzQuickPolicy(f *testing.F) {
	f.Add("acme=ca.pem", "CN=build", "a@example.org", "cyclonedx")
	f.Add("tsa:x=y", "", "**", "")
	f.Fuzz(func(t *testing.T, store, subject, identity, attested string) {
		r := ruleFlags{stores: []string{store}, subject: subject, identity: identity, issuer: "https://issuer.example", trustedRoot: "root.json", attested: []string{attested}}
		b, err := r.write(t.Context(), &globals{}, nil)
		if err != nil {
			return
		}
		// What is given stays a value: no flag writes another rule or a second signer.
		var p struct {
			Signers map[string]any `json:"signers"`
			Images  []struct {
				Match   string `json:"match"`
				Require []struct {
					Signers []string `json:"signers"`
				} `json:"require"`
			} `json:"images"`
		}
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		if len(p.Images) != 1 || p.Images[0].Match != "**" || len(p.Images[0].Require) != 1 || len(p.Images[0].Require[0].Signers) != len(p.Signers) {
			t.Fatalf("the policy is not one rule for all: %s", b)
		}
		// The files aren't there.
		if _, err = trust.Read(b, "flags", trust.Folder(t.TempDir())); err == nil {
			t.Fatalf("a policy with files that are not there was read: %s", b)
		}
	})
}

// The images that run are asked of the server page by page; those that are in no
// registry can't be looked at.
func TestRunningImages(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", server.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	image := func(id int64, repository string, state store.TrustState) store.TrustImage {
		return store.TrustImage{ID: id, TrustVerdict: store.TrustVerdict{Repository: repository, Digest: "sha256:1", State: state}}
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var page trustImagePage
		q := r.URL.Query()
		switch {
		case q.Get("running") != "true":
			http.Error(w, "of all images", http.StatusBadRequest)
			return
		case q.Get("after") == "":
			for i := range store.MaxPage {
				page.Images = append(page.Images, image(int64(i+1), "built", store.TrustLocal))
			}
		case q.Get("after") == strconv.Itoa(store.MaxPage):
			page.Images = []store.TrustImage{image(store.MaxPage+1, "ghcr.io/acme/shop", store.TrustWaiting)}
		}
		if err := json.NewEncoder(w).Encode(page); err != nil {
			t.Error(err)
		}
	})}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	var errs bytes.Buffer
	g := &globals{streams: streams{err: &errs}, dataDir: dir}
	got, err := g.runningImages(t.Context(), askOptions{})
	if err != nil || !slices.Equal(got, []string{"ghcr.io/acme/shop@sha256:1"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if n := strings.Count(errs.String(), "not looked at: built"); n != store.MaxPage {
		t.Errorf("%d were told to be in no registry, want %d", n, store.MaxPage)
	}
}
