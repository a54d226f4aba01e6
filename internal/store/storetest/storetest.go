// Package storetest is the suite that every implementation of store.Store
// passes: one test a sentence of the port's contract.
//
// It is not for what only one implementation promises (files, locks, speed);
// that is tested beside it.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return openEmpty(t) })
//	}
package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// Run tests an implementation. Open returns a new, empty store each time it is
// called; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	groups := []struct {
		name  string
		cases []testCase
	}{
		{"events", eventCases()},
		{"queries", queryCases()},
		{"objects", objectCases()},
		{"paging", pagingCases()},
		{"stats", statCases()},
		{"flows", flowCases()},
		{"samples", sampleCases()},
		{"workloads", workloadCases()},
		{"images", append(imageCases(), imageListCases()...)},
		{"scan jobs", slices.Concat(scanJobCases(), scanEndCases(), analysisCases(), goneCases())},
		{"findings", slices.Concat(findingCases(), fleetFindingCases(), weaknessCases(), imageFindingCases())},
		{"news", newsCases()},
		{"notify", notifyCases()},
		{"uses", useCases()},
		{"acceptances", acceptanceCases()},
		{"trends", trendCases()},
		{"owners", ownerCases()},
		{"registries", slices.Concat(registryCases(), listingCases(), repositoryCases(), registryPartCases(), registryScanCases(), entryCases(), registryImageCases())},
		{"trust", trustCases()},
		{"admission", admissionCases()},
		{"behaviour", behaviourCases()},
		{"response", responseCases()},
		{"incidents", incidentCases()},
		{"trail", trailCases()},
		{"detection", slices.Concat(detectionCases(), detectionBesideCases())},
		{"agents", agentCases()},
		{"agent settings", settingsCases()},
		{"invitations", invitationCases()},
		{"certificates", certificateCases()},
		{"users", userCases()},
		{"sessions", sessionCases()},
		{"tokens", tokenCases()},
		{"audit", auditCases()},
		{"upkeep", upkeepCases()},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.cases {
				t.Run(c.name, func(t *testing.T) { runCase(t, open, c.run) })
			}
		})
	}
}

// testCase is one promise; run gets an empty store.
type testCase struct {
	name string
	run  func(k *kit)
}

// kit is what a case works with: the test, its context, and its store.
type kit struct {
	*testing.T
	ctx context.Context
	st  store.Store
}

func runCase(t *testing.T, open func(t *testing.T) store.Store, run func(k *kit)) {
	st := open(t)
	defer func() {
		if err := st.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	run(&kit{T: t, ctx: t.Context(), st: st})
}

// base is the time that the suite's events begin at: fixed, so that nothing
// depends on the day the tests run.
func base() time.Time { return time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC) }

// ok ends the test on an error.
func (k *kit) ok(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// wantFault checks the kind of an error.
func (k *kit) wantFault(err error, want fault.Kind) {
	k.Helper()
	if err == nil {
		k.Fatalf("no error, want one of kind %v", want)
	}
	if got := fault.Of(err); got != want {
		k.Errorf("got error of kind %v (%v), want %v", got, err, want)
	}
}

// same compares values.
func same[T any](k *kit, what string, got, want T, opts ...cmp.Option) {
	k.Helper()
	if diff := cmp.Diff(got, want, opts...); diff != "" {
		k.Errorf("%s (-got +want):\n%s", what, diff)
	}
}
