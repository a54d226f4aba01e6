package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// containment are checks about what holds a container that was taken over.
func containment() []Check {
	return []Check{
		{ID: "CAST-TASK-011", Title: "Container runs as root", Severity: finding.Medium,
			Why:       "Root in the container is root to the kernel: every escape, mount and capability is worth more to it.",
			Remedy:    "Set user to a number above 0 that the image is made for.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.20"}, CIS: []string{"Docker 1.6 4.1"}},
			find: linux(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				if c.User.Known() && asset.NamesRoot(c.User.V) {
					hits(hit{at: c.User.At, evidence: fmt.Sprintf("user is %q", c.User.V)})
				}
			})},
		{ID: "CAST-TASK-039", Title: "Windows container runs as administrator", Severity: finding.Medium,
			Why:       "ContainerAdministrator may change every file and service of the container and reads all of its secrets; most programs need neither.",
			Remedy:    "Set user to ContainerUser, or to a user that the image has.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.21"}},
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if t.Windows() && blueprint.Is(c.User, "ContainerAdministrator", "Administrator") {
					hits(hit{at: c.User.At, evidence: fmt.Sprintf("user is %q", c.User.V)})
				}
			})},
		{ID: "CAST-TASK-012", Title: "User is left to the image", Severity: finding.Low,
			Why:       "Most images run as root unless they are told otherwise, and an update of the image can bring that back without anybody noticing.",
			Remedy:    "Set user to a number above 0 that the image is made for.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.20"}, CIS: []string{"Docker 1.6 4.1"}},
			find: linux(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				if c.User.Absent() || c.User.Known() && c.User.V == "" {
					hits(hit{at: c.At.Head(), evidence: "user is not set"})
				}
			})},
		{ID: "CAST-TASK-013", Title: "Root file system is writable", Severity: finding.Low,
			Why:    "Whoever takes the process over can change programs and libraries and leave tools behind.",
			Remedy: "Set readonlyRootFilesystem to true (read_only in a compose file), and mount volumes or tmpfs where the program writes.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.5"}, CIS: []string{"Docker 1.6 5.13"},
				Prowler: []string{"ecs_task_definitions_containers_readonly_access"}, Checkov: []string{"CKV_AWS_336"}},
			find: linux(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				switch {
				case blueprint.IsFalse(c.ReadOnlyRoot):
					hits(hit{at: c.ReadOnlyRoot.At, evidence: "readonlyRootFilesystem is false"})
				case c.ReadOnlyRoot.Absent():
					hits(hit{at: c.At.Head(), evidence: "readonlyRootFilesystem is not set"})
				}
			})},
	}
}

// bounds are checks about what a container may use up.
func bounds() []Check {
	return []Check{
		{ID: "CAST-TASK-014", Title: "Memory is not limited", Severity: finding.Medium,
			Why:       "One container that leaks takes the memory of the instance, and the kernel then kills whatever it likes.",
			Remedy:    "Set memory for the container or the task (mem_limit or deploy.resources.limits.memory in a compose file).",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.11"}},
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if !c.Memory.Absent() || !t.Memory.Absent() {
					return
				}
				evidence := "neither the container nor the task has a memory limit"
				if c.SoftMemory.Known() {
					evidence = "memoryReservation is a wish, not a limit"
				}
				h := hit{at: c.At.Head(), evidence: evidence}
				if t.Origin == blueprint.Compose {
					h.severity = finding.Low // it is a developer's machine as a rule
				}
				hits(h)
			})},
		{ID: "CAST-TASK-015", Title: "CPU is not shared out", Severity: finding.Negligible,
			Why:       "Without a share the container has the least weight on a busy instance, and on an idle one takes what it gets.",
			Remedy:    "Set cpu for the container or the task (cpus in a compose file).",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.12"}},
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if c.CPU.Absent() && t.CPU.Absent() {
					hits(hit{at: c.At.Head(), evidence: "neither the container nor the task has cpu"})
				}
			})},
		{ID: "CAST-TASK-028", Title: "No init process", Severity: finding.Negligible,
			Why:    "A program that does not expect to be process 1 neither ends on SIGTERM nor takes leave of its children: deployments wait for the timeout, and zombies fill the table. ECS Exec leaves such children.",
			Remedy: "Set linuxParameters.initProcessEnabled to true (init in a compose file).",
			find: linux(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if t.Origin == blueprint.ECS && (c.Init.Absent() || blueprint.IsFalse(c.Init)) && !namesInit(c) {
					hits(hit{at: c.At.Head(), evidence: "initProcessEnabled is not true"})
				}
			})},
		{ID: "CAST-TASK-032", Title: "Limit of the kernel is lifted", Severity: finding.Low,
			Why:       "Without a limit on processes or core files one container can exhaust the whole instance's.",
			Remedy:    "Give the limit a number that the program needs.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.19"}},
			find: linux(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				for _, u := range c.Ulimits {
					if blueprint.Is(u.Name, "nproc", "core", "fsize", "nofile", "sigpending", "msgqueue") && u.Hard.Known() && u.Hard.V < 0 {
						hits(hit{at: u.At, subject: u.Name.V, evidence: u.Name.V + " is unlimited"})
					}
				}
			})},
		{ID: "CAST-TASK-033", Title: "File system in memory permits programs", Severity: finding.Low,
			Why:    "A writable place from which programs may run, or be set-uid, is where an attacker's tools go; it leaves no trace when the task ends.",
			Remedy: "Leave the options out, or give noexec, nosuid and nodev.",
			find: linux(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				for _, m := range c.Tmpfs {
					for _, o := range m.Options.V {
						if blueprint.Is(o, "exec", "suid", "dev") {
							hits(hit{at: o.At, subject: m.Path.V + " " + o.V, evidence: fmt.Sprintf("tmpfs on %s with %s", m.Path.V, o.V)})
						}
					}
				}
			})},
	}
}

// namesInit says that the container starts an init program itself.
func namesInit(c *blueprint.Container) bool {
	for _, list := range []blueprint.Texts{c.Entrypoint, c.Command} {
		if list.Is == blueprint.Unknown {
			return true
		}
		if len(list.V) > 0 && list.V[0].Known() {
			base := list.V[0].V[strings.LastIndexByte(list.V[0].V, '/')+1:]
			if slices.Contains([]string{"tini", "dumb-init", "s6-svscan", "init", "runit"}, base) {
				return true
			}
		}
	}
	return false
}
