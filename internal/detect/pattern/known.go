package pattern

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
)

// Bounds of what is known of groups.
const (
	maxGroups = 256                 // that run on a host, or write to it
	maxValues = 1024                // of one: one with more has no normal
	keepGroup = 30 * 24 * time.Hour // after it was heard of last
)

// Known knows what is normal in groups: which values came up when they were young.
type Known struct{ groups *keep.Map[Workload, *normal] }

type normal struct {
	Since time.Time                `json:"since"`
	Seen  map[uint64]time.Duration `json:"seen"` // how old the group was when a value came up first; values by their print
}

// NewKnown returns one that knows no group.
func NewKnown() *Known { return &Known{newGroups()} }

func newGroups() *keep.Map[Workload, *normal] {
	return keep.New[Workload, *normal](maxGroups, keepGroup)
}

// Memory is part of Learner. Groups alone are in it: what is in none is a container,
// whose processes and peers are seen anew.
func (k *Known) Memory() ([]byte, error) {
	all := slices.DeleteFunc(k.groups.All(), func(g keep.Kept[Workload, *normal]) bool { return g.Key.Agent != "" })
	if len(all) == 0 {
		return nil, nil
	}
	return json.Marshal(all)
}

// Remember is part of Learner.
func (k *Known) Remember(b []byte) error {
	var all []keep.Kept[Workload, *normal]
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	k.groups = newGroups()
	k.groups.Take(slices.DeleteFunc(all, func(g keep.Kept[Workload, *normal]) bool { return g.Value == nil || g.Value.Seen == nil }))
	return nil
}

// printOf is what is kept of a value. Who may choose values must not find one that has
// the print of another.
func printOf(value string) uint64 {
	sum := sha256.Sum256([]byte(value))
	return binary.LittleEndian.Uint64(sum[:])
}

// Age notes a value of a group, and returns how long the group had been known when
// the value came up first. A group that has too many values has no normal: it is 0.
func (k *Known) Age(e *event.Event, value string) time.Duration {
	now, g := e.Time, Group(e)
	at, ok := k.groups.Get(g, now)
	if !ok {
		at = k.groups.Put(g, &normal{Since: now, Seen: map[uint64]time.Duration{}}, now)
	}
	n, p := *at, printOf(value)
	age, known := n.Seen[p]
	if known {
		return age
	}
	if len(n.Seen) >= maxValues {
		return 0
	}
	age = max(now.Sub(n.Since), 0)
	n.Seen[p] = age
	return age
}

// Bounds of Foreign.
const (
	maxForeign  = 4096
	keepForeign = 24 * time.Hour // a process that lives longer is heard of no more
	maxDepth    = 8              // of a walk up to a foreign ancestor
)

// Foreign knows which processes run files that did not come with their image: they
// were written, or are in memory alone. A detector hands it each exec.
type Foreign struct{ processes *keep.Map[Process, struct{}] }

// NewForeign returns one that knows of none.
func NewForeign() *Foreign {
	return &Foreign{keep.New[Process, struct{}](maxForeign, keepForeign)}
}

// Exec notes what a process executes from now on.
func (f *Foreign) Exec(e *event.Event) {
	if e.Exec == nil {
		return
	}
	if o := e.Exec.Origin; o == event.OriginWritten || o == event.OriginMemory {
		f.processes.Put(ProcessOf(e), struct{}{}, e.Time)
	} else if f.processes.Len() > 0 {
		f.processes.Delete(ProcessOf(e))
	}
}

// Is says whether a process is foreign: by what it runs, or by what its parent runs
// if that is the same file, so that it was forked.
func (f *Foreign) Is(t *tree.Tree, agentID string, p *tree.Process, now time.Time) bool {
	if f.processes.Len() == 0 {
		return false
	}
	for range maxDepth {
		if _, ok := f.processes.Get(Process{agentID, p.Key}, now); ok {
			return true
		}
		parent := t.Parent(agentID, p)
		if parent == nil || parent.Executable != p.Executable {
			return false
		}
		p = parent
	}
	return false
}
