package bpf_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// redirect connects to an address and puts that in the place of our input and error; a
// descriptor that is none of the first three gets it as well, and one of these a pipe.
func redirect(address string) error {
	f, err := connection(address)
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
	return errors.Join(unix.Dup3(ends[1], 1, 0), f.Close())
}

func connection(address string) (*os.File, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("%T is no connection of TCP", c)
	}
	f, err := conn.File()
	return f, errors.Join(err, c.Close())
}

// takeInput makes a connection our input, in the way that it is told, without dup.
func takeInput(way string) error {
	how, address, _ := strings.Cut(way, ",")
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	var f *os.File
	if how != "connect" && how != "wait" {
		if f, err = connection(address); err != nil {
			return err
		}
		defer f.Close()
	}
	switch how {
	case "fcntl", "fcntl_cloexec":
		command := map[string]int{"fcntl": unix.F_DUPFD, "fcntl_cloexec": unix.F_DUPFD_CLOEXEC}[how]
		if err := unix.Close(0); err != nil {
			return err
		}
		return isInput(unix.FcntlInt(f.Fd(), command, 0))
	case "connect", "wait":
		if err := unix.Close(0); err != nil {
			return err
		}
		kind := map[string]int{"connect": unix.SOCK_STREAM, "wait": unix.SOCK_STREAM | unix.SOCK_NONBLOCK}[how]
		if err := isInput(unix.Socket(unix.AF_INET, kind, 0)); err != nil {
			return err
		}
		if err := unix.Connect(0, to); err != nil && err != unix.EINPROGRESS {
			return err
		}
		return nil
	case "accept":
		return acceptInput()
	}
	return fmt.Errorf("%s is no way that I know", how)
}

func isInput(fd int, err error) error {
	if err == nil && fd != 0 {
		err = fmt.Errorf("it has the number %d", fd)
	}
	return err
}

// acceptInput accepts a connection of our own.
func acceptInput() error {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l, 1)); err != nil {
		return err
	}
	at, err := unix.Getsockname(l)
	if err != nil {
		return err
	}
	far, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Connect(far, at), unix.Close(0)); err != nil {
		return err
	}
	fd, _, err := unix.Accept4(l, 0)
	return isInput(fd, err)
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

// However a connection comes to be the input of a process, it is told.
func TestConnectionAsInput(t *testing.T) {
	at := server(t, "tcp4", "127.0.0.1:0", func(c net.Conn) { c.Close() })
	w := watch(t)
	v2, _ := hierarchies()
	for _, tt := range []struct {
		way      string
		incoming bool
	}{
		{way: "fcntl"},
		{way: "fcntl_cloexec"},
		{way: "connect"},
		{way: "wait"},
		{way: "accept", incoming: true},
	} {
		t.Run(tt.way, func(t *testing.T) {
			h := startIn(t, v2, "castellan-test-input/docker/"+newID(t), "input="+tt.way+","+at.String(), "exit=0")
			h.finish()
			w.exit(h.pid())
			events, _ := w.seen(func(e event.Event) bool {
				return e.Kind == event.KindStdio && e.Process.Key.PID == uint32(h.pid())
			})
			if len(events) == 0 {
				t.Fatal("nothing is told")
			}
			for _, e := range events {
				if c := e.Connection; c.Stream != "input" || c.Protocol != "tcp" || c.Incoming != tt.incoming || !tt.incoming && c.Remote != at {
					t.Errorf("told %+v, want a connection with %s as the input", c, at)
				}
			}
		})
	}
}
