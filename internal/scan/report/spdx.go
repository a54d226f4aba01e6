package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// writeSPDX writes SPDX 2.3: packages, and of vulnerabilities the references
// that the form has room for.
func writeSPDX(w io.Writer, reports []Report, o Options) error {
	documents := make([]*v2_3.Document, 0, len(reports))
	for i := range reports {
		documents = append(documents, spdxOf(&reports[i], o))
	}
	return one(w, documents)
}

const (
	spdxSubject = common.ElementID("Subject")
	spdxOS      = common.ElementID("OperatingSystem")
)

func spdxOf(r *Report, o Options) *v2_3.Document {
	id := uuidOf(r)
	d := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: r.title(),
		DocumentNamespace: "https://spdx.org/spdxdocs/castellan-" + id,
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: spdxTool(o)}},
			Created:  r.Made.UTC().Format(time.RFC3339),
		},
	}
	d.Packages = append(d.Packages, spdxSubjectOf(r, o))
	d.Relationships = append(d.Relationships, related("DOCUMENT", spdxSubject, "DESCRIBES"))
	if os := r.Inventory.OS; os.ID != "" {
		d.Packages = append(d.Packages, spdxSystem(r, o))
		d.Relationships = append(d.Relationships, related(spdxSubject, spdxOS, "CONTAINS"))
	}
	byKey := map[inventory.Key][]*finding.Vulnerability{}
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		byKey[v.Package.Key()] = append(byKey[v.Package.Key()], v)
	}
	mixed := isMixed(&r.Inventory)
	for i := range r.Inventory.Packages {
		p := &r.Inventory.Packages[i]
		one := spdxPackage(p, i, r.Inventory.OS)
		one.Annotations = spdxAnnotations(beyondURL(p, mixed), r, o)
		for _, v := range byKey[p.Key()] {
			one.PackageExternalReferences = append(one.PackageExternalReferences, spdxAdvisories(v)...)
		}
		d.Packages = append(d.Packages, one)
		d.Relationships = append(d.Relationships, related(spdxSubject, one.PackageSPDXIdentifier, "CONTAINS"))
	}
	return d
}

func related(from, to common.ElementID, how string) *v2_3.Relationship {
	return &v2_3.Relationship{RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: how}
}

func spdxSubjectOf(r *Report, o Options) *v2_3.Package {
	inv := &r.Inventory
	p := &v2_3.Package{
		PackageName: inv.Subject.Name, PackageSPDXIdentifier: spdxSubject, PackageDownloadLocation: "NOASSERTION",
		PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
		PrimaryPackagePurpose: "ARCHIVE",
	}
	if i := inv.Image; i != nil {
		p.PackageName, p.PrimaryPackagePurpose = firstOf(i.Reference, inv.Subject.Name), "CONTAINER"
		p.PackageVersion = firstOf(i.Digest, i.ID)
		p.PackageExternalReferences = []*v2_3.PackageExternalReference{purlReference(productOf(inv))}
		p.Annotations = spdxAnnotations(imageProperties(i), r, o)
	}
	return p
}

// spdxSystem is the operating system, in the form in which other writers have it.
func spdxSystem(r *Report, o Options) *v2_3.Package {
	os := r.Inventory.OS
	return &v2_3.Package{
		PackageName: os.ID, PackageSPDXIdentifier: spdxOS, PackageVersion: os.Version, PackageDescription: os.Name,
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION",
		PackageCopyrightText: "NOASSERTION", PrimaryPackagePurpose: "OPERATING_SYSTEM",
		Annotations: spdxAnnotations([]property{{"codename", os.Codename}}, r, o),
	}
}

// spdxAnnotations leaves out what is empty.
func spdxAnnotations(all []property, r *Report, o Options) []v2_3.Annotation {
	var out []v2_3.Annotation
	for _, p := range all {
		if p.value == "" {
			continue
		}
		out = append(out, v2_3.Annotation{
			Annotator: common.Annotator{Annotator: spdxTool(o), AnnotatorType: "Tool"}, AnnotationType: "OTHER",
			AnnotationDate: r.Made.UTC().Format(time.RFC3339), AnnotationComment: propertySpace + p.name + "=" + p.value,
		})
	}
	return out
}

func spdxTool(o Options) string { return strings.TrimSuffix(o.Tool+"-"+o.Version, "-") }

func purlReference(u string) *v2_3.PackageExternalReference {
	return &v2_3.PackageExternalReference{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: u}
}

// spdxPackage leaves licences unasserted: those of packages are free text, which
// SPDX takes only as expressions of its own identifiers.
func spdxPackage(p *inventory.Package, n int, os inventory.OS) *v2_3.Package {
	one := &v2_3.Package{
		PackageName: p.FullName(), PackageSPDXIdentifier: common.ElementID(fmt.Sprintf("Package-%d", n+1)), PackageVersion: p.Version,
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION",
		PackageCopyrightText: "NOASSERTION", PackageExternalReferences: []*v2_3.PackageExternalReference{purlReference(p.PURL(os))},
	}
	if len(p.Licenses) > 0 {
		one.PackageLicenseComments = "declared: " + strings.Join(p.Licenses, ", ")
	}
	if p.Source.Name != "" {
		one.PackageSourceInfo = fmt.Sprintf("built from %s %s", p.Source.Name, p.Source.Version)
	}
	if len(p.Places) > 0 {
		one.PackageComment = "found in " + whence(p.Places)
	}
	return one
}

func spdxAdvisories(v *finding.Vulnerability) []*v2_3.PackageExternalReference {
	l := links(v.References)
	if len(l) == 0 {
		return nil
	}
	return []*v2_3.PackageExternalReference{{Category: common.CategorySecurity, RefType: common.TypeSecurityAdvisory, Locator: l[0], ExternalRefComment: v.ID}}
}
