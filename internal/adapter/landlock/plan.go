package landlock

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

const (
	// maxGrants bounds the files and folders that rules come to on this machine: each
	// is an open descriptor until they are in force, and a rule in the kernel. Go
	// raises the limit of descriptors at its start, and puts it back at exec.
	maxGrants = 16_384
	// maxLooked bounds the files of a folder that are asked for their loader.
	maxLooked = 4_096
)

// plan is what rules come to with the files that are there.
type plan struct {
	version int
	grants  map[int]uint64 // by descriptor
	names   map[int]string
	byPath  map[string]int
	remarks []Remark
}

// planOf finds what the rules are about. The caller closes it.
func planOf(ctx context.Context, l *profile.Landlock, version int) (_ *plan, err error) {
	p := &plan{version: version, grants: map[int]uint64{}, names: map[int]string{}, byPath: map[string]int{}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, path := range l.Paths {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := p.path(path, l.Without); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *plan) close() {
	for fd := range p.grants {
		unix.Close(fd) //nolint:errcheck // of O_PATH: nothing can be lost
	}
	p.grants = nil
}

// grant permits access to what is at a path, if anything is; to folders not if it
// is for files alone.
func (p *plan) grant(path string, access uint64, files bool) (found bool, err error) {
	fd, ok := p.byPath[path]
	if !ok {
		if len(p.grants) >= maxGrants {
			return false, fault.New(fault.Exhausted, "the rules come to more than %d files", maxGrants).
				With("have fewer files beside sensitive ones, or permit folders instead of files")
		}
		fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		switch {
		case absent(err):
			return false, nil
		case errors.Is(err, unix.EMFILE):
			return false, fault.New(fault.Exhausted, "open %s: %w", path, err).With("raise the limit of open files (ulimits nofile in the task definition)")
		case err != nil:
			return false, fmt.Errorf("open %s: %w", path, err)
		}
		p.byPath[path], p.names[fd] = fd, path
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	access &= held(p.version)
	switch folder := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case !folder:
		access &= ofFiles
	case files:
		access = 0
	}
	if p.grants[fd] |= access; p.grants[fd] == 0 { // nothing that this kernel holds
		delete(p.grants, fd)
		delete(p.byPath, path)
		return true, unix.Close(fd)
	}
	return true, nil
}

// absent reports errors of paths at which nothing is that this process could
// reach, and so nothing that it could permit.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}

// path permits what one rule says.
func (p *plan) path(r profile.LandlockPath, without []profile.Pattern) error {
	access := accessOf(r.Rights)
	if r.Path == "/" && access&unix.LANDLOCK_ACCESS_FS_READ_FILE != 0 && len(without) > 0 {
		if err := p.allBut("/", namesOf(without)); err != nil {
			return err
		}
		access &^= unix.LANDLOCK_ACCESS_FS_READ_FILE
	}
	paths, err := expand("/", r.Path.Names())
	if err != nil {
		return err
	}
	found := false
	for _, path := range paths {
		there, err := p.grant(path, access, r.Files)
		if err != nil {
			return err
		}
		found = found || there
		if there && access&unix.LANDLOCK_ACCESS_FS_EXECUTE != 0 {
			if err := p.loaders(path); err != nil {
				return err
			}
		}
	}
	if found || r.Optional {
		return nil
	}
	return p.missing(r, access)
}

// missing permits for the nearest folder that is there what a rule permits for
// one that the application makes.
func (p *plan) missing(r profile.LandlockPath, access uint64) error {
	access &^= unix.LANDLOCK_ACCESS_FS_EXECUTE
	if access&unix.LANDLOCK_ACCESS_FS_MAKE_DIR == 0 || !r.Path.Exact() {
		p.remarks = append(p.remarks, Remark{false, fmt.Sprintf("%s is not there: nothing is permitted for it", r.Path)})
		return nil
	}
	folder := filepath.Dir(string(r.Path))
	for ; folder != "/"; folder = filepath.Dir(folder) {
		there, err := p.grant(folder, access, false)
		if err != nil {
			return err
		}
		if there {
			p.remarks = append(p.remarks, Remark{true, fmt.Sprintf("%s is not there: what is permitted for it is permitted for all of %s", r.Path, folder)})
			return nil
		}
	}
	p.remarks = append(p.remarks, Remark{false, fmt.Sprintf("%s is not there, and neither is a folder above it: nothing is permitted for it", r.Path)})
	return nil
}

// expand returns the paths below folder that names with "*" stand for.
func expand(folder string, names []string) (paths []string, err error) {
	for i, n := range names {
		if !strings.Contains(n, "*") {
			folder = filepath.Join(folder, n)
			continue
		}
		entries, err := os.ReadDir(folder)
		if absent(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", folder, err)
		}
		for _, e := range entries {
			if !fits(n, e.Name()) {
				continue
			}
			below, err := expand(filepath.Join(folder, e.Name()), names[i+1:])
			if err != nil {
				return nil, err
			}
			if paths = append(paths, below...); len(paths) > maxGrants {
				return nil, fault.New(fault.Exhausted, "%s stands for more than %d files", filepath.Join(append([]string{folder}, names[i:]...)...), maxGrants).
					With("name fewer files in the profile")
			}
		}
		return paths, nil
	}
	return []string{folder}, nil
}

func fits(pattern, name string) bool { return profile.Pattern("/" + pattern).Match("/" + name) }

func namesOf(patterns []profile.Pattern) [][]string {
	var names [][]string
	for _, p := range patterns {
		names = append(names, p.Names())
	}
	return names
}

// allBut permits the reading of all that is in a folder but what the names stand
// for: the neighbours of such a file one by one, other folders as a whole.
func (p *plan) allBut(folder string, without [][]string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil // nothing of it is permitted: which of its files are sensitive is not known
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", folder, err)
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink != 0 {
			continue // what it leads to is at its own place
		}
		var below [][]string
		refused := false
		for _, w := range without {
			switch {
			case !fits(w[0], e.Name()):
			case len(w) == 1, w[1] == "**" && len(w) == 2:
				refused = true
			default:
				below = append(below, w[1:])
			}
		}
		path := filepath.Join(folder, e.Name())
		switch {
		case refused:
		case len(below) > 0 && e.IsDir():
			err = p.allBut(path, below)
		default:
			_, err = p.grant(path, unix.LANDLOCK_ACCESS_FS_READ_FILE, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loaders permits running what the kernel runs for a program, or for those in a
// folder: the loader of one that is linked dynamically.
func (p *plan) loaders(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil // gone or out of reach: then it does not run either
	}
	if !info.IsDir() {
		return p.loader(path)
	}
	left := maxLooked
	err = filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if left--; left < 0 {
			return fs.SkipAll
		}
		if err != nil || !d.Type().IsRegular() {
			return nil // what can't be read is no program of this process
		}
		return p.loader(file)
	})
	if left < 0 {
		p.remarks = append(p.remarks, Remark{false, fmt.Sprintf("%s has more than %d files: those behind are not asked for their loader", path, maxLooked)})
	}
	return err
}

// loader permits running the loader of a program.
func (p *plan) loader(program string) error {
	f, err := os.Open(program)
	if err != nil {
		return nil // a program that can be run and not read is linked statically or does not start
	}
	defer f.Close()
	file, err := elf.NewFile(f)
	if err != nil {
		return nil // a script, whose interpreter is a program of its own, or nothing that runs
	}
	for _, part := range file.Progs {
		const longest = 4096
		if part.Type != elf.PT_INTERP || part.Filesz == 0 || part.Filesz > longest {
			continue
		}
		name := make([]byte, part.Filesz)
		if _, err := part.ReadAt(name, 0); err != nil {
			return nil // a damaged program, which does not start
		}
		loader := string(bytes.TrimRight(name, "\x00"))
		if !strings.HasPrefix(loader, "/") {
			return nil
		}
		_, err := p.grant(loader, unix.LANDLOCK_ACCESS_FS_EXECUTE|unix.LANDLOCK_ACCESS_FS_READ_FILE, true)
		return err
	}
	return nil
}
