package vm

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// Archive writes an initial RAM file system: a cpio archive of the "newc" form,
// which Documentation/driver-api/early-userspace/buffer-format.rst describes.
// Its methods write at once and remember the first error, which Close returns.
type Archive struct {
	w     io.Writer
	inode int
	known map[string]bool
	err   error
}

// File modes of stat(2), which the archive stores.
const (
	modeFile = 0o100000
	modeDir  = 0o040000
	modeChar = 0o020000
)

// NewArchive returns an archive that is written to w.
func NewArchive(w io.Writer) *Archive { return &Archive{w: w, known: map[string]bool{"": true}} }

// Dir adds a folder and those above it, unless they are there.
func (a *Archive) Dir(name string) {
	name = clean(name)
	if a.known[name] {
		return
	}
	a.Dir(parent(name))
	a.known[name] = true
	a.entry(name, modeDir|0o755, [2]int{}, nil)
}

// File adds a file and the folders above it.
func (a *Archive) File(name string, perm int, content []byte) {
	name = clean(name)
	a.Dir(parent(name))
	a.entry(name, modeFile|perm, [2]int{}, content)
}

// Device adds a character device and the folders above it.
func (a *Archive) Device(name string, major, minor int) {
	name = clean(name)
	a.Dir(parent(name))
	a.entry(name, modeChar|0o600, [2]int{major, minor}, nil)
}

// Close ends the archive. It does not close the writer.
func (a *Archive) Close() error {
	a.inode = -1
	a.entry("TRAILER!!!", 0, [2]int{}, nil)
	return a.err
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func parent(name string) string { return clean(path.Dir("/" + name)) }

// entry writes one header, name and content, each padded to four bytes.
func (a *Archive) entry(name string, mode int, device [2]int, content []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	const links, headerLen = 1, 110
	_, a.err = fmt.Fprintf(a.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00%s",
		a.inode, mode, 0, 0, links, 0, len(content), 0, 0, device[0], device[1], len(name)+1, 0,
		name, padding(headerLen+len(name)+1))
	if a.err != nil {
		return
	}
	if _, a.err = a.w.Write(content); a.err != nil {
		return
	}
	_, a.err = io.WriteString(a.w, padding(len(content)))
}

// padding is what is missing from n to the next multiple of four.
func padding(n int) string { return strings.Repeat("\x00", (4-n%4)%4) }
