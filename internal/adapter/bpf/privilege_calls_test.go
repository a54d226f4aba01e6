package bpf_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// beginning is what a set of calls begins with: what is before it is what the
// helper does as it starts, as any program of this package's does.
const beginning = "/castellan/beginning"

// makeCalls makes one set of calls, by its name, and prints a line for each
// whose error depends on the machine: its name and what came of it.
func makeCalls(name string) error {
	name, argument, _ := strings.Cut(name, ":")
	sets := map[string]func(argument string) error{
		"mounts": callMounts, "mounting": callMountAPI, "namespaces": callNamespaces, "processes": callProcesses,
		"kernel": callKernel, "users": callUsers, "userns": callUserNamespace, "repeat": callRepeat,
		"join": callJoin, "attach": callAttach, "caps": callCapset,
		"refused": callRefused, "x32": callX32, "wide": callWide, "clock": callClock, "tree": callTree, "socket": callSocket, "memory": callMemory, "ring": callRing, "from": sendFrom, "cgroup": callIntoCgroup, "reach": callReach,
	}
	do, ok := sets[name]
	if !ok {
		return fmt.Errorf("no calls are called %q", name)
	}
	if err := unix.Unmount(beginning, 0); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount nothing: %w", err)
	}
	return do(argument)
}

// raw makes a call and prints what came of it.
func raw(name string, number uintptr, args ...uintptr) uintptr {
	var a [6]uintptr
	copy(a[:], args)
	r, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		fmt.Println(name, unix.ErrnoName(errno))
		return 0
	}
	fmt.Println(name)
	return r
}

func text(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(b))
}

// kept keeps strings that calls are handed by number from being collected.
var kept []*byte

func callMounts(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("castellan", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=4k"); err != nil {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("x", "/castellan/absent", "ext4", unix.MS_RDONLY, ""); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("mount on nothing: %w", err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.PivotRoot("/castellan/absent", "/castellan/old"); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("pivot to nothing: %w", err)
	}
	return unix.Chroot("/")
}

func callMountAPI(dir string) error {
	fs, err := unix.Fsopen("tmpfs", 0)
	if err != nil {
		return err
	}
	if err := unix.FsconfigSetString(fs, "source", "castellan"); err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	mount, err := unix.Fsmount(fs, 0, unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	if _, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE); err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	raw("mount_setattr", unix.SYS_MOUNT_SETATTR, ^uintptr(99), text(dir), 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	return nil
}

// callIntoCgroup begins a process in another cgroup, which what is our input is not.
func callIntoCgroup(string) error {
	args := [11]uint64{0: unix.CLONE_INTO_CGROUP, 4: uint64(unix.SIGCHLD)}
	if pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0); errno != unix.EBADF {
		return fmt.Errorf("clone3 returned %d: %w, want %w", pid, errno, unix.EBADF)
	}
	return nil
}

func callNamespaces(string) error {
	uts, err := unix.Open("/proc/thread-self/ns/uts", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWIPC); err != nil {
		return err
	}
	if err := unix.Setns(uts, unix.CLONE_NEWUTS); err != nil {
		return err
	}
	for _, call := range []func() (uintptr, syscall.Errno){
		func() (uintptr, syscall.Errno) {
			pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_NEWIPC, 0, 0)
			return pid, errno
		},
		func() (uintptr, syscall.Errno) {
			args := [8]uint64{0: unix.CLONE_NEWUTS, 4: uint64(unix.SIGCHLD)}
			pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
			return pid, errno
		},
	} {
		pid, errno := call()
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if _, err := syscall.Wait4(int(pid), nil, 0, nil); err != nil {
			return err
		}
	}
	return nil
}

// reached is what callReach writes.
const reached = 0x5ca1ab1e

// callReach writes a word into another process: its number, and the address in hexadecimal.
func callReach(where string) error {
	var pid int
	var at uintptr
	if _, err := fmt.Sscanf(where, "%d:%x", &pid, &at); err != nil {
		return err
	}
	word := uint64(reached)
	local := unix.Iovec{Base: (*byte)(unsafe.Pointer(&word)), Len: 8}
	remote := unix.RemoteIovec{Base: at, Len: 8}
	raw("process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	return nil
}

// callProcesses takes over a child that does nothing, and prints its pid.
func callProcesses(string) error {
	child := exec.Command("/bin/sleep", "60")
	if err := child.Start(); err != nil {
		return err
	}
	pid := child.Process.Pid
	fmt.Println("child", pid)
	if err := attachTo(pid); err != nil {
		return err
	}
	var word uint64
	local := unix.Iovec{Base: (*byte)(unsafe.Pointer(&word)), Len: 8}
	remote := unix.RemoteIovec{Base: 0, Len: 8}
	raw("process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	raw("process_vm_readv", unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid()), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	raw("pidfd_getfd", unix.SYS_PIDFD_GETFD, uintptr(fd), 0, 0)
	raw("ptrace", unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1<<22-1) // nobody has the highest number
	if err := child.Process.Kill(); err != nil {
		return err
	}
	_, err = child.Process.Wait()
	return err
}

// attachTo attaches, writes back a word that it read, and lets go.
func attachTo(pid int) error {
	if err := unix.PtraceAttach(pid); err != nil {
		return err
	}
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		return err
	}
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &r); err != nil {
		return err
	}
	var word [8]byte
	if _, err := unix.PtracePeekData(pid, uintptr(r.PC()), word[:]); err != nil {
		return err
	}
	if _, err := unix.PtracePokeData(pid, uintptr(r.PC()), word[:]); err != nil {
		return err
	}
	return unix.PtraceDetach(pid)
}

func callAttach(pid string) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	return attachTo(n)
}

// callKernel makes calls that none may succeed in harming the machine: where
// they could, their arguments are wrong.
func callKernel(string) error {
	raw("init_module", unix.SYS_INIT_MODULE, 0, 0, text("castellan=1"))
	file, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	raw("finit_module", unix.SYS_FINIT_MODULE, uintptr(file), text("a=b"), 0xff)
	raw("delete_module", unix.SYS_DELETE_MODULE, text("castellan_absent"), unix.O_NONBLOCK)
	raw("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0xfff1)
	raw("kexec_file_load", unix.SYS_KEXEC_FILE_LOAD, uintptr(file), 0, 0, 0, 0xff02)
	table := [16]uint32{1, 4, 4, 1} // a hash table of one word
	raw("bpf map_create", unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&table)), unsafe.Sizeof(table))
	program := [32]uint32{5} // a tracepoint's, without any code
	raw("bpf prog_load", unix.SYS_BPF, 5, uintptr(unsafe.Pointer(&program)), unsafe.Sizeof(program))
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	raw("perf_event_open", unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&attr)), 0, ^uintptr(0), ^uintptr(0), 0)
	raw("keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(1), 0)
	raw("add_key", unix.SYS_ADD_KEY, text("castellan"), text("a key"), 0, 0, ^uintptr(1))
	raw("request_key", unix.SYS_REQUEST_KEY, text("user"), text("castellan-absent"), 0, 0)
	raw("userfaultfd", unix.SYS_USERFAULTFD, 1)
	raw("io_uring_setup", unix.SYS_IO_URING_SETUP, 0, 0)
	raw("reboot", unix.SYS_REBOOT, 0, 0, unix.LINUX_REBOOT_CMD_POWER_OFF) // without the magic numbers
	raw("acct", unix.SYS_ACCT, text("/castellan/absent"))
	raw("swapon", unix.SYS_SWAPON, text("/castellan/absent"), 0)
	never := unix.Timeval{Usec: 2_000_000} // more than a second
	raw("settimeofday", unix.SYS_SETTIMEOFDAY, uintptr(unsafe.Pointer(&never)), 0)
	if err := errors.Join(callClock("adjtimex"), callClock("clock_adjtime")); err != nil {
		return err
	}
	return callTree("")
}

// callClock asks how the clock goes, and then that it go by a tick that there is not.
func callClock(name string) error {
	number, args := uintptr(unix.SYS_ADJTIMEX), []uintptr{0}
	if name == "clock_adjtime" {
		number, args = unix.SYS_CLOCK_ADJTIME, []uintptr{unix.CLOCK_REALTIME, 0}
	}
	var asks unix.Timex
	args[len(args)-1] = uintptr(unsafe.Pointer(&asks))
	raw(name, number, args...)
	sets := unix.Timex{Modes: unix.ADJ_TICK}
	args[len(args)-1] = uintptr(unsafe.Pointer(&sets))
	raw(name, number, args...)
	return nil
}

// callTree opens a tree of mounts that is not there, with other attributes.
func callTree(string) error {
	raw("open_tree_attr", unix.SYS_OPEN_TREE_ATTR, ^uintptr(99), text("/castellan/absent"), 0, 0, 0)
	return nil
}

// callUsers becomes another user for a while and then for good, and at last
// executes the program that it is named, which is set-uid.
func callUsers(program string) error {
	const keep = ^uintptr(0)
	raw("setresuid", unix.SYS_SETRESUID, keep, 1000, keep)
	raw("setresuid", unix.SYS_SETRESUID, keep, 0, keep)
	raw("setgid", unix.SYS_SETGID, 1234)
	raw("setuid", unix.SYS_SETUID, 1001)
	raw("setuid", unix.SYS_SETUID, 0)
	return syscall.Exec(program, []string{"set-uid"}, nil)
}

func callUserNamespace(string) error {
	raw("setuid", unix.SYS_SETUID, 1001)
	raw("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	return nil
}

func callCapset(string) error {
	raw("setuid", unix.SYS_SETUID, 1001)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: 1, Permitted: 1}}
	raw("capset", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)))
	return nil
}

// callRepeat makes the same call many times, and another once.
func callRepeat(times string) error {
	n, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	for range n {
		if err := unix.Unmount("/castellan/absent", 0); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount nothing: %w", err)
		}
	}
	if err := unix.Unmount("/castellan/other", 0); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount nothing: %w", err)
	}
	return nil
}

// callJoin joins the mount namespace of a process and mounts something that is
// not there.
func callJoin(pid string) error {
	fd, err := unix.Open("/proc/"+pid+"/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	// A thread that shares its working directory can't join.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Unmount("/castellan/broken-out", 0); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount nothing: %w", err)
	}
	return nil
}
