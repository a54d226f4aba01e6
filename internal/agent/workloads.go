package agent

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

const (
	// strangerAfter is how long the engine may take to tell of a container that
	// the kernel saw. After that the container is reported as the kernel knows
	// it: another engine's, or one made while the engine was away.
	strangerAfter = 2 * time.Second
	// maxStrangers bounds how many such containers are remembered, and how many that
	// were made and not told of in full.
	maxStrangers = 4096
	// maxEnded bounds how many ended workloads are remembered, so that an event
	// of theirs that comes late does not make strangers of them.
	maxEnded = 4096
)

// workloads is what the agent knows of the containers on its host, and which
// of it the server has not acknowledged.
type workloads struct {
	agentID   string
	addresser Addresser // nil: the engine alone tells addresses

	mu        sync.Mutex
	engine    asset.Engine
	heard     bool // the engine has said something, if only that it is away
	known     map[string]asset.Workload
	ended     []string          // ids in known that no longer run, oldest first
	dirty     map[string]uint64 // id → mark of its last change
	mark      uint64            // grows with every change
	complete  bool              // known holds everything the engine knows, and the server has not been told so
	strangers map[string]time.Time
	// made are those of which the engine has said that they were made, and no more yet:
	// it is busy starting them. Their name and labels are known.
	made map[string]asset.Workload
	// own are those whose addresses come out of their network namespace.
	own map[string]struct{}
}

func newWorkloads(agentID string) *workloads {
	return &workloads{
		agentID:   agentID,
		known:     map[string]asset.Workload{},
		dirty:     map[string]uint64{},
		strangers: map[string]time.Time{},
		made:      map[string]asset.Workload{},
		own:       map[string]struct{}{},
	}
}

// put takes what the engine says and reports whether the engine came or went.
func (w *workloads) put(inv asset.Inventory) (changed bool) {
	list, own := w.addressed(inv.Workloads)
	w.mu.Lock()
	defer w.mu.Unlock()
	changed = !w.heard || w.engine.Connected != inv.Engine.Connected
	w.heard, w.engine = true, inv.Engine
	for i, wl := range list {
		delete(w.own, wl.ID)
		if own[i] {
			w.own[wl.ID] = struct{}{}
		}
		wl.AgentID = w.agentID
		wl.Group = asset.GroupOf(wl)
		w.keep(wl)
		delete(w.strangers, wl.ID)
		delete(w.made, wl.ID)
	}
	for _, id := range inv.Removed {
		delete(w.made, id)
	}
	if inv.Complete {
		w.endUnseen(list)
		w.complete = true
	}
	return changed
}

// addressed returns the workloads with the addresses that the engine does not
// know, and which those are: those of an interface that was moved into an awsvpc
// task. A container that has ended meanwhile keeps none.
func (w *workloads) addressed(list []asset.Workload) (all []asset.Workload, own []bool) {
	all, own = slices.Clone(list), make([]bool, len(list))
	if w.addresser == nil {
		return all, own
	}
	for i := range all {
		s := &all[i].Settings
		if all[i].PID == 0 || len(s.Addresses) > 0 || s.NetworkMode == "host" {
			continue // in the host's namespace the addresses are the host's
		}
		own[i] = true
		if found, err := w.addresser.Addresses(all[i].PID); err == nil {
			s.Addresses = found
		}
	}
	return all, own
}

// readdress reads the addresses that the engine does not know anew, and reports
// whether any changed: the interface of a task comes after its container.
func (w *workloads) readdress() (changed bool) {
	for id, pid := range w.withOwnAddresses() {
		found, err := w.addresser.Addresses(pid)
		if err != nil {
			continue // it has ended, and the engine will tell
		}
		w.mu.Lock()
		if wl := w.known[id]; wl.PID == pid && !slices.Equal(wl.Settings.Addresses, found) {
			wl.Settings.Addresses = found
			w.known[id] = wl
			w.touch(id)
			changed = true
		}
		w.mu.Unlock()
	}
	return changed
}

// withOwnAddresses returns those that run and whose addresses the engine does
// not know, with their processes. Those that end are forgotten here.
func (w *workloads) withOwnAddresses() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for id := range w.own {
		wl, known := w.known[id]
		if !known || over(wl.State) || wl.PID == 0 {
			delete(w.own, id)
			continue
		}
		out[id] = wl.PID
	}
	return out
}

func (w *workloads) keep(wl asset.Workload) {
	old, was := w.known[wl.ID]
	if was && wl.Partial && !old.Partial {
		// The engine forgot a container that it had told of in full: only how it
		// ended is news.
		old.State, old.Finished, old.ExitCode, old.OOMKilled, old.Updated = wl.State, wl.Finished, wl.ExitCode, wl.OOMKilled, wl.Updated
		old.PID = 0
		wl = old
	}
	w.known[wl.ID] = wl
	w.touch(wl.ID)
	if !over(wl.State) {
		if was && over(old.State) { // started again
			w.ended = slices.DeleteFunc(w.ended, func(id string) bool { return id == wl.ID })
		}
		return
	}
	if !was || !over(old.State) {
		w.ended = append(w.ended, wl.ID)
	}
	for len(w.ended) > maxEnded {
		if id := w.ended[0]; w.dirty[id] == 0 {
			delete(w.known, id)
		}
		w.ended = w.ended[1:]
	}
}

func (w *workloads) touch(id string) {
	w.mark++
	w.dirty[id] = w.mark
}

// endUnseen marks as lost what was alive and is not in a complete list.
func (w *workloads) endUnseen(all []asset.Workload) {
	present := make(map[string]bool, len(all))
	for _, wl := range all {
		present[wl.ID] = true
	}
	now := time.Now().UTC()
	for id, wl := range w.known {
		if present[id] || over(wl.State) || wl.Partial {
			continue
		}
		wl.State, wl.PID, wl.Updated = asset.Lost, 0, now
		w.keep(wl)
	}
}

func over(s asset.State) bool { return s == asset.Exited || s == asset.Lost }

// sensed remembers that the kernel saw something in container id.
func (w *workloads) sensed(id string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.known[id]; ok {
		return
	}
	if _, ok := w.strangers[id]; !ok && len(w.strangers) < maxStrangers {
		w.strangers[id] = at
	}
}

// placed reports whether a container is known, or the engine is away and will not tell.
func (w *workloads) placed(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, known := w.known[id]
	return known || w.heard && !w.engine.Connected
}

// announced remembers a container that was made, until the engine tells of it in full.
func (w *workloads) announced(wl asset.Workload) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, told := w.known[wl.ID]; told {
		return
	}
	if _, there := w.made[wl.ID]; !there && len(w.made) >= maxStrangers {
		for other := range w.made {
			delete(w.made, other)
			break
		}
	}
	w.made[wl.ID] = wl
}

// adopt turns containers that only the kernel knows into partial workloads.
func (w *workloads) adopt(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, first := range w.strangers {
		if now.Sub(first) < strangerAfter {
			continue
		}
		delete(w.strangers, id)
		wl, made := w.made[id]
		if !made {
			wl = asset.Workload{ID: id, Created: first.UTC()}
		}
		wl.AgentID, wl.State, wl.Partial, wl.Updated = w.agentID, asset.Running, true, now.UTC()
		wl.Group = asset.GroupOf(wl)
		w.keep(wl)
	}
}

// news is what of the workloads a report carries.
type news struct {
	workloads []asset.Workload
	marks     map[string]uint64 // the mark each had when it was taken
	complete  bool              // every live workload is in it
}

// pending returns up to n workloads that the server has not acknowledged. When
// the engine gave a complete list and every live workload fits, all of those
// are in it; when they don't fit, the server is never told that the list is
// complete, so it takes nothing for lost.
func (w *workloads) pending(n int) news {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := news{marks: map[string]uint64{}}
	take := func(id string) {
		if _, ok := out.marks[id]; ok || len(out.workloads) == n {
			return
		}
		out.marks[id] = w.dirty[id]
		out.workloads = append(out.workloads, w.known[id])
	}
	if w.complete {
		live := make([]string, 0, len(w.known))
		for id, wl := range w.known {
			if !over(wl.State) {
				live = append(live, id)
			}
		}
		if out.complete = len(live) <= n; out.complete {
			for _, id := range live {
				take(id)
			}
		}
	}
	for id := range w.dirty {
		take(id)
	}
	slices.SortFunc(out.workloads, func(a, b asset.Workload) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// acknowledged forgets that these were news, unless they changed meanwhile.
func (w *workloads) acknowledged(n news) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, mark := range n.marks {
		if w.dirty[id] == mark {
			delete(w.dirty, id)
		}
	}
	if n.complete {
		w.complete = false
	}
}

// all makes everything news again: the server knows nothing.
func (w *workloads) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.known {
		w.touch(id)
	}
	w.complete = w.engine.Connected
}

// strangersWithout ends the partial workloads in which nothing runs any more:
// no engine will tell of their end. alive returns the workloads with processes.
func (w *workloads) strangersWithout(alive func() map[string]bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var living map[string]bool
	for id, wl := range w.known {
		if !wl.Partial || over(wl.State) || now.Sub(wl.Created) < strangerAfter {
			continue
		}
		if living == nil {
			living = alive()
		}
		if !living[id] {
			at := now.UTC()
			wl.State, wl.Finished, wl.Updated = asset.Exited, &at, at
			w.keep(wl)
		}
	}
}

func (w *workloads) currentEngine() asset.Engine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.engine
}

// get returns what is known of a workload; the zero one if nothing is.
func (w *workloads) get(id string) asset.Workload {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[id]
}

// group returns the group of a workload, and whether it is known.
func (w *workloads) group(id string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wl, known := w.known[id]
	if !known {
		return "", false
	}
	return string(asset.GroupOf(wl)), true
}
