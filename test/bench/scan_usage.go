package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what one run of a program took.
type usage struct {
	cpu, wall float64 // seconds
	peak      int64   // bytes
	read      int64   // bytes, by system calls
	load      string  // of the machine, the minute before the last run
}

// String is a figure for the table.
func (u usage) String() string {
	return fmt.Sprintf("%.2f CPU s, %.2f s wall, %d MiB, load %s", u.cpu, u.wall, u.peak>>20, u.load)
}

// leastOf runs a command several times. Exit code 1 of a peer says that it found
// something.
func leastOf(rounds int, command func() (*exec.Cmd, error)) (usage, error) {
	all, err := leastOfEach(rounds, command)
	return all[0], err
}

// leastOfEach runs commands in turn, so that what slows one slows the others.
func leastOfEach(rounds int, commands ...func() (*exec.Cmd, error)) ([]usage, error) {
	all := make([]usage, len(commands))
	for i := range rounds {
		for k, command := range commands {
			c, err := command()
			if err != nil {
				return all, err
			}
			u, err := runOnce(c)
			if err != nil {
				return all, err
			}
			least := &all[k]
			if i == 0 {
				*least = u
			}
			least.cpu, least.wall, least.peak = min(least.cpu, u.cpu), min(least.wall, u.wall), max(least.peak, u.peak)
			least.read, least.load = max(least.read, u.read), u.load
		}
	}
	return all, nil
}

// measureCommand is this program started again to start another one and say what
// that took. The kernel counts what its parent held until then as the memory of
// a program that is started: that of this one, which makes images, is more than
// what is measured.
const measureCommand = "measure"

// measurement is what a program took, as it is said by who started it.
type measurement struct {
	CPU, Wall  float64
	Peak, Read int64
	Code       int // with which the program ended
}

// runOnce runs a command by way of measureCommand.
func runOnce(c *exec.Cmd) (usage, error) {
	self, err := os.Executable()
	if err != nil {
		return usage{}, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return usage{}, err
	}
	defer r.Close()
	var said bytes.Buffer
	between := &exec.Cmd{Path: self, Args: append([]string{self, measureCommand, c.Path}, c.Args[1:]...), Env: c.Env, Dir: c.Dir,
		Stderr: &said, ExtraFiles: []*os.File{w}}
	if err := errors.Join(between.Start(), w.Close()); err != nil {
		return usage{}, err
	}
	var m measurement
	err = json.NewDecoder(r).Decode(&m)
	if err = errors.Join(between.Wait(), err); err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, said.String())
	}
	if m.Code != 0 && !foundSomething(c, m.Code) {
		return usage{}, fmt.Errorf("%s: exit code %d\n%s", strings.Join(c.Args, " "), m.Code, said.String())
	}
	minute, _, _ := strings.Cut(load(), " ")
	return usage{cpu: m.CPU, wall: m.Wall, peak: m.Peak, read: m.Read, load: minute}, nil
}

// measureMain is measureCommand: it writes the measurement to its fourth file.
func measureMain(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Stderr = os.Stderr
	begin := time.Now()
	if err := c.Start(); err != nil {
		return err
	}
	// The account of what it read is there until it is waited for.
	var info unix.Siginfo
	ended := unix.Waitid(unix.P_PID, c.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
	m := measurement{Wall: time.Since(begin).Seconds()}
	read, readErr := bytesRead(c.Process.Pid)
	err := c.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	u, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("no account of what a program took")
	}
	m.CPU = c.ProcessState.UserTime().Seconds() + c.ProcessState.SystemTime().Seconds()
	m.Peak, m.Read, m.Code = u.Maxrss<<10, read, c.ProcessState.ExitCode()
	return errors.Join(ended, readErr, json.NewEncoder(os.NewFile(3, "measurement")).Encode(m))
}

// foundSomething says whether a program ended as osv-scanner does when there are
// vulnerabilities.
func foundSomething(c *exec.Cmd, code int) bool {
	return code == 1 && strings.HasSuffix(c.Path, "/osv-scanner")
}

func bytesRead(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "rchar: "); ok {
			return strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, fmt.Errorf("no account of what process %d read", pid)
}
