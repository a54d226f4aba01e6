package vulndb

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
)

// What an exported database is called in a registry: the artifact, and the file in
// it.
const (
	ArtifactType = "application/vnd.castellan.advisories.v1"
	MediaType    = ArtifactType + "+zstd"
)

// maxFile bounds what an import unpacks to. The whole of OSV is far below a
// gigabyte.
const maxFile = 8 << 30

// maxImportWindow is what an import may need to go back while it unpacks.
const maxImportWindow = 32 << 20

// Export writes the database as one compressed file, and returns the digest of
// what it wrote ("sha256:…") and its size. The same database makes the same bytes.
func (db *DB) Export(ctx context.Context, w io.Writer) (digest string, size int64, err error) {
	sum := sha256.New()
	count := &counter{w: io.MultiWriter(w, sum)}
	z, err := zstd.NewWriter(count, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return "", 0, fmt.Errorf("export advisory database: %w", err)
	}
	for part := db.data; len(part) > 0; {
		if err := ctx.Err(); err != nil {
			return "", 0, errors.Join(err, z.Close())
		}
		n := min(len(part), 1<<20)
		if _, err := z.Write(part[:n]); err != nil {
			return "", 0, errors.Join(fmt.Errorf("export advisory database: %w", err), z.Close())
		}
		part = part[n:]
	}
	if err := z.Close(); err != nil {
		return "", 0, fmt.Errorf("export advisory database: %w", err)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), count.n, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Import puts an exported database where path is. If digest is not empty, what is
// read must have it; the database itself is verified in any case. What was there
// stays unless all is well.
func Import(ctx context.Context, r io.Reader, digest, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("import advisory database: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("import advisory database: %w", err), f.Close(), os.Remove(f.Name()))
		}
	}()
	sum := sha256.New()
	if err := unpack(ctx, io.TeeReader(r, sum), f); err != nil {
		return err
	}
	// What is behind the end of the compressed stream belongs to the digest too.
	if _, err := io.Copy(sum, r); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); digest != "" && got != digest {
		return fault.New(fault.Corrupt, "its digest is %s, want %s", got, digest).With("fetch it again")
	}
	db, err := Open(f.Name())
	if err != nil {
		return err
	}
	if err := errors.Join(db.Verify(ctx), db.Close()); err != nil {
		return err
	}
	return replaceBy(f, path)
}

// unpack decompresses into f. A database that is not compressed is copied.
func unpack(ctx context.Context, r io.Reader, f *os.File) error {
	head := bufio.NewReaderSize(r, 64<<10)
	var from io.Reader = head
	if b, err := head.Peek(len(magic)); err != nil || string(b) != magic {
		z, err := zstd.NewReader(head, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxImportWindow),
			zstd.WithDecoderMaxMemory(maxFile))
		if err != nil {
			return err
		}
		defer z.Close()
		from = z
	}
	n, err := io.Copy(f, io.LimitReader(withContext{ctx, from}, maxFile+1))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fault.New(fault.Invalid, "read it: %w", err)
	}
	if n > maxFile {
		return fault.New(fault.Exhausted, "it unpacks to more than %d bytes", int64(maxFile))
	}
	return nil
}

// withContext ends reading when the context does.
type withContext struct {
	ctx context.Context
	r   io.Reader
}

func (c withContext) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
