package oci_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// Names come in pages, whichever way the registry writes where the next one is.
func TestRepositories(t *testing.T) {
	anonymous(t)
	for _, tc := range []struct{ name, link string }{
		{"relative links", "%s"},
		{"absolute links", "http://HOST%s"},
		{"links of a registry behind a proxy", "https://HOST%s"},
		{"links with parameters", `%s>; title="a, b"; rel="last", <%[1]s`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, h := newShelf(t)
			s.link = strings.ReplaceAll(tc.link, "HOST", h.host())
			want := []string{"a", "b/c", "d", "e", "f/g/h", "i", "j"}
			s.repositories = append(slices.Clone(want), "../etc", "Upper", "a?n=1", "d")
			r, _ := watcher(t, oci.Options{})
			got, err := listed(r.Repositories(t.Context(), asset.Registry{Host: h.host()}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("repositories (-want +got):\n%s", diff)
			}
			if n := h.count("GET /v2/_catalog"); n != 4 {
				t.Errorf("asked for %d pages, want 4", n)
			}
		})
	}
	t.Run("as far as is wanted", func(t *testing.T) {
		s, h := newShelf(t)
		s.repositories = []string{"a", "b", "c", "d", "e"}
		r, _ := watcher(t, oci.Options{})
		for range r.Repositories(t.Context(), asset.Registry{Host: h.host()}) {
			break
		}
		if n := h.count("GET /v2/_catalog"); n != 1 {
			t.Errorf("asked for %d pages, want 1", n)
		}
	})
}

func TestRepositoriesRefused(t *testing.T) {
	anonymous(t)
	const next = `{"repositories":["a"]}`
	for _, tc := range []struct {
		name, body string
		status     int
		header     []string
		kind       fault.Kind
		words      string
	}{
		{"no catalogue", "404 page not found", 404, nil, fault.Unsupported, "shows no catalogue"},
		{"forbidden", `{"errors":[{"code":"DENIED","message":"not for you"}]}`, 403, nil, fault.Unsupported, "DENIED not for you"},
		{"not known", `{"errors":[{"code":"UNSUPPORTED","message":"no such operation"}]}`, 400, nil, fault.Unsupported, "no such operation"},
		{"no user", `{"errors":[]}`, 401, nil, fault.Unauthenticated, "401"},
		{"broken", "", 500, nil, fault.Unavailable, "500"},
		{"a page of a portal", "<html>", 200, nil, fault.Invalid, "parse the registry's answer"},
		{"another kind of list", `{"repositories":[1]}`, 200, nil, fault.Invalid, "parse"},
		{"two lists", `{"repositories":["a"],"repositories":["b"]}`, 200, nil, fault.Invalid, "there twice"},
		{"a page without end", `{"repositories":["` + strings.Repeat("a", 9<<20) + `"]}`, 200, nil, fault.Invalid, "at most"},
		{"elsewhere", next, 200, []string{"Link", `<https://169.254.169.254/latest?x=1>; rel="next"`}, fault.Denied, "169.254.169.254"},
		{"in a circle", next, 200, []string{"Link", `</v2/_catalog?n=1000>; rel=next`}, fault.Invalid, "leads to itself"},
		{"an address that is none", next, 200, []string{"Link", `<http://[::1>; rel=next`}, fault.Invalid, "cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, h := newShelf(t)
			h.answers("GET /v2/_catalog", tc.status, tc.body, tc.header...)
			r, _ := watcher(t, oci.Options{})
			_, err := listed(r.Repositories(t.Context(), asset.Registry{Host: h.host()}))
			if fault.Of(err) != tc.kind || !strings.Contains(fmt.Sprint(err), tc.words) || fault.Remedy(err) == "" {
				t.Errorf("error %v (%s, %q), want %s with %q", err, fault.Of(err), fault.Remedy(err), tc.kind, tc.words)
			}
		})
	}
}

// What is no image is left out, and each image is there once with all its tags.
func TestImages(t *testing.T) {
	anonymous(t)
	s, h := newShelf(t)
	digits := strings.Repeat("0f", 32)
	one, two := ociImage("one"), dockerImage("two")
	index := asJSON(object{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []object{}})
	chart := manifestWith(ociManifest, "application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "chart")
	signature := manifestWith(ociManifest, "application/vnd.oci.image.config.v1+json", "application/vnd.dev.cosign.simplesigning.v1+json", "signature")
	for tag, b := range map[string][]byte{
		"1": one, "1.0": one, "2": two, "both": index, "chart": chart, "signature": signature, "unwanted": ociImage("unwanted"),
		"sha256-" + digits: index, "sha256-" + digits + ".sig": signature, "sha256-" + digits + ".att": signature, "sha256-" + digits + ".sbom": signature,
		"artifact": asJSON(object{"mediaType": "application/vnd.oci.artifact.manifest.v1+json"}),
	} {
		s.put("shop/web", tag, b)
	}
	s.tags["shop/web"] = append(s.tags["shop/web"], "deleted", "bad/tag")
	slices.Sort(s.tags["shop/web"])
	r, _ := watcher(t, oci.Options{})
	want := []asset.RegistryImage{
		{Repository: "shop/web", Digest: digest(one), Tags: []string{"1", "1.0"}},
		{Repository: "shop/web", Digest: digest(two), Tags: []string{"2"}},
		{Repository: "shop/web", Digest: digest(index), Tags: []string{"both"}},
	}
	for _, step := range []struct {
		name  string
		reads int // of manifests, in all so far
	}{
		{"first", 5}, // one, one again perhaps, chart, signature, and deleted
		{"again", 6}, // deleted
	} {
		got, err := listed(r.Images(t.Context(), asset.Registry{Host: h.host()}, "shop/web", func(tag string) bool { return tag != "unwanted" }))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: images (-want +got):\n%s", step.name, diff)
		}
		if n := h.count("GET ", "/manifests/"); n > step.reads {
			t.Errorf("%s: read %d manifests, want at most %d", step.name, n, step.reads)
		}
	}
	if n := h.count("manifests", digits); n != 0 {
		t.Errorf("asked %d times for what is attached to images", n)
	}
	if n := h.count("unwanted"); n != 0 {
		t.Errorf("asked %d times for what is not wanted", n)
	}
	if n := h.count("GET /v2/") - h.count("GET /v2/shop"); n > 2 {
		t.Errorf("asked %d times how to enter, want once by each protocol", n)
	}
}

// Registries that answer HEAD with less than they should are asked again.
func TestImagesWithoutHead(t *testing.T) {
	anonymous(t)
	for _, tc := range []struct {
		name   string
		before func(w http.ResponseWriter, r *http.Request) bool
	}{
		{"refused", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodHead
		}},
		{"no digest", func(_ http.ResponseWriter, r *http.Request) bool { return r.Method == http.MethodHead }},
		{"a digest that is none", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Docker-Content-Digest", "sha256:../../x")
			return r.Method == http.MethodHead
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, h := newShelf(t)
			h.before = tc.before
			s.put("shop", "1", ociImage("one"))
			r, _ := watcher(t, oci.Options{})
			got, err := listed(r.Images(t.Context(), asset.Registry{Host: h.host()}, "shop", anyTag))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]asset.RegistryImage{{Repository: "shop", Digest: digest(ociImage("one")), Tags: []string{"1"}}}, got); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
		})
	}
}

func TestImagesFail(t *testing.T) {
	anonymous(t)
	for _, tc := range []struct {
		name, repository, on string
		status               int
		header               []string
		kind                 fault.Kind
		found                int // images that are told all the same
	}{
		{"no such repository", "none", "", 0, nil, fault.NotFound, 0},
		{"no repository's name", "../shop", "", 0, nil, fault.Invalid, 0},
		{"a registry in it", "registry.example:5000/shop", "", 0, nil, fault.Invalid, 0},
		{"tags are not for us", "shop", "GET /v2/shop/tags/list", 403, nil, fault.Denied, 0},
		{"one tag is broken", "shop", "/v2/shop/manifests/2", 500, nil, fault.Unavailable, 2},
		{"one tag is not for us", "shop", "/v2/shop/manifests/1", 401, nil, fault.Unauthenticated, -1},
		{"too much", "shop", "HEAD /v2/shop/manifests/1", 429, []string{"Retry-After", "3600"}, fault.Exhausted, -1},
		{"no registry", "shop", "GET /v2/", 404, nil, fault.NotFound, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, h := newShelf(t)
			for i := range 3 {
				s.put("shop", fmt.Sprint(i+1), dockerImage(fmt.Sprint(i)))
			}
			if tc.on != "" {
				h.answers(tc.on, tc.status, `{"errors":[{"code":"OTHER","message":"no"}]}`, tc.header...)
			}
			r, _ := watcher(t, oci.Options{})
			got, err := listed(r.Images(t.Context(), asset.Registry{Host: h.host()}, tc.repository, anyTag))
			if fault.Of(err) != tc.kind || fault.Remedy(err) == "" {
				t.Errorf("error %v (%s, %q), want %s", err, fault.Of(err), fault.Remedy(err), tc.kind)
			}
			if tc.found >= 0 && len(got) != tc.found {
				t.Errorf("found %d images, want %d", len(got), tc.found)
			}
		})
	}
	t.Run("a host that is none", func(t *testing.T) {
		r, _ := watcher(t, oci.Options{})
		for _, host := range []string{"", "a/b", "https://a", "a b"} {
			if _, err := listed(r.Images(t.Context(), asset.Registry{Host: host}, "shop", anyTag)); !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: %v, want it to be invalid", host, err)
			}
		}
	})
	t.Run("many tags fail", func(t *testing.T) {
		s, h := newShelf(t)
		s.page = 1000
		for i := range 500 {
			s.put("shop", fmt.Sprint(i), dockerImage(fmt.Sprint(i)))
		}
		h.answers("/manifests/", 418, "")
		r, _ := watcher(t, oci.Options{})
		_, err := listed(r.Images(t.Context(), asset.Registry{Host: h.host()}, "shop", anyTag))
		if n := h.count("/manifests/"); !fault.Is(err, fault.Unavailable) || n > 100 {
			t.Errorf("error %v after %d requests, want it to give up early", err, n)
		}
	})
}

// A registry is asked no faster than it is configured, whoever asks.
func TestRate(t *testing.T) {
	anonymous(t)
	s, h := newShelf(t)
	s.page = 1000
	for i := range 100 {
		s.put("shop", fmt.Sprint(i), dockerImage(fmt.Sprint(i)))
	}
	r, c := watcher(t, oci.Options{})
	began := c.time()
	w := asset.Registry{Host: h.host(), Rate: 4}
	if _, err := listed(r.Images(t.Context(), w, "shop", anyTag)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(t.Context(), h.host()+"/shop:1", oci.Choice{}); err == nil {
		t.Error("opened an image that has no layers")
	}
	if took, want := c.time().Sub(began), 25*time.Second; took < want {
		t.Errorf("%d requests took %s, want %s at least", h.count(), took, want)
	}
}

// A registry that is too busy is left alone for as long as it says, or longer each
// time, and one that wants an hour is not waited for.
func TestBusyRegistry(t *testing.T) {
	anonymous(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		status  int
		header  []string
		times   int // how often it is busy
		fails   bool
		between [2]time.Duration // what was waited in all
	}{
		{"says how long", 429, []string{"Retry-After", "7"}, 1, false, [2]time.Duration{7 * time.Second, 9 * time.Second}},
		{"says until when", 503, []string{"Retry-After", now.Add(20 * time.Second).Format(http.TimeFormat)}, 1, false, [2]time.Duration{0, 21 * time.Second}},
		{"says nothing", 429, nil, 3, false, [2]time.Duration{1500 * time.Millisecond, 10 * time.Second}},
		{"counts down to nothing", 200, []string{"Ratelimit-Remaining", "0;w=21600", "Ratelimit-Reset", "30"}, 1, false, [2]time.Duration{30 * time.Second, 32 * time.Second}},
		{"counts down to a time", 200, []string{"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", fmt.Sprint(now.Add(40 * time.Second).Unix())}, 1, false, [2]time.Duration{38 * time.Second, 42 * time.Second}},
		{"counts down to an hour", 200, []string{"Ratelimit-Remaining", "0", "Ratelimit-Reset", "3600"}, 1, true, [2]time.Duration{0, time.Second}},
		{"wants an hour", 429, []string{"Retry-After", "3600"}, 1, true, [2]time.Duration{0, time.Second}},
		{"has some left", 200, []string{"Ratelimit-Remaining", "76;w=21600", "Ratelimit-Reset", "30"}, 1, false, [2]time.Duration{0, time.Second}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, h := newShelf(t)
			s.put("shop", "1", dockerImage("1"))
			left := tc.times
			h.before = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/tags/list") || left == 0 {
					return false
				}
				left--
				for i := 0; i+1 < len(tc.header); i += 2 {
					w.Header().Set(tc.header[i], tc.header[i+1])
				}
				if tc.status != http.StatusOK {
					w.WriteHeader(tc.status)
				}
				return tc.status != http.StatusOK
			}
			r, c := watcher(t, oci.Options{})
			w := asset.Registry{Host: h.host()}
			_, err := listed(r.Images(t.Context(), w, "shop", anyTag))
			if tc.fails != fault.Is(err, fault.Exhausted) || !tc.fails && err != nil {
				t.Errorf("error %v", err)
			}
			if took := c.time().Sub(now); took < tc.between[0] || took > tc.between[1] {
				t.Errorf("it took %s (pauses %s), want %s", took, c.longer, tc.between)
			}
			if !tc.fails {
				return
			}
			before := h.count()
			_, err = listed(r.Images(t.Context(), w, "shop", anyTag))
			if n := h.count(); !fault.Is(err, fault.Exhausted) || n != before {
				t.Errorf("error %v after %d more requests, want none to be sent", err, n-before)
			}
			_ = c.sleep(t.Context(), time.Hour)
			if got, err := listed(r.Images(t.Context(), w, "shop", anyTag)); err != nil || len(got) != 1 {
				t.Errorf("an hour later: %d images, %v", len(got), err)
			}
		})
	}
}

// The catalogue and each repository are entered with a right of their own.
func TestWatchCredentials(t *testing.T) {
	for _, tc := range []struct {
		name  string
		wants func(h *hub) func(http.ResponseWriter, *http.Request) bool
	}{
		{"basic", func(*hub) func(http.ResponseWriter, *http.Request) bool { return wantsBasic }},
		{"bearer", func(h *hub) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/token" {
					if wantsBasic(w, r) {
						return true
					}
					_, _ = w.Write(asJSON(object{"access_token": "for " + r.URL.Query().Get("scope")}))
					return true
				}
				scope := "registry:catalog:*"
				if strings.HasPrefix(r.URL.Path, "/v2/shop/") {
					scope = "repository:shop:pull"
				}
				if r.Header.Get("Authorization") == "Bearer for "+scope {
					return false
				}
				// Not all registries say which right is missing.
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="registry"`, h.host()))
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			anonymous(t)
			s, h := newShelf(t)
			s.put("shop", "1", dockerImage("1"))
			h.before = tc.wants(h)
			w := asset.Registry{Host: h.host()}
			dockerConfigFile(t, object{"auths": object{h.host(): object{"auth": inBase64(user + ":" + password)}}})
			r, _ := watcher(t, oci.Options{})
			names, err := listed(r.Repositories(t.Context(), w))
			if err != nil || !slices.Equal(names, []string{"shop"}) {
				t.Errorf("repositories %q, %v", names, err)
			}
			images, err := listed(r.Images(t.Context(), w, "shop", anyTag))
			if err != nil || len(images) != 1 {
				t.Errorf("images %v, %v", images, err)
			}

			dockerConfigFile(t, object{"auths": object{h.host(): object{"auth": inBase64(user + ":wrong-very-secret")}}})
			_, err = listed(r.Repositories(t.Context(), w))
			if !fault.Is(err, fault.Unauthenticated) || strings.Contains(fmt.Sprint(err), "very-secret") {
				t.Errorf("with a wrong password: %v", err)
			}
		})
	}
	t.Run("a right that nobody has", func(t *testing.T) {
		anonymous(t)
		_, h := newShelf(t)
		h.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				_, _ = w.Write(asJSON(object{"token": "nobody's"}))
				return true
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="registry",scope="registry:catalog:*",error="insufficient_scope"`, h.host()))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		r, _ := watcher(t, oci.Options{})
		if _, err := listed(r.Repositories(t.Context(), asset.Registry{Host: h.host()})); !fault.Is(err, fault.Unsupported) {
			t.Errorf("error %v, want it to be unsupported", err)
		}
	})
}

// Plain HTTP is spoken with a registry elsewhere only where that is configured,
// and then when its images are opened too.
func TestWatchPlainHTTP(t *testing.T) {
	anonymous(t)
	s, h := newShelf(t)
	s.put("shop", "1", dockerImage("1"))
	r, _ := watcher(t, oci.Options{})
	r.WithDial(h.host())
	w := asset.Registry{Host: "registry.example:5000"}
	if _, err := listed(r.Images(t.Context(), w, "shop", anyTag)); err == nil || h.count("shop") > 0 {
		t.Errorf("error %v, want no request in the clear", err)
	}
	w.PlainHTTP = true
	if got, err := listed(r.Images(t.Context(), w, "shop", anyTag)); err != nil || len(got) != 1 {
		t.Errorf("permitted: %v, %v", got, err)
	}
	_, err := r.Open(t.Context(), "registry.example:5000/shop:1", oci.Choice{})
	if h.count("GET /v2/shop/manifests/1") != 1 {
		t.Errorf("its images are not opened: %v", err)
	}
	w.PlainHTTP = false
	if _, err := listed(r.Images(t.Context(), w, "shop", anyTag)); err == nil {
		t.Error("no longer permitted, and spoken all the same")
	}
}

// A host that is configured twice is asked as the stricter of both wants, in
// whatever order they are used, and a pause that it asked for is kept.
func TestAHostThatIsConfiguredTwice(t *testing.T) {
	anonymous(t)
	s, h := newShelf(t)
	for i := range 20 {
		s.put("shop", fmt.Sprint(i), dockerImage(fmt.Sprint(i)))
	}
	r, c := watcher(t, oci.Options{})
	r.WithDial(h.host())
	slow := asset.Registry{Name: "slow", Host: "registry.example:5000", PlainHTTP: true, Rate: 2}
	fast := asset.Registry{Name: "fast", Host: "registry.example:5000", PlainHTTP: true, Rate: 500}
	took := func(w asset.Registry) time.Duration {
		t.Helper()
		began := c.time()
		if got, err := listed(r.Images(t.Context(), w, "shop", anyTag)); err != nil || len(got) != 20 {
			t.Fatalf("%s: %d images, %v", w.Name, len(got), err)
		}
		return c.time().Sub(began)
	}
	took(slow)
	if d := took(fast); d < 8*time.Second {
		t.Errorf("the faster one took %s for 21 requests at two a second", d)
	}
	_ = c.sleep(t.Context(), 59*time.Minute)
	took(fast)
	_ = c.sleep(t.Context(), 2*time.Minute) // the slower one was not used for an hour
	if d := took(fast); d > time.Second {
		t.Errorf("it took %s when the slower one is forgotten", d)
	}

	strict := asset.Registry{Name: "strict", Host: "registry.example:5000", Rate: 500}
	h.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	if _, err := listed(r.Images(t.Context(), fast, "shop", anyTag)); !fault.Is(err, fault.Exhausted) {
		t.Fatalf("error %v", err)
	}
	h.before = nil
	before := h.count()
	for _, w := range []asset.Registry{strict, fast, strict} {
		if _, err := listed(r.Images(t.Context(), w, "shop", anyTag)); err == nil {
			t.Errorf("%s: asked in the clear, or in a pause", w.Name)
		}
	}
	if n := h.count(); n != before {
		t.Errorf("%d requests were sent in the pause", n-before)
	}
	_ = c.sleep(t.Context(), 55*time.Minute)
	_ = c.sleep(t.Context(), 4*time.Minute)
	if _, err := r.Open(t.Context(), "registry.example:5000/shop:1", oci.Choice{}); err == nil || h.count() != before {
		t.Errorf("opened in the clear, which one of two does not permit: %v", err)
	}
	_ = c.sleep(t.Context(), 2*time.Hour)
	if _, err := r.Open(t.Context(), "registry.example:5000/shop:1", oci.Choice{}); err == nil || h.count() != before {
		t.Errorf("opened in the clear, which nobody permits any more: %v", err)
	}
	if d := took(fast); d > time.Second {
		t.Errorf("it took %s when the others are forgotten", d)
	}
}

// A name that every reference takes for a repository of Docker Hub is no host.
func TestAHostIsNoRepositoryOfDockerHub(t *testing.T) {
	anonymous(t)
	_, h := newShelf(t)
	r, _ := watcher(t, oci.Options{})
	r.WithDial(h.host())
	for host, ok := range map[string]bool{"registry": false, "registry:5000": true, "registry.example": true, "localhost": true, "docker.io": true, "[::1]": true} {
		err := r.Configure(asset.Registry{Host: host})
		if (err == nil) != ok || !ok && (!fault.Is(err, fault.Invalid) || !strings.Contains(fault.Remedy(err), "port")) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if h.count() > 0 {
		t.Error("somebody was asked")
	}
}

// Docker Hub's own images are below library.
func TestDockerHubNames(t *testing.T) {
	anonymous(t)
	s, h := newShelf(t)
	s.put("library/alpine", "3", dockerImage("3"))
	r, _ := watcher(t, oci.Options{PlainHTTP: true})
	r.WithDial(h.host())
	got, err := listed(r.Images(t.Context(), asset.Registry{Host: "docker.io", PlainHTTP: true}, "alpine", anyTag))
	if err != nil || len(got) != 1 || got[0].Repository != "alpine" {
		t.Errorf("images %v, %v", got, err)
	}
}

// BenchmarkWatch lists a registry on this machine, in images a second: those of
// Docker's manifests take one request each, those of OCI's two when they are new.
func BenchmarkWatch(b *testing.B) {
	b.Setenv("DOCKER_CONFIG", b.TempDir())
	for name, image := range map[string]func(string) []byte{"docker": dockerImage, "oci": ociImage} {
		s, h := newShelf(b)
		s.page = 1000
		for i := range 100 {
			for j := range 100 {
				s.put(fmt.Sprintf("team%d/service%d", i%10, i), fmt.Sprintf("v%d", j), image(fmt.Sprintf("%d.%d", i, j)))
			}
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r, err := oci.NewRegistry(oci.Options{}, slog.New(slog.DiscardHandler))
				if err != nil {
					b.Fatal(err)
				}
				images := 0
				w := asset.Registry{Host: h.host()}
				for name, err := range r.Repositories(b.Context(), w) {
					if err != nil {
						b.Fatal(err)
					}
					for _, err := range r.Images(b.Context(), w, name, anyTag) {
						if err != nil {
							b.Fatal(err)
						}
						images++
					}
				}
				if images != 10_000 {
					b.Fatalf("%d images", images)
				}
				_ = r.Close()
			}
			b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}
