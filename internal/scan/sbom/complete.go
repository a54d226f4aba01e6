package sbom

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// inventory makes an inventory of a document that was read to its end.
func (d *document) inventory(ecosystem func(inventory.OS) string) inventory.Inventory {
	inv := inventory.Inventory{Subject: inventory.Subject{Kind: inventory.KindSBOM}, Packages: make([]inventory.Package, 0, len(d.listed))}
	d.settleSubject()
	inv.Image = d.image()
	d.place(inv.Image)
	d.own()
	d.distribute(&inv, ecosystem)
	for i := range d.listed {
		l := &d.listed[i]
		switch l.flaw {
		case unnamed:
			d.notes.unnamed.add(l.FullName(), l.Version)
		case malformed:
			d.notes.malformed.add(l.FullName(), l.Version)
		}
		inv.Packages = append(inv.Packages, l.Package)
	}
	inv.Problems = d.notes.problems()
	d.listed = nil
	return inv
}

// isSubject says of a type of package URL that such a thing contains packages.
func isSubject(kind string) bool {
	return kind == "oci" || kind == "docker" || kind == "generic" || kind == "github"
}

// settleSubject finds what the document is about. That is no package of its own
// accord, unless its package URL is that of one: a bill of a library lists the
// library's dependencies, and is about the library as well.
func (d *document) settleSubject() {
	if d.format == "CycloneDX" {
		if u, ok := inventory.ParsePURL(d.subject.purl); ok && !isSubject(u.Type) {
			if l, ok := d.listedOf(&d.subject); ok {
				d.listed = append(d.listed, l)
			}
		}
		return
	}
	for _, s := range d.subjects {
		if d.describes[s.id] {
			d.subject = s
			break
		}
	}
	d.listed = slices.DeleteFunc(d.listed, func(l listed) bool { return d.describes[l.id] && isSubject(l.Type) })
}

// image is the image that the document is about, if it is about one.
func (d *document) image() *inventory.Image {
	s := &d.subject
	u, _ := inventory.ParsePURL(s.purl)
	if s.kind != "container" && u.Type != "oci" && u.Type != "docker" {
		return nil
	}
	i := &inventory.Image{Reference: s.name, ID: s.said.imageID, Layers: []inventory.Layer{}}
	if i.Reference == "" {
		i.Reference = s.said.repoTag
	}
	_, repoDigest, _ := strings.Cut(s.said.repoDigest, "@")
	for _, digest := range [...]string{s.version, u.Version, repoDigest} {
		if i.Digest == "" && digest != i.ID && inventory.CheckDigest(digest) == nil {
			i.Digest = digest
		}
	}
	for _, l := range s.said.layers {
		i.Layers = append(i.Layers, inventory.Layer{DiffID: l})
	}
	return i
}

// place turns layers as they were told into their numbers. Without a list of the
// layers, a digest says which packages are of one layer, but not of which.
func (d *document) place(i *inventory.Image) {
	number := map[string]int{}
	if i != nil {
		for n := range i.Layers {
			number[i.Layers[n].DiffID] = n + 1
			number[strconv.Itoa(n+1)] = n + 1
		}
	}
	for k := range d.listed {
		l := &d.listed[k]
		for at, layer := range l.layers {
			l.Places[at].Layer = number[layer]
		}
		l.layers = nil
	}
}

// own marks packages whose files another package of the distribution brought.
func (d *document) own() {
	if len(d.owns) == 0 {
		return
	}
	byID := make(map[string]*listed, len(d.listed))
	for i := range d.listed {
		byID[d.listed[i].id] = &d.listed[i]
	}
	for _, o := range d.owns {
		owner, owned := byID[o.owner], byID[o.owned]
		if owner != nil && owned != nil && owner.FromDistribution() && !owned.FromDistribution() {
			owned.OwnedBy = owner.Name
		}
	}
}

// distribute finds out which system the packages of distributions are from: the
// one that the document names, or else the one that most package URLs name. What
// is from another one gets an ecosystem of its own.
func (d *document) distribute(inv *inventory.Inventory, ecosystem func(inventory.OS) string) {
	counts := map[string]int{}
	systems := map[string]inventory.OS{}
	most := ""
	for i := range d.listed {
		l := &d.listed[i]
		if !l.FromDistribution() {
			continue
		}
		if l.distro == "" && len(d.systems) == 0 && l.Type == "rpm" {
			l.distro = builtFor(l.Namespace, l.Version)
		}
		key := l.distro + " " + l.Namespace
		if counts[key]++; counts[key] == 1 {
			systems[key] = systemOf(l.distro, l.Namespace)
		}
		if os := systems[key]; os.Version+os.Codename != "" && (most == "" || counts[key] > counts[most]) {
			most = key
		}
	}
	switch {
	case len(d.systems) > 0:
		inv.OS = d.systems[0]
	case most != "":
		inv.OS = systems[most]
	}
	for i := range d.listed {
		l := &d.listed[i]
		if !l.FromDistribution() || l.Ecosystem != "" {
			continue
		}
		own := systems[l.distro+" "+l.Namespace]
		switch {
		case sameSystem(own, inv.OS):
		case ecosystem(own) != "":
			l.Ecosystem = ecosystem(own)
		case !strings.HasPrefix(inv.OS.ID, own.ID):
			l.Ecosystem = own.ID // of which nothing is known, and certainly not what is of another
		}
		if l.Ecosystem == "" && ecosystem(inv.OS) == "" {
			d.notes.homeless.add(l.Name, l.Version)
		}
	}
}

// sameSystem says whether what a package URL tells of a system is true of the one
// that is known.
func sameSystem(told, known inventory.OS) bool {
	if told.ID != known.ID {
		return told.ID == ""
	}
	return told.Version == "" && told.Codename == "" || told.Version == known.Version && told.Version != "" ||
		told.Codename != "" && told.Codename == known.Codename || told.Version != "" && strings.HasPrefix(known.Version, told.Version+".")
}

// notes are what is wrong with components, by reason.
type notes struct{ unnamed, malformed, long, homeless note }

// note counts components, and names the first of them.
type note struct {
	count int
	first []string
}

// maxNamed is how many components a problem names.
const maxNamed = 5

func (n *note) add(name, version string) {
	n.count++
	if len(n.first) < maxNamed {
		const enough = 100
		name = strings.TrimSpace(name + " " + version)
		n.first = append(n.first, strings.ToValidUTF8(name[:min(len(name), enough)], ""))
	}
}

// problems says in words what is wrong.
func (n *notes) problems() []inventory.Problem {
	var out []inventory.Problem
	for _, p := range [...]struct {
		note
		what string
	}{
		{n.unnamed, "without a package URL, so that no advisory can be looked up"},
		{n.malformed, "with a package URL that is none, so that no advisory can be looked up"},
		{n.homeless, "of a distribution that is not told, so that no advisory can be looked up"},
		{n.long, "with names that are too long to be any; they are left out"},
	} {
		if p.count == 0 {
			continue
		}
		names := strings.Join(p.first, ", ")
		if p.count > len(p.first) {
			names += ", …"
		}
		out = append(out, inventory.Problem{What: fmt.Sprintf("%d listed %s: %s", p.count, p.what, names)})
	}
	return out
}
