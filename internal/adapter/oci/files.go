package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/castellan-security/castellan/internal/fault"
)

// files is a folder or an archive: names and what is behind them.
type files interface {
	// open opens a regular file, following links that stay inside. The error is
	// of kind NotFound when there is none.
	open(name string) (io.ReadCloser, error)
	// size returns its size without opening it.
	size(name string) (int64, error)
	io.Closer
}

// missing is the error for a file that isn't there.
func missing(name string) error {
	return fault.New(fault.NotFound, "%s is not in it", shown(name)).
		With("it was copied or saved in part; save it anew, whole")
}

// small reads a small file whole.
func small(f files, name string, limit int64) ([]byte, error) {
	size, err := f.size(name)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, tooLarge(name, size, limit)
	}
	r, err := f.open(name)
	if err != nil {
		return nil, err
	}
	b, err := readBounded(r, limit, name)
	return b, errors.Join(err, r.Close())
}

// has says whether there is a regular file of that name.
func has(f files, name string) bool {
	_, err := f.size(name)
	return err == nil
}

// folder is a folder on disk. Nothing outside of it can be reached through it.
type folder struct{ root *os.Root }

func openFolder(dir string) (folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return folder{}, unreadable(dir, err)
	}
	return folder{root}, nil
}

func (f folder) open(name string) (io.ReadCloser, error) {
	// A pipe would block whoever opens it, were it not for the flag.
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(name)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = invalid("%s is no file", shown(name))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (f folder) size(name string) (int64, error) {
	info, err := f.root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, missing(name)
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular():
		return 0, invalid("%s is no file", shown(name))
	}
	return info.Size(), nil
}

// Close gives the folder back.
func (f folder) Close() error { return f.root.Close() }

// unreadable says of a path what is the matter with it.
func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "there is no %s", shown(path)).With("is the path right, and relative to where you are?")
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Denied, "no permission to read %s", shown(path)).With("run castellan as a user who may read it")
	}
	return fmt.Errorf("open %s: %w", shown(path), err)
}

// entry is one file of an archive.
type entry struct {
	offset, size int64
	link         string // clean name of what a link points to; empty for a file
}

// tarball is a tar archive whose files can be read in any order.
type tarball struct {
	file    *os.File
	entries map[string]entry
}

// openTarball indexes an archive without reading what is in its files, and
// takes file over.
func openTarball(ctx context.Context, file *os.File) (*tarball, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	entries, err := indexTar(ctx, io.NewSectionReader(file, 0, info.Size()), info.Size())
	if err != nil {
		return nil, err
	}
	return &tarball{file: file, entries: entries}, nil
}

// indexTar notes where in an archive of size bytes each file is. The position
// of r after a header is where the file begins: the reader of archives reads
// whole blocks and no further.
func indexTar(ctx context.Context, r io.ReadSeeker, size int64) (map[string]entry, error) {
	entries := map[string]entry{}
	t := tar.NewReader(r)
	var names int64
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, brokenTar(err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if names += int64(len(h.Name) + len(h.Linkname)); n == maxEntries || names > maxNames {
			return nil, tooManyEntries()
		}
		name, e, err := entryOf(h)
		if err != nil {
			return nil, err
		}
		if name == "" {
			continue
		}
		if e.offset, err = r.Seek(0, io.SeekCurrent); err != nil {
			return nil, err
		}
		if e.offset+e.size > size || e.offset+e.size < e.offset {
			return nil, corrupt("the archive ends within %s: it has %d bytes, and this file alone ends at %d", shown(name), size, e.offset+e.size)
		}
		if _, twice := entries[name]; twice {
			return nil, twiceInTar(name)
		}
		entries[name] = e
	}
}

// entryOf returns what a header says, with an empty name for what is neither a
// file nor a link.
func entryOf(h *tar.Header) (name string, e entry, err error) {
	if len(h.Name) > maxName || len(h.Linkname) > maxName {
		return "", entry{}, invalid("an entry of the archive has a name of %d bytes", max(len(h.Name), len(h.Linkname)))
	}
	name = path.Clean(h.Name)
	if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") {
		return "", entry{}, invalid("the entry %q of the archive leads out of it", shown(h.Name))
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		if isSparse(h) {
			return "", entry{}, invalid("the entry %q of the archive is sparse", shown(h.Name))
		}
		return name, entry{size: h.Size}, nil
	case tar.TypeSymlink:
		if path.IsAbs(h.Linkname) {
			return "", entry{}, invalid("the link %q of the archive leads out of it", shown(h.Name))
		}
		return name, entry{link: path.Join(path.Dir(name), h.Linkname)}, nil
	case tar.TypeLink:
		return name, entry{link: path.Clean(h.Linkname)}, nil
	}
	return "", entry{}, nil
}

// isSparse says whether a file has holes that the archive leaves out: its bytes
// are then not where they seem to be, and no tool that saves images makes such.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func brokenTar(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if fault.Of(err) != fault.Unknown {
		return fmt.Errorf("read archive: %w", err)
	}
	return fault.New(fault.Corrupt, "read archive: %w", err).
		With("it was copied in part or is no tar archive; save it anew")
}

func tooManyEntries() error {
	return invalid("the archive has more than %d entries, or more than %d bytes of their names", maxEntries, maxNames)
}

func twiceInTar(name string) error {
	return invalid("the archive has %s twice, and tools differ in which one they take", shown(name))
}

// follow returns the file that a name means and that file's own name.
func follow(at func(name string) (entry, bool), name string) (entry, string, error) {
	name = path.Clean(name)
	for range maxLinks {
		e, ok := at(name)
		switch {
		case !ok:
			return entry{}, name, missing(name)
		case e.link == "":
			return e, name, nil
		}
		name = e.link
	}
	return entry{}, name, invalid("more than %d links lead from one to the next, at %s", maxLinks, shown(name))
}

func (t *tarball) at(name string) (entry, bool) {
	e, ok := t.entries[name]
	return e, ok
}

func (t *tarball) open(name string) (io.ReadCloser, error) {
	e, _, err := follow(t.at, name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(t.file, e.offset, e.size)), nil
}

func (t *tarball) size(name string) (int64, error) {
	e, _, err := follow(t.at, name)
	return e.size, err
}

// Close closes the archive.
func (t *tarball) Close() error { return t.file.Close() }

// shared closes what several images hold open when the last of them is closed.
type shared struct {
	io.Closer
	holders atomic.Int32
}

func share(c io.Closer, holders int) *shared {
	s := &shared{Closer: c}
	s.holders.Store(int32(holders))
	return s
}

// Close counts one holder off.
func (s *shared) Close() error {
	if s.holders.Add(-1) != 0 {
		return nil
	}
	return s.Closer.Close()
}
