package jar

import (
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// coordinates are what Maven knows a package by.
type coordinates struct {
	group, artifact, version string
	place                    string // the file that says so
}

// asPackage returns the package; without a group no advisory can be looked up.
func (c coordinates) asPackage(place string, found inventory.Evidence) inventory.Package {
	p := inventory.Package{Type: "maven", Namespace: c.group, Name: c.artifact, Version: c.version, Found: found}
	if c.group != "" {
		p.Ecosystem = "Maven"
	}
	if place != "" {
		p.Places = []inventory.Place{{Path: place}}
	}
	if c.artifact == "" || c.version == "" {
		p.Name = "" // nothing
	}
	return p
}

// readProperties reads a pom.properties file. Values that Maven did not fill in
// are left out.
func readProperties(r io.Reader) (coordinates, error) {
	var c coordinates
	lines := pull.NewLines(r, 512, maxProperties)
	for {
		b, err := lines.Next()
		if err == io.EOF {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		key, value, ok := strings.Cut(string(b), "=")
		if !ok {
			key, value, _ = strings.Cut(string(b), ":")
		}
		value = strings.TrimSpace(value)
		if strings.ContainsAny(value, "${} \t") {
			continue
		}
		value = strings.ReplaceAll(value, `\`, "")
		switch strings.TrimSpace(key) {
		case "groupId":
			c.group = value
		case "artifactId":
			c.artifact = value
		case "version":
			c.version = value
		}
	}
}

// manifest is the main section of META-INF/MANIFEST.MF.
type manifest map[string]string

// manifestKeys are the attributes that are kept.
const manifestKeys = " Implementation-Title Implementation-Version Implementation-Vendor-Id Implementation-Vendor " +
	"Specification-Title Specification-Version Bundle-SymbolicName Bundle-Name Bundle-Version Bundle-Vendor " +
	"Automatic-Module-Name Extension-Name Group-Id Artifact-Id Short-Name Plugin-Version Bundle-License "

// readManifest reads attributes up to the first empty line. A line that begins
// with a blank goes on with the one before.
func readManifest(r io.Reader) (manifest, error) {
	m := manifest{}
	lines := pull.NewLines(r, 4<<10, maxManifest)
	key := ""
	for {
		b, err := lines.Next()
		if err == io.EOF || err == nil && len(b) == 0 {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		if b[0] == ' ' {
			if key != "" && len(m[key]) < pull.MaxText {
				m[key] += string(b[1:])
			}
			continue
		}
		name, value, _ := strings.Cut(string(b), ":")
		if key = ""; strings.Contains(manifestKeys, " "+name+" ") {
			key = name
			m[key] = strings.TrimLeft(value, " ")
		}
	}
}

// value returns an attribute without what OSGi adds behind a semicolon.
func (m manifest) value(key string) string {
	v, _, _ := strings.Cut(m[key], ";")
	return strings.TrimSpace(v)
}

// version returns the first attribute that is a version.
func (m manifest) version(keys ...string) string {
	for _, key := range keys {
		// Some add when or from what it was built.
		v, _, _ := strings.Cut(m.value(key), " ")
		v = strings.Trim(v, `"`)
		if strings.HasPrefix(v, "v") && len(v) > 1 && isDigit(v[1]) {
			v = v[1:]
		}
		if v != "" && isDigit(v[0]) {
			return v
		}
	}
	return ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
