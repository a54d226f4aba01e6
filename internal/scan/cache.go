package scan

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/layer"
)

const (
	// cacheMagic begins every file; a change of form changes it.
	cacheMagic = "castellan layer 1\n"
	// maxCached bounds one file: what the largest images' layers need is a tenth
	// of it.
	maxCached = 256 << 20
	// staleWrite is how old a file must be to be what a killed process left.
	staleWrite = time.Hour
	// touchAfter is how exactly it is known when a file was last used.
	touchAfter = time.Hour
	// sweepShare: the folder is looked through whenever so much of its limit was
	// written since.
	sweepShare = 16
)

// cache keeps what is known of layers, a file a layer, by digest and by the
// version of the analysis. Several processes may share the folder: files appear
// whole or not at all, carry a checksum, and whatever doesn't fit is passed over
// and written anew. A nil cache keeps nothing.
//
// A file is trusted as far as its folder: only the user may write there.
type cache struct {
	folder  string
	limit   int64
	version string
	log     *slog.Logger

	mu      sync.Mutex // guards the rest
	written int64      // since the folder was last looked through
	swept   bool
}

// versionOf tells results of other analyses apart: another version, other
// analysers, another limit on what they may read.
func versionOf(o Options) string {
	h := sha256.New()
	const form = 3 // of what is kept: before, DiffIDs were not held against configurations
	fmt.Fprintf(h, "%d %d %d\n", Analysis, o.Limits.FileBytes, form)
	for _, a := range o.Analysers {
		fmt.Fprintf(h, "%q\n", a.Name())
		if v, ok := a.(interface{ Version() string }); ok {
			fmt.Fprintf(h, "%s\n", v.Version())
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// file is where a layer is kept; "" for a key that is no digest.
func (c *cache) file(key, mark string) string {
	if inventory.CheckDigest(key) != nil {
		return ""
	}
	name := strings.Replace(key, ":", "-", 1)
	if mark != "" {
		name += "-" + mark
	}
	return filepath.Join(c.folder, c.version, name)
}

// load returns what is kept of a layer, or nil.
func (c *cache) load(key, mark string) *layer.Result {
	if c == nil {
		return nil
	}
	name := c.file(key, mark)
	if name == "" {
		return nil
	}
	r := &layer.Result{}
	if !c.read(name, r, func() bool { return key == r.Digest || key == r.DiffID }) {
		return nil
	}
	return r
}

// wholeImage is what is kept of an image whose layers are all known: all that an
// inventory has but when and of what it was made.
type wholeImage struct {
	Chain     string
	Layers    []inventory.Layer // with what was worked out while they were read
	Inventory inventory.Inventory
}

// has says that these are its layers.
func (w *wholeImage) has(layers []inventory.Layer) bool {
	return slices.EqualFunc(w.Layers, layers, func(known, said inventory.Layer) bool { return !contradicts(known.DiffID, said.DiffID) })
}

// chainOf names an image by its layers; "" if one of them has no name yet.
func chainOf(image inventory.Image) string {
	h := sha256.New()
	for _, l := range image.Layers {
		name := nameOf(l)
		if inventory.CheckDigest(name) != nil {
			return ""
		}
		fmt.Fprintln(h, name)
	}
	if len(image.Layers) == 0 {
		return ""
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// imageMark tells images from layers among the files.
const imageMark = "image"

func (c *cache) loadImage(chain string) *wholeImage {
	if c == nil || chain == "" {
		return nil
	}
	w := &wholeImage{}
	if !c.read(c.file(chain, imageMark), w, func() bool { return w.Chain == chain }) {
		return nil
	}
	if w.Inventory.Packages == nil {
		w.Inventory.Packages = []inventory.Package{}
	}
	return w
}

func (c *cache) storeImage(w *wholeImage) {
	if c == nil || w.Chain == "" {
		return
	}
	c.write(c.file(w.Chain, imageMark), w)
}

// read reads a file into v; it is false if there is none or it is not what is
// looked for, which is logged.
func (c *cache) read(name string, v any, right func() bool) bool {
	used, err := readCached(name, v)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil && !right() {
		err = errors.New("of something else")
	}
	if err != nil {
		c.log.Warn("kept file passed over", "file", name, "error", err)
		return false
	}
	if now := time.Now(); now.Sub(used) > touchAfter {
		if err := os.Chtimes(name, now, now); err != nil {
			c.log.Debug("kept file not marked as used", "file", name, "error", err)
		}
	}
	return true
}

func readCached(name string, v any) (used time.Time, err error) {
	f, err := os.Open(name)
	if err != nil {
		return used, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return used, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCached {
		return used, fmt.Errorf("file of %d bytes", info.Size())
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return used, err
	}
	payload, ok := bytes.CutPrefix(b, []byte(cacheMagic))
	if !ok || len(payload) < sha256.Size {
		return used, errors.New("not a kept layer")
	}
	sum := sha256.Sum256(payload[sha256.Size:])
	if !bytes.Equal(sum[:], payload[:sha256.Size]) {
		return used, errors.New("damaged")
	}
	return info.ModTime(), gob.NewDecoder(bytes.NewReader(payload[sha256.Size:])).Decode(v)
}

// store keeps a layer, under a digest that was verified. Failing to is not worth
// failing for.
func (c *cache) store(r *layer.Result, mark string) {
	if c == nil || r.Unsettled {
		return
	}
	name := c.file(keyOf(r), mark)
	if name == "" {
		return
	}
	c.write(name, r)
}

// write writes a file, and sees to the limit.
func (c *cache) write(name string, v any) {
	n, err := writeCached(name, v)
	if err != nil {
		c.log.Warn("not kept", "file", name, "error", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written += n
	if !c.swept || c.written > c.limit/sweepShare {
		c.swept, c.written = true, 0
		if err := c.sweep(); err != nil {
			c.log.Warn("kept files not looked through", "folder", c.folder, "error", err)
		}
	}
}

// writeCached writes a file that appears whole or not at all.
func writeCached(name string, v any) (n int64, err error) {
	b := bytes.NewBufferString(cacheMagic)
	b.Write(make([]byte, sha256.Size))
	if err := gob.NewEncoder(b).Encode(v); err != nil {
		return 0, err
	}
	if b.Len() > maxCached {
		return 0, fmt.Errorf("%d bytes are too many", b.Len())
	}
	head := len(cacheMagic) + sha256.Size
	sum := sha256.Sum256(b.Bytes()[head:])
	copy(b.Bytes()[len(cacheMagic):], sum[:])
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".writing-*")
	if err != nil {
		return 0, err
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(f.Name()))
	}
	return int64(b.Len()), nil
}

// kept is a file of the cache.
type kept struct {
	name string
	size int64
	used time.Time
}

// sweep removes what was longest not used until the folder is within its limit.
// Other processes may do the same at the same time.
func (c *cache) sweep() error {
	var files []kept
	var total int64
	err := filepath.WalkDir(c.folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		if !ours(d.Name()) {
			return nil
		}
		if strings.HasPrefix(d.Name(), ".writing-") && time.Since(info.ModTime()) < staleWrite {
			return nil
		}
		files = append(files, kept{name, info.Size(), info.ModTime()})
		total += info.Size()
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if total <= c.limit && !strings.HasPrefix(filepath.Base(f.name), ".writing-") {
			continue
		}
		if err := os.Remove(f.name); ignoreGone(err) != nil {
			return err
		}
		total -= f.size
	}
	return nil
}

// ours says whether a file is one that a cache writes: nothing else is removed.
func ours(name string) bool {
	return strings.HasPrefix(name, ".writing-") || strings.HasPrefix(name, "sha256-") || strings.HasPrefix(name, "sha512-")
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
