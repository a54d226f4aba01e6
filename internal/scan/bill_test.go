package scan_test

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// systems are one of each kind of distribution.
func systems() []inventory.OS {
	return []inventory.OS{
		{ID: "debian", Version: "12", Codename: "bookworm", Name: "Debian GNU/Linux 12 (bookworm)"},
		{ID: "debian", Codename: "forky", Name: "Debian GNU/Linux forky/sid"},
		{ID: "ubuntu", Version: "22.04", Codename: "jammy", Name: "Ubuntu 22.04.4 LTS"},
		{ID: "alpine", Version: "3.20.3", Name: "Alpine Linux v3.20"},
		{ID: "alpine", Version: "3.21.0_alpha20240807", Name: "Alpine Linux edge"},
		{ID: "wolfi", Version: "20230201", Name: "Wolfi"},
		{ID: "amzn", Version: "2023", Name: "Amazon Linux 2023"},
		{ID: "rhel", Version: "9.3", Name: "Red Hat Enterprise Linux 9.3 (Plow)"},
		{ID: "centos", Version: "9", Name: "CentOS Stream 9"},
		{ID: "almalinux", Version: "9.4", Name: "AlmaLinux 9.4 (Seafoam Ocelot)"},
		{ID: "opensuse-leap", Version: "15.6", Name: "openSUSE Leap 15.6"},
		{ID: "opensuse-tumbleweed", Version: "20240101", Name: "openSUSE Tumbleweed"},
		{ID: "sles", Version: "15.5", Name: "SUSE Linux Enterprise Server 15 SP5"},
		{ID: "arch", Name: "Arch Linux"},
		{},
	}
}

// languagePackages are one of each type that analysers show, with the names that
// package URLs have trouble with.
func languagePackages() []inventory.Package {
	var all []inventory.Package
	for _, p := range []struct{ kind, namespace, name string }{
		{"golang", "", "github.com/BurntSushi/toml/v2"}, {"golang", "", "stdlib"}, {"npm", "@babel", "core"}, {"npm", "", "JSONStream"},
		{"pypi", "", "zope.interface"}, {"maven", "org.apache.logging.log4j", "log4j-core"}, {"gem", "", "RedCloth"}, {"cargo", "", "serde_json"},
		{"nuget", "", "Newtonsoft.Json"}, {"composer", "symfony", "http-kernel"}, {"hex", "", "phoenix"}, {"pub", "", "http"},
		{"swift", "", "github.com/apple/swift-nio"}, {"conan", "", "zlib"}, {"hackage", "", "aeson"}, {"cran", "", "readxl"},
		{"github", "", "Tj-Actions/changed-files"}, {"conda", "", "numpy"}, {"cocoapods", "", "AFNetworking"}, {"bitnami", "", "postgresql"},
	} {
		all = append(all, inventory.Package{Type: p.kind, Namespace: p.namespace, Name: p.name, Version: "1.2.3", Ecosystem: inventory.EcosystemOf(p.kind),
			Found: inventory.Installed, Places: []inventory.Place{{Path: "/opt/a b!inner.jar", Layer: 1}, {Path: "/app/" + p.name, Layer: 2}}})
	}
	return append(all,
		inventory.Package{Type: "cargo", Name: "serde_json", Version: "2.0.0", Found: inventory.Declared, Places: []inventory.Place{{Path: "/other/registry", Written: true}}},
		inventory.Package{Type: "maven", Name: "without-group", Version: "1.2.3", Found: inventory.Inferred})
}

// ofDistribution are packages of a system: one of another source, in another
// version, with an epoch; one of a module stream; and one of a language that the
// first brought.
func ofDistribution(os inventory.OS) []inventory.Package {
	kind := map[string]string{"debian": "deb", "ubuntu": "deb", "alpine": "apk", "wolfi": "apk"}[os.ID]
	kind = cmp.Or(kind, "rpm")
	place := []inventory.Place{{Path: "/var/lib/db", Layer: 1}}
	p := inventory.Package{Type: kind, Namespace: os.ID, Name: "libFoo3", Version: "1:2.0-3", Arch: "x86_64", Ecosystem: scan.Ecosystem(os), Found: inventory.Installed,
		Source: inventory.Source{Name: "foo", Version: "1:2.0-3+b1"}, Places: place}
	same := p
	same.Name, same.Source, same.Version = "bar", inventory.Source{Name: "bar", Version: "2.0-3"}, "2.0-3"
	all := []inventory.Package{p, same}
	if kind == "apk" {
		all[0].Version, all[0].Source.Version, all[1].Version, all[1].Source.Version = "2.0-r3", "2.0-r3", "2.0-r3", "2.0-r3"
	}
	if kind == "rpm" {
		stream := p
		stream.Name, stream.Version, stream.Source, stream.Repository = "nodejs", "1:18.19.1-1.module+el9", inventory.Source{Name: "nodejs", Version: "1:18.19.1-1.module+el9"}, "nodejs:18"
		all = append(all, stream)
	}
	return append(all, inventory.Package{Type: "pypi", Name: "urllib3", Version: "1.26", Ecosystem: "PyPI", OwnedBy: "libFoo3", Found: inventory.Installed, Places: place})
}

// everything affects all versions of all packages, by their names and by their
// sources.
func everything(t *testing.T, all []inventory.Package) *scan.Database {
	t.Helper()
	b, err := scan.NewDatabase(scan.DatabaseOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	feed := func(yield func(advisory.Advisory, error) bool) {
		for i := range all {
			p := &all[i]
			eco := p.Ecosystem
			if eco == "" {
				eco = inventory.EcosystemOf(p.Type)
			}
			if eco == "" {
				continue
			}
			a := advisory.Affected{Ecosystem: eco, Package: p.FullName(), Repository: p.Repository, Ranges: []advisory.Range{{Introduced: "0"}}}
			if p.FromDistribution() {
				a.Of, a.Package, a.Ranges = advisory.OfSource, p.Source.Name, []advisory.Range{{Fixed: p.Source.Version + "0"}}
			}
			if !yield(advisory.Advisory{ID: fmt.Sprintf("TEST-%d", i), Affected: []advisory.Affected{a}}, nil) {
				return
			}
		}
	}
	if err := b.AddAll(t.Context(), scan.DatabaseSource{Name: "test"}, feed); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "test.db")
	if err := b.Write(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db, _, err := scan.OpenDatabase(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func foundIn(t *testing.T, db *scan.Database, inv *inventory.Inventory) []string {
	t.Helper()
	r, err := scan.Match(t.Context(), db, inv, scan.MatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range r.Vulnerabilities {
		lines = append(lines, fmt.Sprintf("%s %s:%s %s %s %s", v.ID, v.Package.Type, v.Package.FullName(), v.Package.Version, v.State, v.Fixed))
	}
	slices.Sort(lines)
	return lines
}

// What is written as a bill of materials and read again has the same
// vulnerabilities, in the packages of every type and of every kind of system.
func TestBillsTellTheSame(t *testing.T) {
	s := scan.New(scan.Options{Now: func() time.Time { return time.Unix(1.8e9, 0) }})
	for _, os := range systems() {
		inv := inventory.Inventory{Subject: inventory.Subject{Kind: inventory.KindImage, Name: "shop:1"}, OS: os, Packages: append(languagePackages(), ofDistribution(os)...),
			Image: &inventory.Image{Reference: "registry.example/shop:1", Digest: "sha256:" + strings.Repeat("ab", 32), ID: "sha256:" + strings.Repeat("cd", 32),
				Layers: []inventory.Layer{{DiffID: "sha256:aa"}, {DiffID: "sha256:bb"}}}}
		inventory.SortPackages(inv.Packages)
		db := everything(t, inv.Packages)
		want := foundIn(t, db, &inv)
		if expected := lookedUp(&inv); len(want) < expected {
			t.Errorf("%s %s: %d findings in %d packages, want at least %d: %q", os.ID, os.Version, len(want), len(inv.Packages), expected, want)
		}
		for _, f := range []scan.ReportFormat{"cyclonedx", "spdx"} {
			t.Run(fmt.Sprintf("%s of %s %s", f, os.ID, os.Version), func(t *testing.T) {
				var b bytes.Buffer
				if err := scan.WriteReports(&b, f, []scan.Report{{Inventory: inv, Made: time.Unix(1.8e9, 0)}}, scan.ReportOptions{Tool: "castellan", Version: "1"}); err != nil {
					t.Fatal(err)
				}
				got, err := s.Bill(t.Context(), "shop.json", &b)
				if err != nil || len(got) != 1 {
					t.Fatalf("%d documents, %v", len(got), err)
				}
				if diff := gocmp.Diff(want, foundIn(t, db, &got[0])); diff != "" {
					t.Errorf("vulnerabilities (-written +read):\n%s", diff)
				}
				if diff := gocmp.Diff(summary(&inv, f), summary(&got[0], f)); diff != "" {
					t.Errorf("inventory (-written +read):\n%s", diff)
				}
			})
		}
	}
}

// lookedUp counts the packages that must have a finding.
func lookedUp(inv *inventory.Inventory) (n int) {
	for _, p := range inv.Packages {
		// Nobody publishes for CentOS Stream, so its versions have no order here.
		if p.Ecosystem != "" && p.OwnedBy == "" && !strings.HasPrefix(p.Ecosystem, "CentOS Stream") {
			n++
		}
	}
	return n
}

// summary is what a bill of materials has to keep. SPDX has no field for places.
func summary(inv *inventory.Inventory, f scan.ReportFormat) []string {
	lines := []string{inv.Image.Reference, inv.Image.Digest, inv.Image.ID, fmt.Sprint(len(inv.Image.Layers)), inv.OS.ID, inv.OS.Version, inv.OS.Codename}
	for _, p := range inv.Packages {
		s := fmt.Sprintf("%+v %s/%s %s %s", p.Key(), p.OwnedBy, p.Repository, p.Source.Name, p.Source.Version)
		if f == "cyclonedx" {
			s += fmt.Sprint(p.Places)
		}
		lines = append(lines, s)
	}
	return lines
}

// The packages of the test above are of every type that an analyser shows.
func TestBillsAreTestedWithAllTypes(t *testing.T) {
	tested := map[string]bool{"deb": true, "rpm": true, "apk": true}
	for _, p := range languagePackages() {
		tested[p.Type] = true
	}
	sources, err := filepath.Glob("analyse/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	kind := regexp.MustCompile(`(?:Package\{Type:|declared\()\s*"([a-z]+)"`)
	for _, name := range sources {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range kind.FindAllSubmatch(b, -1) {
			found++
			if !tested[string(m[1])] {
				t.Errorf("%s shows packages of type %s, which the test of bills of materials lacks", name, m[1])
			}
		}
	}
	if found < 15 {
		t.Errorf("%d types found in the analysers: the pattern is out of date", found)
	}
}
