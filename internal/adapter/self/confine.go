package self

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	lastNice    = 19
	workingNice = 10
	// schedIdle is SCHED_IDLE of include/uapi/linux/sched.h.
	schedIdle = 5
	// Of include/uapi/linux/ioprio.h.
	ioprioProcess   = 1
	ioprioIdle      = 3
	ioprioClassBits = 13
)

// Limits of a child, which hold for all of it: see setrlimit(2).
const (
	maxCPU   = 15 * 60   // seconds; 2.2 GB of image take 4
	lastCPU  = 5         // seconds more in which it says why it ends
	maxFile  = 256 << 20 // bytes of one file; what is kept of a layer has some megabytes
	maxFiles = 64
	// maxData is where the kernel ends a child whose heap grows in spite of
	// GOMEMLIMIT: the largest images need a quarter of it.
	maxData = 1 << 30
)

// Bound sets the limits of a child that a process can only set for itself, and
// makes it end when its parent does: its standard input ends then. It is the
// first thing that a child does. It returns Task.Input, which comes before that.
//
// The kernel ends it with its parent, too, but not if that dies before the child
// could ask for it; and a child that is the first process of its namespace can't
// see that it came too late.
func Bound() ([]byte, error) {
	input, err := readInput(os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("read what the parent hands over: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the end, of whatever kind
		os.Exit(1)
	}()
	spent := make(chan os.Signal, 1)
	signal.Notify(spent, unix.SIGXCPU)
	go func() {
		<-spent
		os.Exit(codeSpent)
	}()
	if err := unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: maxCPU, Max: maxCPU + lastCPU}); err != nil {
		return nil, fmt.Errorf("limit the time of a processor: %w", err)
	}
	for resource, most := range map[int]uint64{
		unix.RLIMIT_FSIZE: maxFile, unix.RLIMIT_NOFILE: maxFiles,
		unix.RLIMIT_DATA: maxData, unix.RLIMIT_CORE: 0,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return nil, fmt.Errorf("limit resource %d: %w", resource, err)
		}
	}
	return input, nil
}

// writeInput writes what a child is given, its length before it.
func writeInput(w io.Writer, input []byte) error {
	if len(input) > MaxInput {
		return fmt.Errorf("a child is given %d bytes, at most %d can be", len(input), MaxInput)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(input))), input...))
	return err
}

// readInput reads it.
func readInput(r io.Reader) ([]byte, error) {
	var length uint32
	if err := binary.Read(r, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	if length > MaxInput {
		return nil, fmt.Errorf("it has %d bytes, at most %d are taken", length, MaxInput)
	}
	input := make([]byte, length)
	_, err := io.ReadFull(r, input)
	return input, err
}

// confine takes from the calling thread, and from what it starts, all that a
// child does not need. There is no way back.
func confine(folder, program int, working bool) error {
	if err := yield(working); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("renounce new privileges: %w", err)
	}
	if err := landlock(folder, program); err != nil {
		return fmt.Errorf("restrict files: %w", err)
	}
	return nil
}

// yield makes the calling thread give way to others: nearly always, or, where it
// does what the host is for, when there are many.
func yield(working bool) error {
	if working {
		const zeroNice = 20 // the kernel's own scale: getpriority(2)
		if have, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && zeroNice-have >= workingNice {
			return nil
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, workingNice); err != nil {
			return fmt.Errorf("lower the priority: %w", err)
		}
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, lastNice); err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: schedIdle, Nice: lastNice}, 0); err != nil {
		return fmt.Errorf("run only when nothing else does: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioProcess, 0, ioprioIdle<<ioprioClassBits); errno != 0 && !errors.Is(errno, unix.ENOSYS) {
		return fmt.Errorf("read only when nobody else does: %w", errno)
	}
	return nil
}

// What Landlock can forbid, by its version: include/uapi/linux/landlock.h.
const (
	filesOf1 = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1
	runnable = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
	writable = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	truncates, networks, devices = 3, 4, 5 // the versions that brought them
)

// landlock leaves the folder of the child and the reading of its program, and
// no other file and no TCP. A kernel without Landlock restricts nothing.
func landlock(folder, program int) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EOPNOTSUPP) {
		return nil
	}
	if errno != 0 {
		return errno
	}
	own, err := unix.Openat(folder, ownFolder, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	rules := unix.LandlockRulesetAttr{Handled_access_fs: filesOf1}
	change := uint64(writable)
	if version >= truncates {
		rules.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
		change |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= networks {
		rules.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= devices {
		rules.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	// The kernel takes a larger struct than it knows as long as the rest is zero.
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(set))
	if err := errors.Join(permit(set, own, change), permit(set, program, runnable), permitLibraries(set, program)); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// permit allows access to a file or to all below a folder.
func permit(set uintptr, fd int, access uint64) error {
	r := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&r)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// permitLibraries lets a program that was linked dynamically start; Castellan's
// releases are not.
func permitLibraries(set uintptr, program int) error {
	f, err := elf.Open(inFD(program, ""))
	if err != nil {
		return err
	}
	defer f.Close()
	if !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return nil
	}
	for _, folder := range []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64"} {
		fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		err = permit(set, fd, runnable)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return err
		}
	}
	return nil
}
