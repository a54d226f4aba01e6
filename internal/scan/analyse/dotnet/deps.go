package dotnet

import (
	"errors"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// maxEdges bounds the dependencies between libraries that are kept; programs
// have some thousands.
const maxEdges = 1 << 18

// deployment is a *.deps.json file while it is read. Libraries are named
// "Name/1.0" in it.
type deployment struct {
	known   map[string]bool     // libraries of which the targets say what they bring
	brings  map[string]bool     // those that bring files
	parents map[string][]string // which libraries depend on one
	edges   int
	listed  []inventory.Package
}

// takeDeps reads a *.deps.json file: its targets say which files each library
// brings, its libraries what they are. A package that brings none, because the
// framework has the same in it, is not part of the program; one that only binds
// others together is, with them.
func takeDeps(r io.Reader, size int64, shown *analyse.Shown) error {
	d := deployment{known: map[string]bool{}, brings: map[string]bool{}, parents: map[string][]string{}}
	j := pull.NewJSON(r, size, maxJSON)
	err := j.Object(func(key []byte) error {
		switch string(key) {
		case "targets":
			return j.Object(func([]byte) error {
				return j.Object(func(key []byte) error { return d.target(j, string(key)) })
			})
		case "libraries":
			return j.Object(func(key []byte) error { return d.library(j, string(key)) })
		}
		return nil
	})
	d.spread()
	for _, p := range d.listed {
		if id := p.Name + "/" + p.Version; d.known[id] && !d.brings[id] {
			continue
		}
		p.Name = strings.TrimPrefix(p.Name, "runtimepack.") // the runtime that a program brings along
		if e := add(shown, p.Name, p.Version, inventory.Installed, false, false); e != nil {
			return e
		}
	}
	return err
}

// target reads what one library brings.
func (d *deployment) target(j *pull.JSON, id string) error {
	if d.edges++; d.edges > maxEdges {
		return errors.New("too many dependencies between libraries")
	}
	d.known[id] = true
	return j.Object(func(key []byte) error {
		switch string(key) {
		case "runtime", "native", "resources", "runtimeTargets":
			return j.Object(func([]byte) error {
				d.brings[id] = true
				return nil
			})
		case "dependencies":
			return j.Object(func(key []byte) error {
				name := string(key)
				version, err := j.Text()
				if d.edges++; d.edges > maxEdges {
					return errors.New("too many dependencies between libraries")
				}
				on := name + "/" + version
				d.parents[on] = append(d.parents[on], id)
				return err
			})
		}
		return nil
	})
}

// library reads what one library is. Projects and references are the program's
// own parts.
func (d *deployment) library(j *pull.JSON, id string) error {
	name, version, _ := strings.Cut(id, "/")
	kind := ""
	err := j.Object(func(key []byte) (err error) {
		if string(key) == "type" {
			kind, err = j.Text()
		}
		return err
	})
	if err != nil || version == "" || kind != "package" && kind != "runtimepack" {
		return err
	}
	if len(d.listed) >= analyse.MaxPackages {
		return errors.New("too many libraries")
	}
	d.listed = append(d.listed, inventory.Package{Name: name, Version: version})
	return nil
}

// spread lets what depends on a library that brings files bring them too.
func (d *deployment) spread() {
	var queue []string
	for id := range d.brings {
		queue = append(queue, id)
	}
	for len(queue) > 0 {
		id := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, p := range d.parents[id] {
			if !d.brings[p] {
				d.brings[p] = true
				queue = append(queue, p)
			}
		}
	}
}
