package layer

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// stored is the layer as it is stored: every byte is read once, counted and
// hashed.
type stored struct {
	ctx      context.Context
	r        io.Reader
	n        int64
	size     int64     // as said; 0 unknown
	hash     hash.Hash // nil: no digest is known
	err      error     // of the source, other than io.EOF
	ended    bool
	progress func(int)
}

func openStored(ctx context.Context, l inventory.Layer, r io.Reader, progress func(int)) (*stored, error) {
	s := &stored{ctx: ctx, r: r, size: l.Size, progress: progress}
	if l.Digest == "" {
		return s, nil
	}
	h, err := newHash(l.Digest)
	s.hash = h
	return s, err
}

// newHash returns the hash that a digest is made with, SHA-256 for none.
func newHash(digest string) (hash.Hash, error) {
	if digest == "" {
		return sha256.New(), nil
	}
	if err := inventory.CheckDigest(digest); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	if strings.HasPrefix(digest, "sha512:") {
		return sha512.New(), nil
	}
	return sha256.New(), nil
}

// Read returns the source's errors, and one if there is more than was said: a
// source that never ends must not be read for ever.
func (s *stored) Read(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.ended {
		return 0, io.EOF
	}
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(b)
	s.n += int64(n)
	if s.hash != nil {
		s.hash.Write(b[:n])
	}
	if s.progress != nil && n > 0 {
		s.progress(n)
	}
	switch {
	case err == io.EOF:
		s.ended = true
	case err != nil:
		s.err = fmt.Errorf("read layer: %w", err)
		return n, s.err
	case s.size > 0 && s.n > s.size:
		s.err = fault.New(fault.Corrupt, "layer has more than the %d bytes that its manifest says", s.size)
		return n, s.err
	}
	return n, err
}

// drain reads what the decompressor left, for the digest.
func (s *stored) drain() {
	if s.err != nil || s.ended {
		return
	}
	buf := make([]byte, storedBuffer)
	for s.err == nil && !s.ended {
		s.Read(buf) //nolint:errcheck // kept in s.err
	}
}

// check compares what was read with what is known of the layer.
func (s *stored) check(l inventory.Layer) error {
	if l.Size > 0 && s.n != l.Size {
		return fault.New(fault.Corrupt, "layer has %d bytes, its manifest says %d", s.n, l.Size).
			With("fetch the image again; if it stays so, its registry or archive is damaged")
	}
	if s.hash == nil {
		return nil
	}
	if got := digestOf(s.hash); got != l.Digest {
		return fault.New(fault.Corrupt, "layer is %s, not %s", got, l.Digest).
			With("fetch the image again; if it stays so, its registry or archive is damaged or was tampered with")
	}
	return nil
}
