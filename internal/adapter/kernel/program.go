package kernel

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// ReadProgram has use read the file that an exec has executed: through its process
// while that runs it, or else, of a file that came with the image, by its path below
// the root of beside, another process of the container; the zero value is none. It
// never blocks, follows no symbolic link, opens nothing but regular files, and only
// the file that the sensor saw, by its inode.
//
// Errors: NotFound when it is not to be had any more, Unsupported when it is another
// file by now, or one that was changed since; else those of use.
func (h *Host) ReadProgram(e *event.Event, beside event.Key, use func(event.FileIdentity, io.Reader) error) error {
	f, err := h.openRunning(e)
	var id event.FileIdentity
	if err == nil {
		if id, err = program(f, e); err != nil {
			f.Close() // it executed something else meanwhile
		}
	}
	if err != nil && e.Exec.Origin == event.OriginImage && !beside.IsZero() {
		if f, err = h.openBeside(e, beside); err != nil {
			return err
		}
		if id, err = program(f, e); err != nil {
			f.Close()
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := use(id, f); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || identityOf(&st) != id {
		return fault.New(fault.Unsupported, "the file was changed while it was read")
	}
	return nil
}

// processFolder opens /proc/PID of a process, if that is the one still.
func (h *Host) processFolder(k event.Key) (dir int, err error) {
	dir, err = unix.Open(h.inProc(strconv.FormatUint(uint64(k.PID), 10)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fault.New(fault.NotFound, "look at process %d: %w", k.PID, err)
	}
	s := scan{buf: make([]byte, linkLimit)}
	b, err := s.read(dir, "stat", statLimit)
	if st, ok := parseStat(b); err != nil || !ok || !k.Same(event.Key{PID: k.PID, Start: st.start}) {
		unix.Close(dir)
		return -1, fault.New(fault.NotFound, "process %d has ended", k.PID)
	}
	return dir, nil
}

const readOnly = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

// openRunning opens what the process of an exec runs. That is always a regular file,
// and no path leads to it: /proc/PID/exe is the file itself.
func (h *Host) openRunning(e *event.Event) (*os.File, error) {
	dir, err := h.processFolder(e.Process.Key)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, "exe", readOnly, 0)
	if err != nil {
		return nil, fault.New(fault.NotFound, "open what process %d runs: %w", e.Process.Key.PID, err)
	}
	return os.NewFile(uintptr(fd), e.Process.Executable), nil
}

// openBeside opens the file of an exec by its path, as another process of the
// container sees it.
func (h *Host) openBeside(e *event.Event, beside event.Key) (*os.File, error) {
	dir, err := h.processFolder(beside)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	root, err := unix.Openat(dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.New(fault.NotFound, "open the root of process %d: %w", beside.PID, err)
	}
	defer unix.Close(root)
	at, err := unix.Openat2(root, e.Process.Executable, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fault.New(fault.NotFound, "open the file of an exec: %w", err)
	}
	defer unix.Close(at)
	// A device or a FIFO must not be opened, not even to find out that it is one.
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fault.New(fault.Unsupported, "what was executed is no regular file any more")
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), readOnly, 0)
	if err != nil {
		return nil, fault.New(fault.NotFound, "open the file of an exec: %w", err)
	}
	return os.NewFile(uintptr(fd), e.Process.Executable), nil
}

// program tells which content an open file has, if it is that of an exec.
func program(f *os.File, e *event.Event) (event.FileIdentity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return event.FileIdentity{}, fault.New(fault.NotFound, "look at the file of an exec: %w", err)
	}
	id := identityOf(&st)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return id, fault.New(fault.Unsupported, "what was executed is no regular file")
	case e.Exec.Inode == 0 || st.Ino != e.Exec.Inode:
		return id, fault.New(fault.Unsupported, "another file has the name of what was executed")
	case e.Exec.Origin != event.OriginImage && id.Changed > e.Time.UnixNano():
		// Files of the image never change; others may have between the exec and now. A
		// program that runs can't be written to, so that a change in the same tick of
		// the clock, which this does not show, is none of the content.
		return id, fault.New(fault.Unsupported, "the file was changed after it was executed")
	}
	return id, nil
}

func identityOf(st *unix.Stat_t) event.FileIdentity {
	return event.FileIdentity{Device: st.Dev, Inode: st.Ino, Size: st.Size, Changed: st.Ctim.Nano(), Modified: st.Mtim.Nano()}
}
