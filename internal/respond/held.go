package respond

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/whole"
)

// Held is one container in quarantine.
type Held struct {
	Freeze bool        `json:"freeze,omitempty"`
	Group  asset.Group `json:"group"`
	By     string      `json:"by"`
	Reason string      `json:"reason,omitempty"`
	At     time.Time   `json:"at"`
	Deed   string      `json:"deed"` // its id
}

// maxHeldFile has room for ten thousand containers.
const maxHeldFile = 8 << 20

// renewEvery is how often containers in quarantine are looked at: one that its
// engine starts anew has a new cgroup, in which nothing is cut.
const renewEvery = time.Second

// askEvery is how often the engine is asked whether a container in quarantine that does
// not run is there still: one that was removed never comes back.
const askEvery = 30 * time.Second

// askWithin bounds such a question: deeds wait meanwhile.
const askWithin = 2 * time.Second

// Run keeps what is quarantined so until ctx ends: containers that start anew, and
// those of before this program started.
func (r *Responder) Run(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	said := map[string]string{}
	for {
		r.Renew(ctx, said)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Renew puts each container that is to be in quarantine there again. said holds
// what was logged of each, so that it is logged once. What somebody else on this
// host released is read anew first.
func (r *Responder) Renew(ctx context.Context, said map[string]string) {
	unlock, err := r.lock()
	defer unlock()
	if err != nil {
		r.o.Log.Error("containers in quarantine not read", "error", err)
		return
	}
	for id, h := range r.held {
		var a response.Answer
		err := r.enforce(ctx, id, h.Freeze, false, &a)
		text := ""
		if err != nil && !fault.Is(err, fault.NotFound) { // one that does not run is looked at again
			text = err.Error()
		} else if err != nil {
			text = r.forgetRemoved(ctx, id, h)
		}
		if text != "" && said[id] != text {
			r.o.Log.Error("a container in quarantine is not held as it should", "container", asset.ShortID(id), "error", text, "remedy", fault.Remedy(err))
		}
		said[id] = text
	}
	maps.DeleteFunc(said, func(id, _ string) bool { _, held := r.held[id]; return !held })
	maps.DeleteFunc(r.asked, func(id string, _ time.Time) bool { _, held := r.held[id]; return !held })
}

// forgetRemoved ends the quarantine of a container that its engine does not know any
// more, and returns why it could not. An engine that is away says nothing.
func (r *Responder) forgetRemoved(ctx context.Context, id string, h Held) (problem string) {
	now := r.o.Clock()
	if last, ok := r.asked[id]; ok && now.Sub(last) < askEvery {
		return ""
	}
	r.asked[id] = now
	asking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if !fault.Is(r.o.Engine.Stop(asking, id, true), fault.NotFound) {
		return ""
	}
	if err := r.o.Network.Restore(id); err != nil { // what was pinned for it
		return err.Error()
	}
	delete(r.held, id)
	if err := writeHeld(r.o.File, r.held); err != nil {
		return err.Error()
	}
	r.o.Log.Info("a container in quarantine was removed, which ends it", "container", asset.ShortID(id), "group", h.Group, "by", h.By, "at", h.At)
	return ""
}

// Quarantined returns what is in quarantine on this host, by container.
func (r *Responder) Quarantined() (map[string]Held, error) {
	unlock, err := r.lock()
	defer unlock()
	return maps.Clone(r.held), err
}

// lock has nobody else do anything, in this process or in another one on this host
// (castellan respond --host), and reads what is in quarantine by now.
func (r *Responder) lock() (unlock func(), err error) {
	r.doing.Lock()
	if r.o.File == "" {
		return r.doing.Unlock, nil
	}
	f, err := os.OpenFile(r.o.File+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return r.doing.Unlock, fmt.Errorf("lock what is in quarantine: %w", err)
	}
	unlock = func() {
		if err := f.Close(); err != nil { // which unlocks it
			r.o.Log.Error("what is in quarantine not unlocked", "error", err)
		}
		r.doing.Unlock()
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return unlock, fmt.Errorf("lock what is in quarantine: %w", err)
	}
	held, err := readHeld(r.o.File)
	if err == nil {
		r.held = held
	}
	return unlock, err
}

// undone marks the quarantine that was the deed of an id as taken back.
func (r *Responder) undone(deed string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.known[deed]
	if !ok {
		return
	}
	life, _ := Step(Life{State: a.State, Kind: response.Quarantine}, Input{What: Undo})
	a.State = life.State
	r.known[deed] = a
}

// HeldIn returns what is in quarantine by a file of Options.File, by container.
func HeldIn(file string) (map[string]Held, error) { return readHeld(file) }

// readHeld reads what is in quarantine. A file that is damaged is an error: a
// container would come free of it.
func readHeld(file string) (map[string]Held, error) {
	held := map[string]Held{}
	if file == "" {
		return held, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return held, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is in quarantine: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxHeldFile))
	if err == nil {
		err = json.Unmarshal(b, &held)
	}
	if err != nil {
		return nil, fault.New(fault.Corrupt, "read what is in quarantine: %w", err).
			With("what is cut or frozen stays so; to begin anew remove " + file)
	}
	maps.DeleteFunc(held, func(id string, _ Held) bool { return !asset.IsContainerID(id) })
	return held, nil
}

func writeHeld(file string, held map[string]Held) error {
	if file == "" {
		return nil
	}
	b, err := json.Marshal(held)
	if err == nil {
		err = whole.Write(file, b)
	}
	if err != nil {
		return fmt.Errorf("write what is in quarantine: %w", err)
	}
	return nil
}
