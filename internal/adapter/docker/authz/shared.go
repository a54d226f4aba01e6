package authz

import (
	"context"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// maxShared is how many containers share a namespace by one another: a task of ECS
// has ten.
const maxShared = 16

// shared tells whose namespaces a container gets that asks for those of another:
// where that one is in the host's, so is this, and the task says so.
func (p *Plugin) shared(ctx context.Context, req *admission.Request) error {
	c := &req.Task.Containers[0]
	for _, ns := range []struct {
		asked string
		task  *string
		of    func(*inspection) string
	}{
		{c.Network, &req.Task.Network, networkOf},
		{c.PID, &req.Task.PID, func(in *inspection) string { return in.HostConfig.PidMode }},
		{c.IPC, &req.Task.IPC, func(in *inspection) string { return in.HostConfig.IpcMode }},
	} {
		mode, err := p.ofOthers(ctx, ns.asked, ns.of)
		if err != nil {
			return err
		}
		if mode == hostMode {
			*ns.task = hostMode
		}
	}
	return nil
}

// ofOthers follows a mode from container to container to the one that shares none,
// or that is not there, of which the engine tells.
func (p *Plugin) ofOthers(ctx context.Context, asked string, of func(*inspection) string) (string, error) {
	mode := asked
	for range maxShared {
		other, ok := strings.CutPrefix(mode, "container:")
		if !ok {
			return mode, nil
		}
		in, err := p.there(ctx, other)
		if fault.Is(err, fault.NotFound) {
			return mode, nil
		}
		if err != nil {
			return "", err
		}
		mode = of(&in)
	}
	return "", refused("name the container that has it", "%s leads through more than %d containers", short(asked), maxShared)
}

// networkOf is the mode of a container's network, whatever name or id of the
// host's it was asked for by.
func networkOf(in *inspection) string {
	if _, ok := in.NetworkSettings.Networks[hostMode]; ok {
		return hostMode
	}
	return in.HostConfig.NetworkMode
}
