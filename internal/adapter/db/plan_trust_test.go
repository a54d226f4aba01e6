package db_test

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/store"
)

// useTrust calls every method that keeps what came of the trust policy.
func useTrust(t *testing.T, d *db.DB) {
	t.Helper()
	ctx := t.Context()
	must := mustOf(t)
	_, err := d.PutTrustPolicy(ctx, store.TrustPolicy{Digest: "p"}, 0)
	must(err)
	for _, version := range []int64{0, 1} {
		_, err = d.TrustPolicy(ctx, version)
		must(err)
	}
	_, err = d.TrustPolicies(ctx, 0, 0)
	must(err)
	seen := []store.TrustSeen{{Repository: "r", Digest: "d", Images: []string{"i"}, Running: 1}}
	must(d.NoteTrustImages(ctx, seen, fleetStart, fleetStart))
	must(d.PutTrustVerdict(ctx, store.TrustVerdict{Repository: "r", Digest: "d", Policy: "p", State: store.TrustDenied}))
	_, err = d.DueTrustImages(ctx, fleetStart, []store.TrustName{{Repository: "r", Digest: "d"}}, 0)
	must(err)
	_, err = d.DueTrustWatched(ctx, fleetStart, []store.TrustName{{Repository: "r", Digest: "d"}}, 0)
	must(err)
	one, err := d.TrustImage(ctx, "r", "d")
	must(err)
	for _, q := range []store.TrustQuery{
		{}, {Running: true}, {State: store.TrustDenied}, {Signer: "s"}, {Repository: "r"}, {ImageID: "i"}, {After: one.ID},
	} {
		_, err = d.TrustImages(ctx, q)
		must(err)
	}
	_, err = d.TrustDetails(ctx, 0, 0)
	must(err)
	_, err = d.TrustTotals(ctx)
	must(err)
	must(d.NoteTrustImages(ctx, nil, fleetStart, fleetStart))
	must(d.NoteTrustImages(ctx, nil, fleetStart, fleetStart.Add(time.Hour)))
}
