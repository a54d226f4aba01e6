package camera

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/castellan-security/castellan/internal/response"
)

const (
	partSuffix   = ".part"
	manifestName = "manifest.json"
	// manifestRoom is left for the manifest.
	manifestRoom = 8 << 20
	// maxFiles bounds the files of an archive.
	maxFiles = 20_000
)

// archive is a tar.gz that is being written.
type archive struct {
	name  string
	file  *os.File
	sum   hash.Hash
	size  int64 // bytes that were written to the file
	zip   *gzip.Writer
	tar   *tar.Writer
	files []File
}

// create begins an archive. Nobody sees it under its name until it is finished.
func create(name string) (*archive, error) {
	f, err := os.OpenFile(name+partSuffix, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make snapshot: %w", err)
	}
	a := &archive{name: name, file: f, sum: sha256.New()}
	a.zip = gzip.NewWriter(a)
	a.tar = tar.NewWriter(a.zip)
	return a, nil
}

// Write is below the compression: it counts.
func (a *archive) Write(b []byte) (int, error) {
	n, err := a.file.Write(b)
	a.sum.Write(b[:n])
	a.size += int64(n)
	return n, err
}

var errFull = errors.New("the archive is full")

// put adds a file as a whole, or nothing of it.
func (a *archive) put(name string, b []byte, cut bool) error {
	if a.size+int64(len(b)) > MaxArchive-manifestRoom || len(a.files) >= maxFiles {
		return errFull
	}
	return a.add(name, b, cut)
}

func (a *archive) add(name string, b []byte, cut bool) error {
	err := a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b)), ModTime: time.Now().UTC().Truncate(time.Second), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = a.tar.Write(b)
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	a.files = append(a.files, File{Name: name, Size: int64(len(b)), Digest: "sha256:" + hex.EncodeToString(sum[:]), Cut: cut})
	return nil
}

// finish writes the manifest, signed if somebody can, and gives the archive its name.
func (a *archive) finish(m Manifest, as Identity) (response.Kept, error) {
	m.Files = a.files
	b, err := json.MarshalIndent(m, "", " ")
	if err == nil {
		err = a.add(manifestName, b, false)
	}
	if err == nil && as != nil {
		var s []byte
		if s, err = signManifest(b, as); err == nil {
			err = a.add(signatureName, s, false)
		}
	}
	err = errors.Join(err, a.tar.Close(), a.zip.Close(), a.file.Sync(), a.file.Close())
	if err == nil {
		err = os.Rename(a.name+partSuffix, a.name)
	}
	if err != nil {
		return response.Kept{}, errors.Join(err, ignoreAbsent(os.Remove(a.name+partSuffix)))
	}
	return response.Kept{File: a.name, Size: a.size, Digest: "sha256:" + hex.EncodeToString(a.sum.Sum(nil))}, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// readAtMost reads a file up to a limit, and reports whether there was more.
func readAtMost(r io.Reader, limit int64) (b []byte, cut bool, err error) {
	b, err = io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(b)) > limit {
		return b[:limit], true, err
	}
	return b, false, err
}
