package oci_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/signature"
)

// That one repository has lists of referrers is good for all of its registry, and
// for no other; that one has none is good for that one alone.
func TestListsOfARegistry(t *testing.T) {
	anonymous(t)
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	digest := image["digest"].(string)
	tag := strings.Replace(digest, ":", "-", 1)
	listed := s.attached(image, "listed", nil)
	tagged := s.index(s.attached(image, "tagged", nil))
	start := func() *hub {
		h := newHub(t)
		for _, repo := range []string{"shop/a", "shop/b", "shop/old"} {
			h.push(t, s, repo, "1", image)
			h.push(t, s, repo, tag, tagged)
			h.push(t, s, repo, "signature", listed)
		}
		h.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/shop/old/referrers/") {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			return listing(page(listed))(w, r)
		})
		return h
	}
	h, other := start(), start()
	r, _ := door(t, oci.Options{})
	for _, tc := range []struct {
		name          string
		h             *hub
		repo          string
		listed, asked int // of lists, and of the tag that stands in for one
		way           signature.Way
	}{
		{"one without, first", h, "shop/old", 1, 1, signature.ByReferrersTag},
		{"one with, of which nothing is known", h, "shop/a", 1, 1, signature.ByReferrer},
		{"another of the same registry", h, "shop/b", 1, 0, signature.ByReferrer},
		{"the one without, again", h, "shop/old", 0, 1, signature.ByReferrersTag},
		{"one of another registry", other, "shop/a", 1, 1, signature.ByReferrer},
		{"one without, after one with", other, "shop/old", 1, 1, signature.ByReferrersTag},
		{"the same again, in case that it has them now", other, "shop/old", 1, 1, signature.ByReferrersTag},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := "/v2/" + tc.repo + "/"
			count := func() [2]int { // of the tags, not those of cosign
				return [2]int{tc.h.count(path, "/referrers/"), tc.h.count(path, "/manifests/"+tag) - tc.h.count(path, "/manifests/"+tag+".")}
			}
			before := count()
			got, err := r.Envelopes(t.Context(), signature.Subject{Repository: tc.h.host() + "/" + tc.repo, Digest: digest})
			if err != nil || len(got) != 1 || got[0].Way != tc.way {
				t.Fatalf("Envelopes() = %+v, %v, want one by %s", got, err, tc.way)
			}
			after := count()
			if lists, tags := after[0]-before[0], after[1]-before[1]; lists != tc.listed || tags != tc.asked {
				t.Errorf("%d lists and %d tags were asked for, want %d and %d: %q", lists, tags, tc.listed, tc.asked, tc.h.asked)
			}
		})
	}
}

// What is found in two steps is what is found in one, and each asks only for its own.
func TestEnvelopesInHalves(t *testing.T) {
	h := newHub(t)
	p := inRegistry(t, h)
	for _, e := range envelopes() {
		if _, err := p.attach(e); err != nil {
			t.Fatal(err)
		}
	}
	r, _ := door(t, oci.Options{})
	for _, tc := range []struct {
		name       string
		find       func(context.Context, signature.Subject) ([]signature.Envelope, error)
		found      int
		without    string
		lists, old int
	}{
		{"current", r.CurrentEnvelopes, 4, string(signature.ByCosignTag), 1, 0},
		{"old", r.OldEnvelopes, 3, string(signature.ByReferrer), 0, 2},
		{"both", r.Envelopes, 7, "", 1, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			count := func() [2]int { return [2]int{h.count("/referrers/"), h.count("GET", ".sig") + h.count("GET", ".att")} }
			before := count()
			got, err := tc.find(t.Context(), p.subject)
			if err != nil || len(got) != tc.found {
				t.Fatalf("%d found, %v, want %d", len(got), err, tc.found)
			}
			for _, e := range got {
				if string(e.Way) == tc.without {
					t.Errorf("%s was found by %s", e.MediaType, e.Way)
				}
			}
			after := count()
			if lists, old := after[0]-before[0], after[1]-before[1]; lists != tc.lists || old != tc.old {
				t.Errorf("%d lists and %d tags of cosign were asked for, want %d and %d", lists, old, tc.lists, tc.old)
			}
		})
	}
}

// A registry that sends us elsewhere for a list or for what is in it does not get
// our password sent there.
func TestReferrersElsewhere(t *testing.T) {
	anonymous(t)
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	entry := s.attached(image, "listed", nil)
	other, h := newHub(t), newHub(t)
	other.push(t, s, "shop/web", "1", image)
	other.push(t, s, "shop/web", "signature", entry)
	other.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if sent := r.Header.Get("Authorization"); sent != "" {
			t.Errorf("another host was sent %q", sent)
		}
		return listing(page(entry))(w, r)
	})
	h.push(t, s, "shop/web", "1", image)
	dockerConfigFile(t, object{"auths": object{h.host(): object{"auth": inBase64(user + ":" + password)}}})
	h.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if wantsBasic(w, r) {
			return true
		}
		if r.URL.Path != "/v2/" {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
		return r.URL.Path != "/v2/"
	})
	r, _ := door(t, oci.Options{})
	got, err := r.Envelopes(t.Context(), signature.Subject{Repository: h.host() + "/shop/web", Digest: image["digest"].(string)})
	if err != nil || len(got) != 1 || other.count("/referrers/") == 0 {
		t.Errorf("Envelopes() = %v, %v, after %q", got, err, other.asked)
	}
}

// The next page of a list is one of the same list, whatever path a registry names.
func TestNextPageOfAnotherRepository(t *testing.T) {
	anonymous(t)
	s := blobs{}
	image := s.image("amd64", threeLayers("a"))
	h := newHub(t)
	h.push(t, s, "shop/web", "1", image)
	h.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/referrers/") && r.URL.RawQuery == "" {
			w.Header().Set("Link", `</v2/evil/web/referrers/`+image["digest"].(string)+`?page=1>; rel="next"`)
		}
		return listing(page(), page(s.attached(image, "second", nil)))(w, r)
	})
	r, _ := door(t, oci.Options{})
	if _, err := r.Envelopes(t.Context(), signature.Subject{Repository: h.host() + "/shop/web", Digest: image["digest"].(string)}); err == nil {
		t.Error("a manifest that is only listed was found")
	}
	if n := h.count("/v2/evil/"); n != 0 || h.count("/v2/shop/web/referrers/") != 2 {
		t.Errorf("another repository was asked %d times: %q", n, h.asked)
	}
}
