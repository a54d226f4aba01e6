package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of what is kept of one process; programs choose their arguments.
const (
	// argsLimit and argsMost bound the arguments, in bytes and in number: what a
	// person reads of a command line, far under the kernel's 2 MiB.
	argsLimit = 8 << 10
	argsMost  = 128
	// statLimit holds stat, which is about 300 bytes with a name of 64.
	statLimit = 2 << 10
	// statusLimit holds status with 65,536 supplementary groups, the kernel's
	// most, of eleven bytes each.
	statusLimit = 1 << 20
	// cgroupLimit holds a dozen hierarchies with paths of 4 KiB.
	cgroupLimit = 64 << 10
	// linkLimit is PATH_MAX.
	linkLimit = 4 << 10
)

// scanners is how many goroutines read /proc at once, at most. A process costs
// some 40 microseconds, nearly all of it in the kernel: 5,000 of them take 0.1
// seconds on two processors, and a large host keeps the rest of its own.
const scanners = 4

// Processes lists what runs now, without the kernel's own threads and without
// zombies. Keys carry start times in whole ticks of 10 ms; compare them with
// event.Key.Same. A process that ends while it is read is left out; what our
// rights don't let us read of another stays empty.
func (h *Host) Processes(ctx context.Context) ([]event.Running, error) {
	pids, err := processIDs(h.proc)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "list processes: %w", err).
			With("mount the host's proc file system at " + h.proc)
	}
	n := min(scanners, runtime.GOMAXPROCS(0))
	scans := make([]scan, n)
	var wg sync.WaitGroup
	for i := range scans {
		scans[i] = scan{proc: h.proc, booted: h.booted()}
		wg.Go(func() { scans[i].run(ctx, pids, i, n) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return joinScans(scans, len(pids))
}

// joinScans puts the parts together and gives each process its parent's start
// time.
func joinScans(scans []scan, most int) ([]event.Running, error) {
	starts := make(map[uint32]uint64, most)
	all := make([]event.Running, 0, most)
	for _, s := range scans {
		if s.err != nil {
			return nil, fmt.Errorf("list processes: %w", s.err)
		}
		for _, k := range s.seen {
			starts[k.PID] = k.Start
		}
		all = append(all, s.found...)
	}
	for i := range all {
		p := &all[i].Process
		start, known := starts[p.Parent.PID]
		if !known || start > p.Key.Start {
			// Gone meanwhile, outside this pid namespace, or its pid used again.
			p.Parent = event.Key{}
			continue
		}
		p.Parent.Start = start
	}
	return all, nil
}

// processIDs returns the numeric names in a proc file system.
func processIDs(proc string) ([]uint32, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	pids := make([]uint32, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.ParseUint(name, 10, 32); err == nil && pid > 0 {
			pids = append(pids, uint32(pid))
		}
	}
	return pids, nil
}

// scan is one goroutine's part of a listing, with its buffers.
type scan struct {
	proc   string
	booted time.Time
	buf    []byte
	seen   []event.Key // every process, kernel threads too, as possible parents
	found  []event.Running
	err    error // what stopped the scan
}

// run reads every step-th process beginning with the one at first.
func (s *scan) run(ctx context.Context, pids []uint32, first, step int) {
	s.buf = make([]byte, 8<<10)
	for i := first; i < len(pids); i += step {
		if ctx.Err() != nil {
			return
		}
		err := s.process(pids[i])
		if err != nil && !isPassing(err) {
			s.err = fmt.Errorf("read process %d: %w", pids[i], err)
			return
		}
	}
}

// isPassing reports whether an error concerns only the one process: it ended
// meanwhile, or our rights don't reach it.
func isPassing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// process reads one process. Everything is read through one open folder, which
// stays with the process even if its id is used again meanwhile.
func (s *scan) process(pid uint32) error {
	path := s.proc + "/" + strconv.FormatUint(uint64(pid), 10)
	dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	b, err := s.read(dir, "stat", statLimit)
	if err != nil {
		return err
	}
	st, ok := parseStat(b)
	if !ok {
		// The kernel cannot write such a line; a proc file system that is not one can.
		return fmt.Errorf("stat is not as proc_pid_stat(5) says: %.80q", b)
	}
	key := event.Key{PID: pid, Start: st.start}
	s.seen = append(s.seen, key)
	if st.flags&kernelThread != 0 || st.ended() {
		return nil
	}
	r := event.Running{
		Process: event.Process{Key: key, Parent: event.Key{PID: st.parent}, Name: text(st.name)},
		Started: s.booted.Add(time.Duration(st.start)),
	}
	if err := s.complete(dir, &r); err != nil {
		return err
	}
	s.found = append(s.found, r)
	return nil
}

// complete fills in what is not in stat.
func (s *scan) complete(dir int, r *event.Running) error {
	b, err := s.read(dir, "status", statusLimit)
	if err != nil {
		return err
	}
	who := parseStatus(b)
	r.Process.UID, r.Process.EUID, r.Process.GID = who.uid, who.euid, who.gid
	r.Process.ContainerPID = who.innermost
	if b, err = s.read(dir, "cgroup", cgroupLimit); err != nil {
		return err
	}
	r.WorkloadID = containerOf(b)
	// The rest may be closed to us, or empty: that is no reason to leave the
	// process out, but its end is.
	b, err = s.read(dir, "cmdline", argsLimit)
	if err != nil && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return err
	}
	r.Args = arguments(b)
	var memory bool
	r.Process.Executable, memory = s.executable(dir)
	switch {
	case memory:
		r.Origin = event.OriginMemory
	case r.WorkloadID == "":
		r.Origin = event.OriginHost
	}
	return nil
}

// read returns at most limit bytes of a file in dir; they are good until the
// next read.
func (s *scan) read(dir int, name string, limit int) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n := 0
	for n < limit {
		if n == len(s.buf) {
			s.buf = append(s.buf, make([]byte, len(s.buf))...)
		}
		got, err := unix.Read(fd, s.buf[n:min(len(s.buf), limit)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// The kernel hands such a file over whole, as far as there is room: less
		// than that is its end, and asking again would only cost.
		room := min(len(s.buf), limit) - n
		if n += got; got < room {
			break
		}
	}
	return s.buf[:n], nil
}

// arguments splits a command line at its NULs. Programs that write their state
// over it (nginx, postgres) leave any number of NULs at the end, so empty last
// arguments are not kept.
func arguments(b []byte) []string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil
	}
	var args []string
	for arg := range bytes.SplitSeq(b, []byte{0}) {
		if len(args) == argsMost {
			break
		}
		args = append(args, text(string(arg)))
	}
	return args
}

// executable returns the path of the file that a process runs, as its own root
// shows it, and whether the file lives in memory only.
func (s *scan) executable(dir int) (path string, memory bool) {
	path = s.link(dir, "exe")
	if path == "" {
		return "", false
	}
	if root := s.link(dir, "root"); root != "" && root != "/" {
		if below, ok := strings.CutPrefix(path, root); ok && strings.HasPrefix(below, "/") {
			path = below
		}
	}
	// The kernel adds a mark to the path of a file without a name. A file can
	// also be called so, and then it still has a link.
	if unmarked, marked := strings.CutSuffix(path, " (deleted)"); marked {
		var file unix.Stat_t
		if err := unix.Fstatat(dir, "exe", &file, 0); err != nil || file.Nlink == 0 {
			path = unmarked
		}
	}
	return text(path), strings.HasPrefix(path, "/memfd:")
}

// link reads a symbolic link in dir; empty if it can't be read.
func (s *scan) link(dir int, name string) string {
	n, err := unix.Readlinkat(dir, name, s.buf[:linkLimit])
	if err != nil {
		return ""
	}
	return string(s.buf[:n])
}
