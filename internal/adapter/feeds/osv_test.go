package feeds_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
)

func TestOSV(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"a Go module", "GO-2020-0003", `
			GO-2020-0003 aliases=CVE-2020-36568,GHSA-hggr-p7v6-73p5
			  Go package github.com/revel/revel [, 1.0.0)`},
		{"GitHub's severity and weaknesses, one package twice", "GHSA-jfh8-c2jp-5v3q", `
			GHSA-jfh8-c2jp-5v3q aliases=CVE-2021-44228 weaknesses=CWE-20,CWE-400,CWE-502,CWE-917 CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H/E:H critical
			  Maven package org.apache.logging.log4j:log4j-core [2.13.0, 2.15.0)
			  Maven package org.apache.logging.log4j:log4j-core [2.0-beta9, 2.3.1)`},
		{"withdrawn", "PYSEC-2019-144", `
			PYSEC-2019-144 aliases=CVE-2018-20998 withdrawn 2022-09-09
			  PyPI package arrayfire [, 3.6.0) 20 versions`},
		{"commits beside versions", "PYSEC-2022-43062", `
			PYSEC-2022-43062 aliases=CVE-2019-25078 CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H
			  PyPI package pacparser [, 1.4.0) 12 versions`},
		{"no weakness but a warning", "RUSTSEC-2021-0145", `
			RUSTSEC-2021-0145 aliases=GHSA-g98v-hv3f-hcfr
			  crates.io package atty [0.0.0-0, ) "informational: unsound"`},
		{"a Debian advisory", "DSA-5380-1", `
			DSA-5380-1 upstream=CVE-2023-1393
			  Debian:11 source xorg-server [, 2:1.20.11-1+deb11u6)`},
		{"Debian's urgency", "DEBIAN-CVE-2016-2568", `
			DEBIAN-CVE-2016-2568 upstream=CVE-2016-2568 CVSS:3.0/AV:L/AC:L/PR:L/UI:R/S:C/C:H/I:H/A:N
			  Debian:12 source policykit-1 [, ) negligible
			  Debian:11 source policykit-1 [, ) end of life`},
		{"Ubuntu's priority as a severity", "UBUNTU-CVE-2025-0167", `
			UBUNTU-CVE-2025-0167 upstream=CVE-2025-0167 related=USN-8084-1 CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:C/C:L/I:N/A:N low
			  Ubuntu:22.04:LTS source curl [, 7.81.0-1ubuntu1.23) 2 versions`},
		{"Ubuntu's priority as it was before, the weakness only related", "UBUNTU-CVE-2024-51988", `
			UBUNTU-CVE-2024-51988 upstream=CVE-2024-51988
			  Ubuntu:24.10 source rabbitmq-server [, 3.12.1-1ubuntu2) 1 versions medium`},
		{"the weakness only in the name", "ALPINE-CVE-2010-3846-cvs", `
			ALPINE-CVE-2010-3846-cvs upstream=CVE-2010-3846
			  Alpine:edge source cvs [, 1.12.12-r0)`},
		{"a module stream of AlmaLinux, binary packages", "ALSA-2026_8339", `
			ALSA-2026:8339 upstream=CVE-2026-26996,CVE-2026-27904,CVE-2026-27135,CVE-2026-21710 high
			  AlmaLinux:8 binary nodejs of nodejs:20 [, 1:20.20.2-1.module_el8.10.0+4165+3f200bda)
			  AlmaLinux:8 binary nodejs-devel of nodejs:20 [, 1:20.20.2-1.module_el8.10.0+4165+3f200bda)`},
		{"Rocky Linux, source packages", "RLSA-2023_0005", `
			RLSA-2023:0005 upstream=CVE-2022-42920 CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:H/A:H high
			  Rocky Linux:9 source bcel [, 0:6.4.1-9.el9_1)`},
		{"a layered product of Red Hat", "RHEA-2024_1870", `
			RHEA-2024:1870 upstream=CVE-2023-39325,CVE-2023-44487 related=GO-2023-2102 CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H
			  Red Hat:ocp_tools:4.15::el9 binary helm [, 0:3.13.2-35.el9)`},
		{"Chainguard and Wolfi, with itself related", "CGA-2c2h-8fj5-55vx", `
			CGA-2c2h-8fj5-55vx upstream=CVE-2024-34156,GHSA-crqm-pwhx-j97f
			  Chainguard binary nri-memcached [, 2.5.7-r1)
			  Wolfi binary nri-memcached-compat [, 2.5.7-r1)`},
		{"the state of a component", "CGA-c2pj-q677-x6vc", `
			CGA-c2pj-q677-x6vc upstream=GHSA-vj6f-v49f-r83x
			  Chainguard binary linux-aws-6.18 [, ) "pending upstream fix"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, tally := parseAll(t, source(t, "osv/Go"), os.DirFS("testdata/osv"), tc.file+".json")
			if d := cmp.Diff(textLines(tc.want), got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if tally.Failed > 0 {
				t.Errorf("failures: %v", tally.Failures)
			}
		})
	}
}

// one reads a single OSV document that is written in the test.
func one(t *testing.T, doc string) (advisory.Advisory, *feeds.Tally) {
	t.Helper()
	tally := &feeds.Tally{}
	var last advisory.Advisory
	for a, err := range feeds.ParseFile(context.Background(), source(t, "osv/Go"), fstest.MapFS{"d.json": {Data: []byte(doc)}}, "d.json", tally) {
		if fault.Is(err, fault.Invalid) { // counted
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		last = a
	}
	return last, tally
}

func TestOSVText(t *testing.T) {
	a, _ := one(t, `{"id":"A-1","modified":"2024-02-16T08:16:32.5Z","published":"2021-12-10T00:40:56Z",
		"summary":"S","details":"D","references":[{"type":"ADVISORY","url":"https://a"},{"type":"FIX","url":""}],
		"affected":[{"package":{"ecosystem":"PyPI","name":"Flask_Login"},"versions":["1"],
			"severity":[{"type":"CVSS_V4","score":"CVSS:4.0/AV:N"}]}]}`)
	want := advisory.Advisory{
		ID: "A-1", Source: "osv/Go", Summary: "S", Details: "D",
		Modified:   time.Date(2024, 2, 16, 8, 16, 32, 500_000_000, time.UTC),
		Published:  time.Date(2021, 12, 10, 0, 40, 56, 0, time.UTC),
		References: []advisory.Reference{{Kind: "advisory", URL: "https://a"}},
		Affected: []advisory.Affected{{
			Ecosystem: "PyPI", Package: "flask-login", Versions: []string{"1"}, Scores: []advisory.Score{{Vector: "CVSS:4.0/AV:N"}}}},
	}
	if d := cmp.Diff(want, a); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestOSVEcosystems(t *testing.T) {
	for _, tc := range []struct{ ecosystem, want string }{
		{"Red Hat:enterprise_linux:9::appstream", "Red Hat:9 binary"},
		{"Red Hat:enterprise_linux:8.6::baseos", "Red Hat:8 binary"},
		{"Red Hat:rhel_eus:9.2::baseos", "Red Hat:rhel_eus:9.2 binary"},
		{"Red Hat:openshift:4.15::el9", "Red Hat:openshift:4.15::el9 binary"},
		{"openSUSE:Leap 15.5", "openSUSE:Leap 15.5 source"},
		{"SUSE:Linux Enterprise Server 15 SP5", "SUSE:Linux Enterprise Server 15 SP5 source"},
		{"Ubuntu:Pro:18.04:LTS", "Ubuntu:Pro:18.04:LTS source"},
		{"Maven:https://maven.google.com", "Maven:https://maven.google.com package"},
		{"Bitnami", "Bitnami package"},
		{"Photon OS:5.0", "Photon OS:5.0 binary"},
	} {
		t.Run(tc.ecosystem, func(t *testing.T) {
			a, _ := one(t, `{"id":"A-1","affected":[{"package":{"ecosystem":"`+tc.ecosystem+`","name":"x"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`)
			if got, want := strings.TrimSpace(show(a)[1]), tc.want+" x [, )"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestOSVModules(t *testing.T) {
	const plain, modular = "1.2-3.el8", "1.2-3.module+el8.9.0+1+2"
	for _, tc := range []struct{ summary, fixed, want string }{
		{"Important: nodejs:20 security update", modular, "nodejs:20"},
		{"Important: nodejs:20 security update", plain, ""},
		{"Important: httpd:2.4/mod_http2 security update", modular, "httpd:2.4"},
		{"new module: php:7.4", modular, "php:7.4"},
		{"Moderate: container-tools security update", modular, ""},
		{"Moderate: python38:3.8 and python38-devel:3.8 security update", modular, ""},
	} {
		t.Run(tc.summary, func(t *testing.T) {
			a, _ := one(t, `{"id":"RLSA-1","summary":"`+tc.summary+`","affected":[{"package":{"ecosystem":"Rocky Linux:8","name":"x"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"`+tc.fixed+`"}]}]}]}`)
			if got := a.Affected[0].Repository; got != tc.want {
				t.Errorf("repository %q, want %q", got, tc.want)
			}
		})
	}
}

func TestOSVLeavesOut(t *testing.T) {
	const pkg = `"package":{"ecosystem":"Go","name":"x"}`
	for _, tc := range []struct {
		name, doc string
		skipped   feeds.Skip
	}{
		{"no packages", `{"id":"A-1"}`, feeds.SkipNoPackage},
		{"a package without a name", `{"id":"A-1","affected":[{"package":{"ecosystem":"Go"},"versions":["1"]}]}`, feeds.SkipNoPackage},
		{"only commits", `{"id":"A-1","affected":[{` + pkg + `,"ranges":[{"type":"GIT","events":[{"introduced":"0"}]}]}]}`, feeds.SkipGitRange},
		{"a range of tomorrow", `{"id":"A-1","affected":[{` + pkg + `,"ranges":[{"type":"TIME","events":[{"introduced":"0"}]}]}]}`, feeds.SkipUnknownRange},
		{"no versions", `{"id":"A-1","affected":[{` + pkg + `,"ranges":[],"versions":[]}]}`, feeds.SkipNoPackage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, tally := one(t, tc.doc)
			if a.ID != "" || tally.Failed != 0 || tally.Documents != 1 {
				t.Errorf("got %v and %+v, want nothing", show(a), tally)
			}
			if tally.Skipped[tc.skipped] != 1 {
				t.Errorf("skipped %v, want one %q", tally.Skipped, tc.skipped)
			}
		})
	}
}

func TestOSVRefuses(t *testing.T) {
	ranges := func(n int) string {
		one := `{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1"}]}`
		return `{"id":"A-1","affected":[{"package":{"ecosystem":"Go","name":"x"},"ranges":[` + one + strings.Repeat(","+one, n-1) + `]}]}`
	}
	for _, tc := range []struct{ name, doc, want string }{
		{"no id", `{"affected":[]}`, "no id"},
		{"half of one", `{"id":"A-1","affected":[`, "too early"},
		{"no JSON", `<html>`, "want an object"},
		{"deep", `{"id":"A-1","database_specific":{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}`, "deeper"},
		{"a million ranges", ranges(1_000_000), "ranges"},
		{"a million versions", `{"id":"A-1","affected":[{"package":{"ecosystem":"Go","name":"x"},"versions":["1"` + strings.Repeat(`,"1"`, 999_999) + `]}]}`, "versions"},
		{"a million packages", `{"id":"A-1","affected":[{}` + strings.Repeat(`,{}`, 999_999) + `]}`, "packages"},
		{"a million aliases", `{"id":"A-1","aliases":["a"` + strings.Repeat(`,"a"`, 999_999) + `]}`, "elements"},
		{"a name without end", `{"id":"A-1","affected":[{"package":{"ecosystem":"Go","name":"` + strings.Repeat("x", 2000) + `"},"versions":["1"]}]}`, "longer"},
		{"a version without end", `{"id":"A-1","affected":[{"package":{"ecosystem":"Go","name":"x"},"versions":["` + strings.Repeat("1", 2000) + `"]}]}`, "longer"},
		{"withdrawn at no time", `{"id":"A-1","withdrawn":"yesterday"}`, "not a time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, tally := one(t, tc.doc)
			if tally.Failed != 1 || len(tally.Failures) != 1 || a.ID != "" {
				t.Fatalf("got %v and %+v, want a failure", a.ID, tally)
			}
			f := tally.Failures[0]
			if f.Document != "d.json" || !strings.Contains(f.Err.Error(), tc.want) {
				t.Errorf("%s: %v, want an error with %q", f.Document, f.Err, tc.want)
			}
		})
	}
}

func TestOSVShortensWhatIsOnlyShown(t *testing.T) {
	a, tally := one(t, `{"id":"A-1","summary":"`+strings.Repeat("ä", 5000)+`","details":"`+strings.Repeat("d", 100_000)+
		`","references":[{"type":"WEB","url":"https://a"}`+strings.Repeat(`,{"type":"WEB","url":"https://b"}`, 1000)+
		`],"affected":[{"package":{"ecosystem":"Go","name":"x"},"versions":["1"]}]}`)
	if len(a.Summary) != 1024 || strings.ContainsRune(a.Summary, '\uFFFD') || len(a.Details) != 16<<10 || len(a.References) != 200 {
		t.Errorf("summary %d, details %d, references %d", len(a.Summary), len(a.Details), len(a.References))
	}
	if tally.Failed != 0 || tally.Skipped[feeds.SkipReference] != 801 {
		t.Errorf("tally %+v", tally)
	}
}
