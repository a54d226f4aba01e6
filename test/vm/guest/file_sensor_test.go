package guest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/castellan-security/castellan/internal/event"
)

// The file sensor tells what a container's program makes, with the layer that
// it is in, and the memory sensor the file that it makes without a name.
func TestSensorFile(t *testing.T) {
	for _, l := range commonLayouts() {
		t.Run(l.name, func(t *testing.T) {
			c := newContainer(t, newID(t), l.mount(t))
			w := sense(t, "file", "memory")
			c.run(t, "drop", "/tmp/dropped", "exit", "3")
			e := w.await(t, "file", func(e event.Event) bool {
				return e.Kind == event.KindFileCreate && e.File.Path == "/tmp/dropped"
			})
			if e.WorkloadID != c.id || e.File.Origin != event.OriginWritten || e.File.FileSystem != "overlay" || e.File.Claimed {
				t.Errorf("saw %+v in %q, want a file of the upper layer in %s", *e.File, e.WorkloadID, c.id)
			}
			c.run(t, "memory", "exit", "4")
			e = w.await(t, "memfd", func(e event.Event) bool { return e.Kind == event.KindMemfd })
			if e.WorkloadID != c.id || e.Memory.Path != "payload" || e.Memory.Call != "memfd_create" {
				t.Errorf("saw %+v in %q, want payload in %s", *e.Memory, e.WorkloadID, c.id)
			}
		})
	}
}

// Reading is told of sensitive files alone, by their names and their folders'
// names; kernels before 6.2 are asked for these in another way than later ones.
func TestSensorSensitive(t *testing.T) {
	c := newContainer(t, newID(t), layouts()[3].mount(t))
	for _, name := range []string{"/etc/shadow", "/home/me/.aws/any", "/home/me/harmless"} {
		if err := os.MkdirAll(filepath.Join(c.root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.root, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := sense(t, "file")
	c.run(t, "read", "/home/me/harmless")
	for _, want := range []struct{ path, rule string }{{"/etc/shadow", "shadow"}, {"/home/me/.aws/any", "cloud"}} {
		c.run(t, "read", want.path)
		e := w.await(t, "read of "+want.path, func(e event.Event) bool {
			return e.Kind == event.KindFileRead && e.File.Path == want.path
		})
		if e.WorkloadID != c.id || e.File.Sensitive != want.rule || e.File.Claimed {
			t.Errorf("saw %+v in %q, want rule %s in %s", *e.File, e.WorkloadID, want.rule, c.id)
		}
	}
	if e := w.find(func(e event.Event) bool { return e.Kind == event.KindFileRead && e.File.Path == "/home/me/harmless" }); e != nil {
		t.Errorf("saw %+v, want nothing of a file that is not sensitive", *e.File)
	}
}
