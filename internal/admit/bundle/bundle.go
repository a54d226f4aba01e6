// Package bundle carries an admission policy, and what is known of images, to
// where there is no server to ask: one file, signed, that expires.
//
//	err := bundle.Write(w, bundle.Content{Policy: yaml, Facts: facts}, bundle.Terms{Version: 7, Expires: t}, key, now)
//	b, err := bundle.Read(bytes, bundle.Check{Keys: pinned, Least: 7, Now: now})
//	f, ok := b.Facts("sha256:…")
//
// It is a tar archive of three files: bundle.json, a DSSE envelope around the
// manifest; policy.yaml; and facts.json.gz. The manifest names version, lifetime
// and the digests of the other two, and nothing else of the archive is read before
// its signature holds. An older bundle, which may permit what was found to be wrong
// since, is refused by its lifetime and by the least version that the reader takes.
//
// It knows neither files nor networks, and not what a policy says (see admit).
package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/sealed"
)

// Limits on a bundle. It is held in memory, by functions that have 256 MiB.
const (
	// MaxBytes bounds a bundle: facts of 10,000 images have about 20 MiB.
	MaxBytes = 48 << 20
	// maxEnvelope bounds the signed manifest.
	maxEnvelope = 64 << 10
	// maxPolicy bounds a policy: people write some dozens of KiB.
	maxPolicy = 1 << 20
	// maxFacts bounds facts when they are decompressed, maxImages how many images
	// they are of.
	maxFacts  = 192 << 20
	maxImages = 50_000
	// MaxLifetime bounds for how long a bundle may be good: what is known of images
	// is old long before.
	MaxLifetime = 90 * 24 * time.Hour
	// skew is how far clocks may differ.
	skew = 5 * time.Minute
)

const payloadType = "application/vnd.castellan.admission-bundle.v1+json"

// Names of the files of a bundle, in their order.
const (
	envelopeFile = "bundle.json"
	policyFile   = "policy.yaml"
	factsFile    = "facts.json.gz"
)

// Manifest is what is signed.
type Manifest struct {
	// Version orders the bundles of one policy: a higher one replaces a lower one.
	Version uint64    `json:"version"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Images  int       `json:"images"` // of which there are facts
	Files   []File    `json:"files"`
}

// File is one of a bundle.
type File struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // sha256:HEX
	Size   int64  `json:"size"`
}

// Content is what a bundle carries.
type Content struct {
	Policy []byte
	Facts  []admission.Facts
}

// Terms are how long a bundle is good, and which it replaces.
type Terms struct {
	Version uint64 // 0: the seconds since 1970, so that a later one is higher
	Expires time.Time
}

// Check is what a reader insists on.
type Check struct {
	Keys  []crypto.PublicKey // one of them must have signed it
	Least uint64             // the least version
	Now   time.Time
}

// Bundle is one that holds.
type Bundle struct {
	Manifest Manifest
	Key      string // fingerprint of the key that signed it, sha256:HEX
	Policy   []byte
	facts    map[string]admission.Facts
}

// Facts returns what is known of an image, by its digest.
func (b *Bundle) Facts(digest string) (admission.Facts, bool) {
	f, ok := b.facts[digest]
	return f, ok
}

// Write makes a bundle. What no reader would take is refused now.
func Write(w io.Writer, c Content, t Terms, key crypto.Signer, now time.Time) (Manifest, error) {
	now = now.UTC().Truncate(time.Second)
	m := Manifest{Version: t.Version, Created: now, Expires: t.Expires.UTC().Truncate(time.Second), Images: len(c.Facts)}
	if m.Version == 0 {
		m.Version = uint64(max(now.Unix(), 1))
	}
	switch lifetime := m.Expires.Sub(now); {
	case lifetime <= 0 || lifetime > MaxLifetime:
		return m, fault.New(fault.Invalid, "make bundle: it would be good for %v", lifetime.Round(time.Second)).
			With(fmt.Sprintf("have it expire within %d days", MaxLifetime/(24*time.Hour)))
	case len(c.Policy) == 0 || len(c.Policy) > maxPolicy:
		return m, fault.New(fault.Invalid, "make bundle: the policy has %d bytes", len(c.Policy)).With(fmt.Sprintf("name one of at most %d bytes", maxPolicy))
	case len(c.Facts) > maxImages:
		return m, fault.New(fault.Exhausted, "make bundle: there are facts of %d images", len(c.Facts)).With(fmt.Sprintf("give those of at most %d", maxImages))
	}
	facts, err := packed(c.Facts)
	if err != nil {
		return m, err
	}
	m.Files = []File{fileOf(policyFile, c.Policy), fileOf(factsFile, facts)}
	signed, err := json.Marshal(&m)
	if err != nil {
		return m, fmt.Errorf("write manifest: %w", err)
	}
	envelope, err := sealed.Seal(payloadType, signed, key)
	if err != nil {
		return m, fmt.Errorf("make bundle: %w", err)
	}
	archive := tar.NewWriter(w)
	total := 0
	for _, f := range []struct {
		name string
		b    []byte
	}{{envelopeFile, envelope}, {policyFile, c.Policy}, {factsFile, facts}} {
		total += len(f.b)
		header := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.b)), ModTime: now, Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(header); err != nil {
			return m, fmt.Errorf("write bundle: %w", err)
		}
		if _, err := archive.Write(f.b); err != nil {
			return m, fmt.Errorf("write bundle: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return m, fmt.Errorf("write bundle: %w", err)
	}
	const archiveOwn = 16 << 10 // headers and padding of the archive
	if total+archiveOwn > MaxBytes {
		return m, fault.New(fault.Exhausted, "make bundle: it has %d bytes, and at most %d are read", total, MaxBytes).With("give facts of fewer images")
	}
	return m, nil
}

// packed is facts as a bundle has them.
func packed(facts []admission.Facts) ([]byte, error) {
	if facts == nil {
		facts = []admission.Facts{}
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if err := json.NewEncoder(z).Encode(facts); err != nil {
		return nil, fmt.Errorf("write facts: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("write facts: %w", err)
	}
	return buf.Bytes(), nil
}

func fileOf(name string, b []byte) File {
	sum := sha256.Sum256(b)
	return File{Name: name, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(b))}
}

// Read opens a bundle, and takes nothing of it that is not signed. Its errors are of
// the kind Denied for one that must not be taken, and Corrupt for one that is none.
func Read(b []byte, c Check) (*Bundle, error) {
	if len(b) > MaxBytes {
		return nil, corrupt("it has more than %d bytes", MaxBytes)
	}
	if len(c.Keys) == 0 {
		return nil, fault.New(fault.Invalid, "read bundle: there is no key that it is to be signed by").With("name the public key of whoever makes your bundles")
	}
	archive := tar.NewReader(bytes.NewReader(b))
	envelope, err := next(archive, envelopeFile, maxEnvelope)
	if err != nil {
		return nil, err
	}
	payload, key, err := sealed.Open(payloadType, envelope, c.Keys)
	switch {
	case fault.Is(err, fault.Corrupt):
		return nil, corrupt("%s: %w", envelopeFile, err)
	case err != nil:
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields() // a later form may bind what this reader would not look at
	if err := d.Decode(&m); err != nil {
		return nil, corrupt("its manifest is not read: %w", err)
	}
	if err := c.takes(&m); err != nil {
		return nil, err
	}
	if len(m.Files) != 2 || m.Files[0].Name != policyFile || m.Files[1].Name != factsFile {
		return nil, corrupt("its manifest does not name %s and %s", policyFile, factsFile)
	}
	out := &Bundle{Manifest: m, Key: key}
	if out.Policy, err = file(archive, m.Files[0], maxPolicy); err != nil {
		return nil, err
	}
	facts, err := file(archive, m.Files[1], MaxBytes)
	if err != nil {
		return nil, err
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return nil, corrupt("there is more in it than its manifest names")
	}
	out.facts, err = unpacked(facts, m.Images)
	return out, err
}

// takes refuses what is too old or not good yet.
func (c *Check) takes(m *Manifest) error {
	no := func(remedy, format string, args ...any) error {
		return fault.New(fault.Denied, "read bundle: "+format, args...).With(remedy)
	}
	const anew = "make a new one: castellan admit bundle create"
	switch {
	case m.Version < c.Least || m.Version == 0:
		return no(anew, "its version is %d, and at least %d is taken", m.Version, max(c.Least, 1))
	case !m.Expires.After(m.Created) || m.Expires.Sub(m.Created) > MaxLifetime:
		return no(anew, "it says to be good from %s to %s", m.Created.Format(time.RFC3339), m.Expires.Format(time.RFC3339))
	case !c.Now.Before(m.Expires):
		return no(anew, "it has expired at %s", m.Expires.Format(time.RFC3339))
	case c.Now.Add(skew).Before(m.Created):
		return no("are the clocks right?", "it was made at %s, which is in the future", m.Created.Format(time.RFC3339))
	}
	return nil
}

// next reads the archive's next file, which must be that one.
func next(archive *tar.Reader, name string, limit int64) ([]byte, error) {
	h, err := archive.Next()
	if err != nil {
		return nil, corrupt("it has no %s: %w", name, err)
	}
	if h.Name != name || h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > limit {
		return nil, corrupt("where %s of at most %d bytes should be, there is %.100q of %d", name, limit, h.Name, h.Size)
	}
	b, err := io.ReadAll(io.LimitReader(archive, limit+1))
	if err != nil || int64(len(b)) != h.Size {
		return nil, corrupt("%s breaks off", name)
	}
	return b, nil
}

// file reads what the manifest names.
func file(archive *tar.Reader, f File, limit int64) ([]byte, error) {
	b, err := next(archive, f.Name, limit)
	if err != nil {
		return nil, err
	}
	if got := fileOf(f.Name, b); got != f {
		return nil, fault.New(fault.Denied, "read bundle: %s is not what was signed: %s of %d bytes, and not %s of %d", f.Name, got.Digest, got.Size, f.Digest, f.Size).
			With("take it anew from where it was made")
	}
	return b, nil
}

// unpacked reads facts, by the digest of their image.
func unpacked(b []byte, images int) (map[string]admission.Facts, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, corrupt("its facts are not read: %w", err)
	}
	limited := &io.LimitedReader{R: z, N: maxFacts}
	d := json.NewDecoder(limited)
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, corrupt("its facts are no list")
	}
	all := map[string]admission.Facts{}
	for d.More() {
		var f admission.Facts
		if err := d.Decode(&f); err != nil {
			if limited.N <= 0 {
				return nil, corrupt("its facts have more than %d bytes", maxFacts)
			}
			return nil, corrupt("its facts are not read: %w", err)
		}
		if all[f.Digest] = f; len(all) > maxImages || f.Digest == "" {
			return nil, corrupt("its facts are of more than %d images, or of one without a digest", maxImages)
		}
	}
	if len(all) != images {
		return nil, corrupt("it has facts of %d images, and says that they are %d", len(all), images)
	}
	return all, nil
}

func corrupt(format string, args ...any) error {
	return fault.New(fault.Corrupt, "read bundle: "+format, args...).With("make it with: castellan admit bundle create")
}
