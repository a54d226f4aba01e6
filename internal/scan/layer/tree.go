package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/untar"
)

// Tree says how a folder is read.
type Tree struct {
	Options
	// Overlay takes it as the upper folder of an overlay file system: devices
	// 0/0 are whiteouts, folders may be opaque.
	Overlay bool
	// Skip says that a path is left out with all below it; nil: none is.
	Skip func(path string) bool
	// OneFileSystem leaves out what is mounted below the folder.
	OneFileSystem bool
}

// folderBatch is how many names of a folder are held at once.
const folderBatch = 512

// ReadTree reads all files of a folder, as Read does those of a layer. Symbolic
// links are never followed. It uses fs.ReadLinkFS, fs.SubFS and io.Closer of the
// file system and its subfolders, where they are there (see Folder). What cannot
// be read becomes a problem.
func ReadTree(ctx context.Context, fsys fs.FS, t Tree) (*Result, error) {
	t.Limits = t.Limits.withDefaults()
	c := newCollector(ctx, t.Options)
	c.tree = &t
	w := &walker{c: c, buf: make([]byte, blockSize)}
	err := w.start(fsys)
	res, crewErr := c.finish(err)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return res, errors.Join(err, crewErr)
}

type walker struct {
	c      *collector
	device uint64
	buf    []byte
}

// start walks the whole tree, or, for a second reading, what the aliases name.
func (w *walker) start(fsys fs.FS) error {
	info, err := fs.Stat(fsys, ".")
	if err != nil {
		return fmt.Errorf("read folder: %w", err)
	}
	w.device = statOf(info).device
	if len(w.c.o.Aliases) == 0 {
		return w.folder(fsys, "")
	}
	for _, a := range w.c.o.Aliases {
		if err := w.entry(fsys, a.Real, a.Real); err != nil {
			return err
		}
	}
	return nil
}

// folder walks one folder; fsys is that folder.
func (w *walker) folder(fsys fs.FS, at string) error {
	f, err := fsys.Open(".")
	if err != nil {
		w.c.complain(at, "folder cannot be read: "+cause(err))
		return nil
	}
	defer f.Close() //nolint:errcheck // nothing was written
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		w.c.complain(at, "folder cannot be read")
		return nil
	}
	if w.c.tree.Overlay {
		w.overlay(f, at)
	}
	var folders []string
	for {
		list, err := dir.ReadDir(folderBatch)
		for _, d := range list {
			if d.IsDir() {
				folders = append(folders, d.Name())
				continue
			}
			if err := w.named(fsys, f, at, d.Name()); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			w.c.complain(at, "folder cannot be read to its end: "+cause(err))
			break
		}
	}
	slices.Sort(folders)
	for _, name := range folders {
		if err := w.named(fsys, f, at, name); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) named(fsys fs.FS, dir fs.File, at, name string) error {
	p := join(at, name)
	if skip := w.c.tree.Skip; skip != nil && skip(p) {
		return nil
	}
	w.c.file.dir = dir
	return w.entry(fsys, name, p)
}

// entry takes what is called name in fsys and p in the tree.
func (w *walker) entry(fsys fs.FS, name, p string) error {
	info, err := fs.Lstat(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it went away
	}
	if err != nil {
		w.c.complain(p, "cannot be read: "+cause(err))
		return nil
	}
	h := untar.Header{Name: p, Size: info.Size()}
	st := statOf(info)
	if !describe(&h, info, st) {
		return nil
	}
	if info.IsDir() && w.c.tree.OneFileSystem && st.device != w.device {
		return nil
	}
	if h.Type == untar.Symlink {
		if h.Link, err = fs.ReadLink(fsys, name); err != nil {
			w.c.complain(p, "symbolic link cannot be read: "+cause(err))
			return nil
		}
	}
	if h.Type == untar.Regular && info.Mode()&0o111 != 0 {
		h.Capability = hasCapability(w.c.file.dir, name)
	}
	if err := w.c.Entry(&h); err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return w.into(fsys, name, p)
	case h.Type == untar.Regular && h.Size > 0:
		return w.content(fsys, name, p)
	}
	return nil
}

func (w *walker) into(fsys fs.FS, name, p string) error {
	if tooLong(p) != "" {
		return nil // and that was said
	}
	sub, err := fs.Sub(fsys, name)
	if err != nil {
		w.c.complain(p, "folder cannot be read: "+cause(err))
		return nil
	}
	if c, ok := sub.(io.Closer); ok {
		defer c.Close() //nolint:errcheck // nothing was written
	}
	return w.folder(sub, p)
}

// content reads as much of a file as is needed to ask who wants it, and the rest
// if somebody does.
func (w *walker) content(fsys fs.FS, name, p string) (err error) {
	why := error(nil)
	defer func() { w.c.endFile(why) }()
	f, err := fsys.Open(name)
	if err != nil {
		w.c.complain(p, "cannot be read: "+cause(err))
		return nil
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil // something else took its place
	}
	left := w.c.entry.Size
	want := min(left, analyse.HeadSize)
	for left > 0 {
		n, err := io.ReadFull(f, w.buf[:want])
		if w.c.o.Progress != nil {
			w.c.o.Progress(n)
		}
		if err := w.c.Content(w.buf[:n]); err != nil {
			return err
		}
		if err != nil {
			why = io.ErrUnexpectedEOF
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				w.c.complain(p, "cannot be read to its end: "+cause(err))
			}
			return nil
		}
		if w.c.file.feed == nil {
			return nil
		}
		left -= int64(n)
		want = min(left, int64(len(w.buf)))
	}
	return nil
}

// overlay takes what overlayfs says of a folder in its attributes.
func (w *walker) overlay(f fs.File, at string) {
	mark := overlayMark(f)
	if mark.opaque {
		w.c.res.Opaque = append(w.c.res.Opaque, at)
	}
	if mark.redirect {
		w.c.complain(at, "folder was renamed; what it had in the image is not seen under its new name")
	}
}

// describe fills the header from what the file system says; it is false for what
// an archive cannot have.
func describe(h *untar.Header, info fs.FileInfo, st stat) bool {
	m := info.Mode()
	h.Mode = int64(m.Perm())
	for _, bit := range [...]struct {
		fs  fs.FileMode
		tar int64
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&bit.fs != 0 {
			h.Mode |= bit.tar
		}
	}
	h.UID, h.GID = st.uid, st.gid
	switch {
	case m.IsRegular():
		h.Type = untar.Regular
	case m.IsDir():
		h.Type = untar.Folder
	case m&fs.ModeSymlink != 0:
		h.Type = untar.Symlink
	case m&fs.ModeCharDevice != 0:
		h.Type, h.Minor = untar.Char, int64(st.rdev)
	case m&fs.ModeDevice != 0:
		h.Type = untar.Block
	case m&fs.ModeNamedPipe != 0:
		h.Type = untar.FIFO
	default:
		return false
	}
	return true
}

// cause is the system's word for an error, without the path, which is known.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
