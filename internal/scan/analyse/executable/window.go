package executable

import (
	"io"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	// headerSize is how much of a file is looked at for its headers. Linkers put
	// them at the very beginning; the longest seen are of 8 KiB.
	headerSize = 32 << 10
	// chunkSize is how much is read at once.
	chunkSize = 32 << 10
	// usualWindow is what a window needs that does not meet build information.
	usualWindow = overlap + 2*chunkSize
	// maxWindow bounds what is held of a file: the longest build information
	// seen has 60 KiB.
	maxWindow = 2 << 20
	// maxEmptyReads is how often a reader may return nothing, as in bufio.
	maxEmptyReads = 100
)

// window is the part of a file that is held while it passes.
type window struct {
	r    io.Reader
	held []byte // from off on
	off  int64  // where in the file the window begins
	base int64  // where offsets are counted from
	buf  []byte // what held is a part of
	end  error  // why there is no more
}

// need returns at least n bytes from where the window begins, or all that are
// left of the file, valid until more are needed. An error is the reader's own.
func (w *window) need(n int) ([]byte, error) {
	for len(w.held) < n && w.end == nil {
		w.read(n)
	}
	if w.end != nil && w.end != io.EOF {
		return nil, w.end
	}
	return w.held, nil
}

// read adds a piece, making room for n bytes in all.
func (w *window) read(n int) {
	if cap(w.held)-len(w.held) < chunkSize/2 || cap(w.held) < n {
		w.makeRoom(n)
	}
	got, err := 0, error(nil)
	for tries := 0; got == 0 && err == nil; tries++ {
		if got, err = w.r.Read(w.held[len(w.held):cap(w.held)]); tries == maxEmptyReads {
			err = io.ErrNoProgress
		}
	}
	w.held, w.end = w.held[:len(w.held)+got], err
}

// makeRoom moves what is held to the beginning of a buffer that is long enough.
func (w *window) makeRoom(n int) {
	size := max(n, len(w.held)) + chunkSize
	if size <= len(w.buf) {
		copy(w.buf, w.held)
	} else {
		buf := make([]byte, size)
		copy(buf, w.held)
		w.buf = buf
	}
	w.held = w.buf[:len(w.held)]
}

// drop moves the beginning of the window on by n bytes, all of them held.
func (w *window) drop(n int) {
	w.held = w.held[n:]
	w.off += int64(n)
}

// skipTo moves the beginning of the window on to an offset of the file. It
// returns io.EOF if the file ends before.
func (w *window) skipTo(off int64) error {
	for {
		ahead := off - w.position()
		if ahead <= int64(len(w.held)) {
			w.drop(int(max(ahead, 0)))
			return nil
		}
		w.drop(len(w.held))
		if w.end != nil {
			return w.end
		}
		w.held = w.buf[:0]
		if s, ok := w.r.(analyse.Skipper); ok {
			// The byte before is read, so that it shows when the file ends earlier.
			n := max(off-w.position()-1, 0)
			s.Skip(n)
			w.off += n
		}
		w.read(0)
	}
}

// position is the offset at which the window begins.
func (w *window) position() int64 { return w.off - w.base }

// rebase moves to an offset and counts from there on.
func (w *window) rebase(off int64) error {
	err := w.skipTo(off)
	w.base = w.off
	return err
}
