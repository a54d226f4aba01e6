// Package answer reads what scanners say about an image, each in its own form,
// and makes lines of it that can be compared: one a package, or one a
// vulnerability.
//
//	deb libssl3 3.0.9-1 amd64 openssl 3.0.9-1       TYPE NAME VERSION ARCH SOURCE SOURCE-VERSION
//	npm @hapi/hoek 8.5.0                            TYPE NAME VERSION
//	DSA-5343-1 deb openssl 1.1.1k-1+deb11u1         ADVISORY TYPE NAME VERSION; of deb and apk the source's name
//
// It is not for judging who is right: the tests beside it do.
package answer

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Package is as much of a package as scanners have in common.
type Package struct {
	Type, Name, Version, Arch, Source, SourceVersion string
}

// line is a package as text; what follows from the rest is left out.
func (p Package) line() string {
	if !p.distributed() {
		return strings.Join([]string{p.Type, p.Name, orNone(p.Version)}, " ")
	}
	return strings.Join([]string{p.Type, p.Name, orNone(p.Version), orNone(p.Arch), orNone(p.Source), orNone(p.SourceVersion)}, " ")
}

// distributed says that a distribution's package manager installed it.
func (p Package) distributed() bool { return p.Type == "deb" || p.Type == "apk" || p.Type == "rpm" }

// matched is the name by which advisories speak of it, type and version.
func (p Package) matched() string {
	name := p.Name
	if p.Type == "deb" || p.Type == "apk" {
		name = p.Source
	}
	return strings.Join([]string{p.Type, name, orNone(p.Version)}, " ")
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plain writes what tools write in several ways in one.
func (p Package) plain() Package {
	switch p.Type {
	case "pypi":
		p.Name = strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(p.Name))
	case "golang":
		p.Version = strings.TrimPrefix(p.Version, "v")
	case "deb", "apk", "rpm":
		if p.Source == "" {
			p.Source = p.Name
		}
		if p.SourceVersion == "" {
			p.SourceVersion = p.Version
		}
		if p.Type == "rpm" { // the file's name, where it is from, tells no epoch
			p.SourceVersion = withoutEpoch(p.SourceVersion)
		}
	}
	return p
}

func withoutEpoch(version string) string {
	if _, rest, ok := strings.Cut(version, ":"); ok {
		return rest
	}
	return version
}

// ParsePURL reads a package URL, with what scanners say in its qualifiers.
func ParsePURL(s string) (Package, error) {
	rest, ok := strings.CutPrefix(s, "pkg:")
	if !ok {
		return Package{}, fmt.Errorf("%q is no package URL", s)
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	var p Package
	p.Type, rest, _ = strings.Cut(rest, "/")
	if at := strings.LastIndex(rest, "@"); at > 0 {
		v, err := url.PathUnescape(rest[at+1:])
		if err != nil {
			return p, fmt.Errorf("version of %q: %w", s, err)
		}
		rest, p.Version = rest[:at], v
	}
	name, err := url.PathUnescape(rest)
	if err != nil {
		return p, fmt.Errorf("name of %q: %w", s, err)
	}
	p.Name = name
	if i := strings.LastIndex(name, "/"); i >= 0 && p.distributed() {
		p.Name = name[i+1:]
	}
	if p.Type == "maven" {
		p.Name = strings.Replace(name, "/", ":", 1)
	}
	q, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B"))
	if err != nil {
		return p, fmt.Errorf("qualifiers of %q: %w", s, err)
	}
	if !p.distributed() {
		return p.plain(), nil
	}
	p.Arch = q.Get("arch")
	if e := q.Get("epoch"); e != "" {
		p.Version = e + ":" + p.Version
	}
	p.Source, p.SourceVersion, _ = strings.Cut(q.Get("upstream"), "@")
	if p.Type == "rpm" {
		p.Source, p.SourceVersion = sourceOfRPM(p.Source)
	}
	return p.plain(), nil
}

// sourceOfRPM takes name and version from a source package's file name.
func sourceOfRPM(file string) (name, version string) {
	s := strings.TrimSuffix(file, ".src.rpm")
	release := strings.LastIndex(s, "-")
	if release < 0 {
		return s, ""
	}
	v := strings.LastIndex(s[:release], "-")
	if v < 0 {
		return s, ""
	}
	return s[:v], s[v+1:]
}

// sorted are lines in order, each once.
func sorted(lines []string) []string {
	slices.Sort(lines)
	return slices.Compact(lines)
}

func decode[T any](b []byte) (T, error) {
	var v T
	err := json.Unmarshal(b, &v)
	return v, err
}
