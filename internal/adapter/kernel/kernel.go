// Package kernel reads the machine under the agent from /proc and /sys: what
// it is, what its kernel can enforce, which processes run, what its containers
// use, and what the agent itself costs.
//
// It is not for watching (see adapter/bpf) nor for containers (adapter/docker):
// it says how things stand at the moment of asking.
package kernel

import (
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say where the machine is looked at. The zero value means this
// machine as it is mounted here.
type Options struct {
	// Proc is the proc file system of the host, /proc by default. An agent in a
	// container names the place where the host's is mounted, e.g. /host/proc.
	Proc string
	// Sys is the sysfs of the host, /sys by default.
	Sys string
	// Network is the process in whose network namespace the host is: the first
	// one by default, also for an agent that is in a namespace of its own.
	Network int
	// Probe tries out one kind of BPF program ("lsm", "tp_btf", "cgroup", "tcx")
	// and says why the kernel refuses it. By default it loads one that changes
	// nothing and lets go of it at once: some kernels list BPF among their
	// security modules and refuse it all the same, so /sys alone proves nothing.
	Probe func(kind string) error
	// Booted returns the moment of boot by the wall clock; by default it is
	// asked of the kernel at each scan, since the wall clock can be set.
	Booted func() time.Time
}

// Host is one machine. Its methods may be called concurrently.
type Host struct {
	proc   string
	sys    string
	netOf  int // the process that has the host's network namespace
	probe  func(kind string) error
	booted func() time.Time

	sampling sync.Mutex
	sampled  map[string]*sampled // by workload, as of the last call of Samples
}

// New returns the machine that o describes. It looks at nothing yet.
func New(o Options) *Host {
	h := &Host{proc: o.Proc, sys: o.Sys, netOf: o.Network, probe: o.Probe, booted: o.Booted}
	if h.proc == "" {
		h.proc = "/proc"
	}
	if h.sys == "" {
		h.sys = "/sys"
	}
	if h.netOf == 0 {
		h.netOf = 1
	}
	if h.probe == nil {
		h.probe = h.tryBPF
	}
	if h.booted == nil {
		h.booted = booted
	}
	return h
}

// inProc and inSys name a file of the host's trees.
func (h *Host) inProc(parts ...string) string { return filepath.Join(h.proc, filepath.Join(parts...)) }
func (h *Host) inSys(parts ...string) string  { return filepath.Join(h.sys, filepath.Join(parts...)) }

// booted is the moment of boot by today's wall clock, suspend included.
func booted() time.Time {
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(since.Nano()))
}
