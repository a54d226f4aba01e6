package docker_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// layered gives the engine an image of three layers: the shell; a program and
// a file with secrets; another program, and the file once more.
func layered(t *testing.T, e *engine.Engine) engine.Image {
	t.Helper()
	image, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	program := image.Files[0].Body
	image.Reference = "layered:test"
	image.Above = [][]engine.File{
		{{Path: "/opt/two/true", Body: program}, {Path: "/etc/shadow", Mode: 0o600, Body: []byte("two")}, {Path: "/etc/gshadow", Mode: 0o600, Body: []byte("two")}},
		{{Path: "/opt/three/true", Body: program}, {Path: "/etc/gshadow", Mode: 0o600, Body: []byte("three")}},
	}
	if err := e.Load(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	return image
}

// Of every file of an image it is known which of its layers it is from, however
// the engine keeps its images.
func TestLayersOfAnImage(t *testing.T) {
	for _, tt := range []struct {
		name, driver string
		options      engine.Options
	}{
		{"kept by the engine", "overlay2", engine.Options{}},
		{"kept by containerd", "overlayfs", engine.Options{Snapshots: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := engine.ForTest(t, tt.options)
			info, err := e.Client.Info(t.Context(), client.InfoOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if info.Info.Driver != tt.driver {
				t.Skipf("engine %s keeps images with %s, not with %s: %s may name one that does", info.Info.ServerVersion, info.Info.Driver, tt.driver, engine.DockerdEnv)
			}
			tellLayers(t, e)
		})
	}
}

func tellLayers(t *testing.T, e *engine.Engine) {
	image := layered(t, e)
	ids, err := image.DiffIDs()
	if err != nil {
		t.Fatal(err)
	}
	b := guardWith(t, e, asset.AgentSettings{SensitivePaths: []string{"/.dockerenv"}})
	id := run(t, e, engine.Container{Name: "layered", Image: image.Reference})
	w := b.workload(t, id, in(asset.Running))
	if d := cmp.Diff(w.Image.Layers, ids); d != "" {
		t.Errorf("layers of the image (-got +want):\n%s", d)
	}

	const script = "/opt/two/true; /opt/three/true; cat /etc/shadow /etc/gshadow /.dockerenv; cp /bin/busybox /tmp/true; /tmp/true"
	if out, code, err := e.Exec(t.Context(), id, "sh", "-c", script); err != nil || code != 0 {
		t.Fatalf("exec: %v, code %d, output %q", err, code, out)
	}
	of := uint16(len(ids) + 1) // with the engine's own
	for _, tt := range []struct {
		path  string
		layer event.Layer
		id    string
		words string
	}{
		{"/bin/busybox", event.Layer{Number: 1, Of: of}, ids[0], "image layer 1 of 3"},
		{"/opt/two/true", event.Layer{Number: 2, Of: of}, ids[1], "image layer 2 of 3"},
		{"/opt/three/true", event.Layer{Number: 3, Of: of}, ids[2], "image layer 3 of 3"},
		{"/etc/shadow", event.Layer{Number: 2, Of: of}, ids[1], "image layer 2 of 3"},
		{"/etc/gshadow", event.Layer{Number: 3, Of: of}, ids[2], "image layer 3 of 3"},
		{"/.dockerenv", event.Layer{Number: 4, Of: of}, "", "the engine's own layer"},
		{"/tmp/true", event.Layer{}, "", ""},
	} {
		t.Run(tt.path, func(t *testing.T) {
			e := b.about(t, id, tt.path)
			l := e.Layer()
			if l != tt.layer || l.DiffID(w.Image.Layers) != tt.id || l.Words(w.Image.Layers) != tt.words {
				t.Errorf("layer %+v (%s, %s), want %+v (%s, %s)", l, l.DiffID(w.Image.Layers), l.Words(w.Image.Layers), tt.layer, tt.id, tt.words)
			}
		})
	}
}

// about waits for an exec or a reading of that file in a container.
func (b *inbox) about(t *testing.T, id, path string) (got event.Event) {
	t.Helper()
	b.wait(t, "event about "+path, func() bool {
		i := slices.IndexFunc(b.events, func(e event.Event) bool {
			return e.WorkloadID == id && (e.Kind == event.KindExec && e.Process.Executable == path && e.Exec.Origin != event.OriginHost ||
				e.Kind == event.KindFileRead && e.File.Path == path)
		})
		if i >= 0 {
			got = b.events[i]
		}
		return i >= 0
	})
	return got
}
