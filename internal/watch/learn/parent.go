package learn

import (
	"path"
	"slices"

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
