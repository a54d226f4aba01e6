package node

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
	"github.com/castellan-security/castellan/internal/scan/zipstream"
)

// takeManifest reads a package.json of an installed package.
func takeManifest(path string, r io.Reader, size int64, shown *analyse.Shown) error {
	name, version, licenses, err := readManifest(r, size)
	if err != nil || !isName(name) || version == "" || !fits(path, name, version) {
		return err
	}
	p := asPackage(name, version, inventory.Installed)
	p.Licenses = licenses
	return shown.Add(p)
}

// readManifest returns what a package.json says of its package.
func readManifest(r io.Reader, size int64) (name, version string, licenses []string, err error) {
	j := pull.NewJSON(r, size, maxManifest)
	err = j.Object(func(key []byte) (err error) {
		switch string(key) {
		case "name":
			name, err = j.Text()
		case "version":
			version, err = j.Text()
			version = strings.TrimPrefix(strings.TrimSpace(version), "v")
		case "license", "licence", "licenses":
			licenses, err = readLicenses(j, licenses)
		}
		return err
	})
	return name, version, licenses, err
}

// readLicenses reads a name, an object with a type, or a list of either.
func readLicenses(j *pull.JSON, all []string) ([]string, error) {
	kind, err := j.Kind()
	if err != nil {
		return all, err
	}
	switch kind {
	case '[':
		err = j.Array(func(int) (err error) {
			if kind, err := j.Kind(); err != nil || kind == '[' {
				return err
			}
			all, err = readLicenses(j, all)
			return err
		})
		return all, err
	case '{':
		err = j.Object(func(key []byte) error {
			if string(key) != "type" {
				return nil
			}
			s, err := j.Text()
			all = append(all, s)
			return err
		})
		return all, err
	}
	s, err := j.Text()
	return append(all, s), err
}

// takeYarnCache reads an archive of Yarn's cache, which holds one package below
// node_modules/name.
func takeYarnCache(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	z := zipstream.NewReader(r, &zipstream.Budget{Entries: 100_000, Inflated: maxZip})
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		entry, err := z.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !bytes.HasSuffix(entry.Name, []byte("/package.json")) || !bytes.HasPrefix(entry.Name, []byte("node_modules/")) || !isInstalled(string(entry.Name)) {
			continue
		}
		place := "/" + e.Path + "!" + string(entry.Name)
		content, err := z.Open()
		if err != nil {
			return err
		}
		before := len(shown.Packages)
		if err := takeManifest(string(entry.Name), content, max(entry.Size, 0), shown); err != nil {
			return err
		}
		for i := before; i < len(shown.Packages); i++ {
			shown.Packages[i].Places = []inventory.Place{{Path: place}}
		}
	}
}
