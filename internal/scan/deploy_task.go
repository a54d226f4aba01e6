package scan

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// writer makes the nouns of a request of those of a document, and notes what is
// unknown.
type writer struct{ unknown []string }

func (w *writer) text(v blueprint.Text, at string) string {
	if v.Is == blueprint.Unknown {
		w.unknown = append(w.unknown, at)
		return ""
	}
	return v.V
}

func (w *writer) flag(v blueprint.Bool, at string) bool {
	if v.Is == blueprint.Unknown {
		w.unknown = append(w.unknown, at)
	}
	return v.V
}

func (w *writer) number(v blueprint.Number, at string) int64 {
	if v.Is == blueprint.Unknown {
		w.unknown = append(w.unknown, at)
	}
	return v.V
}

// texts is a list; it is unknown if one of it is.
func (w *writer) texts(v blueprint.Texts, at string) []string {
	var out []string
	unknown := v.Is == blueprint.Unknown
	for _, t := range v.V {
		unknown = unknown || t.Is == blueprint.Unknown
		if t.Known() {
			out = append(out, t.V)
		}
	}
	if unknown {
		w.unknown = append(w.unknown, at)
	}
	return out
}

func (w *writer) task(to *admission.Task, t *blueprint.Task) {
	to.Family = w.text(t.Family, "task.family")
	to.Network, to.PID, to.IPC = w.text(t.Network, "task.network"), w.text(t.PID, "task.pid"), w.text(t.IPC, "task.ipc")
	switch {
	case t.OnlyFargate():
		to.Launch = "FARGATE"
	case t.Compatible.Is == blueprint.Unknown:
		w.unknown = append(w.unknown, "task.launch")
	}
	hosts := map[string]blueprint.Text{}
	for i := range t.Volumes {
		v := &t.Volumes[i]
		at := fmt.Sprintf("task.volumes[%d]", i)
		out := admission.Volume{Name: w.text(v.Name, at+".name"), Host: w.text(v.HostPath, at+".host"), Driver: w.text(v.Driver, at+".driver")}
		for _, o := range v.Options {
			if out.Options == nil {
				out.Options = map[string]string{}
			}
			out.Options[o.Name.V] = w.text(o.Value, at+".options")
		}
		hosts[v.Name.V] = v.HostPath
		to.Volumes = append(to.Volumes, out)
	}
	to.Containers = make([]admission.Container, len(t.Containers))
	for i := range t.Containers {
		at := fmt.Sprintf("task.containers[%d]", i)
		w.container(&to.Containers[i], &t.Containers[i], at, t.Origin)
		w.mounts(&to.Containers[i], &t.Containers[i], at, hosts)
		if c := &to.Containers[i]; c.MemoryBytes == 0 && !slices.Contains(w.unknown, at+".memory_bytes") {
			c.MemoryBytes = w.memory(t.Memory, at+".memory_bytes", t.Origin) // the task's limit is its containers'
		}
	}
}

func (w *writer) container(to *admission.Container, c *blueprint.Container, at string, origin blueprint.Origin) {
	to.Name = w.text(c.Name, at+".name")
	switch {
	case c.Image.Known():
		to.Image = admission.ParseImage(c.Image.V)
	case c.Built:
		to.Image = admission.Image{Reference: "built here"}
		w.unknown = append(w.unknown, at+".image")
	default:
		to.Image.Reference = c.Image.V // what is known of it
		w.unknown = append(w.unknown, at+".image")
	}
	to.Essential = w.flag(c.Essential, at+".essential") || c.Essential.Absent()
	to.Privileged = w.flag(c.Privileged, at+".privileged")
	to.User = w.text(c.User, at+".user")
	to.ReadOnlyRoot = w.flag(c.ReadOnlyRoot, at+".read_only_root")
	to.Entrypoint, to.Command = w.texts(c.Entrypoint, at+".entrypoint"), w.texts(c.Command, at+".command")
	to.CapAdd, to.CapDrop = w.texts(c.AddCapabilities, at+".cap_add"), w.texts(c.DropCapabilities, at+".cap_drop")
	for _, list := range [][]string{to.CapAdd, to.CapDrop} {
		for i := range list {
			list[i] = strings.TrimPrefix(strings.ToUpper(list[i]), "CAP_")
		}
	}
	to.SecurityOpt, to.Devices = w.texts(c.SecurityOptions, at+".security_opt"), w.texts(c.Devices, at+".devices")
	to.MemoryBytes, to.CPUUnits = w.memory(c.Memory, at+".memory_bytes", origin), w.cpu(c.CPU, at+".cpu_units", origin)
	to.PidsLimit = w.number(c.PidsLimit, at+".pids_limit")
	to.UTS, to.UserNS, to.Cgroup = w.text(c.UTS, at+".uts"), w.text(c.UserNS, at+".userns"), w.text(c.Cgroup, at+".cgroup")
	to.Parent, to.Runtime, to.From = w.text(c.Parent, at+".cgroup_parent"), w.text(c.Runtime, at+".runtime"), w.texts(c.From, at+".volumes_from")
	to.Log = w.text(c.Log.Driver, at+".log")
	if c.Health == blueprint.Unknown {
		w.unknown = append(w.unknown, at+".health")
	}
	to.Health = c.Health == blueprint.Known && !c.HealthDisabled
	to.Env, to.Secrets = w.variables(c.Environment, at+".env"), w.variables(c.Secrets, at+".secrets")
	if c.EnvironmentUnknown {
		w.unknown = append(w.unknown, at+".env")
	}
	for i := range c.Ports {
		p := fmt.Sprintf("%s.ports[%d]", at, i)
		to.Ports = append(to.Ports, admission.Port{Container: port(w.number(c.Ports[i].Container, p+".container")), Host: port(w.number(c.Ports[i].Host, p+".host"))})
	}
	for _, s := range c.Sysctls {
		if to.Sysctls == nil {
			to.Sysctls = map[string]string{}
		}
		to.Sysctls[s.Name.V] = w.text(s.Value, at+".sysctls")
	}
	for _, u := range c.Ulimits {
		if to.Ulimits == nil {
			to.Ulimits = map[string]int64{}
		}
		to.Ulimits[u.Name.V] = w.number(u.Hard, at+".ulimits")
	}
}

func port(n int64) uint16 {
	if n < 0 || n > math.MaxUint16 {
		return 0
	}
	return uint16(n)
}

func (w *writer) variables(all []blueprint.Variable, at string) []admission.Variable {
	var out []admission.Variable
	for i := range all {
		p := fmt.Sprintf("%s[%d]", at, i)
		out = append(out, admission.Variable{Name: w.text(all[i].Name, p+".name"), Value: w.text(all[i].Value, p+".value")})
	}
	return out
}

// mounts says of each mount what of the host it is, if it is of the host.
func (w *writer) mounts(to *admission.Container, c *blueprint.Container, at string, hosts map[string]blueprint.Text) {
	for i := range c.Mounts {
		m := &c.Mounts[i]
		p := fmt.Sprintf("%s.mounts[%d]", at, len(to.Mounts))
		out := admission.Mount{Kind: "volume", Target: w.text(m.Path, p+".target"), ReadOnly: w.flag(m.ReadOnly, p+".read_only"), Propagation: w.text(m.Propagation, p+".propagation")}
		host := m.Host
		if h, ok := hosts[m.Volume.V]; ok && host.Absent() {
			host = h
		}
		switch {
		case !host.Absent():
			out.Kind, out.Source = "bind", w.text(host, p+".source")
		case strings.HasPrefix(m.Volume.V, ".") || strings.HasPrefix(m.Volume.V, "~"):
			out.Kind, out.Source = "bind", m.Volume.V
		default:
			out.Source = w.text(m.Volume, p+".source")
			if m.Volume.Is == blueprint.Unknown {
				w.unknown = append(w.unknown, p+".kind") // it may be one of the host's
			}
		}
		to.Mounts = append(to.Mounts, out)
	}
	for i := range c.Tmpfs {
		p := fmt.Sprintf("%s.mounts[%d]", at, len(to.Mounts))
		to.Mounts = append(to.Mounts, admission.Mount{Kind: "tmpfs", Target: w.text(c.Tmpfs[i].Path, p+".target")})
	}
}

// memory reads MiB, as ECS counts, or a size with a unit, as compose files have.
func (w *writer) memory(v blueprint.Text, at string, origin blueprint.Origin) int64 {
	s := strings.ToLower(strings.TrimSpace(w.text(v, at)))
	if s == "" {
		return 0
	}
	unit := float64(1 << 20)
	if origin == blueprint.Compose {
		unit = 1
	}
	for _, u := range []struct {
		suffix string
		size   float64
	}{{"gb", 1 << 30}, {"g", 1 << 30}, {"mb", 1 << 20}, {"m", 1 << 20}, {"kb", 1 << 10}, {"k", 1 << 10}, {"b", 1}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if most := float64(math.MaxInt64 / 2); err != nil || !(n >= 0) || n*unit > most {
		w.unknown = append(w.unknown, at)
		return 0
	}
	return int64(n * unit)
}

// cpu reads units, as ECS counts, or processors.
func (w *writer) cpu(v blueprint.Text, at string, origin blueprint.Origin) int64 {
	const unitsOfOne = 1024
	s := w.text(v, at)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseFloat(s, 64)
	if origin == blueprint.Compose {
		n *= unitsOfOne
	}
	if err != nil || !(n >= 0) || n > math.MaxInt32 {
		w.unknown = append(w.unknown, at)
		return 0
	}
	return int64(n)
}
