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
	// A name with slashes of its own is namespace and name in the URL.
	for i, part := range strings.Split(name, "/") {
		if i == 0 || namesHaveSlashes(p.Type) {
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
	if !p.FromDistribution() {
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

// namesHaveSlashes says of a type that its packages are known by one name with
// slashes in it: a Go module, a repository.
func namesHaveSlashes(kind string) bool {
	return kind == "golang" || kind == "swift" || kind == "github"
}

// PackageURL is a package URL in its parts, each unescaped.
type PackageURL struct {
	Type, Namespace, Name, Version, Subpath string
	Qualifiers                              map[string]string // nil: none
}

// ParsePURL reads a package URL (ECMA-427); ok says whether it is one.
func ParsePURL(s string) (u PackageURL, ok bool) {
	rest, ok := strings.CutPrefix(s, "pkg:")
	if !ok {
		return PackageURL{}, false
	}
	rest, subpath, _ := strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(strings.TrimLeft(rest, "/"), "?")
	if i := strings.LastIndexByte(rest, '@'); i > strings.LastIndexByte(rest, '/') {
		u.Version, rest = unescape(rest[i+1:]), rest[:i]
	}
	u.Subpath = strings.Trim(unescape(subpath), "/")
	u.Type, rest, ok = strings.Cut(rest, "/")
	if !ok || u.Type == "" {
		return PackageURL{}, false
	}
	u.Type, rest = strings.ToLower(u.Type), strings.Trim(rest, "/")
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		u.Namespace, rest = unescape(rest[:i]), rest[i+1:]
	}
	u.Name = unescape(rest)
	for q := range strings.SplitSeq(query, "&") {
		if name, value, ok := strings.Cut(q, "="); ok && value != "" {
			if u.Qualifiers == nil {
				u.Qualifiers = map[string]string{}
			}
			u.Qualifiers[strings.ToLower(name)] = unescape(value)
		}
	}
	return u, u.Name != ""
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

// Package returns the package that a URL names, as analysers write it: with its
// ecosystem where the type says it, the epoch in the version, and the source
// package of a distribution's package. The release of a distribution is not in
// it.
func (u PackageURL) Package() Package {
	p := Package{Type: u.Type, Namespace: u.Namespace, Name: u.Name, Version: u.Version, Ecosystem: EcosystemOf(u.Type)}
	if namesHaveSlashes(u.Type) && u.Namespace != "" {
		p.Namespace, p.Name = "", u.Namespace+"/"+u.Name
	}
	if !p.FromDistribution() {
		return p
	}
	p.Arch = u.Qualifiers["arch"]
	epoch := ""
	if e := u.Qualifiers["epoch"]; e != "" && e != "0" {
		epoch = e + ":"
	}
	if !strings.Contains(p.Version, ":") && p.Version != "" {
		p.Version = epoch + p.Version
	}
	p.Source = Source{Name: p.Name, Version: p.Version}
	upstream := u.Qualifiers["upstream"]
	if name, version, ok := ParseSourceRPM(upstream); ok {
		p.Source = Source{Name: name, Version: epoch + version}
		return p
	}
	if name, version, _ := strings.Cut(upstream, "@"); name != "" {
		p.Source.Name = name
		if version != "" {
			p.Source.Version = version
		}
	}
	return p
}

// EcosystemOf returns where advisories for packages of a type are looked up; ""
// for those of distributions, where the release decides, and for types that
// nobody publishes for.
func EcosystemOf(kind string) string {
	switch kind {
	case "golang":
		return "Go"
	case "npm":
		return "npm"
	case "pypi":
		return "PyPI"
	case "maven":
		return "Maven"
	case "gem":
		return "RubyGems"
	case "cargo":
		return "crates.io"
	case "nuget":
		return "NuGet"
	case "composer":
		return "Packagist"
	case "hex":
		return "Hex"
	case "pub":
		return "Pub"
	case "swift":
		return "SwiftURL"
	case "conan":
		return "ConanCenter"
	case "hackage":
		return "Hackage"
	case "cran":
		return "CRAN"
	case "github":
		return "GitHub Actions"
	case "bitnami":
		return "Bitnami"
	}
	return ""
}

// FromDistribution says whether a distribution's package manager knows packages
// of this type.
func (p *Package) FromDistribution() bool {
	return p.Type == "deb" || p.Type == "apk" || p.Type == "rpm" || p.Type == "alpm"
}

// ParseSourceRPM takes the file name of a source package apart:
// NAME-VERSION-RELEASE.src.rpm.
func ParseSourceRPM(file string) (name, version string, ok bool) {
	file, ok = strings.CutSuffix(file, ".rpm")
	if !ok {
		return "", "", false
	}
	file = strings.TrimSuffix(strings.TrimSuffix(file, ".src"), ".nosrc")
	release := strings.LastIndexByte(file, '-')
	if release <= 0 {
		return "", "", false
	}
	at := strings.LastIndexByte(file[:release], '-')
	if at <= 0 {
		return "", "", false
	}
	return file[:at], file[at+1:], true
}
