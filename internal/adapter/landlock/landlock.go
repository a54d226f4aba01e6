// Package landlock is the door to Landlock, by which a process confines itself
// without any right to: it puts the rules of a group in force and becomes the
// application.
//
// It is not for what a profile permits: the rules come from internal/harden. It
// needs Linux 5.13 and more for some of them; what the kernel can't hold is told.
package landlock

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

// Remark is something in which what is in force is not what the rules say.
type Remark struct {
	// Looser says that more is permitted than the rules say; else it is less.
	Looser bool
	Text   string
}

// Options say how a process is confined.
type Options struct {
	// Strict refuses where more would be permitted than the rules say.
	Strict bool
	// Told is handed what is not as the rules say; nil for nobody.
	Told func(Remark)
	// Version is the newest version of Landlock that is used; 0 for the kernel's.
	Version int
}

// Run confines the process, and becomes the program that argv begins with, which
// is looked for as a shell does. It returns only with an error, and the calling
// thread, which may be confined by then, must not be used for anything else.
func Run(ctx context.Context, l *profile.Landlock, argv, environment []string, o Options) error {
	if len(argv) == 0 {
		return fault.New(fault.Invalid, "no program to become")
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return fault.New(fault.NotFound, "find %s: %w", argv[0], err).With("name a program that is there, with its path or in PATH")
	}
	// Landlock confines the calling thread, and this one becomes the program. It is
	// never unlocked: no other goroutine may run confined.
	runtime.LockOSThread()
	if err := confine(ctx, l, o); err != nil {
		return err
	}
	err = unix.Exec(program, argv, environment)
	if errors.Is(err, unix.EACCES) {
		return fault.New(fault.Denied, "become %s: %w", program, err).
			With("it is not among the programs of the rules, or may not be run: see the executables of the profile of " + string(l.Group))
	}
	return fmt.Errorf("become %s: %w", program, err)
}

// confine puts the rules in force for the calling thread and what it starts.
func confine(ctx context.Context, l *profile.Landlock, o Options) error {
	if err := l.Check(); err != nil {
		return fault.New(fault.Invalid, "%w", err).With("write them again: castellan harden GROUP --output landlock")
	}
	version, err := kernelVersion()
	if err != nil {
		return err
	}
	if o.Version > 0 {
		version = min(version, o.Version)
	}
	remarks := lacking(version)
	var p *plan
	if version > 0 {
		if p, err = planOf(ctx, l, version); err != nil {
			return err
		}
		defer p.close()
		remarks = append(remarks, p.remarks...)
	}
	for _, r := range remarks {
		if r.Looser && o.Strict {
			return fault.New(fault.Unsupported, "the rules can't be put in force as they are: %s", r.Text).
				With("run on a newer kernel or correct the profile; without --strict the rest of the rules is put in force")
		}
		if o.Told != nil {
			o.Told(r)
		}
	}
	// Without Landlock this too is something: nobody gains rights by a program.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("renounce new privileges: %w", err)
	}
	if version == 0 {
		return nil
	}
	if version >= networks && !(l.AnyBind && l.AnyConnect) {
		if err := onlyTCP(); err != nil {
			return err
		}
	}
	return p.enforce(l)
}

// The versions of Landlock that brought something:
// Documentation/userspace-api/landlock.rst.
const (
	refers, truncates, networks, devices, scopes = 2, 3, 4, 5, 6
)

// lacking says what a version can't hold.
func lacking(version int) (remarks []Remark) {
	if version == 0 {
		return []Remark{{true, "this kernel has no Landlock: nothing of the rules is in force but that programs give no rights"}}
	}
	if version < refers {
		remarks = append(remarks, Remark{false, fmt.Sprintf("files can't be moved or linked from one folder to another: that needs version %d of Landlock, this is %d", refers, version)})
	}
	for _, r := range []struct {
		since int
		what  string
	}{
		{truncates, "cutting files that may not be written"},
		{networks, "TCP ports"},
		{devices, "commands to devices (ioctl)"},
		{scopes, "signals and abstract sockets to processes that are not confined"},
	} {
		if version < r.since {
			remarks = append(remarks, Remark{true, fmt.Sprintf("%s: not held, that needs version %d of Landlock, this is %d", r.what, r.since, version)})
		}
	}
	return remarks
}
