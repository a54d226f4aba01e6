package lock

import (
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// takePub reads a pubspec.lock of Dart. What is hosted has a version of the
// registry's; the SDK's parts and folders have not.
func takePub(r io.Reader, size int64, shown *analyse.Shown) error {
	section, dependency, source := "", "", ""
	p := inventory.Package{}
	flush := func() error {
		q := p
		p = inventory.Package{}
		if source == "sdk" || source == "path" {
			return nil
		}
		return shown.Add(q)
	}
	err := pull.NewYAML(r, size, maxFile).Each(func(line pull.YAMLLine) error {
		switch {
		case line.Indent == 0:
			section = line.Key
		case section != "packages":
		case line.Indent == 2:
			if err := flush(); err != nil {
				return err
			}
			p, dependency, source = declared("pub", line.Key, "", "Pub"), "", ""
		case line.Indent == 4 && line.Key == "dependency":
			dependency = line.Value
			p.Dev, p.Indirect = dependency == "direct dev", dependency == "transitive"
		case line.Indent == 4 && line.Key == "source":
			source = line.Value
		case line.Indent == 4 && line.Key == "version":
			p.Version = line.Value
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// takeConan reads a conan.lock: in version 2 lists of references, before it
// nodes of a graph that have one each.
func takeConan(r io.Reader, size int64, shown *analyse.Shown) error {
	j := pull.NewJSON(r, size, maxFile)
	add := func(reference string, dev bool) error {
		// name/version@user/channel#revision%time
		reference, _, _ = strings.Cut(reference, "#")
		reference, _, _ = strings.Cut(reference, "@")
		reference, _, _ = strings.Cut(reference, ":") // before the id of a build
		name, version, ok := strings.Cut(reference, "/")
		if !ok {
			return nil // the project itself
		}
		p := declared("conan", name, version, "ConanCenter")
		p.Dev = dev
		return shown.Add(p)
	}
	node := func() error {
		reference, path := "", ""
		err := j.Object(func(key []byte) (err error) {
			switch string(key) {
			case "ref", "pref":
				reference, err = j.Text()
			case "path": // of the project itself
				path, err = j.Text()
			}
			return err
		})
		if err != nil || path != "" {
			return err
		}
		return add(reference, false)
	}
	return j.Object(func(key []byte) error {
		switch name := string(key); name {
		case "requires", "build_requires", "python_requires":
			return j.Array(func(int) error {
				s, err := j.Text()
				if err != nil {
					return err
				}
				return add(s, name != "requires")
			})
		case "graph_lock":
			return j.Object(func(key []byte) error {
				if string(key) != "nodes" {
					return nil
				}
				return j.Object(func([]byte) error { return node() })
			})
		}
		return nil
	})
}

// takeConanfile reads a conanfile.txt: sections with a reference a line. One that
// asks for a range tells no version.
func takeConanfile(r io.Reader, size int64, shown *analyse.Shown) error {
	section := ""
	return eachLine(r, size, func(s string) error {
		s, _, _ = strings.Cut(s, "#") // a comment, or a revision
		s = strings.TrimSpace(s)
		if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
			section = s
			return nil
		}
		dev := section == "[build_requires]" || section == "[tool_requires]" || section == "[test_requires]"
		if !dev && section != "[requires]" {
			return nil
		}
		s, _, _ = strings.Cut(s, "@")
		name, version, ok := strings.Cut(s, "/")
		if !ok {
			return nil
		}
		if strings.HasPrefix(version, "[") {
			version = ""
		}
		p := declared("conan", name, version, "ConanCenter")
		p.Dev = dev
		return shown.Add(p)
	})
}

// takeStack reads a stack.yaml.lock: hackage: name-1.0@sha256:…
func takeStack(r io.Reader, size int64, shown *analyse.Shown) error {
	original := -1 // how far an original is indented, whose completed form came before
	return pull.NewYAML(r, size, maxFile).Each(func(line pull.YAMLLine) error {
		if original >= 0 && line.Indent <= original {
			original = -1
		}
		if line.Key == "original" {
			original = line.Indent
		}
		if line.Key != "hackage" || original >= 0 {
			return nil
		}
		s, _, _ := strings.Cut(line.Value, "@")
		i := strings.LastIndexByte(s, '-')
		if i < 0 {
			return nil
		}
		return shown.Add(declared("hackage", s[:i], s[i+1:], "Hackage"))
	})
}

// takeCabal reads a cabal.project.freeze: constraints: any.name ==1.0,
func takeCabal(r io.Reader, size int64, shown *analyse.Shown) error {
	return eachLine(r, size, func(s string) error {
		s = strings.TrimSpace(strings.TrimPrefix(s, "constraints:"))
		name, version, ok := strings.Cut(s, "==")
		name, frozen := strings.CutPrefix(strings.TrimSpace(name), "any.")
		version = strings.TrimSpace(strings.TrimSuffix(version, ","))
		if !ok || !frozen || strings.ContainsAny(name+version, " |&") {
			return nil
		}
		return shown.Add(declared("hackage", name, version, "Hackage"))
	})
}

// takeRenv reads an renv.lock of R.
func takeRenv(r io.Reader, size int64, shown *analyse.Shown) error {
	j := pull.NewJSON(r, size, maxFile)
	return j.Object(func(key []byte) error {
		if string(key) != "Packages" {
			return nil
		}
		return j.Object(func([]byte) error {
			p := declared("cran", "", "", "")
			err := j.Object(func(key []byte) (err error) {
				switch string(key) {
				case "Package":
					p.Name, err = j.Text()
				case "Version":
					p.Version, err = j.Text()
				case "Repository":
					s, e := j.Text()
					if err = e; s == "CRAN" || s == "RSPM" || s == "P3M" { // mirrors of it
						p.Ecosystem = "CRAN"
					}
				}
				return err
			})
			if err != nil {
				return err
			}
			return shown.Add(p)
		})
	})
}

// takeDescription reads the DESCRIPTION of a package in a library of R.
func takeDescription(r io.Reader, size int64, shown *analyse.Shown) error {
	p, _, err := description(r, size)
	if err != nil {
		return err
	}
	return shown.Add(p)
}

// takeBuilt reads a DESCRIPTION elsewhere. Installing a package adds for what it
// was built; its sources do not have that.
func takeBuilt(r io.Reader, size int64, shown *analyse.Shown) error {
	p, built, err := description(r, size)
	if err != nil || !built {
		return err
	}
	return shown.Add(p)
}

func description(r io.Reader, size int64) (p inventory.Package, built bool, err error) {
	p = inventory.Package{Type: "cran", Ecosystem: "CRAN", Found: inventory.Installed}
	err = eachLine(r, size, func(s string) error {
		key, value, _ := strings.Cut(s, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Built":
			built = strings.HasPrefix(value, "R ")
		case "Package":
			p.Name = value
		case "Version":
			p.Version = value
		case "License":
			p.Licenses = []string{value}
		case "Priority":
			if value == "base" { // R's own, published with it
				p.Ecosystem = ""
			}
		}
		return nil
	})
	if p.Version == "" {
		p.Name = "" // nothing
	}
	return p, built, err
}

// takeWorkflow reads which actions a workflow uses: uses: owner/name@v4.1.0. A
// commit with its version behind it in a comment counts as that; what names a
// branch or a whole line of releases has no version.
func takeWorkflow(r io.Reader, size int64, shown *analyse.Shown) error {
	return eachLine(r, size, func(s string) error {
		s, ok := strings.CutPrefix(strings.TrimPrefix(s, "- "), "uses:")
		if !ok {
			return nil
		}
		s, comment, _ := strings.Cut(s, " #")
		name, ref, ok := strings.Cut(strings.Trim(s, ` "'`), "@")
		parts := strings.Split(name, "/")
		if !ok || len(parts) < 2 || strings.HasPrefix(name, ".") || strings.Contains(name, ":") {
			return nil // a folder or an image
		}
		if words := strings.Fields(comment); len(words) > 0 && isRelease(words[0]) {
			ref = words[0]
		}
		if !isRelease(ref) {
			ref = ""
		}
		p := declared("github", parts[1], ref, "GitHub Actions")
		p.Namespace = parts[0]
		return shown.Add(p)
	})
}

// isRelease says whether a tag names one release: v1.2.3.
func isRelease(s string) bool {
	s = strings.TrimPrefix(s, "v")
	return strings.Count(s, ".") >= 2 && s[0] >= '0' && s[0] <= '9'
}
