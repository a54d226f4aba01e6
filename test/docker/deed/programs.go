package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// programs are deeds that start programs, in all ways that there are.
var programs = map[string]deed{
	"nothing": func(string) error { return nil },
	"pause": func(string) error {
		end := make(chan os.Signal, 1)
		signal.Notify(end, unix.SIGTERM)
		<-end
		return nil
	},
	"wait": func(string) error {
		if _, err := os.Stdout.WriteString("waiting\n"); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	},
	"fail":   func(string) error { os.Exit(7); return nil },
	"killed": func(string) error { return unix.Kill(os.Getpid(), unix.SIGKILL) },
	"exec":   func(tag string) error { return syscall.Exec("/bin/deed", []string{"deed", "nothing", tag}, nil) },
	"exec-fake": func(tag string) error {
		return syscall.Exec("/bin/deed", []string{"[kworker/0:1]", "nothing", tag}, nil)
	},
	"exec-link": func(tag string) error {
		return errors.Join(unix.Symlink("/bin/deed", "/tmp/"+tag), syscall.Exec("/tmp/"+tag, []string{"linked", "nothing", tag}, nil))
	},
	"exec-self": func(tag string) error { return syscall.Exec("/proc/self/exe", []string{"deed", "nothing", tag}, nil) },
	"exec-written": func(tag string) error {
		return errors.Join(copied("/tmp/"+tag), syscall.Exec("/tmp/"+tag, []string{"dropped", "nothing", tag}, nil))
	},
	"exec-from-memory": func(tag string) error {
		fd, err := unix.MemfdCreate(tag, unix.MFD_CLOEXEC)
		if err != nil {
			return err
		}
		body, err := os.ReadFile("/bin/deed")
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), tag)
		if _, err := f.Write(body); err != nil {
			return err
		}
		return execAt(fd, "", []string{"memory", "nothing", tag})
	},
	"exec-deleted": func(tag string) error {
		if err := copied("/tmp/" + tag); err != nil {
			return err
		}
		fd, err := unix.Open("/tmp/"+tag, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Unlink("/tmp/"+tag), execAt(fd, "", []string{"deleted", "nothing", tag}))
	},
	"exec-script": func(tag string) error {
		err := os.WriteFile("/tmp/"+tag, []byte("#!/bin/deed nothing\n"), 0o755)
		return errors.Join(err, syscall.Exec("/tmp/"+tag, []string{tag}, nil))
	},
	"exec-shared-memory": func(tag string) error {
		// Docker mounts it noexec.
		return errors.Join(copied("/dev/shm/"+tag), refused(syscall.Exec("/dev/shm/"+tag, []string{"shm", "nothing", tag}, nil), unix.EACCES))
	},
	"spawn":         func(tag string) error { return exec.Command("/bin/deed", "nothing", tag).Run() },
	"spawn-session": func(tag string) error { return spawn(tag, &syscall.SysProcAttr{Setsid: true}) },
	"spawn-as-user": func(tag string) error {
		return spawn(tag, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4321, Gid: 4321}})
	},
	"exec-many-args": func(tag string) error {
		args := []string{"deed", "nothing", tag}
		for range 200 {
			args = append(args, "an argument that is not too short")
		}
		return syscall.Exec("/bin/deed", args, nil)
	},
}

func spawn(tag string, attr *syscall.SysProcAttr) error {
	cmd := exec.Command("/bin/deed", "nothing", tag)
	cmd.SysProcAttr = attr
	return cmd.Run()
}

// copied puts a copy of this program there.
func copied(path string) error {
	body, err := os.ReadFile("/bin/deed")
	if err != nil {
		return err
	}
	return os.WriteFile(path, body, 0o755)
}

// execAt is execveat(2), which runs an open file.
func execAt(fd int, path string, args []string) error {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	env := []*byte{nil}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return errno
}
