package learn

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// runtimes are the programs of engines that start containers and adopt what has lost
// its parent. They run on the host; a container that has a program of such a name
// has to be permitted to run it first.
var runtimes = []string{"containerd-shim", "containerd-shim-runc-v1", "containerd-shim-runc-v2", "docker-containerd-shim", "runc", "crun", "conmon"}

// Engine reports whether an exec is the container's start, or comes from outside,
// and not from one of its own programs.
func Engine(e *event.Event) bool {
	switch {
	case e.Exec == nil:
		return false
	case e.Exec.Entered || e.Process.ContainerPID == 1:
		return true
	case len(e.Exec.Ancestors) == 0:
		return e.Process.Parent.IsZero()
	}
	// Where containers share a pid namespace with each other or the host, the first
	// process is not number 1.
	a := e.Exec.Ancestors[0]
	if a.Executable != "" {
		return slices.Contains(runtimes, path.Base(a.Executable))
	}
	return slices.Contains(runtimes, a.Name)
}

// Parent is the program that started another, "" for the engine, and whether that is
// known.
func Parent(e *event.Event) (string, bool) {
	switch {
	case Engine(e):
		return "", true
	case len(e.Exec.Ancestors) > 0 && clean(e.Exec.Ancestors[0].Executable):
		return e.Exec.Ancestors[0].Executable, true
	}
	return "", false
}

// setUp are the paths that the runtime has on hosts. It works within the container's
// cgroup before the container's program runs: mounts, devices, settings.
var setUp = []string{"/usr/sbin/runc", "/usr/bin/runc", "/usr/local/bin/runc", "/usr/local/sbin/runc", "/usr/bin/crun", "/usr/sbin/crun", "/usr/local/bin/crun"}

// bySetUp reports whether something was done by the runtime. Its program is a sealed
// copy without a name, or lies on the host. A program of such a name within a
// container would have been told of when it ran.
func bySetUp(e *event.Event) bool {
	if e.Exec != nil {
		return e.Exec.Origin == event.OriginHost
	}
	p := e.Process.Executable
	return p == "/" || strings.HasPrefix(p, "/memfd:runc_cloned:") || slices.Contains(setUp, p)
}

// namedAsSetUp reports whether something was done by who is called what runc calls its
// stages. An agent that starts while the runtime is at work may take its program for the
// container's, which comes after it. That is a reason to learn nothing, and none to call it
// normal: anybody may take the name.
func namedAsSetUp(e *event.Event) bool {
	return e.Exec == nil && strings.HasPrefix(e.Process.Name, "runc:[")
}
