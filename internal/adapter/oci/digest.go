package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// digestOf returns the digest of b by the algorithm of like, sha256 unless that
// is a sha512 digest.
func digestOf(b []byte, like string) string {
	if strings.HasPrefix(like, "sha512:") {
		return fmt.Sprintf("sha512:%x", sha512.Sum512(b))
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(b))
}

// short is a digest as people tell them apart.
func short(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		return shown(digest)
	}
	return hex[:min(len(hex), 12)]
}

// readVerified reads a document of at most limit bytes from r and returns it if
// it is what d names. The zero Size of d says that the size is not known.
func readVerified(r io.Reader, d descriptor, limit int64, what string) ([]byte, error) {
	b, err := readBounded(r, limit, what)
	if err != nil {
		return nil, err
	}
	if d.Size > 0 && int64(len(b)) != d.Size {
		return nil, corrupt("%s %s: %d bytes came, and %d were announced", what, short(d.Digest), len(b), d.Size)
	}
	if got := digestOf(b, d.Digest); got != d.Digest {
		return nil, corrupt("%s %s: the bytes that came have the digest %s", what, d.Digest, got)
	}
	return b, nil
}

// readBounded reads r to its end, which comes within limit bytes.
func readBounded(r io.Reader, limit int64, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if int64(len(b)) > limit {
		return nil, tooLarge(what, int64(len(b)), limit)
	}
	return b, nil
}

// tooLarge is the error for a document beyond its limit; size is at least that.
func tooLarge(what string, size, limit int64) error {
	return fault.New(fault.Invalid, "%s of %d bytes or more, and at most %d are read", what, size, limit).
		With("no tool makes images with so large documents; look at who made this one")
}

// corrupt is the error for bytes that are not what they were said to be.
func corrupt(format string, args ...any) *fault.Error {
	return fault.New(fault.Corrupt, format, args...).
		With("the image is damaged or was tampered with where it is kept; push or save it anew")
}

// invalid is the error for a document that says what cannot be.
func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...).
		With("the image was made by a tool that is broken, or to mislead; build it anew with a current one")
}

// checkDigest is inventory.CheckDigest with what the digest is of.
func checkDigest(digest, what string) error {
	if err := inventory.CheckDigest(digest); err != nil {
		return invalid("%s: %w", what, err)
	}
	return nil
}
