package docker

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// stopGrace is how long a container may take to end by itself before the engine
// ends it: the engine's own default is ten seconds, but whoever stops a container
// because of a threat does not want to wait.
const stopGrace = 3 * time.Second

// Stop stops a container and returns when it does not run any more; with dry it only
// asks whether there is one. It is no error if it does not run already; NotFound when
// the engine knows none.
func (e *Engine) Stop(ctx context.Context, container string, dry bool) error {
	if !asset.IsContainerID(container) {
		return fault.New(fault.Invalid, "%q is no container id", container)
	}
	c, err := dial(ctx, e.host)
	if err != nil {
		return fault.New(fault.Unavailable, "stop container %s: %w", asset.ShortID(container), err).With("is dockerd running?")
	}
	defer c.close()
	if dry {
		_, err := c.inspect(ctx, container, nil)
		if fault.Is(err, fault.NotFound) {
			return gone(container)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopGrace+answerWithin)
	defer cancel()
	target := c.base + "/containers/" + container + "/stop?t=" + strconv.Itoa(int(stopGrace.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var sent *url.Error
		if errors.As(err, &sent) {
			err = sent.Err
		}
		return fault.New(fault.Unavailable, "stop container %s: %w", asset.ShortID(container), err).With("is dockerd still running?")
	}
	defer func() { _ = resp.Body.Close() }() // its status says all
	if resp.StatusCode == http.StatusNotFound {
		return gone(container)
	}
	if resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		return nil
	}
	return refusal(resp)
}

// gone says that the engine knows no such container.
func gone(container string) error {
	return fault.New(fault.NotFound, "container %s is gone: its engine has removed it, and nothing of it runs", asset.ShortID(container))
}

// Paused reports whether the engine itself has a container stand still. NotFound when it
// knows none.
func (e *Engine) Paused(ctx context.Context, container string) (bool, error) {
	if !asset.IsContainerID(container) {
		return false, fault.New(fault.Invalid, "%q is no container id", container)
	}
	c, err := dial(ctx, e.host)
	if err != nil {
		return false, fault.New(fault.Unavailable, "look at container %s: %w", asset.ShortID(container), err).With("is dockerd running?")
	}
	defer c.close()
	in, err := c.inspect(ctx, container, nil)
	if err != nil {
		return false, err
	}
	return stateOf(in.State.Status) == asset.Paused, nil
}
