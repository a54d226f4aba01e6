package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// The kinds of work that a storm can do.
const (
	workExec    = "exec"    // start a program and wait for it
	workRead    = "read"    // open a file for reading and close it
	workWrite   = "write"   // open a file for writing and close it
	workCreate  = "create"  // make a file that was not there, and remove it
	workConnect = "connect" // connect to a listener and close
)

// stormFiles is how many files the opens of one storm go round.
const stormFiles = 1_000

// worker does one piece of work after the other.
type worker struct {
	once  func(n int64) error
	close func() error
}

// newWorker prepares the work of one storm; program is the one to start, dir a
// folder for files, port the one to connect to.
func newWorker(ctx context.Context, what, program, dir string, port int) (*worker, error) {
	none := func() error { return nil }
	switch what {
	case workExec:
		return &worker{once: func(int64) error { return startOne(program) }, close: none}, nil
	case workRead, workWrite:
		flags := syscall.O_RDONLY
		if what == workWrite {
			flags = syscall.O_WRONLY
		}
		var names []string
		for i := range stormFiles {
			name := filepath.Join(dir, "file-"+strconv.Itoa(i))
			if _, err := os.Stat(name); err != nil { // else a former storm made it
				if err := os.WriteFile(name, []byte("work"), 0o644); err != nil {
					return nil, err
				}
			}
			names = append(names, name)
		}
		return &worker{once: func(n int64) error { return openOne(names[n%stormFiles], flags) }, close: none}, nil
	case workCreate:
		return &worker{once: func(n int64) error {
			name := filepath.Join(dir, "new-"+strconv.FormatInt(n, 10))
			if err := openOne(name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL); err != nil {
				return err
			}
			return syscall.Unlink(name)
		}, close: none}, nil
	case workConnect:
		return newConnector(ctx, port)
	}
	return nil, fmt.Errorf("no work is called %q", what)
}

// openOne opens and closes by system calls, as a C program does: what Go's own
// files add would hide what the sensors add.
func openOne(name string, flags int) error {
	fd, err := syscall.Open(name, flags|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	return syscall.Close(fd)
}

// newConnector returns work that connects to a listener of its own. The
// connecting side ends with a reset, so that no port waits to be used again.
func newConnector(ctx context.Context, port int) (*worker, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, err
	}
	port = l.Addr().(*net.TCPAddr).Port
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			_, ended := c.Read(make([]byte, 1)) // until the reset
			if ended == nil || c.Close() != nil {
				return
			}
		}
	})
	once := func(n int64) error {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		// Eight addresses have eight times the ports.
		to := &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, byte(1 + n%8)}}
		err = errors.Join(syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}),
			syscall.Connect(fd, to))
		return errors.Join(err, syscall.Close(fd))
	}
	return &worker{once: once, close: func() error {
		err := l.Close()
		accepting.Wait()
		return err
	}}, nil
}
