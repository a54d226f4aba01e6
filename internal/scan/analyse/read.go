package analyse

import (
	"bytes"
	"fmt"
	"io"
)

// ReadAll returns the whole file, or an error if it is larger than limit: for
// analysers whose format cannot be read as it passes. size is what the entry
// says and only saves growing.
func ReadAll(r io.Reader, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("file of %d bytes, at most %d are read", size, limit)
	}
	var b bytes.Buffer
	b.Grow(int(size))
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("file of more than %d bytes", limit)
	}
	return b.Bytes(), nil
}
