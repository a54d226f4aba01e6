package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// privileged is a step that needs, or gives, power over more than the process.
func privileged(verb string, args []string) error {
	a, b := args[0], args[1]
	switch verb {
	case "unmount":
		return unix.Unmount(a, unix.MNT_DETACH)
	case "assemble": // a file system by the newer calls
		return attached(a)
	case "pivot":
		return unix.PivotRoot(a, a)
	case "leave":
		return unix.Unshare(namespaces[a])
	case "join", "widejoin":
		return join(a, verb == "widejoin")
	case "narrow": // by a call of 32-bit programs
		return narrow(a, args[1:])
	case "clone":
		return cloned()
	case "trace", "peek", "widepeek", "reach":
		return traced(verb)
	case "rewrite": // itself
		return memoryOf("/proc/self/mem", unix.O_RDWR)
	case "packets":
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	case "module":
		return module(a)
	case "bpf":
		return mapOfBPF()
	case "perf":
		return perf()
	case "key":
		_, err := unix.AddKey("user", "castellan", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
		return err
	case "faults":
		return closed(syscall.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0))
	case "newring":
		var p ringParams
		return closed(syscall.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&p)), 0))
	case "user":
		return becomeUser(a)
	case "bound": // no process that begins from here can have a capability
		runtime.LockOSThread()
		for c := range uintptr(unix.CAP_LAST_CAP + 1) {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				return err
			}
		}
		return nil
	case "incapable": // from now on, as root
		runtime.LockOSThread() // capabilities are a thread's own
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		return unix.Capset(&header, &none[0])
	case "hostname": // by the capability SYS_ADMIN
		return unix.Sethostname([]byte(a))
	case "node": // a device, which is then opened
		n, err := strconv.ParseUint(b, 0, 64)
		if err != nil {
			return err
		}
		return unix.Mknod(a, unix.S_IFCHR|0o600, int(n))
	}
	return trick(verb, args)
}

func memoryOf(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func closed(fd, _ uintptr, number syscall.Errno) error {
	if number != 0 {
		return number
	}
	return unix.Close(int(fd))
}

func attached(at string) error {
	context, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return err
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	return unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

var namespaces = map[string]int{"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC}

func join(which string, wide bool) error {
	fd, err := unix.Open("/proc/self/ns/"+which, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if wide {
		return numberOf(syscall.RawSyscall(wideCall+unix.SYS_SETNS, uintptr(fd), uintptr(namespaces[which]), 0))
	}
	return unix.Setns(fd, namespaces[which])
}

// cloned makes a process in a namespace of its own, which ends at once.
func cloned() error {
	pid, _, number := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUTS|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if number != 0 {
		return number
	}
	if pid == 0 {
		for {
			syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
		}
	}
	return nil
}

// traced attaches to a child, reads its memory, or opens that to write into it.
func traced(how string) error {
	cmd := exec.Command("/proc/self/exe", "wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it runs
		return err
	}
	defer cmd.Process.Kill()
	if how == "reach" {
		return memoryOf(fmt.Sprintf("/proc/%d/mem", cmd.Process.Pid), unix.O_WRONLY)
	}
	if how == "trace" {
		return unix.PtraceSeize(cmd.Process.Pid)
	}
	var b [8]byte
	self := binary.LittleEndian.Uint64(b[:]) + uint64(uintptr(unsafe.Pointer(&b)))
	local, remote := unix.Iovec{Base: &b[0], Len: 8}, unix.RemoteIovec{Base: uintptr(self), Len: 8}
	number := uintptr(unix.SYS_PROCESS_VM_READV)
	if how == "widepeek" {
		number += wideCall
	}
	err = numberOf(syscall.Syscall6(number, uintptr(cmd.Process.Pid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0))
	if err == unix.EFAULT {
		return nil // nothing is there: it was looked
	}
	return err
}

// module loads a file that is none, by its descriptor.
func module(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// mapOfBPF makes a map of one number.
func mapOfBPF() error {
	attr := [4]uint32{2, 4, 8, 1} // array, key, value, entries
	return closed(syscall.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)))
}

func perf() error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func becomeUser(id string) error {
	n, err := strconv.Atoi(id)
	if err != nil {
		return err
	}
	return syscall.Setuid(n)
}
