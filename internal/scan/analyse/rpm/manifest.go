package rpm

import (
	"context"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// manifestFile is what Azure Linux, and CBL-Mariner before it, leave of RPM's
// database in images without RPM.
const (
	manifestFolder = "var/lib/rpmmanifest"
	manifestFile   = manifestFolder + "/container-manifest-2"
	// maxManifest bounds it; distroless images have some 30 packages.
	maxManifest = 16 << 20
)

// The fields of a line, between tabs, as far as they are read.
const (
	fieldName    = 0
	fieldVersion = 1 // version-release
	fieldArch    = 7
	fieldEpoch   = 8 // 0: none
	fieldSource  = 9
)

// takeManifest reads a manifest: a package a line.
func takeManifest(ctx context.Context, r io.Reader, size int64, shown *analyse.Shown) error {
	lines := pull.NewLines(r, size, maxManifest)
	incomplete := analyse.Incomplete{Of: "RPM's record"}
	defer incomplete.Tell(shown)
	for {
		b, err := lines.Next()
		if err == io.EOF {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if len(b) == 0 {
			continue
		}
		fields := strings.Split(string(b), "\t")
		if len(fields) <= fieldSource || fields[fieldName] == "" || fields[fieldVersion] == "" {
			incomplete.Add(fields[0])
			continue
		}
		epoch := ""
		if e := fields[fieldEpoch]; e != "0" && strings.Trim(e, "0123456789") == "" && e != "" {
			epoch = e + ":"
		}
		p := inventory.Package{Type: "rpm", Name: fields[fieldName], Version: epoch + fields[fieldVersion], Arch: fields[fieldArch], Found: inventory.Installed}
		p.Source = inventory.Source{Name: p.Name, Version: p.Version}
		if name, version, ok := inventory.ParseSourceRPM(fields[fieldSource]); ok {
			p.Source = inventory.Source{Name: name, Version: epoch + version}
		}
		if err := shown.Add(p); err != nil {
			return err
		}
	}
}
