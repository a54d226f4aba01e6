package rpm_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/rpm"
)

const lines = "openssl-libs\t3.3.0-2.azl3\t1653816591\t1653631609\tMicrosoft Corporation\t(none)\t4365048\tx86_64\t0\topenssl-3.3.0-2.azl3.src.rpm\n" +
	"\nvim\t9.0-1.azl3\t1\t2\tMicrosoft Corporation\t2\t45000\tx86_64\t2\tvim-9.0-1.azl3.src.rpm\nshort\t1.0\n"

func TestManifest(t *testing.T) {
	if !(rpm.Analyser{}).Wants(&analyse.Entry{Path: "var/lib/rpmmanifest/container-manifest-2", Size: 1}, []byte{0}) {
		t.Error("the manifest is not wanted")
	}
	if (rpm.Analyser{}).Wants(&analyse.Entry{Path: "var/lib/rpmmanifest/container-manifest-1", Size: 1}, []byte{0}) {
		t.Error("another list is wanted")
	}
	var got analyse.Shown
	err := rpm.Analyser{}.Take(t.Context(), &analyse.Entry{Path: "var/lib/rpmmanifest/container-manifest-2", Size: int64(len(lines))}, strings.NewReader(lines), &got)
	pkg := func(name, version, source string) inventory.Package {
		return inventory.Package{Type: "rpm", Name: name, Version: version, Arch: "x86_64", Source: inventory.Source{Name: source, Version: version}, Found: inventory.Installed}
	}
	want := analyse.Shown{Packages: []inventory.Package{pkg("openssl-libs", "3.3.0-2.azl3", "openssl"), pkg("vim", "2:9.0-1.azl3", "vim")},
		Problems: []inventory.Problem{{What: `RPM's record of "short" has no name or no version`}}}
	if d := cmp.Diff(got, want); d != "" || err != nil {
		t.Errorf("%v (-got +want):\n%s", err, d)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(lines)
	f.Fuzz(func(t *testing.T, content string) {
		var got analyse.Shown
		if err := (rpm.Analyser{}).Take(t.Context(), &analyse.Entry{Path: "var/lib/rpmmanifest/container-manifest-2"}, strings.NewReader(content), &got); err != nil {
			return
		}
		for _, p := range got.Packages {
			if p.Name == "" || p.Version == "" {
				t.Errorf("a package without name or version: %+v", p)
			}
		}
	})
}
