package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Container is what a container is made of, as `docker run` would say it.
type Container struct {
	Name   string
	Image  string
	Cmd    []string
	Labels map[string]string
	// Remove makes the engine forget it the moment it ends, as --rm does.
	Remove bool
	// Change edits what the engine is asked for before it is asked; nil for none.
	Change func(*container.Config, *container.HostConfig)
}

// Create makes a container and returns its id.
func (e *Engine) Create(ctx context.Context, c Container) (string, error) {
	config := &container.Config{Image: c.Image, Cmd: c.Cmd, Labels: c.Labels}
	host := &container.HostConfig{AutoRemove: c.Remove}
	if !e.bridged {
		host.NetworkMode = "none"
	}
	if c.Change != nil {
		c.Change(config, host)
	}
	made, err := e.Client.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: host, Name: c.Name})
	if err != nil {
		return "", fmt.Errorf("create container of %s: %w", c.Image, err)
	}
	return made.ID, nil
}

// Run makes and starts a container and returns its id.
func (e *Engine) Run(ctx context.Context, c Container) (string, error) {
	id, err := e.Create(ctx, c)
	if err != nil {
		return "", err
	}
	if _, err := e.Client.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return "", fmt.Errorf("start container %s: %w", id, err)
	}
	return id, nil
}

// Exec runs a command in a running container, waits for it, and returns what it
// wrote and its exit code.
func (e *Engine) Exec(ctx context.Context, id string, cmd ...string) (output string, code int, err error) {
	made, err := e.Client.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: cmd, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", 0, fmt.Errorf("create exec in container %s: %w", id, err)
	}
	stream, err := e.Client.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", 0, fmt.Errorf("start exec in container %s: %w", id, err)
	}
	defer stream.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, io.LimitReader(stream.Reader, 1<<20)); err != nil {
		return "", 0, fmt.Errorf("read output of exec: %w", err)
	}
	state, err := e.Client.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err != nil {
		return "", 0, fmt.Errorf("inspect exec: %w", err)
	}
	return out.String(), state.ExitCode, nil
}

// Remove ends and removes a container; one that is gone is no error.
func (e *Engine) Remove(ctx context.Context, id string) error {
	_, err := e.Client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// removeAll removes every container.
func (e *Engine) removeAll(ctx context.Context) error {
	all, err := e.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	for _, c := range all.Items {
		if err := e.Remove(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}
