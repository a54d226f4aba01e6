package python

import (
	"bytes"
	"context"
	"io"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
	"github.com/castellan-security/castellan/internal/scan/zipstream"
)

// takeMetadata reads the headers of a METADATA or PKG-INFO file (core metadata
// specification), up to the description.
func takeMetadata(r io.Reader, size int64, place string, shown *analyse.Shown) error {
	lines := pull.NewLines(r, min(size, 8<<10), maxMetadata)
	var name, version, expression, license string
	var classifiers []string
	for {
		b, err := lines.Next()
		if err != nil && err != io.EOF {
			return err
		}
		if err == io.EOF || len(b) == 0 {
			break
		}
		if b[0] == ' ' || b[0] == '\t' {
			license = strings.TrimSuffix(license, "\n") + "\n" // its text, not its name
			continue
		}
		key, value, _ := strings.Cut(string(b), ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "name":
			name = value
		case "version":
			version = value
		case "license-expression":
			expression = value
		case "license":
			license = value
		case "classifier":
			if rest, ok := strings.CutPrefix(value, "License ::"); ok && len(classifiers) < analyse.MaxLicenses {
				classifiers = append(classifiers, rest[strings.LastIndex(rest, "::")+len("::"):])
			}
		}
	}
	if version == "" {
		return nil
	}
	p := asPackage(name, version, inventory.Installed)
	p.Licenses = licenses(expression, license, classifiers)
	if place != "" {
		p.Places = []inventory.Place{{Path: place}}
	}
	return shown.Add(p)
}

// licenses takes the best of three ways to say it: an SPDX expression, what the
// author wrote, if it is a name, and classifiers.
func licenses(expression, license string, classifiers []string) []string {
	const longestName = 64
	if expression != "" {
		return []string{expression}
	}
	if license != "" && license != "UNKNOWN" && len(license) <= longestName && !strings.HasSuffix(license, "\n") {
		return []string{license}
	}
	return classifiers
}

const (
	maxEntries  = 500_000
	maxInflated = 64 << 20 // metadata is all that is inflated
)

// takeArchive reads the metadata in a wheel or an egg.
func takeArchive(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	z := zipstream.NewReader(r, &zipstream.Budget{Entries: maxEntries, Inflated: maxInflated})
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
		// At the top: what is further down belongs to packages within.
		if bytes.Count(entry.Name, []byte("/")) != 1 {
			continue
		}
		folder, base := path.Split(string(entry.Name))
		if base == "METADATA" && strings.HasSuffix(folder, ".dist-info/") || base == "PKG-INFO" && folder == "EGG-INFO/" {
			content, err := z.Open()
			if err != nil {
				return err
			}
			place := "/" + e.Path + "!" + folder + base
			if err := takeMetadata(content, entry.Size, place, shown); err != nil {
				return err
			}
		}
	}
}

// takeConda reads a record of conda-meta.
func takeConda(r io.Reader, size int64, shown *analyse.Shown) error {
	p := inventory.Package{Type: "conda", Found: inventory.Installed}
	j := pull.NewJSON(r, size, maxConda)
	err := j.Object(func(key []byte) (err error) {
		switch string(key) {
		case "name":
			p.Name, err = j.Text()
		case "version":
			p.Version, err = j.Text()
		case "arch", "subdir":
			s, e := j.Text()
			if err = e; p.Arch == "" && s != "noarch" {
				p.Arch = s
			}
		case "channel":
			p.Repository, err = j.Text()
			p.Repository = channel(p.Repository)
		case "license":
			s, e := j.Text()
			p.Licenses, err = []string{s}, e
		}
		return err
	})
	if err != nil || p.Version == "" {
		return err
	}
	return shown.Add(p)
}

// channel is a channel's name without where it was fetched from.
func channel(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		_, url, _ = strings.Cut(rest, "/")
	}
	url, _, _ = strings.Cut(url, "/")
	if len(url) > analyse.MaxName {
		return ""
	}
	return url
}
