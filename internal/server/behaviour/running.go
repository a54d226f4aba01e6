package behaviour

import (
	"context"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	// maxRunning bounds the processes of which the containers are not known yet, some 20
	// MiB; beyond, those that are told of last teach nothing.
	maxRunning = 50_000
	// waitForWorkload is for how long: an agent that starts tells what runs before its
	// engine has told in which containers.
	waitForWorkload = time.Minute
)

// running are processes that agents say run, until they are learned from.
type running struct {
	mu    sync.Mutex
	of    map[string]listed // by workload
	count int
}

// listed are processes of one workload.
type listed struct {
	agent string
	at    time.Time
	all   []event.Running
}

func (r *running) init() { r.of = map[string]listed{} }

// Running hears of all that runs on an agent's host. A program that began before the
// agent did was never told as an exec, and runs again when its container starts again.
// It is quick and does not wait.
func (s *Service) Running(agentID string, all []event.Running) {
	own := ownProcesses(all)
	r := &s.running
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, procs := range own {
		r.count -= len(r.of[id].all)
		delete(r.of, id)
		if r.count+len(procs) > maxRunning {
			continue
		}
		r.of[id] = listed{agentID, s.Clock(), procs}
		r.count += len(procs)
	}
}

// take returns what waits, which waits no longer.
func (r *running) take() map[string]listed {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.of
	r.of, r.count = map[string]listed{}, 0
	return all
}

// back puts back what still waits, unless there is newer.
func (r *running) back(id string, l listed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, newer := r.of[id]; !newer && r.count+len(l.all) <= maxRunning {
		r.of[id] = l
		r.count += len(l.all)
	}
}

// ownProcesses are those that come from the first process of their workload, and not
// from outside, as those of docker exec do; by workload. Where a container shares a pid
// namespace that can't be told: none are.
func ownProcesses(all []event.Running) map[string][]event.Running {
	type key struct {
		workload string
		process  event.Key
	}
	at := make(map[key]int, len(all))
	for i := range all {
		at[key{all[i].WorkloadID, all[i].Process.Key}] = i
	}
	out := map[string][]event.Running{}
	for i := range all {
		id, r := all[i].WorkloadID, &all[i]
		for range event.MaxAncestors {
			if id == "" || r.Entered || r.Process.ContainerPID == 1 {
				break
			}
			up, known := at[key{id, r.Process.Parent}]
			if !known {
				break
			}
			r = &all[up]
		}
		if id != "" && !r.Entered && r.Process.ContainerPID == 1 {
			out[id] = append(out[id], all[i])
		}
	}
	return out
}

// runs learns from what runs in containers that are known by now. After an error what
// is left waits for the next time.
func (k *keeper) runs(ctx context.Context) error {
	now, waits := k.s.Clock(), k.s.running.take()
	defer func() {
		for id, l := range waits {
			k.s.running.back(id, l)
		}
	}()
	for id, l := range waits {
		w, err := k.workloads.get(ctx, k.s.Store, id)
		if err != nil {
			return err
		}
		unknown := w == nil || w.Partial || w.Group == ""
		if unknown && now.Sub(l.at).Abs() < waitForWorkload {
			continue
		}
		if !unknown {
			if err := k.learnRunning(ctx, w, &l); err != nil {
				return err
			}
		}
		delete(waits, id)
	}
	return nil
}

func (k *keeper) learnRunning(ctx context.Context, w *asset.Workload, l *listed) error {
	g := k.group(w.Group, &event.Event{Time: l.at})
	if g == nil || !stateOf(g).Learns(watch.VersionOf(w)) {
		return nil
	}
	learner, err := k.learner(ctx, g)
	if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.NotFound) {
		k.s.Log.Error("what runs taught nothing", "group", g.Group, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	for i := range l.all {
		learner.Runs(&l.all[i], l.agent, w, l.at)
	}
	g.dirty = true
	return nil
}
