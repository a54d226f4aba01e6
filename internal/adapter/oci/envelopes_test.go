package oci_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

// attached makes a manifest about a subject with one envelope, changed by change.
func (s blobs) attached(subject any, payload string, change object) object {
	return s.addJSON(ociManifest, with(object{
		"schemaVersion": 2, "mediaType": ociManifest, "artifactType": bundleType, "config": s.add(emptyType, []byte("{}")),
		"layers": []object{s.add(bundleType, []byte(payload))}, "subject": subject,
	}, change))
}

// listing answers with lists of referrers, a page each.
func listing(pages ...any) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		var n int
		_, _ = fmt.Sscanf(r.URL.Query().Get("page"), "%d", &n)
		w.Header().Set("Content-Type", ociIndex)
		if n+1 < len(pages) {
			w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, n+1))
		}
		if text, ok := pages[min(n, len(pages)-1)].(string); ok {
			_, _ = w.Write([]byte(text))
			return true
		}
		_, _ = w.Write(asJSON(pages[n]))
		return true
	}
}

func page(entries ...object) object {
	return object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries}
}

// What is false is refused with its reason; what is good beside it is found.
func TestHostileReferrers(t *testing.T) {
	type scene struct {
		s           blobs
		image, good object
	}
	for _, tc := range []struct {
		name   string
		before func(scene) func(http.ResponseWriter, *http.Request) bool
		found  int
		reason signature.Reason // that is among those told; empty for an error that is none
		words  string           // empty: no error
		only   bool             // what is missing was refused
	}{
		{"about another image", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.s.attached(c.s.add(ociManifest, []byte("other")), "x", nil)))
		}, 1, signature.OtherSubject, "is about sha256:", true},
		{"without a subject", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.s.attached(nil, "x", nil)))
		}, 1, signature.OtherSubject, "names no subject", true},
		{"of another artifact", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.s.attached(c.image, "x", object{"artifactType": "application/spdx+json", "layers": []object{c.s.add("application/spdx+json", []byte("{}"))}})))
		}, 1, "", "", false},
		{"a type that says nothing of the content", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(with(c.good, object{"artifactType": ociConfig}), with(c.s.attached(c.image, "x", nil), object{"artifactType": "application/spdx+json"})))
		}, 2, "", "", false},
		{"itself, the image and an index", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.image, c.good, c.s.index(c.good, c.image)))
		}, 1, "", "", false},
		{"a manifest that is gone", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, object{"mediaType": ociManifest, "digest": digest([]byte("gone")), "size": 4}))
		}, 1, "", "404", false},
		{"a manifest of another size", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, with(c.s.attached(c.image, "x", nil), object{"size": 7})))
		}, 1, "", "were announced", false},
		{"a manifest that is none", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.s.add(ociManifest, []byte(`{"schemaVersion":2,"layers":{}}`))))
		}, 1, signature.Malformed, "not JSON that begins with [", true},
		{"a huge manifest", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, object{"mediaType": ociManifest, "digest": digest([]byte("x")), "size": 1 << 40}))
		}, 1, signature.TooLarge, "at most", true},
		{"a huge envelope", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.s.attached(c.image, "x", object{"layers": []object{{"mediaType": bundleType, "digest": digest([]byte("x")), "size": 1 << 40}}})))
		}, 1, signature.TooLarge, "at most", true},
		{"an empty envelope", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.s.attached(c.image, "", nil)))
		}, 1, signature.Malformed, "is empty", true},
		{"an envelope that the descriptor carries", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.s.attached(c.image, "x", object{"layers": []object{{"mediaType": bundleType, "digest": digest([]byte("abc")), "size": 3, "data": []byte("abc")}}})))
		}, 2, "", "", false},
		{"an envelope that the descriptor carries wrongly", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, c.s.attached(c.image, "x", object{"layers": []object{{"mediaType": bundleType, "digest": digest([]byte("abc")), "size": 3, "data": []byte("abd")}}})))
		}, 1, signature.Malformed, "carries other bytes", true},
		{"an entry with a path for a digest", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(c.good, object{"mediaType": ociManifest, "digest": "../../x", "size": 4}, object{"mediaType": 7}))
		}, 1, signature.Malformed, "entry 2 of the list", true},
		{"pages", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(page(), page(c.good), page(c.s.attached(c.image, "second", nil)))
		}, 2, "", "", false},
		{"pages without end", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(repeat(1000, any(page(c.good)))...)
		}, 1, "", "more than 64 pages", false},
		{"thousands", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			var all []object
			for i := range 5000 {
				all = append(all, object{"mediaType": ociManifest, "digest": digest(fmt.Append(nil, i)), "size": 100, "artifactType": "application/spdx+json"})
			}
			return listing(page(append(all[:4000], append([]object{with(c.good, object{"artifactType": bundleType})}, all[4000:]...)...)...))
		}, 1, "", "at most 256 are", false},
		{"no JSON", func(scene) func(http.ResponseWriter, *http.Request) bool { return listing("<html>") }, 0, "", "parse the registry's answer", false},
		{"a manifest for a list", func(scene) func(http.ResponseWriter, *http.Request) bool {
			return listing(`{"schemaVersion":2,"config":{},"layers":[]}`)
		}, 0, "", "no index", false},
		{"a list that is not to be had", func(scene) func(http.ResponseWriter, *http.Request) bool { return without(500) }, 0, "", "500", false},
		{"a list that is forbidden", func(scene) func(http.ResponseWriter, *http.Request) bool { return without(403) }, 0, "", "403", false},
		{"elsewhere", func(scene) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/referrers/") {
					w.Header().Set("Link", `<https://elsewhere.example/v2/>; rel="next"`)
				}
				return listing(page())(w, r)
			}
		}, 0, "", "sent us to elsewhere.example", false},
		{"other bytes the second time", func(c scene) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/manifests/"+c.good["digest"].(string)) {
					w.Header().Set("Content-Type", ociManifest)
					_, _ = w.Write(c.s[c.s.attached(c.image, "forged", nil)["digest"].(string)])
					return true
				}
				return listing(page(c.good))(w, r)
			}
		}, 0, "", "the bytes that came have the digest", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			anonymous(t)
			s := blobs{}
			image := s.image("amd64", threeLayers("a"))
			c := scene{s, image, s.attached(image, "good", nil)}
			before := tc.before(c)
			h := newHub(t)
			h.push(t, s, "shop/web", "1", image)
			h.before = before
			r, _ := door(t, oci.Options{})
			got, err := r.Envelopes(t.Context(), signature.Subject{Repository: h.host() + "/shop/web", Digest: image["digest"].(string)})
			if len(got) != tc.found {
				t.Errorf("%d found, want %d: %v", len(got), tc.found, got)
			}
			checkIncomplete(t, err, tc.words, tc.reason, tc.only)
			h.mu.Lock()
			defer h.mu.Unlock()
			if n := len(h.asked); n > 1200 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// checkIncomplete checks what an error says of what was left out; no words for
// no error.
func checkIncomplete(t *testing.T, err error, words string, reason signature.Reason, only bool) {
	t.Helper()
	if words == "" {
		if err != nil {
			t.Errorf("error %v", err)
		}
		return
	}
	var left *signature.Incomplete
	if !errors.As(err, &left) {
		t.Fatalf("error %v, want an Incomplete", err)
	}
	var refused *signature.Refusal
	if errors.As(err, &refused) != (reason != "") || refused != nil && refused.Reason != reason {
		t.Errorf("refused for %+v, want %q", refused, reason)
	}
	if !strings.Contains(err.Error(), words) || left.OnlyRefused() != only {
		t.Errorf("error %q, only refused: %v; want %q, %v", err, left.OnlyRefused(), words, only)
	}
	if reason == "" && fault.Of(err) == fault.Unknown {
		t.Errorf("%v has no kind", err)
	}
}

// Who waits no longer is told that it is not all.
func TestEnvelopesInTime(t *testing.T) {
	anonymous(t)
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	h := newHub(t)
	h.push(t, s, "shop/web", "1", image)
	ctx, cancel := context.WithCancel(t.Context())
	h.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/referrers/") {
			cancel()
			<-r.Context().Done()
			return true
		}
		return false
	}
	r, _ := door(t, oci.Options{})
	_, err := r.Envelopes(ctx, signature.Subject{Repository: h.host() + "/shop/web", Digest: image["digest"].(string)})
	var left *signature.Incomplete
	if !errors.Is(err, context.Canceled) || !errors.As(err, &left) || left.OnlyRefused() {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}

// Who holds little memory reads as much as he said, and is told that it is not
// all.
func TestEnvelopesInSomeBytes(t *testing.T) {
	h := newHub(t)
	p := inRegistry(t, h)
	large := envelopes()[3]
	for i := range 4 {
		large.Payload = append([]byte{0xd2, byte(i)}, large.Payload...)
		if _, err := p.attach(large); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name  string
		most  int64
		found func(n int) bool
		words string
	}{
		{"all", 256 << 10, func(n int) bool { return n == 4 }, ""},
		{"as many as fit", 100 << 10, func(n int) bool { return n > 0 && n < 4 }, "more than 102400 bytes are attached"},
		{"none", 1 << 10, func(n int) bool { return n == 0 }, "more than 1024 bytes are attached"},
		{"no more than the door's own limit", 1 << 40, func(n int) bool { return n == 4 }, ""},
	} {
		r, _ := door(t, oci.Options{MaxEnvelopes: tc.most})
		got, err := r.Envelopes(t.Context(), p.subject)
		if !tc.found(len(got)) {
			t.Errorf("%s: found %d", tc.name, len(got))
		}
		bytes := int64(0)
		for _, e := range got {
			bytes += int64(len(e.Payload))
		}
		if bytes > tc.most {
			t.Errorf("%s: %d bytes were read", tc.name, bytes)
		}
		checkIncomplete(t, err, tc.words, "", false)
	}
}

// A mirror that keeps no signatures is no answer.
func TestEnvelopesBesideMirror(t *testing.T) {
	h, mirror := newHub(t), newHub(t)
	p := inRegistry(t, h)
	t.Setenv(oci.EnvMirrors, h.host()+"="+mirror.host()+"/copy")
	s := blobs{}
	mirror.push(t, s, "copy/shop/web", "1", s.image("amd64", threeLayers("a")))
	if _, err := p.attach(envelopes()[0]); err != nil {
		t.Fatal(err)
	}
	got, err := p.find()
	if err != nil || len(got) != 1 || mirror.count("/referrers/") != 1 {
		t.Errorf("%d found, %v, after the mirror was asked %d times; want one after it was", len(got), err, mirror.count("/referrers/"))
	}
}

// Each request that is sent without need is one more round trip for everybody who
// deploys.
func TestRequestsToFind(t *testing.T) {
	h := newHub(t)
	p := inRegistry(t, h)
	for _, e := range envelopes()[:3] { // which manifests carry along
		if _, err := p.attach(e); err != nil {
			t.Fatal(err)
		}
	}
	r, _ := door(t, oci.Options{})
	count := func() int {
		before := len(h.asked)
		if got, err := r.Envelopes(t.Context(), p.subject); err != nil || len(got) != 3 {
			t.Fatalf("%d found, %v", len(got), err)
		}
		return len(h.asked) - before
	}
	// The list, three tags, three manifests; no blob, and no question how to enter.
	if got := count(); got != 7 {
		t.Errorf("%d requests, want 7: %q", got, h.asked)
	}
	// It is known now that the registry keeps lists.
	if got := count(); got != 6 {
		t.Errorf("%d requests the second time, want 6: %q", got, h.asked)
	}
	if n := h.count("GET", "/blobs/"); n != 0 {
		t.Errorf("%d blobs were fetched that manifests carry", n)
	}
}

func TestLayoutsOfOthers(t *testing.T) {
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	tag := strings.Replace(image["digest"].(string), ":", "-", 1)
	signatures := s.addJSON(ociManifest, object{"schemaVersion": 2, "mediaType": ociManifest, "config": s.addJSON(ociConfig, object{}),
		"layers": []object{with(s.add(simpleType, []byte("{}")), object{"annotations": object{"dev.cosignproject.cosign/signature": "MEUC"}})}})
	referrer := s.attached(image, "good", nil)
	other := s.attached(s.add(ociManifest, []byte("other")), "other", nil)
	ref := func(d object, name string) object {
		return with(d, object{"annotations": object{"org.opencontainers.image.ref.name": name}})
	}
	for _, tc := range []struct {
		name    string
		entries []object
		ways    []signature.Way
	}{
		{"oras: every manifest is listed", []object{named(image, "1"), referrer, other}, []signature.Way{signature.ByReferrer}},
		{"regctl: the list has a tag", []object{named(image, "1"), ref(s.index(referrer), tag)}, []signature.Way{signature.ByReferrersTag}},
		{"cosign save", []object{with(image, object{"annotations": object{"kind": "dev.cosignproject.cosign/image"}}),
			with(signatures, object{"annotations": object{"kind": "dev.cosignproject.cosign/sigs"}})}, []signature.Way{signature.ByCosignTag}},
		{"skopeo: tags within references", []object{ref(image, "reg.example/shop:1"), ref(signatures, "reg.example/shop:"+tag+".sig")}, []signature.Way{signature.ByCosignTag}},
		{"twice", []object{image, referrer, referrer, ref(s.index(referrer, referrer), tag)}, []signature.Way{signature.ByReferrer}},
		{"nothing", []object{image, other}, nil},
	} {
		files := s.files(tc.entries...)
		for form, path := range map[string]string{"folder": writeFolder(t, files), "tar": writeFile(t, archive(files))} {
			t.Run(tc.name+" in a "+form, func(t *testing.T) {
				subject, err := oci.ResolvePath(t.Context(), path, "")
				if err != nil || subject.Digest != image["digest"] {
					t.Fatalf("ResolvePath = %v, %v", subject, err)
				}
				got, err := oci.PathEnvelopes(t.Context(), path, subject)
				if err != nil || len(got) != len(tc.ways) {
					t.Fatalf("%d found, %v, want %d", len(got), err, len(tc.ways))
				}
				for i, w := range tc.ways {
					if got[i].Way != w {
						t.Errorf("found by %s, want %s", got[i].Way, w)
					}
				}
			})
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	anonymous(t)
	h := newHub(t)
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	h.push(t, s, "shop/web", "1", image)
	path := writeFolder(t, s.files(named(image, "1"), named(s.image("arm64", threeLayers("b")), "2")))
	r, _ := door(t, oci.Options{})
	t.Run("no tag", func(t *testing.T) {
		_, err := r.Resolve(t.Context(), h.host()+"/shop/web:2")
		checkError(t, err, "404")
	})
	t.Run("another digest", func(t *testing.T) {
		h.before = func(w http.ResponseWriter, r *http.Request) bool {
			r.URL.Path = strings.Replace(r.URL.Path, digest([]byte("x")), "1", 1)
			return false
		}
		_, err := r.Resolve(t.Context(), h.host()+"/shop/web@"+digest([]byte("x")))
		checkError(t, err, "have the digest")
	})
	t.Run("several in a layout", func(t *testing.T) {
		_, err := oci.ResolvePath(t.Context(), path, "")
		checkError(t, err, "several images")
	})
	t.Run("none of that name", func(t *testing.T) {
		_, err := oci.ResolvePath(t.Context(), path, "3")
		checkError(t, err, "no image \"3\"")
	})
	t.Run("a subject without a digest", func(t *testing.T) {
		_, err := r.Envelopes(t.Context(), signature.Subject{Repository: h.host() + "/shop/web"})
		checkError(t, err, "subject")
	})
}

// By TLS all requests share one connection: none waits for another's handshake.
func TestOneConnectionToFind(t *testing.T) {
	anonymous(t)
	h := unstarted(t)
	h.EnableHTTP2 = true
	var connections atomic.Int32
	h.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	h.StartTLS()
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	for i := range 20 {
		s.attached(image, fmt.Sprint("payload ", i), nil)
	}
	h.push(t, s, "shop/web", "1", image)
	ca := writeFile(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
	r, _ := door(t, oci.Options{CAFile: ca})
	r.WithDial(h.host()) // under a name that isn't of this machine
	subject, err := r.Resolve(t.Context(), "example.com/shop/web:1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Envelopes(t.Context(), subject)
	if err != nil || len(got) != 20 {
		t.Fatalf("%d found, %v", len(got), err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for %d requests, want 1", n, len(h.asked))
	}
}
