package kernel

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Describe looks at the machine and probes its kernel. What can't be found out
// is empty, and Missing says what that means.
func (h *Host) Describe(ctx context.Context) (asset.Host, []asset.Rung) {
	found := h.look()
	if ctx.Err() == nil {
		found.offers = h.offers(found)
	}
	addresses, _ := h.HostAddresses() // none where they can't be read
	return asset.Host{
		OS:        h.distribution(),
		Kernel:    readLine(h.inProc("sys", "kernel", "osrelease")),
		Arch:      runtime.GOARCH,
		BootID:    readLine(h.inProc("sys", "kernel", "random", "boot_id")),
		CPUs:      h.cpus(),
		Memory:    h.memory(),
		Cgroup:    found.cgroup,
		BTF:       found.btf,
		LSMs:      found.lsms,
		Addresses: addresses,
		Missing:   missing(found),
	}, rungs(found)
}

// findings is what decides about rungs and Missing.
type findings struct {
	proc     string // where it was looked, for the sentences
	btfPath  string
	lsmPath  string
	cgroup   string
	btf      bool
	lsms     []string
	lsmKnown bool // false when the list can't be read
	own      event.Capabilities
	guest    bool // our proc file system is not the host's
	offers   offers
}

func (h *Host) look() findings {
	f := findings{
		proc:    h.proc,
		btfPath: h.inSys("kernel", "btf", "vmlinux"),
		lsmPath: h.inSys("kernel", "security", "lsm"),
		cgroup:  h.cgroup(),
		guest:   h.inPIDNamespace(),
	}
	_, err := os.Stat(f.btfPath)
	f.btf = err == nil
	if list := readLine(f.lsmPath); list != "" {
		f.lsmKnown = true
		f.lsms = strings.Split(list, ",")
	}
	if b, err := readBounded(h.inProc("self", "status"), statusLimit); err == nil {
		f.own = parseStatus(b).effective
	}
	return f
}

// cgroup tells the layout from the mounts of the first process, which are the
// host's, or from our own where we may not look at those.
func (h *Host) cgroup() string {
	for _, pid := range []string{"1", "self"} {
		b, err := readBounded(h.inProc(pid, "mountinfo"), mountsLimit)
		if err != nil {
			continue
		}
		if mode := cgroupMode(b); mode != "" {
			return mode
		}
	}
	return ""
}

// initialPIDNamespace is PROC_PID_INIT_INO of include/linux/proc_ns.h: the
// inode of the first pid namespace, the same on every kernel since 3.8.
const initialPIDNamespace = "pid:[4026531836]"

// inPIDNamespace reports whether the proc file system shows a pid namespace
// other than the host's. Where that can't be read, it does not.
func (h *Host) inPIDNamespace() bool {
	link, err := os.Readlink(h.inProc("1", "ns", "pid"))
	return err == nil && link != initialPIDNamespace
}

// distribution is the PRETTY_NAME of the host's os-release, read in the root
// of its first process, since our own may be a container's.
func (h *Host) distribution() string {
	for _, root := range []string{h.inProc("1", "root"), "/"} {
		for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
			if pretty := prettyNameIn(root, name); pretty != "" {
				return pretty
			}
		}
	}
	return ""
}

// prettyNameIn reads an os-release without leaving root by a symbolic link.
func prettyNameIn(root, name string) string {
	f, err := os.OpenInRoot(root, name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, fileLimit))
	if err != nil {
		return ""
	}
	return prettyName(b)
}

// prettyName returns PRETTY_NAME of an os-release file; os-release(5). A value
// may be quoted, and then a backslash protects the next character.
func prettyName(file []byte) string {
	for line := range bytes.Lines(file) {
		value, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "PRETTY_NAME=")
		if ok {
			return text(unquote(value))
		}
	}
	return ""
}

func unquote(s string) string {
	if len(s) < 2 || (s[0] != '"' && s[0] != '\'') || s[len(s)-1] != s[0] {
		return s
	}
	quote, s := s[0], s[1:len(s)-1]
	if quote == '\'' {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// cpus counts the processors that are online, not those we may run on.
func (h *Host) cpus() int {
	if n := countRanges(readLine(h.inSys("devices", "system", "cpu", "online"))); n > 0 {
		return n
	}
	return runtime.NumCPU()
}

// maxCPUs is above every kernel's NR_CPUS, which is 8192 at most.
const maxCPUs = 1 << 16

// countRanges counts the members of a list like "0-3,5"; 0 if it isn't one.
func countRanges(list string) int {
	total := 0
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return 0
		}
		last := first
		if isRange {
			if last, err = strconv.ParseUint(high, 10, 16); err != nil || last < first {
				return 0
			}
		}
		if total += int(last-first) + 1; total > maxCPUs {
			return 0
		}
	}
	return total
}

// memory is MemTotal of /proc/meminfo in bytes; 0 if it can't be read.
func (h *Host) memory() uint64 {
	b, err := readBounded(h.inProc("meminfo"), fileLimit)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		value, ok := bytes.CutPrefix(line, []byte("MemTotal:"))
		if !ok {
			continue
		}
		number, _ := nextField(value)
		kib, ok := parseUint(number)
		if !ok || kib > 1<<53 {
			return 0
		}
		return kib << 10
	}
	return 0
}

// landlockABI asks the kernel which version of Landlock it has; 0 is none.
// landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION.
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// permissionEvents tries whether fanotify asks before a file is executed
// (FAN_OPEN_EXEC_PERM, since 5.0), on a file in memory that nobody else can
// open.
func permissionEvents() error {
	group, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		return os.NewSyscallError("fanotify_init", err)
	}
	defer unix.Close(group)
	file, err := unix.MemfdCreate("castellan-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	defer unix.Close(file)
	path := filepath.Join("/proc/self/fd", strconv.Itoa(file))
	err = unix.FanotifyMark(group, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, path)
	return os.NewSyscallError("fanotify_mark", err)
}
