package bpf_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Whichever of the two sensors that look at packets is on, it sees its own, and
// the other one sees nothing: with one program for both, and with one for each.
func TestWhoLooksAtPackets(t *testing.T) {
	for name, singly := range map[string]bool{"one program": false, "a program each": true} {
		t.Run(name, func(t *testing.T) {
			both := []string{"network", "dns"}
			o := bpf.Options{Settings: asset.AgentSettings{Window: -1, SensorsOff: both}}
			w := watchWith(t, o)
			if singly {
				w.sensors.AttachPacketsSingly()
			}
			for i, off := range [][]string{nil, {"dns"}, {"network"}, nil, both, {"network"}, nil} {
				o.Settings.SensorsOff = off
				if err := w.sensors.Apply(t.Context(), o.Settings); err != nil {
					t.Fatal(err)
				}
				network, dns := on(t, w.sensors, "network"), on(t, w.sensors, "dns")
				if (network || dns) && w.sensors.HasPacketBoard() == singly {
					t.Fatalf("one program for all: %v", !singly)
				}
				w.packets(i, network, dns)
			}
		})
	}
}

// on says whether a sensor runs.
func on(t *testing.T, s *bpf.Sensors, name string) bool {
	t.Helper()
	for _, st := range s.Status() {
		if st.Name != name {
			continue
		}
		if st.State == asset.SensorFailed {
			t.Fatalf("%s: %s", name, st.Reason)
		}
		return st.State == asset.SensorRunning
	}
	t.Fatalf("no sensor %s", name)
	return false
}

// packets sends some that both sensors know, and compares what is told of them.
func (w *watcher) packets(turn int, network, dns bool) {
	w.t.Helper()
	at := resolver(w.t, "127.0.0.1", 0)
	question := string(rune('a'+turn)) + ".packets.example"
	if err := ask(w.t, at, question+"."); err != nil {
		w.t.Fatal(err)
	}
	over := resolver(w.t, "127.0.0.1", 0)
	c, err := net.Dial("udp4", over.String())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := c.Write([]byte("no question at all")); err != nil {
		w.t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		w.t.Fatal(err)
	}
	asked := func(e event.Event) bool { return e.Kind == event.KindQuery && e.DNS.Name == question }
	answered := func(e event.Event) bool { return e.Kind == event.KindAnswer && e.DNS.Name == question }
	reached := func(to netip.AddrPort) func(event.Event) bool {
		return func(e event.Event) bool {
			return e.Kind == event.KindConnect && e.Connection.Remote == to && e.Connection.Protocol == "udp"
		}
	}
	// What others tell of comes after what these would have told.
	mark := start(w.t, nil, "exit=0")
	mark.finish()
	w.exit(mark.pid())
	for what, check := range map[string]struct {
		match func(event.Event) bool
		want  bool
	}{
		"question": {asked, dns}, "answer": {answered, dns},
		"flow of the question": {reached(at), network}, "flow of what is none": {reached(over), network},
	} {
		if found, _ := w.seen(check.match); len(found) > 0 != check.want {
			w.t.Errorf("turn %d, network %v, dns %v: %s told %d times", turn, network, dns, what, len(found))
		}
	}
}
