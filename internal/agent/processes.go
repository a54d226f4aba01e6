package agent

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// processes is the table of what runs on this host. It completes events with
// what the kernel does not hand over each time: the path of a forked or ending
// process and of the ancestors.
//
// It is keyed by pid: at one time a pid belongs to one process. The start time
// tells an old owner of a pid from the new one.
type processes struct {
	inspector Inspector // nil: nobody is asked about processes that are not known

	mu   sync.Mutex
	byP  map[uint32]*event.Running
	past past
	// before is what processes of byP ran before they executed something else, the
	// newest last.
	before map[uint32][]replaced[*event.Running]
}

// replaced is what a process ran until it executed something else.
type replaced[T any] struct {
	ran   T
	until time.Time
}

// ranAt returns what was run at a time, of a list that has the newest last; false if that
// is what is run since.
func ranAt[T any](list []replaced[T], at time.Time) (ran T, ok bool) {
	i := slices.IndexFunc(list, func(r replaced[T]) bool { return at.Before(r.until) })
	if i < 0 {
		return ran, false
	}
	return list[i].ran, true
}

// maxReplaced bounds what is remembered of one process: start scripts become one
// program after the other.
const maxReplaced = 4

func newProcesses(i Inspector) *processes {
	return &processes{inspector: i, byP: map[uint32]*event.Running{}, past: newPast(), before: map[uint32][]replaced[*event.Running]{}}
}

// observe takes one event in and completes it.
func (p *processes) observe(e *event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oneKey(e)
	switch {
	case e.Count > 0: // of many, and this one of them may be long gone
	case e.Reaction != event.ReactionNone: // refused, or told by the sensors too
		p.parents(e)
	case e.Kind == event.KindFork:
		p.forked(e)
	case e.Kind == event.KindExec:
		p.executed(e)
	case e.Kind == event.KindExit:
		p.ended(e)
	}
	if e.Process.Executable == "" && !e.Process.Key.IsZero() {
		e.Process.Executable = p.executable(e.Process.Key, doneAt(e))
	}
}

// doneAt is when something was done last that an event tells. What is only counted is told
// up to a minute later, when what set a container up is its program by now.
func doneAt(e *event.Event) time.Time {
	if e.Last.After(e.Time) {
		return e.Last
	}
	return e.Time
}

// executable returns what a process ran at a time, as far as anybody knows.
func (p *processes) executable(k event.Key, at time.Time) string {
	if known := p.find(k); known != nil {
		if then, ok := ranAt(p.before[k.PID], at); ok && then.Process.Executable != "" {
			return then.Process.Executable
		}
		if known.Process.Executable != "" {
			return known.Process.Executable
		}
	}
	path, known := p.past.find(k, at)
	if !known && p.inspector != nil {
		path = p.inspector.Executable(k)
		p.past.add(k, path, nil) // nothing, too, so that it is asked for once
	}
	return path
}

// oneKey gives every process in e the key under which it is known. What ran
// before the agent is known by its start in ticks, from /proc; the kernel's
// sensors tell nanoseconds, and the server matches keys to the letter.
func (p *processes) oneKey(e *event.Event) {
	as := func(k *event.Key) {
		if known := p.find(*k); known != nil {
			*k = known.Process.Key
		}
	}
	if e.Kind != event.KindFork { // a new process is nobody that is known
		as(&e.Process.Key)
	}
	as(&e.Process.Parent)
	if e.Exec != nil {
		for i := range e.Exec.Ancestors {
			as(&e.Exec.Ancestors[i].Key)
		}
	}
	if e.Privilege != nil {
		as(&e.Privilege.Process)
	}
}

// beside returns a process of a workload that is not k: the one that runs longest,
// and is most likely there a moment longer. It is zero if there is none.
func (p *processes) beside(workload string, k event.Key) event.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best event.Key
	for _, r := range p.byP {
		if r.WorkloadID == workload && !r.Process.Key.Same(k) && (best.IsZero() || r.Process.Key.Start < best.Start) {
			best = r.Process.Key
		}
	}
	return best
}

func (p *processes) forked(e *event.Event) {
	if p.find(e.Process.Key) != nil {
		return // an exec that overtook it told more
	}
	delete(p.before, e.Process.Key.PID)
	child := &event.Running{WorkloadID: e.WorkloadID, Process: e.Process, Started: e.Time}
	if parent := p.find(e.Process.Parent); parent != nil {
		// A fork runs what its parent ran then, until it executes something else. It may be
		// told later, when it first does something.
		if then, ok := ranAt(p.before[parent.Process.Key.PID], e.Time); ok {
			parent = then
		}
		e.Process.Executable = parent.Process.Executable
		// Under another name than its parent's it was forked by a thread of a name of its own,
		// or has executed something that was lost: whoever asks what it runs is to look.
		if sameName(parent.Process.Name, e.Process.Name) {
			child.Process.Executable = parent.Process.Executable
			child.Args, child.Origin = parent.Args, parent.Origin
		}
	}
	p.byP[e.Process.Key.PID] = child
}

func (p *processes) executed(e *event.Event) {
	started := e.Time
	if old := p.find(e.Process.Key); old != nil {
		started = old.Started
		list := append(p.before[e.Process.Key.PID], replaced[*event.Running]{old, e.Time})
		p.before[e.Process.Key.PID] = list[max(0, len(list)-maxReplaced):]
	} else {
		delete(p.before, e.Process.Key.PID)
	}
	r := &event.Running{WorkloadID: e.WorkloadID, Process: e.Process, Started: started}
	if e.Exec != nil {
		r.Args, r.Origin, r.Entered = e.Exec.Args, e.Exec.Origin, e.Exec.Entered
		for i := range e.Exec.Ancestors {
			if a := &e.Exec.Ancestors[i]; a.Executable == "" {
				a.Executable = p.ancestor(a)
			}
		}
	}
	p.byP[e.Process.Key.PID] = r
}

// ancestor returns what an ancestor runs that the kernel names: what is known of it, if
// it still has the name that it had then. Another one it gave itself, or it has executed
// something that was lost; then the host is asked, and what it can't tell stays unknown.
func (p *processes) ancestor(a *event.Ancestor) string {
	known := p.find(a.Key)
	if known == nil {
		return ""
	}
	if known.Process.Executable != "" && sameName(known.Process.Name, a.Name) {
		return known.Process.Executable
	}
	if p.inspector == nil {
		return ""
	}
	path := p.inspector.Executable(a.Key)
	if path != "" && path != known.Process.Executable {
		known.Args, known.Origin = nil, event.OriginUnknown // they are of the program before
	}
	known.Process.Executable, known.Process.Name = path, a.Name
	return path
}

// sameName reports whether two names of processes, as the kernel gives them, can be of
// one program; an empty one is not known.
func sameName(a, b string) bool { return a == b || a == "" || b == "" }

// parents completes whose doing an exec was that is no process of the table.
func (p *processes) parents(e *event.Event) {
	if e.Exec == nil {
		return
	}
	for i := range e.Exec.Ancestors {
		if a := &e.Exec.Ancestors[i]; a.Executable == "" && !a.Key.IsZero() {
			a.Executable = p.executable(a.Key, e.Time)
		}
	}
}

func (p *processes) ended(e *event.Event) {
	known := p.find(e.Process.Key)
	if known == nil {
		return
	}
	if e.Process.Executable == "" {
		e.Process.Executable = known.Process.Executable
	}
	delete(p.byP, e.Process.Key.PID)
	p.past.add(e.Process.Key, e.Process.Executable, p.before[e.Process.Key.PID])
	delete(p.before, e.Process.Key.PID)
}

// find returns the process with this key, or nil.
func (p *processes) find(k event.Key) *event.Running {
	if r := p.byP[k.PID]; r != nil && r.Process.Key.Same(k) {
		return r
	}
	return nil
}

// merge adds what /proc lists and no sensor told of.
func (p *processes) merge(running []event.Running) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range running {
		if p.find(r.Process.Key) == nil {
			p.byP[r.Process.Key.PID] = &r
		}
	}
}

// reconcile drops what was known before the time asked and is not in running,
// and returns how many that were.
func (p *processes) reconcile(running []event.Running, asked time.Time) int {
	present := make(map[uint32]event.Key, len(running))
	for _, r := range running {
		present[r.Process.Key.PID] = r.Process.Key
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	gone := 0
	for pid, r := range p.byP {
		if k, ok := present[pid]; ok && k.Same(r.Process.Key) {
			continue
		}
		if r.Started.Before(asked) {
			delete(p.byP, pid)
			delete(p.before, pid)
			gone++
		}
	}
	return gone
}

// workloads returns the workloads in which something runs.
func (p *processes) workloads() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := map[string]bool{}
	for _, r := range p.byP {
		if r.WorkloadID != "" {
			alive[r.WorkloadID] = true
		}
	}
	return alive
}

// inContainers returns what runs in containers, with the workload of each.
func (p *processes) inContainers() map[event.Key]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[event.Key]string{}
	for _, r := range p.byP {
		if r.WorkloadID != "" {
			all[r.Process.Key] = r.WorkloadID
		}
	}
	return all
}

// list returns what runs, oldest first, n at most.
func (p *processes) list(n int) []event.Running {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]event.Running, 0, len(p.byP))
	for _, r := range p.byP {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b event.Running) int {
		return cmp.Or(cmp.Compare(a.Process.Key.Start, b.Process.Key.Start), cmp.Compare(a.Process.Key.PID, b.Process.Key.PID))
	})
	return all[:min(n, len(all))]
}
