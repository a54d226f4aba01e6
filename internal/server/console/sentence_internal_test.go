package console

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

func TestSays(t *testing.T) {
	uid := uint32(0)
	file := func(k event.Kind, f event.File) event.Event { return event.Event{Kind: k, File: &f} }
	talk := func(k event.Kind, c event.Connection) event.Event {
		c.Local, c.Remote = netip.MustParseAddrPort("10.0.3.2:40000"), netip.MustParseAddrPort("10.0.3.7:8080")
		return event.Event{Kind: k, Connection: &c}
	}
	asked := func(k event.Kind, q event.DNS) event.Event {
		q.Name, q.Type = "example.org", "A"
		return event.Event{Kind: k, DNS: &q}
	}
	priv := func(k event.Kind, p event.Privilege) event.Event { return event.Event{Kind: k, Privilege: &p} }
	orders := event.Peer{Kind: event.PeerWorkload, Group: "shop/orders/app"}
	many := file(event.KindFileRead, event.File{Path: "/etc/shadow"})
	many.Count = 12
	for _, tc := range []struct {
		want string
		e    event.Event
	}{
		{"opened /etc/shadow for reading ×12", many},
		{"opened /a for writing: refused, EACCES", file(event.KindFileWrite, event.File{Path: "/a", Error: "EACCES"})},
		{"created the folder /a", file(event.KindFileCreate, event.File{Path: "/a", Type: "folder"})},
		{"renamed /a to /b", file(event.KindFileRename, event.File{Path: "/a", To: "/b"})},
		{"gave /a the further name /b", file(event.KindFileLink, event.File{Path: "/a", To: "/b"})},
		{"made /b a symbolic link to /a", file(event.KindFileLink, event.File{Path: "/a", To: "/b", Flags: []string{"symbolic"}})},
		{"deleted /a", file(event.KindFileDelete, event.File{Path: "/a"})},
		{"made /a set-uid (4755)", file(event.KindFileChmod, event.File{Path: "/a", Mode: 0o4755})},
		{"made /a executable (0755)", file(event.KindFileChmod, event.File{Path: "/a", Mode: 0o755})},
		{"gave /a to uid 0", file(event.KindFileChown, event.File{Path: "/a", UID: &uid})},
		{"connected to shop/orders/app (10.0.3.7:8080)", talk(event.KindConnect, event.Connection{Peer: orders})},
		{"connected to db.example.org (10.0.3.7:8080)", talk(event.KindConnect, event.Connection{Name: "db.example.org"})},
		{"connected to 10.0.3.7:8080", talk(event.KindConnect, event.Connection{})},
		{"could not connect to 10.0.3.7:8080: ECONNREFUSED", talk(event.KindConnect, event.Connection{Error: "ECONNREFUSED"})},
		{"sent to 10.0.3.7:8080 over UDP", talk(event.KindConnect, event.Connection{Protocol: "udp"})},
		{"accepted a connection from 10.0.3.7:8080 on port 40000", talk(event.KindAccept, event.Connection{})},
		{"asked for example.org A", asked(event.KindQuery, event.DNS{})},
		{"was told that example.org A is 1.2.3.4", asked(event.KindAnswer, event.DNS{Code: "NOERROR", Answers: []string{"1.2.3.4"}})},
		{"was told NXDOMAIN for example.org A", asked(event.KindAnswer, event.DNS{Code: "NXDOMAIN"})},
		{"mounted proc on /mnt", priv(event.KindMount, event.Privilege{Type: "proc", Target: "/mnt"})},
		{"mounted /dev/sda on /mnt as ext4: refused, EPERM", priv(event.KindMount, event.Privilege{Source: "/dev/sda", Type: "ext4", Target: "/mnt", Error: "EPERM"})},
		{"joined the mnt namespace of another process", priv(event.KindSetns, event.Privilege{Type: "mnt"})},
		{"traced process 7 (attach)", priv(event.KindPtrace, event.Privilege{Process: event.Key{PID: 7}, Flags: []string{"attach"}})},
		{"gained CHOWN", priv(event.KindCapability, event.Privilege{Gained: 1})},
		{"became uid 0, was uid 1000", priv(event.KindUser, event.Privilege{OldUID: 1000})},
		{"unloaded the kernel module x", priv(event.KindModule, event.Privilege{Call: "delete_module", Target: "x"})},
		{"connected to the socket /run/docker.sock of the host’s dockerd", talk(event.KindUnix, event.Connection{Path: "/run/docker.sock", Outside: true, ListenerName: "dockerd"})},
		{"connected to the socket /run/x.sock of another container", talk(event.KindUnix, event.Connection{Path: "/run/x.sock", Outside: true, ListenerName: "x", ListenerWorkloadID: "ab"})},
		{"made a connection with 10.0.3.7:8080 its input", talk(event.KindStdio, event.Connection{Stream: "input"})},
		{"connected to the socket /run/app.sock", talk(event.KindUnix, event.Connection{Path: "/run/app.sock", ListenerName: "app"})},
		{"could not connect to the socket /run/docker.sock: EACCES", talk(event.KindUnix, event.Connection{Path: "/run/docker.sock", Error: "EACCES"})},
		{"mapped /tmp/x.so as code", event.Event{Kind: event.KindExecMap, Memory: &event.Memory{Path: "/tmp/x.so"}}},
		{"made 4.0 KiB of memory executable", event.Event{Kind: event.KindExecProtect, Memory: &event.Memory{Length: 4096}}},
		{"was killed by the kernel for want of memory, at a limit of 8.0 MiB around it; it had 1.0 MiB in memory",
			event.Event{Kind: event.KindOOM, Resource: &event.Resource{What: "memory", Limit: 8 << 20, Resident: 1 << 20, Scope: event.ScopeCgroup}}},
		{"was killed by the kernel: the host has no memory left", event.Event{Kind: event.KindOOM, Resource: &event.Resource{What: "memory", Scope: event.ScopeHost}}},
		{"was killed by the kernel for want of memory, at a limit of 1.0 MiB", event.Event{Kind: event.KindOOM, Resource: &event.Resource{What: "memory", Limit: 1 << 20}}},
		{"came close to its limit of pids: 98 of 100", event.Event{Kind: event.KindLimit, Resource: &event.Resource{What: "pids", Used: 98, Limit: 100}}},
	} {
		if got := says(tc.e); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.e.Kind, got, tc.want)
		}
	}
}

// A kind that is new must not come without words.
func TestEveryKindHasWords(t *testing.T) {
	for _, k := range event.Kinds() {
		e := event.Event{Kind: k, Process: event.Process{Name: "sh", Executable: "/bin/sh"}, Time: time.Now()}
		switch k.Sensor() {
		case "process":
			e.Exec, e.Exit = &event.Exec{Args: []string{"sh"}}, &event.Exit{}
			if k == event.KindCalls {
				e.Calls = &event.Calls{Names: []string{"mount"}}
			}
		case "file":
			e.File = &event.File{Path: "/a"}
		case "network":
			e.Connection = &event.Connection{}
		case "dns":
			e.DNS = &event.DNS{Name: "a"}
		case "privilege":
			e.Privilege = &event.Privilege{Target: "/a", Gained: 1}
		case "memory":
			e.Memory = &event.Memory{}
		case "resource":
			e.Resource = &event.Resource{}
		}
		if words := strings.Fields(what(e)); len(words) == 0 || k.Sensor() != "process" && len(words) < 2 {
			t.Errorf("%s: the row says %q", k, what(e))
		}
		if got := about(e); !strings.HasSuffix(got, ".") {
			t.Errorf("%s: the headline is %q", k, got)
		}
	}
}
