package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// resolveCached is RESOLVE_CACHED of include/uapi/linux/openat2.h.
const resolveCached = 0x20

// Limits of asking where paths lead.
const (
	// asksPerSecond bounds the time that it takes: 20 to 100 microseconds each,
	// so 10 % of a processor. What comes beyond it stays claimed.
	asksPerSecond = 1_000
	// maxKnown bounds the containers of which a process is remembered.
	maxKnown = 1_024
	// maxProcFile is more than /proc/PID/cgroup has on any host, and room for
	// some 500 mounts in mountinfo.
	maxProcFile = 64 << 10
	// maxAbove is how many folders a root may lie below that of its container.
	maxAbove = 64
)

// claims asks the kernel where the paths lead that processes passed to it. It
// does so after the fact, as the process sees its files by then: another
// process may have changed a symbolic link in between. It is for one
// goroutine.
//
// Nothing of it waits for a container, whose own file system (FUSE) could let us
// wait for ever: a look-up is answered from the kernel's memory alone
// (RESOLVE_CACHED, since 5.12), or within the container's root file system if
// that is a kind which the kernel serves by itself.
type claims struct {
	second time.Time
	asked  int
	alive  map[string]uint32 // a process of a container that lived when last asked
}

func newClaims() *claims {
	return &claims{alive: map[string]uint32{}}
}

// found is where a path leads.
type found struct {
	path string
	stat unix.Statx_t // zero where the file itself is not there (any more)
}

// view is the root of a process, through which paths are followed. The caller
// closes it.
type view struct {
	proc string // the process's folder in procfs
	root int
	name string // how we see it
	ours *bool  // see isOurs
}

// open returns the root of the event's process, or that of another process of
// its container when it is gone and rooted does not say that it had a root of
// its own: init, the first one, if that is known, or one that was met before.
// device is that of the container's root then.
func (c *claims) open(e *event.Event, init uint32, rooted bool, device uint32) (*view, error) {
	if now := time.Now(); now.Sub(c.second) >= time.Second {
		c.second, c.asked = now, 0
	}
	if c.asked++; c.asked > asksPerSecond {
		return nil, errors.New("too many paths in a second")
	}
	pids := []uint32{e.Process.Key.PID}
	if !rooted {
		pids = append(pids, init, e.Process.Parent.PID, c.alive[e.WorkloadID])
	}
	for _, pid := range pids {
		root := openRoot(pid, e.WorkloadID)
		if root < 0 {
			continue
		}
		name, err := nameOf(root)
		if err != nil {
			unix.Close(root)
			continue
		}
		if rooted {
			// Followed by its own root, told by that of its container.
			if name, err = c.top(e, init, root, device); err != nil {
				unix.Close(root)
				continue
			}
		} else {
			c.know(e.WorkloadID, pid)
		}
		return &view{proc: procOf(pid), root: root, name: name}, nil
	}
	return nil, errors.New("no process of the container lives")
}

// top returns how we see the root of a container, of which a process has another: as
// another process of it has it. Where none is known to have another than this one, it is
// looked for above that, by its device.
func (c *claims) top(e *event.Event, init uint32, own int, device uint32) (string, error) {
	is, err := nameOf(own)
	if err != nil {
		return "", err
	}
	for _, pid := range []uint32{init, c.alive[e.WorkloadID]} {
		root := openRoot(pid, e.WorkloadID)
		if root < 0 {
			continue
		}
		name, err := nameOf(root)
		unix.Close(root)
		if err == nil && name != is {
			return name, nil
		}
	}
	return uppermost(own, device)
}

// uppermost returns how we see the uppermost folder of a file system above a folder, by
// the number of its device, or of all that is mounted above it where there is none. What
// is above it is in the kernel's memory as long as it is.
func uppermost(folder int, device uint32) (string, error) {
	fd, err := unix.Dup(folder)
	if err != nil {
		return "", err
	}
	defer func() { unix.Close(fd) }()
	for range maxAbove {
		at := statOf(fd)
		top := at.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
		if top && deviceOf(&at) == device {
			return nameOf(fd)
		}
		up, err := unix.Openat2(fd, "..", &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolveCached})
		if err != nil {
			return "", err
		}
		above := statOf(up)
		unix.Close(fd)
		fd = up
		if top && at.Ino == above.Ino && deviceOf(&at) == deviceOf(&above) {
			return nameOf(fd)
		}
	}
	return "", errors.New("the root is too far above")
}

// deviceOf returns the number of a file's device, as the kernel has it.
func deviceOf(s *unix.Statx_t) uint32 { return s.Dev_major<<20 | s.Dev_minor }

func (c *claims) know(workload string, pid uint32) {
	if _, ok := c.alive[workload]; !ok && len(c.alive) >= maxKnown {
		clear(c.alive)
	}
	c.alive[workload] = pid
}

// openRoot opens the root of a process if it is of the workload; else it
// returns -1. The root is opened first: a process id that is used again in
// between would be asked about by its new name.
func openRoot(pid uint32, workload string) int {
	if pid == 0 || workload == "" {
		return -1
	}
	proc := procOf(pid)
	root, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	if !isOf(proc+"/cgroup", workload) {
		unix.Close(root)
		return -1
	}
	return root
}

func procOf(pid uint32) string { return "/proc/" + strconv.FormatUint(uint64(pid), 10) }

// isOf tells whether the list of a process's cgroups has the container's.
func isOf(file, workload string) bool {
	list, err := readSome(file)
	return err == nil && strings.Contains(list, workload)
}

func nameOf(fd int) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

func (v *view) close() { unix.Close(v.root) }

// lookUp opens a path below the root, without waiting for anybody. The path is
// not cleaned: what ".." means behind a symbolic link, the kernel knows.
func (v *view) lookUp(name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolveCached,
	}
	fd, err := unix.Openat2(v.root, name, &how)
	if (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINVAL)) && v.isOurs() {
		how.Resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV
		fd, err = unix.Openat2(v.root, name, &how)
	}
	return fd, err
}

// isOurs tells whether the root's file system is one that the host's kernel
// serves by itself, so that asking it ends.
func (v *view) isOurs() bool {
	if v.ours == nil {
		ours := slices.Contains(served, v.fileSystem())
		v.ours = &ours
	}
	return *v.ours
}

// served are file systems that need no program and no network.
var served = []string{"overlay", "ext4", "ext3", "ext2", "xfs", "btrfs", "tmpfs", "ramfs", "rootfs", "erofs", "squashfs", "zfs", "f2fs"}

// fileSystem returns the type of the root's file system, by the number of its
// mount: asking the file system itself could wait.
func (v *view) fileSystem() string {
	info, err := readSome(fmt.Sprintf("/proc/self/fdinfo/%d", v.root))
	if err != nil {
		return ""
	}
	_, id, _ := strings.Cut(info, "mnt_id:")
	id, _, _ = strings.Cut(strings.TrimSpace(id), "\n")
	mounts, err := readSome(v.proc + "/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(mounts) {
		if first, rest, _ := strings.Cut(line, " "); first == id {
			_, kind, _ := strings.Cut(rest, " - ")
			kind, _, _ = strings.Cut(kind, " ")
			return kind
		}
	}
	return ""
}

// readSome reads the beginning of a file of procfs.
func readSome(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxProcFile))
	return string(b), err
}

// inside returns the path of an open file below the root.
func (v *view) inside(fd int) (string, bool) {
	name, err := nameOf(fd)
	if err != nil || strings.HasSuffix(name, " (deleted)") {
		return "", false
	}
	if v.name == "/" {
		return name, true
	}
	rest, ok := strings.CutPrefix(name, v.name)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return "/" + strings.TrimPrefix(rest, "/"), true
}

// find follows a path but for its last name, and that too with follow. It
// reports false when that could not be done.
func (v *view) find(name string, follow bool) (found, bool) {
	if follow {
		if fd, err := v.lookUp(name, 0); err == nil {
			defer unix.Close(fd)
			file, ok := v.inside(fd)
			return found{path: file, stat: statOf(fd)}, ok
		}
	}
	folder, last := path.Split(strings.TrimRight(name, "/"))
	if last == "" || last == "." || last == ".." {
		return found{}, false
	}
	fd, err := v.lookUp(folder, unix.O_DIRECTORY)
	if err != nil {
		return found{}, false
	}
	defer unix.Close(fd)
	at, ok := v.inside(fd)
	if !ok {
		return found{}, false
	}
	out := found{path: path.Join(at, last)}
	if file, err := v.lookUp(strings.TrimRight(name, "/"), unix.O_NOFOLLOW); err == nil {
		out.stat = statOf(file)
		unix.Close(file)
	}
	return out, true
}

// statOf asks for what the kernel has in memory of an open file.
func statOf(fd int) unix.Statx_t {
	var s unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &s)
	if err != nil {
		return unix.Statx_t{}
	}
	return s
}

// asSeen replaces what means another file to us than to the process: its own
// place in procfs, and through it its own root.
func asSeen(name string, e *event.Event) string {
	own := procOf(e.Process.ContainerPID)
	for _, self := range []string{"/proc/self", "/proc/thread-self"} {
		if rest, ok := strings.CutPrefix(name, self); ok && (rest == "" || rest[0] == '/') {
			name = own + rest
		}
	}
	if rest, ok := strings.CutPrefix(name, own+"/root"); ok && (rest == "" || rest[0] == '/') {
		return asSeen("/"+strings.TrimLeft(rest, "/"), e)
	}
	return name
}
