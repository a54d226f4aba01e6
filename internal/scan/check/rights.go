package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// rights are checks about what a container may do to its host's kernel.
func rights() []Check {
	return []Check{
		{ID: "CAST-TASK-001", Title: "Container is privileged", Severity: finding.High,
			Why:    "A privileged container has all capabilities, all devices and no seccomp or AppArmor profile: whoever takes it over owns the host and every other task on it.",
			Remedy: "Remove privileged, and give the container only the capabilities and devices that it needs.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.4"}, CIS: []string{"Docker 1.6 5.5"},
				Prowler: []string{"ecs_task_definitions_no_privileged_containers"}, Checkov: []string{"CKV_AWS_334"}},
			find: containers(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				if blueprint.IsTrue(c.Privileged) {
					hits(hit{at: c.Privileged.At, evidence: "privileged is true"})
				}
			})},
		{ID: "CAST-TASK-005", Title: "Capability that leads to the host is added", Severity: finding.High,
			Why:       "With such a capability a process can load code into the kernel, trace or read what is not its own, or rearrange the host's networks: the container is no longer a boundary.",
			Remedy:    "Drop ALL capabilities, and add only those that the program is known to need.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.4"}},
			find:      linux(addedCapabilities(true))},
		{ID: "CAST-TASK-006", Title: "Capability beyond the usual ones is added", Severity: finding.Medium,
			Why:       "Every capability beyond those of the engine's default widens what a taken-over process can do.",
			Remedy:    "Remove it, unless the program is known to need it.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.4"}},
			find:      linux(addedCapabilities(false))},
		{ID: "CAST-TASK-007", Title: "Capabilities are not dropped", Severity: finding.Negligible,
			Why:       "The engine's default leaves fourteen capabilities, such as that to write raw packets or to change owners; few programs need any.",
			Remedy:    "Drop ALL in linuxParameters.capabilities (cap_drop in a compose file), and add back what is needed.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.4"}},
			find: linux(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				if c.DropCapabilities.Is == blueprint.Unknown || blueprint.IsTrue(c.Privileged) || slices.ContainsFunc(c.DropCapabilities.V, func(t blueprint.Text) bool { return !t.Known() || capability(t.V) == "ALL" }) {
					return
				}
				evidence := "no capability is dropped"
				if len(c.DropCapabilities.V) > 0 {
					evidence = "only some capabilities are dropped"
				}
				hits(hit{at: c.At.Head(), evidence: evidence})
			})},
		{ID: "CAST-TASK-026", Title: "Processes may gain privileges", Severity: finding.Low,
			Why:       "Without no-new-privileges a set-uid program in the image, such as su, turns a foothold as an ordinary user into root.",
			Remedy:    "Add no-new-privileges to dockerSecurityOptions (security_opt in a compose file).",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.26"}},
			find: linux(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if fargatePossible(t) || c.SecurityOptions.Is == blueprint.Unknown || blueprint.IsTrue(c.Privileged) {
					return // Fargate does not take the option
				}
				if !slices.ContainsFunc(c.SecurityOptions.V, func(o blueprint.Text) bool {
					return !o.Known() || strings.HasPrefix(o.V, "no-new-privileges") && !strings.HasSuffix(o.V, "false")
				}) {
					hits(hit{at: c.At.Head(), evidence: "no-new-privileges is not set"})
				}
			})},
		{ID: "CAST-TASK-027", Title: "Kernel confinement is switched off", Severity: finding.High,
			Why:       "The default seccomp and AppArmor profiles keep containers from some fifty system calls and from the kernel's control files, which most escapes need.",
			Remedy:    "Remove the unconfined option, or name a profile that permits what is needed.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.2", "Docker 1.6 5.22"}},
			find: containers(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				for _, o := range c.SecurityOptions.V {
					if o.Known() && asset.Unconfined(o.V) {
						hits(hit{at: o.At, subject: o.V, evidence: o.V})
					}
				}
			})},
		{ID: "CAST-TASK-030", Title: "Device of the host is passed in", Severity: finding.Medium,
			Why:       "A process that can open a device talks to the host's driver directly; with a disk it reads and writes every file of the host.",
			Remedy:    "Remove the device, or use a resource requirement (GPU, inference accelerator) where one exists.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.18"}},
			find: linux(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				for _, d := range c.Devices.V {
					if d.Known() && !harmlessDevice(d.V) {
						hits(hit{at: d.At, subject: d.V, evidence: "device " + d.V})
					}
				}
			})},
	}
}

// harmlessDevice names devices that many need and that lead nowhere.
func harmlessDevice(p string) bool {
	return slices.Contains([]string{"/dev/fuse", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/snd", "/dev/dri", "/dev/net/tun"}, p) || strings.HasPrefix(p, "/dev/nvidia") || strings.HasPrefix(p, "/dev/neuron")
}

// fargatePossible says that the task runs on Fargate alone, or on both.
func fargatePossible(t *blueprint.Task) bool {
	if t.Compatible.Is == blueprint.Unknown {
		return true
	}
	return slices.ContainsFunc(t.Compatible.V, func(c blueprint.Text) bool { return !c.Known() || blueprint.Is(c, "FARGATE") })
}

func capability(s string) string { return strings.TrimPrefix(strings.ToUpper(s), "CAP_") }

func addedCapabilities(graveOnes bool) func(*blueprint.Task, *blueprint.Container, report) {
	return func(t *blueprint.Task, c *blueprint.Container, hits report) {
		for _, a := range c.AddCapabilities.V {
			name := capability(a.V)
			// The one capability that Fargate permits reaches the task's own
			// processes alone: each task there has a kernel of its own.
			confined := name == "SYS_PTRACE" && t.OnlyFargate()
			if !a.Known() || event.IsOfContainers(name) || (event.LeadsToHost(name) && !confined) != graveOnes {
				continue
			}
			h := hit{at: a.At, subject: name, evidence: fmt.Sprintf("capability %s is added", name)}
			if confined {
				h.severity, h.evidence = finding.Low, h.evidence+"; on Fargate it reaches the task's own processes"
			}
			hits(h)
		}
	}
}
