package live

import (
	"cmp"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// More limits of one agent's table.
const (
	// sweepEvery is how often ended processes are cleared away.
	sweepEvery = 10 * time.Second
	// maxArgBytes bounds what is kept of a command line: a tree shows a line of
	// it, and the whole is in the stored event.
	maxArgBytes = 1024
)

// table is what one agent said, between its reports.
type table struct {
	boot    string
	known   bool // a snapshot of this boot was received
	trees   map[string]*tree
	where   map[event.Key]string // running process → its workload
	gone    map[string]struct{}  // trees removed since the owner map was last told
	swept   time.Time
	skipped uint64 // processes that no room was left for
}

// tree is the processes of one workload, or with no workload the host's own.
type tree struct {
	running map[event.Key]*event.Running
	ended   []event.Running // in the order of ending
}

func newTable() *table {
	return &table{
		trees: map[string]*tree{},
		where: map[event.Key]string{},
		gone:  map[string]struct{}{},
	}
}

// replace takes over a snapshot. Processes that it no longer holds have ended
// unseen: they go without an exit code.
func (tb *table) replace(procs []event.Running, now time.Time, touched map[string]struct{}) {
	for id, tr := range tb.trees {
		touched[id] = struct{}{}
		clear(tr.running)
	}
	clear(tb.where)
	for i := range procs {
		p := procs[i]
		p.Args = bounded(p.Args)
		touched[p.WorkloadID] = struct{}{}
		if p.Ended != nil {
			tb.bury(p, now)
			continue
		}
		tb.put(p)
	}
	tb.known = true
}

// apply takes over one event.
func (tb *table) apply(e *event.Event, now time.Time, touched map[string]struct{}) {
	if e.Count > 0 {
		return // of many like one that was told: whose process is long gone
	}
	key := e.Process.Key
	id, running := tb.where[key]
	switch e.Kind {
	case event.KindFork:
		if running {
			return // the snapshot, or an exec that overtook it, told more
		}
		tb.put(tb.forked(e))
	case event.KindExec:
		p := executed(e)
		if running {
			old := tb.trees[id].running[key]
			p.Started = old.Started
			p.Entered = p.Entered || old.Entered
			if id != e.WorkloadID { // docker exec: born outside, moved in
				touched[id] = struct{}{}
				tb.take(key)
			}
		}
		tb.put(p)
	case event.KindExit:
		if !running {
			return
		}
		p := *tb.trees[id].running[key]
		tb.take(key)
		ended := e.Time
		p.Ended, p.Exit = &ended, e.Exit
		tb.bury(p, now)
		touched[id] = struct{}{}
	default:
		return
	}
	touched[e.WorkloadID] = struct{}{}
}

// forked is the process that a fork made: its parent's copy in all but its
// own identity.
func (tb *table) forked(e *event.Event) event.Running {
	p := event.Running{WorkloadID: e.WorkloadID, Process: e.Process, Started: e.Time}
	id, ok := tb.where[e.Process.Parent]
	if !ok {
		return p
	}
	parent := tb.trees[id].running[e.Process.Parent]
	p.Args, p.Origin = parent.Args, parent.Origin
	return p
}

func executed(e *event.Event) event.Running {
	p := event.Running{WorkloadID: e.WorkloadID, Process: e.Process, Started: e.Time}
	if x := e.Exec; x != nil {
		p.Args, p.Origin, p.Entered = bounded(x.Args), x.Origin, x.Entered
	}
	return p
}

func (tb *table) put(p event.Running) {
	_, there := tb.where[p.Process.Key]
	if !there && len(tb.where) >= maxRunning {
		tb.skipped++
		return
	}
	tr := tb.tree(p.WorkloadID)
	if tr == nil {
		tb.skipped++
		return
	}
	tr.running[p.Process.Key] = &p
	tb.where[p.Process.Key] = p.WorkloadID
}

// take removes a running process.
func (tb *table) take(key event.Key) {
	delete(tb.trees[tb.where[key]].running, key)
	delete(tb.where, key)
}

// bury adds a process that has ended.
func (tb *table) bury(p event.Running, now time.Time) {
	tr := tb.tree(p.WorkloadID)
	if tr == nil || now.Sub(*p.Ended) > keepEnded {
		return
	}
	if len(tr.ended) >= maxEnded {
		n := copy(tr.ended, tr.ended[1:])
		tr.ended = tr.ended[:n]
	}
	tr.ended = append(tr.ended, p)
}

// tree returns the workload's tree, made if there is room, else nil.
func (tb *table) tree(workloadID string) *tree {
	tr := tb.trees[workloadID]
	if tr == nil && len(tb.trees) < maxWorkloads {
		tr = &tree{running: map[event.Key]*event.Running{}}
		tb.trees[workloadID] = tr
	}
	return tr
}

// sweep clears away what ended too long ago.
func (tb *table) sweep(now time.Time, touched map[string]struct{}) {
	if now.Sub(tb.swept) < sweepEvery && !tb.swept.After(now) {
		return
	}
	tb.swept = now
	for id, tr := range tb.trees {
		before := len(tr.ended)
		tr.ended = slices.DeleteFunc(tr.ended, func(p event.Running) bool { return stale(&p, now) })
		if len(tr.ended) != before {
			touched[id] = struct{}{}
		}
		if len(tr.ended) == 0 && len(tr.running) == 0 {
			delete(tb.trees, id)
			tb.gone[id] = struct{}{}
		}
	}
}

func stale(p *event.Running, now time.Time) bool { return now.Sub(*p.Ended) > keepEnded }

// list returns a copy of one tree, oldest first.
func (tb *table) list(workloadID string, now time.Time) []event.Running {
	tr := tb.trees[workloadID]
	if tr == nil {
		return nil
	}
	out := make([]event.Running, 0, len(tr.running)+len(tr.ended))
	for _, p := range tr.running {
		out = append(out, *p)
	}
	for i := range tr.ended {
		if !stale(&tr.ended[i], now) {
			out = append(out, tr.ended[i])
		}
	}
	slices.SortFunc(out, func(a, b event.Running) int {
		return cmp.Or(a.Started.Compare(b.Started),
			cmp.Compare(a.Process.Key.Start, b.Process.Key.Start),
			cmp.Compare(a.Process.Key.PID, b.Process.Key.PID))
	})
	return out
}

// bounded cuts a command line to what a tree shows, and says so.
func bounded(args []string) []string {
	n := 0
	for i, a := range args {
		n += len(a) + 1
		if n > maxArgBytes {
			return append(slices.Clone(args[:i]), "…")
		}
	}
	return args
}
