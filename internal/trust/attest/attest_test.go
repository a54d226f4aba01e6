package attest_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/trust/attest"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

func TestType(t *testing.T) {
	for _, tc := range []struct{ name, want, wrong string }{
		{"cyclonedx", "https://cyclonedx.org/bom", ""},
		{"spdx", "https://spdx.dev/Document", ""},
		{"castellan-scan", policy.ScanPredicate, ""},
		{"https://example.org/review/v1", "https://example.org/review/v1", ""},
		{"cyclondx", "", "not known"},
		{"https://", "", "not known"},
		{"https://a b", "", "not known"},
	} {
		got, err := attest.Type(tc.name)
		if got != tc.want || (err == nil) != (tc.wrong == "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
			t.Errorf("Type(%q) = %q, %v; want %q, error with %q", tc.name, got, err, tc.want, tc.wrong)
		}
	}
}

func TestPredicate(t *testing.T) {
	const report = `{"tool":"castellan","reports":[{"made":"2026-11-02T10:00:00Z","inventory":{"image":{"digest":"sha256:aa"}}},{"made":"2026-11-01T10:00:00Z","inventory":{"image":{"digest":"sha256:bb"}}}]}`
	for _, tc := range []struct{ name, typ, doc, want, wrong string }{
		{"bill of materials", "https://cyclonedx.org/bom", `{"bomFormat":"CycloneDX"}`, `{"bomFormat":"CycloneDX"}`, ""},
		{"of another type", "https://cyclonedx.org/bom", `{"spdxVersion":"SPDX-2.3"}`, "", "has no bomFormat"},
		{"unknown types have any shape", "https://example.org/v1", `{"ok":true}`, `{"ok":true}`, ""},
		{"whole statement", "https://example.org/v1", `{"_type":"x","predicateType":"y","predicate":{}}`, "", "whole in-toto statement"},
		{"no object", "https://example.org/v1", `[1]`, "", "no object of JSON"},
		{"scan, as old as its oldest part", policy.ScanPredicate, report, `{"finished":"2026-11-01T10:00:00Z",` + report[strings.Index(report, `"reports"`):len(report)-1] + `,"tool":"castellan"}`, ""},
		{"empty scan", policy.ScanPredicate, `{"reports":[]}`, "", "empty"},
		{"scan without a time", policy.ScanPredicate, `{"reports":[{}]}`, "", "when it was made"},
		{"scan that is none", policy.ScanPredicate, `{"reports":7}`, "", "no report"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := attest.Predicate(tc.typ, []byte(tc.doc))
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Fatalf("Predicate() = %s, %v; want an error with %q", got, err, tc.wrong)
				}
				return
			}
			if diff := cmp.Diff(string(got), tc.want); err != nil || diff != "" {
				t.Errorf("Predicate(): %v, got -, want +:\n%s", err, diff)
			}
		})
	}
	got, err := attest.Scanned([]byte(report))
	if diff := cmp.Diff(got, []string{"sha256:aa", "sha256:bb"}); err != nil || diff != "" {
		t.Errorf("Scanned(): %v\n%s", err, diff)
	}
	if _, err := attest.Scanned([]byte(`{"reports":[{"made":"2026-11-02T10:00:00Z","inventory":{}}]}`)); err == nil {
		t.Error("Scanned() of a report of no image: no error")
	}
}

func FuzzPredicate(f *testing.F) {
	f.Add("https://cyclonedx.org/bom", []byte(`{"bomFormat":"CycloneDX"}`))
	f.Add(policy.ScanPredicate, []byte(`{"reports":[{"made":"2026-11-02T10:00:00Z","inventory":{"image":{"digest":"sha256:aa"}}}]}`))
	f.Fuzz(func(t *testing.T, typ string, b []byte) {
		out, err := attest.Predicate(typ, b)
		if err != nil {
			return
		}
		if _, err := attest.Predicate(typ, out); err != nil {
			t.Errorf("what was a predicate is none any more: %v", err)
		}
	})
}
