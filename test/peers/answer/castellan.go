package answer

// Castellan reads `castellan scan -o json` of one image: its packages, and what
// is wrong with them. Of merged advisories each has its line.
func Castellan(b []byte) (packages, vulnerabilities []string, err error) {
	type pkg struct {
		Type, Namespace, Name, Version, Arch string
		Source                               struct{ Name, Version string }
	}
	doc, err := decode[struct {
		Reports []struct {
			Inventory       struct{ Packages []pkg }
			Vulnerabilities []struct {
				Package    pkg
				Advisories []struct{ ID string }
			}
		}
	}](b)
	if err != nil {
		return nil, nil, err
	}
	common := func(p pkg) Package {
		c := Package{Type: p.Type, Name: p.Name, Version: p.Version, Arch: p.Arch, Source: p.Source.Name, SourceVersion: p.Source.Version}
		switch {
		case p.Namespace == "" || c.distributed():
		case p.Type == "maven":
			c.Name = p.Namespace + ":" + p.Name
		default:
			c.Name = p.Namespace + "/" + p.Name
		}
		return c.plain()
	}
	for _, r := range doc.Reports {
		for _, p := range r.Inventory.Packages {
			packages = append(packages, common(p).line())
		}
		for _, v := range r.Vulnerabilities {
			for _, a := range v.Advisories {
				vulnerabilities = append(vulnerabilities, a.ID+" "+common(v.Package).matched())
			}
		}
	}
	return sorted(packages), sorted(vulnerabilities), nil
}
