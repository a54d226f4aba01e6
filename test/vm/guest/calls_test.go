package guest_test

import (
	"slices"
	"testing"

	"github.com/castellan-security/castellan/internal/event"
)

// The system calls of a container that is learned from are told on this kernel
// too, by this architecture's numbers.
func TestSensorFirstCalls(t *testing.T) {
	c := newContainer(t, newID(t), layouts()[0].mount(t))
	w := sense(t, "process")
	if err := w.sensors.Learn([]string{c.id}); err != nil {
		t.Fatal(err)
	}
	c.run(t, "read", shadow)
	// Not in one event always: what is told is what was made since the last look.
	for _, name := range []string{"execve", "openat"} {
		w.await(t, name+" among the first calls", func(e event.Event) bool {
			return e.Kind == event.KindCalls && e.WorkloadID == c.id && slices.Contains(e.Calls.Names, name)
		})
	}
}

// So is which capabilities it uses: this kernel has no tracepoint for that.
func TestSensorUsedCapabilities(t *testing.T) {
	c := newContainer(t, newID(t), layouts()[0].mount(t))
	w := sense(t, "process")
	if err := w.sensors.Learn([]string{c.id}); err != nil {
		t.Fatal(err)
	}
	c.run(t, "act") // which makes a namespace
	admin, _ := event.CapabilityOf("SYS_ADMIN")
	w.await(t, "SYS_ADMIN among what is used", func(e event.Event) bool {
		return e.Kind == event.KindCalls && e.WorkloadID == c.id && e.Calls.CapabilitiesSeen && e.Calls.Capabilities&admin != 0
	})
}
