package console

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// BenchmarkFollowers is what one change of the list of vulnerabilities costs the
// server, beside the store's answer, while so many browsers follow it: it is
// rendered once and written to each.
func BenchmarkFollowers(b *testing.B) {
	var d vulnerabilitiesData
	for i := range store.DefaultPage {
		d.List = append(d.List, store.Weakness{
			ID: fmt.Sprintf("CVE-2026-%04d", i), Severity: finding.High, Summary: "a weakness of some kind in a library that many programs use",
			Packages: []string{"openssl", "libssl3"}, Fixed: []string{"openssl 3.0.13", "libssl3 3.0.13"}, Images: 12, Workloads: 40, EPSS: 0.2,
		})
	}
	now := time.Date(2026, 11, 23, 14, 30, 20, 0, time.UTC)
	made := func(context.Context) (templ.Component, error) {
		return vulnerabilitiesPart(page{Now: now, files: &assets{base: "/static/0/"}}, d), nil
	}
	for _, browsers := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(browsers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f, err := render(b.Context(), made)
				if err != nil {
					b.Fatal(err)
				}
				for range browsers {
					if err := newStream(httptest.NewRecorder()).sendFrame(f); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
