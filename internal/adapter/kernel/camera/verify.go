package camera

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of an archive that is read, which may be anybody's.
const (
	// maxUnpacked bounds the content of all its files: memory maps and tables compress
	// to a tenth.
	maxUnpacked = 4 << 30
	// maxWrong bounds what is told of one.
	maxWrong = 50
)

// Verified is what an archive turned out to be.
type Verified struct {
	Manifest Manifest `json:"manifest"`
	// Digest is that of the archive, sha256: and 64 hex digits: what the server's list,
	// the audit log and the bucket have of it.
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // bytes
	// Signature is who signed it; nil for nobody. It is there though it may prove
	// nothing, which Wrong says then.
	Signature *Signature `json:"signature,omitempty"`
	// Wrong says where the files are not as the manifest says; none: they all are.
	Wrong []string `json:"wrong,omitempty"`
}

// counted counts and digests what is read.
type counted struct {
	io.Reader
	n int64
}

// Read counts.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

// Verify reads an archive and holds each file against its manifest. It writes nothing
// and keeps no content. An error, Corrupt, says that it is no snapshot; what is only
// another than it was is in the answer. That all fits says that it is whole, and not
// that it is of whom it says: see Signature.Under, or compare its digest with what the
// audit log has.
func Verify(from io.Reader) (*Verified, error) {
	sum := sha256.New()
	raw := &counted{Reader: io.TeeReader(from, sum)}
	out := &Verified{}
	have, err := readFiles(raw, out)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "read snapshot: %w", err).With("is it an archive of castellan respond snapshot, and copied wholly?")
	}
	if _, err := io.Copy(io.Discard, raw); err != nil { // what stands behind the archive counts to its digest
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	out.Size, out.Digest = raw.n, "sha256:"+hex.EncodeToString(sum.Sum(nil))
	out.compare(have)
	return out, nil
}

// readFiles reads all files, the manifest into out.
func readFiles(from io.Reader, out *Verified) (have map[string]File, err error) {
	zip, err := gzip.NewReader(from)
	if err != nil {
		return nil, err
	}
	have = map[string]File{}
	left := int64(maxUnpacked)
	var manifest, signature []byte
	for t := tar.NewReader(zip); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if left -= h.Size; left < 0 || len(have) > maxFiles {
			return nil, fmt.Errorf("it has more than %d bytes or %d files", int64(maxUnpacked), maxFiles)
		}
		if h.Typeflag != tar.TypeReg {
			out.wrong("%q is no file", h.Name)
			continue
		}
		if _, twice := have[h.Name]; twice || manifest != nil && h.Name == manifestName || signature != nil && h.Name == signatureName {
			out.wrong("%q is there twice", h.Name)
		}
		switch h.Name {
		case manifestName:
			if manifest, err = wholeFile(t, manifestRoom); err != nil {
				return nil, fmt.Errorf("read its manifest: %w", err)
			}
			if err := json.Unmarshal(manifest, &out.Manifest); err != nil {
				return nil, fmt.Errorf("read its manifest: %w", err)
			}
			continue
		case signatureName:
			if signature, err = wholeFile(t, signatureRoom); err != nil {
				return nil, fmt.Errorf("read its signature: %w", err)
			}
			continue
		}
		sum := sha256.New()
		n, err := io.Copy(sum, t)
		if err != nil {
			return nil, err
		}
		have[h.Name] = File{Name: h.Name, Size: n, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil))}
	}
	if manifest == nil {
		return nil, errors.New("it has no manifest.json")
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(zip, 1<<20)); err != nil { // up to the checksum behind it
		return nil, err
	}
	if signature != nil {
		if out.Signature, err = readSignature(signature, manifest, &out.Manifest); err != nil {
			out.wrong("its signature proves nothing: %v", err)
		}
	}
	return have, nil
}

// wholeFile reads a file that has a limit; it is never nil.
func wholeFile(from io.Reader, limit int64) ([]byte, error) {
	b, cut, err := readAtMost(from, limit)
	if err == nil && cut {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return b, err
}

// compare holds the files against the manifest.
func (v *Verified) compare(have map[string]File) {
	for _, f := range v.Manifest.Files {
		got, there := have[f.Name]
		delete(have, f.Name)
		switch {
		case !there:
			v.wrong("%q is missing", f.Name)
		case got.Size != f.Size:
			v.wrong("%q has %d bytes, not %d", f.Name, got.Size, f.Size)
		case got.Digest != f.Digest:
			v.wrong("%q has digest %s, not %s", f.Name, got.Digest, f.Digest)
		}
	}
	var more []string
	for name := range have {
		more = append(more, name)
	}
	slices.Sort(more)
	for _, name := range more {
		v.wrong("%q is not in the manifest", name)
	}
}

func (v *Verified) wrong(format string, args ...any) {
	if len(v.Wrong) < maxWrong {
		v.Wrong = append(v.Wrong, fmt.Sprintf(format, args...))
	}
}
