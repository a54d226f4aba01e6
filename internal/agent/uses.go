package agent

import (
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// UseReader tells which files of its image a process uses.
type UseReader interface {
	// Used returns the files of its image that a process in a container mapped as
	// code or holds open as archives of code, without those for which known is
	// true. Errors carry a fault.Kind: NotFound when it has ended.
	Used(k event.Key, known func(path string) bool) ([]string, error)
}

// When processes are looked at, and what that may cost.
const (
	// useFirst is how long after its start a process has its libraries, useSecond
	// when it also has what it loads with its first work.
	useFirst  = 5 * time.Second
	useSecond = time.Minute
	// useRound is how often all processes of containers are looked at: those that
	// forked without executing anything, and what is loaded late.
	useRound = 10 * time.Minute
	// useEvery and useAtOnce bound the cost: at most so many processes are looked
	// at in such a time.
	useEvery  = time.Second
	useAtOnce = 20
	// maxUseWaiting bounds the processes that started and wait for a look; the
	// round finds those beyond it.
	maxUseWaiting = 8_192
	// maxTold bounds the files that are remembered as told, at some 16 bytes
	// each, of all workloads together: a container maps some hundred. maxToldOne
	// is the most of one of them, so that it leaves room for the others.
	maxTold    = 100_000
	maxToldOne = 10_000
	// maxUntold bounds the files that wait for a report.
	maxUntold = link.MaxUsedPaths
)

// uses finds out which files of their images workloads use. Each is told once a
// workload.
type uses struct {
	reader UseReader // nil: nothing is told
	log    *slog.Logger
	seed   maphash.Seed

	mu sync.Mutex
	// fresh wait for their first look, settled for their second, in order of
	// time; round for the one of this round.
	fresh, settled []usePending
	round          []usePending
	next           time.Time // of the round
	told           map[string]map[uint64]struct{}
	tolds          int // of all workloads
	full           bool
	untold         []asset.Use
	untolds        int
}

// usePending is a process that is to be looked at.
type usePending struct {
	key      event.Key
	workload string
	due      time.Time
}

func newUses(r UseReader, log *slog.Logger) *uses {
	return &uses{reader: r, log: log, seed: maphash.MakeSeed(), told: map[string]map[uint64]struct{}{}}
}

// started notes a process that executed something in a container.
func (u *uses) started(e *event.Event) {
	if u.reader == nil || e.Kind != event.KindExec || e.WorkloadID == "" || e.Count > 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.fresh) < maxUseWaiting {
		u.fresh = append(u.fresh, usePending{e.Process.Key, e.WorkloadID, time.Now().Add(useFirst)})
	}
}

// run looks at processes until ctx ends. all lists those in containers.
func (u *uses) run(ctx context.Context, all func() map[event.Key]string) {
	tick := time.NewTicker(useEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			u.begin(now, all)
			for range useAtOnce {
				p, ok := u.take(now)
				if !ok || ctx.Err() != nil {
					break
				}
				u.look(p)
			}
		}
	}
}

// begin starts a round when it is time, and forgets workloads that have ended.
func (u *uses) begin(now time.Time, all func() map[event.Key]string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Before(u.next) || len(u.round) > 0 {
		return
	}
	u.next = now.Add(useRound)
	alive := map[string]bool{}
	for k, workload := range all() {
		alive[workload] = true
		u.round = append(u.round, usePending{k, workload, now})
	}
	for _, waiting := range [][]usePending{u.fresh, u.settled} {
		for _, p := range waiting {
			alive[p.workload] = true
		}
	}
	for workload, paths := range u.told {
		if !alive[workload] {
			u.tolds -= len(paths)
			delete(u.told, workload)
		}
	}
	u.full = u.full && u.tolds >= maxTold
}

// take returns the next process that is due.
func (u *uses) take(now time.Time) (usePending, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.fresh) > 0 && !now.Before(u.fresh[0].due) {
		p := u.fresh[0]
		u.fresh = u.fresh[1:]
		if len(u.settled) < maxUseWaiting {
			u.settled = append(u.settled, usePending{p.key, p.workload, now.Add(useSecond - useFirst)})
		}
		return p, true
	}
	for _, from := range []*[]usePending{&u.settled, &u.round} {
		if len(*from) > 0 && !now.Before((*from)[0].due) {
			p := (*from)[0]
			*from = (*from)[1:]
			return p, true
		}
	}
	return usePending{}, false
}

// look reads what a process uses and notes what is new.
func (u *uses) look(p usePending) {
	paths, err := u.reader.Used(p.key, func(path string) bool { return u.isTold(p.workload, path) })
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			u.log.Debug("files in use not read", "workload", asset.ShortID(p.workload), "error", err)
		}
		return
	}
	u.note(p.workload, paths)
}

func (u *uses) isTold(workload, path string) bool {
	h := maphash.String(u.seed, path)
	u.mu.Lock()
	defer u.mu.Unlock()
	_, told := u.told[workload][h]
	return told
}

// note keeps what is new for the next report. What there is no room for is found
// again in the next round.
func (u *uses) note(workload string, paths []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	use := asset.Use{WorkloadID: workload}
	for _, path := range paths {
		if u.untolds >= maxUntold || len(u.told[workload]) >= maxToldOne {
			break
		}
		if u.tolds >= maxTold {
			if !u.full {
				u.log.Warn("not all files in use are told: too many", "files", u.tolds)
			}
			u.full = true
			break
		}
		if u.told[workload] == nil {
			u.told[workload] = map[uint64]struct{}{}
		}
		h := maphash.String(u.seed, path)
		if _, told := u.told[workload][h]; told {
			continue
		}
		u.told[workload][h] = struct{}{}
		u.tolds++
		u.untolds++
		if use.Paths = append(use.Paths, path); len(use.Paths) == asset.MaxUsePaths {
			u.untold = append(u.untold, use)
			use.Paths = nil
		}
	}
	if len(use.Paths) > 0 {
		u.untold = append(u.untold, use)
	}
}

// pending hands out what the server has not been told, as much as fits into a
// report.
func (u *uses) pending() []asset.Use {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, paths := 0, 0
	for n < len(u.untold) && n < link.MaxUses && paths+len(u.untold[n].Paths) <= link.MaxUsedPaths {
		paths += len(u.untold[n].Paths)
		n++
	}
	out := u.untold[:n:n]
	u.untold = slices.Clone(u.untold[n:])
	u.untolds -= paths
	return out
}

// back returns what pending handed out and nobody got.
func (u *uses) back(list []asset.Use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, use := range list {
		u.untolds += len(use.Paths)
	}
	u.untold = append(slices.Clone(list), u.untold...)
}

// again makes everything news: the server knows nothing.
func (u *uses) again() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.told)
	u.tolds, u.full = 0, false
	u.untold, u.untolds = nil, 0
	u.round, u.next = nil, time.Time{}
}
