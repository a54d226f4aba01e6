// Command busy does what services do, and ends: it serves and asks over TCP and
// unix sockets, starts threads and programs, waits for timers and signals, and
// makes, locks, renames and deletes files below /tmp. Tests learn its system calls
// and hold it to them.
//
//	busy work      does all of it, and says done
//	busy outside   makes calls that are no part of it, and says what came of them
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "outside" {
		outside()
		return
	}
	if len(os.Args) != 2 || os.Args[1] != "work" {
		return // one of those that work starts
	}
	for _, part := range []func() error{files, serve, local, programs, threads, signals} {
		if err := part(); err != nil {
			fmt.Println("busy:", err)
			os.Exit(1)
		}
	}
	fmt.Println("done")
}

// outside makes calls that work never makes.
func outside() {
	say := func(what string, err error) {
		var number syscall.Errno
		errors.As(err, &number)
		fmt.Println(what, unix.ErrnoName(number))
	}
	_, err := unix.InotifyInit1(0)
	say("inotify", err)
	_, err = unix.MemfdCreate("x", 0)
	say("memfd", err)
	say("unshare", unix.Unshare(unix.CLONE_NEWUSER))
	_, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	say("vsock", err)
	_, _, number := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0)
	fmt.Println("clone3", unix.ErrnoName(number))
}

func files() error {
	dir, err := os.MkdirTemp("", "busy-")
	if err != nil {
		return err
	}
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	f, err := os.Create(one)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Repeat([]byte("x"), 1<<16))
	err = errors.Join(err, unix.Flock(int(f.Fd()), unix.LOCK_EX), f.Sync(), f.Truncate(10), f.Chmod(0o600), f.Close(),
		os.Rename(one, two), os.Symlink(two, one), os.Chtimes(two, time.Now(), time.Now()))
	if err != nil {
		return err
	}
	if _, err := os.Stat(one); err != nil {
		return err
	}
	if _, err := os.ReadDir(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body) // a client that is gone asks again
	})}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	var all sync.WaitGroup
	failed := make(chan error, 8)
	for range cap(failed) {
		all.Go(func() {
			resp, err := http.Post("http://"+l.Addr().String(), "text/plain", bytes.NewReader(make([]byte, 1<<18)))
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				err = errors.Join(err, resp.Body.Close())
			}
			failed <- err
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	if err := s.Shutdown(context.Background()); err != nil {
		return err
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func local() error {
	l, err := net.Listen("unix", "@busy")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("unix", "@busy")
	if err != nil {
		return err
	}
	return c.Close()
}

func programs() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for range 5 {
		if out, err := exec.Command(self, "nothing").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

func threads() error {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			runtime.LockOSThread()
			n := 0
			for start := time.Now(); time.Since(start) < 30*time.Millisecond; {
				n++
			}
			time.Sleep(time.Millisecond)
		})
	}
	all.Wait()
	runtime.GC()
	return nil
}

func signals() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		return err
	}
	<-c
	return nil
}
