// Package rpm reads the databases of RPM in the three forms that distributions
// use: SQLite (Amazon Linux 2023, Fedora, RHEL 9), Berkeley DB (Amazon Linux 2,
// RHEL 8 and older) and ndb (SUSE), and what Azure Linux leaves of it in images
// without RPM.
//
// It is for rpm packages that are installed. It is not for .rpm archives. The
// databases are read without the libraries that would write them. Their pages lie
// in any order, so one is held whole, within maxMemory for all that are read at a
// time: a large one compressed.
package rpm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const maxPackages = analyse.MaxPackages

// folders are where distributions keep the database: the second since RPM 4.16,
// the third is rpm-ostree's.
var folders = [...]string{"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"}

// readers are the forms of the database by the name of its file. Each hands over
// the header of each package, which is valid until the next one.
var readers = map[string]func(*held, *records) error{
	"rpmdb.sqlite": readSQLite,
	"Packages":     readBerkeley,
	"Packages.db":  readNDB,
}

// Analyser is analyse.Analyser for RPM's databases.
type Analyser struct{ memory *memory }

// New returns the analyser. All databases that it reads share its memory.
func New() Analyser { return Analyser{newMemory()} }

// Name is analyse.Analyser.
func (Analyser) Name() string { return "rpm" }

// Anchors is analyse.Anchored.
func (Analyser) Anchors() []string { return append(folders[:], manifestFolder) }

// Wants is analyse.Analyser.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if head == nil || e.Size == 0 {
		return false
	}
	if e.Path == manifestFile {
		return true
	}
	folder, name := path.Split(e.Path)
	if readers[name] == nil {
		return false
	}
	for _, f := range folders {
		if strings.TrimSuffix(folder, "/") == f {
			return true
		}
	}
	return false
}

// Take is analyse.Analyser. What a changed page of SQLite's journal would say is
// not known: whoever closes the database writes it back.
func (a Analyser) Take(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	if e.Path == manifestFile {
		return takeManifest(ctx, r, e.Size, shown)
	}
	if a.memory == nil {
		a = New()
	}
	weight := weightOf(e.Size)
	if err := a.memory.reserve(ctx, weight); err != nil {
		return err
	}
	defer a.memory.release(weight)
	db, err := a.memory.hold(r, e.Size)
	if err != nil {
		return fmt.Errorf("read RPM's database: %w", err)
	}
	defer db.close()
	rec := &records{ended: ctx.Err, shown: shown}
	err = readers[path.Base(e.Path)](db, rec)
	if rec.unread > 0 {
		shown.Problems = append(shown.Problems, inventory.Problem{
			What: fmt.Sprintf("%d records of RPM's database are damaged, the first: %v", rec.unread, rec.first)})
	}
	if err != nil {
		return fmt.Errorf("read RPM's database: %w", err)
	}
	return nil
}

// records takes the headers of packages.
type records struct {
	ended  func() error // why reading must end
	shown  *analyse.Shown
	unread int
	first  error // of those
}

// take adds the package that a header is of.
func (r *records) take(header io.ReaderAt, size int) error {
	if err := r.ended(); err != nil {
		return err
	}
	p, err := packageOf(header, size)
	switch {
	case err != nil:
		r.damaged(err)
		return nil
	case p.Name == "gpg-pubkey": // a key, kept as if it were a package
		return nil
	case len(r.shown.Packages) == maxPackages:
		return fmt.Errorf("more than %d packages", maxPackages)
	}
	r.shown.Packages = append(r.shown.Packages, p)
	return nil
}

// damaged counts a header that cannot be read.
func (r *records) damaged(err error) {
	if r.unread++; r.first == nil {
		r.first = err
	}
}

// fits says whether a header of that size is read; one that is not is counted.
func (r *records) fits(size int) bool {
	if size > maxHeader {
		r.damaged(fmt.Errorf("a header of %d bytes, and at most %d are read", size, maxHeader))
	}
	return size <= maxHeader
}

// packageOf makes a package of the header that RPM keeps of it.
func packageOf(from io.ReaderAt, size int) (inventory.Package, error) {
	h, err := parseHeader(from, size)
	if err != nil {
		return inventory.Package{}, err
	}
	p := inventory.Package{Type: "rpm", Name: h.text(tagName), Version: h.text(tagVersion), Arch: h.text(tagArch), Found: inventory.Installed}
	if h.err != nil {
		return p, h.err
	}
	if p.Name == "" || p.Version == "" {
		return p, fmt.Errorf("header of %.100q has no name or no version", p.Name+p.Version)
	}
	if release := h.text(tagRelease); release != "" {
		p.Version += "-" + release
	}
	epoch := ""
	if n := h.number(tagEpoch); n > 0 {
		epoch = fmt.Sprintf("%d:", n)
		p.Version = epoch + p.Version
	}
	p.Source = inventory.Source{Name: p.Name, Version: p.Version}
	if name, version, ok := inventory.ParseSourceRPM(h.text(tagSource)); ok {
		p.Source = inventory.Source{Name: name, Version: epoch + version}
	}
	if license := h.text(tagLicense); license != "" {
		p.Licenses = []string{license}
	}
	// nodejs:18:8080020240403130303:63b34585 – name, stream, build, context.
	if name, rest, ok := strings.Cut(h.text(tagModule), ":"); ok {
		stream, _, _ := strings.Cut(rest, ":")
		p.Repository = name + ":" + stream
	}
	p.Files, err = h.files()
	return p, errors.Join(h.err, err)
}
