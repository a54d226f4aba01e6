package sbom

import (
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// listed is a package as a document lists it, before it is known which layers
// and which distribution the document is about.
type listed struct {
	inventory.Package
	id     string   // in SPDX
	distro string   // as the package URL has it
	layers []string // of the places
	flaw   flaw
}

// flaw says why a package cannot be looked up.
type flaw uint8

const (
	unnamed   flaw = iota + 1 // without a package URL
	malformed                 // with one that is none
)

// nowhere is the ecosystem that we write for packages that are looked up nowhere,
// whatever their type.
const nowhere = "none"

// listedOf makes a package of a component; ok is false for one that is none.
func (d *document) listedOf(c *component) (l listed, ok bool) {
	u, isURL := inventory.ParsePURL(c.purl)
	switch {
	case c.long || len(u.Namespace)+len(u.Name)+len(u.Subpath) > analyse.MaxName || len(u.Version) > analyse.MaxName:
		d.notes.long.add(c.name, c.version)
		return l, false
	case !isURL && (c.heading || c.name == "" || isNoPackage(c.kind)):
		return l, false
	case isURL:
		l.Package = u.Package()
	default:
		l.Package, l.flaw = inventory.Package{Type: "generic", Namespace: c.group, Name: c.name}, unnamed
		if c.purl != "" {
			l.flaw = malformed
		}
	}
	l.id, l.distro = c.id, u.Qualifiers["distro"]
	if name, release := u.Qualifiers["os_name"], u.Qualifiers["os_version"]; l.distro == "" && name != "" && release != "" {
		l.distro = name + "-" + release // Docker's writer
	}
	p := &l.Package
	p.Found, p.Licenses, p.OwnedBy = inventory.Stated, c.licenses, c.said.owner
	if p.Version == "" {
		p.Version = c.version[:min(len(c.version), analyse.MaxName)]
	}
	c.spell(p, u)
	c.complete(p, u)
	l.locate(c)
	return l, true
}

// isNoPackage says of a type of CycloneDX, or a purpose of SPDX, that such a thing
// is looked up nowhere, so that it is no loss if it has no package URL.
func isNoPackage(kind string) bool {
	switch kind {
	case "file", "data", "machine-learning-model", "cryptographic-asset", "device", "source", "container", "archive":
		return true
	}
	return false
}

// spell gives a package the name that its ecosystem knows it by, where package
// URLs have another spelling of it: in small letters, or with the end of a Go
// module's path apart. The component's own name says it, if it is the same name.
func (c *component) spell(p *inventory.Package, u inventory.PackageURL) {
	if p.Type == "golang" && u.Subpath != "" && strings.EqualFold(c.name, p.Name+"/"+u.Subpath) {
		p.Name = c.name
	}
	for _, name := range [...]string{c.name, c.group + "/" + c.name} {
		if strings.EqualFold(name, p.Name) {
			p.Name = name
			break
		}
	}
	if p.Type == "golang" && p.Name == "stdlib" {
		p.Version = strings.TrimPrefix(p.Version, "go")
	}
}

// complete adds what properties say.
func (c *component) complete(p *inventory.Package, u inventory.PackageURL) {
	if c.said.ecosystem == nowhere {
		p.Ecosystem = ""
	} else if c.said.ecosystem != "" && u.Type != "" {
		p.Ecosystem = c.said.ecosystem
	}
	if p.Arch == "" {
		p.Arch = c.said.arch
	}
	for _, module := range [...]string{c.said.module, u.Qualifiers["modularitylabel"], u.Qualifiers["rpmmod"]} {
		if module != "" && p.Repository == "" {
			p.Repository = streamOf(p.Type, module)
		}
	}
	if p.FromDistribution() {
		c.source(p)
	}
}

// streamOf is a module stream without its build and context:
// nodejs:18:8080020240403130303:63b34585.
func streamOf(kind, module string) string {
	if kind != "rpm" {
		return module
	}
	parts := strings.SplitN(module, ":", 3)
	return strings.Join(parts[:min(len(parts), 2)], ":")
}

// source takes the source package of a distribution's package.
func (c *component) source(p *inventory.Package) {
	epoch, _, hasEpoch := strings.Cut(p.Version, ":")
	if name, version, ok := inventory.ParseSourceRPM(c.said.sourceRPM); ok {
		if hasEpoch {
			version = epoch + ":" + version
		}
		p.Source = inventory.Source{Name: name, Version: version}
		return
	}
	if c.said.sourceName == "" {
		return
	}
	p.Source.Name = c.said.sourceName
	version := c.said.sourceVersion
	switch {
	case version == "":
		return
	case c.said.sourceRelease != "":
		version += "-" + c.said.sourceRelease
	}
	if e := c.said.sourceEpoch; e != "" && e != "0" && !strings.Contains(version, ":") {
		version = e + ":" + version
	}
	p.Source.Version = version
}

// locate takes over the places, with the layers as they were told.
func (l *listed) locate(c *component) {
	if len(c.places) == 0 && (c.said.path != "" || c.said.layer != "") {
		c.places = []place{{path: c.said.path}}
	}
	for _, p := range c.said.ofPlaces {
		if i, err := strconv.Atoi(p.index); err == nil && i >= 0 && i < len(c.places) {
			c.places[i].layer = p.layer
		}
	}
	l.Places = make([]inventory.Place, 0, len(c.places))
	for _, at := range c.places {
		path := at.path
		if path != "" && !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		if at.layer == "" {
			at.layer = c.said.layer
		}
		l.Places = append(l.Places, inventory.Place{Path: path, Written: at.layer == written})
		l.layers = append(l.layers, at.layer)
	}
}
