package guest_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/event"
)

// The file sensor tells what a container's program makes, with the layer that
// it is in, and the memory sensor the file that it makes without a name.
func TestSensorFile(t *testing.T) {
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			c := newContainer(t, newID(t), l.mount(t))
			w := sense(t)
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
