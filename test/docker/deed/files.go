package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// files are deeds on files; the tag is the last part of the path.
var files = map[string]deed{
	"write":      func(tag string) error { return within(made(tag), unix.O_WRONLY) },
	"append":     func(tag string) error { return within(made(tag), unix.O_WRONLY|unix.O_APPEND) },
	"read-write": func(tag string) error { return within(made(tag), unix.O_RDWR) },
	"truncate":   func(tag string) error { return unix.Truncate(made(tag), 3) },
	"create":     func(tag string) error { return within("/tmp/"+tag, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL) },
	"creat":      func(tag string) error { return closed(unix.Creat("/tmp/"+tag, 0o600)) },
	"openat2": func(tag string) error {
		return closed(unix.Openat2(unix.AT_FDCWD, "/tmp/"+tag, &unix.OpenHow{Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o600}))
	},
	"create-at": func(tag string) error {
		dir, err := unix.Open("/tmp", unix.O_DIRECTORY|unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(closed(unix.Openat(dir, tag, unix.O_CREAT|unix.O_WRONLY, 0o600)), unix.Close(dir))
	},
	"create-relative": func(tag string) error {
		return errors.Join(unix.Chdir("/tmp"), within("./../tmp/./"+tag, unix.O_CREAT|unix.O_WRONLY))
	},
	"create-in-memory-file-system": func(tag string) error { return within("/dev/shm/"+tag, unix.O_CREAT|unix.O_WRONLY) },
	"write-by-link": func(tag string) error {
		return errors.Join(unix.Symlink(made(tag), "/tmp/link-"+tag), within("/tmp/link-"+tag, unix.O_WRONLY))
	},
	"write-by-proc": func(tag string) error { return within("/proc/self/root"+made(tag), unix.O_WRONLY) },
	"mkdir":         func(tag string) error { return unix.Mkdir("/tmp/"+tag, 0o700) },
	"mkdirat":       func(tag string) error { return unix.Mkdirat(unix.AT_FDCWD, "/tmp/"+tag, 0o700) },
	"fifo":          func(tag string) error { return unix.Mknod("/tmp/"+tag, unix.S_IFIFO|0o600, 0) },
	"symlink":       func(tag string) error { return unix.Symlink("/etc/passwd", "/tmp/"+tag) },
	"link":          func(tag string) error { return unix.Link(made("old-"+tag), "/tmp/"+tag) },
	"rename":        func(tag string) error { return unix.Rename(made("old-"+tag), "/tmp/"+tag) },
	"renameat2": func(tag string) error {
		return unix.Renameat2(-100, made("old-"+tag), -100, "/tmp/"+tag, unix.RENAME_NOREPLACE)
	},
	"rename-by-link": renameByLink,
	"unlink":         func(tag string) error { return unix.Unlink(made(tag)) },
	"unlinkat":       func(tag string) error { return unix.Unlinkat(unix.AT_FDCWD, made(tag), 0) },
	"rmdir":          func(tag string) error { return errors.Join(unix.Mkdir("/tmp/"+tag, 0o700), unix.Rmdir("/tmp/"+tag)) },
	"chmod-x":        func(tag string) error { return unix.Chmod(made(tag), 0o755) },
	"chmod-suid":     func(tag string) error { return unix.Chmod(made(tag), 0o4755) },
	"fchmodat":       func(tag string) error { return unix.Fchmodat(unix.AT_FDCWD, made(tag), 0o711, 0) },
	"fchmod":         func(tag string) error { return with(made(tag), func(fd int) error { return unix.Fchmod(fd, 0o2755) }) },
	"chown":          func(tag string) error { return unix.Chown(made(tag), 12, 34) },
	"fchown":         func(tag string) error { return with(made(tag), func(fd int) error { return unix.Fchown(fd, 12, -1) }) },
	"lchown": func(tag string) error {
		return errors.Join(unix.Symlink("x", "/tmp/"+tag), unix.Lchown("/tmp/"+tag, 5, 6))
	},
	"read-shadow":      func(string) error { return within("/etc/shadow", unix.O_RDONLY) },
	"read-shadow-proc": func(string) error { return within("/proc/self/root/etc/shadow", unix.O_RDONLY) },
	"read-environ":     func(string) error { return within("/proc/1/environ", unix.O_RDONLY) },
	"read-aws":         func(string) error { return within("/root/.aws/credentials", unix.O_RDONLY) },
	"read-key":         func(string) error { return within("/root/.ssh/id_rsa", unix.O_RDONLY) },
	"read-secret":      func(string) error { return within("/run/secrets/database", unix.O_RDONLY) },
	"read-token": func(string) error {
		return within("/var/run/secrets/kubernetes.io/serviceaccount/token", unix.O_RDONLY)
	},
	"read-shadow-link": func(tag string) error {
		return errors.Join(unix.Symlink("/etc/shadow", "/tmp/"+tag), within("/tmp/"+tag, unix.O_RDONLY))
	},
	"write-denied": func(string) error {
		return errors.Join(unix.Setuid(1000), refused(within("/etc/passwd", unix.O_WRONLY), unix.EACCES))
	},
	"write-read-only": func(string) error {
		return refused(within("/proc/sys/kernel/core_pattern", unix.O_WRONLY), unix.EROFS, unix.EACCES)
	},
	"write-in-a-chroot": func(tag string) error {
		return errors.Join(unix.Chroot("/tmp"), within("/"+tag, unix.O_CREAT|unix.O_WRONLY))
	},
	"write-in-a-mount-as-root": func(tag string) error {
		return errors.Join(unix.Mkdir("/tmp/"+tag, 0o700), unix.Mount("none", "/tmp/"+tag, "tmpfs", 0, ""), unix.Chroot("/tmp/"+tag),
			within("/"+tag, unix.O_CREAT|unix.O_WRONLY))
	},
	"device-disk": func(tag string) error {
		err := unix.Mknod("/tmp/"+tag, unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0)))
		if err != nil {
			return err
		}
		return refused(within("/tmp/"+tag, unix.O_RDONLY), unix.EPERM)
	},
	"drop-and-hide": func(tag string) error {
		return with(made(tag), func(int) error { return unix.Unlink("/tmp/" + tag) })
	},
}

// made makes the file that a deed is about to work on, and returns its path.
func made(tag string) string {
	path := "/tmp/" + tag
	if err := os.WriteFile(path, []byte("a deed's file"), 0o600); err != nil {
		panic(err) // the deed that follows would fail for another reason
	}
	return path
}

func closed(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func within(path string, flags int) error { return closed(unix.Open(path, flags, 0o600)) }

func with(path string, do func(fd int) error) error {
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(fd), unix.Close(fd))
}

// renameByLink renames inside a folder that it names by a symbolic link.
func renameByLink(tag string) error {
	old := made("old-" + tag)
	link := "/root/dir-" + tag
	return errors.Join(unix.Symlink("/tmp", link), unix.Rename(old, link+"/"+tag))
}
