package bpf_test

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/need"
)

// BenchmarkSocketCalls tells what calls of a container take that the network sensor
// looks at, with the sensors and without, in processor time of the thread (cpu-ns): a
// dup2 as shells make them, a fcntl as servers do, one of a connection onto the input, which is told once and
// then counted, and a connect to a unix socket that is counted.
func BenchmarkSocketCalls(b *testing.B) {
	need.Root(b)
	need.BPF(b, "tp_btf")
	v2, _ := hierarchies()
	put(b, cgroup(b, v2, "castellan-bench-sockets/docker/"+newID(b)), os.Getpid())
	defer put(b, v2, os.Getpid())
	unixAt, tcp := openEnds(b)
	input, err := unix.Dup(0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := unix.Dup3(input, 0, 0); err != nil {
			b.Error(err)
		}
	}()
	for _, bench := range []struct {
		name string
		call func() error
	}{
		{"none", func() error { unix.Getppid(); return nil }},
		{"dup2/other", func() error { return unix.Dup3(input, 100, 0) }},
		{"fcntl/flags", func() error { _, err := unix.FcntlInt(uintptr(tcp), unix.F_GETFD, 0); return err }},
		{"dup2/input", func() error { return unix.Dup3(input, 0, 0) }},
		{"dup2/connection", func() error { return unix.Dup3(tcp, 0, 0) }},
		{"connect/unix", func() error { return connectOnce(unixAt) }},
	} {
		for _, on := range []bool{false, true} {
			name := bench.name + "/off"
			if on {
				name = bench.name + "/on"
			}
			b.Run(name, func(b *testing.B) {
				if on {
					s, err := bpf.Open(b.Context(), bpf.Options{}, quiet())
					if err != nil {
						b.Fatal(err)
					}
					defer s.Close()
				}
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				before := threadTime(b)
				n := 0
				for ; b.Loop(); n++ {
					if err := bench.call(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(threadTime(b)-before)/float64(n), "cpu-ns")
			})
		}
	}
}

// openEnds returns the name of a unix socket that takes all, and a connection.
func openEnds(b *testing.B) (string, int) {
	b.Helper()
	name := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", name)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	far, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { far.Close() })
	c, err := net.Dial("tcp4", far.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		b.Fatalf("%T is no connection of TCP", c)
	}
	f, err := tcp.File()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return name, int(f.Fd())
}

func connectOnce(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

// threadTime is the processor time of the running thread, in nanoseconds.
func threadTime(b *testing.B) int64 {
	b.Helper()
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at); err != nil {
		b.Fatal(err)
	}
	return at.Nano()
}
