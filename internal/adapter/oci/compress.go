package oci

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
)

// headSize is how much of a file shows what it is: a header of a tar archive.
const headSize = 512

// kind is how something is compressed.
type kind int

// The kinds. Foreign is none of those that images come in.
const (
	foreignKind kind = iota
	plain
	gzipped
	zstandard
)

// compression tells by the first bytes of a file how it is compressed; plain is
// a tar archive.
func compression(head []byte) kind {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzipped
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), isSkippable(head):
		return zstandard
	case isTar(head):
		return plain
	}
	return foreignKind
}

// isSkippable says whether head is a frame of zstd without data, with which
// tools mark where in a layer its files are: RFC 8878, 3.1.2.
func isSkippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}

// isTar says whether head is the header of a tar archive's first entry, which
// has a checksum, or the zeros of one without entries.
func isTar(head []byte) bool {
	if len(head) == 0 {
		return true // an empty layer, as docker before 1.10 wrote it
	}
	if len(head) < headSize {
		return false
	}
	head = head[:headSize]
	const at, width = 148, 8
	field := bytes.Trim(head[at:at+width], " \x00")
	said, err := strconv.ParseInt(string(field), 8, 64)
	var unsigned, signed int64 // both are found in the wild
	for i, c := range head {
		if at <= i && i < at+width {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	if unsigned == width*' ' {
		return true
	}
	return err == nil && (said == unsigned || said == signed)
}

// maxWindow bounds what decompressing zstd holds in memory. Tools write windows
// of 8 MiB and less unless told otherwise.
const maxWindow = 32 << 20

// decompressed returns a reader of what r holds decompressed. The caller calls
// done at the end.
func decompressed(r *bufio.Reader) (_ io.Reader, done func(), err error) {
	head, err := r.Peek(headSize)
	if len(head) == 0 {
		return nil, nil, fault.New(fault.Invalid, "nothing came").With("did the command before the pipe fail?")
	}
	switch compression(head) {
	case gzipped:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("decompress archive: %w", err)
		}
		return z, func() { _ = z.Close() }, nil // it holds nothing and its checksum was read with the data
	case zstandard:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, fmt.Errorf("decompress archive: %w", err)
		}
		return z, z.Close, nil
	case plain:
		return r, func() {}, nil
	}
	if err != nil && len(head) < headSize {
		return nil, nil, fault.New(fault.Invalid, "no archive: it has %d bytes", len(head)).With("did the command before the pipe fail?")
	}
	return nil, nil, fault.New(fault.Unsupported, "no tar archive, and none that gzip or zstd compressed").
		With("decompress it first, or save the image anew")
}
