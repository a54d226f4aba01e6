package respond

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/untrusted"
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
	// Found is of one that was found frozen alone at the start: it is listed and can be
	// released, and nothing is done to keep it so, for who wanted that is not known.
	Found bool `json:"found,omitempty"`
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
	if err := r.Adopt(ctx); err != nil {
		r.o.Log.Error("what is cut off on this host was not looked for: something may be that is not listed", "error", err, "remedy", fault.Remedy(err))
	}
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
	r.question(ctx)
	for id, h := range r.held {
		if h.Found {
			said[id] = r.lookAt(id, h)
			continue
		}
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
	r.problems = maps.Clone(said)
	r.publish()
	maps.DeleteFunc(r.asked, func(id string, _ time.Time) bool {
		_, held := r.held[id]
		return !held && !slices.Contains(r.suspects, id)
	})
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

// Why a container is in quarantine of which nobody wrote that down.
const (
	unknownReason = "found cut off at the agent's start: nobody has written down who did it, and why"
	frozenReason  = "found frozen at the agent's start, not by its engine: nobody has written down who did it, and why"
)

// Adopt takes up what is cut off on this host and not written down, as when the file
// that says so was lost: nothing stays cut with nobody knowing. It is not given back
// by itself, which only a person should say. Before it was called, and has ended,
// Standing has nothing to say.
//
// What is frozen alone is taken up by Renew, once the engine has said that it did not
// pause it.
func (r *Responder) Adopt(ctx context.Context) error {
	unlock, err := r.lock()
	defer unlock()
	defer func() {
		r.adopted = true
		r.publish()
	}()
	if err != nil {
		return err
	}
	if r.suspects, err = r.o.Freezer.AllFrozen(ctx); err != nil {
		r.o.Log.Warn("which containers are frozen on this host is not known", "error", err)
	}
	cut, err := r.o.Network.Cuts()
	if err != nil {
		return err
	}
	found := 0
	for _, id := range cut {
		if _, held := r.held[id]; held || !asset.IsContainerID(id) {
			continue
		}
		h := Held{Reason: unknownReason, At: r.o.Clock().UTC(), Deed: rand.Text()}
		if h.Freeze, err = r.o.Freezer.Frozen(id); err != nil && !fault.Is(err, fault.NotFound) {
			r.o.Log.Warn("whether a container that is cut off is frozen, too, is not known", "container", asset.ShortID(id), "error", err)
		}
		r.held[id] = h
		found++
		r.o.Log.Warn("a container is cut off, and nobody has written down why: it stays so until it is released", "container", asset.ShortID(id),
			"frozen", h.Freeze, "remedy", "castellan respond release "+asset.ShortID(id))
	}
	if found == 0 {
		return nil
	}
	return writeHeld(r.o.File, r.held)
}

// question takes up those that were found frozen at the start and that the engine did not
// pause. An engine that is away is asked again, in a while.
func (r *Responder) question(ctx context.Context) {
	now := r.o.Clock()
	var left []string
	for _, id := range r.suspects {
		if _, held := r.held[id]; held || !asset.IsContainerID(id) {
			continue
		}
		if last, ok := r.asked[id]; ok && now.Sub(last) < askEvery {
			left = append(left, id)
			continue
		}
		r.asked[id] = now
		asking, cancel := context.WithTimeout(ctx, askWithin)
		paused, err := r.o.Engine.Paused(asking, id)
		cancel()
		if err != nil && !fault.Is(err, fault.NotFound) {
			left = append(left, id)
			continue
		}
		// Looked at once more: an engine that lets one go says so only when it has.
		if frozen, err2 := r.o.Freezer.Frozen(id); err != nil || paused || err2 != nil || !frozen {
			continue
		}
		r.held[id] = Held{Freeze: true, Found: true, Reason: frozenReason, At: now.UTC(), Deed: rand.Text()}
		r.o.Log.Warn("a container is frozen, and nobody has written down why: it stays so until it is released", "container", asset.ShortID(id),
			"remedy", "castellan respond release "+asset.ShortID(id))
		if err := writeHeld(r.o.File, r.held); err != nil {
			r.o.Log.Error("what is in quarantine not written", "error", err)
		}
	}
	r.suspects = left
}

// lookAt ends what is listed of a container that was found frozen and is not any more, and
// returns why that is not known.
func (r *Responder) lookAt(id string, h Held) (problem string) {
	frozen, err := r.o.Freezer.Frozen(id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err.Error()
	}
	if frozen {
		return ""
	}
	delete(r.held, id)
	if err := writeHeld(r.o.File, r.held); err != nil {
		return err.Error()
	}
	r.o.Log.Info("a container that was found frozen is not any more", "container", asset.ShortID(id), "found", h.At)
	return ""
}

// Standing returns what is in quarantine on this host, as it was last looked at; nil
// before Adopt, for what is not listed is taken to be over. It does not wait for what
// is being done. The result is not to be changed.
func (r *Responder) Standing() *asset.Quarantine { return r.standing.Load() }

// publish has Standing know what is held by now; doing is held, or nobody else has r
// yet. The time moves on only while something is held or has changed, so that who
// compares has nothing to do else.
func (r *Responder) publish() {
	if !r.adopted {
		return
	}
	now := asset.Quarantine{Looked: r.o.Clock().UTC()}
	ids := slices.SortedFunc(maps.Keys(r.held), func(a, b string) int {
		return cmp.Or(r.held[a].At.Compare(r.held[b].At), strings.Compare(a, b))
	})
	now.More = max(0, len(ids)-asset.MaxHeld)
	for _, id := range ids[now.More:] { // the newest
		h := r.held[id]
		now.Held = append(now.Held, asset.Held{
			WorkloadID: id, Group: h.Group, Freeze: h.Freeze, By: h.By, Reason: h.Reason, At: h.At, Deed: h.Deed, Problem: untrusted.Clip(r.problems[id], response.MaxLine),
		})
	}
	if was := r.standing.Load(); was == nil || len(was.Held) > 0 || len(now.Held) > 0 {
		r.standing.Store(&now)
	}
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
