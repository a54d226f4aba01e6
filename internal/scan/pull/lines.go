package pull

import (
	"bytes"
	"io"
)

// Lines reads text line by line. A line longer than the buffer (64 KiB) is cut;
// lines that are wanted are far shorter.
type Lines struct {
	src  source
	held []byte // a line that lies across two pieces
	// Cut says that the line at hand was longer than what was returned of it.
	Cut bool
}

// NewLines returns a reader of the lines of r, said to have size bytes (0
// unknown), of which at most limit are read.
func NewLines(r io.Reader, size, limit int64) *Lines {
	return &Lines{src: newSource(r, size, limit)}
}

// Next returns the next line without its end, valid until the next call. The
// error is io.EOF after the last.
func (l *Lines) Next() ([]byte, error) {
	l.held, l.Cut = l.held[:0], false
	for l.src.fill() {
		piece := l.src.buf[l.src.pos:l.src.end]
		n := bytes.IndexByte(piece, '\n')
		if n >= 0 {
			l.src.pos += n + 1
			if len(l.held) == 0 {
				return trimCR(piece[:n]), nil
			}
			l.hold(piece[:n])
			return trimCR(l.held), nil
		}
		l.hold(piece)
		l.src.pos = l.src.end
	}
	if l.src.err == io.EOF && len(l.held) > 0 {
		return trimCR(l.held), nil
	}
	return nil, l.src.err
}

func (l *Lines) hold(piece []byte) {
	if room := bufferSize - len(l.held); len(piece) > room {
		piece, l.Cut = piece[:room], true
	}
	l.held = append(l.held, piece...)
}

func trimCR(b []byte) []byte { return bytes.TrimSuffix(b, []byte("\r")) }
