package kernel

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of what is read to learn what a process uses.
const (
	// mapsLimit holds the 65,530 mappings that a process may have
	// (vm.max_map_count) of some hundred bytes each, of which those of libraries
	// come last: a part of the list would lack them.
	mapsLimit = 8 << 20
	// descriptorsMost bounds the open files that are looked at; a service with
	// more of them has sockets.
	descriptorsMost = 4096
	// usesMost bounds the files of one process; a Java service holds some
	// hundred archives open.
	usesMost = 4096
)

// archives are the ends of names of files that are held open for the code in
// them.
var archives = []string{".jar", ".war", ".ear", ".aar"}

// Used returns the files of its image that a process in a container uses: those
// that it mapped as code (its program, its libraries), and archives of code that
// it holds open; absolute, as the container sees them. Files on mounts, those
// that were written since the container was made, and those that are deleted are
// left out, and those for which known is true, which costs less.
//
// Errors: NotFound when the process has ended, Unsupported when its root is not
// that of a container on an overlay: what is of the image can't be told then.
func (h *Host) Used(k event.Key, known func(path string) bool) ([]string, error) {
	dir, err := unix.Open(h.inProc(strconv.FormatUint(uint64(k.PID), 10)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.New(fault.NotFound, "look at process %d: %w", k.PID, err)
	}
	defer unix.Close(dir)
	s := scan{buf: make([]byte, 16<<10)}
	b, err := s.read(dir, "stat", statLimit)
	if err != nil {
		return nil, fault.New(fault.NotFound, "look at process %d: %w", k.PID, err)
	}
	if st, ok := parseStat(b); !ok || !k.Same(event.Key{PID: k.PID, Start: st.start}) {
		return nil, fault.New(fault.NotFound, "process %d has ended", k.PID)
	}
	if b, err = s.read(dir, "maps", mapsLimit); err != nil {
		return nil, fault.New(fault.NotFound, "read the mappings of process %d: %w", k.PID, err)
	}
	wanted := func(path string) bool { return !known(path) }
	paths := append(mappedCode(b, wanted), s.openArchives(dir, wanted)...)
	slices.Sort(paths)
	if paths = slices.Compact(paths); len(paths) == 0 {
		return nil, nil
	}
	return h.ofImage(dir, k.PID, paths)
}

// mappedCode returns the files that are mapped as code in /proc/PID/maps;
// proc_pid_maps(5): addresses, permissions, offset, device, inode and path.
// Paths are as the process's mount namespace has them, wherever they are read.
func mappedCode(maps []byte, wanted func(path string) bool) (paths []string) {
	last := ""
	for line := range bytes.Lines(maps) {
		if len(paths) == usesMost {
			break
		}
		_, rest := nextField(line)
		permissions, rest := nextField(rest)
		if len(permissions) < 3 || permissions[2] != 'x' {
			continue
		}
		for range 3 { // offset, device, inode
			_, rest = nextField(rest)
		}
		path := string(bytes.TrimSuffix(bytes.TrimLeft(rest, " "), []byte("\n")))
		if path = strings.ReplaceAll(path, `\012`, "\n"); path == last || !isFile(path) {
			continue
		}
		last = path
		if wanted(path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// isFile leaves out what has no path (memfd, vdso, anonymous), and what is
// deleted: the kernel marks it so. A file that is called so is left out, too.
func isFile(path string) bool {
	return len(path) > 1 && len(path) < linkLimit && path[0] == '/' && path[1] != '/' && !strings.HasSuffix(path, " (deleted)") && utf8.ValidString(path)
}

// openArchives returns the archives of code among the open files of a process.
func (s *scan) openArchives(dir int, wanted func(path string) bool) (paths []string) {
	fd, err := unix.Openat(dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // it is ending, or not ours to see
	}
	folder := os.NewFile(uintptr(fd), "fd")
	defer folder.Close()
	names, _ := folder.Readdirnames(descriptorsMost) // those before an error count
	for _, name := range names {
		path := s.link(fd, name)
		if isFile(path) && len(paths) < usesMost && wanted(path) &&
			slices.ContainsFunc(archives, func(end string) bool { return strings.HasSuffix(path, end) }) {
			paths = append(paths, path)
		}
	}
	return paths
}

// ofImage returns which of these files are of the image of the container that a
// process is in.
func (h *Host) ofImage(dir int, pid uint32, paths []string) ([]string, error) {
	s := scan{buf: make([]byte, linkLimit)}
	if root := s.link(dir, "root"); root != "/" {
		return nil, fault.New(fault.Unsupported, "process %d has another root than its container: %q", pid, root)
	}
	root, err := unix.Openat(dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.New(fault.NotFound, "open the root of process %d: %w", pid, err)
	}
	defer unix.Close(root)
	folder, err := h.UpperFolder(int(pid))
	if err != nil {
		return nil, err
	}
	if h.proc != "/proc" { // an agent in a container has the host's files elsewhere
		folder = h.inProc("1", "root", folder)
	}
	upper, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.New(fault.Unsupported, "open what the container of process %d wrote: %w", pid, err)
	}
	defer unix.Close(upper)
	return slices.DeleteFunc(paths, func(path string) bool { return !isBelow(root, path) || isBelow(upper, path) }), nil
}

// isBelow says whether a path leads to a regular file below an open root,
// without any link and without crossing into another mount.
func isBelow(root int, path string) bool {
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return false
	}
	var st unix.Stat_t
	err = errors.Join(unix.Fstat(fd, &st), unix.Close(fd))
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}
