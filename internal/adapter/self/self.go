// Package self is the door to this very program, run once more as a child that
// may do next to nothing: it reads what may be hostile, and its parent goes on
// whatever becomes of it.
//
// The child runs only when the host has nothing else to do, or with a low
// priority where its work is what the host is for (Options.Working), on one
// processor, within a time and with bounded output. It ends with its parent, and
// everything that it started ends with it. Its environment is empty. Started by
// root it is nobody, without capabilities, in namespaces of its own without a
// network; by whomever it is started, it can gain no rights, and where the kernel
// has Landlock (5.13) it can open no file but those below one folder. What it
// needs beyond that its parent offers at a socket in that folder (Listen).
//
// It is not for other programs.
package self

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// nobody is the user and group that a child of root becomes: the kernel's
	// overflow id, which owns nothing.
	nobody = 65534
	// ownFolder is the folder that the child may write in, below the program's.
	ownFolder = "layers"
	// folderFD and programFD are the child's file descriptors for its folder and
	// for its program, which it may not be able to reach by their paths.
	folderFD  = 3
	programFD = 4
)

// Options say what a child is made of.
type Options struct {
	// Folder is made if it is missing. It belongs to this package.
	Folder string
	// Working says that the children's work is what this host is for: they run
	// beside others, with a low priority, and not only when nobody else does.
	Working bool
	// Program is another program than this one, for tests.
	Program string
}

// Program starts children. Make it with New, and close it.
type Program struct {
	folder  *os.File
	program *os.File
	rights  rights
	working bool
	log     *slog.Logger
}

// rights are what this process can do to its children.
type rights struct {
	users      bool // make them somebody else
	namespaces bool // give them namespaces of their own
}

// New returns the program, and makes its folder.
func New(o Options, log *slog.Logger) (_ *Program, err error) {
	if o.Program == "" {
		o.Program = "/proc/self/exe"
	}
	p := &Program{log: log, working: o.Working}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("prepare to run this program as a child: %w", err), p.Close())
		}
	}()
	if p.rights, err = ownRights(); err != nil {
		return nil, err
	}
	own := filepath.Join(o.Folder, ownFolder)
	if err := os.MkdirAll(own, 0o700); err != nil {
		return nil, err
	}
	if p.folder, err = os.Open(o.Folder); err != nil {
		return nil, err
	}
	if p.rights.users {
		// It passes its folder to find the socket, and may list or change only its own.
		if err := p.folder.Chmod(0o711); err != nil {
			return nil, err
		}
		if err := os.Lchown(own, nobody, nobody); err != nil {
			return nil, err
		}
	}
	p.program, err = os.OpenFile(o.Program, unix.O_PATH, 0)
	return p, err
}

// Close lets go of the folder.
func (p *Program) Close() error {
	var errs []error
	for _, f := range []*os.File{p.folder, p.program} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Inside returns the path by which a child finds a file of the folder.
func (p *Program) Inside(name string) string { return inFD(folderFD, name) }

// Own returns the path of the folder that a child may write in.
func (p *Program) Own() string { return p.Inside(ownFolder) }

// Listen opens a socket in the folder, which only a child can connect to. Closing
// the listener removes it.
func (p *Program) Listen(name string) (net.Listener, error) {
	// By the open folder: a socket's path is short.
	path := inFD(int(p.folder.Fd()), name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove a former socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for a child: %w", err)
	}
	err = os.Chmod(path, 0o600)
	if p.rights.users {
		err = errors.Join(err, os.Lchown(path, nobody, nobody))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("give a child its socket: %w", err), l.Close())
	}
	return l, nil
}

func inFD(fd int, name string) string {
	return filepath.Join("/proc/self/fd", strconv.Itoa(fd), name)
}

// ownRights asks the kernel what this process may do.
func ownRights() (rights, error) {
	const words, bits = 2, 32
	var data [words]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return rights{}, fmt.Errorf("ask for own capabilities: %w", err)
	}
	has := func(all ...int) bool {
		for _, c := range all {
			if data[c/bits].Effective&(1<<(c%bits)) == 0 {
				return false
			}
		}
		return true
	}
	return rights{
		users:      has(unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_CHOWN, unix.CAP_KILL),
		namespaces: has(unix.CAP_SYS_ADMIN),
	}, nil
}
