// Package maven reads what Java builds declare: the dependencies of pom.xml files,
// as far as the file itself tells their versions, and the lock and verification
// files of Gradle. What is inside of Java archives is read by jar.
//
// It is not for resolving: parents and imported lists of versions are other
// files' words. What a profile asks for counts.
package maven

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
	maxXML  = 16 << 20
	maxLock = 64 << 20
	// maxProperties bounds what a pom.xml defines.
	maxProperties = 10_000
	// maxRounds bounds properties that are made of properties.
	maxRounds = 8
)

// Analyser reads declarations of Java builds.
type Analyser struct{}

// Name is maven.
func (Analyser) Name() string { return "maven" }

// Wants takes files by their names. A pom.xml below META-INF says how an archive
// was built, which jar reads.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if len(head) == 0 {
		return false
	}
	switch e.Base() {
	case "pom.xml":
		return !strings.Contains(e.Path, "META-INF/")
	case "gradle.lockfile", "buildscript-gradle.lockfile":
		return true
	case "verification-metadata.xml":
		return strings.HasSuffix(e.Folder(), "gradle")
	}
	return false
}

// Take reads one file.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	switch e.Base() {
	case "pom.xml":
		return takePOM(r, shown)
	case "verification-metadata.xml":
		return eachElement(r, func(path []string, s xml.StartElement) error {
			if path[len(path)-1] != "component" {
				return nil
			}
			var c dependency
			for _, a := range s.Attr {
				c.set(map[string]string{"group": "groupId", "name": "artifactId", "version": "version"}[a.Name.Local], a.Value)
			}
			return c.add(shown)
		}, func([]string, string) {})
	}
	return takeGradle(r, e.Size, shown)
}

// dependency is what a build asks for.
type dependency struct{ group, artifact, version, scope string }

func (d *dependency) set(key, value string) {
	switch key {
	case "groupId":
		d.group = value
	case "artifactId":
		d.artifact = value
	case "version":
		d.version = value
	case "scope":
		d.scope = value
	}
}

func (d *dependency) add(shown *analyse.Shown) error {
	if d.group == "" || strings.ContainsAny(d.group+d.artifact, "${} /") {
		return nil
	}
	version := d.version
	if strings.ContainsAny(version, "${}[](), ") {
		version = "" // a range, or a word that another file explains
	}
	return shown.Add(inventory.Package{Type: "maven", Namespace: d.group, Name: d.artifact, Version: version, Ecosystem: "Maven",
		Found: inventory.Declared, Dev: d.scope == "test"})
}

// eachElement calls begin for each element, and end with its text if it has
// nothing else, each with the names from the root down to it. Nothing that a
// document defines is expanded.
func eachElement(r io.Reader, begin func(path []string, s xml.StartElement) error, end func(path []string, text string)) error {
	const maxDepth = 200
	limited := &io.LimitedReader{R: r, N: maxXML + 1}
	d := xml.NewDecoder(limited)
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) {
		return in, nil // names and versions are ASCII in all that are in use
	}
	var path []string
	text := ""
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
		switch t := t.(type) {
		case xml.CharData:
			text = string(t[:min(len(t), pull.MaxText)])
		case xml.StartElement:
			text = ""
			if path = append(path, t.Name.Local); len(path) > maxDepth {
				return fmt.Errorf("elements nested more than %d deep", maxDepth)
			}
			if err := begin(path, t); err != nil {
				return err
			}
		case xml.EndElement:
			if len(path) > 0 {
				end(path, strings.TrimSpace(text))
				path = path[:len(path)-1]
			}
			text = ""
		}
	}
}

// pom is what a pom.xml says.
type pom struct {
	properties   map[string]string
	dependencies []dependency
	managed      []dependency // the versions of what is asked for without one
}

// takePOM reads a pom.xml. Properties may be defined behind where they are used.
func takePOM(r io.Reader, shown *analyse.Shown) error {
	p := pom{properties: map[string]string{}}
	if err := eachElement(r, p.begin, p.end); err != nil {
		return err
	}
	for _, key := range []string{"groupId", "version"} {
		if p.properties["project."+key] == "" {
			p.properties["project."+key] = p.properties["project.parent."+key]
		}
	}
	versions := map[[2]string]string{}
	for _, d := range p.managed {
		versions[[2]string{p.resolve(d.group), p.resolve(d.artifact)}] = d.version
	}
	for _, d := range p.dependencies {
		d.group, d.artifact = p.resolve(d.group), p.resolve(d.artifact)
		if d.version == "" {
			d.version = versions[[2]string{d.group, d.artifact}]
		}
		d.version = p.resolve(d.version)
		if err := d.add(shown); err != nil {
			return err
		}
	}
	return nil
}

const (
	asked   = "project/dependencies/dependency"
	profile = "project/profiles/profile/dependencies/dependency"
	managed = "project/dependencyManagement/dependencies/dependency"
)

// begin begins a dependency.
func (p *pom) begin(path []string, _ xml.StartElement) error {
	switch strings.Join(path, "/") {
	case asked, profile:
		p.dependencies = append(p.dependencies, dependency{})
	case managed:
		p.managed = append(p.managed, dependency{})
	}
	if len(p.dependencies)+len(p.managed) > analyse.MaxPackages {
		return fmt.Errorf("more than %d dependencies", analyse.MaxPackages)
	}
	return nil
}

// end takes the text of an element where it means something.
func (p *pom) end(path []string, text string) {
	last := path[len(path)-1]
	switch around := strings.Join(path[:len(path)-1], "/"); around {
	case asked, profile:
		p.dependencies[len(p.dependencies)-1].set(last, text)
	case managed:
		p.managed[len(p.managed)-1].set(last, text)
	case "project", "project/parent":
		if last == "groupId" || last == "artifactId" || last == "version" {
			p.properties[strings.Join(path, ".")] = text
		}
	case "project/properties":
		if len(p.properties) < maxProperties {
			p.properties[last] = text
		}
	}
}

// resolve puts in what ${…} stands for, as far as the file says it.
func (p *pom) resolve(s string) string {
	for range maxRounds {
		before, rest, ok := strings.Cut(s, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !ok || !closed || len(s) > analyse.MaxName {
			break
		}
		value, known := p.properties[name]
		if !known {
			value, known = p.properties["project."+strings.TrimPrefix(name, "pom.")] // as Maven 2 wrote it
		}
		if !known {
			break
		}
		s = before + value + after
	}
	return s
}

// takeGradle reads a lock file of Gradle: group:artifact:version=configurations.
func takeGradle(r io.Reader, size int64, shown *analyse.Shown) error {
	lines := pull.NewLines(r, size, maxLock)
	for {
		b, err := lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, configurations, ok := strings.Cut(string(b), "=")
		parts := strings.Split(name, ":")
		if !ok || len(parts) != 3 || strings.HasPrefix(name, "#") {
			continue
		}
		d := dependency{parts[0], parts[1], strings.TrimSpace(parts[2]), "test"}
		for c := range strings.SplitSeq(configurations, ",") {
			if !strings.HasPrefix(c, "test") && c != "" {
				d.scope = ""
			}
		}
		if err := d.add(shown); err != nil {
			return err
		}
	}
}
