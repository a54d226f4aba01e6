package docker

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/events"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
)

func TestBackoff(t *testing.T) {
	var b backoff
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000}
	for i, w := range want {
		if got := b.next(0.5); got != w*time.Millisecond {
			t.Errorf("pause %d = %s, want %s", i, got, w*time.Millisecond)
		}
	}
	if low, high := (&backoff{pause: 400 * time.Millisecond}).next(0), (&backoff{pause: 400 * time.Millisecond}).next(0.999); low != 600*time.Millisecond || high < 990*time.Millisecond || high > time.Second {
		t.Errorf("pauses spread from %s to %s, want the half around 800ms", low, high)
	}
	if got := (&backoff{pause: lastPause}).next(0.999); got != lastPause {
		t.Errorf("longest pause = %s, want %s", got, lastPause)
	}
}

// A network that a container joins to start is looked into with its start.
func TestJoinsWaitForStarts(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name   string
		runs   bool
		after  time.Duration
		starts bool
		taken  bool
	}{
		{"made", false, 0, false, false},
		{"about to start", false, joins - time.Millisecond, false, false},
		{"started", false, 0, true, true},
		{"never started", false, joins, false, true},
		{"running", true, 0, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newChanges()
			c.pending["x"] = &change{at: now}
			if tc.starts {
				c.add(message{id: "x", told: true, action: events.ActionStart})
			}
			batch, next := c.take(now.Add(tc.after), map[string]time.Time{}, func(string) bool { return tc.runs })
			if (len(batch) == 1) != tc.taken || (next == 0) != tc.taken || next > joins {
				t.Errorf("taken are %d, the next is due in %s", len(batch), next)
			}
		})
	}
}

func TestClean(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		limit    int
		want     string
	}{
		{"plain", "näme", 10, "näme"},
		{"cut between characters", "abcdef", 3, "abc"},
		{"character cut in half is dropped", "aäb", 2, "a"},
		{"four bytes cut", "a😀", 4, "a"},
		{"invalid", "a\xff\xfeb", 10, "a\ufffdb"},
		{"control characters", "a\x00\x1b[2J\u0085", 20, "a\ufffd\ufffd[2J\ufffd"},
		{"replacements don't exceed the limit", "\x00\x00\x00", 3, "\ufffd"},
		{"empty", "", 10, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := clean(tt.in, tt.limit); got != tt.want {
				t.Errorf("clean(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	step := func(by string, size int64) imageStep { return imageStep{CreatedBy: by, Size: size} }
	for _, tt := range []struct {
		name   string
		said   []imageStep
		layers int
		want   string // of each step, e for an empty one, l for a layer
	}{
		{"sizes alone tell", []imageStep{step("bazel build", 5), step("bazel build", 0)}, 1, "le"},
		{"a layer without a size", []imageStep{step("ADD x /", 5), step("WORKDIR /", 0), step("CMD x", 0)}, 2, "lle"},
		{"a variable with a size", []imageStep{step("ADD x /", 5), step("ENV a=b", 3)}, 2, "ll"},
		{"nothing tells", []imageStep{step("x", 0), step("y", 0)}, 1, "ll"},
		{"none", nil, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			for _, s := range steps(tt.said, tt.layers) {
				if s.Empty {
					got += "e"
				} else {
					got += "l"
				}
			}
			if got != tt.want {
				t.Errorf("steps() = %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzImageInspection(f *testing.F) {
	f.Add([]byte(`{"Id":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","Os":"linux","Config":{"Env":["a"]},"RootFS":{"Layers":[]}}`), "web:1")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		var in imageInspection
		if json.Unmarshal(b, &in) != nil || in.check(inventory.Platform{}) != nil {
			return
		}
		i := in.image(name)
		for _, l := range i.Layers {
			if inventory.CheckDigest(l.DiffID) != nil {
				t.Fatalf("layer %+v", l)
			}
		}
		if len(i.Layers) > maxLayers || len(i.Config.Env) > maxImageTexts {
			t.Fatalf("image %+v", i)
		}
		if isImageName(name) && strings.ContainsAny(name, "?#%\\ \n\x00") {
			t.Fatalf("%q is taken for a name", name)
		}
	})
}

func TestDigestOf(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, tt := range []struct {
		name, reference string
		known           []string
		want            string
	}{
		{"of the repository", "shop/web:1.4", []string{"other@" + a, "shop/web@" + b}, b},
		{"registry with a port", "registry:5000/web", []string{"other@" + a, "registry:5000/web@" + b}, b},
		{"registry with a port and a tag", "registry:5000/web:1", []string{"other@" + a, "registry:5000/web@" + b}, b},
		{"another name", "renamed", []string{"z@" + b, "other@" + a}, a},
		{"none", "local", nil, ""},
		{"malformed", "local", []string{"local@sha256:xyz", "local", "local@md5:" + strings.Repeat("a", 64)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := digestOf(tt.reference, tt.known); got != tt.want {
				t.Errorf("digestOf(%q) = %q, want %q", tt.reference, got, tt.want)
			}
		})
	}
}

func TestImagesAreBounded(t *testing.T) {
	d := newImages(nil)
	first := "sha256:" + strings.Repeat("0", 64)
	d.keep(first, imageFacts{RepoDigests: []string{"kept"}})
	for range maxImages + 10 {
		if _, ok := d.recall(first); !ok {
			t.Fatal("what is used often was forgotten")
		}
		d.keep(strings.Repeat("x", d.order.Len()), imageFacts{})
		d.keep(strings.Repeat("y", d.order.Len()), imageFacts{})
	}
	if len(d.byID) > maxImages || d.order.Len() != len(d.byID) {
		t.Errorf("%d images remembered in a list of %d, want at most %d", len(d.byID), d.order.Len(), maxImages)
	}
}

// Layers are told only where the engine describes the image that the container
// is of, and only as a whole.
func TestLayersOfImage(t *testing.T) {
	base, top := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	const ofContainer = `"ImageManifestDescriptor":{"digest":"` + "sha256:c" + `","platform":`
	deep := make([]string, maxLayers+1)
	for i := range deep {
		deep[i] = base
	}
	for _, tt := range []struct {
		name, container, image string
		layers                 []string // of the image
		want                   []string
	}{
		{"the engine's own store", `"Driver":"overlay2"`, "", []string{base, top}, []string{base, top}},
		{"the same layer twice", `"Driver":"overlay2"`, "", []string{base, base}, []string{base, base}},
		{"another driver", `"Driver":"btrfs"`, "", []string{base, top}, nil},
		{"containerd's store", `"Driver":"overlayfs",` + ofContainer + `{"os":"linux","architecture":"amd64"}}`, "", []string{base, top}, []string{base, top}},
		{"containerd's, before it said which", `"Driver":"overlayfs"`, "", []string{base, top}, nil},
		{"containerd's, for another processor", `"Driver":"overlayfs",` + ofContainer + `{"os":"linux","architecture":"arm64"}}`, "", []string{base, top}, nil},
		{"containerd's, without a platform", `"Driver":"overlayfs",` + ofContainer + `null}`, "", []string{base, top}, nil},
		{"a variant that goes without saying", `"Driver":"overlayfs",` + ofContainer + `{"os":"linux","architecture":"amd64","variant":"v1"}}`, "", []string{base}, []string{base}},
		{"another variant", `"Driver":"overlayfs",` + ofContainer + `{"os":"linux","architecture":"amd64","variant":"v2"}}`, `"Variant":"v3",`, []string{base}, nil},
		{"no diff id", `"Driver":"overlay2"`, "", []string{base, "../../etc/passwd"}, nil},
		{"more than the kernel stacks", `"Driver":"overlay2"`, "", deep, nil},
		{"none", `"Driver":"overlay2"`, "", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			layers, err := json.Marshal(tt.layers)
			if err != nil {
				t.Fatal(err)
			}
			var facts imageFacts
			answer := `{"Os":"linux","Architecture":"amd64",` + tt.image + `"RootFS":{"Type":"layers","Layers":` + string(layers) + `}}`
			if err := json.Unmarshal([]byte(answer), &facts); err != nil {
				t.Fatal(err)
			}
			var in inspection
			if err := json.Unmarshal([]byte(`{`+tt.container+`}`), &in); err != nil {
				t.Fatal(err)
			}
			d := newImages(nil)
			d.keep(base, facts)
			got := asset.Image{ID: base, Digest: base}
			d.describe(t.Context(), &in, &got)
			if diff := cmp.Diff(tt.want, got.Layers); diff != "" {
				t.Errorf("layers (-want +got):\n%s", diff)
			}
		})
	}
}

// A command line of any length stays within its limits.
func TestCommandIsBounded(t *testing.T) {
	args := make([]string, 1000)
	for i := range args {
		args[i] = strings.Repeat("x", 1000)
	}
	size := 0
	got := command("/bin/sh", args)
	for _, a := range got {
		size += len(a)
	}
	if len(got) > maxArguments || size > maxCommand {
		t.Errorf("%d arguments of %d bytes, want at most %d of %d", len(got), size, maxArguments, maxCommand)
	}
}

func seed(f *testing.F, files ...string) {
	f.Helper()
	for _, file := range files {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			if strings.HasSuffix(file, "l") {
				f.Add(line)
			}
		}
		f.Add(b)
	}
}

// checkWorkload fails for what must not leave the door, whatever came in.
func checkWorkload(t *testing.T, w asset.Workload) {
	t.Helper()
	texts := []string{w.Name, w.Image.Reference, string(w.Group), w.Settings.User, w.Settings.NetworkMode}
	texts = append(texts, w.Settings.Entrypoint...)
	for _, m := range w.Settings.Mounts {
		texts = append(texts, m.Kind, m.Source, m.Target)
	}
	for _, s := range texts {
		if len(s) > maxArgument || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			t.Fatalf("text %q is too long, not UTF-8, or has control characters", s)
		}
	}
	e := w.ECS
	for _, s := range []string{e.Account, e.Region, e.Cluster, e.Family, e.Revision, e.TaskID, e.Container} {
		if s != "" && !asset.WellNamed(s) {
			t.Fatalf("identity %q is not a name", s)
		}
	}
	s := w.Settings
	if len(s.Ports) > maxPorts || len(s.Mounts) > maxMounts || len(s.CapAdd) > maxWords || len(s.Addresses) > maxAddresses || len(s.Entrypoint) > maxArguments {
		t.Fatalf("more than the limits allow: %+v", s)
	}
	if w.Group == "" {
		t.Fatal("no group")
	}
}

func FuzzParseEvent(f *testing.F) {
	seed(f, "1.41/events.jsonl", "1.56/events.jsonl")
	f.Add([]byte("\x1e{\"Type\":\"container\"}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, ok, err := parseEvent(line)
		if !ok {
			return
		}
		if err != nil || !asset.IsContainerID(m.id) {
			t.Fatalf("event of container %q with error %v", m.id, err)
		}
		c := &change{}
		c.add(m)
		w := asset.Workload{ID: m.id}
		c.applyTo(&w)
		if m.told {
			checkWorkload(t, w)
		}
	})
}

func FuzzInspection(f *testing.F) {
	seed(f, "1.41/inspect.json", "1.56/inspect.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		var in inspection
		if json.Unmarshal(b, &in) != nil {
			return
		}
		checkWorkload(t, in.workload())
	})
}

// FuzzImage: whatever the engine says of an image, its layers are diff ids.
func FuzzImage(f *testing.F) {
	f.Add([]byte(`{"Os":"linux","Architecture":"amd64","RootFS":{"Layers":["sha256:`+strings.Repeat("a", 64)+`"]}}`), "overlay2")
	f.Add([]byte(`{"RootFS":{"Layers":["x",""]}}`), "overlayfs")
	f.Fuzz(func(t *testing.T, b []byte, driver string) {
		var facts imageFacts
		if json.Unmarshal(b, &facts) != nil {
			return
		}
		id := "sha256:" + strings.Repeat("0", 64)
		d := newImages(nil)
		d.keep(id, facts)
		i := asset.Image{ID: id}
		d.describe(t.Context(), &inspection{Driver: driver}, &i)
		if len(i.Layers) > maxLayers || slices.ContainsFunc(i.Layers, func(l string) bool { return !isDigest(l) }) {
			t.Errorf("layers %q", i.Layers)
		}
	})
}

func FuzzList(f *testing.F) {
	seed(f, "1.41/list.json", "1.56/list.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		var all []summary
		if json.Unmarshal(b, &all) != nil {
			return
		}
		for _, c := range all {
			checkWorkload(t, c.workload())
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("name", 3)
	f.Add("\xff\x00ä😀", 5)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return
		}
		got := clean(s, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("clean(%q, %d) = %q", s, limit, got)
		}
	})
}
