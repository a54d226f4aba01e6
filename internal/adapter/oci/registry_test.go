package oci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// hub is a registry on this machine that a test can have misbehave.
type hub struct {
	*httptest.Server
	store http.Handler

	mu    sync.Mutex
	asked []string // method, path and range of requests, in order
	// before answers in the registry's stead when it returns true.
	before func(w http.ResponseWriter, r *http.Request) bool
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := unstarted(t)
	h.Start()
	return h
}

func unstarted(t *testing.T) *hub {
	t.Helper()
	h := &hub{store: registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))}
	h.prepare(t)
	return h
}

// prepare gives a registry a server that can be started.
func (h *hub) prepare(t testing.TB) {
	h.Server = httptest.NewUnstartedServer(h)
	h.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that go away
	t.Cleanup(h.Close)
}

// ServeHTTP answers as a registry does, unless the test answers.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked = append(h.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
	before := h.before
	h.mu.Unlock()
	if before == nil || !before(w, r) {
		h.store.ServeHTTP(w, r)
	}
}

// count returns how many requests had all these words.
func (h *hub) count(words ...string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, a := range h.asked {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(a, w) }) {
			n++
		}
	}
	return n
}

func (h *hub) host() string { return h.Listener.Addr().String() }

// push puts blobs and, under a tag, a manifest or an index into the registry.
func (h *hub) push(t *testing.T, s blobs, repo, tag string, d object) string {
	t.Helper()
	put := func(method, path, mediaType string, b []byte) {
		r := httptest.NewRequest(method, path, bytes.NewReader(b))
		r.Header.Set("Content-Type", mediaType)
		w := httptest.NewRecorder()
		h.store.ServeHTTP(w, r)
		if w.Code != http.StatusCreated {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	var documents []string
	for digest, b := range s {
		if bytes.HasPrefix(b, []byte(`{`)) && bytes.Contains(b, []byte(`"schemaVersion"`)) {
			documents = append(documents, digest)
			continue
		}
		put(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest, "application/octet-stream", b)
	}
	// Indexes come after what they name.
	slices.SortStableFunc(documents, func(a, b string) int {
		return strings.Count(string(s[a]), `"manifests"`) - strings.Count(string(s[b]), `"manifests"`)
	})
	for _, digest := range documents {
		put(http.MethodPut, "/v2/"+repo+"/manifests/"+digest, typeOf(s[digest]), s[digest])
	}
	key := d["digest"].(string)
	put(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, typeOf(s[key]), s[key])
	return h.host() + "/" + repo + ":" + tag
}

// typeOf is a document's own media type.
func typeOf(b []byte) string {
	var said struct{ MediaType string }
	must(json.Unmarshal(b, &said))
	return said.MediaType
}

// anonymous keeps the credentials of whoever runs the test out of it.
func anonymous(t *testing.T) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(t.TempDir(), "none"))
	for _, name := range []string{oci.EnvHost, oci.EnvUser, oci.EnvPassword, oci.EnvMirrors} {
		t.Setenv(name, "")
	}
}

// pauses are those that a registry made us wait.
type pauses struct {
	mu  sync.Mutex
	all []time.Duration
}

func (p *pauses) sleep(_ context.Context, d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, d)
	return nil
}

func door(t testing.TB, o oci.Options) (*oci.Registry, *pauses) {
	t.Helper()
	r, err := oci.NewRegistry(o, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	p := &pauses{}
	return r.WithSleep(p.sleep), p
}

func TestRegistry(t *testing.T) {
	anonymous(t)
	h := newHub(t)
	s := blobs{}
	layers := threeLayers(runtime.GOARCH)
	single := s.image(runtime.GOARCH, layers)
	both := s.twoPlatforms()
	one := h.push(t, s, "shop/web", "1", single)
	two := h.push(t, s, "shop/web", "2", both)
	// A signature refers to the image; scanning does not mind.
	signed := s.addJSON(ociManifest, object{"schemaVersion": 2, "mediaType": ociManifest, "artifactType": "application/vnd.example.signature",
		"config": s.add("application/vnd.oci.empty.v1+json", []byte("{}")), "layers": []object{}, "subject": both})
	h.push(t, s, "shop/web", "signature", signed)

	docker := s.addJSON(dockerSchema, object{"schemaVersion": 2, "mediaType": dockerSchema, "config": s.addJSON(dockerConfig, config(runtime.GOARCH, layers)),
		"layers": []object{s.add(dockerLayer+".gzip", layers[0].stored), s.add(dockerLayer+".zstd", layers[1].stored), s.add(dockerLayer, layers[2].stored)}})
	schema2 := h.push(t, s, "shop/web", "docker", docker)

	asDocker := []layer{{dockerLayer + ".gzip", layers[0].tar, layers[0].stored}, {dockerLayer + ".zstd", layers[1].tar, layers[1].stored}, {dockerLayer, layers[2].tar, layers[2].stored}}
	digestOf := func(d object) string { return d["digest"].(string) }
	for _, tc := range []struct {
		name, reference, digest string
		choice                  oci.Choice
		arch, variant           string
		layers                  []layer
	}{
		{"tag", one, digestOf(single), oci.Choice{}, runtime.GOARCH, "", layers},
		{"digest", h.host() + "/shop/web@" + digestOf(single), digestOf(single), oci.Choice{}, runtime.GOARCH, "", layers},
		{"tag and digest", one + "@" + digestOf(single), digestOf(single), oci.Choice{}, runtime.GOARCH, "", layers},
		{"docker's manifest", schema2, digestOf(docker), oci.Choice{}, runtime.GOARCH, "", asDocker},
		{"index, platform asked for", two, "", oci.Choice{Platform: inventory.Platform{OS: "linux", Architecture: "arm64"}}, "arm64", "v8", threeLayers("arm64")},
		{"index by digest", h.host() + "/shop/web@" + digestOf(both), "", oci.Choice{Platform: inventory.Platform{Architecture: "amd64"}}, "amd64", "", threeLayers("amd64")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, _ := door(t, oci.Options{})
			i, err := r.Open(t.Context(), tc.reference, tc.choice)
			if err != nil {
				t.Fatal(err)
			}
			checkLayers(t, i, tc.layers)
			want := described(tc.arch, tc.layers)
			want.Reference, want.Platform.Variant = tc.reference, tc.variant
			ignored := cmpopts.IgnoreFields(inventory.Image{}, "ID", "Digest")
			if diff := cmp.Diff(want, i.Image(), ignored); diff != "" {
				t.Errorf("Image() (-want +got):\n%s", diff)
			}
			if tc.digest != "" && i.Image().Digest != tc.digest {
				t.Errorf("digest = %s, want %s", i.Image().Digest, tc.digest)
			}
		})
	}
	t.Run("all platforms", func(t *testing.T) {
		r, _ := door(t, oci.Options{})
		all, err := r.OpenAll(t.Context(), two, oci.Choice{})
		if err != nil || len(all) != 2 {
			t.Fatalf("OpenAll() = %d images, %v, want 2", len(all), err)
		}
		for _, i := range all {
			checkLayers(t, i, threeLayers(i.Image().Platform.Architecture))
		}
	})
	t.Run("signature", func(t *testing.T) {
		r, _ := door(t, oci.Options{})
		_, err := r.Open(t.Context(), h.host()+"/shop/web:signature", oci.Choice{})
		checkError(t, err, "artifact of type")
	})
	t.Run("schema 1", func(t *testing.T) {
		h.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/manifests/old") {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
			_, _ = w.Write([]byte(`{"schemaVersion":1,"name":"shop/web","fsLayers":[]}`))
			return true
		})
		defer h.answer(nil)
		r, _ := door(t, oci.Options{})
		_, err := r.Open(t.Context(), h.host()+"/shop/web:old", oci.Choice{})
		checkError(t, err, "schema 1")
	})
}

// answer has the registry answer by f.
func (h *hub) answer(f func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = f
}

// A tag is asked for once, however many layers are read.
func TestTagIsResolvedOnce(t *testing.T) {
	anonymous(t)
	h := newHub(t)
	s := blobs{}
	layers := threeLayers("")
	ref := h.push(t, s, "web", "1", s.image("amd64", layers))
	r, _ := door(t, oci.Options{})
	i, err := r.Open(t.Context(), ref, oci.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	other := blobs{}
	h.push(t, other, "web", "1", other.image("amd64", []layer{plainLayer("a", "moved on")}))
	checkLayers(t, i, layers)
	if n := h.count("manifests/1"); n != 1 {
		t.Errorf("the tag was asked for %d times, want once", n)
	}
}

func TestReferences(t *testing.T) {
	anonymous(t)
	r, _ := door(t, oci.Options{})
	for _, tc := range []struct{ name, reference, words string }{
		{"empty", "", "empty"},
		{"address", "https://registry.example/web", "https://"},
		{"upper case", "Web:1", "lower case"},
		{"short digest", "web@sha256:abc", "hex digits"},
		{"another algorithm", "web@md5:abc", "sha256"},
		{"blank", "web server", "web server"},
		{"options", "--help", "--help"},
		{"control characters", "a\x1b[2Jb", "image reference"},
		{"endless", strings.Repeat("a", 1<<20), "image reference"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := r.Open(t.Context(), tc.reference, oci.Choice{})
			checkError(t, err, tc.words)
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%q is of kind %v, want invalid", err, fault.Of(err))
			}
		})
	}
}

// What a registry can do wrong while it is asked for manifests.
func TestRegistryThatMisbehaves(t *testing.T) {
	anonymous(t)
	at := func(part string, f http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			f(w, r)
			return true
		}
	}
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, tc := range []struct {
		name   string
		before func(http.ResponseWriter, *http.Request) bool
		kind   fault.Kind
		words  []string
		tries  int // of what is asked for
	}{
		{"not found", at("/manifests/", status(404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)), fault.NotFound, []string{"404", "MANIFEST_UNKNOWN"}, 1},
		{"denied", at("/manifests/", status(403, `{"errors":[{"code":"DENIED","message":"requested access is denied"}]}`)), fault.Denied, []string{"403", "DENIED", "asked as nobody"}, 1},
		{"unauthenticated", at("/manifests/", status(401, "")), fault.Unauthenticated, []string{"401"}, 1},
		{"broken", at("/manifests/", status(500, "<html>oops</html>")), fault.Unavailable, []string{"500"}, oci.MaxAttempts},
		{"away", at("/manifests/", status(503, "")), fault.Unavailable, []string{"503"}, oci.MaxAttempts},
		{"endless error", at("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			_, _ = io.CopyN(w, zeros{}, 8<<20)
		}), fault.Denied, []string{"403"}, 1},
		{"endless manifest", at("/manifests/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, 64<<20) }), fault.Invalid, []string{"at most"}, 1},
		{"another manifest", at("/manifests/sha256:", status(200, "{}")), fault.Corrupt, []string{"were announced"}, 1},
		{"another configuration", at("/blobs/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }), fault.Corrupt, []string{"2 bytes, and"}, 1},
		{"redirects in circles", at("/manifests/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }), fault.Unavailable, []string{"elsewhere"}, 0},
		{"cut off", at("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "{")
		}), fault.Unavailable, []string{"manifest"}, 0},
		{"not a registry", at("/v2/", status(404, "<html>")), fault.NotFound, []string{"404"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t)
			s := blobs{}
			ref := h.push(t, s, "web", "1", s.index(forPlatform(s.image("amd64", nil), "linux", "amd64", "")))
			h.answer(tc.before)
			r, _ := door(t, oci.Options{})
			_, err := r.Open(t.Context(), ref, oci.Choice{Platform: inventory.Platform{Architecture: "amd64"}})
			checkError(t, err, tc.words...)
			if got := fault.Of(err); got != tc.kind {
				t.Errorf("%q is of kind %v, want %v", err, got, tc.kind)
			}
			if got := h.count("/manifests/1"); tc.tries > 0 && got != tc.tries {
				t.Errorf("asked %d times, want %d", got, tc.tries)
			}
		})
	}
}

// Requests in the clear stay on this machine, wherever a registry sends us.
func TestPlainHTTP(t *testing.T) {
	anonymous(t)
	plain := newHub(t)
	s := blobs{}
	layers := threeLayers("")
	ref := plain.push(t, s, "web", "1", s.image("amd64", layers))
	secure := unstarted(t)
	secure.StartTLS()
	secure.push(t, s, "web", "1", s.image("amd64", layers))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}

	t.Run("on this machine", func(t *testing.T) {
		r, _ := door(t, oci.Options{})
		if _, err := r.Open(t.Context(), ref, oci.Choice{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("elsewhere", func(t *testing.T) {
		for _, reference := range []string{"registry.example:5000/web:1", "10.1.2.3:5000/web:1", "192.168.1.1/web:1"} {
			r, _ := door(t, oci.Options{})
			r.WithDial(plain.host())
			_, err := r.Open(t.Context(), reference, oci.Choice{})
			checkError(t, err, "open image "+reference)
		}
		if n := plain.count("/v2/"); n > 3 {
			t.Errorf("asked in the clear: %q", plain.asked)
		}
	})
	t.Run("elsewhere when told", func(t *testing.T) {
		r, _ := door(t, oci.Options{PlainHTTP: true})
		r.WithDial(plain.host())
		if _, err := r.Open(t.Context(), "registry.example:5000/web:1", oci.Choice{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("with a certificate nobody knows", func(t *testing.T) {
		r, _ := door(t, oci.Options{})
		r.WithDial(secure.host())
		_, err := r.Open(t.Context(), "example.com/web:1", oci.Choice{})
		checkError(t, err, "certificate")
	})
	t.Run("with a certificate of the file", func(t *testing.T) {
		r, _ := door(t, oci.Options{CAFile: ca})
		r.WithDial(secure.host())
		i, err := r.Open(t.Context(), "example.com/web:1", oci.Choice{})
		if err != nil {
			t.Fatal(err)
		}
		checkLayers(t, i, layers)
	})
	t.Run("sent into the clear", func(t *testing.T) {
		secure.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/blobs/") {
				http.Redirect(w, r, "http://"+plain.host()+r.URL.Path, http.StatusTemporaryRedirect)
				return true
			}
			return false
		})
		defer secure.answer(nil)
		r, _ := door(t, oci.Options{CAFile: ca})
		r.WithDial(secure.host())
		_, err := r.Open(t.Context(), "example.com/web:1", oci.Choice{})
		checkError(t, err, "which is inside")
	})
}

// A file of authorities must be one.
func TestAuthorities(t *testing.T) {
	for name, path := range map[string]string{"missing": filepath.Join(t.TempDir(), "none"), "no certificate": writeFile(t, []byte("hello"))} {
		t.Run(name, func(t *testing.T) {
			_, err := oci.NewRegistry(oci.Options{CAFile: path}, slog.New(slog.DiscardHandler))
			checkError(t, err, "certificate authorities")
		})
	}
}

// Mirrors are asked first, and the registry when they don't have it.
func TestMirrors(t *testing.T) {
	anonymous(t)
	mirror, origin := newHub(t), newHub(t)
	s := blobs{}
	layers := threeLayers("")
	d := s.image("amd64", layers)
	origin.push(t, s, "shop/web", "1", d)
	origin.push(t, s, "shop/web", "2", d)
	mirror.push(t, s, "hub/shop/web", "1", d)
	t.Setenv(oci.EnvMirrors, " "+origin.host()+" = "+mirror.host()+"/hub ,")
	for _, tc := range []struct {
		name, tag        string
		fromMirror, from bool
	}{
		{"it has it", "1", true, false},
		{"it has it not", "2", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, _ := door(t, oci.Options{})
			blobs, rest := mirror.count("GET", "blobs"), origin.count("GET", "blobs")
			i, err := r.Open(t.Context(), origin.host()+"/shop/web:"+tc.tag, oci.Choice{})
			if err != nil {
				t.Fatal(err)
			}
			checkLayers(t, i, layers)
			if got := i.Image().Reference; got != origin.host()+"/shop/web:"+tc.tag {
				t.Errorf("reference = %s, want what was asked for", got)
			}
			if (mirror.count("GET", "blobs") > blobs) != tc.fromMirror || (origin.count("GET", "blobs") > rest) != tc.from {
				t.Errorf("mirror asked %q, registry asked %q", mirror.asked, origin.asked)
			}
		})
	}
	t.Run("neither has it", func(t *testing.T) {
		r, _ := door(t, oci.Options{})
		_, err := r.Open(t.Context(), origin.host()+"/shop/web:3", oci.Choice{})
		checkError(t, err, "404", "and its mirror")
	})
	t.Run("malformed", func(t *testing.T) {
		t.Setenv(oci.EnvMirrors, "mirror.example")
		_, err := oci.NewRegistry(oci.Options{}, slog.New(slog.DiscardHandler))
		checkError(t, err, oci.EnvMirrors)
	})
}
