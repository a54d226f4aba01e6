package hold

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/whole"
)

const (
	rulesEnding = ".rules"
	// formerEnding is added to a file whose rules are not the newest, which the disk did
	// not take.
	formerEnding = ".former"
	// maxFile bounds a file that is read back: the rules of one group, packed, in
	// base 64.
	maxFile = 2 * link.MaxBriefRules
)

// kept are the rules of a group as they came, on disk in a file of their own.
type kept link.BriefRules

// onDisk is what the file says; kept leaves out the packed rules.
type onDisk struct {
	Group  asset.Group  `json:"group"`
	Stamp  string       `json:"stamp"`
	Mode   profile.Mode `json:"mode,omitempty"`
	Packed []byte       `json:"packed"`
}

// fileOf names the file of a group; a group's name may be anything.
func fileOf(name asset.Group) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16]) + rulesEnding
}

// readAll takes up what is on disk; k.mu is held.
func (k *Keeper) readAll() {
	entries, err := os.ReadDir(k.o.Dir)
	if err != nil {
		k.o.Log.Error("rules that are kept can't be listed", "error", err)
	}
	for _, e := range entries {
		name, former := strings.CutSuffix(e.Name(), formerEnding)
		if filepath.Ext(name) != rulesEnding || len(k.groups) >= link.MaxHeldGroups {
			continue
		}
		r, err := readKept(filepath.Join(k.o.Dir, e.Name()))
		if err == nil && fileOf(r.Group) != name {
			err = errors.New("it is of another group")
		}
		var rules profile.Rules
		if err == nil {
			rules, err = link.UnpackRules(link.BriefRules(r))
		}
		if err != nil {
			k.o.Log.Error("rules that are kept can't be read", "file", e.Name(), "error", err)
			continue
		}
		if former && k.groups[r.Group] != nil {
			continue // whoever wrote the newest was killed before it removed these
		}
		k.groups[r.Group] = &group{kept: r, rules: rules, former: former}
	}
}

func readKept(file string) (kept, error) {
	b, err := readFile(file)
	if err != nil {
		return kept{}, fmt.Errorf("read rules: %w", err)
	}
	var d onDisk
	if err := json.Unmarshal(b, &d); err != nil {
		return kept{}, fmt.Errorf("read rules: %w", err)
	}
	return kept(d), nil
}

// save writes the rules of a group down.
func (k *Keeper) save(r kept) error {
	b, err := json.Marshal(onDisk(r))
	if err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	file := filepath.Join(k.o.Dir, fileOf(r.Group))
	if err := replace(file, b); err != nil {
		// A disk that is full takes another name all the same.
		if err := os.Rename(file, file+formerEnding); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.o.Log.Error("rules of before are not marked as such", "group", r.Group, "error", err)
		}
		return err
	}
	return remove(file + formerEnding)
}

// forget removes the rules of a group from disk.
func (k *Keeper) forget(name asset.Group) error {
	file := filepath.Join(k.o.Dir, fileOf(name))
	return errors.Join(remove(file), remove(file+formerEnding))
}

// remove removes a file, if there is one.
func remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove rules: %w", err)
	}
	return nil
}

func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", filepath.Base(file), maxFile)
	}
	return b, err
}

// replace writes a file as a whole: after a power failure there is the former one
// or the new one.
func replace(file string, b []byte) error {
	if err := whole.Write(file, b); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(file), err)
	}
	return nil
}
