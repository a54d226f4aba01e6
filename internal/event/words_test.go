package event_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

func TestWords(t *testing.T) {
	uid := uint32(0)
	peer := netip.MustParseAddrPort("10.0.3.7:8080")
	for _, tc := range []struct {
		want string
		e    event.Event
	}{
		{"ran /bin/sh", event.Event{Kind: event.KindExec, Process: event.Process{Executable: "/bin/sh"}, Exec: &event.Exec{}}},
		{"was killed by signal 9", event.Event{Kind: event.KindExit, Exit: &event.Exit{Signal: 9}}},
		{"opened /etc/shadow for reading (shadow)", event.Event{Kind: event.KindFileRead, File: &event.File{Path: "/etc/shadow", Sensitive: "shadow"}}},
		{"opened /etc/passwd for writing: EACCES (×3)", event.Event{Kind: event.KindFileWrite, Count: 3, File: &event.File{Path: "/etc/passwd", Error: "EACCES"}}},
		{"created folder /tmp/x", event.Event{Kind: event.KindFileCreate, File: &event.File{Path: "/tmp/x", Type: "folder"}}},
		{"linked /a to ../b", event.Event{Kind: event.KindFileLink, File: &event.File{Path: "../b", To: "/a", Type: "link"}}},
		{"changed the mode of /tmp/x to 4755", event.Event{Kind: event.KindFileChmod, File: &event.File{Path: "/tmp/x", Mode: 0o4755}}},
		{"gave /tmp/x to user 0", event.Event{Kind: event.KindFileChown, File: &event.File{Path: "/tmp/x", UID: &uid}}},
		{"connected to shop/orders/orders (10.0.3.7:8080)", event.Event{Kind: event.KindConnect, Connection: &event.Connection{Protocol: "tcp", Remote: peer, Peer: event.Peer{Group: "shop/orders/orders"}, Name: "orders"}}},
		{"could not connect to orders (10.0.3.7:8080): ECONNREFUSED", event.Event{Kind: event.KindConnect, Connection: &event.Connection{Protocol: "tcp", Remote: peer, Name: "orders", Error: "ECONNREFUSED"}}},
		{"ended with 10.0.3.7:8080: sent 1.5 KiB, received 12 B, after 2s", event.Event{Kind: event.KindClose, Connection: &event.Connection{Protocol: "tcp", Remote: peer, BytesSent: 1536, BytesReceived: 12, Duration: 2 * time.Second}}},
		{"changed the root to /mnt", event.Event{Kind: event.KindPivotRoot, Privilege: &event.Privilege{Target: "/mnt"}}},
		{"changed its root", event.Event{Kind: event.KindPivotRoot, Privilege: &event.Privilege{}}},
		{"opened a packet socket: EPERM", event.Event{Kind: event.KindRaw, Connection: &event.Connection{Protocol: "packet", Error: "EPERM"}}},
		{"sent 10000 packets (9.54 MiB) to 10.0.0.9:9999 over udp within 1.5s, and received 3", event.Event{Kind: event.KindFlow, Connection: &event.Connection{
			Protocol: "udp", Remote: netip.MustParseAddrPort("10.0.0.9:9999"), PacketsSent: 10_000, PacketsReceived: 3, BytesSent: 10_000_000, Duration: 1500 * time.Millisecond}}},
		{"connected to the socket /run/docker.sock of dockerd of the host as /tmp/x", event.Event{Kind: event.KindUnix, Connection: &event.Connection{
			Protocol: "unix", Path: "/run/docker.sock", Asked: "/tmp/x", Outside: true, ListenerName: "dockerd"}}},
		{"connected to the socket @x of another container", event.Event{Kind: event.KindUnix, Connection: &event.Connection{
			Protocol: "unix", Path: "@x", Outside: true, ListenerName: "x", ListenerWorkloadID: "ab"}}},
		{"connected to the socket /dev/log of the host or another container", event.Event{Kind: event.KindUnix, Connection: &event.Connection{
			Protocol: "unix", Path: "/dev/log", Outside: true}}},
		{"connected to the socket /run/app.sock", event.Event{Kind: event.KindUnix, Connection: &event.Connection{Protocol: "unix", Path: "/run/app.sock"}}},
		{"could not connect to the socket /run/docker.sock: EACCES", event.Event{Kind: event.KindUnix, Connection: &event.Connection{
			Protocol: "unix", Path: "/run/docker.sock", Error: "EACCES"}}},
		{"made a connection with 203.0.113.9:4444 its input", event.Event{Kind: event.KindStdio, Connection: &event.Connection{
			Protocol: "tcp", Remote: netip.MustParseAddrPort("203.0.113.9:4444"), Stream: "input"}}},
		{"asked for example.org A", event.Event{Kind: event.KindQuery, DNS: &event.DNS{Name: "example.org", Type: "A"}}},
		{"was answered example.org A: NXDOMAIN", event.Event{Kind: event.KindAnswer, DNS: &event.DNS{Name: "example.org", Type: "A", Code: "NXDOMAIN"}}},
		{"mounted proc none on /mnt (nosuid)", event.Event{Kind: event.KindMount, Privilege: &event.Privilege{Type: "proc", Source: "none", Target: "/mnt", Flags: []string{"nosuid"}}}},
		{"gained SYS_ADMIN", event.Event{Kind: event.KindCapability, Privilege: &event.Privilege{Gained: 1 << 21}}},
		{"became user 0, was 1000", event.Event{Kind: event.KindUser, Privilege: &event.Privilege{OldUID: 1000}}},
		{"mapped /tmp/x.so as code", event.Event{Kind: event.KindExecMap, Memory: &event.Memory{Path: "/tmp/x.so"}}},
		{"was killed for want of memory at 64 MiB", event.Event{Kind: event.KindOOM, Resource: &event.Resource{What: "memory", Limit: 64 << 20, Scope: event.ScopeContainer}}},
		{"was killed because the host has no memory left", event.Event{Kind: event.KindOOM, Resource: &event.Resource{What: "memory", Scope: event.ScopeHost}}},
		{"uses 95 of 100 pids", event.Event{Kind: event.KindLimit, Resource: &event.Resource{What: "pids", Used: 95, Limit: 100}}},
		{"made the system calls chown; used the capabilities CHOWN", event.Event{Kind: event.KindCalls, Calls: &event.Calls{Names: []string{"chown"}, Capabilities: 1, CapabilitiesSeen: true}}},
		{"used the capabilities KILL", event.Event{Kind: event.KindCalls, Calls: &event.Calls{Capabilities: 1 << 5}}},
		{"made the system calls mount, openat", event.Event{Kind: event.KindCalls, Calls: &event.Calls{Names: []string{"mount", "openat"}}}},
		{"process.future", event.Event{Kind: "process.future"}},
	} {
		if got := tc.e.Words(); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// Every kind has words, even without anything known.
func TestWordsOfEveryKind(t *testing.T) {
	for _, k := range event.Kinds() {
		e := event.Event{
			Kind: k, Exec: &event.Exec{}, File: nil,
		}
		switch k.Sensor() {
		case "file":
			e.File = &event.File{}
		case "network":
			e.Connection = &event.Connection{}
		case "dns":
			e.DNS = &event.DNS{}
		case "privilege":
			e.Privilege = &event.Privilege{}
		case "memory":
			e.Memory = &event.Memory{}
		case "resource":
			e.Resource = &event.Resource{}
		}
		if e.Words() == "" || e.Words() == string(k) {
			t.Errorf("%s has no words: %q", k, e.Words())
		}
	}
}
