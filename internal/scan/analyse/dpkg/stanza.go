package dpkg

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// Limits of dpkg's files. The largest real status files have some 6,000 stanzas
// and lines of some 30,000 bytes (Depends of task packages, Conffiles aside).
const (
	maxPackages = analyse.MaxPackages
	maxLine     = 1 << 20
)

// fields are what is read of one stanza.
type fields struct{ name, version, arch, source, status string }

// stanzas reads the stanzas of a control file (deb822(5)) one after the other.
type stanzas struct {
	lines  *bufio.Scanner
	fields fields
	err    error
}

func newStanzas(r io.Reader) *stanzas {
	s := &stanzas{lines: bufio.NewScanner(r)}
	s.lines.Buffer(make([]byte, 0, 16<<10), maxLine)
	return s
}

// next reads one stanza, and says whether there was one.
func (s *stanzas) next() bool {
	s.fields = fields{}
	any := false
	for s.lines.Scan() {
		line := bytes.TrimRight(s.lines.Bytes(), " \t\r")
		if len(line) == 0 {
			if any {
				return true
			}
			continue
		}
		any = true
		s.take(line)
	}
	if err := s.lines.Err(); err != nil {
		s.err = fmt.Errorf("read dpkg's records: %w", err)
		if errors.Is(err, bufio.ErrTooLong) {
			s.err = fmt.Errorf("dpkg's records have a line of more than %d bytes", maxLine)
		}
		return false
	}
	return any
}

// take keeps a field that is of interest; lines that go on with a field begin
// with a blank, and none of ours does.
func (s *stanzas) take(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		return
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return
	}
	var to *string
	switch {
	case bytes.EqualFold(name, []byte("Package")):
		to = &s.fields.name
	case bytes.EqualFold(name, []byte("Version")):
		to = &s.fields.version
	case bytes.EqualFold(name, []byte("Architecture")):
		to = &s.fields.arch
	case bytes.EqualFold(name, []byte("Source")):
		to = &s.fields.source
	case bytes.EqualFold(name, []byte("Status")):
		to = &s.fields.status
	default:
		return
	}
	*to = string(bytes.TrimSpace(value))
}
