package docker

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

// hostConfig, mountPoint and networkSettings are what is read of those parts of
// an inspection. Addresses and ports stay text until they are read one by one:
// a malformed one costs itself, not the container.
type hostConfig struct {
	Privileged     bool
	ReadonlyRootfs bool
	NetworkMode    string
	PidMode        string
	IpcMode        string
	CapAdd         []string
	CapDrop        []string
	SecurityOpt    []string
	Memory         int64
	PidsLimit      *int64
	Tmpfs          map[string]string
}

type mountPoint struct {
	Type        string
	Source      string
	Destination string
	RW          bool
}

type networkSettings struct {
	Ports    map[string][]struct{ HostIp, HostPort string }
	Networks map[string]struct {
		IPAddress         string
		GlobalIPv6Address string
	}
}

func (in inspection) settings() asset.Settings {
	h := in.HostConfig
	s := asset.Settings{
		User:         clean(in.Config.User, maxText),
		Entrypoint:   command(in.Path, in.Args),
		HealthCheck:  in.healthCheck(),
		Privileged:   h.Privileged,
		ReadOnlyRoot: h.ReadonlyRootfs,
		NetworkMode:  clean(h.NetworkMode, maxText),
		PIDMode:      clean(h.PidMode, maxText),
		IPCMode:      clean(h.IpcMode, maxText),
		CapAdd:       capabilities(h.CapAdd),
		CapDrop:      capabilities(h.CapDrop),
		SecurityOpt:  cleanAll(h.SecurityOpt),
		Addresses:    in.NetworkSettings.addresses(),
		Ports:        in.ports(),
		Mounts:       in.mounts(),
		MemoryLimit:  max(h.Memory, 0),
	}
	if h.PidsLimit != nil {
		s.PidsLimit = max(*h.PidsLimit, 0) // -1 is another way to say none
	}
	return s
}

// healthCheck is the command of the health check as the engine runs it.
func (in inspection) healthCheck() []string {
	c := in.Config.Healthcheck
	if c == nil || len(c.Test) < 2 {
		return nil // there is none, or the image's is switched off: NONE
	}
	words := c.Test[1:]
	switch c.Test[0] {
	case "CMD":
	case "CMD-SHELL":
		shell := in.Config.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		words = append(slices.Clone(shell), words...)
	default:
		return nil
	}
	return command(words[0], words[1:])
}

// capabilities brings the spellings that engines accept and return ("net_admin",
// "CAP_NET_ADMIN") into the one that Castellan uses: NET_ADMIN.
func capabilities(words []string) []string {
	out := cleanAll(words)
	for i, w := range out {
		out[i] = strings.TrimPrefix(strings.ToUpper(w), "CAP_")
	}
	return out
}

func (n networkSettings) addresses() []netip.Addr {
	var out []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(n.Networks)) {
		for _, text := range []string{n.Networks[name].IPAddress, n.Networks[name].GlobalIPv6Address} {
			if a, err := netip.ParseAddr(text); err == nil && len(out) < maxAddresses {
				out = append(out, a.WithZone(""))
			}
		}
	}
	return out
}

// ports lists what is exposed and where it is published.
func (in inspection) ports() []asset.Port {
	var out []asset.Port
	for spec := range in.Config.ExposedPorts {
		if _, told := in.NetworkSettings.Ports[spec]; told {
			continue
		}
		if p, ok := parsePort(spec); ok {
			out = append(out, p)
		}
	}
	for spec, bindings := range in.NetworkSettings.Ports {
		p, ok := parsePort(spec)
		if !ok {
			continue
		}
		if len(bindings) == 0 {
			out = append(out, p)
		}
		for _, b := range bindings {
			number, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil {
				continue
			}
			published := p
			published.HostPort = uint16(number)
			if a, err := netip.ParseAddr(b.HostIp); err == nil {
				published.HostAddr = a.WithZone("")
			}
			out = append(out, published)
		}
	}
	slices.SortFunc(out, func(a, b asset.Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol),
			a.HostAddr.Compare(b.HostAddr), cmp.Compare(a.HostPort, b.HostPort))
	})
	return out[:min(len(out), maxPorts)]
}

// parsePort reads "8080/tcp"; without a protocol it is tcp.
func parsePort(spec string) (asset.Port, bool) {
	number, protocol, _ := strings.Cut(spec, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return asset.Port{}, false
	}
	switch protocol {
	case "":
		protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return asset.Port{}, false
	}
	return asset.Port{Protocol: protocol, Port: uint16(n)}, true
}

// mounts lists bind mounts, volumes and both ways of asking for a tmpfs.
func (in inspection) mounts() []asset.Mount {
	var out []asset.Mount
	for _, m := range in.Mounts {
		out = append(out, asset.Mount{
			Kind:     clean(m.Type, maxText),
			Source:   clean(m.Source, maxText),
			Target:   clean(m.Destination, maxText),
			ReadOnly: !m.RW,
		})
	}
	for target, options := range in.HostConfig.Tmpfs {
		out = append(out, asset.Mount{
			Kind:     "tmpfs",
			Target:   clean(target, maxText),
			ReadOnly: slices.Contains(strings.Split(options, ","), "ro"),
		})
	}
	slices.SortFunc(out, func(a, b asset.Mount) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Source, b.Source))
	})
	return out[:min(len(out), maxMounts)]
}
