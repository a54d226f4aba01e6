package main

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// privileges are deeds that reach beyond a container's ordinary rights.
var privileges = map[string]deed{
	"mount-tmpfs": func(tag string) error {
		return errors.Join(unix.Mkdir("/tmp/"+tag, 0o700), unix.Mount("none", "/tmp/"+tag, "tmpfs", unix.MS_NOSUID, ""))
	},
	"mount-bind": func(tag string) error {
		return errors.Join(unix.Mkdir("/tmp/"+tag, 0o700), unix.Mount("/etc", "/tmp/"+tag, "", unix.MS_BIND, ""))
	},
	"mount-proc": func(tag string) error {
		return errors.Join(unix.Mkdir("/tmp/"+tag, 0o700), unix.Mount("proc", "/tmp/"+tag, "proc", 0, ""))
	},
	"mount-refused": func(string) error {
		return errors.Join(unix.Setuid(1000), refused(unix.Mount("none", "/tmp", "tmpfs", 0, ""), unix.EPERM))
	},
	"umount": func(tag string) error {
		return errors.Join(unix.Mkdir("/tmp/"+tag, 0o700), unix.Mount("none", "/tmp/"+tag, "tmpfs", 0, ""), unix.Unmount("/tmp/"+tag, unix.MNT_DETACH))
	},
	"new-mount": func(string) error {
		fs, err := unix.Fsopen("tmpfs", 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.FsconfigCreate(fs), unix.Close(fs))
	},
	"chroot": func(string) error { return unix.Chroot("/tmp") },
	"pivot-root": func(string) error {
		return refused(unix.PivotRoot("/tmp", "/tmp"), unix.EINVAL, unix.EBUSY, unix.EPERM)
	},
	"unshare-mount": func(string) error { return unix.Unshare(unix.CLONE_NEWNS) },
	"unshare-user":  unshareUser,
	"unshare-net":   func(string) error { return unix.Unshare(unix.CLONE_NEWNET) },
	"setns":         setns,
	"clone-user":    func(string) error { return child(unix.CLONE_NEWUSER | unix.CLONE_NEWNS) },
	"ptrace":        trace,
	"write-memory":  func(string) error { return memory(unix.ProcessVMWritev) },
	"read-memory":   func(string) error { return memory(unix.ProcessVMReadv) },
	"init-module": func(string) error {
		return refused(unix.InitModule([]byte("this is no module"), ""), unix.ENOEXEC, unix.EPERM, unix.ENOSYS)
	},
	"finit-module": func(tag string) error {
		return with(made(tag), func(fd int) error {
			return refused(unix.FinitModule(fd, "", 0), unix.ENOEXEC, unix.EPERM, unix.ENOSYS, unix.EINVAL)
		})
	},
	"delete-module": func(tag string) error {
		return refused(unix.DeleteModule(tag, unix.O_NONBLOCK), unix.ENOENT, unix.EPERM, unix.ENOSYS)
	},
	"kexec": func(string) error {
		return refused(raw(unix.SYS_KEXEC_LOAD, 0, 1, 0, 0), unix.EPERM, unix.EINVAL, unix.ENOSYS, unix.EADDRNOTAVAIL, unix.EFAULT)
	},
	"bpf": func(string) error {
		attr := [12]uint32{1, 4, 4, 1} // an array of one entry
		fd, _, errno := unix.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		if errno != 0 {
			return errno
		}
		return unix.Close(int(fd))
	},
	"perf": func(string) error {
		return closed(unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: unix.PERF_ATTR_SIZE_VER0}, 0, -1, -1, 0))
	},
	"add-key": func(tag string) error {
		_, err := unix.AddKey("user", tag, []byte("secret"), unix.KEY_SPEC_PROCESS_KEYRING)
		return err
	},
	"keyctl": func(tag string) error {
		_, err := unix.KeyctlJoinSessionKeyring(tag)
		return err
	},
	"userfaultfd": func(string) error {
		fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
		if errno == unix.ENOSYS || errno == unix.EPERM {
			return nil // tried in vain is as good
		}
		if errno != 0 {
			return errno
		}
		return unix.Close(int(fd))
	},
	"io-uring": func(string) error {
		var params [120]byte
		fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 2, uintptr(unsafe.Pointer(&params)), 0)
		if errno == unix.ENOSYS || errno == unix.EPERM {
			return nil
		}
		if errno != 0 {
			return errno
		}
		return unix.Close(int(fd))
	},
	"setuid":    func(string) error { return unix.Setuid(1234) },
	"setresuid": func(string) error { return unix.Setresuid(1235, 1235, 1235) },
	"setuid-refused": func(string) error {
		return errors.Join(unix.Setuid(1236), refused(unix.Setuid(0), unix.EPERM))
	},
	"capset-drop-and-raise": dropAndRaise,
	"memfd":                 func(tag string) error { return closed(unix.MemfdCreate(tag, 0)) },
	"write-execute": func(string) error {
		m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		return unix.Munmap(m)
	},
	"protect-execute": func(string) error {
		m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		m[0] = 0xc3
		return errors.Join(unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC), unix.Munmap(m))
	},
	"map-written-file": func(tag string) error {
		return with(made(tag), func(fd int) error {
			m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			return unix.Munmap(m)
		})
	},
}

func raw(call, a, b, c, d uintptr) error {
	if _, _, errno := unix.Syscall6(call, a, b, c, d, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// child runs this program once more, doing nothing, in new namespaces.
func child(flags uintptr) error {
	cmd := exec.Command("/proc/self/exe", "nothing", "child")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return cmd.Run()
}

// unshareUser leaves by a fork of one thread, because a program of several may
// not.
func unshareUser(string) error {
	cmd := exec.Command("/proc/self/exe", "nothing", "child")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWUSER}
	return cmd.Run()
}

func setns(string) error {
	fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Setns(fd, unix.CLONE_NEWUTS), unix.Close(fd))
}

// trace stops a child of its own and looks at it.
func trace(string) error {
	cmd := exec.Command("/proc/self/exe", "wait", "child")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = unix.PtraceAttach(cmd.Process.Pid)
	var status unix.WaitStatus
	if err == nil {
		_, err = unix.Wait4(cmd.Process.Pid, &status, unix.WALL, nil)
	}
	if err == nil {
		err = unix.PtraceDetach(cmd.Process.Pid)
	}
	// The stop that was waited for may have been for another signal, of the
	// child's own runtime: the one of attaching would then stop it for ever.
	err = errors.Join(err, unix.Kill(cmd.Process.Pid, unix.SIGCONT))
	return errors.Join(err, in.Close(), cmd.Wait())
}

// memory reaches into a child's memory, at an address that this program has,
// too: both are the same file at the same place. It waits for the child's first
// word: a program counts as started before the kernel has mapped it.
func memory(call func(int, []unix.Iovec, []unix.RemoteIovec, uint) (int, error)) error {
	cmd := exec.Command("/proc/self/exe", "wait", "child")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	b := make([]byte, 8)
	if _, err := out.Read(b); err != nil {
		return errors.Join(err, in.Close(), cmd.Wait())
	}
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	_, err = call(cmd.Process.Pid, local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&shared)), Len: len(b)}}, 0)
	return errors.Join(err, in.Close(), cmd.Wait())
}

// shared is what memory reads and writes in the child.
var shared [8]byte

// dropAndRaise gives up a capability of those in effect and takes it back.
func dropAndRaise(string) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	before := data
	data[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	if before[0].Effective == data[0].Effective {
		return fmt.Errorf("there is no CAP_SYS_ADMIN to give up: %x", before[0].Effective)
	}
	return errors.Join(unix.Capset(&head, &data[0]), unix.Capset(&head, &before[0]))
}
