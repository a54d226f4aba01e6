package rpm

import (
	"fmt"
	"io"
	"sort"
)

// maxParts bounds the parts in which a header lies: one of maxHeader bytes on the
// smallest pages has half as many.
const maxParts = 1 << 16

// scattered is a run of bytes that lies in a database in parts: a value that goes
// on wherever a page was free. It is read where it lies.
type scattered struct {
	db    *held
	parts []part
	size  int
}

// part is where one begins in the database, and where it ends in the run.
type part struct{ at, end uint32 }

// add appends what lies at a place of the database, which must be within it.
func (s *scattered) add(at, size int) error {
	if at < 0 || size < 0 || at > s.db.size || size > s.db.size-at {
		return fmt.Errorf("%d bytes at %d of %d", size, at, s.db.size)
	}
	if len(s.parts) == maxParts {
		return fmt.Errorf("it lies on more than %d pages", maxParts)
	}
	s.size += size
	s.parts = append(s.parts, part{uint32(at), uint32(s.size)})
	return nil
}

// ReadAt is io.ReaderAt.
func (s *scattered) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		at := int(off) + n
		if at >= s.size {
			return n, io.EOF
		}
		i := sort.Search(len(s.parts), func(i int) bool { return int(s.parts[i].end) > at })
		p, begin := s.parts[i], 0
		if i > 0 {
			begin = int(s.parts[i-1].end)
		}
		piece := b[n:min(len(b), n+int(p.end)-at)]
		if err := s.db.copy(piece, int(p.at)+at-begin); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}
