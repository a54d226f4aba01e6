package kernel

import (
	"context"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// When a workload's use of what it may have becomes an event.
const (
	// throttledShare is the part of the time for which a workload is held back
	// that is worth an event: with less, requests are slower but go on.
	throttledShare = 0.25
	// throttleEvery is how often it is told at most: it is a state, not news.
	throttleEvery = time.Minute
	// nearLimit is the part of a limit that counts as close to it, and farLimit
	// the one below which it must have been for that to be told again.
	nearLimit, farLimit = 0.9, 0.8
)

// sampled is what is remembered of one workload from one call to the next.
type sampled struct {
	sample    asset.Sample
	at        time.Duration // since boot: the wall clock can be set
	process   event.Process // its first one
	throttled time.Duration // since boot: when that was told; 0: never
	near      map[string]bool
}

// Samples returns what the workloads that run have used, and what is new in
// that compared with the call before: kills for want of memory, throttling,
// closeness to a limit. A workload of which nothing can be read has a sample
// with everything Missing; one that is not running has none. Limits are the
// container's own, not those of a task around it.
//
// A kill that ended the container itself leaves no counter behind. It is told
// when the engine says so (OOMKilled), once, if the workload was sampled
// before. Which process was killed the kernel does not say here: Process is the
// workload's first.
//
// What is remembered is bounded by the workloads of the last call. It may be
// called concurrently; calls wait for one another. When ctx ends, it returns
// what it has so far.
func (h *Host) Samples(ctx context.Context, workloads []asset.Workload) ([]asset.Sample, []event.Event) {
	h.sampling.Lock()
	defer h.sampling.Unlock()
	mounts := h.cgroupMounts()
	next := make(map[string]*sampled, len(workloads))
	var samples []asset.Sample
	var events []event.Event
	for _, w := range workloads {
		before := h.sampled[w.ID]
		if ctx.Err() != nil {
			if before != nil {
				next[w.ID] = before
			}
			continue
		}
		if !w.State.Runs() || w.PID <= 0 {
			if before != nil && w.OOMKilled {
				events = append(events, before.killed(w))
			}
			continue
		}
		now := h.sample(mounts, w, before)
		next[w.ID] = now
		samples = append(samples, now.sample)
		events = append(events, now.news(w, before)...)
	}
	h.sampled = next
	return samples, events
}

// sample looks at one workload.
func (h *Host) sample(mounts []cgroupMount, w asset.Workload, before *sampled) *sampled {
	s := &sampled{at: sinceBoot(), near: map[string]bool{}}
	s.sample = asset.Sample{WorkloadID: w.ID, Time: time.Now().UTC()}
	pid := strconv.Itoa(w.PID)
	file, err := readBounded(h.inProc(pid, "cgroup"), cgroupLimit)
	if err != nil {
		file = nil // it has ended: everything is missing
	}
	c := h.cgroupsOf(file, mounts, w.ID)
	c.cpu(&s.sample)
	c.memory(&s.sample)
	c.pids(&s.sample)
	c.disk(&s.sample)
	h.descriptors(c.any(), &s.sample)
	h.network(pid, len(c) > 0, &s.sample)
	if before != nil {
		s.throttled, s.near = before.throttled, before.near
		s.process = before.process
	}
	if s.process.Key.PID != uint32(w.PID) {
		s.process = h.process(uint32(w.PID))
	}
	return s
}

// process describes one process; only its id, when it can't be read.
func (h *Host) process(pid uint32) event.Process {
	s := scan{proc: h.proc, buf: make([]byte, 8<<10)}
	if err := s.process(pid); err != nil || len(s.found) == 0 {
		return event.Process{Key: event.Key{PID: pid}}
	}
	return s.found[0].Process
}

// news tells what has changed since the sample before, if there was one.
func (s *sampled) news(w asset.Workload, before *sampled) []event.Event {
	now := &s.sample
	var out []event.Event
	if before != nil && now.OOMKills > before.sample.OOMKills {
		e := s.event(w, event.KindOOM, "memory", now.Memory, now.MemoryLimit)
		if n := now.OOMKills - before.sample.OOMKills; n > 1 {
			e.Count, e.Last = n, e.Time
		}
		out = append(out, e)
	}
	if before != nil && s.at > before.at && now.Throttled > before.sample.Throttled {
		held, passed := now.Throttled-before.sample.Throttled, s.at-before.at
		due := s.throttled == 0 || s.at-s.throttled >= throttleEvery
		if float64(held) > throttledShare*float64(passed) && due {
			s.throttled = s.at
			used := max(now.CPU, before.sample.CPU) - before.sample.CPU
			milli := uint64(used * 1000 / passed)
			out = append(out, s.event(w, event.KindThrottle, "cpu", milli, now.CPULimit))
		}
	}
	for _, r := range []event.Resource{
		{What: "memory", Used: now.Memory, Limit: now.MemoryLimit},
		{What: "pids", Used: now.Pids, Limit: now.PidsLimit},
	} {
		if s.crosses(r) {
			out = append(out, s.event(w, event.KindLimit, r.What, r.Used, r.Limit))
		}
	}
	return out
}

// crosses tells whether a limit has come close just now.
func (s *sampled) crosses(r event.Resource) bool {
	used, limit := float64(r.Used), float64(r.Limit)
	switch {
	case r.Limit == 0 || used < farLimit*limit:
		s.near[r.What] = false
	case used > nearLimit*limit && !s.near[r.What]:
		s.near[r.What] = true
		return true
	}
	return false
}

// killed tells that the workload ended for want of memory.
func (s *sampled) killed(w asset.Workload) event.Event {
	s.sample.Time = time.Now().UTC()
	if w.Finished != nil {
		s.sample.Time = w.Finished.UTC()
	}
	return s.event(w, event.KindOOM, "memory", s.sample.Memory, s.sample.MemoryLimit)
}

func (s *sampled) event(w asset.Workload, kind event.Kind, what string, used, limit uint64) event.Event {
	return event.Event{
		Time: s.sample.Time, Kind: kind, WorkloadID: w.ID, Process: s.process,
		Resource: &event.Resource{What: what, Used: used, Limit: limit},
	}
}

// sinceBoot never goes back.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// network adds up the interfaces of the workload's network namespace. known
// says that the process is the workload's.
func (h *Host) network(pid string, known bool, s *asset.Sample) {
	file, err := readBounded(h.inProc(pid, "net", "dev"), fileLimit)
	if err != nil || !known {
		lack(s, "network_received_bytes", "network_sent_bytes")
		return
	}
	s.NetworkReceived, s.NetworkSent = interfaceBytes(file)
}

// Bounds of counting descriptors, for one workload.
const (
	// maxGroups is how many cgroups below the container's are looked into: an
	// init system in a container makes some dozens.
	maxGroups = 256
	// maxCounted is how many processes are asked. Each costs some 5
	// microseconds on kernels since 6.2.
	maxCounted = 4_096
	// maxListed is how many descriptors are counted by their names, on older
	// kernels, where each is a folder entry to be read.
	maxListed = 1 << 16
	// procsLimit holds some 20,000 process ids.
	procsLimit = 128 << 10
)

// descriptors counts the open files of all processes in a cgroup and those
// below. Where there are more than the bounds, it counts those within them and
// says that it is not all.
func (h *Host) descriptors(dir string, s *asset.Sample) {
	if dir == "" {
		lack(s, "descriptors")
		return
	}
	pids, whole := processesBelow(dir)
	listed := 0
	for _, pid := range pids {
		n, names, ok := h.openFiles(pid, maxListed-listed)
		s.Descriptors += n
		listed += names
		whole = whole && ok
	}
	if !whole {
		lack(s, "descriptors")
	}
}

// processesBelow lists the processes of a cgroup and those below; whole is
// false when the bounds did not let it list all.
func processesBelow(dir string) (pids []string, whole bool) {
	groups := []string{dir}
	for i := 0; i < len(groups); i++ {
		b, err := readBounded(path.Join(groups[i], "cgroup.procs"), procsLimit)
		if err != nil && i == 0 {
			return nil, false
		}
		for _, pid := range fieldsOf(b) {
			if len(pids) == maxCounted {
				return pids, false
			}
			pids = append(pids, pid)
		}
		for _, below := range foldersIn(groups[i]) {
			if len(groups) == maxGroups {
				return pids, false
			}
			groups = append(groups, below)
		}
	}
	return pids, true
}
