package feeds_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
	"github.com/castellan-security/castellan/internal/fault"
)

func TestDistributions(t *testing.T) {
	for _, tc := range []struct{ name, source, file, want string }{
		{"Debian's tracker", "debian", "debian/data.json", `
			CVE-2016-5416
			  Debian:11 source 389-ds-base [, ) will not fix "Minor issue"
			  Debian:12 source 389-ds-base [, 1.3.5.13-1)
			  Debian:sid source 389-ds-base [, 1.3.5.13-1)
			CVE-2023-5363
			  Debian:11 source openssl not affected
			  Debian:12 source openssl [, 3.0.11-1~deb12u2) medium
			CVE-2007-6755
			  Debian:13 source openssl [, ) negligible
			CVE-2025-0001
			  Debian:13 source openssl [, ) deferred low "Minor issue; can be fixed via point release"
			  Debian:12 source openssl [, ) deferred high "Minor issue"
			  Debian:14 source openssl [, ) under investigation
			  Debian:10 source openssl [, ) end of life
			  Debian:loong source openssl [, )
			TEMP-0000000-0CA7E3
			  Debian:sid source linux [, ) negligible`},
		{"Alpine's security database", "alpine", "alpine-secdb/v3.8/main.json", `
			CVE-2016-0682
			  Alpine:v3.8 source db not affected
			CVE-2017-11103
			  Alpine:v3.8 source heimdal [, 7.4.0-r1)
			CVE-2016-6258 aliases=XSA-182
			  Alpine:v3.8 source xen [, 4.7.0-r0)
			XSA-207
			  Alpine:v3.8 source xen [, 4.9.0-r2)
			CVE-2017-12135 aliases=XSA-226
			  Alpine:v3.8 source xen [, 4.9.0-r3)`},
		{"Wolfi's, without a branch", "wolfi", "wolfi/security.json", `
			CVE-2023-45283
			  Wolfi source aactl not affected
			CVE-2024-29902
			  Wolfi source aactl [, 0.4.12-r10)
			GHSA-88jx-383q-w4qc
			  Wolfi source aactl [, 0.4.12-r10)`},
		{"Amazon Linux 2023", "amazon/2023", "amazon/2023/core/updateinfo.xml.gz", `
			ALAS2023-2023-001 upstream=CVE-2014-3634,CVE-2022-24903 high
			  Amazon Linux:2023 binary rsyslog (x86_64,aarch64) [, 8.2204.0-3.amzn2023.0.2)
			  Amazon Linux:2023 binary rsyslog-doc (noarch) [, 8.2204.0-3.amzn2023.0.2)`},
		{"Amazon Linux 2, with an epoch", "amazon/2", "amazon/2/core/updateinfo.xml.gz", `
			ALAS2-2018-939 upstream=CVE-2017-5754 critical
			  Amazon Linux:2 binary kernel (x86_64) [, 4.9.70-25.242.amzn2)
			  Amazon Linux:2 binary bind-libs (x86_64) [, 32:9.9.4-51.amzn2)`},
		{"an extra of Amazon Linux 2", "amazon/2", "amazon/2/extras/docker/updateinfo.xml.gz", `
			ALASDOCKER-2021-001 upstream=CVE-2021-32760 medium
			  Amazon Linux:2 binary containerd of docker (x86_64,aarch64) [, 1.4.6-3.amzn2)`},
		{"the state of a CVE in Amazon Linux", "amazon/cve", "amazon/cve/CVE-2025-0167.json", `
			CVE-2025-0167 CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:C/C:L/I:N/A:N by amazon CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:C/C:L/I:N/A:N by nvd low
			  Amazon Linux:2 source curl [, ) "Pending Fix"
			  Amazon Linux:2 source containerd of docker not affected "Not Affected"
			  Amazon Linux:1 source curl [, ) will not fix "No Fix Planned"`},
		{"the page of a CVE in Amazon Linux", "amazon/cve", "amazon/cve/CVE-2025-0725.html", `
			CVE-2025-0725 CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:L/A:L by amazon CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:L/A:L by nvd
			  Amazon Linux:2 source curl not affected "Not Affected"
			  Amazon Linux:2 source kernel of kernel-5.10 [, ) "Pending Fix"
			  Amazon Linux:2023 source kernel-livepatch-6.1.102-108.177 [, ) will not fix "No Fix Planned"`},
		{"Ubuntu's tracker", "ubuntu", "ubuntu/cves-000000.json", `
			CVE-2024-45700 medium
			  Ubuntu:18.04:LTS source zabbix [, ) under investigation
			  Ubuntu:22.04:LTS source zabbix [, 1:5.0.45+dfsg-1)
			  Ubuntu:24.10 source zabbix [, ) end of life "end of life, was needs-triage"
			  Ubuntu:20.04:LTS source zabbix [, ) will not fix "changes too intrusive"
			  Ubuntu:25.04 source zabbix not affected "code not present"
			  Ubuntu:25.10 source zabbix [, ) deferred "2025-05-01"
			  Ubuntu:Pro:14.04:LTS source zabbix [, 1:2.2.2+dfsg-1ubuntu1+esm5)
			  Ubuntu:26.04:LTS source zabbix [, )`},
		{"Ubuntu's VEX", "ubuntu/vex", "ubuntu-vex/CVE-2024-45700.json", `
			CVE-2024-45700
			  Ubuntu:24.04:LTS source zabbix [, )
			  Ubuntu:20.04:LTS source zabbix [, ) will not fix "changes too intrusive"
			  Ubuntu:Pro:20.04:LTS source zabbix [, ) will not fix "changes too intrusive"
			  Ubuntu:18.04:LTS source zabbix [, ) end of life
			  Ubuntu:22.04:LTS source zabbix [, ) under investigation
			  Ubuntu:Pro:22.04:LTS source zabbix [, ) deferred "2025-05-01"
			  Ubuntu:26.04:LTS source zabbix not affected "code not present"`},
		{"Ubuntu's VEX in its archive, with a CVE of which nothing is said, and a notice", "ubuntu/vex", "ubuntu-vex/vex-all.tar.xz", `
			CVE-2024-45700
			  Ubuntu:24.04:LTS source zabbix [, )
			  Ubuntu:20.04:LTS source zabbix [, ) will not fix "changes too intrusive"
			  Ubuntu:Pro:20.04:LTS source zabbix [, ) will not fix "changes too intrusive"
			  Ubuntu:18.04:LTS source zabbix [, ) end of life
			  Ubuntu:22.04:LTS source zabbix [, ) under investigation
			  Ubuntu:Pro:22.04:LTS source zabbix [, ) deferred "2025-05-01"
			  Ubuntu:26.04:LTS source zabbix not affected "code not present"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, tally := parseAll(t, source(t, tc.source), os.DirFS("testdata"), tc.file)
			if d := cmp.Diff(textLines(tc.want), got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if tally.Failed > 0 {
				t.Errorf("failures: %v", tally.Failures)
			}
		})
	}
}

func TestWhatDistributionsLeaveOutIsCounted(t *testing.T) {
	for _, tc := range []struct {
		source, file string
		want         map[feeds.Skip]int
	}{
		{"amazon/2023", "amazon/2023/core/updateinfo.xml.gz", map[feeds.Skip]int{feeds.SkipNoPackage: 1}},
		{"amazon/cve", "amazon/cve/CVE-2025-0167.json", map[feeds.Skip]int{feeds.SkipFixed: 1, feeds.SkipRelease: 1}},
		{"ubuntu/vex", "ubuntu-vex/CVE-2024-45700.json", map[feeds.Skip]int{feeds.SkipFixed: 1, feeds.SkipNotInRelease: 1, feeds.SkipProduct: 1, feeds.SkipRelease: 1}},
		{"ubuntu", "ubuntu/cves-000000.json", map[feeds.Skip]int{feeds.SkipNotInRelease: 1, feeds.SkipRelease: 1}},
	} {
		t.Run(tc.source, func(t *testing.T) {
			_, tally := parseAll(t, source(t, tc.source), os.DirFS("testdata"), tc.file)
			if d := cmp.Diff(tc.want, tally.Skipped); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// broken reads one file that cannot be read to its end, and returns what came of
// it and the error.
func broken(t *testing.T, name, file string, content []byte) (lines []string, tally *feeds.Tally, failed error) {
	t.Helper()
	tally = &feeds.Tally{}
	for a, err := range feeds.ParseFile(context.Background(), source(t, name), fstest.MapFS{file: {Data: content}}, file, tally) {
		if fault.Is(err, fault.Invalid) { // a document: counted
			if !strings.Contains(err.Error(), file) {
				t.Errorf("%v: it doesn't name its file", err)
			}
			continue
		}
		if err != nil {
			failed = err
			continue
		}
		lines = append(lines, show(a)...)
	}
	return lines, tally, failed
}

func TestBrokenDistributions(t *testing.T) {
	for _, tc := range []struct{ name, source, content, want string }{
		{"Debian, cut off", "debian", `{"a":{"CVE-2024-0001":{"releases":{"sid":{"status":"open"}}},"CVE-2024-0002":{"rel`, "too early"},
		{"Debian, a list", "debian", `[]`, "want an object"},
		{"Alpine without a branch", "alpine", `{"packages":[]}`, "distroversion"},
		{"Alpine, cut off", "alpine", `{"distroversion":"v3.8","packages":[{"pkg":{"name":"a","secf`, "too early"},
		{"Alpine, a million fixes", "alpine", `{"distroversion":"v3.8","packages":[{"pkg":{"name":"a","secfixes":{"1":["CVE-2024-0001"` + strings.Repeat(`,"CVE-2024-0001"`, 1_000_000) + `]}}}]}`, "ranges"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, tally, err := broken(t, tc.source, "data.json", []byte(tc.content))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "data.json") {
				t.Errorf("got %v, want an error with %q and the file", err, tc.want)
			}
			if tally.Failed != 1 {
				t.Errorf("tally %+v", tally)
			}
		})
	}
}

func TestWhatCameBeforeABreakStands(t *testing.T) {
	lines, _, err := broken(t, "debian", "data.json", []byte(`{"a":{"CVE-2024-0001":{"releases":{"sid":{"status":"open"}}}},"b":{"CVE-2024-0002":`))
	if err == nil || len(lines) != 2 || lines[0] != "CVE-2024-0001" {
		t.Errorf("got %q, %v", lines, err)
	}
}

const oneUpdate = `<update type="security"><id>ALAS-1</id><pkglist><collection><package name="a" version="1" release="1" arch="noarch"/></collection></pkglist></update>`

func TestBrokenUpdateInfo(t *testing.T) {
	for _, tc := range []struct {
		name, content, want string
		good                int // advisories that come out
	}{
		{"cut off", `<updates>` + oneUpdate + `<update type="security"><id>ALAS-2`, "unexpected EOF", 1},
		{"crossed tags", `<updates>` + oneUpdate + `</update></updates>`, "syntax error", 1},
		{"a bomb of entities", `<!DOCTYPE u [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><updates><update type="security"><id>&b;</id></update></updates>`, "invalid character entity", 0},
		{"a file from elsewhere", `<!DOCTYPE u [<!ENTITY x SYSTEM "file:///etc/passwd">]><updates><update type="security"><id>&x;</id></update></updates>`, "invalid character entity", 0},
		{"a text without end", `<updates><update type="security"><description>` + strings.Repeat("x", 3<<20), "more than 1048576 bytes", 0},
		{"a tag without end", `<updates><update a="` + strings.Repeat("x", 3<<20), "more than 1048576 bytes", 0},
		{"deep", strings.Repeat(`<a>`, 100), "deeper", 0},
		{"deep in an update", `<updates><update type="security">` + strings.Repeat(`<a>`, 100), "deeper", 0},
		{"deep in what is skipped", `<updates><update type="bugfix">` + strings.Repeat(`<a>`, 100), "deeper", 0},
		{"another encoding", `<?xml version="1.0" encoding="UTF-16"?><updates/>`, "encoding", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines, _, err := broken(t, "amazon/2", "core/updateinfo.xml", []byte(tc.content))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %.200v, want an error with %q", err, tc.want)
			}
			if got := len(lines) / 2; got != tc.good {
				t.Errorf("%d advisories came out, want %d: %q", got, tc.good, lines)
			}
		})
	}
}

func TestAnUpdateThatIsBrokenCostsOnlyItself(t *testing.T) {
	pkg := `<package name="a" version="1" release="1" arch="noarch"/>`
	for _, tc := range []struct{ name, update, want string }{
		{"no id", `<update type="security"><pkglist><collection>` + pkg + `</collection></pkglist></update>`, "without an id"},
		{"a long name", `<update type="security"><id>X</id><package name="` + strings.Repeat("x", 2000) + `" arch="noarch"/></update>`, "longer"},
		{"a long id", `<update type="security"><id>` + strings.Repeat("x", 2000) + `</id>` + pkg + `</update>`, "longer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines, tally, err := broken(t, "amazon/2", "core/updateinfo.xml", []byte(`<updates>`+tc.update+oneUpdate+`</updates>`))
			if err != nil || len(lines) != 2 || tally.Failed != 1 || !strings.Contains(tally.Failures[0].Err.Error(), tc.want) {
				t.Errorf("got %.200q, %v, %+v", lines, err, tally)
			}
		})
	}
}

func TestAMillionPackagesInAnUpdate(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, `<updates><update type="security"><id>X</id><pkglist>`)
	for i := range 100_000 {
		_, _ = io.WriteString(z, `<package name="a`+strings.Repeat("b", i%500)+`" version="`+strings.Repeat("1", i/500+1)+`" arch="noarch"/>`)
	}
	_, _ = io.WriteString(z, `</pkglist></update>`+oneUpdate+`</updates>`)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	lines, tally, err := broken(t, "amazon/2", "core/updateinfo.xml.gz", b.Bytes())
	if err != nil || len(lines) != 2 || tally.Failed != 1 || !strings.Contains(tally.Failures[0].Err.Error(), "affected packages") {
		t.Errorf("got %d lines, %v, %+v", len(lines), err, tally)
	}
}

func TestAmazonCVE(t *testing.T) {
	for _, tc := range []struct{ name, doc, want string }{
		{"no list of packages", `{"cve_id":"CVE-2025-0167","description":"x"}`, "its form has changed"},
		{"a list of something else", `{"cve_id":"CVE-2025-0167","rows":[{"a":"b"}]}`, "its form has changed"},
		{"no CVE", `{"affected_packages":[]}`, "names no CVE"},
		{"an empty list", `{"cve_id":"CVE-2025-0167","affected_packages":[]}`, ""},
		{"other spellings", `{"id":"CVE-2025-0167","packages":[{"product":"Amazon Linux 2023","packageName":"curl","state":"pending_fix"}]}`, ""},
		{"a status of tomorrow", `{"id":"CVE-2025-0167","packages":[{"product":"Amazon Linux 2023","package":"curl","state":"Thinking"}]}`, ""},
		{"wrapped", `{"data":{"CVE":"CVE-2025-0167","affected":[{"Platform":"Amazon Linux 2023","Package":"curl","Status":"Pending Fix"}]}}`, ""},
		{"a page without the table", `<html><title>CVE-2025-0167</title><table><tr><th>a</th></tr><tr><td>b</td></tr></table>`, "its form has changed"},
		{"a page that asks for a login", `<html><title>Sign in</title><form>`, "names no CVE"},
		{"a page cut off", `<html><title>CVE-2025-0167</title><table><tr><th>Platform<th>Package<th>Status<tr><td>Amazon Linux 2023<td>curl<td>Pending Fix<tr><td`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines, tally, err := broken(t, "amazon/cve", "CVE-2025-0167.json", []byte(tc.doc))
			if err != nil {
				t.Fatal(err)
			}
			if tc.want != "" {
				if tally.Failed != 1 || !strings.Contains(tally.Failures[0].Err.Error(), tc.want) {
					t.Errorf("tally %+v, want a failure with %q", tally, tc.want)
				}
				return
			}
			if tally.Failed != 0 {
				t.Errorf("failures %v", tally.Failures)
			}
			if strings.Contains(tc.doc, "curl") && (len(lines) != 2 || !strings.Contains(lines[1], "Amazon Linux:2023 source curl [, )")) {
				t.Errorf("got %q: what is unknown must be affected", lines)
			}
		})
	}
}

// TestAmazonSaysEachPackageOnce lists packages several times: of each platform one
// state is left, the worst.
func TestAmazonSaysEachPackageOnce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		states []string // platform, status
		want   []string
	}{
		{"the same twice", []string{"2023", "Pending Fix", "2023", "Pending Fix"}, []string{`2023 source curl [, ) "Pending Fix"`}},
		{"the worst of all", []string{"2023", "Not Affected", "2023", "No Fix Planned", "2023", "Pending Fix", "2023", "Fixed"}, []string{`2023 source curl [, ) "Pending Fix"`}},
		{"investigated and planned", []string{"2023", "No Fix Planned", "2023", "Under Investigation"}, []string{`2023 source curl [, ) under investigation "Under Investigation"`}},
		{"fixed is not unaffected", []string{"2023", "Not Affected", "2023", "Fixed"}, nil},
		{"fixed only", []string{"2023", "Fixed"}, nil},
		{"platforms are apart", []string{"1", "No Fix Planned", "2 - Core", "Pending Fix", "2 - Docker Extra", "Not Affected", "2023", "Fixed"},
			[]string{`1 source curl [, ) will not fix "No Fix Planned"`, `2 source curl [, ) "Pending Fix"`, `2 source curl of docker not affected "Not Affected"`}},
		{"repositories of 2023 are one", []string{"2023", "Not Affected", "2023 - Kernel-livepatch", "Pending Fix"}, []string{`2023 source curl [, ) "Pending Fix"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var rows []string
			for i := 0; i < len(tc.states); i += 2 {
				rows = append(rows, fmt.Sprintf(`{"platform":"Amazon Linux %s","package":"curl","status":%q}`, tc.states[i], tc.states[i+1]))
			}
			lines, tally, err := broken(t, "amazon/cve", "CVE-2025-0167.json", []byte(`{"cve_id":"CVE-2025-0167","affected_packages":[`+strings.Join(rows, ",")+`]}`))
			if err != nil || tally.Failed > 0 {
				t.Fatal(err, tally.Failures)
			}
			var want []string
			if len(tc.want) > 0 {
				want = append(want, "CVE-2025-0167")
			}
			for _, w := range tc.want {
				want = append(want, "  Amazon Linux:"+w)
			}
			if d := cmp.Diff(want, lines); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestAMillionStatesOfOneCVE(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"cve_id":"CVE-2025-0167","affected_packages":[`)
	for i := range 100_000 {
		fmt.Fprintf(&b, `{"platform":"Amazon Linux 2023","package":"p%d","status":"Pending Fix"},`, i)
	}
	b.WriteString(`{}]}`)
	lines, tally, err := broken(t, "amazon/cve", "CVE-2025-0167.json", []byte(b.String()))
	if err != nil || len(lines) > 0 || tally.Failed != 1 || !strings.Contains(tally.Failures[0].Err.Error(), "affected packages") {
		t.Errorf("got %d lines, %v, %+v", len(lines), err, tally)
	}
}

func TestBrokenUbuntuVEX(t *testing.T) {
	const head = `{"metadata":{"@context":"https://openvex.dev/ns/v0.2.0"},"statements":[`
	const vulnerability = `"vulnerability":{"name":"CVE-2025-0001"}`
	for _, tc := range []struct{ name, doc, want string }{
		{"another form", `{"@context":"https://openvex.dev/ns","statements":[]}`, "not OpenVEX of Canonical"},
		{"cut off", head + `{` + vulnerability + `,"prod`, "too early"},
		{"a list of something else", head + `1]}`, "want an object"},
		{"a long name", head + `{` + vulnerability + `,"status":"affected","products":[{"@id":"pkg:deb/ubuntu/` + strings.Repeat("x", 5000) + `?arch=source&distro=noble"}]}]}`, ""},
		{"a million packages", head + `{` + vulnerability + `,"status":"affected","products":[` + strings.Repeat(`{"@id":"pkg:deb/ubuntu/a?arch=source&distro=noble"},`, 1_000_000) + `{}]}]}`, "source packages"},
		{"no CVE", head + `{"vulnerability":{"name":"USN-1-1"},"status":"affected","products":[{"@id":"pkg:deb/ubuntu/a?arch=source&distro=noble"}]}]}`, ""},
		{"what is no package", head + `{` + vulnerability + `,"status":"affected","products":[{"@id":"arch=source"},{"@id":null},{"hashes":{}},null]}]}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines, tally, err := broken(t, "ubuntu/vex", "CVE-2025-0001.json", []byte(tc.doc))
			if err != nil || len(lines) > 0 {
				t.Errorf("got %.200q, %v", lines, err)
			}
			switch {
			case tc.want == "" && tally.Failed > 0:
				t.Errorf("failures %v", tally.Failures)
			case tc.want != "" && (tally.Failed != 1 || !strings.Contains(tally.Failures[0].Err.Error(), tc.want)):
				t.Errorf("tally %+v, want a failure with %q", tally, tc.want)
			}
		})
	}
}

// TestNamesInUbuntuVEX reads package URLs as Canonical writes them, with a plus as it
// is and escaped.
func TestNamesInUbuntuVEX(t *testing.T) {
	lines, tally, err := broken(t, "ubuntu/vex", "CVE-2025-0001.json", []byte(`{"metadata":{"@context":"https://openvex.dev/ns/v0.2.0"},"statements":[
		{"vulnerability":{"name":"CVE-2025-0001"},"status":"affected","products":[
		{"@id":"pkg:deb/ubuntu/libsigc++-2.0@2.10+dfsg?arch=source&distro=noble"},
		{"@id":"pkg:deb/ubuntu/libxml%2B%2B2.6@2?arch=source&distro=esm-infra-legacy/trusty"},
		{"@id":"pkg:deb/ubuntu/linux-aws-6.8@6.8.0-1001.1~22.04.1?arch=source&distro=jammy"},
		{"@id":"pkg:deb/ubuntu/linux-image-6.8.0-1001-aws@6.8.0-1001.1~22.04.1?arch=amd64"}]}]}`))
	want := []string{"CVE-2025-0001", "  Ubuntu:24.04:LTS source libsigc++-2.0 [, )", "  Ubuntu:Pro:14.04:LTS source libxml++2.6 [, )", "  Ubuntu:22.04:LTS source linux-aws-6.8 [, )"}
	if d := cmp.Diff(want, lines); d != "" || err != nil {
		t.Errorf("%v, %+v, -want +got:\n%s", err, tally, d)
	}
}

func TestAStateOfTomorrowIsAffected(t *testing.T) {
	lines, tally, err := broken(t, "ubuntu/vex", "CVE-2025-0001.json", []byte(`{"metadata":{"@context":"https://openvex.dev/ns/v0.3.0"},"statements":[
		{"vulnerability":{"name":"CVE-2025-0001"},"status":"thinking","products":[{"@id":"pkg:deb/ubuntu/a@1?arch=source&distro=noble"}]}]}`))
	want := []string{"CVE-2025-0001", "  Ubuntu:24.04:LTS source a [, )"}
	if d := cmp.Diff(want, lines); d != "" || err != nil || tally.Skipped[feeds.SkipUnknownStatus] != 1 {
		t.Errorf("%v, %+v, -want +got:\n%s", err, tally, d)
	}
}

// TestABrokenArchiveOfXZ cuts an archive off: what came before stands, and the end
// is told.
func TestABrokenArchiveOfXZ(t *testing.T) {
	whole, err := os.ReadFile("testdata/ubuntu-vex/vex-all.tar.xz")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := broken(t, "ubuntu/vex", "vex-all.tar.xz", whole[:len(whole)/2]); err == nil || !strings.Contains(err.Error(), "the xz file is damaged") {
		t.Errorf("got %v", err)
	}
}
