package db_test

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/store"
)

// useAdmission calls every method that keeps what came of the admission policy.
func useAdmission(t *testing.T, d *db.DB) {
	t.Helper()
	ctx := t.Context()
	must := mustOf(t)
	_, err := d.PutAdmissionPolicy(ctx, store.AdmissionPolicy{Digest: "p"}, 0)
	must(err)
	for _, version := range []int64{0, 1} {
		_, err = d.AdmissionPolicy(ctx, version)
		must(err)
	}
	_, err = d.AdmissionPolicies(ctx, 0, 0)
	must(err)
	e, err := d.PutAdmissionException(ctx, store.AdmissionException{Exception: admission.Exception{Expires: fleetStart.Add(time.Hour)}, Created: fleetStart})
	must(err)
	_, err = d.WithdrawAdmissionException(ctx, e.ID, "user:a", fleetStart)
	must(err)
	for _, since := range []time.Time{{}, fleetStart} {
		_, err = d.AdmissionExceptions(ctx, since)
		must(err)
	}
	facts, err := store.NewAdmissionFacts(&admission.Facts{Digest: "d"})
	must(err)
	v := store.AdmissionVerdict{
		Received: fleetStart, Agent: "a", Request: admission.Request{ID: "r", Task: admission.Task{Family: "f"}},
		Verdict: admission.Verdict{Outcome: admission.Deny, Reasons: []admission.Reason{{Rule: "x"}}}, Facts: []store.AdmissionFacts{facts},
	}
	must(d.PutAdmissionVerdicts(ctx, []store.AdmissionVerdict{v}))
	for _, q := range []store.AdmissionQuery{
		{}, {Outcome: admission.Deny}, {Door: admission.CI}, {Rule: "x"}, {Group: "g"}, {Family: "f"}, {Cluster: "c"}, {Service: "s"}, {Image: "d"},
		{Host: "h"}, {RequestID: "r"}, {Audited: true}, {Since: fleetStart, Until: fleetStart.Add(time.Hour), Before: 9},
		{Family: "f", Rule: "x", Outcome: admission.Deny, Door: admission.CI, Audited: true},
	} {
		_, err = d.AdmissionLines(ctx, q)
		must(err)
		_, err = d.AdmissionRecords(ctx, q)
		must(err)
	}
	_, err = d.AdmissionVerdict(ctx, 1)
	must(err)
	_, err = d.AdmissionTotals(ctx, fleetStart)
	must(err)
	_, _, err = d.ImagesNamed(ctx, "sha256:1")
	must(err)
	for _, r := range []store.Retention{{MaxVerdicts: 1}, {Verdicts: time.Hour}} {
		must(d.PutAdmissionVerdicts(ctx, []store.AdmissionVerdict{{}, {}}))
		_, err = d.Prune(ctx, r, fleetStart.Add(2*time.Hour))
		must(err)
	}
}
