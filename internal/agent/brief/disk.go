package brief

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/whole"
)

// What lies in the folder.
const (
	standingFile = "standing.json"
	factsFolder  = "facts"
	factsEnding  = ".json"
	// maxFile bounds a file that is read back.
	maxFile = 64 << 20
)

// factsOnDisk is a file about one image.
type factsOnDisk struct {
	Image     link.AskedImage `json:"image"`
	Hash      string          `json:"hash"`
	Confirmed time.Time       `json:"confirmed"`
	Used      time.Time       `json:"used"`
	Packed    []byte          `json:"packed"` // as link.PackFacts writes it
}

// readAll takes up what is on disk.
func (k *Keeper) readAll() {
	switch err := k.read(standingFile, &k.standing); {
	case err == nil:
		k.have = true
	case !errors.Is(err, fs.ErrNotExist):
		k.standing = Standing{}
		k.o.Log.Error("the policy that is kept can't be read", "error", err)
	}
	k.readUnsent()
	entries, err := os.ReadDir(filepath.Join(k.o.Dir, factsFolder))
	if err != nil {
		k.o.Log.Error("facts that are kept can't be listed", "error", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), factsEnding) || len(k.images) >= maxImages {
			continue
		}
		if err := k.readFacts(e.Name()); err != nil {
			k.o.Log.Error("facts that are kept can't be read", "file", e.Name(), "error", err)
		}
	}
}

func (k *Keeper) readFacts(name string) error {
	var d factsOnDisk
	if err := k.read(filepath.Join(factsFolder, name), &d); err != nil {
		return err
	}
	if factsName(d.Image) != name {
		return fmt.Errorf("it is about another image")
	}
	f, _, err := link.UnpackFacts(d.Packed)
	if err != nil {
		return err
	}
	k.images[d.Image] = &image{hash: d.Hash, facts: f, confirmed: d.Confirmed, used: d.Used}
	return nil
}

func (k *Keeper) read(name string, into any) error {
	path := filepath.Join(k.o.Dir, name)
	b, err := readBounded(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes", path, info.Size())
	}
	return os.ReadFile(path)
}

// factsName is the file about an image.
func factsName(m link.AskedImage) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", m.Registry, m.Repository, m.Digest, m.ID))
	return hex.EncodeToString(sum[:16]) + factsEnding
}

func (k *Keeper) saveFacts(m link.AskedImage, x *image, packed []byte) error {
	return k.save(filepath.Join(factsFolder, factsName(m)), factsOnDisk{Image: m, Hash: x.hash, Confirmed: x.confirmed, Used: x.used, Packed: packed})
}

// forget removes the files about images.
func (k *Keeper) forget(images []link.AskedImage) {
	for _, m := range images {
		if err := os.Remove(filepath.Join(k.o.Dir, factsFolder, factsName(m))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.o.Log.Error("facts that nobody needs are not removed", "error", err)
		}
	}
}

// save replaces a file as a whole, or leaves it as it was.
func (k *Keeper) save(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	path := filepath.Join(k.o.Dir, name)
	if err := whole.Write(path, b); err != nil {
		return unwritten(path, err)
	}
	return nil
}

func unwritten(path string, err error) error {
	return fault.New(fault.Exhausted, "write %s: %w", path, err).With("free space there, and let the agent write its data folder")
}
