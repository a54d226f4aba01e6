package db_test

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
)

// useBehaviour calls every method that keeps how groups behave.
func useBehaviour(t *testing.T, d *db.DB) {
	t.Helper()
	ctx := t.Context()
	must := mustOf(t)
	v := profile.Violation{Group: "g", Fingerprint: "f", Control: profile.ControlExec, Kind: event.KindExec, Count: 1, First: fleetStart, Last: fleetStart}
	later, earlier := v, v
	later.Last, earlier.Last = fleetStart.Add(1), fleetStart.Add(-1)
	c := store.BehaviourChange{
		Compared: 1, Promotion: &store.BehaviourPromotion{}, Groups: []store.BehaviourGroup{{Group: "g"}},
		States: []store.BehaviourState{{Group: "g", State: make([]byte, 1000)}}, Violations: []profile.Violation{v, later, earlier},
		Revisions: []store.BehaviourRevision{{Group: "g", Revision: 2, Replaces: 1, Profile: &profile.Profile{}}}, Permit: &store.BehaviourPermit{Group: "g", ViolationID: 1},
	}
	for n := range profile.MaxApart + 1 {
		one := v
		one.Fingerprint, one.Folder = string(rune('a'+n))+"/", &profile.Folder{Print: "many", Path: "/data"}
		c.Violations = append(c.Violations, one)
	}
	must(d.SaveBehaviour(ctx, &c))
	must(d.SaveBehaviour(ctx, &store.BehaviourChange{Undo: &store.BehaviourPermit{ID: c.Permit.ID, Group: "g", Undone: fleetStart}}))
	_, err := d.BehaviourMarks(ctx)
	must(err)
	for _, q := range []store.BehaviourQuery{
		{}, {Modes: []profile.Mode{profile.Monitor}}, {Proposed: true}, {Outside: true}, {Text: "g"}, {After: "a"},
		{Modes: []profile.Mode{profile.Monitor, profile.Protect}, Proposed: true, Outside: true, Text: "g", After: "a"},
	} {
		_, err = d.BehaviourGroups(ctx, q)
		must(err)
	}
	_, err = d.BehaviourGroup(ctx, "g")
	must(err)
	_, err = d.BehaviourState(ctx, "g")
	must(err)
	for _, revision := range []int64{0, 2} {
		_, err = d.BehaviourRevision(ctx, "g", revision)
		must(err)
	}
	_, err = d.BehaviourRevisions(ctx, "g", 0, 0)
	must(err)
	for _, q := range []store.ViolationQuery{
		{}, {Group: "g"}, {Control: "exec"}, {Kind: "k"}, {Reaction: "denied"}, {Open: true}, {Text: "x"}, {Since: fleetStart}, {BeforeLast: fleetStart, BeforeID: 9},
		{Group: "g", Control: "exec", Kind: "k", Reaction: "denied", Open: true, Text: "x", Since: fleetStart, BeforeLast: fleetStart, BeforeID: 9},
	} {
		_, err = d.Violations(ctx, q)
		must(err)
	}
	_, err = d.Violation(ctx, 1)
	must(err)
	_, err = d.BehaviourTotals(ctx)
	must(err)
	for _, g := range []asset.Group{"", "g"} {
		_, err = d.BehaviourPermits(ctx, g, 0, 0)
		must(err)
	}
	_, err = d.BehaviourPermit(ctx, c.Permit.ID)
	must(err)
	_, err = d.Prune(ctx, store.Retention{Violations: time.Hour, Audit: time.Hour}, fleetStart.AddDate(1, 0, 0))
	must(err)
}
