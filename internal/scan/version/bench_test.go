package version_test

import (
	"testing"

	"github.com/google/osv-scalibr/semantic"

	"github.com/castellan-security/castellan/internal/scan/version"
)

// pairs are two real versions of each ecosystem that differ late.
var pairs = []struct{ ecosystem, a, b string }{
	{"Debian", "1:2.36.1-8+deb12u1", "1:2.36.1-8+deb12u2"},
	{"AlmaLinux", "4:5.26.3-419.el8_4.1", "4:5.26.3-420.el8"},
	{"Alpine", "3.0.12-r4", "3.0.13-r0"},
	{"npm", "7.23.0-beta.1", "7.23.0-beta.2"},
	{"Go", "v0.0.0-20211209124913-491a49abca63", "0.0.0-20220225172249-27dd8689420f"},
	{"Maven", "2.14.1", "2.15.0-rc1"},
	{"PyPI", "3.2.1", "3.2.2.post1"},
	{"RubyGems", "6.1.7.3", "6.1.7.4"},
	{"NuGet", "13.0.1", "13.0.2-Beta1"},
	{"Packagist", "v5.4.20", "v5.4.21-RC1"},
	{"Pub", "1.0.0+1", "1.0.0+2"},
	{"Hackage", "1.2.3", "1.2.3.1"},
}

func TestCompareAllocatesNothing(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.ecosystem, func(t *testing.T) {
			order := version.OrderOf(p.ecosystem)
			got := 0
			n := testing.AllocsPerRun(100, func() { got, _ = order.Compare(p.a, p.b) })
			if n != 0 || got != -1 {
				t.Errorf("Compare() = %d with %v allocations, want -1 with none", got, n)
			}
		})
	}
}

func BenchmarkCompare(b *testing.B) {
	for _, p := range pairs {
		b.Run(p.ecosystem+"/ours", func(b *testing.B) {
			order := version.OrderOf(p.ecosystem)
			b.ReportAllocs()
			for b.Loop() {
				if got, err := order.Compare(p.a, p.b); got != -1 || err != nil {
					b.Fatal(got, err)
				}
			}
		})
		b.Run(p.ecosystem+"/semantic", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v, err := semantic.Parse(p.a, p.ecosystem)
				if err != nil {
					b.Fatal(err)
				}
				if got, err := v.CompareStr(p.b); got != -1 || err != nil {
					b.Fatal(got, err)
				}
			}
		})
	}
}
