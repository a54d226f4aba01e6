package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

// releasedFile says that nothing is to be held on this host. It is made by hand of
// a person on the host (castellan watch release), who may have no server and no
// agent that answers.
const releasedFile = "released.json"

// Released says who let go of a host.
type Released struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"` // the host's user
	Reason string    `json:"reason,omitempty"`
}

func (r *Released) words() string {
	s := fmt.Sprintf("the host was released by %s at %s", r.By, r.At.UTC().Format(time.RFC3339))
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	return clip(s)
}

// Release notes in the agent's folder of rules that nothing is to be held on this
// host until Undo; an agent that runs lets go within a second or two, and one that
// starts holds nothing.
func Release(dir string, r Released) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of rules: %w", err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write who released the host: %w", err)
	}
	return replace(filepath.Join(dir, releasedFile), b)
}

// Undo takes back Release, and reports whether there was one.
func Undo(dir string) (bool, error) {
	err := os.Remove(filepath.Join(dir, releasedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take back the release: %w", err)
	}
	return true, nil
}

// look reads whether the host is released; k.mu is held. A file that can't be read
// releases it too: somebody made it, and wanted that.
func (k *Keeper) look() {
	b, err := readFile(filepath.Join(k.o.Dir, releasedFile))
	if errors.Is(err, fs.ErrNotExist) {
		k.released = nil
		return
	}
	r := &Released{}
	if err != nil || json.Unmarshal(b, r) != nil {
		r = &Released{By: "somebody"}
	}
	k.released = r
}

// lookAgain follows releases until ctx ends, and looks whether what is in force still is:
// who released the host and took it back while this program was stopped has removed it.
func (k *Keeper) lookAgain(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k.mu.Lock()
		was := k.released != nil
		k.look()
		switch now := k.released != nil; {
		case now && !was:
			k.o.Log.Warn("nothing is held on this host any more", "why", k.released.words())
			k.letGo()
		case was && !now:
			k.o.Log.Info("this host is held again")
			k.enforceAll()
			k.tie()
		case !now:
			k.restore()
		}
		if was != (k.released != nil) {
			k.wake.Ring() // so that people see it
		}
		k.mu.Unlock()
	}
}

// restore puts in force what somebody else removed; k.mu is held.
func (k *Keeper) restore() {
	lost := false
	for _, kernel := range k.o.Kernels {
		lost = kernel.Lost() || lost
	}
	if lost {
		k.o.Log.Warn("what holds containers was removed by somebody, and is put in force again")
		k.enforceAll()
		k.tie()
	}
}

// letGo lets go of all groups in the kernel, and keeps their rules; k.mu is held.
func (k *Keeper) letGo() {
	for _, kernel := range k.o.Kernels {
		if err := kernel.LetGo(); err != nil {
			k.o.Log.Error("not all groups are let go", "error", err)
		}
	}
	k.settle()
	for _, g := range k.groups {
		g.inForce, g.since = "", time.Time{}
	}
}

// Groups returns the groups that are held by the rules that are kept in a folder, with
// their modes, for whoever releases a host without its agent. Those that are only learned
// from are held to nothing.
func Groups(dir string) (map[asset.Group]profile.Mode, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	groups := map[asset.Group]profile.Mode{}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != rulesEnding {
			continue
		}
		r, err := readKept(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if r.Mode != profile.Discover {
			groups[r.Group] = r.Mode
		}
	}
	return groups, nil
}
