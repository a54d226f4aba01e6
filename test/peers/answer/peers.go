package answer

import "strings"

// Syft reads `syft scan -o json`.
func Syft(b []byte) (packages []string, err error) {
	doc, err := decode[struct {
		Artifacts []struct{ Name, Version, Type, PURL string }
	}](b)
	if err != nil {
		return nil, err
	}
	for _, a := range doc.Artifacts {
		if a.PURL == "" {
			packages = append(packages, strings.Join([]string{a.Type, a.Name, orNone(a.Version)}, " "))
			continue
		}
		p, err := ParsePURL(a.PURL)
		if err != nil {
			return nil, err
		}
		packages = append(packages, p.line())
	}
	return sorted(packages), nil
}

// Grype reads `grype -o json`.
func Grype(b []byte) (vulnerabilities []string, err error) {
	doc, err := decode[struct {
		Matches []struct {
			Vulnerability struct{ ID string }
			Artifact      struct{ PURL string }
		}
	}](b)
	if err != nil {
		return nil, err
	}
	for _, m := range doc.Matches {
		p, err := ParsePURL(m.Artifact.PURL)
		if err != nil {
			return nil, err
		}
		vulnerabilities = append(vulnerabilities, m.Vulnerability.ID+" "+p.matched())
	}
	return sorted(vulnerabilities), nil
}

// typeOf is the package URL type of an ecosystem of OSV.
var typeOf = map[string]string{"Debian": "deb", "Alpine": "apk", "AlmaLinux": "rpm", "Go": "golang", "npm": "npm", "PyPI": "pypi", "Maven": "maven",
	"RubyGems": "gem", "crates.io": "cargo", "NuGet": "nuget", "Packagist": "composer"}

// OSVScanner reads `osv-scanner scan image --format json`.
func OSVScanner(b []byte) (vulnerabilities []string, err error) {
	doc, err := decode[struct {
		Results []struct {
			Packages []struct {
				Package         struct{ Name, Version, Ecosystem string }
				Vulnerabilities []struct{ ID string }
			}
		}
	}](b)
	if err != nil {
		return nil, err
	}
	for _, r := range doc.Results {
		for _, p := range r.Packages {
			ecosystem, _, _ := strings.Cut(p.Package.Ecosystem, ":")
			named := Package{Type: typeOf[ecosystem], Name: p.Package.Name, Version: p.Package.Version}.plain()
			for _, v := range p.Vulnerabilities {
				vulnerabilities = append(vulnerabilities, v.ID+" "+named.matched())
			}
		}
	}
	return sorted(vulnerabilities), nil
}
