package db_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/store"
)

// BenchmarkPutAdmissionVerdicts stores verdicts of tasks of two containers, so many
// at once.
func BenchmarkPutAdmissionVerdicts(b *testing.B) {
	for _, size := range []int{1, 8, 250, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d := openFor(b, db.Options{Path: filepath.Join(b.TempDir(), "bench.db"), ProcessCrashOnly: true})
			n := 0
			var facts []store.AdmissionFacts
			for _, digest := range []string{"sha256:a", "sha256:b"} {
				f, err := store.NewAdmissionFacts(&admission.Facts{Digest: digest})
				if err != nil {
					b.Fatal(err)
				}
				facts = append(facts, f)
			}
			for b.Loop() {
				batch := make([]store.AdmissionVerdict, size)
				for i := range batch {
					n++
					v := store.AdmissionVerdict{Received: time.Unix(int64(n), 0), Facts: facts}
					v.Request = admission.Request{ID: fmt.Sprint("r", n), Door: admission.Service, Action: admission.Run, Place: admission.Place{Cluster: "prod", Service: "web", Account: "012345678901"}, Task: admission.Task{Family: "web"}}
					for k, name := range []string{"web", "side"} {
						v.Request.Task.Containers = append(v.Request.Task.Containers, admission.Container{Name: name, Command: []string{v.Request.ID}, Image: admission.Image{Reference: name + ":1", Registry: "reg.example", Repository: name, Digest: fmt.Sprintf("sha256:%x", facts[k].Hash)}})
					}
					for _, rule := range []string{"not-signed", "root-user", "memory-limit", "scan-too-old"} {
						v.Verdict.Reasons = append(v.Verdict.Reasons, admission.Reason{Rule: rule, Effect: admission.Audited, Message: "it is not as it should be"})
					}
					v.Verdict.Outcome = admission.Allow
					batch[i] = v
				}
				if err := d.PutAdmissionVerdicts(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/verdict")
		})
	}
}
