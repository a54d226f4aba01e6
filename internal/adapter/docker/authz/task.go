package authz

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// maxText bounds a text of a request, and maxList a list in it. Bodies are
	// bounded as a whole; this keeps what is stored of them small.
	maxText = 4096
	maxList = 512
	// perCPU is how many units of ECS one processor has.
	perCPU, nano = 1024, 1_000_000_000
)

// bounded is text that is fit to keep. What is longer than any real one ends in
// "…", so that it equals nothing.
func bounded(s string) string {
	const mark = "…"
	if len(s) > maxText {
		s = untrusted.Clip(s, maxText-len(mark)) + mark
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// short is text in a message.
func short(s string) string {
	const longest = 80
	return untrusted.Text(untrusted.Clip(s, longest))
}

func boundedAll(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, bounded(s))
	}
	return out
}

// checkSizes refuses what has more entries than any container: nothing of a
// request may fall off the end of what is decided.
func checkSizes(h *hostConfig, c *containerConfig) error {
	bindings := 0
	for _, list := range h.PortBindings {
		bindings += max(len(list), 1)
	}
	if len(c.Env) > maxVariables {
		return refused("set fewer", "Env has more than %d entries", maxVariables)
	}
	for name, n := range map[string]int{
		"Binds": len(h.Binds), "Mounts": len(h.Mounts), "VolumesFrom": len(h.VolumesFrom), "Tmpfs": len(h.Tmpfs),
		"Devices": len(h.Devices), "DeviceCgroupRules": len(h.DeviceCgroupRules), "DeviceRequests": len(h.DeviceRequests),
		"CapAdd": len(h.CapAdd), "CapDrop": len(h.CapDrop), "SecurityOpt": len(h.SecurityOpt), "Sysctls": len(h.Sysctls),
		"PortBindings": bindings, "ExposedPorts": len(c.ExposedPorts), "GroupAdd": len(h.GroupAdd), "Links": len(h.Links), "ExtraHosts": len(h.ExtraHosts),
		"Annotations": len(h.Annotations), "StorageOpt": len(h.StorageOpt), "LogConfig": len(h.LogConfig.Config), "Labels": len(c.Labels), "Volumes": len(c.Volumes), "Ulimits": len(h.Ulimits),
	} {
		if n > maxList {
			return refused("ask for fewer", "%s has more than %d entries", name, maxList)
		}
	}
	return nil
}

// describe makes a container of what is asked for, or of what the engine says of
// one, but for its image and its mounts.
func describe(name string, c *containerConfig, h *hostConfig) admission.Container {
	out := admission.Container{
		Name:         bounded(cmp.Or(c.Labels[labelContainer], strings.TrimPrefix(name, "/"), c.Image)),
		Essential:    true,
		Privileged:   h.Privileged,
		User:         bounded(c.User),
		ReadOnlyRoot: h.ReadonlyRootfs,
		Entrypoint:   boundedAll(c.Entrypoint),
		Command:      boundedAll(c.Cmd),
		CapAdd:       capabilities(append(slices.Clone(h.CapAdd), h.Capabilities...)),
		CapDrop:      capabilities(h.CapDrop),
		SecurityOpt:  securityOptions(h),
		Devices:      devices(&h.resources),
		Ports:        ports(c, h),
		Env:          variables(c.Env),
		Labels:       boundedMap(c.Labels),
		Sysctls:      boundedMap(h.Sysctls),
		Network:      h.NetworkMode,
		PID:          bounded(h.PidMode),
		IPC:          bounded(h.IpcMode),
		UTS:          bounded(h.UTSMode),
		UserNS:       bounded(h.UsernsMode),
		Cgroup:       bounded(h.CgroupnsMode),
		Runtime:      bounded(h.Runtime),
		Log:          bounded(h.LogConfig.Type),
		Health:       c.Healthcheck != nil && len(c.Healthcheck.Test) > 0 && c.Healthcheck.Test[0] != "NONE",
		From:         boundedAll(h.VolumesFrom),
	}
	if out.Network == "default" {
		out.Network = "bridge"
	}
	limits(&out, &h.resources)
	return out
}

// limits sets what a container may use.
func limits(out *admission.Container, r *resources) {
	out.Parent = bounded(r.CgroupParent)
	out.MemoryBytes = r.Memory
	switch {
	case r.CPUShares != 0:
		out.CPUUnits = r.CPUShares
	case r.NanoCPUs != 0:
		out.CPUUnits = r.NanoCPUs / (nano / perCPU)
	case r.CPUQuota > 0 && r.CPUPeriod > 0:
		out.CPUUnits = int64(float64(r.CPUQuota) / float64(r.CPUPeriod) * perCPU)
	}
	if r.PidsLimit != nil {
		out.PidsLimit = max(*r.PidsLimit, 0)
	}
	for _, u := range r.Ulimits {
		if out.Ulimits == nil {
			out.Ulimits = map[string]int64{}
		}
		out.Ulimits[bounded(u.Name)] = u.Hard
	}
}

func boundedMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[bounded(k)] = bounded(v)
	}
	return out
}

// capabilities writes capabilities in one form: upper case, without CAP_.
func capabilities(list []string) []string {
	var out []string
	for _, c := range list {
		c = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(c)), "CAP_")
		if c != "" && !slices.Contains(out, bounded(c)) {
			out = append(out, bounded(c))
		}
	}
	slices.Sort(out)
	return out
}

// devices are what of the host's devices is asked for, however it is asked.
func devices(r *resources) []string {
	var out []string
	for _, d := range r.Devices {
		out = append(out, bounded(d.PathOnHost))
	}
	out = append(out, boundedAll(r.DeviceCgroupRules)...)
	for _, q := range r.DeviceRequests {
		words := []string{cmp.Or(q.Driver, "any")}
		for _, c := range q.Capabilities {
			words = append(words, strings.Join(c, "+"))
		}
		words = append(words, q.DeviceIDs...)
		out = append(out, bounded("request:"+strings.Join(words, ",")))
	}
	return out
}

// ports are those that are open to others, in the order of their numbers: those
// that are bound and, where that is asked for, all that the container exposes.
func ports(c *containerConfig, h *hostConfig) []admission.Port {
	var out []admission.Port
	for key := range c.ExposedPorts {
		if h.PublishAllPorts && len(h.PortBindings[key]) == 0 {
			number, protocol, _ := strings.Cut(key, "/")
			out = append(out, admission.Port{Container: port(number), Protocol: bounded(cmp.Or(protocol, "tcp"))})
		}
	}
	for key, list := range h.PortBindings {
		number, protocol, _ := strings.Cut(key, "/")
		for _, b := range list {
			out = append(out, admission.Port{
				Container: port(number), Host: port(b.HostPort), Address: bounded(b.HostIP), Protocol: bounded(cmp.Or(protocol, "tcp")),
			})
		}
	}
	slices.SortFunc(out, func(a, b admission.Port) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Address, b.Address))
	})
	return out
}

// port is the first of a range, which is how several are written.
func port(s string) uint16 {
	first, _, _ := strings.Cut(s, "-")
	n, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	if err != nil {
		return 0 // whichever is free
	}
	return uint16(n)
}

// others are settings that have no word of their own in a request.
func others(c *containerConfig, h *hostConfig) map[string]string {
	out := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			out["HostConfig."+name] = bounded(value)
		}
	}
	set("GroupAdd", strings.Join(h.GroupAdd, ","))
	set("Links", strings.Join(h.Links, ","))
	set("ExtraHosts", strings.Join(h.ExtraHosts, ","))
	set("VolumeDriver", h.VolumeDriver)
	if h.OomScoreAdj != 0 {
		set("OomScoreAdj", strconv.FormatInt(h.OomScoreAdj, 10))
	}
	if h.PublishAllPorts {
		set("PublishAllPorts", "true")
	}
	if h.RestartPolicy != nil && h.RestartPolicy.Name != "no" {
		set("RestartPolicy", h.RestartPolicy.Name)
	}
	for group, m := range map[string]map[string]string{"Annotations": h.Annotations, "StorageOpt": h.StorageOpt, "LogConfig": h.LogConfig.Config} {
		for _, k := range slices.Sorted(maps.Keys(m))[:min(len(m), maxList)] {
			value := m[k]
			if mayBeSecret(k, value) {
				value = ""
			}
			out[bounded("HostConfig."+group+"."+k)] = bounded(value)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
