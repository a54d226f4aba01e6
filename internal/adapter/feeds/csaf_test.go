package feeds_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/feeds"
)

func TestCSAF(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"not affected", "cve-2023-6238", `
			CVE-2023-6238 weaknesses=CWE-120 low
			  Red Hat:7 source kernel not affected "vulnerable code not present"
			  Red Hat:7 source kernel-rt not affected "vulnerable code not present"
			  Red Hat:9 source kernel not affected "vulnerable code not present"
			  Red Hat:9 source kernel-rt not affected "vulnerable code not present"`},
		{"module streams, the lowest of two fixes, what is to come", "cve-2023-32002", `
			CVE-2023-32002 weaknesses=CWE-1268 CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H by redhat high
			  Red Hat:8 source nodejs of nodejs:16 [, ) will not fix "Will not fix"
			  Red Hat:8 source nodejs [, ) deferred "Fix deferred"
			  Red Hat:8 binary nodejs-libs [, ) under investigation
			  Red Hat:8 binary nodejs of nodejs:18 (aarch64,x86_64) [, 1:18.17.1-1.module+el8.8.0+19757+8ca87034)
			  Red Hat:rhel_eus:8.6 binary nodejs (x86_64) [, 1:18.17.1-1.module+el8.8.0+19757+8ca87034)`},
		{"source packages and minor releases, the form of 2026", "cve-2026-0861", `
			CVE-2026-0861 medium
			  Red Hat:rhel_eus:9.4 source glibc [, ) end of life "Out of support scope"
			  Red Hat:8 source 389-ds-base of 389-ds:1.4 [, ) "Affected"
			  Red Hat:9 source glibc [, 2.34-231.el9_7.10)`},
		{"an advisory of several weaknesses", "rhsa-2024_0001", `
			RHSA-2024:0001 upstream=CVE-2024-0001,CVE-2024-0002,CVE-2024-0003 high
			  Red Hat:9 binary a (x86_64) [, 1-2.el9)
			  Red Hat:9 binary b (x86_64) [, 1-2.el9)`},
		{"another product", "rhsa-2023_7438", ``},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, tally := parseAll(t, source(t, "redhat/vex"), os.DirFS("testdata/csaf"), tc.file+".json")
			var want []string
			if tc.want != "" {
				want = textLines(tc.want)
			} else if tally.Skipped[feeds.SkipProduct] == 0 || tally.Skipped[feeds.SkipNoPackage] != 1 {
				t.Errorf("skipped %v", tally.Skipped)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if tally.Failed > 0 {
				t.Errorf("failures: %v", tally.Failures)
			}
		})
	}
}

func TestBrokenCSAF(t *testing.T) {
	for _, tc := range []struct{ name, doc, want string }{
		{"no tracking id", `{"document":{}}`, "no tracking id"},
		{"cut off", `{"document":{"tracking":{"id":"CVE-1"}},"product_tree":{"branches":[`, "too early"},
		{"deep branches", `{"product_tree":{"branches":` + strings.Repeat(`[{"branches":`, 40), "deeper"},
		{"groups of groups", `{"document":{"tracking":{"id":"CVE-1"}},"product_tree":{"product_groups":[{"group_id":"g","product_ids":["a"` + strings.Repeat(`,"a"`, 9_999) +
			`]}]},"vulnerabilities":[{"flags":[{"group_ids":["g"` + strings.Repeat(`,"g"`, 9_999) + `]}]}]}`, "products"},
		{"a circle of relations", `{"document":{"tracking":{"id":"CVE-1"}},"product_tree":{"branches":[{"product":{"product_id":"p","product_identification_helper":{"purl":"pkg:rpm/redhat/a@1"}}}],
			"relationships":[{"full_product_name":{"product_id":"x"},"product_reference":"p","relates_to_product_reference":"x"}]},
			"vulnerabilities":[{"product_status":{"fixed":["x"]}}]}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines, tally, err := broken(t, "redhat/vex", "d.json", []byte(tc.doc))
			if err != nil || len(lines) != 0 {
				t.Fatalf("got %q, %v", lines, err)
			}
			if tc.want == "" {
				if tally.Failed != 0 {
					t.Errorf("failures %v", tally.Failures)
				}
				return
			}
			if tally.Failed != 1 || !strings.Contains(tally.Failures[0].Err.Error(), tc.want) {
				t.Errorf("tally %+v, want a failure with %q", tally, tc.want)
			}
		})
	}
}
