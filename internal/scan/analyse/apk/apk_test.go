package apk_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/apk"
)

const installed = `C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:alpine-baselayout
V:3.4.3-r1
A:x86_64
S:8911
I:331776
T:Alpine base dir structure and init scripts
U:https://git.alpinelinux.org/cgit/aports/tree/main/alpine-baselayout
L:GPL-2.0-only
o:alpine-baselayout
m:Natanael Copa <ncopa@alpinelinux.org>
t:1683642107
F:dev
F:etc
R:motd
Z:Q1SLkS9hBidUbPwwrw+XR0Whv3ww8=
F:sbin
R:mkmntdirs
a:0:0:755

P:libcrypto3
V:3.1.4-r1
A:x86_64
o:openssl
L:Apache-2.0
F:lib
R:libcrypto.so.3
F:usr/lib
R:libcrypto.so.3

P:own
V:1
`

func TestTake(t *testing.T) {
	pkg := func(name, version, arch, origin string, licenses []string, files ...string) inventory.Package {
		return inventory.Package{Type: "apk", Name: name, Version: version, Arch: arch, Licenses: licenses, Files: files,
			Found: inventory.Installed, Source: inventory.Source{Name: origin, Version: version}}
	}
	whole := []inventory.Package{
		pkg("alpine-baselayout", "3.4.3-r1", "x86_64", "alpine-baselayout", []string{"GPL-2.0-only"}, "/sbin/mkmntdirs"),
		pkg("libcrypto3", "3.1.4-r1", "x86_64", "openssl", []string{"Apache-2.0"}, "/lib/libcrypto.so.3", "/usr/lib/libcrypto.so.3"),
		pkg("own", "1", "", "own", nil),
	}
	for _, tc := range []struct {
		name, text string
		want       analyse.Shown
	}{
		{"whole", installed, analyse.Shown{Packages: whole}},
		{"no end of line", strings.TrimSuffix(installed, "\n"), analyse.Shown{Packages: whole}},
		{"a record without a version", "P:a\n\nP:own\nV:1\n\n", analyse.Shown{Packages: whole[2:],
			Problems: []inventory.Problem{{What: `apk's record of "a" has no name or no version`}}}},
		{"nothing", "\n\n", analyse.Shown{}},
		{"no fields", "what is this\n\n", analyse.Shown{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var a apk.Analyser
			e := &analyse.Entry{Path: "lib/apk/db/installed"}
			if !a.Wants(e, []byte(tc.text)) {
				t.Fatal("Wants() = false")
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

func FuzzTake(f *testing.F) {
	f.Add(installed)
	f.Add("F:\nR:x.so\nP:a\nV:1")
	f.Fuzz(func(t *testing.T, text string) {
		var got analyse.Shown
		if err := (apk.Analyser{}).Take(context.Background(), &analyse.Entry{}, strings.NewReader(text), &got); err != nil {
			return
		}
		for _, p := range got.Packages {
			if p.Name == "" || p.Version == "" || p.Source.Name == "" {
				t.Errorf("a package without name, version or origin: %+v", p)
			}
		}
	})
}
