package db_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// useDetection calls every method that keeps what people wrote about detection.
func useDetection(t *testing.T, d *db.DB) {
	t.Helper()
	ctx := t.Context()
	must := mustOf(t)
	_, err := d.PutTrail(ctx, store.WatchedTrail{Trail: asset.Trail{Name: "t"}, Created: fleetStart})
	must(err)
	_, err = d.Trails(ctx)
	must(err)
	must(d.DeleteTrail(ctx, "t"))
	x, err := d.PutDetectionDocument(ctx, store.DetectionDocument{Name: "n", Text: "t", Created: fleetStart}, 0)
	must(err)
	_, err = d.DetectionDocuments(ctx)
	must(err)
	for _, version := range []int64{0, x.Version} {
		_, err = d.DetectionDocument(ctx, "n", version)
		must(err)
	}
	_, err = d.DetectionVersions(ctx, "n", 0, 0)
	must(err)
	s, err := d.PutDetectionSilence(ctx, store.DetectionSilence{Silence: threat.Silence{Rule: "r", Until: fleetStart.Add(time.Hour)}, Created: fleetStart})
	must(err)
	_, err = d.EndDetectionSilence(ctx, s.ID, "b", fleetStart)
	must(err)
	for _, at := range []time.Time{{}, fleetStart} {
		_, err = d.DetectionSilences(ctx, at)
		must(err)
	}
	must(d.PutDetectionStats(ctx, "a", "b", []threat.RuleStats{{Rule: "r"}}))
	_, err = d.DetectionStats(ctx, []string{"r"})
	must(err)
	must(d.PutDetectionMemories(ctx, map[string]json.RawMessage{"r": []byte("{}")}))
	_, err = d.DetectionMemories(ctx)
	must(err)
}
