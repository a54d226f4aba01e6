package layer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan/inflate"
	"github.com/klauspost/compress/zstd"
)

// storedBuffer is what is read of a layer at once.
const storedBuffer = 128 << 10

// decompress pushes the tar archive in r to w. How it is compressed is decided
// by its first bytes alone: media types lie.
//
// To hash what comes out of zstd takes half as long as to decompress it, a seventh
// of the whole scan of gzip. It would tell no more than that an image cannot be run:
// what is scanned is what the digest names, and engines compare when they unpack. So
// it is left out where both digests are known.
func decompress(r *stored, w *meter, d *decoders) error {
	head := make([]byte, 6)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	head = head[:n]
	all := io.MultiReader(bytes.NewReader(head), r)
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return gunzip(all, w)
	case isZstd(head):
		if w.spared {
			w.hash = nil
		}
		return d.unzstd(r.ctx, bufio.NewReaderSize(all, storedBuffer), w, r.hash != nil)
	}
	if name := notTaken(head); name != "" {
		return fault.New(fault.Unsupported, "layer is compressed with %s, which is not a format of layers", name).
			With("build the image again with gzip or zstd layers")
	}
	_, err = bufio.NewReaderSize(all, storedBuffer).WriteTo(w)
	return err
}

// isTrailing says that the compressed stream was whole and something else follows
// it.
//
// Nothing can hide there, because nothing reads it: what follows is neither a member
// nor a frame, nor a whole header of one. Tools differ in what they say of it, not in
// what they take out of it: gzip and pigz pass over zeros and say of other bytes that
// they do, gzip and Go's reader end with an error behind half a header, Go's reader
// and the zstd command behind anything, zeros too, and engines that stop at the end
// of the archive see none of it. A member or frame that begins and breaks off, and
// checksums that don't fit, are errors everywhere, and here.
func isTrailing(err error) bool {
	return errors.Is(err, inflate.ErrTrailing) || errors.Is(err, zstd.ErrMagicMismatch) || errors.Is(err, errTrailing)
}

var errTrailing = errors.New("bytes behind the zstd stream are none of it")

// isZstd takes a frame, or one of those that hold something else and are
// skipped.
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")) ||
		len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18"
}

func notTaken(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("BZh")):
		return "bzip2"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return "zip"
	}
	return ""
}

// gunzip hands over the decompressor's own window, of all members.
func gunzip(r io.Reader, w io.Writer) error {
	z, err := inflate.NewGzip(r)
	if err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	_, err = z.WriteTo(w)
	return err
}
