package bpf

import (
	"sync"

	"github.com/castellan-security/castellan/internal/event"
)

// inits knows the first processes of containers: they live as long as their
// containers do, so a path is followed through them when the process that named
// it is gone. The zero value is ready, and nil knows nothing.
type inits struct {
	mu  sync.Mutex
	pid map[string]uint32 // by workload
}

// note takes a process that is told of.
func (i *inits) note(workload string, p *event.Process) {
	if i == nil || workload == "" || p.ContainerPID != 1 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, known := i.pid[workload]; !known && len(i.pid) >= maxKnown {
		clear(i.pid)
	}
	if i.pid == nil {
		i.pid = map[string]uint32{}
	}
	i.pid[workload] = p.Key.PID
}

// of returns the process id, which may be another's by now; 0 for none.
func (i *inits) of(workload string) uint32 {
	if i == nil {
		return 0
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.pid[workload]
}
