package authz

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// endpointSysctls is the option of an interface that sets settings of the kernel,
// "net.ipv4.conf.IFNAME.log_martians=1,…", from API 1.46 on.
const endpointSysctls = "com.docker.network.endpoint.sysctls"

// network tells what a network is that is asked for by a name of its own or an
// id: the id of the network "host" is a way to write "host".
func (p *Plugin) network(ctx context.Context, mode string) (string, error) {
	switch mode {
	case "", "bridge", "host", "none":
		return mode, nil
	}
	raw, err := p.engine.Network(ctx, mode)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) { // also container:…
		return bounded(mode), nil
	}
	var n struct{ Name, Driver string }
	if err == nil {
		err = json.Unmarshal(raw, &n)
	}
	if err != nil {
		return "", fmt.Errorf("look at network %s: %w", short(mode), err)
	}
	if n.Driver == hostMode {
		return hostMode, nil
	}
	return bounded(n.Name), nil
}

// endpoints reads how a container that is to be made is to be on its networks.
func (p *Plugin) endpoints(ctx context.Context, all map[string]*endpoint, out *admission.Container) error {
	if len(all) > maxList {
		return refused("ask for fewer", "EndpointsConfig has more than %d entries", maxList)
	}
	for name, e := range all {
		if also, err := p.network(ctx, name); err != nil {
			return err
		} else if also == hostMode {
			out.Network = also
		}
		if err := e.settings(out); err != nil {
			return err
		}
	}
	return nil
}

// settings adds the settings of the kernel that an interface brings to those of its
// container. Like the engine it takes the name before the first sign of equality.
func (e *endpoint) settings(out *admission.Container) error {
	if e == nil || e.DriverOpts[endpointSysctls] == "" {
		return nil
	}
	list := strings.Split(e.DriverOpts[endpointSysctls], ",")
	if len(list)+len(out.Sysctls) > maxList {
		return refused("ask for fewer", "%s has more than %d entries", endpointSysctls, maxList)
	}
	for _, s := range list {
		name, value, _ := strings.Cut(s, "=")
		if out.Sysctls == nil {
			out.Sysctls = map[string]string{}
		}
		out.Sysctls[bounded(strings.TrimSpace(name))] = bounded(value)
	}
	return nil
}

// connecting reads a container that is to be put on a network. Where that changes
// settings of the kernel, it is the container with these that is decided on.
func (p *Plugin) connecting(ctx context.Context, n *connection, req *admission.Request) error {
	var with admission.Container
	if err := n.EndpointConfig.settings(&with); err != nil {
		return err
	}
	network := req.Call.What
	if len(with.Sysctls) > 0 {
		if _, err := p.whole(ctx, n.Container, req); err != nil {
			return err
		}
		req.Task.Containers[0].Sysctls, req.Call.What = with.Sysctls, network
	}
	var driver map[string]string
	if n.EndpointConfig != nil {
		driver = n.EndpointConfig.DriverOpts
		if len(driver) > maxList {
			return refused("ask for fewer", "DriverOpts has more than %d entries", maxList)
		}
	}
	req.Call.Options = settings("EndpointConfig.DriverOpts", driver, "Container", n.Container)
	return nil
}
