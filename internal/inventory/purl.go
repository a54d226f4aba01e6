package inventory

import (
	"net/url"
	"strings"
)

// PURL returns the package URL of p (package-url specification, ECMA-427). distro is the
// operating system of the subject, for the packages of distributions.
func (p *Package) PURL(distro OS) string {
	var b strings.Builder
	b.WriteString("pkg:")
	b.WriteString(p.Type)
	namespace := p.Namespace
	if p.Type == "pypi" || p.Type == "deb" || p.Type == "apk" || p.Type == "composer" || p.Type == "github" {
		namespace = strings.ToLower(namespace)
	}
	for part := range strings.SplitSeq(namespace, "/") {
		if part != "" {
			b.WriteByte('/')
			b.WriteString(escape(part))
		}
	}
	name := p.Name
	switch p.Type {
	case "pypi":
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	case "deb", "apk", "composer", "github":
		name = strings.ToLower(name)
	}
	// A Go module's name has slashes, which are namespace and name.
	for i, part := range strings.Split(name, "/") {
		if i == 0 || p.Type == "golang" || p.Type == "swift" {
			b.WriteByte('/')
		} else {
			b.WriteString("%2F")
		}
		b.WriteString(escape(part))
	}
	if p.Version != "" {
		b.WriteByte('@')
		b.WriteString(escape(p.versionOfURL()))
	}
	b.WriteString(p.qualifiers(distro))
	return b.String()
}

// versionOfURL is the version without the epoch, which for rpm is a qualifier.
func (p *Package) versionOfURL() string {
	if p.Type == "rpm" {
		if _, rest, ok := strings.Cut(p.Version, ":"); ok {
			return rest
		}
	}
	return p.Version
}

// qualifiers are sorted by name, as the specification wants them.
func (p *Package) qualifiers(distro OS) string {
	if p.Type != "deb" && p.Type != "apk" && p.Type != "rpm" && p.Type != "alpm" {
		return ""
	}
	var q []string
	add := func(name, value string) {
		if value != "" {
			q = append(q, name+"="+escape(value))
		}
	}
	add("arch", p.Arch)
	if distro.ID != "" && distro.Version != "" {
		add("distro", distro.ID+"-"+distro.Version)
	}
	if p.Type == "rpm" {
		if epoch, _, ok := strings.Cut(p.Version, ":"); ok && epoch != "0" {
			add("epoch", epoch)
		}
	}
	if p.Source.Name != "" && (p.Source.Name != p.Name || p.Source.Version != "" && p.Source.Version != p.Version) {
		upstream := p.Source.Name
		if p.Source.Version != "" && p.Source.Version != p.Version {
			upstream += "@" + p.Source.Version
		}
		add("upstream", upstream)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + strings.Join(q, "&")
}

// escape is percent-encoding as package URLs want it: everything but letters,
// digits and ".-_~:", with blanks as %20.
func escape(s string) string {
	s = strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
	return strings.ReplaceAll(s, "%3A", ":")
}
