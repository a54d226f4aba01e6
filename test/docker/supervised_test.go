package docker_test

import (
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/test/docker/engine"
)

// supervision is a service manager that waits for word of an agent, in its words:
// sd_notify(3).
type supervision struct {
	t  *testing.T
	at *net.UnixConn
}

// says returns when the agent has said something, and passes over anything else.
func (s supervision) says(what string) {
	s.t.Helper()
	for end := time.Now().Add(3 * patience); ; {
		got, ok := s.next(end)
		if !ok {
			s.t.Fatalf("the agent does not say %s", what)
		}
		if got == what {
			return
		}
	}
}

// next returns what the agent says before a moment.
func (s supervision) next(end time.Time) (said string, ok bool) {
	s.t.Helper()
	if err := s.at.SetReadDeadline(end); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := s.at.Read(b)
	return string(b[:n]), err == nil
}

// TestServiceManagerHearsOfTheAgent starts an agent as systemd does, by the unit of
// deploy/host: it hears that the agent watches, that it is alive, and, of one that does
// not go on, nothing.
func TestServiceManagerHearsOfTheAgent(t *testing.T) {
	w := guardedHost(t, engine.ForTest(t, engine.Options{}))
	w.agent.stop()
	socket := &net.UnixAddr{Name: filepath.Join(w.dir, "notify"), Net: "unixgram"}
	at, err := net.ListenUnixgram("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	s := supervision{t, at}
	const limit = time.Second
	w.start("/usr/bin/env", "NOTIFY_SOCKET="+socket.Name, fmt.Sprint("WATCHDOG_USEC=", limit.Microseconds()), w.program)
	s.says("READY=1\nSTATUS=watching")
	s.says("WATCHDOG=1")
	s.says("WATCHDOG=1")

	signal := func(sig syscall.Signal) {
		t.Helper()
		if err := w.agent.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(w.agent.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the agent is not stopped: %v, %v", status, err)
	}
	for ok := true; ok; { // what it said before
		_, ok = s.next(time.Now())
	}
	if said, ok := s.next(time.Now().Add(3 * limit)); ok {
		t.Errorf("a stopped agent says %q", said)
	}
	signal(syscall.SIGCONT)
	s.says("WATCHDOG=1")
	signal(syscall.SIGINT)
	s.says("STOPPING=1\nSTATUS=stopping")
	<-w.agent.ended
}
