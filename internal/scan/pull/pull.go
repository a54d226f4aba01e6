// Package pull reads JSON, YAML, TOML and plain lines as they pass, a value at a
// time: manifests and lock files, which may be large, come from whoever made an
// image, and are wanted for a few of their fields.
//
// A reader holds one value in bounded memory and skips the rest at the speed
// of a search. The YAML and the TOML are what programs write into lock files
// (block mappings, tables, scalars), not the whole languages: what they don't
// understand they skip. JSON is that of the ground (internal/pull), called back for
// what it finds. It is not for configuration that people write, and not
// for XML (see encoding/xml, which streams already).
package pull

import (
	"fmt"
	"io"

	"github.com/castellan-security/castellan/internal/pull"
)

// MaxText bounds one string that is kept; names, versions and licences are far
// shorter. Strings that are skipped may have any length.
const MaxText = pull.MaxText

// bufferSize is how much of a document is held at once, for large ones.
const bufferSize = 64 << 10

// ErrTooLarge says that a document is longer than its reader was told to read.
var ErrTooLarge = pull.ErrTooLarge

// source hands out a document of bounded length in pieces.
type source struct {
	r        io.Reader
	buf      []byte
	pos, end int
	limit    int64
	left     int64
	err      error // why there is no more; io.EOF at the end
}

// newSource makes a source of a document that is said to have size bytes (0
// unknown) and is read up to limit.
func newSource(r io.Reader, size, limit int64) source {
	n := int64(bufferSize)
	if size > 0 && size < n {
		n = max(size+1, 64)
	}
	return source{r: r, buf: make([]byte, n), limit: limit, left: limit}
}

// fill reads on when everything held was taken. It returns false at the end or
// on an error.
func (s *source) fill() bool {
	if s.pos < s.end {
		return true
	}
	for tries := 0; s.err == nil && tries < 100; tries++ {
		n, err := s.r.Read(s.buf)
		s.left -= int64(n)
		if s.left < 0 {
			s.err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, s.limit)
			return false
		}
		s.err = err
		if n > 0 {
			s.pos, s.end = 0, n
			return true
		}
	}
	if s.err == nil {
		s.err = io.ErrNoProgress
	}
	return false
}
