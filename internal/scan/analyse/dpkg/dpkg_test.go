package dpkg_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/dpkg"
)

func deb(name, version, arch, source, sourceVersion string) inventory.Package {
	return inventory.Package{Type: "deb", Name: name, Version: version, Arch: arch, Found: inventory.Installed,
		Source: inventory.Source{Name: source, Version: sourceVersion}}
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, text string
		want             analyse.Shown
	}{
		{"installed, removed, half way", "var/lib/dpkg/status", `Package: adduser
Status: install ok installed
Priority: important
Architecture: all
Version: 3.134
Description: add and remove users
 Package: not a field, it goes on with the description
 .
 Version: neither

Package: old
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: libssl3
Status: install ok triggers-pending
Architecture: amd64
Multi-Arch: same
Source: openssl
Version: 3.0.11-1~deb12u2

Package: libgcc-s1
Status: install ok unpacked
Architecture: amd64
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14+b1
`, analyse.Shown{Packages: []inventory.Package{
			deb("adduser", "3.134", "all", "adduser", "3.134"),
			deb("libssl3", "3.0.11-1~deb12u2", "amd64", "openssl", "3.0.11-1~deb12u2"),
			deb("libgcc-s1", "12.2.0-14+b1", "amd64", "gcc-12", "12.2.0-14"),
		}}},
		{"records that are not whole", "var/lib/dpkg/status", "Package: a\n\nPackage: b\n\nPackage: c\nVersion: 1\n",
			analyse.Shown{Packages: []inventory.Package{deb("c", "1", "", "c", "1")},
				Problems: []inventory.Problem{{What: "dpkg's record of \"a\" has no name or no version, nor have 1 others"}}}},
		{"no end of line, CRLF, more than one blank line, other case", "var/lib/dpkg/status",
			"\n\nPACKAGE: a\r\nversion: 1\r\nStatus: hold ok installed\r\n\r\n\n\nPackage: b\nVersion: 2",
			analyse.Shown{Packages: []inventory.Package{deb("a", "1", "", "a", "1"), deb("b", "2", "", "b", "2")}}},
		{"a record that is not whole", "var/lib/dpkg/status", "Package: a\nStatus: install ok installed\n\nPackage: b\nVersion: 2\n",
			analyse.Shown{Packages: []inventory.Package{deb("b", "2", "", "b", "2")},
				Problems: []inventory.Problem{{What: `dpkg's record of "a" has no name or no version`}}}},
		{"distroless", "var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a-0+deb12u1\nArchitecture: all\n",
			analyse.Shown{Packages: []inventory.Package{deb("tzdata", "2024a-0+deb12u1", "all", "tzdata", "2024a-0+deb12u1")}}},
		{"files", "var/lib/dpkg/info/libssl3:amd64.list", "/.\n/usr\n/usr/lib/x86_64-linux-gnu/libssl.so.3\n/usr/lib/x86_64-linux-gnu/libcrypto.so.3\n/usr/share/doc/libssl3/copyright\n",
			analyse.Shown{Owned: []analyse.Owned{{Type: "deb", Name: "libssl3", Arch: "amd64",
				Files: []string{"/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "/usr/lib/x86_64-linux-gnu/libssl.so.3"}}}}},
		{"files of distroless", "var/lib/dpkg/status.d/bash.md5sums", "0123456789abcdef0123456789abcdef  bin/bash\nnot a sum\n",
			analyse.Shown{Owned: []analyse.Owned{{Type: "deb", Name: "bash", Files: []string{"/bin/bash"}}}}},
		{"files of which none runs", "var/lib/dpkg/info/tzdata.list", "/usr/share/zoneinfo/UTC\n", analyse.Shown{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var a dpkg.Analyser
			e := &analyse.Entry{Path: tc.path, Size: int64(len(tc.text))}
			if !a.Wants(e, []byte(tc.text)) {
				t.Fatalf("Wants(%s) = false", tc.path)
			}
			var got analyse.Shown
			if err := a.Take(t.Context(), e, strings.NewReader(tc.text), &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(got, tc.want); d != "" {
				t.Errorf("Take() differs (-got +want):\n%s", d)
			}
		})
	}
}

func TestWantsNoOther(t *testing.T) {
	for _, path := range []string{
		"var/lib/dpkg/status-old", "var/lib/dpkg/available", "var/lib/dpkg/info/bash.md5sums", "var/lib/dpkg/info/format",
		"var/lib/dpkg/info/deep/bash.list", "var/lib/dpkg/status.d", "srv/var/lib/dpkg/status", "var/lib/dpkg/status.d/a/b",
	} {
		t.Run(path, func(t *testing.T) {
			if (dpkg.Analyser{}).Wants(&analyse.Entry{Path: path}, []byte{}) {
				t.Error("Wants() = true, want false")
			}
		})
	}
}

func TestALineTooLong(t *testing.T) {
	text := "Package: a\nVersion: 1\n\nPackage: b\nVersion: 2\nDepends: " + strings.Repeat("x", 2<<20) + "\n"
	var got analyse.Shown
	err := (dpkg.Analyser{}).Take(t.Context(), &analyse.Entry{Path: "var/lib/dpkg/status"}, strings.NewReader(text), &got)
	if err == nil {
		t.Error("Take() = nil, want an error")
	}
	if len(got.Packages) != 1 || got.Packages[0].Name != "a" {
		t.Errorf("Packages = %v, want what came before", got.Packages)
	}
}

// What this very machine has installed, where it is a Debian.
func TestOwnHost(t *testing.T) {
	f, err := os.Open("/var/lib/dpkg/status")
	if err != nil {
		t.Skip("no dpkg here: ", err)
	}
	defer f.Close()
	var got analyse.Shown
	if err := (dpkg.Analyser{}).Take(t.Context(), &analyse.Entry{Path: "var/lib/dpkg/status"}, f, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Packages) < 50 || len(got.Problems) > 0 {
		t.Errorf("%d packages and problems %v, want many and none", len(got.Packages), got.Problems)
	}
}

func FuzzTake(f *testing.F) {
	f.Add("var/lib/dpkg/status", "Package: a\nVersion: 1\nSource: b (2)\nStatus: install ok installed\n\n")
	f.Add("var/lib/dpkg/info/a:amd64.list", "/bin/a\n")
	f.Add("var/lib/dpkg/status.d/a.md5sums", "00  bin/a\n")
	f.Fuzz(func(t *testing.T, path, text string) {
		var a dpkg.Analyser
		e := &analyse.Entry{Path: path, Size: int64(len(text))}
		if !a.Wants(e, []byte(text)) {
			return
		}
		var got analyse.Shown
		if err := a.Take(context.Background(), e, strings.NewReader(text), &got); err != nil {
			return
		}
		for _, p := range got.Packages {
			if p.Name == "" || p.Version == "" || p.Source.Name == "" || p.Source.Version == "" {
				t.Errorf("a package without name, version or source: %+v", p)
			}
		}
	})
}
