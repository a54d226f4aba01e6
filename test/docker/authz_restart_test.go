package docker_test

import (
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// TestRestartOfTheEngine shows that an engine that comes back, which asks no plugin
// then, does not start what was never allowed to start.
func TestRestartOfTheEngine(t *testing.T) {
	e, rules := guarded(t)
	ctx := t.Context()
	var ids []string
	for _, p := range []container.RestartPolicyMode{container.RestartPolicyAlways, container.RestartPolicyUnlessStopped} {
		rules.set(nil)
		id, err := e.Create(ctx, engine.Container{Image: shell, Change: func(_ *container.Config, h *container.HostConfig) {
			h.RestartPolicy = container.RestartPolicy{Name: p}
		}})
		if err != nil {
			t.Fatal(err)
		}
		rules.set(func(r admission.Request) string { return "no starts" })
		_, err = e.Client.ContainerStart(ctx, id, client.ContainerStartOptions{})
		refusedBy(t, "start", err, "no starts")
		ids = append(ids, id)
	}
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if got := status(t, e, id); got != container.StateCreated {
			t.Errorf("container is %s, want it created", got)
		}
	}
}
