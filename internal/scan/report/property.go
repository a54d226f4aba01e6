package report

import (
	"strconv"

	"github.com/CycloneDX/cyclonedx-go"

	"github.com/castellan-security/castellan/internal/inventory"
)

// property is what bills of materials have no field of their own for. What reads
// them (package sbom) finds the same vulnerabilities as in the inventory.
type property struct{ name, value string }

// propertySpace is before all names of our properties.
const propertySpace = "castellan:"

// isMixed says whether packages of distributions are from several of them, so
// that the system of the document doesn't tell which.
func isMixed(inv *inventory.Inventory) bool {
	first := ""
	for i := range inv.Packages {
		p := &inv.Packages[i]
		if !p.FromDistribution() {
			continue
		}
		if first == "" {
			first = p.Ecosystem
		}
		if p.Ecosystem != first {
			return true
		}
	}
	return false
}

// beyondURL is what a package URL does not tell and advisories are matched by:
// the distribution's package that brought it, its module stream, and where it is
// looked up if its type doesn't say.
func beyondURL(p *inventory.Package, mixed bool) []property {
	all := []property{{"owned_by", p.OwnedBy}, {"repository", p.Repository}}
	if p.FromDistribution() && mixed || !p.FromDistribution() && p.Ecosystem != inventory.EcosystemOf(p.Type) {
		all = append(all, property{"ecosystem", firstOf(p.Ecosystem, "none")})
	}
	return all
}

// imageProperties name an image's layers, from the base up.
func imageProperties(i *inventory.Image) []property {
	all := []property{{"image_id", i.ID}}
	for _, l := range i.Layers {
		all = append(all, property{"layer_diff_id", firstOf(l.DiffID, l.Digest, "unknown")})
	}
	return all
}

// layerOf names the layer of a place, "" where there is none.
func layerOf(p inventory.Place) string {
	switch {
	case p.Written:
		return "written"
	case p.Layer > 0:
		return strconv.Itoa(p.Layer)
	}
	return ""
}

// bomProperties leaves out what is empty.
func bomProperties(all []property) *[]cyclonedx.Property {
	var out []cyclonedx.Property
	for _, p := range all {
		if p.value != "" {
			out = append(out, cyclonedx.Property{Name: propertySpace + p.name, Value: p.value})
		}
	}
	if out == nil {
		return nil
	}
	return &out
}
