// Package jar reads Java archives (jar, war, ear, Jenkins plugins, …) and the
// archives within them, as they pass, and says which Maven packages they are.
//
// What Maven left in an archive (META-INF/maven/**/pom.properties) is taken as
// it is, all of it: an archive that others were merged into has several. Without
// it the manifest and the file's name are put together; the group comes from a
// list of artifacts known for not saying theirs, checked against the packages
// that the classes are in, or from what the manifest states. Where neither
// tells it the package is shown without one and has no ecosystem, so that it is
// seen and matches nothing. It is not for pom.xml files (see maven).
package jar

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/zipstream"
)

// Limits of one archive with all within it.
const (
	// maxDepth bounds archives in archives; an ear holds wars that hold jars, and
	// those may hold the tools that they start.
	maxDepth = 16
	// maxEntries bounds files; the largest servers have 200,000 classes.
	maxEntries = 2_000_000
	// minInflated and maxRatio bound what is inflated. An archive within an
	// archive is compressed already and hardly grows: a bomb grows a thousand
	// times.
	minInflated = 64 << 20
	maxRatio    = 20
	maxInflated = 16 << 30
	// maxProblems bounds what is said about one file.
	maxProblems = 20
	// maxProperties and maxManifest bound those files; manifests of OSGi list
	// imports at length.
	maxProperties = 64 << 10
	maxManifest   = 1 << 20
	// maxPoms bounds the pom.properties of one archive; the largest merged ones
	// seen have 300.
	maxPoms = 10_000
	minSize = 22 // of an archive without entries
)

// Analyser reads Java archives.
type Analyser struct {
	groups map[string]coordinates
}

// New returns the analyser.
func New() Analyser { return Analyser{groups: readGroups(groupsText)} }

// Name is jar.
func (Analyser) Name() string { return "jar" }

// Wants takes files named like Java archives that begin like a zip archive or
// with the script that runs one, and the record that Maven leaves in a folder
// that is an archive taken apart.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if len(head) == 0 {
		return false
	}
	if isArchive(e.Path) {
		return e.Size >= minSize && (bytes.HasPrefix(head, []byte("PK")) || bytes.HasPrefix(head, []byte("#!")))
	}
	return strings.HasSuffix(e.Path, pomProperties) && strings.Contains(e.Path, mavenFolder)
}

const (
	mavenFolder   = "META-INF/maven/"
	pomProperties = "/pom.properties"
	manifestFile  = "META-INF/MANIFEST.MF"
)

// isArchive says whether a name ends as those of Java archives do.
func isArchive(name string) bool {
	i := len(name) - 1
	for i >= 0 && len(name)-i <= 5 && name[i] != '.' {
		i--
	}
	if i < 0 || name[i] != '.' {
		return false
	}
	switch strings.ToLower(name[i+1:]) {
	case "jar", "war", "ear", "par", "sar", "nar", "kar", "rar", "jpi", "hpi", "lpkg":
		return true
	}
	return false
}

// Take reads one archive, or one record of Maven's.
func (a Analyser) Take(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	if !isArchive(e.Path) {
		p, err := readProperties(r)
		if err != nil {
			return err
		}
		return shown.Add(p.asPackage("", inventory.Installed))
	}
	w := walk{analyser: a, shown: shown, budget: zipstream.Budget{
		Entries: maxEntries, Inflated: min(minInflated+e.Size*maxRatio, maxInflated)}}
	return w.archive(ctx, "/"+e.Path, r, 1)
}

// walk goes through one file and the archives within it.
type walk struct {
	analyser Analyser
	shown    *analyse.Shown
	budget   zipstream.Budget
}

// archive reads one archive. What stood in it before an error is shown.
func (w *walk) archive(ctx context.Context, place string, r io.Reader, depth int) error {
	c := contents{place: place}
	err := w.entries(ctx, zipstream.NewReader(r, &w.budget), &c, depth)
	if e := w.identify(&c); e != nil {
		return e
	}
	return err
}

// entries reads what is wanted of an archive's entries.
func (w *walk) entries(ctx context.Context, z *zipstream.Reader, c *contents, depth int) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := z.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.entry(ctx, z, e, c, depth); err != nil {
			return err
		}
	}
}

// entry reads one entry if it is wanted. An error is one that ends the whole
// archive; others become problems.
func (w *walk) entry(ctx context.Context, z *zipstream.Reader, e *zipstream.Entry, c *contents, depth int) error {
	name := e.Name
	switch {
	case bytes.HasSuffix(name, []byte(".class")):
		c.addClass(name)
		return nil
	case len(name) > analyse.MaxPath-len(c.place):
		return nil // what a path can't say can't be shown either
	case string(name) == manifestFile:
		return w.open(ctx, z, c.place, func(r io.Reader) (err error) {
			c.manifest, err = readManifest(r)
			return err
		})
	case bytes.HasSuffix(name, []byte(pomProperties)) || string(name) == pomProperties[1:]:
		place := c.place + "!" + string(name)
		return w.open(ctx, z, place, func(r io.Reader) error {
			p, err := readProperties(r)
			if err != nil || p.group == "" {
				return err
			}
			if len(c.poms) == maxPoms {
				return c.full()
			}
			p.place = place
			c.poms = append(c.poms, p)
			return nil
		})
	case bytes.HasSuffix(name, []byte("/pom.xml")):
		c.addBuild(string(name))
		return nil
	case isArchive(string(name)):
		place := c.place + "!" + string(name)
		if depth >= maxDepth {
			w.problem(place, errors.New("archives are nested too deep"))
			return nil
		}
		return w.open(ctx, z, place, func(r io.Reader) error { return w.archive(ctx, place, r, depth+1) })
	}
	return nil
}

// open reads the content of an entry. Its errors are problems of that entry,
// unless they end the work on all.
func (w *walk) open(ctx context.Context, z *zipstream.Reader, place string, read func(io.Reader) error) error {
	r, err := z.Open()
	if err == nil {
		err = read(r)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || errors.Is(err, zipstream.ErrInflated) || errors.Is(err, zipstream.ErrEntries) || len(w.shown.Packages) >= analyse.MaxPackages {
		return err
	}
	w.problem(place, err)
	return nil
}

func (w *walk) problem(place string, err error) {
	if len(w.shown.Problems) < maxProblems {
		w.shown.Problems = append(w.shown.Problems, inventory.Problem{Place: inventory.Place{Path: place}, What: err.Error()})
	}
}
