// Package dpkg reads the records of Debian's package manager: its status file,
// the status files of images without one (distroless), the manifests of Ubuntu's
// chiselled images, and the lists of files that packages own.
//
// It is for deb packages that are installed. It is not for .deb archives.
package dpkg

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const (
	statusFile = "var/lib/dpkg/status"
	// statusFolder holds one file a package in images that were put together
	// without dpkg itself: rules_distro and Bazel's distroless images.
	statusFolder = "var/lib/dpkg/status.d/"
	infoFolder   = "var/lib/dpkg/info/"
	listSuffix   = ".list"
	sumsSuffix   = ".md5sums"
)

// Analyser is analyse.Analyser for dpkg's records.
type Analyser struct{}

// Name is analyse.Analyser.
func (Analyser) Name() string { return "dpkg" }

// Anchors is analyse.Anchored.
func (Analyser) Anchors() []string { return []string{"var/lib/dpkg", "var/lib/chisel"} }

// Wants is analyse.Analyser.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if head == nil || !strings.HasPrefix(e.Path, "var/lib/dpkg/") {
		return head != nil && e.Path == manifestFile
	}
	return e.Path == statusFile || isStatus(e.Path) && bytes.Contains(head, []byte("Package:")) || listed(e.Path) != ""
}

// isStatus tells the record of one package in the status folder.
func isStatus(p string) bool {
	name, ok := strings.CutPrefix(p, statusFolder)
	return ok && name != "" && !strings.Contains(name, "/") && !strings.HasSuffix(name, sumsSuffix)
}

// listed returns the package whose files a path lists, as "name" or "name:arch";
// "" if it is no such list.
func listed(p string) string {
	if name, ok := strings.CutPrefix(p, infoFolder); ok && path.Base(p) == name {
		if name, ok := strings.CutSuffix(name, listSuffix); ok {
			return name
		}
	}
	if name, ok := strings.CutPrefix(p, statusFolder); ok && path.Base(p) == name {
		if name, ok := strings.CutSuffix(name, sumsSuffix); ok {
			return name
		}
	}
	return ""
}

// Take is analyse.Analyser.
func (Analyser) Take(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	if e.Path == manifestFile {
		return takeManifest(ctx, r, shown)
	}
	if name := listed(e.Path); name != "" {
		return takeList(ctx, name, strings.HasSuffix(e.Path, sumsSuffix), r, shown)
	}
	return takeStatus(ctx, r, shown)
}

// takeStatus reads a file of stanzas; one that is not whole is left out and
// told, and the others stand.
func takeStatus(ctx context.Context, r io.Reader, shown *analyse.Shown) error {
	stanzas := newStanzas(r)
	incomplete := analyse.Incomplete{Of: "dpkg's record"}
	defer incomplete.Tell(shown)
	for stanzas.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := stanzas.fields
		if !isInstalled(s.status) {
			continue
		}
		if s.name == "" || s.version == "" {
			incomplete.Add(s.name + s.version)
			continue
		}
		if len(shown.Packages) == maxPackages {
			return fmt.Errorf("more than %d packages", maxPackages)
		}
		shown.Packages = append(shown.Packages, inventory.Package{
			Type: "deb", Name: s.name, Version: s.version, Arch: s.arch,
			Source: sourceOf(s), Found: inventory.Installed,
		})
	}
	return stanzas.err
}

// isInstalled tells a package whose files are there: in all states but the ones
// before its files came and after they went (dpkg(1), "package states"). A
// record without a state is that of an image without dpkg.
func isInstalled(status string) bool {
	if status == "" {
		return true
	}
	words := strings.Fields(status)
	switch state := words[len(words)-1]; state {
	case "not-installed", "config-files":
		return false
	}
	return true
}

// sourceOf reads the field Source: "name", or "name (version)" where the version
// differs from the package's (Debian Policy 5.6.1).
func sourceOf(s fields) inventory.Source {
	name, version, hasVersion := strings.Cut(s.source, "(")
	name = strings.TrimSpace(name)
	if name == "" {
		return inventory.Source{Name: s.name, Version: s.version}
	}
	if version = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(version), ")")); !hasVersion || version == "" {
		version = s.version
	}
	return inventory.Source{Name: name, Version: version}
}
