package systemd_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/systemd"
)

// listen is the service manager's end.
func listen(t *testing.T) *net.UnixConn {
	t.Helper()
	at := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	c, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", at.Name)
	return c
}

func heard(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 4096)
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestTold(t *testing.T) {
	c := listen(t)
	t.Setenv("WATCHDOG_USEC", "60000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m, err := systemd.Open()
	if err != nil {
		t.Fatal(err)
	}
	if m.Every() != 30*time.Second {
		t.Errorf("alive every %v, want half of what is waited", m.Every())
	}
	for _, step := range []struct {
		tell func() error
		want string
	}{
		{func() error { return nil }, "STATUS=starting"},
		{m.Ready, "READY=1\nSTATUS=watching"},
		{m.Alive, "WATCHDOG=1"},
		{m.Stopping, "STOPPING=1\nSTATUS=stopping"},
	} {
		if err := step.tell(); err != nil {
			t.Fatal(err)
		}
		if got := heard(t, c); got != step.want {
			t.Errorf("told %q, want %q", got, step.want)
		}
	}
	c.Close()
	if err := m.Alive(); err == nil {
		t.Error("nobody listens, and that is no error")
	}
}

func TestNotAsked(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if m, err := systemd.Open(); m != nil || err != nil {
		t.Errorf("got %v, %v without a service manager", m, err)
	}
}

// What is meant for another process, such as a parent, is not answered.
func TestWatchdogOfAnotherProcess(t *testing.T) {
	listen(t)
	t.Setenv("WATCHDOG_USEC", "60000000")
	t.Setenv("WATCHDOG_PID", "1")
	m, err := systemd.Open()
	if err != nil {
		t.Fatal(err)
	}
	if m.Every() != 0 {
		t.Errorf("alive every %v, want never", m.Every())
	}
}

func TestBrokenEnvironment(t *testing.T) {
	listen(t)
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := systemd.Open(); err == nil {
		t.Error("WATCHDOG_USEC=soon is taken")
	}
}
