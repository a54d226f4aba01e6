// Package php reads what Composer leaves behind: the record of what is installed
// in a vendor folder, and lock files.
package php

import (
	"context"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

const (
	maxFile = 64 << 20
	maxDev  = 50_000 // names of packages for development
)

// Analyser reads packages of Composer.
type Analyser struct{}

// Name is php.
func (Analyser) Name() string { return "php" }

// Wants takes vendor/composer/installed.json, and composer.lock outside of
// vendor.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if len(head) == 0 || !strings.HasSuffix(e.Path, "composer.lock") && !strings.HasSuffix(e.Path, "composer/installed.json") {
		return false
	}
	return e.Base() == "installed.json" || e.Base() == "composer.lock" && !strings.Contains(e.Path, "vendor/")
}

// Take reads one file.
func (Analyser) Take(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	j := pull.NewJSON(r, e.Size, maxFile)
	found := inventory.Declared
	if e.Base() == "installed.json" {
		found = inventory.Installed
	}
	kind, err := j.Kind()
	if err != nil {
		return err
	}
	if kind == '[' { // Composer 1
		return j.Array(func(int) error { return add(j, found, false, shown) })
	}
	dev := map[string]bool{}
	err = j.Object(func(key []byte) error {
		switch string(key) {
		case "packages":
			return j.Array(func(int) error { return add(j, found, false, shown) })
		case "packages-dev":
			return j.Array(func(int) error { return add(j, found, true, shown) })
		case "dev-package-names":
			return j.Array(func(int) error {
				name, err := j.Text()
				if len(dev) < maxDev {
					dev[strings.ToLower(name)] = true
				}
				return err
			})
		}
		return nil
	})
	for i := range shown.Packages {
		p := &shown.Packages[i]
		p.Dev = p.Dev || dev[p.FullName()]
	}
	return err
}

// add reads one package.
func add(j *pull.JSON, found inventory.Evidence, dev bool, shown *analyse.Shown) error {
	p := inventory.Package{Type: "composer", Ecosystem: "Packagist", Found: found, Dev: dev}
	err := j.Object(func(key []byte) (err error) {
		switch string(key) {
		case "name":
			name, e := j.Text()
			p.Namespace, p.Name, _ = strings.Cut(strings.ToLower(name), "/")
			err = e
		case "version":
			p.Version, err = j.Text()
		case "license":
			p.Licenses = nil
			err = j.Array(func(int) error {
				l, err := j.Text()
				if len(p.Licenses) < analyse.MaxLicenses {
					p.Licenses = append(p.Licenses, l)
				}
				return err
			})
		}
		return err
	})
	if err != nil || p.Version == "" {
		return err
	}
	return shown.Add(p)
}
