package guest_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/test/vm/guest"
)

// Files of an image are told with the layer that they are from, though the
// overlay file system is a module and this kernel keeps its layers elsewhere
// than later ones do.
func TestSensorLayer(t *testing.T) {
	l := layouts()[0]
	c := newContainer(t, newID(t), l.mount(t))
	w := sense(t, "process", "file")
	c.run(t, "read", shadow)
	c.run(t, "drop", "/tmp/dropped", "exit", "3")
	e := w.exec(t, guest.Subject, "read", shadow)
	if got, want := e.Exec.Layer, (event.Layer{Number: 1, Of: 2}); got != want {
		t.Errorf("program of the image: layer %+v, want %+v", got, want)
	}
	e = w.await(t, "read", func(e event.Event) bool { return e.Kind == event.KindFileRead && e.File.Path == shadow })
	if got, want := e.File.Layer, (event.Layer{Number: 2, Of: 2}); got != want {
		t.Errorf("file of the image: layer %+v, want %+v", got, want)
	}
	if e = w.exec(t, "/tmp/dropped", "exit", "3"); !e.Exec.Layer.IsZero() {
		t.Errorf("program written later: layer %+v, want none", e.Exec.Layer)
	}
}

// The module may come after the sensors: with the first container of a host.
// Until it was looked at, no layer is told.
func TestSensorLayerOfLateModule(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(guest.Modules, "*-overlay.ko"))
	if err != nil || len(files) != 1 {
		t.Fatalf("module: %v, %v", files, err)
	}
	if err := unix.DeleteModule("overlay", 0); err != nil {
		t.Fatal(err)
	}
	w := sense(t, "process")
	load(t, files[0])
	l := layouts()[0]
	c := newContainer(t, newID(t), l.mount(t))
	want := event.Layer{Number: 1, Of: 2}
	n := 0
	eventually(t, "exec with its layer", func() bool {
		n++ // one that is like another would only be counted
		c.run(t, "exit", strconv.Itoa(n%90))
		e := w.find(func(e event.Event) bool { return e.WorkloadID == c.id && e.Exec != nil && e.Exec.Layer == want })
		return e != nil
	})
	wrong := w.find(func(e event.Event) bool {
		return e.Exec != nil && !e.Exec.Layer.IsZero() && (e.Exec.Layer != want || e.WorkloadID != c.id)
	})
	if wrong != nil {
		t.Errorf("saw %+v of %q, want %+v or none", wrong.Exec.Layer, wrong.WorkloadID, want)
	}
}

func load(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		t.Fatal(err)
	}
}
