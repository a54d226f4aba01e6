// Package bitnami reads what Bitnami's images say of the applications that were
// built into them, without a distribution's package: a bill of materials beside
// each, and in older images one list.
//
// It is not for bills of materials in general (see sbom): one that lies in an
// image says nothing of what else is there.
package bitnami

import (
	"context"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// maxFile bounds a file; the longest seen has 60 KiB.
const maxFile = 16 << 20

const (
	folder = "opt/bitnami/"
	list   = folder + ".bitnami_components.json"
)

// Analyser reads Bitnami's files.
type Analyser struct{}

// Name is analyse.Analyser.
func (Analyser) Name() string { return "bitnami" }

// Wants is analyse.Analyser.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	return len(head) > 0 && strings.HasPrefix(e.Path, folder) && (e.Path == list || isBill(e))
}

func isBill(e *analyse.Entry) bool {
	base := e.Base()
	return strings.HasPrefix(base, ".spdx-") && strings.HasSuffix(base, ".spdx") && len(base) > len(".spdx-.spdx")
}

// Take is analyse.Analyser.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	j := pull.NewJSON(r, e.Size, maxFile)
	if e.Path == list {
		return takeList(j, shown)
	}
	kind, err := j.Kind()
	if err != nil || kind != '{' { // tags and values, of long ago
		return err
	}
	return j.Object(func(key []byte) error {
		if string(key) != "packages" {
			return nil
		}
		return j.Array(func(int) error { return takePackage(j, shown) })
	})
}

// takePackage reads one package of a bill. What is no application of Bitnami's
// was compiled in, and is seen where it is.
func takePackage(j *pull.JSON, shown *analyse.Shown) error {
	license, address := "", ""
	err := j.Object(func(key []byte) (err error) {
		switch string(key) {
		case "licenseDeclared":
			license, err = j.Text()
		case "externalRefs":
			err = j.Array(func(int) error {
				return j.Object(func(key []byte) error {
					if string(key) != "referenceLocator" {
						return nil
					}
					s, err := j.Text()
					if strings.HasPrefix(s, "pkg:bitnami/") {
						address = s
					}
					return err
				})
			})
		}
		return err
	})
	if err != nil {
		return err
	}
	u, ok := inventory.ParsePURL(address)
	if !ok || u.Version == "" {
		return nil
	}
	p := application(u.Name, u.Version)
	if license != "NOASSERTION" {
		p.Licenses = []string{license}
	}
	return shown.Add(p)
}

// takeList reads the list: names with what is known of each.
func takeList(j *pull.JSON, shown *analyse.Shown) error {
	return j.Object(func(key []byte) error {
		name, version := string(key), ""
		err := j.Object(func(key []byte) (err error) {
			if string(key) == "version" {
				version, err = j.Text()
			}
			return err
		})
		if err != nil || version == "" {
			return err
		}
		return shown.Add(application(name, version))
	})
}

func application(name, version string) inventory.Package {
	return inventory.Package{Type: "bitnami", Name: name, Version: version, Ecosystem: "Bitnami", Found: inventory.Installed}
}
