package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	pushing "github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/store"
)

// pushedImage puts an image of its own into a registry.
func pushedImage(t *testing.T, repository, author string) signature.Subject {
	t.Helper()
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Author: author, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}}})
	if err != nil {
		t.Fatal(err)
	}
	reference, err := name.ParseReference(repository+":1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := pushing.Write(reference, image); err != nil {
		t.Fatal(err)
	}
	raw, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	kind, err := image.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	return signature.Subject{Repository: repository, Digest: sha256Of(raw), MediaType: string(kind), Size: int64(len(raw))}
}

// signBy signs an image with a new key and attaches that; it returns the key as
// policies have it.
func signBy(t *testing.T, to *oci.Registry, s signature.Subject) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sigstore.NewSigner(sigstore.SignerOptions{Key: k})
	if err != nil {
		t.Fatal(err)
	}
	e, err := signer.Sign(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.Attach(t.Context(), s, e); err != nil {
		t.Fatal(err)
	}
	return publicPEM(t, k)
}

func publicPEM(t *testing.T, k *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

// signedHost is a host on which images run, and nothing else happens.
type signedHost []signature.Subject

// Watch is agent.Engine.
func (h signedHost) Watch(ctx context.Context, see func(asset.Inventory)) error {
	i := asset.Inventory{Engine: asset.Engine{Name: "docker", Connected: true}, Complete: true}
	for n, s := range h {
		i.Workloads = append(i.Workloads, asset.Workload{
			ID: fmt.Sprintf("%064x", n+1), Name: fmt.Sprintf("web-%d", n), State: asset.Running,
			Image: asset.Image{Reference: s.Repository + ":1", ID: fmt.Sprintf("sha256:%064x", n+1), Digest: s.Digest},
		})
	}
	see(i)
	<-ctx.Done()
	return ctx.Err()
}

// Run is agent.Sensors.
func (signedHost) Run(ctx context.Context, _ func([]event.Event)) error {
	<-ctx.Done()
	return ctx.Err()
}
func (signedHost) Status() []asset.Sensor                              { return nil }
func (signedHost) Close() error                                        { return nil }
func (signedHost) Describe(context.Context) (asset.Host, []asset.Rung) { return asset.Host{}, nil }
func (signedHost) Processes(context.Context) ([]event.Running, error)  { return nil, nil }
func (signedHost) Usage() asset.Usage                                  { return asset.Usage{} }

// wholeFleet is a server, a registry, and the agent of one host with the real
// verifier.
type wholeFleet struct {
	*testing.T
	dir      string
	registry string // host and port
	to       *oci.Registry
	reads    atomic.Int64  // of lists of referrers
	refuse   atomic.Bool   // by the registry
	every    time.Duration // between two looks of the server for what is to be verified; 20 ms
	server   *server.Server
}

// readyFleet starts the registry; run starts the rest.
func readyFleet(t *testing.T) *wholeFleet {
	t.Helper()
	f := &wholeFleet{T: t}
	in := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0)), registry.WithReferrersSupport(true))
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			f.reads.Add(1)
			if f.refuse.Load() {
				w.WriteHeader(http.StatusForbidden)
				return
			}
		}
		in.ServeHTTP(w, r)
	}))
	t.Cleanup(r.Close)
	f.registry = strings.TrimPrefix(r.URL, "http://")
	var err error
	if f.dir, err = os.MkdirTemp("", "castellan-"); err != nil { // sockets have short paths
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(f.dir) })
	if f.to, err = oci.NewRegistry(oci.Options{}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.to.Close() })
	return f
}

// run starts server and agent; the images run on its host.
func (f *wholeFleet) run(host signedHost) {
	f.Helper()
	log := slog.New(slog.NewTextHandler(f.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	g, own := &globals{dataDir: filepath.Join(f.dir, "agent")}, &globals{dataDir: f.dir}
	v, err := g.openImageVerifier(log)
	if err != nil {
		f.Fatal(err)
	}
	doors, signatures, closeDoors, err := own.openRegistryDoors(serverOptions{registryScans: 1}, nil, log)
	if err != nil {
		f.Fatal(err)
	}
	st, err := db.Open(f.Context(), db.Options{Path: databasePath(f.dir)}, log)
	if err != nil {
		f.Fatal(err)
	}
	s, err := server.New(server.Config{
		DataDir: f.dir, Listen: "127.0.0.1:0", Version: "test", CheckTrust: checkTrust, TrustEvery: cmp.Or(f.every, 20*time.Millisecond),
		Registries: doors, RegistryScans: 1, Trust: signatures,
	}, st, log)
	if err != nil {
		f.Fatal(err)
	}
	f.server = s
	a := agent.New(agent.Config{ID: "AGENTONEAGENT", Version: "test", DataDir: g.dataDir},
		agent.Parts{Engine: host, Sensors: host, Host: host, Server: s.Intake(), Verifier: v}, log)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for who, run := range map[string]func(context.Context) error{"server": s.Run, "agent": a.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				f.Errorf("%s: %v", who, err)
			}
		})
	}
	f.Cleanup(func() {
		stop()
		wg.Wait()
		if err := errors.Join(v.program.Close(), closeDoors(), st.Close()); err != nil {
			f.Error(err)
		}
	})
	<-s.Ready()
}

// castellan runs a command to its end, with a policy at hand.
func (f *wholeFleet) castellan(policy string, args ...string) (string, error) {
	f.Helper()
	self, err := os.Executable()
	if err != nil {
		f.Fatal(err)
	}
	cmd := exec.CommandContext(f.Context(), self, args...)
	cmd.Args[0] = "castellan"
	cmd.Env, cmd.Stdin = append(os.Environ(), "CASTELLAN_DATA_DIR="+f.dir), strings.NewReader(policy)
	out, err := cmd.Output()
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		err = fmt.Errorf("%w: %s", err, e.Stderr)
	}
	return string(out), err
}

func (f *wholeFleet) set(policy string) {
	f.Helper()
	if out, err := f.castellan(policy, "trust", "policy", "set", "-"); err != nil {
		f.Fatalf("set the policy: %s, %v", out, err)
	}
}

// until waits until the states of images are these, by repository.
func (f *wholeFleet) until(want map[string]store.TrustState) []store.TrustImage {
	f.Helper()
	var last string
	for late := time.Now().Add(time.Minute); time.Now().Before(late); {
		out, err := f.castellan("", "trust", "images", "--all", "-o", "json")
		if err != nil {
			f.Fatal(err)
		}
		var page trustImagePage
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			f.Fatal(err)
		}
		last = out
		good := 0
		for _, v := range page.Images {
			if want[v.Repository] == v.State {
				good++
			}
		}
		if good == len(want) {
			return page.Images
		}
	}
	f.Fatalf("no %v after a minute; the last was %s", want, last)
	return nil
}

// keyedPolicy is a policy by which each of some keys must have signed.
func keyedPolicy(host string, keys ...string) string {
	var roots, signers strings.Builder
	var from []string
	for i, k := range keys {
		fmt.Fprintf(&roots, "    k%d:\n      pem: |\n        %s\n", i, strings.ReplaceAll(k, "\n", "\n        "))
		fmt.Fprintf(&signers, "  signer%d: {key: k%d}\n", i, i)
		from = append(from, fmt.Sprintf("signer%d", i))
	}
	return fmt.Sprintf("version: 1\nroots:\n  keys:\n%ssigners:\n%simages:\n  - {match: %s/**, require: [{signers: [%s]}]}\n",
		&roots, &signers, host, strings.Join(from, ", "))
}

// TestSignedAndUnsignedImagesOfAFleet goes the whole way: a registry, a server, an
// agent with its confined child, and the command line.
func TestSignedAndUnsignedImagesOfAFleet(t *testing.T) {
	f := readyFleet(t)
	host := f.registry
	signed, unsigned := pushedImage(t, host+"/shop/web", "a"), pushedImage(t, host+"/shop/pay", "b")
	key := signBy(t, f.to, signed)
	f.run(signedHost{signed, unsigned})
	f.set(keyedPolicy(host, key))
	for _, v := range f.until(map[string]store.TrustState{signed.Repository: store.TrustAllowed, unsigned.Repository: store.TrustDenied}) {
		switch {
		case v.Repository == unsigned.Repository && !strings.Contains(v.Reason, "there is no signature that counts by signer0"):
			t.Errorf("unsigned: got reason %q", v.Reason)
		case v.Repository == signed.Repository && (len(v.Signers) != 1 || v.Signers[0].Names[0] != "signer0"):
			t.Errorf("signed: got signers %+v", v.Signers)
		}
	}

	// Another one must have signed, too: that is known before it is so.
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	changed := keyedPolicy(host, key, publicPEM(t, other))
	out, err := f.castellan(changed, "trust", "policy", "try", "-")
	if err != nil || !strings.Contains(out, signed.Repository+"@"+signed.Digest+"\n    allowed, then denied: there is no signature that counts by signer1") ||
		strings.Contains(out, unsigned.Digest) {
		t.Errorf("tried: got %s, %v", out, err)
	}
	out, err = f.castellan(changed, "trust", "policy", "try", "-", "--image", signed.Repository+"@"+signed.Digest)
	if err != nil || !strings.Contains(out, "counts for signer0") || !strings.Contains(out, "no signature that counts by signer1") {
		t.Errorf("tried on one image: got %s, %v", out, err)
	}
	f.until(map[string]store.TrustState{signed.Repository: store.TrustAllowed})
	f.set(changed)
	f.until(map[string]store.TrustState{signed.Repository: store.TrustDenied, unsigned.Repository: store.TrustDenied})
	out, err = f.castellan(keyedPolicy(host, key), "trust", "policy", "try", "-")
	if err != nil || !strings.Contains(out, "denied, then allowed: all that rule") {
		t.Errorf("tried the former: got %s, %v", out, err)
	}
}

// TestImagesOfAWatchedRegistryAreVerified has the server verify what runs nowhere.
func TestImagesOfAWatchedRegistryAreVerified(t *testing.T) {
	f := readyFleet(t)
	signed, unsigned := pushedImage(t, f.registry+"/shop/web", "a"), pushedImage(t, f.registry+"/shop/pay", "b")
	running := pushedImage(t, f.registry+"/shop/run", "c")
	key := signBy(t, f.to, signed)
	f.run(signedHost{running})
	f.set(keyedPolicy(f.registry, key))
	if out, err := f.castellan("", "registries", "add", "local", "--host", f.registry, "--plain-http"); err != nil {
		t.Fatalf("add the registry: %s, %v", out, err)
	}
	all := f.until(map[string]store.TrustState{signed.Repository: store.TrustAllowed, unsigned.Repository: store.TrustDenied, running.Repository: store.TrustDenied})
	if len(all) != 3 {
		t.Errorf("got %d images, want 3: a signature is none", len(all))
	}
	for _, v := range all {
		watched := v.Repository != running.Repository
		if v.Watched != watched || (v.Agent == verify.Server) != watched || (v.Running > 0) == watched {
			t.Errorf("%s: verified by %s, watched %v, %d run", v.Repository, v.Agent, v.Watched, v.Running)
		}
	}
	out, err := f.castellan("", "trust", "images")
	if err != nil || strings.Contains(out, signed.Repository) || !strings.Contains(out, running.Repository) {
		t.Errorf("what runs: got %s, %v", out, err)
	}

	// What can't be found out any more is allowed no more, and a repository that
	// refuses is left alone.
	f.refuse.Store(true)
	f.set(keyedPolicy(f.registry, key) + "# changed\n")
	f.until(map[string]store.TrustState{
		signed.Repository: store.TrustUndecided, unsigned.Repository: store.TrustUndecided, running.Repository: store.TrustUndecided,
	})
	before := f.reads.Load()
	for range 5 { // turns of the server pass meanwhile
		if out, err := f.castellan("", "trust", "images", "--all"); err != nil || !strings.Contains(out, "undecided") {
			t.Errorf("got %s, %v", out, err)
		}
	}
	if after := f.reads.Load(); after != before {
		t.Errorf("it was asked %d times more, within its pause", after-before)
	}
}
