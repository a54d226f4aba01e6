package oci_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
)

var kind = oci.ArtifactKind{Type: "application/vnd.example.data.v1", MediaType: "application/vnd.example.data.v1+zstd"}

func artifact(content string) oci.Artifact {
	return oci.Artifact{ArtifactKind: kind, Digest: digest([]byte(content)), Size: int64(len(content)), Title: "data.zst", Created: "2026-11-28T09:00:00Z",
		Annotations: map[string]string{"vnd.example.generation": "7"},
		Open:        func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

// contentOf reads an artifact's file.
func contentOf(t *testing.T, a *oci.StoredArtifact) string {
	t.Helper()
	r, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantsToken refuses requests without a token, whose right to push must be asked
// for.
func wantsToken(h *hub) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		const pull, push = "repository:shop/data:pull", "repository:shop/data:push,pull"
		if r.URL.Path == "/token" {
			if u, p, _ := r.BasicAuth(); u != user || p != password {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			_, _ = fmt.Fprintf(w, `{"token":%q}`, r.URL.Query().Get("scope"))
			return true
		}
		needs := pull
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			needs = push
		}
		if got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); got == push || got == needs {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="registry",scope=%q`, h.host(), needs))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

func TestPushedArtifact(t *testing.T) {
	for _, tc := range []struct {
		name   string
		guard  func(*hub) func(http.ResponseWriter, *http.Request) bool
		user   string
		failed string
	}{
		{"without a user", func(*hub) func(http.ResponseWriter, *http.Request) bool { return nil }, "", ""},
		{"with a password", func(*hub) func(http.ResponseWriter, *http.Request) bool { return wantsBasic }, user, ""},
		{"with a token", wantsToken, user, ""},
		{"with nobody's password", func(*hub) func(http.ResponseWriter, *http.Request) bool { return wantsBasic }, "", "401"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			anonymous(t)
			h := newHub(t)
			h.before = tc.guard(h)
			if tc.user != "" {
				t.Setenv(oci.EnvHost, h.host())
				t.Setenv(oci.EnvUser, tc.user)
				t.Setenv(oci.EnvPassword, password)
			}
			r, _ := door(t, oci.Options{})
			content := strings.Repeat("advisories ", 100_000)
			a := artifact(content)
			pushed, err := r.PushArtifact(t.Context(), h.host()+"/shop/data:1", a)
			if tc.failed != "" {
				checkError(t, err, tc.failed)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range []string{h.host() + "/shop/data:1", h.host() + "/shop/data@" + pushed} {
				got, err := r.OpenArtifact(t.Context(), ref, kind)
				if err != nil {
					t.Fatal(err)
				}
				if got.Manifest != pushed || got.Digest != a.Digest || got.Size != a.Size || contentOf(t, got) != content {
					t.Errorf("%s: manifest %s of a file %s of %d bytes, want %s, %s, %d and the content", ref, got.Manifest, got.Digest, got.Size, pushed, a.Digest, a.Size)
				}
				want := map[string]string{"vnd.example.generation": "7", "org.opencontainers.image.created": a.Created, "org.opencontainers.image.title": "data.zst"}
				if diff := cmp.Diff(got.Annotations, want); diff != "" {
					t.Errorf("annotations, got, want: %s", diff)
				}
				if err := got.Close(); err != nil {
					t.Error(err)
				}
			}
			// The same again: nothing but the manifest is sent, which is the same.
			sent := h.count("PUT", "/blobs/")
			again, err := r.PushArtifact(t.Context(), h.host()+"/shop/data:2", a)
			if err != nil || again != pushed || h.count("PUT", "/blobs/") != sent {
				t.Errorf("pushed again as %s, %v, with %d blobs, want %s and none", again, err, h.count("PUT", "/blobs/")-sent, pushed)
			}
		})
	}
}

// A push that breaks off is tried again from the beginning of the file.
func TestPushIsTriedAgain(t *testing.T) {
	anonymous(t)
	h := newHub(t)
	broken := 0
	h.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") && broken < 2 {
			broken++
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	}
	r, _ := door(t, oci.Options{})
	if _, err := r.PushArtifact(t.Context(), h.host()+"/shop/data:1", artifact("advisories")); err != nil || broken != 2 {
		t.Fatalf("PushArtifact() = %v after %d refusals", err, broken)
	}
	a, err := r.OpenArtifact(t.Context(), h.host()+"/shop/data:1", kind)
	if err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, a); got != "advisories" {
		t.Errorf("content %q", got)
	}
}

// A registry cannot have a blob sent to an address inside.
func TestPushIsNotSentElsewhere(t *testing.T) {
	anonymous(t)
	h := newHub(t)
	h.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "http://169.254.169.254/latest")
			w.WriteHeader(http.StatusAccepted)
			return true
		}
		return false
	}
	r, _ := door(t, oci.Options{PlainHTTP: true})
	_, err := r.WithDial(h.host()).PushArtifact(t.Context(), "registry.example/shop/data:1", artifact("x"))
	checkError(t, err, "which is inside")
}

func TestArtifactInLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	file := filepath.Join(t.TempDir(), "layout.tar")
	again := filepath.Join(t.TempDir(), "again.tar")
	for _, w := range []struct{ path, tag, content string }{
		{dir, "old", "one"}, {dir, "new", "two"}, {dir, "new", "three"}, {file, "new", "three"}, {again, "new", "three"},
	} {
		if _, err := oci.WriteArtifact(t.Context(), w.path, w.tag, artifact(w.content)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ path, tag, want string }{
		{dir, "old", "one"}, {dir, "new", "three"}, {file, "new", "three"}, {file, "", "three"},
	} {
		a, err := oci.OpenPathArtifact(t.Context(), tc.path, tc.tag, kind)
		if err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, a); got != tc.want || a.Annotations["org.opencontainers.image.title"] != "data.zst" {
			t.Errorf("%s:%s has %q, want %q; %v", filepath.Base(tc.path), tc.tag, got, tc.want, a.Annotations)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	one, _ := os.ReadFile(file)
	two, err := os.ReadFile(again)
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("the same artifact makes archives that differ: %v", err)
	}
	_, err = oci.OpenPathArtifact(t.Context(), dir, "", kind)
	checkError(t, err, "2 artifacts", `"old" "new"`)
	_, err = oci.OpenPathArtifact(t.Context(), dir, "none", kind)
	checkError(t, err, "0 artifacts")
	other := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.Mkdir(other, 0o755), os.WriteFile(filepath.Join(other, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = oci.WriteArtifact(t.Context(), other, "x", artifact("x"))
	checkError(t, err, "no OCI image layout")
}

// Manifests that say what cannot be, or are of something else.
func TestArtifactsThatAreNone(t *testing.T) {
	file := object{"mediaType": kind.MediaType, "digest": digest([]byte("x")), "size": 1}
	good := object{"schemaVersion": 2, "mediaType": ociManifest, "artifactType": kind.Type,
		"config": object{"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest([]byte("{}")), "size": 2}, "layers": []object{file}}
	for _, tc := range []struct {
		name     string
		manifest object
		kind     fault.Kind
		err      string
	}{
		{"an image", with(good, object{"artifactType": nil, "layers": []object{with(file, object{"mediaType": "application/vnd.oci.image.layer.v1.tar"})}}), fault.Unsupported, "no artifact of type"},
		{"another artifact", with(good, object{"artifactType": "application/vnd.example.chart"}), fault.Unsupported, "vnd.example.chart"},
		{"two files", with(good, object{"layers": []object{file, file}}), fault.Invalid, "2 files"},
		{"too large", with(good, object{"layers": []object{with(file, object{"size": int64(5 << 30)})}}), fault.Invalid, "5368709120 bytes"},
		{"nothing", with(good, object{"layers": []object{with(file, object{"size": 0})}}), fault.Invalid, "0 bytes"},
		{"a digest that is a path", with(good, object{"layers": []object{with(file, object{"digest": "sha256:../../etc/passwd"})}}), fault.Invalid, "hex digits"},
		{"an index", object{"schemaVersion": 2, "mediaType": ociManifest, "manifests": []object{}, "layers": nil, "config": nil}, fault.Unsupported, "index"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := blobs{}
			d := s.addJSON(ociManifest, tc.manifest)
			_, err := oci.OpenPathArtifact(t.Context(), writeFolder(t, s.files(named(d, "1"))), "1", kind)
			checkError(t, err, tc.err)
			if fault.Of(err) != tc.kind {
				t.Errorf("kind %v, want %v", fault.Of(err), tc.kind)
			}
		})
	}
	s := blobs{digest([]byte("x")): []byte("xx")}
	path := writeFolder(t, s.files(named(s.addJSON(ociManifest, good), "1")))
	a, err := oci.OpenPathArtifact(t.Context(), path, "1", kind)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Open(t.Context())
	checkError(t, err, "2 bytes, and 1 were announced")
}

// What is written is what other tools read: an index of the specification, with
// the type of the artifact.
func TestLayoutOfArtifactIsStandard(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	d, err := oci.WriteArtifact(t.Context(), dir, "1", artifact("x"))
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, v any) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err := errors.Join(err, json.Unmarshal(b, v)); err != nil {
			t.Fatal(err)
		}
	}
	var index struct {
		SchemaVersion int
		Manifests     []struct{ MediaType, Digest, ArtifactType string }
	}
	read("index.json", &index)
	if len(index.Manifests) != 1 || index.SchemaVersion != 2 || index.Manifests[0].Digest != d || index.Manifests[0].ArtifactType != kind.Type {
		t.Errorf("index %+v", index)
	}
	var manifest struct {
		ArtifactType string
		Config       struct {
			MediaType, Digest string
			Size              int
			Data              []byte
		}
		Layers []struct{ MediaType, Digest string }
	}
	read("blobs/sha256/"+strings.TrimPrefix(d, "sha256:"), &manifest)
	if c := manifest.Config; manifest.ArtifactType != kind.Type || c.MediaType != "application/vnd.oci.empty.v1+json" || c.Digest != digest([]byte("{}")) || string(c.Data) != "{}" || len(manifest.Layers) != 1 {
		t.Errorf("manifest %+v", manifest)
	}
}
