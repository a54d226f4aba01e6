package bpf_test

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// memoryHierarchy returns where the memory controller is, and the name of its limit.
func memoryHierarchy(t *testing.T) (dir, limit string) {
	t.Helper()
	const v1 = "/sys/fs/cgroup/memory"
	if _, err := os.Stat(filepath.Join(v1, "cgroup.procs")); err == nil {
		return v1, "memory.limit_in_bytes"
	}
	t.Skip("this host has no memory controller of version 1: skipped, see test/vm for that of version 2")
	return "", ""
}

func TestOutOfMemory(t *testing.T) {
	const limit, most = 64 << 20, 256 << 20
	w := watch(t)
	for _, s := range w.sensors.Status() {
		if s.Name == "resource" && s.State != asset.SensorRunning {
			t.Fatalf("the resource sensor is %s: %s", s.State, s.Reason)
		}
	}
	id := newID(t)
	for _, tt := range []struct {
		name, group, limited string
		workload             string
		want                 event.Scope
	}{
		{"the limit of a container", "castellan-test-oom/docker/" + id, "castellan-test-oom/docker/" + id, id, event.ScopeContainer},
		{"of a cgroup made in it", "castellan-test-oom/docker/" + id + "/inner", "castellan-test-oom/docker/" + id + "/inner", id, event.ScopeContainer},
		{"of the container around that", "castellan-test-oom/docker/" + id + "/inner", "castellan-test-oom/docker/" + id, id, event.ScopeContainer},
		{"of the task around a container", "castellan-test-oom/task/" + id, "castellan-test-oom/task", id, event.ScopeCgroup},
		{"of a service of the host", "castellan-test-oom/service", "castellan-test-oom/service", "", event.ScopeCgroup},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hierarchy, file := memoryHierarchy(t)
			h := startIn(t, hierarchy, tt.group, "memory="+strconv.Itoa(most))
			at := filepath.Join(hierarchy, tt.limited, file)
			if err := os.WriteFile(at, []byte(strconv.Itoa(limit)), 0); err != nil {
				t.Fatal(err)
			}
			h.finish()
			if s, ok := h.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
				t.Fatalf("the helper ended with %v, want it killed", h.cmd.ProcessState)
			}
			e := w.wait("kill for want of memory", func(e event.Event) bool {
				return e.Kind == event.KindOOM && e.Process.Key.PID == uint32(h.pid())
			})
			r := e.Resource
			if r.Scope != tt.want || e.WorkloadID != tt.workload || r.Limit != limit || r.What != "memory" {
				t.Errorf("told %+v of %q, want scope %s, workload %q and limit %d", r, e.WorkloadID, tt.want, tt.workload, limit)
			}
			// Pages that are asked for count before they are refused, and what of its
			// program's file counts for others is in its memory, too.
			if r.Used > 2*limit || r.Used < limit/2 || r.Resident > most || r.Resident < limit/2 {
				t.Errorf("used %d of %d, and %d in memory: want nearly all", r.Used, r.Limit, r.Resident)
			}
			if e.Process.Key.Start == 0 || e.Process.Parent.PID != uint32(os.Getpid()) {
				t.Errorf("process %+v, want our child", e.Process)
			}
		})
	}
}
