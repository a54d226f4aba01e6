package executable

import (
	"compress/flate"
	"io"
	"sync"
)

// spare is what one file leaves for the next: an image has thousands of programs
// and libraries, and the garbage of each would be as large as a small one.
type spare struct {
	buffers   sync.Pool // of *[]byte
	inflaters sync.Pool // of io.ReadCloser, a flate.Resetter
}

func newSpare() *spare {
	s := &spare{}
	s.buffers.New = func() any {
		b := make([]byte, usualWindow)
		return &b
	}
	return s
}

// window returns a window over a file.
func (s *spare) window(r io.Reader) *window {
	buf := s.buffers.Get().(*[]byte)
	return &window{r: r, buf: *buf, held: (*buf)[:0]}
}

// keep takes the window's buffer back, unless it had to grow.
func (s *spare) keep(w *window) {
	if len(w.buf) == usualWindow {
		s.buffers.Put(&w.buf)
	}
}

// inflate returns a decompressor of r.
func (s *spare) inflate(r io.Reader) (io.ReadCloser, error) {
	z, ok := s.inflaters.Get().(io.ReadCloser)
	if !ok {
		return flate.NewReader(r), nil
	}
	return z, z.(flate.Resetter).Reset(r, nil)
}
