package self

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/fault"
)

// maxSaid bounds what is kept of a child's standard error, for the log.
const maxSaid = 8 << 10

// Task is what a child is to do.
type Task struct {
	Args   []string      // behind the program's name
	Output int           // bytes that it may write to its standard output
	Memory int64         // bytes of heap that it aims to stay below
	Within time.Duration // how long it may take
	// Input is what Bound hands to the child, at most MaxInput bytes: what others
	// must not see in its arguments or its environment.
	Input []byte
}

// MaxInput bounds what a child is given; a pipe takes as much without a reader.
const MaxInput = 4 << 10

// Output is what a child that ended by itself left.
type Output struct {
	Stdout []byte
	Stderr []byte // its end is cut off
	Code   int    // exit code
}

// errTooMuch and errLate are why a child was ended from here.
var (
	errTooMuch = errors.New("it wrote more than it may")
	errLate    = errors.New("it took too long")
)

// codeSpent is how a child ends that has had its time of a processor: 128 and the
// number of SIGXCPU, as shells write it.
const codeSpent = 128 + int(unix.SIGXCPU)

const slowRemedy = "nothing of it is kept; do the same by hand, as with castellan scan, which takes the time that it needs"

// Run starts a child and waits for its end. An error means that it did not end
// by itself: Exhausted when it took or wrote too much, Unavailable when it could
// not be started or was killed, ctx's own when that ended. Nothing of it runs
// any more when Run returns.
func (p *Program) Run(ctx context.Context, t Task) (Output, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(t.Within, func() { cancel(errLate) })
	defer late.Stop()
	c, err := p.child(t)
	if err != nil {
		return Output{}, fault.New(fault.Unavailable, "start a child: %w", err)
	}
	var out Output
	var reading sync.WaitGroup
	reading.Go(func() {
		out.Stdout = readSome(c.stdout, t.Output+1, func(n int) {
			if n > t.Output {
				cancel(errTooMuch)
			}
		})
	})
	reading.Go(func() { out.Stderr = readSome(c.stderr, maxSaid, func(int) {}) })
	err = c.run(ctx)
	reading.Wait()
	c.close()
	if len(out.Stderr) > 0 {
		p.log.Debug("child said", "text", string(out.Stderr))
	}
	cause := context.Cause(ctx)
	var exited *exec.ExitError
	switch {
	case errors.Is(cause, errTooMuch):
		return out, fault.New(fault.Exhausted, "run a child: %w: %d bytes", errTooMuch, t.Output)
	case errors.Is(cause, errLate):
		return out, fault.New(fault.Unavailable, "run a child: %w: %s", errLate, t.Within).With(slowRemedy)
	case cause != nil:
		return out, cause
	case errors.As(err, &exited) && exited.ExitCode() == codeSpent:
		return out, fault.New(fault.Exhausted, "run a child: it used %d minutes of a processor, which is all that it may", maxCPU/60).With(slowRemedy)
	case errors.As(err, &exited) && exited.Exited():
		out.Code = exited.ExitCode()
		return out, nil
	case err != nil:
		return out, fault.New(fault.Unavailable, "run a child: %w", err)
	}
	return out, nil
}

// readSome returns the first n bytes of what r gives, of which it tells how many
// there are, and reads the rest.
func readSome(r io.Reader, n int, had func(int)) []byte {
	var b bytes.Buffer
	// An error is the end of the pipe: what the child wrote until then counts.
	_, _ = io.Copy(&b, io.LimitReader(r, int64(n)))
	had(b.Len())
	_, _ = io.Copy(io.Discard, r)
	return b.Bytes()
}

// child is one run of the program.
type child struct {
	cmd            *exec.Cmd
	stdout, stderr *os.File   // our ends
	life           *os.File   // the other end of its standard input; nothing is written but its input
	theirs         []*os.File // to be closed once it has started
	log            func(msg string, args ...any)
	confine        func() error
}

// child opens all that a start needs: once the thread is confined that starts
// it, that thread can open nothing.
func (p *Program) child(t Task) (*child, error) {
	c := &child{log: p.log.Debug}
	var err error
	open := func(ours **os.File) (theirs *os.File) {
		if err == nil {
			*ours, theirs, err = os.Pipe()
			c.theirs = append(c.theirs, theirs)
		}
		return theirs
	}
	stdout, stderr := open(&c.stdout), open(&c.stderr)
	stdin, life, pipeErr := os.Pipe()
	c.theirs, c.life = append(c.theirs, stdin), life
	if err = errors.Join(err, pipeErr); err == nil {
		err = writeInput(life, t.Input)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	c.cmd = exec.Command(inFD(programFD, ""), t.Args...) //nolint:noctx // run ends it, with its group
	c.cmd.Args[0] = "castellan"
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = stdin, stdout, stderr
	c.cmd.ExtraFiles = []*os.File{p.folder, p.program}
	c.cmd.Env = []string{"GOMAXPROCS=1", "GOGC=50", "GOMEMLIMIT=" + strconv.FormatInt(t.Memory, 10), "TZ=UTC"}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if p.rights.users {
		c.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	if p.rights.namespaces {
		c.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	folder, program := int(p.folder.Fd()), int(p.program.Fd())
	c.confine = func() error { return confine(folder, program, p.working) }
	return c, nil
}

func (c *child) close() {
	for _, f := range append(c.theirs, c.stdout, c.stderr, c.life) {
		if f != nil {
			_ = f.Close() // nothing is lost: they were read, or never used
		}
	}
}

// run starts the child, waits for its end or ends it when ctx does, and leaves
// nothing of it.
func (c *child) run(ctx context.Context) (err error) {
	onOwnThread(func() {
		// The child gets what this thread is left with, before its first
		// instruction. It is told of the death of this thread, which therefore
		// stays until the child is gone.
		if err = c.confine(); err != nil {
			return
		}
		err = c.cmd.Start()
		for _, f := range c.theirs {
			_ = f.Close() // the child has its own
		}
		c.theirs = nil
		if err != nil {
			return
		}
		pid := c.cmd.Process.Pid
		ended := make(chan struct{})
		var watching sync.WaitGroup
		watching.Go(func() {
			c.expendable(pid)
			select {
			case <-ended:
			case <-ctx.Done():
				kill(pid)
			}
		})
		// Not reaped yet: until then its number is nobody else's.
		for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		}
		close(ended)
		watching.Wait()
		kill(pid) // what it may have started
		err = c.cmd.Wait()
	})
	for _, f := range c.theirs {
		_ = f.Close() // it did not start: the readers must see an end
	}
	c.theirs = nil
	return err
}

// expendable makes the kernel choose the child first when memory is short.
func (c *child) expendable(pid int) {
	const first = "1000"
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(first), 0); err != nil {
		c.log("child is not first to go when memory is short", "error", err)
	}
}

// kill ends the child and its group. What is gone needs no end.
func kill(pid int) { _ = errors.Join(unix.Kill(-pid, unix.SIGKILL), unix.Kill(pid, unix.SIGKILL)) }

// onOwnThread runs f on a thread of its own, which ends with it, and waits. The
// first thread of the process, which stands for all of it in /proc, is spared.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}
