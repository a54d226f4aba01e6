package bpf_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/event"
)

// What a container uses of its capabilities is told, and not what it only has.
func TestUsedCapabilities(t *testing.T) {
	w := watchEach(t)
	v2, _ := hierarchies()
	id, other := newID(t), newID(t)
	if err := w.sensors.Learn([]string{id}); err != nil {
		t.Fatal(err)
	}
	deeds := map[string][]string{id: {"exec=/usr/sbin/chroot", "chroot", "/", "/bin/true"}, other: {"exec=/bin/mknod", "mknod", t.TempDir() + "/x", "p"}}
	for _, one := range []string{id, other} {
		h := start(t, nil, deeds[one]...)
		put(t, cgroup(t, v2, "castellan-test-uses-"+one[:8]+"/docker/"+one), h.pid())
		h.finish()
	}
	chroot, _ := event.CapabilityOf("SYS_CHROOT")
	w.wait("SYS_CHROOT", func(e event.Event) bool {
		return e.Kind == event.KindCalls && e.WorkloadID == id && e.Calls.Capabilities&chroot != 0
	})
	w.stop() // tells the rest
	told, _ := w.seen(func(e event.Event) bool { return e.Kind == event.KindCalls })
	var all event.Capabilities
	for _, e := range told {
		if e.WorkloadID != id {
			t.Errorf("uses of %q are told: %v", e.WorkloadID, e.Calls.Capabilities.Names())
		}
		if !e.Calls.CapabilitiesSeen {
			t.Error("it is not said that uses are seen")
		}
		if all&e.Calls.Capabilities != 0 {
			t.Errorf("a use is told twice: %v", e.Calls.Capabilities.Names())
		}
		all |= e.Calls.Capabilities
	}
	for _, name := range []string{"MKNOD", "NET_RAW", "SYS_MODULE", "SYS_TIME", "KILL"} {
		if bit, _ := event.CapabilityOf(name); all&bit != 0 {
			t.Errorf("%s was had and not used, and is told: %v", name, all.Names())
		}
	}
}
