package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What lies in containers that the benchmark makes.
const (
	insideSelf    = "/bench/bench"   // this program
	insideTiny    = "/bench/tiny"    // the smallest program
	insideOutside = "/bench/outside" // the same, and nothing ever runs it while it is learned
	insideWork    = "/bench/work"    // files are made here
	insideNginx   = "/bench/nginx"
)

// image is what containers of the benchmark are made from: the host's own files, with a
// folder of the benchmark above them. It lies in memory, because a layer can't be
// below another one.
type image struct{ dir string }

// openImage makes an image.
func openImage(o options) (_ *image, err error) {
	i := &image{dir: filepath.Join(o.dir, "image")}
	if err := os.Mkdir(i.dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", i.dir, "tmpfs", 0, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount a folder in memory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.close())
		}
	}()
	for _, d := range []string{"layer/bench/work", "layer/bench/nginx", "layer/dev"} {
		if err := os.MkdirAll(filepath.Join(i.dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	const null = 1<<8 | 3 // of Documentation/admin-guide/devices.txt
	if err := unix.Mknod(filepath.Join(i.dir, "layer/dev/null"), unix.S_IFCHR|0o666, null); err != nil {
		return nil, fmt.Errorf("make /dev/null: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	small, err := tiny(o)
	if err != nil {
		return nil, err
	}
	for to, from := range map[string]string{insideSelf: self, insideTiny: small, insideOutside: small} {
		if err := copyProgram(from, filepath.Join(i.dir, "layer", to)); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (i *image) close() error {
	if err := unix.Unmount(i.dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of %s: %w", i.dir, err)
	}
	return nil
}

// contained is a container as an engine's runtime makes it: a cgroup with the name
// that Docker gives it, mounts of its own, and an overlay as its root, so that it is
// known what came with the image.
type contained struct {
	id, name string
	group    string // the container's name within its ECS task; its group is bench/town/<group>
	cgroup   string
	root     string // on the host
	pid      int    // of its first process, 0 until there is one
	// What boot started, and how it is told what to do.
	init    *exec.Cmd
	orders  *json.Encoder
	reports *json.Decoder
}

// container makes the nth container of an image. It has no process yet.
func (i *image) container(n int, group string) (_ *contained, err error) {
	parent := filepath.Join(unifiedRoot(), "docker")
	c := &contained{id: strings.Repeat("bec0", 12) + fmt.Sprintf("%016x", n), name: "bench-" + strconv.Itoa(n), group: group}
	c.cgroup = filepath.Join(parent, c.id)
	if err := os.MkdirAll(c.cgroup, 0o755); err != nil {
		return nil, err
	}
	own := filepath.Join(i.dir, c.name)
	c.root = filepath.Join(own, "root")
	for _, d := range []string{"root", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(own, d), 0o755); err != nil {
			return nil, err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s:/,upperdir=%s,workdir=%s", filepath.Join(i.dir, "layer"), filepath.Join(own, "upper"), filepath.Join(own, "work"))
	if err := unix.Mount("overlay", c.root, "overlay", 0, layers); err != nil {
		return nil, errors.Join(fmt.Errorf("mount the root of a container: %w", err), os.Remove(c.cgroup))
	}
	return c, nil
}

// close ends all that runs in the container, and takes it away.
func (c *contained) close() error {
	kill := func() bool {
		pids, err := c.pids()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
		return err != nil || len(pids) == 0
	}
	err := poll(context.Background(), kill)
	if c.init != nil {
		_ = c.init.Wait() // it was killed
	}
	err = errors.Join(err, unix.Unmount(c.root, unix.MNT_DETACH))
	// Left over cgroups are empty and harmless; removing is tidiness only.
	_ = os.Remove(c.cgroup)
	return err
}

func (c *contained) pids() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(c.cgroup, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// command is a program of the container, to be started in it from outside. Done
// is to be called when it was started.
func (c *contained) command(ctx context.Context, program string, args ...string) (cmd *exec.Cmd, done func(), err error) {
	dir, err := os.Open(c.cgroup)
	if err != nil {
		return nil, nil, err
	}
	cmd = exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{"PATH=/usr/bin:/bin"}, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Chroot: c.root, Cloneflags: syscall.CLONE_NEWNS}
	return cmd, func() { _ = dir.Close() }, nil // it was only read
}

// keepCommand is the first process of a container: it starts what it is told to, as
// its children, because what comes in from outside is nothing that a service does.
const keepCommand = "keep"

// order is what the first process is told to start.
type order struct {
	Args []string
	Stay bool // it goes on running, and nobody waits for it
}

// report is what became of an order.
type report struct {
	Out   string
	CPU   time.Duration // of the program and its children
	Error string
}

// keepMain obeys orders from its standard input until that ends.
func keepMain(ctx context.Context) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return nil // nobody gives orders any more
		}
		cmd := exec.CommandContext(ctx, o.Args[0], o.Args[1:]...)
		cmd.Stderr = os.Stderr
		var r report
		if o.Stay {
			if err := cmd.Start(); err != nil {
				r.Error = err.Error()
			}
		} else {
			b, err := cmd.Output()
			r.Out = string(b)
			if err != nil {
				r.Error = err.Error()
			} else {
				r.CPU = cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()
			}
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// boot starts the container's first process.
func (c *contained) boot(ctx context.Context) error {
	cmd, done, err := c.command(ctx, insideSelf, keepCommand)
	if err != nil {
		return err
	}
	defer done()
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a container: %w", err)
	}
	c.pid, c.init, c.orders, c.reports = cmd.Process.Pid, cmd, json.NewEncoder(in), json.NewDecoder(out)
	return nil
}

// obey has the first process carry out an order.
func (c *contained) obey(o order) (r report, err error) {
	if err := c.orders.Encode(o); err != nil {
		return r, fmt.Errorf("order %s: %w", o.Args[0], err)
	}
	if err := c.reports.Decode(&r); err != nil {
		return r, fmt.Errorf("hear what became of %s: %w", o.Args[0], err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s in the container: %s", strings.Join(o.Args, " "), r.Error)
	}
	return r, nil
}

// storm does a job in the container.
func (c *contained) storm(o options, j job) (stormed, error) {
	if j.program == "" {
		j.program = insideTiny
	}
	r, err := c.obey(order{Args: append([]string{insideSelf}, j.args(o, insideWork)...)})
	if err != nil {
		return stormed{}, err
	}
	return readStorm(r.Out, r.CPU)
}

// isHeld tells whether a program that was never learned is stopped in the container.
func (c *contained) isHeld(ctx context.Context) bool {
	cmd, done, err := c.command(ctx, insideOutside)
	if err != nil {
		return false
	}
	defer done()
	return cmd.Run() != nil
}

// cpu is what the processes that are in the container now have used so far.
func (c *contained) cpu() (all time.Duration, err error) {
	pids, err := c.pids()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			return 0, err
		}
		var ns int64
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			return 0, fmt.Errorf("read schedstat of %d: %w", pid, err)
		}
		all += time.Duration(ns)
	}
	return all, nil
}
