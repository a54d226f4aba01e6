package db_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/store"
)

// useResponse calls every method that keeps what was done about threats.
func useResponse(t *testing.T, d *db.DB) {
	t.Helper()
	ctx := t.Context()
	must := mustOf(t)
	_, err := d.PutResponsePolicy(ctx, store.ResponsePolicy{Digest: "p"}, 0)
	must(err)
	for _, version := range []int64{0, 1} {
		_, err = d.ResponsePolicy(ctx, version)
		must(err)
	}
	_, err = d.ResponsePolicies(ctx, 0, 0)
	must(err)
	r, err := d.PutResponseRun(ctx, store.ResponseRun{Rule: "r", At: fleetStart})
	must(err)
	_, err = d.PutResponseRun(ctx, r)
	must(err)
	for _, q := range []store.ResponseRunQuery{{}, {Rule: "r"}, {Workload: "w"}, {Since: fleetStart}, {Undo: fleetStart}, {Before: r.ID}} {
		_, err = d.ResponseRuns(ctx, q)
		must(err)
	}
	_, _, err = d.CountResponseRuns(ctx, "r")
	must(err)
	for range 2 {
		must(d.PutResponseDeed(ctx, store.ResponseDeed{Deed: response.Deed{ID: "d"}}))
	}
	for _, q := range []store.ResponseDeedQuery{{}, {Standing: true}, {Before: 9}} {
		_, _, err = d.ResponseDeeds(ctx, q)
		must(err)
	}
}
