package hold

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

// maxOver bounds the containers that have ended and stay tied.
const maxOver = 1_000

// container is one that the engine knows.
type container struct {
	group asset.Group
	over  bool // it has ended
	seen  time.Time
	// starting says that it was tied because it is about to start, and that the engine
	// has not told of it since.
	starting bool
}

// Seen says what the engine knows of containers: all of them, or those that changed.
// Each is tied to its group: one that is only made too, so that it is held before it
// runs anything, and one that has ended, since it may be started again, until the
// engine has removed it.
func (k *Keeper) Seen(inv asset.Inventory) {
	list := inv.Workloads
	k.mu.Lock()
	defer k.mu.Unlock()
	if inv.Complete {
		k.untieOthers(inv)
	}
	for i := range list {
		w := &list[i]
		if !asset.IsContainerID(w.ID) {
			continue
		}
		over := w.State == asset.Exited || w.State == asset.Lost
		k.containers[w.ID] = container{group: asset.GroupOf(*w), over: over, seen: k.o.Clock()}
	}
	for _, id := range inv.Removed {
		k.untie(id)
	}
	k.dropOver()
	k.tie()
	if inv.Complete && k.released == nil {
		k.settle()
	}
}

// untieOthers lets go of containers that the engine does not know: those that it knew,
// and those that the kernel holds since before this program, which were removed while
// nobody looked. One that was tied after the engine was asked may have been made since:
// it is about to start; k.mu is held.
func (k *Keeper) untieOthers(inv asset.Inventory) {
	there := map[string]bool{}
	for i := range inv.Workloads {
		there[inv.Workloads[i].ID] = true
	}
	others := maps.Clone(k.containers)
	for _, kernel := range k.o.Kernels {
		held, err := kernel.Containers()
		if err != nil {
			k.o.Log.Error("containers that the kernel holds are not listed", "error", err)
		}
		for id := range held {
			others[id] = k.containers[id]
		}
	}
	for id, c := range others {
		if !there[id] && !(c.starting && c.seen.After(inv.Asked)) {
			k.untie(id)
		}
	}
}

// dropOver lets go of those that ended first, where there are too many; k.mu is
// held.
func (k *Keeper) dropOver() {
	var over []string
	for id, c := range k.containers {
		if c.over {
			over = append(over, id)
		}
	}
	if len(over) <= maxOver {
		return
	}
	slices.SortFunc(over, func(a, b string) int {
		return cmp.Or(k.containers[a].seen.Compare(k.containers[b].seen), cmp.Compare(a, b))
	})
	for _, id := range over[:len(over)-maxOver] {
		k.untie(id)
	}
}

// untie lets go of a container; k.mu is held.
func (k *Keeper) untie(id string) {
	delete(k.containers, id)
	for _, kernel := range k.o.Kernels {
		if err := kernel.Forget(id); err != nil {
			k.o.Log.Error("a container is not let go", "container", asset.ShortID(id), "error", err)
		}
	}
}

// tie makes the kernel hold every container whose group has rules, and the learner
// note the calls of the others' containers that are learned from; k.mu is held.
func (k *Keeper) tie() {
	if k.released == nil {
		for _, kernel := range k.o.Kernels {
			k.tieIn(kernel)
		}
	}
	k.learn()
}

// tieIn brings one door's containers to what they are to be; k.mu is held.
func (k *Keeper) tieIn(kernel Kernel) {
	held, err := kernel.Containers()
	if err != nil {
		k.o.Log.Error("containers that the kernel holds are not listed", "error", err)
		held = nil
	}
	missing := map[string]asset.Group{}
	for id, c := range k.containers {
		if k.groups[c.group] != nil && held[id] != c.group {
			missing[id] = c.group
		}
	}
	if len(missing) == 0 {
		return
	}
	if err := kernel.HoldAll(missing); err != nil {
		k.o.Log.Error("not all containers are held", "error", err)
	}
}

// learn chooses the containers whose system calls are noted: those of groups that
// discover, a few of each, so that one large group does not take all places. k.mu
// is held.
func (k *Keeper) learn() {
	if k.o.Learner == nil {
		return
	}
	const each = 4
	var ids []string
	taken := map[asset.Group]int{}
	all := make([]string, 0, len(k.containers))
	for id, c := range k.containers {
		if !c.over {
			all = append(all, id)
		}
	}
	slices.Sort(all) // the same choice each time
	for _, id := range all {
		name := k.containers[id].group
		g := k.groups[name]
		// Without rules nothing was decided on it: it discovers.
		if g != nil && g.Mode != profile.Discover || taken[name] == each || len(ids) == k.o.Learners {
			continue
		}
		taken[name]++
		ids = append(ids, id)
	}
	if slices.Equal(ids, k.learning) {
		return
	}
	if err := k.o.Learner.Learn(ids); err != nil {
		k.o.Log.Error("system calls are not noted", "error", err)
		return
	}
	k.learning = ids
}
