package landlock

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/profile"
)

// kernelVersion asks the kernel which version of Landlock is active; 0 is none.
func kernelVersion() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch {
	case errors.Is(errno, unix.ENOSYS), errors.Is(errno, unix.EOPNOTSUPP), errors.Is(errno, unix.EPERM): // EPERM: of a seccomp profile
		return 0, nil
	case errno != 0:
		return 0, fmt.Errorf("ask for Landlock: %w", errno)
	}
	return int(version), nil
}

const (
	allMaking = unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	// ofFiles are the rights that a rule of a file, not a folder, may have.
	ofFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// ofFirst are all rights of version 1.
	ofFirst = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1
)

// held are the rights that a version of Landlock holds.
func held(version int) uint64 {
	access := uint64(ofFirst)
	if version >= refers {
		access |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= truncates {
		access |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= devices {
		access |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return access
}

// accessOf are the rights of a rule as the kernel has them.
func accessOf(rights []profile.LandlockRight) (access uint64) {
	for _, r := range rights {
		switch r {
		case profile.LandlockList:
			access |= unix.LANDLOCK_ACCESS_FS_READ_DIR
		case profile.LandlockRead:
			access |= unix.LANDLOCK_ACCESS_FS_READ_FILE
		case profile.LandlockExecute:
			access |= unix.LANDLOCK_ACCESS_FS_EXECUTE
		case profile.LandlockWrite:
			access |= unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
		case profile.LandlockMake:
			access |= allMaking | unix.LANDLOCK_ACCESS_FS_REFER
		case profile.LandlockDevice:
			access |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
		}
	}
	return access
}

// enforce makes the rules and confines the calling thread.
func (p *plan) enforce(l *profile.Landlock) error {
	rules := unix.LandlockRulesetAttr{Handled_access_fs: held(p.version)}
	if p.version >= networks {
		if !l.AnyBind {
			rules.Handled_access_net |= unix.LANDLOCK_ACCESS_NET_BIND_TCP
		}
		if !l.AnyConnect {
			rules.Handled_access_net |= unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
	}
	if p.version >= scopes && !l.Unscoped {
		rules.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	// The kernel takes a larger struct than it knows as long as the rest is zero.
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return fmt.Errorf("make Landlock rules: %w", errno)
	}
	defer unix.Close(int(set))
	for fd, access := range p.grants {
		r := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
		if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&r)), 0, 0, 0); errno != 0 {
			return fmt.Errorf("permit %s: %w", p.names[fd], errno)
		}
	}
	if err := ports(set, rules.Handled_access_net&unix.LANDLOCK_ACCESS_NET_BIND_TCP, l.Binds); err != nil {
		return err
	}
	if err := ports(set, rules.Handled_access_net&unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, l.Connects); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("put Landlock rules in force: %w", errno)
	}
	return nil
}

// rulePort is LANDLOCK_RULE_NET_PORT, and portRule struct landlock_net_port_attr:
// include/uapi/linux/landlock.h, since version 4.
const rulePort = 2

type portRule struct{ access, port uint64 }

// ports permits access to TCP ports, unless the access is none.
func ports(set uintptr, access uint64, ranges []profile.Ports) error {
	if access == 0 {
		return nil
	}
	for _, r := range ranges {
		for port := uint64(r.First); port <= uint64(r.Last); port++ {
			rule := portRule{access, port}
			if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, rulePort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
				return fmt.Errorf("permit TCP port %d: %w", port, errno)
			}
		}
	}
	return nil
}
