package scan

import (
	"maps"
	"slices"
	"strconv"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/check"
)

// maxEngineText bounds the texts of a request's containers in which secrets are
// looked for: an engine takes 1 MiB of a container, and its image may add some.
const maxEngineText = 2 << 20

// JudgeContainers says of containers that an engine is asked for, or has, what the
// scanner says of a task: r.Faults. Values of variables and of commands that it
// takes for secrets it leaves out, so r is to have them all before. Where there is
// too much to look at, it is not known what is wrong, and all are left out. Secrets
// in variables of a task of ECS are no faults here: they may be there by its secrets.
func JudgeContainers(r *admission.Request) {
	if len(r.Task.Containers) == 0 {
		return
	}
	if engineText(r) > maxEngineText {
		for i := range r.Task.Containers {
			c := &r.Task.Containers[i]
			for k := range c.Env {
				c.Env[k].Value = ""
			}
			c.Entrypoint, c.Command = firstWord(c.Entrypoint), firstWord(c.Command)
		}
		return
	}
	var d blueprint.Document
	for i := range r.Task.Containers {
		d.Tasks = append(d.Tasks, engineTask(&r.Task.Containers[i]))
	}
	for _, f := range check.Run(&d) {
		f.Print(0)
		r.Faults = append(r.Faults, f.Misconfiguration)
	}
	r.FaultsKnown = true
	quiet(r)
	if r.Task.ARN != "" {
		// The ECS agent hands over what a task gets from Secrets Manager as variables,
		// as it does with what stands in the definition: only that tells them apart.
		r.Faults = slices.DeleteFunc(r.Faults, func(f finding.Misconfiguration) bool { return f.Check == secretInEnvironment })
	}
}

func engineText(r *admission.Request) (n int) {
	for i := range r.Task.Containers {
		c := &r.Task.Containers[i]
		for k := range c.Env {
			n += len(c.Env[k].Name) + len(c.Env[k].Value)
		}
		for _, list := range [][]string{c.Entrypoint, c.Command} {
			for _, word := range list {
				n += len(word)
			}
		}
	}
	return n
}

// engineTask makes a task of one container. All of it is known, and of no file.
func engineTask(c *admission.Container) blueprint.Task {
	t := blueprint.Task{Resource: blueprint.Resource{Name: "container " + c.Name}, Origin: blueprint.Engine,
		Compatible: said([]string{"EC2"}), Network: set(c.Network), PID: set(c.PID), IPC: set(c.IPC)}
	out := blueprint.Container{
		Name: set(c.Name), Image: set(c.Image.Reference), Privileged: truth(c.Privileged), User: set(c.User), ReadOnlyRoot: truth(c.ReadOnlyRoot),
		AddCapabilities: said(c.CapAdd), DropCapabilities: said(c.CapDrop), Devices: said(c.Devices), SecurityOptions: said(c.SecurityOpt),
		Entrypoint: said(c.Entrypoint), Command: said(c.Command), From: said(c.From),
		UTS: set(c.UTS), UserNS: set(c.UserNS), Cgroup: set(c.Cgroup), Parent: set(c.Parent), Runtime: set(c.Runtime),
	}
	if c.MemoryBytes > 0 {
		out.Memory = set(strconv.FormatInt(c.MemoryBytes, 10))
	}
	if c.CPUUnits > 0 {
		out.CPU = set(strconv.FormatInt(c.CPUUnits, 10))
	}
	if c.Log != "" {
		out.Log = blueprint.Log{Is: blueprint.Known, Driver: set(c.Log)}
	}
	if c.Health {
		out.Health = blueprint.Known
	}
	for i := range c.Env {
		out.Environment = append(out.Environment, blueprint.Variable{Name: set(c.Env[i].Name), Value: set(c.Env[i].Value)})
	}
	for _, p := range c.Ports {
		out.Ports = append(out.Ports, blueprint.Port{Container: number(int64(p.Container)), Host: number(int64(p.Host))})
	}
	for _, m := range c.Mounts {
		switch at := (blueprint.Mount{Path: set(m.Target), ReadOnly: truth(m.ReadOnly), Propagation: set(m.Propagation)}); m.Kind {
		case "bind":
			at.Host = set(m.Source)
			out.Mounts = append(out.Mounts, at)
		case "volume":
			at.Volume = set(m.Source)
			out.Mounts = append(out.Mounts, at)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sysctls)) {
		out.Sysctls = append(out.Sysctls, blueprint.Variable{Name: set(name), Value: set(c.Sysctls[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Ulimits)) {
		out.Ulimits = append(out.Ulimits, blueprint.Ulimit{Name: set(name), Hard: number(c.Ulimits[name])})
	}
	t.Containers = []blueprint.Container{out}
	return t
}

// set is a text that is known; an empty one is not there.
func set(s string) blueprint.Text {
	if s == "" {
		return blueprint.Text{}
	}
	return blueprint.KnownText(s, blueprint.Span{})
}

func truth(b bool) blueprint.Bool { return blueprint.Bool{V: b, Is: blueprint.Known} }

func number(n int64) blueprint.Number { return blueprint.Number{V: n, Is: blueprint.Known} }

func said(list []string) blueprint.Texts {
	if len(list) == 0 {
		return blueprint.Texts{}
	}
	out := blueprint.Texts{Is: blueprint.Known}
	for _, s := range list {
		out.V = append(out.V, blueprint.KnownText(s, blueprint.Span{}))
	}
	return out
}
