package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const callsCommand = "calls"

// Of linux/seccomp.h and linux/bpf_common.h: a filter that lets everything pass.
const (
	filterReturn = 0x06
	seccompAllow = 0x7fff0000
)

// timed is what single calls take, in nanoseconds.
type timed struct {
	call float64 // that nobody watches: getppid
	open float64 // for reading, with its close
	sent float64 // a byte over TCP on loopback, and received: two calls, one packet
}

// callTimes are those of a host's process, and of one behind a seccomp filter, as
// an engine starts them.
type callTimes struct{ plain, filtered timed }

// benchCalls times single system calls inside a container's cgroup, with the
// agent off, on, and on while it is learned which calls the container makes.
func benchCalls(ctx context.Context, o options) (rows []row, err error) {
	id, cgroup, remove, err := container()
	if err != nil {
		return nil, err
	}
	defer remove()
	engine, err := openStandIn(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, engine.close()) }()
	engine.runs(&contained{id: id, name: "calls", group: "calls", pid: os.Getpid()})
	learning := o
	learning.engine = engine.socket
	p, err := openSink(o)
	if err != nil {
		return nil, err
	}
	var off, on, learned callTimes
	measured := func(into *callTimes) func() (float64, error) {
		return func() (_ float64, err error) {
			*into, err = timeCalls(ctx, o, cgroup)
			return 0, err
		}
	}
	kinds := []struct {
		what string
		of   func(callTimes) float64
		off  []float64
		// What it takes more with the agent, and while it is learned too.
		more, learned []float64
	}{
		{what: "a call that nobody watches", of: func(t callTimes) float64 { return t.plain.call }},
		{what: "an open for reading and its close", of: func(t callTimes) float64 { return t.plain.open }},
		{what: "a packet of TCP, with its write and read", of: func(t callTimes) float64 { return t.plain.sent }},
		{what: "the call, behind a seccomp filter", of: func(t callTimes) float64 { return t.filtered.call }},
		{what: "the open and its close, behind a seccomp filter", of: func(t callTimes) float64 { return t.filtered.open }},
	}
	for range o.rounds {
		if _, err = measured(&off)(); err == nil {
			_, _, _, err = watched(ctx, o, p, measured(&on))
		}
		if err == nil {
			_, _, _, err = watched(ctx, learning, p, measured(&learned))
		}
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		for i, k := range kinds {
			kinds[i].off = append(k.off, k.of(off))
			kinds[i].more = append(k.more, k.of(on)-k.of(off))
			kinds[i].learned = append(k.learned, k.of(learned)-k.of(off))
		}
	}
	for _, k := range kinds {
		rows = append(rows, row{k.what + ": more with the agent", fmt.Sprintf("%.0f ns of %.0f ns", median(k.more), median(k.off)), ""},
			row{"  more while it is learned", fmt.Sprintf("%.0f ns", median(k.learned)), ""})
	}
	return rows, p.close()
}

// timeCalls runs the calls command in a cgroup.
func timeCalls(ctx context.Context, o options, cgroup string) (t callTimes, err error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		return t, err
	}
	defer dir.Close()
	file := filepath.Join(o.dir, "opened")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		return t, err
	}
	cmd := exec.CommandContext(ctx, self, callsCommand, "-file", file, "-span", o.span.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return t, fmt.Errorf("time calls: %w", err)
	}
	if _, err := fmt.Sscan(string(out), &t.plain.call, &t.plain.open, &t.plain.sent, &t.filtered.call, &t.filtered.open, &t.filtered.sent); err != nil {
		return t, fmt.Errorf("read times of calls from %q: %w", strings.TrimSpace(string(out)), err)
	}
	return t, nil
}

// callsMain prints what calls take without a filter and behind one.
func callsMain(args []string) error {
	f := flag.NewFlagSet(callsCommand, flag.ContinueOnError)
	file := f.String("file", "", "file to open")
	span := f.Duration("span", time.Second, "for how long")
	if err := f.Parse(args); err != nil {
		return err
	}
	runtime.LockOSThread() // the filter is the thread's
	plain, err := timeOf(*file, *span/2)
	if err != nil {
		return err
	}
	if err := filterNothing(); err != nil {
		return err
	}
	filtered, err := timeOf(*file, *span/2)
	if err != nil {
		return err
	}
	fmt.Println(plain.call, plain.open, plain.sent, filtered.call, filtered.open, filtered.sent)
	return nil
}

// timeOf makes short runs of calls, and takes the shortest: on a busy machine
// most are interrupted.
func timeOf(file string, span time.Duration) (timed, error) {
	const calls, opens, packets, never = 500, 50, 50, 1e9
	name, err := unix.BytePtrFromString(file)
	if err != nil {
		return timed{}, err
	}
	at := uintptr(1<<64 + unix.AT_FDCWD)
	out, in, err := talk()
	if err != nil {
		return timed{}, err
	}
	defer out.Close()
	defer in.Close()
	to, from := int(out.Fd()), int(in.Fd()) // blocking, which Fd makes them
	one := []byte{1}
	least := timed{call: never, open: never, sent: never}
	for end := time.Now().Add(span); time.Now().Before(end); {
		begin := time.Now()
		for range calls {
			unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		least.call = min(least.call, float64(time.Since(begin))/calls)
		begin = time.Now()
		for range opens {
			fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, at, uintptr(unsafe.Pointer(name)), unix.O_RDONLY, 0, 0, 0)
			if errno != 0 {
				return timed{}, fmt.Errorf("open %s: %w", file, errno)
			}
			unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}
		least.open = min(least.open, float64(time.Since(begin))/opens)
		begin = time.Now()
		for range packets {
			if _, err := unix.Write(to, one); err != nil {
				return timed{}, fmt.Errorf("write to loopback: %w", err)
			}
			if _, err := unix.Read(from, one); err != nil {
				return timed{}, fmt.Errorf("read from loopback: %w", err)
			}
		}
		least.sent = min(least.sent, float64(time.Since(begin))/packets)
	}
	return least, nil
}

// talk returns both ends of a connection over loopback.
func talk() (out, in *os.File, err error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	here, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		return nil, nil, err
	}
	defer here.Close()
	there, err := l.AcceptTCP()
	if err != nil {
		return nil, nil, err
	}
	defer there.Close()
	if out, err = here.File(); err != nil {
		return nil, nil, err
	}
	if in, err = there.File(); err != nil {
		return nil, nil, errors.Join(err, out.Close())
	}
	return out, in, nil
}

// filterNothing puts the thread behind a filter that lets everything pass.
func filterNothing() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := unix.SockFilter{Code: filterReturn, K: seccompAllow}
	program := unix.SockFprog{Len: 1, Filter: &filter}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	if err != nil {
		return fmt.Errorf("set a filter: %w", err)
	}
	return nil
}
