package node

import (
	"errors"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/pull"
)

// pnpm is a pnpm-lock.yaml as it is read. Versions 5 and 6 say of each package
// whether it is for development; since 9 that shows only in what the importers
// reach through the snapshots.
type pnpm struct {
	list    *list
	version string // of the format

	section  string // the top-level key at hand
	group    string // in an importer: dependencies, devDependencies, …
	entry    pnpmEntry
	key      string // of the snapshot or the importer's dependency at hand
	depends  bool   // within the dependencies of a snapshot
	snapshot map[string][]string
	direct   []pnpmWant
}

// pnpmEntry is one entry below packages.
type pnpmEntry struct {
	key, name, version string
	dev                bool
}

// pnpmWant is a dependency of the project.
type pnpmWant struct {
	name, version string
	dev           bool
}

// maxEdges bounds the dependencies that are kept; the largest projects seen have
// 50,000.
const maxEdges = 1 << 18

var errEdges = errors.New("too many dependencies between packages")

// takePNPM reads a pnpm-lock.yaml.
func takePNPM(l *list, r io.Reader, size int64) error {
	p := pnpm{list: l, snapshot: map[string][]string{}}
	edges := 0
	err := pull.NewYAML(r, size, maxLock).Each(func(line pull.YAMLLine) error {
		if line.Indent == 0 {
			err := p.flush()
			p.section, p.group, p.key, p.depends = line.Key, "", "", false
			if line.Key == "lockfileVersion" {
				p.version = line.Value
			}
			return err
		}
		switch p.section {
		case "packages":
			return p.packageLine(line)
		case "snapshots":
			if p.snapshotLine(line) {
				edges++
			}
			if edges > maxEdges {
				return errEdges
			}
		case "importers":
			p.importerLine(line, 6)
		case "dependencies", "devDependencies", "optionalDependencies":
			p.group = p.section
			p.importerLine(line, 2)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	p.mark()
	return nil
}

// packageLine reads a line below packages.
func (p *pnpm) packageLine(line pull.YAMLLine) error {
	switch {
	case line.Indent == 2 && line.Key != "":
		err := p.flush()
		p.entry = pnpmEntry{key: line.Key}
		return err
	case line.Indent == 4:
		switch line.Key {
		case "name":
			p.entry.name = line.Value
		case "version":
			p.entry.version = line.Value
		case "dev":
			p.entry.dev = line.Value == "true"
		}
	}
	return nil
}

// flush adds the entry at hand.
func (p *pnpm) flush() error {
	e := p.entry
	p.entry = pnpmEntry{}
	if e.key == "" {
		return nil
	}
	name, version := splitPNPM(e.key)
	for _, of := range []string{e.key, version} {
		if strings.HasPrefix(of, "file:") || strings.HasPrefix(of, "link:") {
			return nil // of the project itself
		}
	}
	if e.name != "" {
		name = e.name
	}
	if e.version != "" {
		version = e.version
	}
	if e.name == "" && (version == "" || version[0] < '0' || version[0] > '9') {
		if !strings.Contains(version, ":") {
			return nil // an address, of which the entry tells no name
		}
		version = ""
	}
	if strings.ContainsAny(version, ":/") {
		version = ""
	}
	return p.list.add(name, version, e.dev, false)
}

// splitPNPM takes the key of a package apart: /a/1.0.0_peer@2 or
// host/a/1.0.0 in version 5, /a@1.0.0(peer@2) in 6, a@1.0.0(peer@2) in 9.
func splitPNPM(key string) (name, version string) {
	key, _, _ = strings.Cut(key, "(")
	// The oldest have the registry's host before the name.
	slash, at := strings.IndexByte(key, '/'), strings.IndexByte(key, '@')
	old := slash >= 0 && (at < 0 || slash < at)
	if old {
		key = key[slash+1:]
	}
	scope := 0
	if strings.HasPrefix(key, "@") {
		scope = strings.IndexByte(key, '/') + 1
	}
	i := strings.IndexAny(key[scope:], "/@")
	if i < 0 || i == 0 {
		return key, ""
	}
	i += scope
	name, version = key[:i], key[i+1:]
	if key[i] == '/' {
		if version, _, _ = strings.Cut(version, "_"); !old {
			version = ""
		}
	}
	return name, version
}

// snapshotLine reads a line below snapshots, and says whether it is a
// dependency of one on another.
func (p *pnpm) snapshotLine(line pull.YAMLLine) bool {
	switch {
	case line.Indent == 2:
		p.key, p.depends = line.Key, false
	case line.Indent == 4:
		p.depends = line.Key == "dependencies" || line.Key == "optionalDependencies"
	case line.Indent == 6 && p.depends && line.Key != "":
		p.snapshot[p.key] = append(p.snapshot[p.key], resolvedKey(line.Key, line.Value))
		return true
	}
	return false
}

// importerLine reads a line of what the project asks for; names are indented by
// indent, their group (below importers) by two less.
func (p *pnpm) importerLine(line pull.YAMLLine, indent int) {
	switch {
	case line.Indent == indent-2:
		p.group = line.Key
	case line.Indent == indent && strings.HasSuffix(strings.ToLower(p.group), "dependencies"):
		p.key = line.Key
		p.want(line.Value) // version 5 says the version here
	case line.Indent == indent+2 && line.Key == "version":
		p.want(line.Value)
	}
}

func (p *pnpm) want(version string) {
	if version == "" || p.key == "" || len(p.direct) >= maxEdges {
		return
	}
	p.direct = append(p.direct, pnpmWant{p.key, version, p.group == "devDependencies"})
}

// resolvedKey is the key of what a dependency leads to. An alias is written with
// the name of what it stands for.
func resolvedKey(name, version string) string {
	plain, _, _ := strings.Cut(version, "(")
	plain, _, _ = strings.Cut(plain, "_")
	if strings.HasPrefix(plain, "/") || strings.LastIndexByte(plain, '@') > 0 && !strings.Contains(plain, ":") {
		return version
	}
	return name + "@" + version
}

// mark says which packages are wanted directly, and since version 9 which are
// for development only: those that nothing else reaches.
func (p *pnpm) mark() {
	direct := map[[2]string]bool{}
	var queue []string
	reached := map[string]bool{}
	for _, w := range p.direct {
		key := resolvedKey(w.name, w.version)
		name, version := splitPNPM(key)
		if v, _, ok := strings.Cut(version, "_"); ok {
			version = v
		}
		direct[[2]string{name, version}] = true
		if !w.dev && !reached[key] {
			reached[key] = true
			queue = append(queue, key)
		}
	}
	for len(queue) > 0 {
		key := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, next := range p.snapshot[key] {
			if !reached[next] {
				reached[next] = true
				queue = append(queue, next)
			}
		}
	}
	used := map[[2]string]bool{}
	for key := range reached {
		name, version := splitPNPM(key)
		used[[2]string{name, version}] = true
	}
	for i := range p.list.shown.Packages {
		pkg := &p.list.shown.Packages[i]
		id := [2]string{pkg.FullName(), pkg.Version}
		pkg.Indirect = len(direct) > 0 && !direct[id]
		if len(p.snapshot) > 0 && len(p.direct) > 0 {
			pkg.Dev = !used[id]
		}
	}
}
