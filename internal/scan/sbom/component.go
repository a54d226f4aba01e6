package sbom

import (
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// component is what a document says of one thing, in whichever format.
type component struct {
	kind                       string // CycloneDX's type, or SPDX's purpose in its words
	id                         string // in SPDX
	group, name, version, purl string
	description                string
	licenses                   []string
	places                     []place
	said                       said
	// heading says that it stands for a file with packages, not for one.
	heading bool
	// long says that a text was too long to be kept.
	long bool
}

// place is where a component was found.
type place struct {
	index string // of the property that told it
	path  string
	layer string // a digest, or a number of ours; empty where it is not told
}

// written is the layer of what a running workload wrote.
const written = "written"

// said is what the properties of well-known writers add.
type said struct {
	sourceName, sourceVersion, sourceRelease, sourceEpoch, sourceRPM string
	arch, module, owner, ecosystem                                   string
	layer, path                                                      string // of all places, or of the only one
	systemID, systemVersion, codename, pretty                        string
	imageID, repoDigest, repoTag                                     string
	layers                                                           []string
	ofPlaces                                                         []place // layers of the places that the component has anyway
}

// field returns where a property belongs, nil for one that is not needed.
func (s *said) field(name string) *string {
	switch name {
	case "castellan:source_name", "aquasecurity:trivy:SrcName", "syft:metadata:source", "syft:metadata:originPackage":
		return &s.sourceName
	case "castellan:source_version", "aquasecurity:trivy:SrcVersion", "syft:metadata:sourceVersion":
		return &s.sourceVersion
	case "aquasecurity:trivy:SrcRelease":
		return &s.sourceRelease
	case "aquasecurity:trivy:SrcEpoch":
		return &s.sourceEpoch
	case "syft:metadata:sourceRpm":
		return &s.sourceRPM
	case "castellan:architecture":
		return &s.arch
	case "castellan:repository", "aquasecurity:trivy:Modularitylabel", "syft:metadata:modularityLabel":
		return &s.module
	case "castellan:owned_by":
		return &s.owner
	case "castellan:ecosystem":
		return &s.ecosystem
	case "aquasecurity:trivy:LayerDiffID":
		return &s.layer
	case "aquasecurity:trivy:FilePath":
		return &s.path
	case "syft:distro:id":
		return &s.systemID
	case "syft:distro:versionID":
		return &s.systemVersion
	case "syft:distro:versionCodename", "castellan:codename":
		return &s.codename
	case "syft:distro:prettyName":
		return &s.pretty
	case "aquasecurity:trivy:ImageID", "castellan:image_id":
		return &s.imageID
	case "aquasecurity:trivy:RepoDigest":
		return &s.repoDigest
	case "aquasecurity:trivy:RepoTag":
		return &s.repoTag
	}
	return nil
}

// property takes one property.
func (d *document) property(c *component, name, value string) error {
	if value == "" {
		return nil
	}
	if rest, ok := strings.CutPrefix(name, "syft:location:"); ok {
		index, what, _ := strings.Cut(rest, ":")
		return d.located(c, index, what, value)
	}
	if rest, ok := strings.CutPrefix(name, "castellan:layer_of_place:"); ok {
		p := place{index: rest, layer: value}
		c.said.ofPlaces = append(c.said.ofPlaces, p)
		return d.take(placeWeight)
	}
	switch name {
	case "aquasecurity:trivy:DiffID", "castellan:layer_diff_id":
		if len(c.said.layers) < maxLayers {
			c.said.layers = append(c.said.layers, value)
		}
		return d.take(len(value))
	case "aquasecurity:trivy:Class":
		c.heading = true
	}
	if f := c.said.field(name); f != nil {
		*f = value
	}
	return nil
}

// located takes what a property of syft says of one place. Those of a place
// follow one another.
func (d *document) located(c *component, index, what, value string) error {
	if what != "path" && what != "layerID" {
		return nil
	}
	if n := len(c.places); n == 0 || c.places[n-1].index != index {
		if err := d.put(c, place{index: index}); err != nil {
			return err
		}
	}
	p := &c.places[len(c.places)-1]
	if what == "path" {
		p.path = value
		return d.take(len(value))
	}
	p.layer = value
	return nil
}

// placeWeight is what a place takes beside its path.
const placeWeight = 200

// put adds a place.
func (d *document) put(c *component, p place) error {
	c.places = append(c.places, p)
	return d.take(placeWeight + len(p.path))
}

// add keeps what a component shows, once it is whole.
func (d *document) add(c component) error {
	if err := d.charge(&c, 0); err != nil {
		return err
	}
	d.settle(c)
	return nil
}

// charge takes what a component and more of it weigh from the budget.
func (d *document) charge(c *component, more int) error {
	n := more + weight + len(c.id) + len(c.group) + len(c.name) + len(c.version) + len(c.purl) + len(c.description)
	for _, l := range c.licenses {
		n += len(l)
	}
	return d.take(n)
}

// settle keeps what a component shows that was paid for.
func (d *document) settle(c component) {
	if c.kind == "operating-system" {
		d.systems = append(d.systems, c.system())
		return
	}
	if c.id != "" && c.kind == "container" {
		d.subjects = append(d.subjects, c)
	}
	if l, ok := d.listedOf(&c); ok {
		d.listed = append(d.listed, l)
	}
}

// license keeps a name of a licence; texts of licences are longer.
func (c *component) license(name string) {
	if name == "" || name == "NOASSERTION" || name == "NONE" || len(name) > analyse.MaxLicense || len(c.licenses) == analyse.MaxLicenses {
		return
	}
	c.licenses = append(c.licenses, name)
}

// keep returns a text unless it is too long to be kept.
func (c *component) keep(s string) string {
	if len(s) > maxText {
		c.long = true
		return ""
	}
	return s
}

// system is the operating system that a component stands for.
func (c *component) system() inventory.OS {
	os := inventory.OS{ID: c.name, Version: c.version, Name: c.description, Codename: c.said.codename}
	if c.said.systemID != "" {
		os.ID, os.Version = c.said.systemID, c.said.systemVersion
	}
	if c.said.pretty != "" {
		os.Name = c.said.pretty
	}
	return cleanSystem(os)
}
