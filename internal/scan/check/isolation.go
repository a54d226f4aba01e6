package check

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// isolation are checks about what of the host is shared with a task.
func isolation() []Check {
	return []Check{
		{ID: "CAST-TASK-002", Title: "Task uses the host's network", Severity: finding.Medium,
			Why:       "The task reaches everything that listens on the host's loopback, the agent's introspection and the instance's metadata with its role, and can take ports from other tasks.",
			Remedy:    "Use the network mode awsvpc; in a compose file, a network of its own.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.17"}, CIS: []string{"Docker 1.6 5.10"}},
			find: tasks(func(t *blueprint.Task, hits report) {
				if blueprint.Is(t.Network, "host") {
					hits(hit{at: t.Network.At, evidence: "network mode host"})
				}
			})},
		{ID: "CAST-TASK-003", Title: "Task shares the host's processes", Severity: finding.High,
			Why:    "The task sees every process of the host with its arguments and, as root, can signal, trace and enter them.",
			Remedy: "Remove pidMode, or set it to task for containers that must see one another.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.3"}, CIS: []string{"Docker 1.6 5.16"},
				Prowler: []string{"ecs_task_definitions_host_namespace_not_shared"}, Checkov: []string{"CKV_AWS_335"}},
			find: tasks(func(t *blueprint.Task, hits report) {
				if blueprint.Is(t.PID, "host") {
					hits(hit{at: t.PID.At, evidence: "process mode host"})
				}
			})},
		{ID: "CAST-TASK-004", Title: "Task shares the host's memory segments", Severity: finding.Medium,
			Why:       "Processes of the host and of other such tasks can be read and disturbed through shared memory and semaphores.",
			Remedy:    "Remove ipcMode, or set it to task.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.17"}},
			find: tasks(func(t *blueprint.Task, hits report) {
				if blueprint.Is(t.IPC, "host") {
					hits(hit{at: t.IPC.At, evidence: "IPC mode host"})
				}
			})},
	}
}

// hostFolders are checks about what of the host is mounted.
func hostFolders() []Check {
	return []Check{
		{ID: "CAST-TASK-008", Title: "Folder that rules the host is mounted", Severity: finding.High,
			Why:       "Through such a folder a container reads the host's secrets and other containers' files, or writes what the host will execute.",
			Remedy:    "Mount the one file or folder that is needed, read-only, or use a volume.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.6"}},
			find: hostPaths(func(_ *blueprint.Task, p string, m mounted, hits report) {
				if !sensitive(p) || asset.EngineSocket(p) != "" {
					return
				}
				h := hit{at: m.at, subject: p, evidence: fmt.Sprintf("%s of the host is mounted", p)}
				if m.readOnly {
					h.severity, h.evidence = finding.Medium, h.evidence+", read-only"
				}
				hits(h)
			})},
		{ID: "CAST-TASK-009", Title: "Folder of the host is mounted", Severity: finding.Low,
			Why:       "What is in it outlives the task, is shared with whatever else runs on the instance, and binds the task to that instance.",
			Remedy:    "Use a volume of the engine's, EFS or EBS.",
			Elsewhere: finding.Elsewhere{},
			find: hostPaths(func(t *blueprint.Task, p string, m mounted, hits report) {
				if t.Origin == blueprint.Compose || sensitive(p) || asset.EngineSocket(p) != "" || asset.Harmless(p) {
					return
				}
				hits(hit{at: m.at, subject: p, evidence: fmt.Sprintf("%s of the host is mounted", p)})
			})},
		{ID: "CAST-TASK-010", Title: "Socket of the container engine is mounted", Severity: finding.Critical,
			Why:       "Whoever can write to the socket starts privileged containers: it is root on the host, read-only mount or not.",
			Remedy:    "Remove the mount; what needs to know of containers asks the task metadata endpoint, or a proxy that permits reading alone.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.32"}},
			find: hostPaths(func(_ *blueprint.Task, p string, m mounted, hits report) {
				if name := asset.EngineSocket(p); name != "" {
					hits(hit{at: m.at, subject: p, evidence: fmt.Sprintf("%s, the socket of %s, is mounted", p, name)})
				}
			})},
	}
}

// openings are checks about names and ports.
func openings() []Check {
	return []Check{
		{ID: "CAST-TASK-031", Title: "Names are resolved by hand", Severity: finding.Negligible,
			Why:    "Entries in /etc/hosts win over DNS, so that a name keeps its address when the service behind it moves, or leads elsewhere than a reader expects.",
			Remedy: "Use service discovery or a private hosted zone.",
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if t.Origin != blueprint.ECS {
					return
				}
				for _, h := range c.ExtraHosts {
					if h.Known() {
						hits(hit{at: h.At, subject: h.V, evidence: "extra host " + h.V})
					}
				}
			})},
		{ID: "CAST-TASK-034", Title: "Port of a remote shell or of the engine is open", Severity: finding.Medium,
			Why:       "A container needs no ssh: it is a second way in with keys of its own that no trail records. Port 2375 is an engine without any authentication.",
			Remedy:    "Remove the mapping, and use ECS Exec with logging.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.7", "Docker 1.6 5.9"}},
			find: containers(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				for _, p := range c.Ports {
					switch {
					case remoteShell(p.Container):
						hits(hit{at: p.At, subject: fmt.Sprintf("port %d", p.Container.V), evidence: fmt.Sprintf("port %d is mapped", p.Container.V)})
					case remoteShell(p.Host):
						hits(hit{at: p.At, subject: fmt.Sprintf("host port %d", p.Host.V), evidence: fmt.Sprintf("host port %d is mapped", p.Host.V)})
					}
				}
			})},
		{ID: "CAST-TASK-035", Title: "Privileged port of the host is taken", Severity: finding.Low,
			Why:       "Ports below 1024 are those of system services; a task that takes one stands in for it on the whole instance.",
			Remedy:    "Leave hostPort out behind a load balancer, or use the network mode awsvpc.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.8"}},
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if t.Origin != blueprint.ECS || !(t.Network.Absent() && !fargatePossible(t) || blueprint.Is(t.Network, "bridge", "host")) {
					return
				}
				for _, p := range c.Ports {
					if p.Host.Known() && p.Host.V > 0 && p.Host.V < 1024 && !remoteShell(p.Host) {
						hits(hit{at: p.At, subject: fmt.Sprintf("host port %d", p.Host.V), evidence: fmt.Sprintf("host port %d", p.Host.V)})
					}
				}
			})},
	}
}

// remoteShell says that a port is that of ssh, of telnet or of the engine.
func remoteShell(p blueprint.Number) bool {
	return p.Known() && slices.Contains([]int64{22, 23, 2375}, p.V)
}

// mounted is how a path of the host comes into a task.
type mounted struct {
	at       blueprint.Span
	readOnly bool
}

// hostPaths makes a finder of a function about one path of the host that is
// mounted, by a volume of the task or by a container.
func hostPaths(about func(*blueprint.Task, string, mounted, report)) finder {
	return func(d *blueprint.Document, in func(blueprint.Resource, *blueprint.Container) report) {
		for i := range d.Tasks {
			t := &d.Tasks[i]
			for _, v := range t.Volumes {
				if p := hostPath(v.HostPath); p != "" {
					about(t, p, mounted{at: v.HostPath.At, readOnly: mountedReadOnly(t, v.Name)}, in(t.Resource, nil))
				}
			}
			for k := range t.Containers {
				for _, m := range t.Containers[k].Mounts {
					if p := hostPath(m.Host); p != "" {
						about(t, p, mounted{at: m.Host.At, readOnly: blueprint.IsTrue(m.ReadOnly)}, in(t.Resource, &t.Containers[k]))
					}
				}
			}
		}
	}
}

func hostPath(p blueprint.Text) string {
	if !p.Known() || !strings.HasPrefix(p.V, "/") {
		return ""
	}
	return path.Clean(p.V)
}

// mountedReadOnly says that every container that mounts a volume only reads it.
func mountedReadOnly(t *blueprint.Task, volume blueprint.Text) bool {
	mounts := 0
	for i := range t.Containers {
		for _, m := range t.Containers[i].Mounts {
			if !m.Volume.Known() || m.Volume.V != volume.V {
				continue
			}
			if mounts++; !blueprint.IsTrue(m.ReadOnly) {
				return false
			}
		}
	}
	return mounts > 0
}

// sensitive says that a folder of the host holds what rules it, or is one where other
// disks are.
func sensitive(p string) bool {
	return asset.RulesHost(p) || asset.BelowRuling(p) || p == "/mnt" || p == "/media"
}
