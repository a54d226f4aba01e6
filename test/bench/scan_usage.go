package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	var least usage
	for i := range rounds {
		c, err := command()
		if err != nil {
			return usage{}, err
		}
		u, err := runOnce(c)
		if err != nil {
			return usage{}, err
		}
		if i == 0 {
			least = u
		}
		least.cpu, least.wall, least.peak = min(least.cpu, u.cpu), min(least.wall, u.wall), max(least.peak, u.peak)
		least.read, least.load = max(least.read, u.read), u.load
	}
	return least, nil
}

func runOnce(c *exec.Cmd) (usage, error) {
	var said bytes.Buffer
	c.Stderr = &said
	begin := time.Now()
	if err := c.Start(); err != nil {
		return usage{}, err
	}
	// The account of what it read is there until it is waited for.
	var info unix.Siginfo
	ended := unix.Waitid(unix.P_PID, c.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
	wall := time.Since(begin).Seconds()
	read, readErr := bytesRead(c.Process.Pid)
	if err := c.Wait(); err != nil && !foundSomething(c, err) {
		return usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, said.String())
	}
	u, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return usage{}, errors.New("no account of what a program took")
	}
	minute, _, _ := strings.Cut(load(), " ")
	return usage{cpu: c.ProcessState.UserTime().Seconds() + c.ProcessState.SystemTime().Seconds(), wall: wall, peak: u.Maxrss << 10, read: read, load: minute},
		errors.Join(ended, readErr)
}

// foundSomething says whether a program ended as osv-scanner does when there are
// vulnerabilities.
func foundSomething(c *exec.Cmd, err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 1 && strings.HasSuffix(c.Path, "/osv-scanner")
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
