package layer

import (
	"io/fs"
	"os"
	"syscall"
)

// Folder is a folder of this machine as a file system that nothing in it can
// lead out of: symbolic links that point elsewhere are errors. Files are opened
// without waiting, so that a pipe that takes a file's place holds nobody up.
type Folder struct{ root *os.Root }

// OpenFolder opens a folder. Close it when it is done with.
func OpenFolder(path string) (*Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Folder{root: root}, nil
}

// Close closes the folder; files and subfolders opened from it stay open.
func (f *Folder) Close() error { return f.root.Close() }

// Open opens a file or a folder for reading.
func (f *Folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// Lstat describes a file without following it.
func (f *Folder) Lstat(name string) (fs.FileInfo, error) { return f.root.Lstat(name) }

// ReadLink returns the target of a symbolic link.
func (f *Folder) ReadLink(name string) (string, error) { return f.root.Readlink(name) }

// Sub returns a subfolder as a Folder of its own, which is to be closed: going
// down so, every file is one step away.
func (f *Folder) Sub(name string) (fs.FS, error) {
	root, err := f.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Folder{root: root}, nil
}
