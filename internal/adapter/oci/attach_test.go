package oci_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

const (
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	simpleType = "application/vnd.dev.cosign.simplesigning.v1+json"
	dsseType   = "application/vnd.dsse.envelope.v1+json"
	notaryType = "application/vnd.cncf.notary.signature"
	emptyType  = "application/vnd.oci.empty.v1+json"
)

// envelopes are one of each kind, as they are attached.
func envelopes() []signature.Envelope {
	return []signature.Envelope{
		{MediaType: bundleType, Payload: []byte(`{"mediaType":"` + bundleType + `"}`), Annotations: map[string]string{"dev.sigstore.bundle.content": "dsse-envelope"}},
		{MediaType: "application/vnd.dev.sigstore.bundle+json;version=0.2", Payload: []byte(`{"old":1}`), Annotations: map[string]string{}},
		{MediaType: "application/jose+json", Payload: []byte(`{"payload":""}`), Annotations: map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": "[]"}},
		{MediaType: "application/cose", Payload: bytes.Repeat([]byte{0xd2}, 40<<10), Annotations: map[string]string{}}, // too large to be carried along
		{MediaType: simpleType, Payload: []byte(`{"critical":{}}`), Annotations: map[string]string{"dev.cosignproject.cosign/signature": "MEUC"}, Way: signature.ByCosignTag},
		{MediaType: simpleType, Payload: []byte(`{"critical":{}}`), Annotations: map[string]string{"dev.cosignproject.cosign/signature": "MEUD"}, Way: signature.ByCosignTag},
		{MediaType: dsseType, Payload: []byte(`{"payloadType":"application/vnd.in-toto+json"}`), Annotations: map[string]string{"predicateType": "https://slsa.dev/provenance/v1"}, Way: signature.ByCosignTag},
	}
}

// want is how an envelope is found that was attached.
func want(e signature.Envelope, digest string, listed signature.Way) signature.Envelope {
	e.Digest = digest
	if e.Way == "" {
		e.Way = listed
	}
	switch {
	case e.Way == signature.ByCosignTag:
		e.ArtifactType = ociConfig
	case e.MediaType == "application/jose+json" || e.MediaType == "application/cose":
		e.ArtifactType = notaryType
	default:
		e.ArtifactType = e.MediaType
	}
	return e
}

// inAnyOrder compares envelopes whatever their order.
var inAnyOrder = cmpopts.SortSlices(func(a, b signature.Envelope) bool {
	return a.MediaType+string(a.Payload)+a.Annotations["dev.cosignproject.cosign/signature"] < b.MediaType+string(b.Payload)+b.Annotations["dev.cosignproject.cosign/signature"]
})

// without has a registry know no lists of referrers, and answer with status.
func without(status int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.WriteHeader(status)
		return true
	}
}

// place is somewhere where images are kept and envelopes attached.
type place struct {
	subject signature.Subject
	attach  func(signature.Envelope) (string, error)
	find    func() ([]signature.Envelope, error)
}

func inRegistry(t *testing.T, h *hub) place {
	t.Helper()
	anonymous(t)
	r, _ := door(t, oci.Options{})
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	subject, err := r.Resolve(t.Context(), h.push(t, s, "shop/web", "1", image))
	if err != nil {
		t.Fatal(err)
	}
	want := signature.Subject{Repository: h.host() + "/shop/web", Digest: image["digest"].(string), MediaType: ociManifest, Size: int64(image["size"].(int))}
	if diff := cmp.Diff(subject, want); diff != "" {
		t.Fatalf("Resolve, got, want:\n%s", diff)
	}
	return place{subject,
		func(e signature.Envelope) (string, error) { return r.Attach(t.Context(), subject, e) },
		func() ([]signature.Envelope, error) {
			// Whoever verifies knows nothing of whoever signed, and may have the digest alone.
			other, _ := door(t, oci.Options{})
			return other.Envelopes(t.Context(), signature.Subject{Repository: subject.Repository, Digest: subject.Digest})
		}}
}

func inFolder(t *testing.T) place {
	t.Helper()
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	dir := writeFolder(t, s.files(named(image, "1"), named(s.image("arm64", threeLayers("b")), "2")))
	subject, err := oci.ResolvePath(t.Context(), dir, "1")
	if err != nil {
		t.Fatal(err)
	}
	if subject.Digest != image["digest"] || subject.MediaType != ociManifest || subject.Size != int64(image["size"].(int)) {
		t.Fatalf("ResolvePath = %+v, want %v", subject, image)
	}
	return place{subject,
		func(e signature.Envelope) (string, error) { return oci.AttachPath(t.Context(), dir, subject, e) },
		func() ([]signature.Envelope, error) { return oci.PathEnvelopes(t.Context(), dir, subject) }}
}

func TestWhatIsAttachedIsFound(t *testing.T) {
	for _, tc := range []struct {
		name   string
		place  func(*testing.T) place
		listed signature.Way
	}{
		{"a registry that lists referrers", func(t *testing.T) place { return inRegistry(t, newHub(t)) }, signature.ByReferrer},
		{"a registry that lists none (404)", func(t *testing.T) place { return inRegistry(t, hubThat(t, without(404))) }, signature.ByReferrersTag},
		{"a registry that refuses the list (405)", func(t *testing.T) place { return inRegistry(t, hubThat(t, without(405))) }, signature.ByReferrersTag},
		{"a registry with a page instead of the list", func(t *testing.T) place { return inRegistry(t, hubThat(t, without(200))) }, signature.ByReferrersTag},
		{"a folder", inFolder, signature.ByReferrer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := tc.place(t)
			if got, err := p.find(); err != nil || len(got) != 0 {
				t.Fatalf("before anything is attached: %v, %v", got, err)
			}
			var all []signature.Envelope
			for _, e := range envelopes() {
				digest, err := p.attach(e)
				if err != nil {
					t.Fatalf("attach %s: %v", e.MediaType, err)
				}
				again, err := p.attach(e)
				if err != nil || again != digest {
					t.Fatalf("attached again: %s, %v, want %s", again, err, digest)
				}
				all = append(all, want(e, digest, tc.listed))
			}
			// Both of cosign's signatures are in the manifest that was written last.
			all[4].Digest = all[5].Digest
			got, err := p.find()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, all, inAnyOrder); diff != "" {
				t.Errorf("got, want:\n%s", diff)
			}
		})
	}
}

// hubThat is a registry that misbehaves from its start on.
func hubThat(t *testing.T, before func(http.ResponseWriter, *http.Request) bool) *hub {
	t.Helper()
	h := newHub(t)
	h.before = before
	return h
}

// The forms are those that cosign and notation write.
func TestFormOfWhatIsAttached(t *testing.T) {
	h := newHub(t)
	p := inRegistry(t, h)
	for _, tc := range []struct {
		e    signature.Envelope
		want object
	}{
		{envelopes()[0], object{"artifactType": bundleType, "config": emptyType}},
		{envelopes()[2], object{"artifactType": nil, "config": notaryType}},
	} {
		digest, err := p.attach(tc.e)
		if err != nil {
			t.Fatal(err)
		}
		var m object
		get(t, h, "/v2/shop/web/manifests/"+digest, &m)
		config := m["config"].(object)
		if m["artifactType"] != tc.want["artifactType"] || config["mediaType"] != tc.want["config"] || config["size"] != 2.0 {
			t.Errorf("manifest %v, want %v", m, tc.want)
		}
		subject := object{"mediaType": ociManifest, "digest": p.subject.Digest, "size": float64(p.subject.Size)}
		if diff := cmp.Diff(m["subject"], any(subject)); diff != "" {
			t.Errorf("subject, got, want:\n%s", diff)
		}
	}
}

func get(t *testing.T, h *hub, path string, v any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.store.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d", path, w.Code)
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Fatal(err)
	}
}

// Older cosign reads its signatures as an image: its layers have their places in
// the configuration.
func TestCosignTagIsAnImage(t *testing.T) {
	h := newHub(t)
	p := inRegistry(t, h)
	for _, e := range envelopes()[4:6] {
		if _, err := p.attach(e); err != nil {
			t.Fatal(err)
		}
	}
	var m struct {
		Config struct{ Digest, MediaType string }
		Layers []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	tag := strings.Replace(p.subject.Digest, ":", "-", 1) + ".sig"
	get(t, h, "/v2/shop/web/manifests/"+tag, &m)
	var c struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	get(t, h, "/v2/shop/web/blobs/"+m.Config.Digest, &c)
	if len(m.Layers) != 2 || len(c.RootFS.DiffIDs) != 2 || c.RootFS.DiffIDs[1] != m.Layers[1].Digest || m.Config.MediaType != ociConfig {
		t.Errorf("manifest %+v with configuration %+v", m, c)
	}
}

// A registry that says in its answer that it lists the manifest is believed, and
// not asked again.
func TestRegistryThatSaysThatItLists(t *testing.T) {
	h := newHub(t)
	p := inRegistry(t, h)
	h.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("OCI-Subject", p.subject.Digest)
		}
		return false
	}
	if _, err := p.attach(envelopes()[0]); err != nil {
		t.Fatal(err)
	}
	if n := h.count("GET", "/referrers/"); n != 0 {
		t.Errorf("the list was asked for %d times", n)
	}
	h.before = without(404)
	if _, err := p.attach(envelopes()[2]); err != nil {
		t.Fatal(err)
	}
	if n := h.count("PUT", "/manifests/sha256-"); n != 1 {
		t.Errorf("the tag was written %d times, want once", n)
	}
}

func TestAttachRefused(t *testing.T) {
	refuse := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
				return without(404)(w, r)
			}
			if status == 409 && !strings.Contains(r.URL.Path, "/manifests/sha256-") {
				return false
			}
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`, code)
			return true
		}
	}
	for _, tc := range []struct {
		name   string
		before func(http.ResponseWriter, *http.Request) bool
		e      signature.Envelope
		kind   fault.Kind
		words  []string
	}{
		{"a manifest with a subject (ECR's 405)", refuse(405, "UNSUPPORTED"), envelopes()[0], fault.Unsupported, []string{"refuses a manifest", "405"}},
		{"invalid manifest", refuse(400, "MANIFEST_INVALID"), envelopes()[2], fault.Unsupported, []string{"MANIFEST_INVALID"}},
		{"immutable tag", refuse(409, "TAG_IMMUTABLE"), envelopes()[0], fault.Denied, []string{"write tag sha256-"}},
		{"no right to push", refuse(403, "DENIED"), envelopes()[0], fault.Denied, []string{"403"}},
		{"no signature", nil, signature.Envelope{MediaType: "text/plain", Payload: []byte("x")}, fault.Unsupported, []string{"text/plain"}},
		{"an empty one", nil, signature.Envelope{MediaType: bundleType}, fault.Invalid, []string{"0 bytes"}},
		{"a bundle for older cosign", nil, signature.Envelope{MediaType: bundleType, Payload: []byte("x"), Way: signature.ByCosignTag}, fault.Unsupported, []string{"older cosign"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t)
			p := inRegistry(t, h)
			h.before = tc.before
			_, err := p.attach(tc.e)
			checkError(t, err, tc.words...)
			if fault.Of(err) != tc.kind {
				t.Errorf("kind %v, want %v: %v", fault.Of(err), tc.kind, err)
			}
		})
	}
}

// A registry that takes the tag of a list for the digest of the image has none,
// and its image is not overwritten.
func TestTagTakenForDigest(t *testing.T) {
	h := newHub(t)
	p := inRegistry(t, h)
	h.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/sha256-") && !strings.Contains(r.URL.Path, ".") {
			r.URL.Path = strings.Replace(r.URL.Path, "sha256-", "sha256:", 1)
			return false
		}
		return without(404)(w, r)
	}
	if got, err := p.find(); err != nil || len(got) != 0 {
		t.Errorf("found %v, %v in the image itself", got, err)
	}
	_, err := p.attach(envelopes()[0])
	checkError(t, err, "takes the tag")
}

// Another writer who writes between our reading and writing, or right after it,
// loses nothing and has us lose nothing.
func TestTwoWritersOfOneTag(t *testing.T) {
	for _, tc := range []struct {
		name string
		when int // the other overwrites the tag after it was written so often
	}{{"once", 1}, {"three times", 3}} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t)
			p := inRegistry(t, h)
			h.before = without(404)
			other := envelopes()[2]
			if _, err := p.attach(other); err != nil { // so that there is its manifest
				t.Fatal(err)
			}
			tag := "/v2/shop/web/manifests/" + strings.Replace(p.subject.Digest, ":", "-", 1)
			theirs := httptest.NewRecorder()
			h.store.ServeHTTP(theirs, httptest.NewRequest(http.MethodGet, tag, nil))
			wrote := 0
			h.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut && r.URL.Path == tag {
					if wrote++; wrote <= tc.when {
						h.store.ServeHTTP(w, r)
						again := httptest.NewRequest(http.MethodPut, tag, bytes.NewReader(theirs.Body.Bytes()))
						again.Header.Set("Content-Type", ociIndex)
						h.store.ServeHTTP(httptest.NewRecorder(), again)
						return true
					}
				}
				return without(404)(w, r)
			}
			if _, err := p.attach(envelopes()[0]); err != nil {
				t.Fatal(err)
			}
			got, err := p.find()
			if err != nil || len(got) != 2 || wrote != tc.when+1 {
				t.Errorf("%d found, %v, after %d times written, want both after %d", len(got), err, wrote, tc.when+1)
			}
		})
	}
	t.Run("always", func(t *testing.T) {
		h := newHub(t)
		p := inRegistry(t, h)
		h.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-") {
				w.WriteHeader(http.StatusCreated)
				return true
			}
			return without(404)(w, r)
		}
		_, err := p.attach(envelopes()[0])
		checkError(t, err, "overwritten by others")
	})
}

// Many who attach at once to one image in a folder all succeed.
func TestWritersOfOneFolder(t *testing.T) {
	p := inFolder(t)
	var all sync.WaitGroup
	const writers = 8
	for i := range writers {
		all.Go(func() {
			e := envelopes()[i%2*4] // referrers, and cosign's tag
			e.Payload = fmt.Appendf(nil, `{"n":%d}`, i)
			if _, err := p.attach(e); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, err := p.find(); err != nil || len(got) != writers {
		t.Errorf("%d found, %v, want %d", len(got), err, writers)
	}
}

func TestAttachToArchive(t *testing.T) {
	s := blobs{}
	path := writeFile(t, archive(s.files(named(s.image("amd64", threeLayers("a")), "1"))))
	_, err := oci.AttachPath(t.Context(), path, signature.Subject{Digest: digest(nil)}, envelopes()[0])
	checkError(t, err, "archive", filepath.Base(path))
}
