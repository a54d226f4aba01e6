package docker_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/hold"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// standing is a server that holds each group it is asked for to nothing at all: no
// program may run.
type standing struct{ known bool }

const heldGroup = asset.Group("shop/storefront/held")

func (s *standing) Behaviour(_ context.Context, a link.BehaviourAsk) (b link.BehaviourBrief, err error) {
	s.known = s.known || len(a.Wanted) > 0 && a.Wanted[0] == heldGroup
	if !s.known || len(a.Held) > 0 && a.Held[0].Stamp == "1" {
		return b, nil
	}
	return heldTo(profile.ExecRules{})
}

// heldTo is the answer of a server that holds heldGroup to rules for programs alone.
func heldTo(exec profile.ExecRules) (b link.BehaviourBrief, err error) {
	r := profile.Rules{Group: heldGroup, Revision: 1, Answers: map[profile.Control]profile.Answer{}, Exec: exec}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Off
	}
	r.Answers[profile.ControlExec] = profile.Deny
	packed, err := link.PackRules(&r)
	b.Rules = []link.BriefRules{{Group: heldGroup, Stamp: "1", Mode: profile.Protect, Packed: packed}}
	return b, err
}

// holding opens what holds the programs of containers on this host.
func holding(t *testing.T, server link.Behaviour) (*hold.Keeper, *bpf.Guard) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	pins := filepath.Join("/sys/fs/bpf", fmt.Sprintf("castellan-test-%d-%s", os.Getpid(), filepath.Base(t.Name())))
	guard, err := bpf.OpenExecGuard(pins, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := guard.Close(); err != nil {
			t.Error(err)
		}
		if _, err := bpf.Release(pins); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(pins); err != nil {
			t.Error(err)
		}
	})
	keeper, err := hold.Open(hold.Options{Dir: t.TempDir(), AgentID: "A", Server: server, Kernels: []hold.Kernel{guard}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return keeper, guard
}

// runsUnheld starts containers of the held group, one after the other, and counts
// those whose program ran.
func runsUnheld(t *testing.T, e *engine.Engine, many int) (unheld int) {
	t.Helper()
	for n := range many {
		id := run(t, e, engine.Container{Name: fmt.Sprint("held", n), Labels: labels("held"), Cmd: []string{"/bin/busybox", "true"}})
		w := e.Client.ContainerWait(t.Context(), id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case err := <-w.Error:
			t.Fatal(err)
		case r := <-w.Result:
			switch r.StatusCode {
			case 0:
				unheld++
			case 128 + 9: // killed at its first instruction
			default:
				t.Errorf("container %d ended with %d", n, r.StatusCode)
			}
		}
		if _, err := e.Client.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return unheld
}

// starting has containers held before the engine starts them.
func starting(t *testing.T, keeper *hold.Keeper) authz.Options {
	return authz.Options{Starting: func(ctx context.Context, id, name string, labels map[string]string) {
		w := asset.Workload{ID: id, Name: name, ECS: docker.Identity(labels)}
		if err := keeper.Starting(ctx, id, asset.GroupOf(w)); err != nil {
			t.Error(err)
		}
	}}
}

// With the authorization plugin no container of a group runs its first instruction
// unheld, the first of the group on this host included, whose rules come from the
// server meanwhile.
func TestNothingRunsUnheldWithThePlugin(t *testing.T) {
	keeper, _ := holding(t, &standing{})
	e, _ := guardedAs(t, engine.Options{}, starting(t, keeper))
	many := storm(40, 200)
	if n := runsUnheld(t, e, many); n > 0 {
		t.Errorf("%d of %d containers ran something before they were held", n, many)
	}
}

// Without the plugin the agent hears that a container was made from the engine, which
// waits for nobody: it is held in time nearly always, and the figure is printed.
func TestMostAreHeldInTimeWithoutThePlugin(t *testing.T) {
	keeper, guard := holding(t, &standing{known: true})
	e := start(t, engine.Options{})
	b := &inbox{changed: make(chan struct{}), workloads: map[string]asset.Workload{}}
	b.further = func(p *agent.Parts) {
		p.Holder, p.Herald = keeper, p.Engine.(agent.Herald)
		p.Tellers = append(p.Tellers, guard)
	}
	b.guard(t, e)
	b.wait(t, "rules in force", func() bool { return len(keeper.Held()) == 1 })
	many := storm(40, 200)
	began := time.Now()
	n := runsUnheld(t, e, many)
	t.Logf("%d of %d containers ran something before they were held; %v each", n, many, time.Since(began)/time.Duration(many))
	if n > many/2 {
		t.Errorf("%d of %d containers ran something before they were held", n, many)
	}
}
