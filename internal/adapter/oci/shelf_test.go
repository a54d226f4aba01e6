package oci_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/oci"
)

// shelf is a registry as far as it lists, in the pages of the distribution
// specification.
type shelf struct {
	repositories []string
	tags         map[string][]string // by repository
	manifests    map[string]held     // by repository:tag and repository:digest
	page         int                 // how many names a page has at most
	link         string              // of the next page, with %s for its path and query
}

// held is a manifest on a shelf.
type held struct {
	b                 []byte
	digest, mediaType string
}

// ServeHTTP answers what lists and what reads manifests.
func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	switch {
	case !ok:
		http.NotFound(w, r)
	case path == "":
	case path == "_catalog":
		s.list(w, r, "repositories", s.repositories)
	case strings.HasSuffix(path, "/tags/list"):
		tags, ok := s.tags[strings.TrimSuffix(path, "/tags/list")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`)
			return
		}
		s.list(w, r, "tags", tags)
	default:
		s.manifest(w, r, path)
	}
}

func (s *shelf) list(w http.ResponseWriter, r *http.Request, member string, names []string) {
	from := 0
	if last := r.URL.Query().Get("last"); last != "" {
		from = slices.Index(names, last) + 1
	}
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	names = names[from:]
	if most := min(n, s.page); most < len(names) {
		names = names[:most]
		next := fmt.Sprintf("%s?last=%s&n=%d", r.URL.Path, names[most-1], n)
		w.Header().Set("Link", fmt.Sprintf("<"+s.link+`>; rel="next"`, next))
	}
	_, _ = w.Write(asJSON(object{member: names, "name": "x"}))
}

func (s *shelf) manifest(w http.ResponseWriter, r *http.Request, path string) {
	repository, id, _ := strings.Cut(path, "/manifests/")
	m, ok := s.manifests[repository+":"+id]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", m.digest)
	_, _ = w.Write(m.b)
}

// put adds a manifest.
func (s *shelf) put(repository, tag string, b []byte) {
	if _, known := s.tags[repository]; !known {
		s.repositories = append(s.repositories, repository)
	}
	s.tags[repository] = append(s.tags[repository], tag)
	m := held{b, digest(b), typeOf(b)}
	s.manifests[repository+":"+tag], s.manifests[repository+":"+m.digest] = m, m
}

func newShelf(t testing.TB) (*shelf, *hub) {
	t.Helper()
	s := &shelf{tags: map[string][]string{}, manifests: map[string]held{}, page: 3, link: "%s"}
	h := &hub{store: s}
	h.prepare(t)
	h.Start()
	return s, h
}

// answers has a registry answer each request that is of these words with a
// status and a body instead.
func (h *hub) answers(words string, status int, body string, header ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Method+" "+r.URL.Path, words) {
			return false
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
		return true
	}
}

// clock is time that passes only while somebody sleeps.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	longer []time.Duration // the pauses of a second and more
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	if d >= time.Second {
		c.longer = append(c.longer, d)
	}
	return ctx.Err()
}

// watcher is a door whose time is c.
func watcher(t testing.TB, o oci.Options) (*oci.Registry, *clock) {
	t.Helper()
	r, _ := door(t, o)
	c := &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	return r.WithSleep(c.sleep).WithClock(c.time), c
}

// listed reads a list to its end.
func listed[T any](seq func(func(T, error) bool)) (all []T, err error) {
	for v, e := range seq {
		if e != nil {
			err = e
			continue
		}
		all = append(all, v)
	}
	return all, err
}

func anyTag(string) bool { return true }

// manifestWith is a manifest of that type with a configuration of another.
func manifestWith(mediaType, configType, layerType, salt string) []byte {
	part := func(mediaType, content string) object {
		return object{"mediaType": mediaType, "digest": digest([]byte(content)), "size": len(content)}
	}
	return asJSON(object{"schemaVersion": 2, "mediaType": mediaType, "config": part(configType, "config "+salt), "layers": []object{part(layerType, "layer "+salt)}})
}

// ociImage and dockerImage are manifests of images, each of another one.
func ociImage(salt string) []byte {
	return manifestWith(ociManifest, "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip", salt)
}

func dockerImage(salt string) []byte {
	return manifestWith(dockerSchema, dockerConfig, dockerLayer+".gzip", salt)
}
