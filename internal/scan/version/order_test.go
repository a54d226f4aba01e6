package version_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/version"
)

// ascending lists versions from low to high; those of one line are the same.
var ascending = []struct {
	name, ecosystem string
	versions        string
}{
	{"dpkg", "Debian:12", `
		0~~
		0~
		0 0-0 0:0 00
		1.0~rc1-1
		1.0-1~deb12u1
		1.0-1
		1.0-1+b1
		1.0-1+deb12u1
		1.0-1.1
		1.0a-1
		1.0+a-1
		1.0.0-1
		1.9-1
		1.10-1
		99999999999999999999999
		100000000000000000000000
		1:0.1-1 1:0.01-1`},
	{"rpm", "Amazon Linux:2023", `
		1~rc1
		1
		1^git1
		1.a
		1.b-1
		1.0 0:1.0 1..0 1.00
		1.0-1.amzn2023
		1.0-2~x
		1.0-2.amzn2023
		1.0-10
		1.0.1
		2a
		2.0
		1:0.5`},
	{"apk", "Alpine:v3.20", `
		1.2_alpha
		1.2_alpha1
		1.2_beta
		1.2_pre2
		1.2_rc
		1.2
		1.2-r0
		1.2-r1
		1.2-r10
		1.2~1234abc-r0
		1.2_git20240101
		1.2_p1
		1.2a
		1.2a_p1
		1.2.0-r0
		1.2.01
		1.2.05
		1.2.1
		1.2.10
		1.10`},
	{"semver", "npm", `
		0.0.1
		1.0.0-0
		1.0.0-1
		1.0.0-alpha
		1.0.0-alpha.1
		1.0.0-alpha.beta
		1.0.0-beta.2
		1.0.0-beta.11
		1.0.0-rc.1
		1.0.0 v1.0.0 1 1.0 =1.0.0 1.0.0+build.5
		1.0.0.1
		1.9.0
		1.10.0`},
	{"Go", "Go", `
		v0.0.0-20211209124913-491a49abca63
		v0.0.0-20220225172249-27dd8689420f 0.0.0-20220225172249-27dd8689420f
		1.20.99 go1.20.99
		1.21.0-rc.2 go1.21rc2
		1.21.0-rc.3 go1.21rc3
		1.21.0 v1.21.0 go1.21 go1.21.0 go1.21.0-fips
		go1.21.1
		1.21.2 go1.21.2 X:boringcrypto
		v20.10.24+incompatible v20.10.24
		v20.10.25-0.20230801000000-abcdefabcdef+incompatible
		v20.10.25`},
	{"Maven", "Maven", `
		1-alpha-1 1.alpha-1 1.0.alpha-1 1.0a1
		1-beta
		1-milestone-2 1m2
		1-rc 1-CR
		1-SNAPSHOT
		1 1.0 1.0.0 1-ga 1.0.Final 1.RELEASE 1-0
		1-sp
		1-jre
		1-zeta
		1-1
		1-2
		1.0.1
		1.1`},
	{"PEP 440", "PyPI", `
		release-7
		1.0.dev1
		1.0a1.dev1
		1.0a1 1.0-ALPHA.1 1.0.a.1
		1.0a1.post1
		1.0b2
		1.0rc1 1.0c1 1.0-preview-1
		1.0 v1.0 1 1.0.0 0!1.0
		1.0+abc
		1.0+abc.5 1.0+ABC_5
		1.0+5
		1.0.post1.dev3
		1.0.post1 1.0-1 1.0.rev1 1.0r1
		1.0.1
		1.10
		1!0.1`},
	{"RubyGems", "RubyGems", `
		1.a
		1.b.0.c
		1.b 1.b.0
		1.b.1
		1.0.0.pre1
		1.0.0.rc1
		1 1.0 1.0.0
		1.0.1
		1.9
		1.10`},
	{"NuGet", "NuGet", `
		1.0.0-alpha
		1.0.0-Beta 1.0.0-beta
		1.0 1.0.0.0 1.0.0+x
		1.0.0.1
		1.0.1`},
	{"Composer", "Packagist", `
		1.0-dev
		1.0.0-alpha1 1.0.0.0-ALPHA.1
		1.0.0-alpha2 1.0.0a2
		1.0.0-beta1
		1.0.0-RC1 1.0-rc1
		1.0.0 v1.0 1 1.0.0.0 1.0.0-stable
		1.0.0-p1 1.0-patch1
		1.0.0.1
		1.5
		1.x-dev
		2.0`},
	{"Pub", "Pub", `
		1.0.0-dev
		1.0.0
		1.0.0+1
		1.0.0+2`},
	{"dotted", "Hackage", `
		1
		1.0
		1.0.0
		1.0.1
		1.2`},
}

func TestOrder(t *testing.T) {
	for _, tc := range ascending {
		t.Run(tc.name, func(t *testing.T) {
			type place struct {
				version string
				line    int
			}
			var all []place
			for i, line := range strings.Split(strings.TrimSpace(tc.versions), "\n") {
				if strings.Contains(line, " X:") { // the one that has a blank in it
					all = append(all, place{strings.TrimSpace(line[strings.Index(line, "go"):]), i})
					line = line[:strings.Index(line, "go")]
				}
				for v := range strings.FieldsSeq(line) {
					all = append(all, place{v, i})
				}
			}
			for _, a := range all {
				for _, b := range all {
					want := min(1, max(-1, a.line-b.line))
					if got, err := version.Compare(tc.ecosystem, a.version, b.version); got != want || err != nil {
						t.Errorf("Compare(%s, %s) = %d, %v, want %d", a.version, b.version, got, err, want)
					}
				}
			}
		})
	}
}

func TestWhatHasNoPlace(t *testing.T) {
	for _, tc := range []struct {
		name, ecosystem, version string
		want                     error
	}{
		{"commits", "GIT", "6879efc2c1596d11a6a6ad296f80063b558d5e0f", version.ErrUnordered},
		{"no ecosystem", "", "1", version.ErrUnordered},
		{"empty", "npm", " ", version.ErrEmpty},
		{"too long", "Debian", strings.Repeat("1", version.MaxLength+1), version.ErrLong},
		{"a program built from no release", "Go", "(devel)", version.ErrNoNumber},
		{"a tag", "npm", "latest", version.ErrNoNumber},
		{"no number at all", "RubyGems", "-", version.ErrNoNumber},
		{"text in numbers", "Hackage", "1.0-beta", version.ErrNoNumber},
		{"epoch in words", "Debian:12", "a:1", version.ErrEpoch},
		{"branch", "Packagist", "dev-master", version.ErrBranch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := version.Compare(tc.ecosystem, tc.version, "1"); !errors.Is(err, tc.want) {
				t.Errorf("Compare() = %v, want %v", err, tc.want)
			}
			if _, err := version.Compare(tc.ecosystem, "1", tc.version); !errors.Is(err, tc.want) {
				t.Errorf("Compare() the other way = %v, want %v", err, tc.want)
			}
		})
	}
}

func TestOrderOf(t *testing.T) {
	for ecosystem, want := range map[string]version.Order{
		"Debian:12": version.Dpkg, "Ubuntu:Pro:18.04:LTS": version.Dpkg, "Root:Alpine:3.18": version.APK, "Root:PyPI": version.PEP440,
		"Maven:https://maven.google.com": version.Maven, "Red Hat:9": version.RPM, "OSS-Fuzz": version.Unordered,
	} {
		if got := version.OrderOf(ecosystem); got != want {
			t.Errorf("OrderOf(%s) = %d, want %d", ecosystem, got, want)
		}
	}
}
