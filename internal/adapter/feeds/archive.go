package feeds

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/adapter/feeds/xz"
)

// xzMagic is what files in the format of xz begin with.
const xzMagic = "\xfd7zXZ\x00"

const (
	// batchFiles and batchBytes are how much one goroutine reads at a time:
	// enough that handing over costs nothing, little enough that nothing piles up.
	batchFiles = 64
	batchBytes = 1 << 20
)

// list returns the files below dir, sorted, without those that begin with a dot
// or are not yet complete.
func list(ctx context.Context, fsys fs.FS, dir string) ([]string, error) {
	var names []string
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case p != dir && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || strings.HasSuffix(p, partSuffix):
			return nil
		case len(names) == maxFiles:
			return tooMany("files", maxFiles)
		}
		names = append(names, p)
		return nil
	})
	return names, err
}

// isArchive reports whether name is an archive of documents.
func isArchive(name string) bool {
	return strings.HasSuffix(name, ".zip") || strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.gz") ||
		strings.HasSuffix(name, ".tgz") || strings.HasSuffix(name, ".tar.zst") || strings.HasSuffix(name, ".tar.xz")
}

// loose makes batches of documents that are files of their own.
func (rd *reading) loose(names []string) func(yield func([]entry) bool) {
	return func(yield func([]entry) bool) {
		b := batch{yield: yield}
		for _, name := range names {
			if !b.add(entry{name, func(buf []byte, limit int64) ([]byte, error) {
				f, err := rd.fsys.Open(name)
				if err != nil {
					return nil, err
				}
				defer func() { _ = f.Close() }() // read only
				return readAll(f, limit, buf)
			}}, 0) {
				return
			}
		}
		b.flush()
	}
}

// archive reads the documents in an archive.
func (rd *reading) archive(name string) {
	f, err := rd.fsys.Open(name)
	if err != nil {
		rd.broken(name, err)
		return
	}
	defer func() { _ = f.Close() }() // read only
	before := rd.archived.Load()
	if strings.HasSuffix(name, ".zip") {
		err = rd.zip(name, f)
	} else {
		err = rd.tar(name, f)
	}
	if err == nil && rd.archived.Load() == before {
		err = errors.New("there is no document in it")
	}
	if err != nil && !rd.stopped {
		rd.broken(name, err)
	}
}

// wanted reports whether a document in an archive is to be read.
func (rd *reading) wanted(name string) bool {
	if !rd.source.isDocument(name) {
		return false
	}
	rd.archived.Add(1)
	if n := documentName(name); rd.newer[n] || rd.deleted[n] {
		rd.superseded.Add(1)
		return false
	}
	return true
}

// zip reads a zip.
func (rd *reading) zip(name string, f fs.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at, size, err := randomAccess(f, info.Size())
	if err != nil {
		return err
	}
	z, err := openZip(at, size)
	if err != nil {
		return err
	}
	var failed error
	rd.batches(name, func(yield func([]entry) bool) {
		b := batch{yield: yield}
		failed = z.files(func(f zipped) bool {
			return !rd.wanted(f.name) || b.add(entry{f.name, func(buf []byte, limit int64) ([]byte, error) { return z.read(f, buf, limit) }}, int64(f.length))
		})
		b.flush()
	})
	return failed
}

// batch collects entries until one goroutine has enough to read.
type batch struct {
	yield   func([]entry) bool
	entries []entry
	size    int64
	stopped bool
}

// add adds an entry and reports whether more are wanted.
func (b *batch) add(e entry, size int64) bool {
	b.entries = append(b.entries, e)
	b.size += size
	if len(b.entries) == batchFiles || b.size >= batchBytes {
		b.flush()
	}
	return !b.stopped
}

func (b *batch) flush() {
	if len(b.entries) > 0 && !b.stopped {
		b.stopped = !b.yield(b.entries)
	}
	b.entries, b.size = nil, 0
}

// tar reads a tar, plain or compressed, of which each document is in memory while
// it is read.
func (rd *reading) tar(name string, f io.Reader) error {
	limit := int64(maxUnpacked)
	if rd.source.Format == CSAF {
		limit = maxCSAFUnpacked
	}
	plain, done, err := decompress(f)
	if err != nil {
		return err
	}
	defer done()
	tr := tar.NewReader(&bounded{r: plain, left: limit})
	var failed error
	rd.batches(name, func(yield func([]entry) bool) {
		b := batch{yield: yield}
		for {
			e, n, err := rd.nextInTar(tr)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					failed = err
				}
				break
			}
			if e.name != "" && !b.add(e, int64(n)) {
				return
			}
		}
		b.flush()
	})
	return failed
}

// nextInTar reads the next document; its name is empty if it is none that is
// wanted.
func (rd *reading) nextInTar(tr *tar.Reader) (entry, int, error) {
	h, err := tr.Next()
	if err != nil || h.Typeflag != tar.TypeReg || !rd.wanted(h.Name) {
		return entry{}, 0, err
	}
	max := rd.source.documentLimit()
	if h.Size > max {
		return entry{h.Name, func([]byte, int64) ([]byte, error) { return nil, tooLarge(max) }}, 0, nil
	}
	data, err := readAll(tr, max, nil)
	if err != nil {
		return entry{}, 0, fmt.Errorf("%s: %w", h.Name, err)
	}
	return entry{h.Name, func([]byte, int64) ([]byte, error) { return data, nil }}, len(data), nil
}

// decompress returns what r holds, by its first bytes: gzip, zstd, xz or none of
// them. The caller calls done.
func decompress(r io.Reader) (plain io.Reader, done func(), err error) {
	var head [6]byte
	n, err := io.ReadFull(r, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	r = io.MultiReader(bytes.NewReader(head[:n]), r)
	switch {
	case bytes.HasPrefix(head[:n], []byte{0x1f, 0x8b}):
		gz, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		return gz, func() { _ = gz.Close() }, nil
	case bytes.HasPrefix(head[:n], []byte(xzMagic)):
		x, err := xz.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		return x, func() {}, nil
	case bytes.HasPrefix(head[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		zd, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(maxZstdWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, nil, err
		}
		return zd, zd.Close, nil
	}
	return r, func() {}, nil
}

// bounded fails after left bytes.
type bounded struct {
	r    io.Reader
	left int64
}

// Read reads at most what is left.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("unpacks to more than any publisher's archive")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
