package admit_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/finding"
)

// busy is a task of two containers, of which one's image has 400 vulnerabilities.
func busy() (admission.Request, map[string]*admission.Facts) {
	r, f := sane()
	for i := range 400 {
		f.Scan.Vulnerabilities = append(f.Scan.Vulnerabilities, admission.Vulnerability{
			ID: fmt.Sprintf("CVE-2026-%04d", i), Package: "package", Version: "1", Severity: finding.Severity(1 + i%5), EPSS: 0.01, Published: now().AddDate(0, 0, -1-i),
		})
	}
	r.Task.Containers = append(r.Task.Containers, r.Task.Containers[0])
	r.Task.Containers[1].Name = "sidecar"
	return r, map[string]*admission.Facts{f.Digest: &f}
}

// BenchmarkWarmVerdict decides by the first policy.
func BenchmarkWarmVerdict(b *testing.B) {
	p, err := admit.Read(admit.First(), admit.File)
	if err != nil {
		b.Fatal(err)
	}
	r, facts := busy()
	ctx := context.Background()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		took := make([]time.Duration, 0, b.N)
		for b.Loop() {
			begun := time.Now()
			if v := p.Decide(ctx, &r, admit.Given{Facts: facts, Now: now(), Lasting: true}); !v.Allowed() {
				b.Fatal(v.Reasons)
			}
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			mine := r
			for pb.Next() {
				if v := p.Decide(ctx, &mine, admit.Given{Facts: facts, Now: now(), Lasting: true}); !v.Allowed() {
					b.Error(v.Reasons)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verdicts/s")
	})
}

// BenchmarkRead reads the first policy.
func BenchmarkRead(b *testing.B) {
	for b.Loop() {
		if _, err := admit.Read(admit.First(), admit.File); err != nil {
			b.Fatal(err)
		}
	}
}
