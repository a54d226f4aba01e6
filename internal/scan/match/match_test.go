package match_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

func deb(name, version, source, sourceVersion string) inventory.Package {
	return inventory.Package{Type: "deb", Namespace: "debian", Name: name, Version: version, Arch: "amd64", Ecosystem: "Debian:12",
		Source: inventory.Source{Name: source, Version: sourceVersion}, Places: []inventory.Place{{Path: "/var/lib/dpkg/status", Layer: 1}}}
}

func pypi(name, version string) inventory.Package {
	return inventory.Package{Type: "pypi", Name: name, Version: version, Ecosystem: "PyPI", Places: []inventory.Place{{Path: "/app/" + name, Layer: 2}}}
}

// source says that versions of a source package are affected.
func source(name, fixed string) advisory.Affected {
	return advisory.Affected{Ecosystem: "Debian:12", Package: name, Of: advisory.OfSource, Ranges: []advisory.Range{{Fixed: fixed}}}
}

func changed[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

// matched matches packages with feeds.
func matched(t *testing.T, feeds map[string][]advisory.Advisory, o match.Options, packages ...inventory.Package) match.Result {
	t.Helper()
	r, err := match.Match(t.Context(), database(t, feeds), &inventory.Inventory{Packages: packages}, o)
	must(t, err)
	return r
}

// brief is what a finding comes to, on one line.
func brief(vs []finding.Vulnerability) (lines []string) {
	for _, v := range vs {
		s := fmt.Sprintf("%s %s %s", v.Package.Name, v.ID, v.State)
		if len(v.Aliases) > 0 {
			s += " alias " + strings.Join(v.Aliases, ",")
		}
		if v.Fixed != "" {
			s += " fixed " + v.Fixed
		}
		var by []string
		for _, a := range v.Advisories {
			by = append(by, a.ID)
		}
		s += " by " + strings.Join(by, ",")
		if v.Note != "" {
			s += " (" + v.Note + ")"
		}
		lines = append(lines, s)
	}
	slices.Sort(lines)
	return lines
}

// Bitnami counts builds where semantic versioning has prereleases.
func TestBitnamiRevisions(t *testing.T) {
	redis := func(v string) inventory.Package {
		return inventory.Package{Type: "bitnami", Name: "redis", Version: v, Ecosystem: "Bitnami", Places: []inventory.Place{{Path: "/opt/bitnami/redis", Layer: 1}}}
	}
	feed := map[string][]advisory.Advisory{"bitnami": {{ID: "BIT-redis-2024-1", Aliases: []string{"CVE-1-1"},
		Affected: []advisory.Affected{{Ecosystem: "Bitnami", Package: "redis", Ranges: []advisory.Range{{Fixed: "7.2.4"}}}}}}}
	for version, want := range map[string]int{"7.2.3-9": 1, "7.2.4-1": 0, "7.2.4": 0, "7.2.4-rc1": 1, "7.2.5-0": 0} {
		if got := matched(t, feed, match.Options{}, redis(version)); len(got.Vulnerabilities) != want {
			t.Errorf("%s: %q, want %d", version, brief(got.Vulnerabilities), want)
		}
	}
}

func TestMatch(t *testing.T) {
	libssl := deb("libssl3", "3.0.9-1", "openssl", "")
	state := func(a advisory.Affected, s advisory.Status, note string) advisory.Affected {
		a.Status, a.Note = s, note
		if s != advisory.IsAffected {
			a.Ranges = nil
		}
		return a
	}
	for _, tc := range []struct {
		name     string
		debian   []advisory.Advisory
		language []advisory.Advisory
		options  match.Options
		packages []inventory.Package
		want     []string
	}{
		{name: "binary packages by their source",
			debian:   []advisory.Advisory{{ID: "CVE-1-1", Affected: []advisory.Affected{source("openssl", "3.0.11-1")}}},
			packages: []inventory.Package{libssl, deb("openssl", "3.0.9-1", "", ""), deb("libssl-like", "3.0.9-1", "", "")},
			want:     []string{"libssl3 CVE-1-1 fixable fixed 3.0.11-1 by CVE-1-1", "openssl CVE-1-1 fixable fixed 3.0.11-1 by CVE-1-1"}},
		{name: "a source's name says nothing about a binary package that is called so",
			debian: []advisory.Advisory{
				{ID: "CVE-1-1", Affected: []advisory.Affected{changed(source("ruby", "3"), func(a *advisory.Affected) { a.Of = advisory.OfBinary })}},
				{ID: "CVE-1-2", Affected: []advisory.Affected{source("libssl3", "9")}}},
			packages: []inventory.Package{libssl, deb("ruby-full", "1", "ruby", "1"), deb("ruby", "1", "ruby-defaults", "1")},
			want:     []string{"ruby CVE-1-1 fixable fixed 3 by CVE-1-1"}},
		{name: "another release, another ecosystem",
			debian: []advisory.Advisory{{ID: "CVE-1-1", Affected: []advisory.Affected{
				changed(source("openssl", "9"), func(a *advisory.Affected) { a.Ecosystem = "Debian:11" }),
				changed(source("openssl", "9"), func(a *advisory.Affected) { a.Ecosystem = "Ubuntu:22.04:LTS" })}}},
			packages: []inventory.Package{libssl}},
		{name: "an advisory that names no release",
			debian:   []advisory.Advisory{{ID: "CVE-1-1", Affected: []advisory.Affected{changed(source("openssl", "9"), func(a *advisory.Affected) { a.Ecosystem = "Debian" })}}},
			packages: []inventory.Package{libssl},
			want:     []string{"libssl3 CVE-1-1 fixable fixed 9 by CVE-1-1"}},
		{name: "an announcement fixes several: one finding each, and it is no alias",
			debian:   []advisory.Advisory{{ID: "DSA-1-1", Upstream: []string{"CVE-1-1", "CVE-1-2"}, Affected: []advisory.Affected{source("openssl", "3.0.11-1")}}},
			packages: []inventory.Package{libssl},
			want:     []string{"libssl3 CVE-1-1 fixable fixed 3.0.11-1 by DSA-1-1", "libssl3 CVE-1-2 fixable fixed 3.0.11-1 by DSA-1-1"}},
		{name: "an older feed has them as aliases",
			debian:   []advisory.Advisory{{ID: "DSA-1-1", Aliases: []string{"CVE-1-1", "CVE-1-2"}, Affected: []advisory.Affected{source("openssl", "3.0.11-1")}}},
			packages: []inventory.Package{libssl},
			want:     []string{"libssl3 CVE-1-1 fixable fixed 3.0.11-1 by DSA-1-1", "libssl3 CVE-1-2 fixable fixed 3.0.11-1 by DSA-1-1"}},
		{name: "an announcement and what tracks its CVEs",
			debian: []advisory.Advisory{
				{ID: "DSA-1-1", Upstream: []string{"CVE-1-1", "CVE-1-2", "CVE-1-3", "CVE-1-4"}, Affected: []advisory.Affected{source("openssl", "3.0.11-1")}},
				{ID: "CVE-1-1", Affected: []advisory.Affected{source("openssl", "3.0.8-1")}},
				{ID: "DEBIAN-CVE-1-2", Upstream: []string{"CVE-1-2"}, Affected: []advisory.Affected{state(source("openssl", ""), advisory.NotAffected, "code not built")}},
				{ID: "CVE-1-3", Affected: []advisory.Affected{source("openssl", "3.0.10-1")}}},
			packages: []inventory.Package{libssl},
			want:     []string{"libssl3 CVE-1-3 fixable fixed 3.0.11-1 by CVE-1-3,DSA-1-1", "libssl3 CVE-1-4 fixable fixed 3.0.11-1 by DSA-1-1"}},
		{name: "of two announcements of one CVE the older does not overrule the newer",
			debian: []advisory.Advisory{
				{ID: "DSA-1-1", Upstream: []string{"CVE-1-1"}, Affected: []advisory.Affected{source("openssl", "3.0.8-1")}},
				{ID: "DSA-2-1", Upstream: []string{"CVE-1-1", "CVE-1-2"}, Affected: []advisory.Affected{source("openssl", "3.0.11-1")}}},
			packages: []inventory.Package{libssl},
			want:     []string{"libssl3 CVE-1-1 fixable fixed 3.0.11-1 by DSA-2-1", "libssl3 CVE-1-2 fixable fixed 3.0.11-1 by DSA-2-1"}},
		{name: "states are kept apart",
			debian: []advisory.Advisory{
				{ID: "CVE-1-1", Affected: []advisory.Affected{state(source("openssl", ""), advisory.WontFix, "ignored")}},
				{ID: "CVE-1-2", Affected: []advisory.Affected{state(source("openssl", ""), advisory.Deferred, "Minor issue")}},
				{ID: "CVE-1-3", Affected: []advisory.Affected{state(source("openssl", ""), advisory.EndOfLife, "")}},
				{ID: "CVE-1-4", Affected: []advisory.Affected{state(source("openssl", ""), advisory.UnderInvestigation, "")}},
				{ID: "CVE-1-5", Affected: []advisory.Affected{state(source("openssl", ""), advisory.NotAffected, "")}},
				{ID: "CVE-1-6", Affected: []advisory.Affected{source("openssl", "")}},
				{ID: "CVE-1-7", Withdrawn: time.Unix(9e8, 0), Affected: []advisory.Affected{source("openssl", "")}}},
			packages: []inventory.Package{libssl},
			want: []string{"libssl3 CVE-1-1 will-not-fix by CVE-1-1 (ignored)", "libssl3 CVE-1-2 deferred by CVE-1-2 (Minor issue)",
				"libssl3 CVE-1-3 end-of-life by CVE-1-3", "libssl3 CVE-1-4 under-investigation by CVE-1-4", "libssl3 CVE-1-6 unfixed by CVE-1-6"}},
		{name: "all states",
			debian: []advisory.Advisory{
				{ID: "CVE-1-5", Affected: []advisory.Affected{state(source("openssl", ""), advisory.NotAffected, "not built")}},
				{ID: "CVE-1-7", Withdrawn: time.Unix(9e8, 0), Affected: []advisory.Affected{source("openssl", "")}}},
			options:  match.Options{All: true},
			packages: []inventory.Package{libssl},
			want:     []string{"libssl3 CVE-1-5 not-affected by CVE-1-5 (not built)", "libssl3 CVE-1-7 withdrawn by CVE-1-7"}},
		{name: "the distribution's word is about its own package only",
			debian:   []advisory.Advisory{{ID: "CVE-1-1", Affected: []advisory.Affected{state(source("python-urllib3", ""), advisory.NotAffected, "")}}},
			language: []advisory.Advisory{{ID: "PYSEC-1", Aliases: []string{"CVE-1-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "2.0"}}}}}},
			packages: []inventory.Package{deb("python3-urllib3", "1.26.12-1", "python-urllib3", ""), pypi("urllib3", "1.26.12")},
			want:     []string{"urllib3 CVE-1-1 fixable alias PYSEC-1 fixed 2.0 by PYSEC-1"}},
		{name: "a package of a language that the distribution owns",
			language: []advisory.Advisory{{ID: "PYSEC-1", Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "2.0"}}}}}},
			packages: []inventory.Package{changed(pypi("urllib3", "1.26.12"), func(p *inventory.Package) { p.OwnedBy = "python3-urllib3" })}},
		{name: "aliases, also over a third, make one finding",
			language: []advisory.Advisory{
				{ID: "PYSEC-1", Aliases: []string{"CVE-1-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "1.27"}}}}},
				{ID: "GHSA-a", Aliases: []string{"PYSEC-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "1.28"}}}}},
				{ID: "GHSA-b", Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "1.29"}}}}},
				{ID: "PYSEC-9", Related: []string{"CVE-1-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "1.30"}}}}}},
			packages: []inventory.Package{pypi("urllib3", "1.26.12")},
			want: []string{"urllib3 CVE-1-1 fixable alias GHSA-a,PYSEC-1 fixed 1.28 by GHSA-a,PYSEC-1", "urllib3 GHSA-b fixable fixed 1.29 by GHSA-b",
				"urllib3 PYSEC-9 fixable fixed 1.30 by PYSEC-9"}},
		{name: "several CVE numbers as aliases are several weaknesses",
			language: []advisory.Advisory{
				{ID: "GO-1", Aliases: []string{"CVE-1-1", "CVE-1-2", "GHSA-a", "GHSA-b"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "1.27"}}}}},
				{ID: "GHSA-a", Aliases: []string{"CVE-1-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "1.28"}}}}}},
			packages: []inventory.Package{pypi("urllib3", "1.26.12")},
			want:     []string{"urllib3 CVE-1-1 fixable alias GHSA-a fixed 1.28 by GHSA-a,GO-1", "urllib3 CVE-1-2 fixable fixed 1.27 by GO-1"}},
		{name: "two CVE numbers are never joined over a third name",
			language: []advisory.Advisory{
				{ID: "GHSA-a", Aliases: []string{"CVE-1-1", "SNYK-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{}}}}},
				{ID: "GHSA-b", Aliases: []string{"CVE-1-2", "SNYK-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{}}}}}},
			packages: []inventory.Package{pypi("urllib3", "1.26.12")},
			want:     []string{"urllib3 CVE-1-1 unfixed alias GHSA-a,SNYK-1 by GHSA-a", "urllib3 CVE-1-2 unfixed alias GHSA-b by GHSA-b"}},
		{name: "a CVE number that only an advisory about another package knows",
			language: []advisory.Advisory{
				{ID: "MAL-1", Aliases: []string{"GHSA-a"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{}}}}},
				{ID: "GHSA-a", Aliases: []string{"CVE-1-1"}, Affected: []advisory.Affected{{Ecosystem: "npm", Package: "other", Ranges: []advisory.Range{{}}}}}},
			packages: []inventory.Package{pypi("urllib3", "1.26.12")},
			want:     []string{"urllib3 CVE-1-1 unfixed alias GHSA-a,MAL-1 by MAL-1"}},
		{name: "a fix that another range holds",
			language: []advisory.Advisory{
				{ID: "PYSEC-1", Aliases: []string{"CVE-1-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3",
					Ranges: []advisory.Range{{Fixed: "1.27"}, {Introduced: "2.0", Fixed: "2.1"}}}}},
				{ID: "GHSA-a", Aliases: []string{"CVE-1-1"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{Fixed: "2.0.5"}}}}}},
			packages: []inventory.Package{pypi("urllib3", "1.26.12")},
			want:     []string{"urllib3 CVE-1-1 fixable alias GHSA-a,PYSEC-1 fixed 2.1 by GHSA-a,PYSEC-1"}},
		{name: "no fix in its own branch, but above",
			language: []advisory.Advisory{{ID: "PYSEC-1", Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3",
				Ranges: []advisory.Range{{Last: "1.26.18"}, {Introduced: "2.0", Fixed: "2.1"}}}}}},
			packages: []inventory.Package{pypi("urllib3", "1.26.12"), pypi("urllib3", "1.26.18"), pypi("urllib3", "1.26.19")},
			want:     []string{"urllib3 PYSEC-1 fixable fixed 2.1 by PYSEC-1", "urllib3 PYSEC-1 fixable fixed 2.1 by PYSEC-1"}},
		{name: "the fix of the binary package where it is known",
			debian: []advisory.Advisory{{ID: "CVE-1-1", Affected: []advisory.Affected{source("gcc-defaults", "1.204"),
				{Ecosystem: "Debian:12", Package: "gcc", Of: advisory.OfBinary, Ranges: []advisory.Range{{Fixed: "4:12.2.0-4"}}}}}},
			packages: []inventory.Package{deb("gcc", "4:12.2.0-3", "gcc-defaults", "1.203"), deb("cpp", "4:12.2.0-3", "gcc-defaults", "1.203")},
			want:     []string{"cpp CVE-1-1 fixable fixed 1.204 by CVE-1-1", "gcc CVE-1-1 fixable fixed 4:12.2.0-4 by CVE-1-1"}},
		{name: "spelt otherwise",
			language: []advisory.Advisory{{ID: "PYSEC-1", Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "Flask.Login", Ranges: []advisory.Range{{Fixed: "2.0"}}}}}},
			packages: []inventory.Package{pypi("flask_login", "1.0")},
			want:     []string{"flask_login PYSEC-1 fixable fixed 2.0 by PYSEC-1"}},
		{name: "without a version only what holds of all",
			language: []advisory.Advisory{
				{ID: "MAL-1", Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "evil", Ranges: []advisory.Range{{Introduced: "0"}}}}},
				{ID: "PYSEC-1", Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "evil", Ranges: []advisory.Range{{Fixed: "9"}}}}}},
			packages: []inventory.Package{pypi("evil", "")},
			want:     []string{"evil MAL-1 unfixed by MAL-1"}},
		{name: "another database's name of a CVE",
			debian:   []advisory.Advisory{{ID: "CGA-1", Upstream: []string{"CVE-1-1", "GHSA-a"}, Affected: []advisory.Affected{source("openssl", "9")}}},
			language: []advisory.Advisory{{ID: "GHSA-a", Aliases: []string{"CVE-1-1"}}},
			packages: []inventory.Package{libssl},
			want:     []string{"libssl3 CVE-1-1 fixable fixed 9 by CGA-1"}},
		{name: "only another database's name, from which the CVE is known",
			debian:   []advisory.Advisory{{ID: "CGA-1", Upstream: []string{"GHSA-a"}, Affected: []advisory.Affected{source("openssl", "9")}}},
			language: []advisory.Advisory{{ID: "GHSA-a", Aliases: []string{"CVE-1-1"}}},
			packages: []inventory.Package{libssl},
			want:     []string{"libssl3 CVE-1-1 fixable fixed 9 by CGA-1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := matched(t, map[string][]advisory.Advisory{"debian": tc.debian, "osv/PyPI": tc.language}, tc.options, tc.packages...)
			if diff := cmp.Diff(tc.want, brief(r.Vulnerabilities)); diff != "" {
				t.Errorf("Match() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhereFrom(t *testing.T) {
	rpm := func(change func(*inventory.Package)) inventory.Package {
		p := inventory.Package{Type: "rpm", Name: "docker", Version: "20.10.25-1.amzn2.0.4", Arch: "x86_64", Ecosystem: "Amazon Linux:2"}
		change(&p)
		return p
	}
	affected := func(name string, change func(*advisory.Affected)) advisory.Affected {
		a := advisory.Affected{Ecosystem: "Amazon Linux:2", Package: name, Of: advisory.OfBinary, Ranges: []advisory.Range{{Fixed: "99-1"}}}
		change(&a)
		return a
	}
	feeds := map[string][]advisory.Advisory{"amazon": {
		{ID: "CVE-1-1", Affected: []advisory.Affected{affected("docker", func(a *advisory.Affected) { a.Repository = "docker" })}},
		{ID: "CVE-1-2", Affected: []advisory.Affected{affected("docker", func(a *advisory.Affected) { a.Repository, a.Arches = "ecs", []string{"aarch64"} })}},
		{ID: "CVE-2-1", Affected: []advisory.Affected{affected("php", func(a *advisory.Affected) { a.Repository = "php8.1" })}},
		{ID: "CVE-2-2", Affected: []advisory.Affected{affected("php", func(*advisory.Affected) {})}},
		{ID: "CVE-3-1", Affected: []advisory.Affected{affected("nodejs", func(a *advisory.Affected) { a.Ranges[0].Fixed = "1:18.19.0-1.module+el9.3.0+1+2" })}},
		{ID: "CVE-3-2", Affected: []advisory.Affected{affected("nodejs", func(a *advisory.Affected) { a.Ranges[0].Fixed = "1:16.20.2-4.el9" })}},
	}, "ubuntu": {
		{ID: "UBUNTU-CVE-4-1", Upstream: []string{"CVE-4-1"}, Affected: []advisory.Affected{
			{Ecosystem: "Ubuntu:18.04:LTS", Package: "openssl", Of: advisory.OfSource, Ranges: []advisory.Range{{}}},
			{Ecosystem: "Ubuntu:Pro:18.04:LTS", Package: "openssl", Of: advisory.OfSource, Ranges: []advisory.Range{{Fixed: "1.1.1-1ubuntu2.1~18.04.23+esm1"}}}}},
	}}
	ubuntu := func(version string) inventory.Package {
		return inventory.Package{Type: "deb", Name: "openssl", Version: version, Ecosystem: "Ubuntu:18.04:LTS"}
	}
	for _, tc := range []struct {
		name string
		p    inventory.Package
		want []string
	}{
		{"from the repository", rpm(func(p *inventory.Package) { p.Repository = "docker" }), []string{"docker CVE-1-1 fixable fixed 99-1 by CVE-1-1"}},
		{"from another, for another architecture", rpm(func(p *inventory.Package) { p.Repository = "ecs" }), nil},
		{"from another, for this architecture", rpm(func(p *inventory.Package) { p.Repository, p.Arch = "ecs", "aarch64" }), []string{"docker CVE-1-2 fixable fixed 99-1 by CVE-1-2"}},
		{"from one of them", rpm(func(*inventory.Package) {}), []string{"docker CVE-1-1 fixable fixed 99-1 by CVE-1-1"}},
		{"not known from where, and the distribution has it too", rpm(func(p *inventory.Package) { p.Name = "php" }), []string{"php CVE-2-2 fixable fixed 99-1 by CVE-2-2"}},
		{"from a repository that the distribution has too", rpm(func(p *inventory.Package) { p.Name, p.Repository = "php", "php8.1" }),
			[]string{"php CVE-2-1 fixable fixed 99-1 by CVE-2-1", "php CVE-2-2 fixable fixed 99-1 by CVE-2-2"}},
		{"of a module stream", rpm(func(p *inventory.Package) { p.Name, p.Version = "nodejs", "1:16.18.1-3.module+el9.1.0+1+2" }),
			[]string{"nodejs CVE-3-1 fixable fixed 1:18.19.0-1.module+el9.3.0+1+2 by CVE-3-1"}},
		{"of none", rpm(func(p *inventory.Package) { p.Name, p.Version = "nodejs", "1:16.18.1-3.el9" }),
			[]string{"nodejs CVE-3-2 fixable fixed 1:16.20.2-4.el9 by CVE-3-2"}},
		{"maintained no more", ubuntu("1.1.1-1ubuntu2.1~18.04.23"), []string{"openssl CVE-4-1 unfixed by UBUNTU-CVE-4-1"}},
		{"but for those who pay, and fixed for them", ubuntu("1.1.1-1ubuntu2.1~18.04.23+esm2"), nil},
		{"but for those who pay, and not fixed yet", ubuntu("1.1.1-1ubuntu2.1~18.04.20+esm2"),
			[]string{"openssl CVE-4-1 fixable fixed 1.1.1-1ubuntu2.1~18.04.23+esm1 by UBUNTU-CVE-4-1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := matched(t, feeds, match.Options{}, tc.p)
			if diff := cmp.Diff(tc.want, brief(r.Vulnerabilities)); diff != "" {
				t.Errorf("Match() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGaps(t *testing.T) {
	feeds := map[string][]advisory.Advisory{"osv": {{ID: "A", Affected: []advisory.Affected{
		source("openssl", "9"), {Ecosystem: "npm", Package: "p", Ranges: []advisory.Range{{Fixed: "9.0.0"}}},
		{Ecosystem: "Go", Package: "m", Ranges: []advisory.Range{{Fixed: "9.0.0"}}}}}}}
	var packages []inventory.Package
	for i := range 7 {
		packages = append(packages, inventory.Package{Type: "npm", Name: fmt.Sprint("p", i), Version: "1.0.0", Ecosystem: "npm"},
			inventory.Package{Type: "deb", Name: fmt.Sprint("p", i), Version: "1", Ecosystem: "Debian:13"})
	}
	packages = append(packages,
		inventory.Package{Type: "conan", Name: "zlib", Version: "1.2"},
		inventory.Package{Type: "npm", Name: "p", Version: "latest", Ecosystem: "npm"},
		inventory.Package{Type: "golang", Name: "m", Version: "(devel)", Ecosystem: "Go"},
		inventory.Package{Type: "npm", Name: "unversioned", Ecosystem: "npm"})
	want := []match.Gap{
		{Why: match.NotCovered, Ecosystem: "Debian:13", Packages: 7, Examples: []string{"p0 1", "p1 1", "p2 1", "p3 1", "p4 1"}},
		{Why: match.OddVersion, Ecosystem: "Go", Packages: 1, Examples: []string{"m (devel)"}},
		{Why: match.NoEcosystem, Ecosystem: "conan", Packages: 1, Examples: []string{"zlib 1.2"}},
		{Why: match.OddVersion, Ecosystem: "npm", Packages: 1, Examples: []string{"p latest"}},
		{Why: match.NoVersion, Ecosystem: "npm", Packages: 1, Examples: []string{"unversioned"}},
	}
	r := matched(t, feeds, match.Options{}, packages...)
	if diff := cmp.Diff(want, r.Gaps); diff != "" {
		t.Errorf("Gaps differ (-want +got):\n%s", diff)
	}
	if len(r.Vulnerabilities) > 0 {
		t.Errorf("findings: %q", brief(r.Vulnerabilities))
	}
}

func TestOrder(t *testing.T) {
	var list []advisory.Advisory
	for i, rating := range []advisory.Rating{advisory.Low, advisory.Critical, advisory.High, advisory.High, advisory.Low, advisory.Unrated} {
		list = append(list, advisory.Advisory{ID: fmt.Sprintf("CVE-2024-000%d", i), Rating: rating, Affected: []advisory.Affected{
			{Ecosystem: "PyPI", Package: "a", Ranges: []advisory.Range{{}}}}})
	}
	list = append(list, advisory.Advisory{ID: "CVE-2024-0009", Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "used", Ranges: []advisory.Range{{}}}}})
	db := database(t, map[string][]advisory.Advisory{"osv": list}, func(b *vulndb.Builder) {
		must(t, b.AddExploited(vulndb.Source{Name: "kev"}, []advisory.Exploited{{CVE: "CVE-2024-0004"}}))
		must(t, b.AddProbabilities(vulndb.Source{Name: "epss"}, time.Now(), seq([]advisory.Probability{
			{CVE: "CVE-2024-0003", EPSS: 0.9}, {CVE: "CVE-2024-0002", EPSS: 0.1}, {CVE: "CVE-2024-0000", EPSS: 0.99}})))
	})
	inv := &inventory.Inventory{Packages: []inventory.Package{pypi("a", "1"), pypi("used", "1")}}
	r, err := match.Match(t.Context(), db, inv, match.Options{InUse: func(p *inventory.Package) bool { return p.Name == "used" }})
	must(t, err)
	var got []string
	for _, v := range r.Vulnerabilities {
		got = append(got, v.ID)
		if v.InUse != (v.Package.Name == "used") {
			t.Errorf("%s of %s in use: %v", v.ID, v.Package.Name, v.InUse)
		}
	}
	want := []string{"CVE-2024-0009", "CVE-2024-0004", "CVE-2024-0001", "CVE-2024-0003", "CVE-2024-0002", "CVE-2024-0000", "CVE-2024-0005"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order differs (-want +got):\n%s", diff)
	}
}

func TestMatchEndsWithItsContext(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	end()
	if _, err := match.Match(ctx, database(t, nil), &inventory.Inventory{Packages: []inventory.Package{pypi("a", "1")}}, match.Options{}); err == nil {
		t.Error("Match() = nil error, want the context's")
	}
}
