// Package apk reads the installed database of Alpine's package manager, which
// Wolfi and Chainguard use too.
//
// It is for apk packages that are installed. It is not for .apk archives.
package apk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// Limits of the database; Alpine's largest repositories have some 30,000
// packages, and no line of theirs has 100,000 bytes.
const (
	maxPackages = analyse.MaxPackages
	maxOwned    = 50_000
	maxLine     = 1 << 20
)

// Analyser is analyse.Analyser for apk's database.
type Analyser struct{}

// Name is analyse.Analyser.
func (Analyser) Name() string { return "apk" }

// Anchors is analyse.Anchored.
func (Analyser) Anchors() []string { return []string{"lib/apk/db", "usr/lib/apk/db"} }

// Wants is analyse.Analyser. Since apk-tools 3 the database is below /usr.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	return head != nil && (e.Path == "lib/apk/db/installed" || e.Path == "usr/lib/apk/db/installed")
}

// Take is analyse.Analyser. A record is a line a field, a letter, a colon and
// the value, and ends with an empty line (apk-package(5)).
func (Analyser) Take(ctx context.Context, _ *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 16<<10), maxLine)
	incomplete := analyse.Incomplete{Of: "apk's record"}
	defer incomplete.Tell(shown)
	one := record{incomplete: &incomplete}
	for lines.Scan() {
		line := lines.Text()
		if line != "" {
			if err := one.take(line); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(one.show(shown), ctx.Err()); err != nil {
			return err
		}
		one = record{incomplete: &incomplete}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read apk's database: %w", err)
	}
	return one.show(shown)
}

// record is one package while it is read.
type record struct {
	name, version, arch, origin, license, folder string
	files                                        []string
	any                                          bool
	incomplete                                   *analyse.Incomplete
}

func (o *record) take(line string) error {
	field, value, ok := strings.Cut(line, ":")
	if !ok {
		return nil
	}
	o.any = true
	switch field {
	case "P":
		o.name = value
	case "V":
		o.version = value
	case "A":
		o.arch = value
	case "o":
		o.origin = value
	case "L":
		o.license = value
	case "F":
		o.folder = value
	case "R":
		file := "/" + o.folder + "/" + value
		if o.folder == "" {
			file = "/" + value
		}
		if !analyse.Keeps(file) {
			return nil
		}
		if len(o.files) == maxOwned {
			return fmt.Errorf("package %.100q owns more than %d programs and libraries", o.name, maxOwned)
		}
		o.files = append(o.files, file)
	}
	return nil
}

// show adds the package, if there is one.
func (o *record) show(shown *analyse.Shown) error {
	if !o.any {
		return nil
	}
	if o.name == "" || o.version == "" {
		o.incomplete.Add(o.name + o.version)
		return nil
	}
	if len(shown.Packages) == maxPackages {
		return fmt.Errorf("more than %d packages", maxPackages)
	}
	p := inventory.Package{Type: "apk", Name: o.name, Version: o.version, Arch: o.arch, Found: inventory.Installed,
		Source: inventory.Source{Name: o.origin, Version: o.version}, Files: o.files}
	if o.origin == "" {
		p.Source.Name = o.name
	}
	if o.license != "" {
		p.Licenses = []string{o.license}
	}
	slices.Sort(p.Files)
	shown.Packages = append(shown.Packages, p)
	return nil
}
