package db_test

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// useIncidents calls every method that keeps incidents.
func useIncidents(t *testing.T, d *db.DB) {
	t.Helper()
	ctx := t.Context()
	must := mustOf(t)
	put := func() *threat.Incident {
		i := &threat.Incident{Title: "t", Updated: fleetStart, Last: fleetStart, Groups: []string{"g"}, Rules: []threat.Fold{{Rule: "r"}}}
		must(d.SaveIncidents(ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: i, Memory: []byte("m"), Traces: []string{"x"}}}}))
		return i
	}
	one, two := put(), put()
	must(d.SaveIncidents(ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: one}}, Merged: map[int64]int64{two.ID: one.ID}}))
	_, err := d.Incident(ctx, two.ID)
	must(err)
	_, err = d.IncidentMemory(ctx, one.ID)
	must(err)
	for _, q := range []store.IncidentQuery{
		{}, {States: []threat.State{threat.Open, threat.Assigned}}, {States: []threat.State{threat.Resolved}}, {Severity: finding.High}, {Group: "g"}, {Group: "g*"},
		{Rule: "r"}, {AgentID: "a"}, {Workload: "w"}, {Assignee: "x"}, {Since: fleetStart}, {Text: "t"}, {Before: 9},
		{States: []threat.State{threat.Open}, Severity: finding.Low, Group: "g", Rule: "r", AgentID: "a", Workload: "w", Assignee: "x", Since: fleetStart, Text: "t", Before: 9},
	} {
		_, err = d.Incidents(ctx, q)
		must(err)
	}
	_, err = d.FormerIncident(ctx, []string{"x"}, 0)
	must(err)
	_, err = d.IncidentTotals(ctx)
	must(err)
	_, err = d.IncidentRules(ctx, threat.FalseAlarm)
	must(err)
	_, err = d.Prune(ctx, store.Retention{Incidents: time.Hour}, fleetStart.AddDate(1, 0, 0))
	must(err)
}
