package guest_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// What a container sends to a unix socket, and where an io_uring connects it, is told
// although nothing calls connect; and a connection that another process gives to be the
// input of one.
func TestSocketsWithoutConnect(t *testing.T) {
	const listener, datagrams = "@castellan-test-stream", "@castellan-test-datagrams"
	streams, err := net.Listen("unix", listener)
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	sink, err := net.ListenPacket("unixgram", datagrams)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	roots := layouts()[0].mount(t)
	w := sense(t, "network")
	reaches := func(name string, outside bool) func(event.Event) bool {
		return func(e event.Event) bool {
			return e.Kind == event.KindUnix && e.Connection.Path == name && e.Connection.Outside == outside && e.Connection.Error == ""
		}
	}
	for _, tt := range []struct {
		step, to string
		told     func(event.Event) bool
	}{
		{"datagram", datagrams, reaches(datagrams, false)}, // by its network it is of the same
		{"datagrams", datagrams, reaches(datagrams, false)},
		{"ringconnect", listener, reaches(listener, true)},
		{"ringworker", listener, reaches(listener, true)},
		{"ringtcp", server.Addr().String(), func(e event.Event) bool {
			return e.Kind == event.KindConnect && e.Connection.Remote.String() == server.Addr().String()
		}},
		{"receive", server.Addr().String(), func(e event.Event) bool {
			return e.Kind == event.KindStdio && e.Connection.Stream == "input" && e.Connection.Remote.String() == server.Addr().String()
		}},
	} {
		t.Run(tt.step, func(t *testing.T) {
			c := newContainer(t, newID(t), roots)
			if code := c.run(t, "steps", tt.step+"="+tt.to); code != 0 {
				t.Fatalf("it ended with %d: %v", code, unix.Errno(code))
			}
			w.await(t, "what it reached", func(e event.Event) bool { return e.WorkloadID == c.id && tt.told(e) })
		})
	}
}
