package bpf_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// redirect connects to an address and puts that in the place of our input and error; a
// descriptor that is none of the first three gets it as well, and one of these a pipe.
func redirect(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	conn, ok := c.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("%T is no connection of TCP", c)
	}
	f, err := conn.File()
	if err != nil {
		return err
	}
	const others = 100
	for _, fd := range []int{0, 2, others} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return err
		}
	}
	var ends [2]int
	if err := unix.Pipe(ends[:]); err != nil {
		return err
	}
	return errors.Join(unix.Dup3(ends[1], 1, 0), f.Close(), c.Close())
}

// A connection that becomes the input of a process is told without an exec.
func TestRedirectedToConnection(t *testing.T) {
	at := server(t, "tcp4", "127.0.0.1:0", func(c net.Conn) { c.Close() })
	w := watch(t)
	v2, _ := hierarchies()
	stranger := start(t, nil, "redirect="+at.String(), "exit=0") // of the host: told before the other, if at all
	stranger.finish()
	h := startIn(t, v2, "castellan-test-redirect/docker/"+newID(t), "redirect="+at.String(), "exit=0")
	h.finish()
	w.exit(h.pid())
	events, _ := w.seen(func(e event.Event) bool { return e.Kind == event.KindStdio })
	var got []string
	for _, e := range events {
		c := e.Connection
		if e.Process.Key.PID != uint32(h.pid()) || e.WorkloadID == "" || c.Remote != at || c.Protocol != "tcp" || c.Incoming {
			t.Errorf("told %+v of process %d, want a connection with %s of %d", c, e.Process.Key.PID, at, h.pid())
		}
		if !slices.Contains(got, c.Stream) {
			got = append(got, c.Stream)
		}
	}
	if d := cmp.Diff(got, []string{"input", "error"}); d != "" {
		t.Errorf("streams (-got +want):\n%s", d)
	}
}
