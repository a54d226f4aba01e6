// Package dotnet reads what .NET programs and NuGet say of packages: the
// dependencies that a program is deployed with (*.deps.json), unpacked packages
// (*.nuspec), lock files, and the references of projects.
//
// It is not for versions in the resources of libraries, which are not those of
// packages.
package dotnet

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

const (
	maxJSON = 64 << 20
	maxXML  = 8 << 20
)

// Analyser reads packages of NuGet.
type Analyser struct{}

// Name is dotnet.
func (Analyser) Name() string { return "dotnet" }

// kind is what a file is.
type kind int

const (
	none kind = iota
	deps
	lock
	config
	project
	nuspec
)

func kindOf(path string) kind {
	if len(path) < 8 {
		return none
	}
	switch path[len(path)-5:] {
	case ".json":
		if strings.HasSuffix(path, ".deps.json") {
			return deps
		}
		if strings.HasSuffix(path, "packages.lock.json") {
			return lock
		}
	case "onfig":
		if strings.HasSuffix(path, "packages.config") {
			return config
		}
	case "sproj", "bproj", "props":
		if strings.HasSuffix(path, ".csproj") || strings.HasSuffix(path, ".fsproj") || strings.HasSuffix(path, ".vbproj") || strings.HasSuffix(path, "Directory.Packages.props") {
			return project
		}
	case "uspec":
		if strings.HasSuffix(path, ".nuspec") {
			return nuspec
		}
	}
	return none
}

// Wants takes files by their names.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	return len(head) > 0 && kindOf(e.Path) != none
}

// Take reads one file.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	switch kindOf(e.Path) {
	case deps:
		return takeDeps(r, e.Size, shown)
	case lock:
		return takeLock(r, e.Size, shown)
	case config:
		return eachElement(r, func(d *xml.Decoder, s xml.StartElement) error {
			if s.Name.Local != "package" {
				return nil
			}
			return add(shown, attr(s, "id"), attr(s, "version"), inventory.Declared, attr(s, "developmentDependency") == "true", false)
		})
	case project:
		return takeProject(r, shown)
	case nuspec:
		return takeNuspec(r, shown)
	}
	return nil
}

func add(shown *analyse.Shown, name, version string, found inventory.Evidence, dev, indirect bool) error {
	if strings.ContainsAny(name, "$() ;/\\*") {
		return nil // put together by the build
	}
	return shown.Add(inventory.Package{Type: "nuget", Name: name, Version: version, Ecosystem: "NuGet", Found: found, Dev: dev, Indirect: indirect})
}

// takeLock reads a packages.lock.json. A package is listed for each framework
// that the project is built for.
func takeLock(r io.Reader, size int64, shown *analyse.Shown) error {
	j := pull.NewJSON(r, size, maxJSON)
	at := map[[2]string]int{}
	entry := func(name string) error {
		var version, kind string
		err := j.Object(func(key []byte) (err error) {
			switch string(key) {
			case "type":
				kind, err = j.Text()
			case "resolved":
				version, err = j.Text()
			}
			return err
		})
		if err != nil || kind == "Project" || version == "" {
			return err
		}
		id := [2]string{name, version}
		if i, ok := at[id]; ok {
			shown.Packages[i].Indirect = shown.Packages[i].Indirect && kind == "Transitive"
			return nil
		}
		before := len(shown.Packages)
		if err := add(shown, name, version, inventory.Declared, false, kind == "Transitive"); err != nil {
			return err
		}
		if len(shown.Packages) > before {
			at[id] = before
		}
		return nil
	}
	return j.Object(func(key []byte) error {
		if string(key) != "dependencies" {
			return nil
		}
		return j.Object(func([]byte) error {
			return j.Object(func(key []byte) error { return entry(string(key)) })
		})
	})
}

// eachElement calls one for each element of a document. Nothing that a document
// defines is expanded.
func eachElement(r io.Reader, one func(*xml.Decoder, xml.StartElement) error) error {
	limited := &io.LimitedReader{R: r, N: maxXML + 1}
	d := xml.NewDecoder(limited)
	d.Strict = false
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		return in, nil // names and versions are ASCII in all that are in use
	}
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if limited.N <= 0 {
			return fmt.Errorf("XML of more than %d bytes", maxXML)
		}
		if err != nil {
			return err
		}
		if s, ok := t.(xml.StartElement); ok {
			if err := one(d, s); err != nil {
				return err
			}
		}
	}
}

// attr returns an attribute; their case varies.
func attr(s xml.StartElement, name string) string {
	for _, a := range s.Attr {
		if strings.EqualFold(a.Name.Local, name) {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// takeProject reads the references of a project, and versions that are managed
// for all projects of a folder.
func takeProject(r io.Reader, shown *analyse.Shown) error {
	open := "" // a reference whose version is in an element of its own
	flush := func(version string) error {
		name := open
		open = ""
		return add(shown, name, single(version), inventory.Declared, false, false)
	}
	err := eachElement(r, func(d *xml.Decoder, s xml.StartElement) error {
		switch s.Name.Local {
		case "PackageReference", "PackageVersion", "GlobalPackageReference":
			if err := flush(""); err != nil {
				return err
			}
			name, version := attr(s, "Include"), attr(s, "Version")
			if version == "" {
				version = attr(s, "VersionOverride")
			}
			open = name
			if version != "" {
				return flush(version)
			}
		case "Version":
			if open == "" {
				return nil
			}
			text, err := d.Token()
			if c, ok := text.(xml.CharData); ok && err == nil {
				return flush(strings.TrimSpace(string(c)))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush("")
}

// single returns a version that allows one alone, or at least it: 1.0, [1.0]. It
// is empty for others.
func single(version string) string {
	version = strings.TrimSpace(version)
	if exact, ok := strings.CutPrefix(version, "["); ok {
		if exact, ok = strings.CutSuffix(exact, "]"); ok {
			version = exact
		}
	}
	if strings.ContainsAny(version, "*,[]()$ ") {
		return ""
	}
	return version
}

// takeNuspec reads the description that lies in an unpacked package.
func takeNuspec(r io.Reader, shown *analyse.Shown) error {
	p := inventory.Package{Type: "nuget", Ecosystem: "NuGet", Found: inventory.Installed}
	errEnd := errors.New("metadata has ended")
	err := eachElement(r, func(d *xml.Decoder, s xml.StartElement) error {
		var into *string
		var license string
		switch s.Name.Local {
		case "id":
			into = &p.Name
		case "version":
			into = &p.Version
		case "license":
			if attr(s, "type") == "expression" {
				into = &license
			}
		case "dependencies", "files":
			return errEnd
		}
		if into == nil {
			return nil
		}
		text, err := d.Token()
		if c, ok := text.(xml.CharData); ok && err == nil {
			*into = strings.TrimSpace(string(c))
		}
		if license != "" {
			p.Licenses = []string{license}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnd) {
		return err
	}
	if p.Version == "" || strings.Contains(p.Name+p.Version, "$") {
		return nil // a template
	}
	return shown.Add(p)
}
