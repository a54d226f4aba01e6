package docker_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// beside is an engine under a plugin that knows what an agent reads beside it.
type beside struct {
	e     *engine.Engine
	rules *law
	asks  *late
	seen  chan asset.Workload // that the agent told of, when they were made
}

// followed starts one.
func followed(t *testing.T) *beside {
	t.Helper()
	e, rules, p, asks := guardedWith(t, engine.Options{}, authz.Options{})
	b := &beside{e, rules, asks, make(chan asset.Workload, 100)}
	door, err := docker.New(docker.Options{Host: e.Host()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	door.Share(p.Looking)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- door.Watch(ctx, func(i asset.Inventory) {
			for _, w := range i.Workloads {
				if w.State == asset.Created {
					b.seen <- w
				}
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return b
}

// made makes a container, and waits until the agent has seen it.
func (b *beside) made(t *testing.T, c engine.Container) string {
	t.Helper()
	id, err := b.e.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case w := <-b.seen:
			if w.ID == id {
				return id
			}
		case <-t.Context().Done():
			t.Fatal("the agent does not see it")
		}
	}
}

// starts starts a container, and says whether the engine was asked what it is.
func (b *beside) starts(t *testing.T, id string) (asked bool, err error) {
	t.Helper()
	before := b.asks.looks.Load()
	_, err = b.e.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
	return b.asks.looks.Load() > before, err
}

// TestStartsAreDecidedByWhatIsThereNow attacks the gap between what the agent has seen of
// a container when it was made and what starts: whatever came in between, it is what
// starts that is decided on.
func TestStartsAreDecidedByWhatIsThereNow(t *testing.T) {
	b := followed(t)
	sleeps := engine.Container{Image: shell, Cmd: []string{"sleep", "60"}}
	for asked := true; asked; { // at first calls may be under way that the plugin does not know of
		id := b.made(t, sleeps)
		var err error
		if asked, err = b.starts(t, id); err != nil {
			t.Fatal(err)
		}
		if err := b.e.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	const restarted = "a restart of the engine"
	for name, tc := range map[string]struct {
		change func(t *testing.T, id string) error
		evil   func(admission.Request) bool // nil: nothing that is decided on is changed, and no event tells
	}{
		"another name": {
			func(t *testing.T, id string) error {
				_, err := b.e.Client.ContainerRename(t.Context(), id, client.ContainerRenameOptions{NewName: "evil"})
				return err
			}, func(r admission.Request) bool { return r.Task.Containers[0].Name == "evil" },
		},
		"an update": {
			func(t *testing.T, id string) error {
				_, err := b.e.Client.ContainerUpdate(t.Context(), id, client.ContainerUpdateOptions{Resources: &container.Resources{Memory: 64 << 20, MemorySwap: 128 << 20}})
				return err
			}, func(r admission.Request) bool { return r.Task.Containers[0].MemoryBytes == 64<<20 },
		},
		"an update by the beginning of its id": {
			func(t *testing.T, id string) error {
				_, err := b.e.Client.ContainerUpdate(t.Context(), id[:20], client.ContainerUpdateOptions{RestartPolicy: &container.RestartPolicy{Name: "always"}})
				return err
			}, func(r admission.Request) bool { return r.Call.Options["HostConfig.RestartPolicy"] == "always" },
		},
		"a file": {
			func(t *testing.T, id string) error {
				_, err := b.e.Client.CopyToContainer(t.Context(), id, client.CopyToContainerOptions{DestinationPath: "/", Content: bytes.NewReader(make([]byte, 1024))})
				return err
			}, nil,
		},
		"a tag": {
			func(t *testing.T, _ string) error {
				_, err := b.e.Client.ImageTag(t.Context(), client.ImageTagOptions{Source: shell, Target: "moved:1"})
				return err
			}, nil,
		},
		"an image made of another container": {
			func(t *testing.T, id string) error {
				_, err := b.e.Client.ContainerCommit(t.Context(), id, client.ContainerCommitOptions{Reference: "made:1"})
				return err
			}, nil,
		},
		"a prune of images": {
			func(t *testing.T, _ string) error {
				_, err := b.e.Client.ImagePrune(t.Context(), client.ImagePruneOptions{})
				return err
			}, nil,
		},
		restarted: {
			func(t *testing.T, _ string) error {
				if err := b.e.Stop(); err != nil {
					return err
				}
				return b.e.Start(t.Context())
			}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b.rules.set(nil)
			id := b.made(t, sleeps)
			if err := tc.change(t, id); err != nil {
				t.Fatal(err)
			}
			if tc.evil != nil {
				b.rules.set(deny("it is evil", func(r admission.Request) bool { return r.Call.Name == "container start" && tc.evil(r) }))
			}
			asked, err := b.starts(t, id)
			// Where the engine tells of the change, the agent may have looked again since.
			if !asked && tc.evil == nil && name != restarted {
				t.Error("the start was decided by what was there before")
			}
			if tc.evil != nil {
				refusedBy(t, "start", err, "it is evil")
				if got := status(t, b.e, id); got != container.StateCreated {
					t.Errorf("the container is %s", got)
				}
			} else if err != nil {
				t.Error(err)
			}
			b.rules.set(nil)
			if err := b.e.Remove(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("another that is called like its id", func(t *testing.T) { calledLike(t, b) })
	t.Run("tags that move", func(t *testing.T) { tagMoves(t, b.e, b.rules) })
}

// calledLike changes a container by a name that looks like an id, so that nobody knows
// which one is meant.
func calledLike(t *testing.T, b *beside) {
	b.rules.set(nil)
	name := strings.Repeat("ab", 32)
	id := b.made(t, engine.Container{Image: shell, Name: name, Cmd: []string{"sleep", "60"}})
	update := `{"Memory":67108864,"MemorySwap":134217728}`
	for _, uri := range []string{"/containers/" + name + "/update", "/containers/" + name + "/rename?name=other"} {
		code, answer := sent(t, b.e, "POST", "/v1.41"+uri, inJSON(update), update)
		if code != 403 || !strings.Contains(answer, "called like an id") && !strings.Contains(answer, "takes none") {
			t.Errorf("%s: the engine answers %d: %s", uri, code, answer)
		}
	}
	if asked, err := b.starts(t, id); err != nil || asked {
		t.Errorf("start of it: %v, asked %t", err, asked)
	}
}
