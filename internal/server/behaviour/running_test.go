package behaviour_test

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// runs is a process of a container that runs, as its agent lists it.
func runs(n int, pid, parent, containerPID uint32, path string, args ...string) event.Running {
	return event.Running{
		WorkloadID: container(n), Args: append([]string{path}, args...), Origin: event.OriginImage,
		Process: event.Process{Key: event.Key{PID: pid, Start: uint64(pid)}, Parent: event.Key{PID: parent, Start: uint64(parent)}, ContainerPID: containerPID, Executable: path},
	}
}

// What runs since before the agent did is part of the profile, or the container could
// not be started again in protect. What people have brought in from outside is not.
func TestWhatRanBeforeTheAgent(t *testing.T) {
	h := start(t)
	own := []event.Running{
		runs(1, 100, 50, 1, "/usr/bin/python3.11", "/srv/app.py"), runs(1, 101, 100, 7, "/usr/sbin/worker"),
		runs(1, 200, 50, 20, "/bin/bash"), runs(1, 201, 200, 21, "/usr/bin/vim"), // docker exec
		{Process: event.Process{Key: event.Key{PID: 50, Start: 50}, Executable: "/usr/bin/containerd-shim"}},
	}
	entered := runs(1, 300, 100, 30, "/bin/nsenter")
	entered.Entered = true
	h.s.Running(agentID, append(own, entered)) // before the engine has told of the container
	h.pass(time.Second)
	h.workloads(nginx(1, "v1"))
	h.happen(exec(1, "/usr/sbin/nginx"))
	const want = "/usr/bin/python3.11 /usr/sbin/nginx /usr/sbin/worker"
	h.eventually("the profile has what ran", func() bool { return h.programs() == want })
	p, err := h.s.Profile(t.Context(), h.admin, web, 0)
	h.must(err)
	for _, x := range p.Executables {
		if x.Path == "/usr/bin/python3.11" && (len(x.Scripts) != 1 || x.Scripts[0] != "/srv/app.py") {
			t.Errorf("scripts of %s: got %v, want /srv/app.py", x.Path, x.Scripts)
		}
	}
	if d := h.group(); d.Settled.Measure >= 0.9 {
		t.Errorf("it counts as settled by %v, and no container was seen to start", d.Settled.Measure)
	}
	h.mode(profile.Monitor)
	other := nginx(3, "v1")
	other.Group = "prod/shop/other"
	h.workloads(nginx(2, "v1"), other)
	h.s.Running(agentID, []event.Running{runs(2, 500, 50, 1, "/usr/bin/other"), runs(3, 600, 50, 1, "/usr/bin/other")})
	h.eventually("another group has what ran", func() bool {
		p, err := h.s.Profile(t.Context(), h.admin, other.Group, 0)
		return err == nil && len(p.Executables) == 1
	})
	if got := h.programs(); got != want {
		t.Errorf("while it is monitored it learned: %s", got)
	}
}
