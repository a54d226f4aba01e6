package key

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/castellan-security/castellan/internal/fault"
)

// ringFile is the index.
type ringFile struct {
	Version int   `json:"version"`
	Keys    []Key `json:"keys"`
}

// read reads the index; a folder without one is an empty ring. The index says which
// keys are lost, so that nobody else may write it, nor put another in its place.
func (r *Ring) read() ([]Key, error) {
	path := filepath.Join(r.dir, indexFile)
	b, err := r.readIndex(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var f ringFile
	if err == nil {
		f, err = parseIndex(b)
	}
	if err != nil {
		return nil, fmt.Errorf("read the ring of keys %s: %w", path, err)
	}
	return f.Keys, nil
}

func (r *Ring) readIndex(path string) ([]byte, error) {
	dir, err := os.Stat(r.dir)
	if err != nil {
		return nil, err
	}
	if err := ours(dir, r.dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fault.New(fault.Denied, "it is a symbolic link").With("put the file itself there: whoever may change the link would choose the keys")
	}
	if err != nil {
		return nil, err
	}
	b, err := func() ([]byte, error) {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxIndex {
			return nil, fmt.Errorf("a file of %d bytes, and at most %d of a regular one are read", info.Size(), maxIndex)
		}
		if err := ours(info, path); err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(f, maxIndex+1))
	}()
	return b, errors.Join(err, f.Close())
}

// ours refuses a file or folder that somebody else may write.
func ours(info fs.FileInfo, path string) error {
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fault.New(fault.Denied, "others may change %s (mode %#o)", path, mode).With("chmod go-w " + path + ", and look at what is in it")
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fault.New(fault.Denied, "%s belongs to another user (%d)", path, s.Uid).With("run castellan as the keys' owner, or have it belong to root")
	}
	return nil
}

// parseIndex reads an index. What a newer program wrote is refused rather than
// lost.
func parseIndex(b []byte) (ringFile, error) {
	var f ringFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, damaged("%w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return f, damaged("something follows the keys")
	}
	if f.Version != 1 || len(f.Keys) > maxKeys {
		return f, damaged("version %d with %d keys", f.Version, len(f.Keys))
	}
	seen, active := map[string]bool{}, map[string]bool{}
	for _, k := range f.Keys {
		if err := checkName(k.Name); err != nil || k.Number < 1 {
			return f, damaged("a key %.80q with the number %d", k.Name, k.Number)
		}
		if k.Format != "" && !slices.Contains(Formats(), k.Format) || len(k.Recipients) > maxRecipients {
			return f, damaged("key %s in the form %.40q for %d recipients", k.ID(), k.Format, len(k.Recipients))
		}
		if seen[k.ID()] || !slices.Contains([]State{Active, Retiring, Retired, Lost}, k.State) {
			return f, damaged("key %s is there twice, or its state %.20q is none", k.ID(), k.State)
		}
		seen[k.ID()] = true
		if k.State == Active && active[k.Name] {
			return f, damaged("several keys %s are active", k.Name)
		}
		active[k.Name] = active[k.Name] || k.State == Active
		// Without its date a key would count for ever in the policies made of it.
		if k.State == Lost && k.Since.IsZero() || (k.State == Retiring || k.State == Retired) && k.Until.IsZero() {
			return f, damaged("key %s is %s and does not say when that was", k.ID(), k.State)
		}
	}
	return f, nil
}

func damaged(format string, args ...any) error {
	return fault.New(fault.Corrupt, format, args...).With("restore it from a copy; the keys themselves are in the files beside it")
}

// write replaces the index: it is the old or the new one, whatever happens.
func (r *Ring) write(b []byte) (err error) {
	f, err := os.CreateTemp(r.dir, ".keyring-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), filepath.Join(r.dir, indexFile)); err != nil {
		return err
	}
	return syncFolder(r.dir)
}
