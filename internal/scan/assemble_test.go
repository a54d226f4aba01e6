package scan_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/modes"
	"github.com/castellan-security/castellan/internal/scan/analyse/osrelease"
	"github.com/castellan-security/castellan/internal/scan/analyse/passwd"
	"github.com/castellan-security/castellan/internal/scan/analyse/python"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// script shows what it is told to for a path.
type script map[string]analyse.Shown

func (script) Name() string { return "script" }
func (s script) Wants(e *analyse.Entry, head []byte) bool {
	_, ok := s[e.Path]
	return ok && head != nil
}
func (s script) Take(_ context.Context, e *analyse.Entry, _ io.Reader, shown *analyse.Shown) error {
	*shown = s[e.Path]
	return nil
}

func TestOneOperatingSystem(t *testing.T) {
	s := scanner(scan.Options{Analysers: []analyse.Analyser{osrelease.Analyser{}}})
	for _, tc := range []struct {
		name   string
		layers [][]string
		want   inventory.OS
	}{
		{"none", [][]string{{"file a x"}}, inventory.OS{}},
		{"the distribution's, linked", [][]string{{"file usr/lib/os-release ID=debian", "link etc/os-release ../usr/lib/os-release"}}, inventory.OS{ID: "debian"}},
		{"the administrator's first", [][]string{{"file usr/lib/os-release ID=debian", "file etc/os-release ID=mine"}}, inventory.OS{ID: "mine"}},
		{"linked to elsewhere", [][]string{{"file store/release ID=nixos", "link etc/os-release /store/release"}}, inventory.OS{ID: "nixos"}},
		{"of the uppermost layer", [][]string{{"file etc/os-release ID=debian\nVERSION_ID=11"}, {"file etc/os-release ID=debian\nVERSION_ID=12"}}, inventory.OS{ID: "debian", Version: "12"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inv, _ := mustScan(t, s, imageOf(t, tc.layers...))
			if diff := cmp.Diff(tc.want, inv.OS); diff != "" {
				t.Errorf("OS (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUsers: the uppermost /etc/passwd counts, wherever links lead, and one that
// can't be read is not taken for none.
func TestUsers(t *testing.T) {
	s := scanner(scan.Options{Analysers: []analyse.Analyser{passwd.Analyser{}}})
	const base = "file etc/passwd root:x:0:0\napp:x:1000:1000"
	system := &inventory.Users{Root: []string{"root"}, Others: []string{"app"}}
	for _, tc := range []struct {
		name   string
		layers [][]string
		want   *inventory.Users
	}{
		{"none", [][]string{{"file a x"}}, &inventory.Users{}},
		{"one", [][]string{{base}}, system},
		{"left alone", [][]string{{base}, {"file etc/group x"}}, system},
		{"of the uppermost layer", [][]string{{base}, {"file etc/passwd toor::0:0::/:"}}, &inventory.Users{Root: []string{"toor"}}},
		{"removed", [][]string{{base}, {"gone etc/passwd"}}, &inventory.Users{}},
		{"removed with its folder", [][]string{{base}, {"opaque etc"}}, &inventory.Users{}},
		{"linked to elsewhere", [][]string{{"file store/users toor::0:0", "link etc/passwd /store/users"}}, &inventory.Users{Root: []string{"toor"}}},
		{"linked by a later layer", [][]string{{base, "file store/users toor::0:0"}, {"link etc/passwd ../store/users"}}, &inventory.Users{Root: []string{"toor"}}},
		{"in a folder that is linked", [][]string{{"file usr/etc/passwd toor::0:0"}, {"link etc usr/etc"}}, &inventory.Users{Root: []string{"toor"}}},
		{"a hard link", [][]string{{"file store/users toor::0:0", "hard etc/passwd store/users"}}, &inventory.Users{Root: []string{"toor"}}},
		{"a link to nowhere", [][]string{{base}, {"link etc/passwd /proc/1/root/etc/passwd"}}, &inventory.Users{}},
		{"a circle", [][]string{{base}, {"link etc/passwd passwd"}}, nil},
		{"too large", [][]string{{"file etc/passwd " + strings.Repeat("x", 1<<20)}}, nil},
		{"too large later", [][]string{{base}, {"file etc/passwd " + strings.Repeat("x", 1<<20)}}, nil},
		{"too large before", [][]string{{"file etc/passwd " + strings.Repeat("x", 1<<20)}, {base}}, system},
		{"a folder", [][]string{{base}, {"dir etc/passwd"}}, &inventory.Users{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inv, _ := mustScan(t, s, imageOf(t, tc.layers...))
			if diff := cmp.Diff(tc.want, inv.Users); diff != "" {
				t.Errorf("users (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("nobody looks", func(t *testing.T) {
		inv, _ := mustScan(t, scanner(scan.Options{Analysers: []analyse.Analyser{osrelease.Analyser{}}}), imageOf(t, []string{base}))
		if inv.Users != nil {
			t.Errorf("users: %+v", inv.Users)
		}
	})
}

// TestOwnership: lists of files are joined to their packages by their real paths,
// and what distributions brought of languages is marked.
func TestOwnership(t *testing.T) {
	deb := func(name, arch string) inventory.Package {
		return inventory.Package{Type: "deb", Name: name, Version: "1", Arch: arch, Found: inventory.Installed}
	}
	pypi := func(name string) []inventory.Package {
		return []inventory.Package{{Type: "pypi", Name: name, Version: "2", Ecosystem: "PyPI", Found: inventory.Installed}}
	}
	const six, requests, pip = "usr/lib/python3/dist-packages/six.egg-info", "usr/lib/python3/dist-packages/requests/METADATA", "usr/local/lib/pip/METADATA"
	facts := script{
		"status":     {Packages: []inventory.Package{deb("libc6", "amd64"), deb("libc6", "i386"), deb("python3-requests", "all"), deb("python3-six", "all"), deb("zlib", "amd64")}},
		"libc6.list": {Owned: []analyse.Owned{{Type: "deb", Name: "libc6", Arch: "amd64", Files: []string{"/lib/libc.so.6", "/usr/lib/libm.so.6"}}}},
		"req.list":   {Owned: []analyse.Owned{{Type: "deb", Name: "python3-requests", Files: []string{"/" + requests}}}},
		"six.list":   {Owned: []analyse.Owned{{Type: "deb", Name: "python3-six", Files: []string{"/" + six}}}},
		requests:     {Packages: pypi("requests")}, six: {Packages: pypi("six")}, pip: {Packages: pypi("requests")},
	}
	s := scanner(scan.Options{Analysers: []analyse.Analyser{facts, osrelease.Analyser{}}})
	inv, _ := mustScan(t, s, imageOf(t,
		[]string{"file etc/os-release ID=debian\nVERSION_ID=12", "link lib usr/lib", "file status x", "file libc6.list x", "file req.list x", "file six.list x",
			"file " + requests + " x", "file " + six + " x"},
		// Somebody put another six where the distribution's was.
		[]string{"file " + pip + " x", "file " + six + " y"}, []string{"gone " + six}, []string{"file " + six + " z"}))
	at := func(path string, layer int) []inventory.Place {
		return []inventory.Place{{Path: "/" + path, Layer: layer}}
	}
	debian := func(name, arch string, files ...string) inventory.Package {
		p := deb(name, arch)
		p.Namespace, p.Ecosystem, p.Places, p.Files = "debian", "Debian:12", at("status", 1), files
		return p
	}
	python := func(name, owner string, places []inventory.Place) inventory.Package {
		p := pypi(name)[0]
		p.OwnedBy, p.Places = owner, places
		return p
	}
	want := []inventory.Package{
		debian("libc6", "amd64", "/usr/lib/libc.so.6", "/usr/lib/libm.so.6"), debian("libc6", "i386"),
		debian("python3-requests", "all"), debian("python3-six", "all"), debian("zlib", "amd64"),
		python("requests", "python3-requests", at(requests, 1)), python("requests", "", at(pip, 2)), python("six", "", at(six, 4)),
	}
	if diff := cmp.Diff(want, inv.Packages, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// TestOwnershipOfPythonDistributions: what an installer noted is joined to the
// very distribution that it is of, also where there are several of one name.
func TestOwnershipOfPythonDistributions(t *testing.T) {
	const one, two = "opt/one/site-packages/", "opt/two/site-packages/"
	distribution := func(at, version string) []string {
		return []string{
			"file " + at + "zope_interface-" + version + ".dist-info/METADATA Name: zope.interface\nVersion: " + version + "\n",
			"file " + at + "zope_interface-" + version + ".dist-info/RECORD zope/interface/__init__.py,,\nzope/interface/_speedups.so,,\n",
		}
	}
	old := distribution(one, "6.0")
	inv, _ := mustScan(t, scanner(scan.Options{Analysers: []analyse.Analyser{python.Analyser{}}}), imageOf(t,
		append(old, distribution(two, "6.0")...),
		append([]string{"gone " + one + "zope_interface-6.0.dist-info/METADATA", "gone " + one + "zope_interface-6.0.dist-info/RECORD"}, distribution(one, "7.1")...)))
	want := map[string][]string{
		"6.0": {"/" + two + "zope/interface/_speedups.so"}, "7.1": {"/" + one + "zope/interface/_speedups.so"},
	}
	got := map[string][]string{}
	for _, p := range inv.Packages {
		got[p.Version] = p.Files
		if p.Name != "zope.interface" || len(p.Places) != 1 {
			t.Errorf("package %+v", p)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files by version (-want +got):\n%s", diff)
	}
}

func TestNoteworthyFiles(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "usr/bin/su", Mode: 0o4755}, {Name: "usr/bin/plain", Mode: 0o755},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, {Name: "tmp/x", Mode: 0o666}, {Name: "tmp/d/", Typeflag: tar.TypeDir, Mode: 0o777},
		{Name: "srv/", Typeflag: tar.TypeDir, Mode: 0o777}, {Name: "srv/x", Mode: 0o666},
		{Name: "bin/ping", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01"}},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	facts := script{"usr/bin/plain": {Packages: []inventory.Package{{Type: "rpm", Name: "util-linux", Version: "1", Files: []string{"/usr/bin/su", "/usr/share/doc"}}}}}
	im := &image{}
	im.add(b.Bytes())
	inv, _ := mustScan(t, scanner(scan.Options{Analysers: []analyse.Analyser{facts, modes.Analyser{}}}), im)
	file := func(path string, mode uint32, why inventory.Why, owner string) inventory.File {
		return inventory.File{Place: inventory.Place{Path: path, Layer: 1}, Mode: mode, Why: why, Owner: owner}
	}
	want := []inventory.File{
		file("/bin/ping", 0o755, inventory.Capabilities, ""), file("/srv", 0o777, inventory.WorldWritable, ""), file("/srv/x", 0o666, inventory.WorldWritable, ""),
		file("/usr/bin/su", 0o4755, inventory.SetUID, "util-linux"),
	}
	if diff := cmp.Diff(want, inv.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/usr/bin/su"}, inv.Packages[0].Files); diff != "" {
		t.Errorf("files of the package (-want +got):\n%s", diff)
	}
}

func TestOnePackageAtSeveralPlaces(t *testing.T) {
	lodash := func(dev bool, license string) analyse.Shown {
		return analyse.Shown{Packages: []inventory.Package{{Type: "npm", Name: "lodash", Version: "4.17.20", Dev: dev, Licenses: []string{license}, Found: inventory.Declared}}}
	}
	installed := lodash(false, "MIT")
	installed.Packages[0].Found = inventory.Installed
	jar := analyse.Shown{Packages: []inventory.Package{{Type: "maven", Name: "x", Version: "1", Places: []inventory.Place{{Path: "/a.jar!b.jar"}}}}}
	s := scanner(scan.Options{Analysers: []analyse.Analyser{script{"l.json": lodash(true, "CC0"), "m/package.json": installed, "a.jar": jar}}})
	inv, _ := mustScan(t, s, imageOf(t, []string{"file m/package.json x", "file a.jar x", "hard c.jar a.jar"}, []string{"file l.json x"}))
	want := []inventory.Package{
		{Type: "maven", Name: "x", Version: "1", Places: []inventory.Place{{Path: "/a.jar!b.jar", Layer: 1}}},
		{Type: "npm", Name: "lodash", Version: "4.17.20", Licenses: []string{"CC0", "MIT"}, Found: inventory.Installed,
			Places: []inventory.Place{{Path: "/m/package.json", Layer: 1}, {Path: "/l.json", Layer: 2}}},
	}
	if diff := cmp.Diff(want, inv.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}
