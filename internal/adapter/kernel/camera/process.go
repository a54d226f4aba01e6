package camera

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
)

// Limits of what is taken of processes, which choose it.
const (
	maxProcesses = 2_000
	// processWithin bounds the reading of one: a page that its user handles by itself
	// (userfaultfd, FUSE) would hold the reader for ever. stuckMost is how many readers
	// may be held so before the rest of the processes is left out.
	processWithin = 5 * time.Second
	stuckMost     = 4
	maxMaps       = 1 << 20 // bytes of one
	maxStatus     = 64 << 10
	maxEnviron    = 256 << 10
	maxOpen       = 4_096    // open files of one
	maxHashed     = 64 << 20 // bytes of an executable or of a changed file
	maxContent    = 1 << 20  // bytes of a file whose content is kept
)

// Process is one process of a container, in processes.json.
type Process struct {
	event.Running
	Namespaces map[string]string `json:"namespaces,omitempty"` // name → type:[inode]
	WorkingDir string            `json:"working_dir,omitempty"`
	Root       string            `json:"root,omitempty"`
	Deleted    bool              `json:"deleted,omitempty"`  // its executable has no name any more
	ExeSize    int64             `json:"exe_size,omitempty"` // of the executable
	ExeDigest  string            `json:"exe_sha256,omitempty"`
	// Names are those of its environment; Environment has values, too, where somebody
	// asked for them.
	Names       []string `json:"environment_names,omitempty"`
	Environment []string `json:"environment,omitempty"`
	Open        []Open   `json:"open,omitempty"`
	MoreOpen    bool     `json:"more_open,omitempty"`
	// Files are those of the archive that belong to it.
	Files []string `json:"files,omitempty"`
	Lacks []string `json:"lacks,omitempty"`
}

// Open is one file that a process has open.
type Open struct {
	FD   int    `json:"fd"`
	What string `json:"what"` // as the kernel says it: a path, socket:[inode], pipe:[inode]
}

// part is a file of the archive that was read.
type part struct {
	name string
	body []byte
	cut  bool
}

// processes takes the tree of processes.
func (s *shot) processes(ctx context.Context, running []event.Running) {
	if len(running) > maxProcesses {
		s.lack("%d of %d processes have no room", len(running)-maxProcesses, len(running))
		running = running[:maxProcesses]
	}
	all := make([]Process, 0, len(running))
	stuck := 0
	for _, r := range running {
		if ctx.Err() != nil || stuck >= stuckMost {
			s.lack("%d processes were not read any more", len(running)-len(all))
			break
		}
		type read struct {
			p     Process
			parts []part
		}
		done := make(chan read, 1) // it outlasts a reader that is held
		go func() {
			p, parts := s.process(r)
			done <- read{p, parts}
		}()
		timer := time.NewTimer(processWithin)
		select {
		case got := <-done:
			for _, f := range got.parts {
				s.put(f.name, f.body, f.cut)
			}
			all = append(all, got.p)
		case <-timer.C:
			stuck++
			all = append(all, Process{Running: r, Lacks: []string{"reading it is held up: it handles its own page faults, or waits for a disk"}})
		}
		timer.Stop()
	}
	s.putJSON("processes.json", all)
}

// process reads one process through its open folder, which stays with it even if its
// id is used again.
func (s *shot) process(r event.Running) (p Process, parts []part) {
	p = Process{Running: r, Namespaces: map[string]string{}}
	pid := strconv.FormatUint(uint64(r.Process.Key.PID), 10)
	dir, err := unix.Open(filepath.Join(s.o.Proc, pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		p.Lacks = append(p.Lacks, "it has ended")
		return p, nil
	}
	defer unix.Close(dir)
	keep := func(name string, limit int64) []byte {
		b, cut, err := readIn(dir, name, limit)
		if err != nil {
			p.Lacks = append(p.Lacks, fmt.Sprintf("%s: %v", name, err))
			return nil
		}
		file := "processes/" + pid + "/" + name
		parts = append(parts, part{file, b, cut})
		p.Files = append(p.Files, file)
		return b
	}
	keep("status", maxStatus)
	keep("maps", maxMaps)
	keep("mountinfo", maxMaps)
	p.WorkingDir, p.Root = linkIn(dir, "cwd"), linkIn(dir, "root")
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		p.Namespaces[ns] = linkIn(dir, "ns/"+ns)
	}
	s.environment(dir, &p)
	s.open(dir, &p)
	if file := s.executable(dir, &p); file != nil {
		file.name = "processes/" + pid + "/exe"
		p.Files = append(p.Files, file.name)
		parts = append(parts, *file)
	}
	return p, parts
}

// environment reads the names of variables; values are secrets.
func (s *shot) environment(dir int, p *Process) {
	b, cut, err := readIn(dir, "environ", maxEnviron)
	if err != nil || cut {
		p.Lacks = append(p.Lacks, fmt.Sprintf("environment: not all of it was read (%v)", err))
	}
	for v := range bytes.SplitSeq(bytes.TrimRight(b, "\x00"), []byte{0}) {
		if len(v) == 0 {
			continue
		}
		name, _, _ := bytes.Cut(v, []byte{'='})
		p.Names = append(p.Names, valid(name))
		if s.d.Values {
			p.Environment = append(p.Environment, valid(v))
		}
	}
}

// open lists open files.
func (s *shot) open(dir int, p *Process) {
	fd, err := openIn(dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		p.Lacks = append(p.Lacks, fmt.Sprintf("open files: %v", err))
		return
	}
	f := os.NewFile(uintptr(fd), "fd")
	defer f.Close()
	names, err := f.Readdirnames(maxOpen + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		p.Lacks = append(p.Lacks, fmt.Sprintf("open files: %v", err))
	}
	if p.MoreOpen = len(names) > maxOpen; p.MoreOpen {
		names = names[:maxOpen]
	}
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			p.Open = append(p.Open, Open{n, linkIn(int(f.Fd()), name)})
		}
	}
	slices.SortFunc(p.Open, func(a, b Open) int { return a.FD - b.FD })
}

// executable hashes what a process runs, through the kernel's own link to it: no path
// of the container is gone. One without a name, and with files all small ones, is kept.
func (s *shot) executable(dir int, p *Process) *part {
	fd, err := unix.Openat(dir, "exe", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		p.Lacks = append(p.Lacks, fmt.Sprintf("executable: %v", err))
		return nil
	}
	f := os.NewFile(uintptr(fd), "exe")
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	p.ExeSize, p.Deleted = st.Size, st.Nlink == 0
	if st.Size > maxHashed {
		p.Lacks = append(p.Lacks, fmt.Sprintf("executable: it has %d bytes, and up to %d are hashed", st.Size, maxHashed))
		return nil
	}
	h := sha256.New()
	var body bytes.Buffer
	to := io.Writer(h)
	kept := (p.Deleted || s.d.Files) && st.Size <= maxContent*16
	if kept {
		to = io.MultiWriter(h, &body)
	}
	if _, err := io.Copy(to, io.LimitReader(f, maxHashed)); err != nil {
		p.Lacks = append(p.Lacks, fmt.Sprintf("executable: %v", err))
		return nil
	}
	p.ExeDigest = hex.EncodeToString(h.Sum(nil))
	if !kept {
		return nil
	}
	return &part{body: body.Bytes()}
}

// openIn opens a file below an open folder. No link is followed, and nothing above
// the folder is reached (openat2(2), Linux 5.6; before, only the last part can be a
// link, which is not followed either).
func openIn(dir int, name string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		if strings.Contains(name, "/") {
			return -1, err
		}
		return unix.Openat(dir, name, flags, 0)
	}
	return fd, err
}

// readIn reads a file of an open folder.
func readIn(dir int, name string, limit int64) ([]byte, bool, error) {
	fd, err := openIn(dir, name, unix.O_RDONLY)
	if err != nil {
		return nil, false, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return readAtMost(f, limit)
}

// linkIn says where a link leads, without going there.
func linkIn(dir int, name string) string {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, b)
	if err != nil {
		return ""
	}
	return valid(b[:n])
}

// valid makes text of what others wrote.
func valid(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
