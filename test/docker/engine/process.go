package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

// process is a daemon that we started.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has; err is set then
	err   error
}

// launch starts a program with its output appended to a file. The kernel ends
// it with the test program, however that ends.
func launch(log, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer func() { _ = out.Close() }() // the child has its own
	path := name
	if found, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		path = found
	}
	p := &process{cmd: exec.Command(path, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		// The signal of Pdeathsig comes when the starting thread ends, not the
		// process: prctl(2). So this one stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// stop asks the process to end and kills it when it doesn't in time.
func (p *process) stop(within time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-p.ended:
		return nil
	case <-t.C:
		return errors.Join(fmt.Errorf("%s did not end within %s", p.cmd.Path, within), p.kill())
	}
}

func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.ended
	return nil
}

// tail returns the end of a daemon's log, without what it says in ordinary
// times: behind a page of that nobody finds the failure of the test.
func tail(path string) string {
	const most = 3 << 10
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error() + "\n"
	}
	var kept []byte
	for line := range bytes.Lines(b) {
		if !ordinary.Match(line) {
			kept = append(kept, line...)
		}
	}
	return string(kept[max(0, len(kept)-most):])
}

var ordinary = regexp.MustCompile(`^time=\S+ level=(debug|info|warning) `)
