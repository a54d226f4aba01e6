package layer

import (
	"io/fs"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// stat is what fs.FileInfo doesn't say.
type stat struct {
	device, rdev uint64
	uid, gid     int
}

func statOf(info fs.FileInfo) stat {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stat{rdev: 1} // not known, and no whiteout
	}
	return stat{device: st.Dev, rdev: st.Rdev, uid: int(st.Uid), gid: int(st.Gid)}
}

// opened is a file of this machine.
type opened interface{ Fd() uintptr }

// hasCapability says whether a file of an opened folder carries file
// capabilities.
func hasCapability(dir fs.File, name string) bool {
	f, ok := dir.(opened)
	if !ok {
		return false
	}
	path := "/proc/self/fd/" + strconv.FormatUint(uint64(f.Fd()), 10) + "/" + name
	n, err := unix.Lgetxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

// mark is what overlayfs keeps in the attributes of an upper folder.
type mark struct{ opaque, redirect bool }

func overlayMark(dir fs.File) (m mark) {
	f, ok := dir.(opened)
	if !ok {
		return m
	}
	for _, space := range [...]string{"trusted", "user"} {
		var b [1]byte
		n, err := unix.Fgetxattr(int(f.Fd()), space+".overlay.opaque", b[:])
		m.opaque = m.opaque || err == nil && n == 1 && b[0] == 'y'
		n, err = unix.Fgetxattr(int(f.Fd()), space+".overlay.redirect", nil)
		m.redirect = m.redirect || err == nil && n > 0
	}
	return m
}
