package feeds

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	tracker      = "security-tracker.debian.org/tracker/data/json"
	trackerLocal = "debian/data.json"
)

// document is a JSON document of about n bytes that no two calls have in common.
func document(n int, seed string) string {
	return `{"` + seed + `":"` + strings.Repeat(seed, n/len(seed)) + `"}`
}

func TestFetchesOnlyWhatHasChanged(t *testing.T) {
	p := newPublisher(t)
	p.put(tracker, document(1000, "a"))
	f := p.fetcher()
	if u := mustUpdate(t, f, "debian"); u.Changed != 1 || u.Bytes == 0 || content(t, f, trackerLocal) != document(1000, "a") {
		t.Errorf("first: %+v", u)
	}
	if u := mustUpdate(t, f, "debian"); u.Changed != 0 || u.Unchanged != 1 || u.Bytes != 0 {
		t.Errorf("unchanged: %+v", u)
	}
	again := p.fetcherIn(f.dir, Options{})
	if u := mustUpdate(t, again, "debian"); u.Changed != 0 {
		t.Errorf("unchanged, by another process: %+v", u)
	}
	p.put(tracker, document(2000, "b"))
	if u := mustUpdate(t, f, "debian"); u.Changed != 1 || content(t, f, trackerLocal) != document(2000, "b") {
		t.Errorf("changed: %+v", u)
	}
}

func TestFetchesAgainWhatIsDamaged(t *testing.T) {
	p := newPublisher(t)
	p.put(tracker, document(1000, "a"))
	f := p.fetcher()
	mustUpdate(t, f, "debian")
	for _, name := range []string{trackerLocal, "debian/" + stateFile} {
		if err := replace(f.dir+"/"+name, []byte("{")); err != nil {
			t.Fatal(err)
		}
		if u := mustUpdate(t, f, "debian"); u.Changed != 1 || content(t, f, trackerLocal) != document(1000, "a") {
			t.Errorf("with a damaged %s: %+v", name, u)
		}
	}
}

func TestResumes(t *testing.T) {
	p := newPublisher(t)
	doc := document(1_000_000, "abc")
	p.put(tracker, doc).cuts = []int{100_000, 200_000, 300_000}
	f := p.fetcher()
	u := mustUpdate(t, f, "debian")
	if content(t, f, trackerLocal) != doc {
		t.Error("the file is not what was published")
	}
	if u.Bytes != int64(len(doc)) {
		t.Errorf("%d bytes were fetched of %d: nothing must be fetched twice", u.Bytes, len(doc))
	}
	want := []string{tracker, tracker + " bytes=100000-", tracker + " bytes=300000-", tracker + " bytes=600000-"}
	if got := p.asked(); !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

func TestResumesInAnotherProcess(t *testing.T) {
	p := newPublisher(t)
	doc := document(100_000, "abc")
	file := p.put(tracker, doc)
	file.cuts = []int{60_000}
	file.statuses = nil
	f := p.fetcher()
	ctx, cancel := context.WithCancel(t.Context())
	f.pause = func(context.Context, time.Duration) error { // the first process dies while it waits
		cancel()
		return ctx.Err()
	}
	s, _ := Named("debian")
	if _, err := f.Update(ctx, []Source{s}); err == nil {
		t.Fatal("no error")
	}
	if content(t, f, trackerLocal) != "" {
		t.Fatal("half a file is in the place of a whole one")
	}
	p.asked()
	u := mustUpdate(t, p.fetcherIn(f.dir, Options{}), "debian")
	if got := p.asked(); len(got) != 1 || got[0] != tracker+" bytes=60000-" || u.Bytes != int64(len(doc)-60_000) {
		t.Errorf("asked for %q, got %d bytes", got, u.Bytes)
	}
	if content(t, f, trackerLocal) != doc {
		t.Error("the file is not what was published")
	}
}

func TestAFileThatChangesWhileItIsFetched(t *testing.T) {
	old, news := document(100_000, "old"), document(100_000, "new")
	for _, tc := range []struct {
		name string
		// change is what the publisher does between the first part and the second.
		change func(p *publisher)
	}{
		{"a publisher that keeps to the rules", func(p *publisher) { p.put(tracker, news) }},
		{"one that ignores If-Range", func(p *publisher) {
			p.put(tracker, news).answer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"new"`)
				r.Header.Del("If-Range")
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader(news))
			})
		}},
		{"one that has no ranges", func(p *publisher) {
			p.put(tracker, news).answer = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, news) })
		}},
		{"one that says it is too short for the rest", func(p *publisher) {
			p.put(tracker, news).answer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
					return
				}
				_, _ = io.WriteString(w, news)
			})
		}},
		{"one whose sum tells", func(p *publisher) {
			p.put(tracker, news).answer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"the same"`)
				sum := md5.Sum([]byte(news))
				w.Header().Set("X-Goog-Hash", "crc32c=AAAAAA==,md5="+base64.StdEncoding.EncodeToString(sum[:]))
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader(news))
			})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPublisher(t)
			sum := md5.Sum([]byte(old))
			file := p.put(tracker, old)
			file.cuts = []int{50_000}
			if strings.Contains(tc.name, "sum") {
				file.header.Set("ETag", `"the same"`)
				file.header.Set("X-Goog-Hash", "md5="+base64.StdEncoding.EncodeToString(sum[:]))
			}
			f := p.fetcher()
			f.pause = func(context.Context, time.Duration) error {
				if tc.change != nil {
					tc.change(p)
				}
				return nil
			}
			mustUpdate(t, f, "debian")
			if got := content(t, f, trackerLocal); got != news {
				t.Errorf("got a mixture: %.20s … %.20s", got, got[len(got)-20:])
			}
		})
	}
}

func TestLyingPublishers(t *testing.T) {
	const good = `{"good":true}`
	handler := func(do func(w http.ResponseWriter, r *http.Request)) http.Handler { return http.HandlerFunc(do) }
	partial := func(contentRange, body string) http.Handler {
		return handler(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"x"`)
			if r.Header.Get("Range") == "" {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, strings.Repeat("{", 500))
				if f, ok := w.(http.Flusher); ok {
					f.Flush()
				}
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, body)
		})
	}
	for _, tc := range []struct {
		name   string
		answer http.Handler
		want   string
		kind   fault.Kind
	}{
		{"a length that never comes", handler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"a":`)
		}), "EOF", fault.Unavailable},
		{"a length beyond the limit", handler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(maxKEV+1))
			_, _ = io.WriteString(w, `{`)
		}), "larger than", fault.Exhausted},
		{"a file without end", handler(func(w http.ResponseWriter, _ *http.Request) {
			block := []byte(strings.Repeat("{", 1<<20))
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}), "larger than", fault.Exhausted},
		{"the wrong part", partial("bytes 400-999/1000", strings.Repeat("x", 600)), "EOF", fault.Unavailable},
		{"a part of nothing", partial("bytes */1000", "x"), "EOF", fault.Unavailable},
		{"a part that does not reach the end", partial("bytes 500-600/1000", strings.Repeat("x", 101)), "EOF", fault.Unavailable},
		{"a login page", handler(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>Please log in</html>") }), "begins with", fault.Conflict},
		{"nothing", handler(func(http.ResponseWriter, *http.Request) {}), "begins with", fault.Conflict},
		{"unchanged, of what was never fetched", handler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }), "never fetched", fault.Unknown},
		{"no such file", handler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }), "no such file", fault.Unknown},
		{"not for you", handler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }), "403", fault.Denied},
		{"a teapot", handler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }), "418", fault.Invalid},
		{"broken all the time", handler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }), "502", fault.Unavailable},
		{"redirected without end", handler(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }), "redirections", fault.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPublisher(t)
			const address, local = "www.cisa.gov/sites/default/files/feeds/" + kevFile, "kev/" + kevFile
			p.put(address, good)
			f := p.fetcher()
			if !strings.HasPrefix(tc.name, "unchanged") {
				mustUpdate(t, f, "kev")
			}
			p.put(address, "").answer = tc.answer
			u := update1(t, f, "kev")
			if u.Err == nil || !strings.Contains(u.Err.Error(), tc.want) || fault.Of(u.Err) != tc.kind {
				t.Errorf("got %v (%v), want %q (%v)", u.Err, fault.Of(u.Err), tc.want, tc.kind)
			}
			if !strings.Contains(fmt.Sprint(u.Err), "kev") || strings.Count(fmt.Sprint(u.Err), "https://") > 1 {
				t.Errorf("the error doesn't say once of what it is: %v", u.Err)
			}
			if got := content(t, f, local); got != good && !strings.HasPrefix(tc.name, "unchanged") {
				t.Errorf("the good file was replaced by %.40q", got)
			}
		})
	}
}

func TestWaitsAsThePublisherAsks(t *testing.T) {
	p := newPublisher(t)
	file := p.put(tracker, `{}`)
	file.statuses = []int{503, 429, 500}
	file.header.Set("Retry-After", "7")
	f := p.fetcher()
	var waits []time.Duration
	f.pause = func(_ context.Context, d time.Duration) error {
		waits = append(waits, d)
		if len(waits) == 2 {
			file.header.Set("Retry-After", "86400")
		}
		return nil
	}
	mustUpdate(t, f, "debian")
	if len(waits) != 3 || waits[0] != 7*time.Second || waits[1] != 7*time.Second || waits[2] != longestRetryAfter {
		t.Errorf("waited %v", waits)
	}
}

func TestWaitsLongerEachTime(t *testing.T) {
	p := newPublisher(t)
	p.put(tracker, `{}`).statuses = []int{500, 500, 500, 500}
	f := p.fetcher()
	var waits []time.Duration
	f.pause = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	mustUpdate(t, f, "debian")
	for i, w := range waits {
		if least := firstPause << i; w < least || w > least+least/2 {
			t.Errorf("waited %v before try %d, want %v to %v", w, i+2, least, least+least/2)
		}
	}
	if len(waits) != 4 {
		t.Errorf("waited %d times", len(waits))
	}
}

func TestNeverFromHTTPSToHTTP(t *testing.T) {
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }))
	defer open.Close()
	closed := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, open.URL, http.StatusFound) }))
	defer closed.Close()
	f, err := NewFetcher(t.TempDir(), Options{Mirror: closed.URL, Transport: closed.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	f.pause = func(context.Context, time.Duration) error { return nil }
	if u := update1(t, f, "kev"); u.Err == nil || !strings.Contains(u.Err.Error(), "open connection") {
		t.Errorf("got %v", u.Err)
	}
}

func TestAsksOneHostLittleAtATime(t *testing.T) {
	p := newPublisher(t)
	gate := make(chan struct{})
	for _, b := range alpineBranches() {
		p.put("secdb.alpinelinux.org/"+b+"/main.json", `{}`).wait = gate
	}
	f := p.fetcher()
	done := make(chan Updated)
	go func() { done <- update1(t, f, "alpine") }()
	for range alpineBranches() {
		gate <- struct{}{}
	}
	if u := <-done; u.Err != nil || u.Changed != len(alpineBranches()) {
		t.Errorf("got %+v", u)
	}
	if p.busiest > perHost {
		t.Errorf("%d requests at a time", p.busiest)
	}
}

func TestOneSourceThatFailsLeavesTheOthers(t *testing.T) {
	p := newPublisher(t)
	p.put(tracker, `{}`)
	f := p.fetcher()
	var sources []Source
	for _, name := range []string{"kev", "debian"} {
		s, _ := Named(name)
		sources = append(sources, s)
	}
	all, err := f.Update(t.Context(), sources)
	if err == nil || !strings.Contains(err.Error(), "fetch kev") || all[0].Err == nil || all[1].Err != nil || all[1].Changed != 1 {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestMirror(t *testing.T) {
	p := newPublisher(t)
	p.put("mirror.example/feeds/osv/Rocky Linux/all.zip", "PK")
	p.put("mirror.example/feeds/debian/data.json", "{}")
	f := p.fetcherIn(t.TempDir(), Options{Mirror: "http://mirror.example/feeds/"})
	for name, local := range map[string]string{"osv/Rocky Linux": "osv/Rocky Linux/all.zip", "debian": "debian/data.json"} {
		mustUpdate(t, f, name)
		if content(t, f, local) == "" {
			t.Errorf("%s is not there", local)
		}
	}
	for _, asked := range p.asked() {
		if !strings.HasPrefix(asked, "mirror.example/feeds/") {
			t.Errorf("asked %s beside the mirror", asked)
		}
	}
	for _, bad := range []string{"/srv/mirror", "ftp://a", "http://"} {
		if _, err := NewFetcher(t.TempDir(), Options{Mirror: bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("mirror %q: %v", bad, err)
		}
	}
}

func TestTellsProgress(t *testing.T) {
	p := newPublisher(t)
	doc := document(1_000_000, "a")
	p.put(tracker, doc)
	var last Progress
	f := p.fetcherIn(t.TempDir(), Options{Progress: func(now Progress) {
		if now.Done < last.Done {
			t.Errorf("back from %d to %d", last.Done, now.Done)
		}
		last = now
	}})
	mustUpdate(t, f, "debian")
	if want := (Progress{Source: "debian", File: trackerLocal, Done: int64(len(doc)), Total: int64(len(doc))}); last != want {
		t.Errorf("got %+v, want %+v", last, want)
	}
}
