package match_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// vulnerable has three findings: CVE-1-1 of libssl3 by DSA-1, and PYSEC-1 (alias
// CVE-1-2) of two copies of urllib3.
func vulnerable(t *testing.T, o match.Options) match.Result {
	t.Helper()
	o.Now = now
	feeds := map[string][]advisory.Advisory{
		"debian": {{ID: "DSA-1", Upstream: []string{"CVE-1-1"}, Affected: []advisory.Affected{source("openssl", "9")}}},
		"osv":    {{ID: "PYSEC-1", Aliases: []string{"CVE-1-2"}, Affected: []advisory.Affected{{Ecosystem: "PyPI", Package: "urllib3", Ranges: []advisory.Range{{}}}}}},
	}
	second := pypi("urllib3", "2.0")
	second.Places = []inventory.Place{{Path: "/srv/a/b/METADATA"}, {Path: "/srv/c/METADATA"}}
	inv := &inventory.Inventory{
		Image: &inventory.Image{Reference: "registry.example/team/shop:1.2", Digest: "sha256:aa", ID: "sha256:bb"},
		OS:    inventory.OS{ID: "debian", Version: "12"}, Packages: []inventory.Package{deb("libssl3", "3.0.9-1", "openssl", ""), pypi("urllib3", "1.26"), second}}
	r, err := match.Match(t.Context(), database(t, feeds), inv, o)
	must(t, err)
	return r
}

// accepted lists the findings that are accepted, with the reason.
func accepted(r match.Result) (list []string) {
	for _, v := range r.Vulnerabilities {
		if v.Accepted != nil {
			list = append(list, v.Package.Name+" "+v.Package.Version+" "+v.ID+": "+v.Accepted.Reason)
		}
	}
	return list
}

func TestRules(t *testing.T) {
	ssl, old, new := "libssl3 3.0.9-1 CVE-1-1: r", "urllib3 1.26 CVE-1-2: r", "urllib3 2.0 CVE-1-2: r"
	for _, tc := range []struct {
		name string
		rule match.Rule
		want []string
	}{
		{"by the identifier", match.Rule{ID: "cve-1-1"}, []string{ssl}},
		{"by an alias", match.Rule{ID: "PYSEC-1"}, []string{old, new}},
		{"by an advisory", match.Rule{ID: "DSA-1"}, []string{ssl}},
		{"by the package", match.Rule{Package: "libssl3"}, []string{ssl}},
		{"by its source", match.Rule{Package: "openssl"}, []string{ssl}},
		{"by its URL", match.Rule{Package: "pkg:pypi/urllib3"}, []string{old, new}},
		{"by its URL with a version", match.Rule{Package: "pkg:pypi/urllib3@1.26"}, []string{old}},
		{"by its URL with qualifiers", match.Rule{Package: "pkg:deb/debian/libssl3?arch=amd64"}, []string{ssl}},
		{"by its URL, for another architecture", match.Rule{Package: "pkg:deb/debian/libssl3?arch=arm64"}, nil},
		{"by its place", match.Rule{Path: "/app/urllib3"}, []string{old}},
		{"by a pattern", match.Rule{Path: "/app/*"}, []string{old}},
		{"by a folder, all places", match.Rule{Path: "/srv/**"}, []string{new}},
		{"by a folder, not all places", match.Rule{Path: "/srv/a/**"}, nil},
		{"the folder itself is not below it", match.Rule{Path: "/app/urllib3/**"}, nil},
		{"all that it names must meet", match.Rule{ID: "CVE-1-2", Package: "libssl3"}, nil},
		{"id and place", match.Rule{ID: "CVE-1-2", Path: "/app/**"}, []string{old}},
		{"not yet expired", match.Rule{ID: "CVE-1-1", Expires: now.Add(time.Second)}, []string{ssl}},
		{"just expired", match.Rule{ID: "CVE-1-1", Expires: now}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.rule.Reason = "r"
			r := vulnerable(t, match.Options{Rules: []match.Rule{tc.rule}})
			if diff := cmp.Diff(tc.want, accepted(r)); diff != "" {
				t.Errorf("accepted differs (-want +got):\n%s", diff)
			}
			if len(r.Vulnerabilities) != 3 {
				t.Errorf("%d findings, want all three", len(r.Vulnerabilities))
			}
			expired := tc.rule.Expires.Equal(now)
			if (len(r.Expired) == 1) != expired || (len(r.Unused) == 1) != (tc.want == nil && !expired) {
				t.Errorf("expired %v, unused %v", r.Expired, r.Unused)
			}
		})
	}
}

func TestRulesAreChecked(t *testing.T) {
	for _, tc := range []struct {
		name, text, want string
		expires          time.Time
	}{
		{"whole", `{"id":"CVE-1","package":"p","path":"/x/**","reason":"r","by":"me","expires":"2026-12-31T10:00:00Z"}`, "", time.Date(2026, 12, 31, 10, 0, 0, 0, time.UTC)},
		{"a day lasts to its end", `{"id":"CVE-1","reason":"r","expires":"2026-12-31"}`, "", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"no reason", `{"id":"CVE-1","reason":" "}`, "no reason", time.Time{}},
		{"everything", `{"reason":"r"}`, "would accept everything", time.Time{}},
		{"misspelt", `{"id":"CVE-1","reason":"r","expire":"2026-12-31"}`, "unknown field", time.Time{}},
		{"no date", `{"id":"CVE-1","reason":"r","expires":"soon"}`, `expires "soon"`, time.Time{}},
		{"no pattern", `{"path":"/[","reason":"r"}`, `path "/["`, time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r match.Rule
			err := json.Unmarshal([]byte(tc.text), &r)
			if err == nil {
				err = r.Check()
			}
			if tc.want == "" && (err != nil || !r.Expires.Equal(tc.expires)) {
				t.Errorf("%+v, %v, want it to expire %v", r, err, tc.expires)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	if _, err := match.Match(t.Context(), database(t, nil), &inventory.Inventory{}, match.Options{Rules: []match.Rule{{ID: "x"}}}); err == nil {
		t.Error("Match() with a rule without a reason = nil error")
	}
}

func TestStatements(t *testing.T) {
	const image = "sha256:aa"
	at := func(h int) time.Time { return now.Add(time.Duration(h) * time.Hour) }
	not := func(vulnerability string, products ...string) advisory.Exploitability {
		return advisory.Exploitability{Vulnerability: vulnerability, Products: products, Status: advisory.VEXNotAffected, Author: "Jane", Timestamp: at(0),
			Justification: "vulnerable_code_not_present", Impact: "not built"}
	}
	ssl, old, new := "libssl3 3.0.9-1", "urllib3 1.26", "urllib3 2.0"
	for _, tc := range []struct {
		name       string
		statements []advisory.Exploitability
		left       []string
	}{
		{"none", nil, []string{ssl, old, new}},
		{"the image by its digest", []advisory.Exploitability{not("CVE-1-1", image)}, []string{old, new}},
		{"the image by its configuration", []advisory.Exploitability{not("CVE-1-1", "sha256:bb")}, []string{old, new}},
		{"the image by its URL", []advisory.Exploitability{not("CVE-1-1", "pkg:oci/shop@sha256%3Aaa?repository_url=registry.example/team/shop")}, []string{old, new}},
		{"the image by its name", []advisory.Exploitability{not("CVE-1-1", "pkg:oci/shop?repository_url=registry.example/team/shop&tag=1.2")}, []string{old, new}},
		{"another tag", []advisory.Exploitability{not("CVE-1-1", "pkg:oci/shop?repository_url=registry.example/team/shop&tag=1.3")}, []string{ssl, old, new}},
		{"another registry", []advisory.Exploitability{not("CVE-1-1", "pkg:oci/shop?repository_url=elsewhere.example/team/shop")}, []string{ssl, old, new}},
		{"another image", []advisory.Exploitability{not("CVE-1-1", "sha256:cc")}, []string{ssl, old, new}},
		{"no product", []advisory.Exploitability{not("CVE-1-1")}, []string{ssl, old, new}},
		{"no wildcard", []advisory.Exploitability{not("CVE-1-1", "*")}, []string{ssl, old, new}},
		{"by an alias", []advisory.Exploitability{not("PYSEC-1", image)}, []string{ssl}},
		{"by its own alias", []advisory.Exploitability{changed(not("X-1", image), func(e *advisory.Exploitability) { e.Aliases = []string{"CVE-1-2"} })}, []string{ssl}},
		{"a package", []advisory.Exploitability{not("CVE-1-2", "pkg:pypi/urllib3@2.0")}, []string{ssl, old}},
		{"a package of any version", []advisory.Exploitability{not("CVE-1-2", "pkg:pypi/urllib3")}, []string{ssl}},
		{"a package in the image", []advisory.Exploitability{changed(not("CVE-1-2", image), func(e *advisory.Exploitability) { e.Subcomponents = []string{"pkg:pypi/urllib3@1.26"} })}, []string{ssl, new}},
		{"a package in another image", []advisory.Exploitability{changed(not("CVE-1-2", "sha256:cc"), func(e *advisory.Exploitability) { e.Subcomponents = []string{"pkg:pypi/urllib3@1.26"} })}, []string{ssl, old, new}},
		{"a package in a package that is here", []advisory.Exploitability{changed(not("CVE-1-2", "pkg:deb/debian/libssl3"), func(e *advisory.Exploitability) { e.Subcomponents = []string{"pkg:pypi/urllib3@1.26"} })}, []string{ssl, new}},
		{"fixed here", []advisory.Exploitability{changed(not("CVE-1-1", image), func(e *advisory.Exploitability) { e.Status = advisory.VEXFixed })}, []string{old, new}},
		{"the latest counts", []advisory.Exploitability{changed(not("CVE-1-1", image), func(e *advisory.Exploitability) { e.Status, e.Timestamp = advisory.VEXAffected, at(2) }), not("CVE-1-1", image)}, []string{ssl, old, new}},
		{"whatever their order", []advisory.Exploitability{not("CVE-1-1", image), changed(not("CVE-1-1", image), func(e *advisory.Exploitability) { e.Status, e.Timestamp = advisory.VEXAffected, at(-2) })}, []string{old, new}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var left []string
			for _, v := range vulnerable(t, match.Options{Statements: tc.statements}).Vulnerabilities {
				left = append(left, v.Package.Name+" "+v.Package.Version)
			}
			if diff := cmp.Diff(tc.left, left); diff != "" {
				t.Errorf("findings differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhoSaidIt(t *testing.T) {
	state := func(status string) advisory.Exploitability {
		return advisory.Exploitability{Vulnerability: "CVE-1-2", Products: []string{"pkg:pypi/urllib3"}, Status: status, Author: "Jane",
			Justification: "vulnerable_code_not_present", Impact: "not built", Action: "do not fetch"}
	}
	for _, tc := range []struct {
		status string
		state  finding.State
		note   string
	}{
		{advisory.VEXNotAffected, finding.NotAffected, "not affected, says Jane: vulnerable code not present; not built"},
		{advisory.VEXFixed, finding.NotAffected, "fixed here, says Jane: not built"},
		{advisory.VEXUnderInvestigation, finding.UnderInvestigation, "under investigation, says Jane: not built"},
		{advisory.VEXAffected, finding.Unfixed, "affected, says Jane: do not fetch; not built"},
		{"nonsense", finding.Unfixed, ""},
	} {
		t.Run(tc.status, func(t *testing.T) {
			for _, v := range vulnerable(t, match.Options{All: true, Statements: []advisory.Exploitability{state(tc.status)}}).Vulnerabilities {
				if v.ID == "CVE-1-2" && (v.State != tc.state || v.Note != tc.note) {
					t.Errorf("%s %q, want %s %q", v.State, v.Note, tc.state, tc.note)
				}
			}
		})
	}
}
