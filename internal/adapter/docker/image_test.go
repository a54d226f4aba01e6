package docker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

const (
	imageID  = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	baseDiff = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	appDiff  = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	pushed   = "sha256:abababababababababababababababababababababababababababababababab"
)

// inspected is what an engine says of an image; extra comes at its end.
func inspected(extra string) string {
	return fmt.Sprintf(`{"Id":%q,"RepoTags":["shop/web:1"],"RepoDigests":["other@sha256:%s","shop/web@%s"],
		"Created":"2026-11-23T20:04:12.5Z","Architecture":"arm64","Variant":"v8","Os":"linux","Size":1000,
		"Config":{"User":"1000","Env":["A=b"],"Cmd":["--port","80"],"Entrypoint":["/web"],"WorkingDir":"/","ExposedPorts":{"80/tcp":{}},
		"Volumes":{"/data":{}},"Labels":{"a":"b"},"Healthcheck":{"Test":["CMD","/web"]}},
		"RootFS":{"Type":"layers","Layers":[%q,%q]}%s}`, imageID, strings.Repeat("c", 64), pushed, baseDiff, appDiff, extra)
}

const historied = `[{"Id":"sha256:a","Created":1700000002,"CreatedBy":"CMD [\"--port\"]","Size":0,"Comment":"buildkit.dockerfile.v0"},
	{"Id":"<missing>","Created":1700000001,"CreatedBy":"RUN /bin/sh -c make # buildkit","Size":500,"Comment":""},
	{"Id":"<missing>","Created":1700000000,"CreatedBy":"/bin/sh -c #(nop) ADD file:1 in / ","Size":500,"Comment":""}]`

// withImage has an engine know shop/web:1.
func withImage(t *testing.T, api, extra string) *fake {
	t.Helper()
	f := serve(t, api, "1.41")
	for _, name := range []string{"shop/web:1", imageID} {
		f.say("/images/"+name+"/json", inspected(extra))
	}
	f.say("/images/"+imageID+"/history", historied)
	f.say("/images/get", "an archive")
	return f
}

// reader stands for the reader of archives: it hands one layer over.
type reader struct {
	known []inventory.Image
	got   inventory.Image
	bytes string
	err   error
}

func (r *reader) read(ctx context.Context, archive io.Reader, known inventory.Image, skip func(inventory.Layer) bool,
	take func(context.Context, inventory.Layer, io.Reader) error) (inventory.Image, error) {
	r.known = append(r.known, known)
	b, err := io.ReadAll(archive)
	r.bytes = string(b)
	if err := errors.Join(err, r.err); err != nil {
		return inventory.Image{}, err
	}
	if l := (inventory.Layer{Size: 5}); !skip(l) {
		if err := take(ctx, l, strings.NewReader("layer")); err != nil {
			return inventory.Image{}, err
		}
	}
	return r.got, nil
}

func engine(t *testing.T, f *fake) *docker.Engine {
	t.Helper()
	e, err := docker.New(docker.Options{Host: "unix://" + f.socket}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func openImage(t *testing.T, f *fake, name string, p inventory.Platform, r *reader) *docker.Image {
	t.Helper()
	i, err := engine(t, f).OpenImage(t.Context(), name, p, r.read)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

// query returns the query of the last request for a path.
func (f *fake) query(path string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.queries[path]
}

func TestImage(t *testing.T) {
	i := openImage(t, withImage(t, "1.41", ""), "shop/web:1", inventory.Platform{}, &reader{})
	want := inventory.Image{
		Reference: "shop/web:1", Digest: pushed, ID: imageID,
		Platform: inventory.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
		Created:  time.Date(2026, 11, 23, 20, 4, 12, 500_000_000, time.UTC),
		Config: inventory.Config{
			User: "1000", Env: []string{"A=b"}, Cmd: []string{"--port", "80"}, Entrypoint: []string{"/web"}, WorkingDir: "/",
			ExposedPorts: []string{"80/tcp"}, Volumes: []string{"/data"}, Labels: map[string]string{"a": "b"}, Healthcheck: []string{"CMD", "/web"},
		},
		Layers: []inventory.Layer{{DiffID: baseDiff, Instruction: "ADD file:1 in /"}, {DiffID: appDiff, Instruction: "RUN make"}},
		History: []inventory.Step{
			{Created: time.Unix(1700000000, 0).UTC(), Instruction: "ADD file:1 in /"},
			{Created: time.Unix(1700000001, 0).UTC(), Instruction: "RUN make"},
			{Created: time.Unix(1700000002, 0).UTC(), Instruction: `CMD ["--port"]`, Comment: "buildkit.dockerfile.v0", Empty: true},
		},
	}
	if diff := cmp.Diff(want, i.Image()); diff != "" {
		t.Errorf("Image() (-want +got):\n%s", diff)
	}
}

// Which platform is asked for, of engines of all ages and both stores.
func TestPlatformOfAnImage(t *testing.T) {
	const containerd = `,"Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"` + imageID + `","size":856}`
	const arm = `{"architecture":"arm64","os":"linux","variant":"v8"}`
	for _, tc := range []struct {
		name, api, extra string
		asked            inventory.Platform
		inspect, save    string // the platform in their queries
		words            string // of an error
	}{
		{"none asked", "1.41", "", inventory.Platform{}, "", "", ""},
		{"none asked, newest", "1.56", "", inventory.Platform{}, "", "", ""},
		{"none asked, containerd store", "1.56", containerd, inventory.Platform{}, "", arm, ""},
		{"that which it has", "1.41", "", inventory.Platform{Architecture: "arm64"}, "", "", ""},
		{"with its variant", "1.41", "", inventory.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, "", "", ""},
		{"another", "1.41", "", inventory.Platform{OS: "linux", Architecture: "amd64"}, "", "", "linux/arm64/v8, and linux/amd64"},
		{"another system", "1.41", "", inventory.Platform{OS: "windows", Architecture: "arm64"}, "", "", "windows/arm64"},
		{"asked of the engine", "1.56", containerd, inventory.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, arm, arm, ""},
		{"asked of an engine that can only save it", "1.48", containerd, inventory.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, "", arm, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := withImage(t, tc.api, tc.extra)
			r := &reader{got: inventory.Image{Layers: []inventory.Layer{{DiffID: baseDiff}, {DiffID: appDiff}}, Digest: "made up"}}
			i, err := engine(t, f).OpenImage(t.Context(), "shop/web:1", tc.asked, r.read)
			if tc.words != "" {
				if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), tc.words) || fault.Remedy(err) == "" {
					t.Errorf("OpenImage() = %v, want not found with %q", err, tc.words)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = i.Close() }()
			none := func(inventory.Layer) bool { return false }
			if err := i.Each(t.Context(), 2, none, func(context.Context, inventory.Layer, io.Reader) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if got := f.query("/images/shop/web:1/json"); got != platformIn(tc.inspect) {
				t.Errorf("inspected with %q, want %q", got, platformIn(tc.inspect))
			}
			want := "names=sha256%3A" + strings.TrimPrefix(imageID, "sha256:")
			if p := platformIn(tc.save); p != "" {
				want += "&" + p
			}
			if got := f.query("/images/get"); got != want {
				t.Errorf("saved with %q, want %q", got, want)
			}
			// An engine that keeps no manifests makes one up for the archive.
			if got := i.Image().Digest; tc.extra == "" && got != pushed || tc.extra != "" && got != "made up" {
				t.Errorf("digest = %s", got)
			}
		})
	}
}

func platformIn(p string) string {
	if p == "" {
		return ""
	}
	return "platform=" + strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", ":", "%3A", ",", "%2C").Replace(p)
}

func TestEachOfAnEngine(t *testing.T) {
	layers := []inventory.Layer{{DiffID: baseDiff}, {DiffID: appDiff}}
	for _, tc := range []struct {
		name   string
		skip   string // diff ids of layers that are known already
		reader reader
		save   http.HandlerFunc
		saved  int // how often the image is asked for
		kind   fault.Kind
		words  string
	}{
		{name: "all", reader: reader{got: inventory.Image{Layers: layers}}, saved: 1},
		{name: "one is known", skip: baseDiff, reader: reader{got: inventory.Image{Layers: layers}}, saved: 1},
		{name: "all are known", skip: baseDiff + appDiff},
		{name: "other layers", reader: reader{got: inventory.Image{Layers: layers[:1]}}, saved: 1, kind: fault.Corrupt, words: "other layers"},
		{name: "the archive is none", reader: reader{err: fault.New(fault.Invalid, "no archive")}, saved: 1, kind: fault.Invalid, words: "no archive"},
		{name: "the engine refuses", save: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"message":"no space left on device"}`)
		}, saved: 1, kind: fault.Unavailable, words: "no space left"},
		{name: "the engine breaks off", save: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "part")
		}, saved: 1, kind: fault.Unavailable, words: "broke off: unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := withImage(t, "1.41", "")
			if tc.save != nil {
				f.answer("/images/get", tc.save)
			}
			i := openImage(t, f, "shop/web:1", inventory.Platform{}, &tc.reader)
			taken := 0
			err := i.Each(t.Context(), 4, func(l inventory.Layer) bool { return l.DiffID != "" && strings.Contains(tc.skip, l.DiffID) },
				func(_ context.Context, _ inventory.Layer, r io.Reader) error {
					taken++
					_, err := io.Copy(io.Discard, r)
					return err
				})
			if (tc.words != "") != (err != nil) || err != nil && !strings.Contains(err.Error(), tc.words) || fault.Of(err) != tc.kind {
				t.Errorf("Each() = %v (%v), want %q (%v)", err, fault.Of(err), tc.words, tc.kind)
			}
			if got := f.count("/images/get"); got != tc.saved {
				t.Errorf("saved %d times, want %d", got, tc.saved)
			}
			if tc.saved == 1 && tc.save == nil {
				if tc.reader.bytes != "an archive" || tc.reader.known[0].ID != imageID {
					t.Errorf("the archive was %q of %+v", tc.reader.bytes, tc.reader.known)
				}
			}
		})
	}
}

func TestImagesThatAreNotThere(t *testing.T) {
	f := withImage(t, "1.41", "")
	f.answer("/images/shop/db:1/json", notFound)
	for _, tc := range []struct {
		name, image, words string
		kind               fault.Kind
	}{
		{"unknown", "shop/db:1", "No such container", fault.NotFound},
		{"leads elsewhere", "../containers/json?x=", "no engine can have one", fault.Invalid},
		{"leads up", "a/../../info", "no engine can have one", fault.Invalid},
		{"a query", "web?all=1", "no engine can have one", fault.Invalid},
		{"an option", "-a", "no engine can have one", fault.Invalid},
		{"empty", "", "no engine can have one", fault.Invalid},
		{"endless", strings.Repeat("a", 1<<20), "no engine can have one", fault.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := engine(t, f).OpenImage(t.Context(), tc.image, inventory.Platform{}, (&reader{}).read)
			if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.words) || fault.Remedy(err) == "" {
				t.Errorf("OpenImage() = %v (%v, %q), want %v with %q", err, fault.Of(err), fault.Remedy(err), tc.kind, tc.words)
			}
		})
	}
	t.Run("no engine", func(t *testing.T) {
		e, err := docker.New(docker.Options{Host: "unix:///nonexistent/docker.sock"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.OpenImage(t.Context(), "web", inventory.Platform{}, (&reader{}).read); !fault.Is(err, fault.Unavailable) {
			t.Errorf("OpenImage() = %v, want unavailable", err)
		}
	})
}

// An engine passes on what whoever made an image wrote.
func TestHostileImages(t *testing.T) {
	for _, tc := range []struct{ name, inspect, history, words string }{
		{"another kind of id", strings.Replace(inspected(""), imageID, "../../x", 1), historied, "gives its id"},
		{"layer that is none", strings.Replace(inspected(""), baseDiff, "sha256:x", 1), historied, "layer"},
		{"endless layers", strings.Replace(inspected(""), `"Layers":[`, `"Layers":[`+strings.Repeat(`"`+baseDiff+`",`, 2000), 1), historied, "2002 layers"},
		{"endless inspection", `{"Id":"` + strings.Repeat("a", 10<<20), historied, "longer than"},
		{"not JSON", "hello", historied, "parse answer"},
		{"endless history", inspected(""), "[" + strings.Repeat(`{"CreatedBy":"x"},`, 1<<20), "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := withImage(t, "1.41", "")
			f.say("/images/shop/web:1/json", tc.inspect)
			f.say("/images/"+imageID+"/history", tc.history)
			_, err := engine(t, f).OpenImage(t.Context(), "shop/web:1", inventory.Platform{}, (&reader{}).read)
			if err == nil || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("OpenImage() = %v, want %q", err, tc.words)
			}
		})
	}
}

// A workload's image is the one it was started from, not what its name means by
// now.
func TestImageOfAWorkload(t *testing.T) {
	f := withImage(t, "1.41", "")
	f.say("/images/registry.example:5000/shop/web@"+pushed+"/json", inspected(""))
	f.answer("/images/gone:1/json", notFound)
	for _, tc := range []struct {
		name  string
		of    asset.Image
		asked string
		kind  fault.Kind
	}{
		{"by id", asset.Image{Reference: "shop/web:2", ID: imageID, Digest: pushed}, "/images/" + imageID + "/json", 0},
		{"by digest", asset.Image{Reference: "registry.example:5000/shop/web:2", Digest: pushed}, "/images/registry.example:5000/shop/web@" + pushed + "/json", 0},
		{"by name", asset.Image{Reference: "shop/web:1"}, "/images/shop/web:1/json", 0},
		{"removed", asset.Image{Reference: "gone:1"}, "/images/gone:1/json", fault.NotFound},
		{"unknown", asset.Image{}, "", fault.NotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := f.count(tc.asked)
			i, err := engine(t, f).OpenWorkloadImage(t.Context(), tc.of, (&reader{}).read)
			if got := fault.Of(err); got != tc.kind {
				t.Fatalf("OpenWorkloadImage() = %v (%v), want %v", err, got, tc.kind)
			}
			if tc.asked != "" && f.count(tc.asked) != before+1 {
				t.Errorf("asked %q, want %s", f.asked, tc.asked)
			}
			if err != nil {
				if fault.Remedy(err) == "" {
					t.Errorf("%q has no remedy", err)
				}
				return
			}
			defer func() { _ = i.Close() }()
			if got := i.Image(); got.ID != imageID || got.Reference != tc.of.Reference {
				t.Errorf("image = %s %s", got.Reference, got.ID)
			}
		})
	}
}

func TestImages(t *testing.T) {
	f := serve(t, "1.41", "1.41")
	other := "sha256:" + strings.Repeat("b", 64)
	f.say("/images/json", fmt.Sprintf(`[
		{"Id":%q,"RepoTags":["<none>:<none>"],"RepoDigests":["<none>@<none>"],"Created":1600000000,"Size":5},
		{"Id":%q,"RepoTags":["shop/web:2","shop/web:1"],"RepoDigests":["shop/web@%s"],"Created":1700000000,"Size":1000},
		{"Id":"../x","RepoTags":["evil:1"],"Created":1,"Size":1}]`, other, imageID, pushed))
	got, err := engine(t, f).Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []docker.LocalImage{
		{ID: imageID, Names: []string{"shop/web:1", "shop/web:2"}, Digests: []string{"shop/web@" + pushed}, Created: time.Unix(1700000000, 0).UTC(), Size: 1000},
		{ID: other, Created: time.Unix(1600000000, 0).UTC(), Size: 5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Images() (-want +got):\n%s", diff)
	}
}
