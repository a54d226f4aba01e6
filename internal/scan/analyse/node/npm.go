package node

import (
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/pull"
)

// takeNPM reads a package-lock.json. Version 1 nests dependencies, 3 lists
// folders under packages, 2 has both.
func takeNPM(l *list, r io.Reader, size int64) error {
	j := pull.NewJSON(r, size, maxLock)
	f := folders{list: l, direct: map[string]bool{}}
	listed := false
	return j.Object(func(key []byte) error {
		switch string(key) {
		case "packages":
			// What version 1 would say is not said twice.
			listed = true
			l.shown.Packages, l.at = nil, map[[2]string]int{}
			return f.read(j)
		case "dependencies":
			if !listed {
				return nested(l, j)
			}
		}
		return nil
	})
}

// nested reads the dependencies of version 1.
func nested(l *list, j *pull.JSON) error {
	return j.Object(func(key []byte) error {
		name := string(key)
		version, dev, added := "", false, false
		err := j.Object(func(key []byte) (err error) {
			switch string(key) {
			case "version":
				version, err = j.Text()
			case "dev":
				dev, err = j.Bool()
			case "dependencies":
				// They come last; what is above them is complete.
				if err := l.addWritten(name, version, dev); err != nil {
					return err
				}
				added = true
				return nested(l, j)
			}
			return err
		})
		if err != nil || added {
			return err
		}
		return l.addWritten(name, version, dev)
	})
}

// addWritten adds a package whose version is as version 1 writes it: a version,
// an alias, or where something was fetched from, which tells no version.
func (l *list) addWritten(name, version string, dev bool) error {
	if alias, ok := strings.CutPrefix(version, "npm:"); ok {
		name, version = cutVersion(alias)
	}
	if strings.HasPrefix(version, "file:") || strings.HasPrefix(version, "link:") {
		return nil // of the project itself
	}
	if strings.ContainsAny(version, ":/") {
		version = ""
	}
	return l.add(name, version, dev, false)
}

// cutVersion splits name@version, where the name may begin with an @.
func cutVersion(s string) (name, version string) {
	if len(s) < 2 {
		return s, ""
	}
	i := strings.IndexByte(s[1:], '@')
	if i < 0 {
		return s, ""
	}
	return s[:i+1], s[i+2:]
}

// folders reads the packages of version 2 and 3.
type folders struct {
	*list
	direct map[string]bool // what the project and its workspaces ask for
}

const modules = "node_modules/"

// read reads all of them, and says then which are wanted directly.
func (f *folders) read(j *pull.JSON) error {
	err := j.Object(func(key []byte) error {
		folder := string(key)
		if !strings.Contains(folder, modules) {
			return f.project(j)
		}
		return f.installed(j, folder)
	})
	for i := range f.shown.Packages {
		p := &f.shown.Packages[i]
		p.Indirect = len(f.direct) > 0 && !f.direct[p.FullName()]
	}
	return err
}

// project reads what the project, or a workspace of it, asks for.
func (f *folders) project(j *pull.JSON) error {
	return j.Object(func(key []byte) error {
		switch string(key) {
		case "dependencies", "devDependencies", "optionalDependencies", "peerDependencies":
			return j.Object(func(key []byte) error {
				f.direct[string(key)] = true
				return tooMany(len(f.direct))
			})
		}
		return nil
	})
}

func tooMany(edges int) error {
	if edges > maxEdges {
		return errEdges
	}
	return nil
}

// installed reads one folder below node_modules.
func (f *folders) installed(j *pull.JSON, folder string) error {
	name := folder[strings.LastIndex(folder, modules)+len(modules):]
	folderName, version := name, ""
	var dev, link bool
	var licenses []string
	err := j.Object(func(key []byte) (err error) {
		switch string(key) {
		case "name": // an alias is installed under another
			name, err = j.Text()
		case "version":
			version, err = j.Text()
		case "dev":
			dev, err = j.Bool()
		case "link":
			link, err = j.Bool()
		case "license":
			licenses, err = readLicenses(j, nil)
		}
		return err
	})
	if err != nil || link {
		return err
	}
	if f.direct[folderName] {
		f.direct[name] = true
	}
	before := len(f.shown.Packages)
	if err := f.add(name, version, dev, false); err != nil {
		return err
	}
	if len(f.shown.Packages) > before {
		f.shown.Packages[before].Licenses = licenses
	}
	return nil
}

// takeBun reads a bun.lock: each package as an array that begins with name@version.
func takeBun(l *list, r io.Reader, size int64) error {
	j := pull.NewJSON(r, size, maxLock)
	direct := map[string]bool{} // and whether for more than development
	err := j.Object(func(key []byte) error {
		switch string(key) {
		case "workspaces":
			return j.Object(func([]byte) error { return bunWorkspace(j, direct) })
		case "packages":
			return j.Object(func([]byte) error { return bunPackage(l, j) })
		}
		return nil
	})
	for i := range l.shown.Packages {
		p := &l.shown.Packages[i]
		more, wanted := direct[p.FullName()]
		p.Indirect = len(direct) > 0 && !wanted
		p.Dev = wanted && !more
	}
	return err
}

func bunWorkspace(j *pull.JSON, direct map[string]bool) error {
	return j.Object(func(key []byte) error {
		kind := string(key)
		switch kind {
		case "dependencies", "devDependencies", "optionalDependencies", "peerDependencies":
			return j.Object(func(key []byte) error {
				direct[string(key)] = direct[string(key)] || kind != "devDependencies"
				return tooMany(len(direct))
			})
		}
		return nil
	})
}

func bunPackage(l *list, j *pull.JSON) error {
	return j.Array(func(i int) error {
		if i > 0 {
			return nil
		}
		s, err := j.Text()
		if err != nil {
			return err
		}
		name, version := cutVersion(s)
		return l.addResolved(name, version)
	})
}

// addResolved adds a package by what its range was resolved to. What is of the
// project itself is left out; what was fetched from elsewhere has no version.
func (l *list) addResolved(name, version string) error {
	for _, local := range []string{"workspace:", "file:", "link:", "portal:", "root:"} {
		if strings.HasPrefix(version, local) {
			return nil
		}
	}
	if v, ok := strings.CutPrefix(version, "npm:"); ok {
		version = v
		if alias, v := cutVersion(v); v != "" {
			name, version = alias, v
		}
	}
	if strings.ContainsAny(version, ":/") {
		version = ""
	}
	return l.add(name, version, false, false)
}
