package mode_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/mode"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func at(h float64) time.Time { return start.Add(time.Duration(h * float64(time.Hour))) }

func tick(h, measure float64) mode.Tick {
	return mode.Tick{Now: at(h), Settled: profile.Settled{Measure: measure}}
}

// told writes effects and the state after them as one line each.
func told(s mode.State, effects []mode.Effect) []string {
	var out []string
	for _, e := range effects {
		out = append(out, fmt.Sprintf("%s %s: %s", e.Kind, e.Mode, e.Sentence))
	}
	return append(out, fmt.Sprintf("= %s, held to %s, learns %v, asks %s", s.Mode, s.Effective(), s.Learns(s.Version), s.Proposed))
}

func TestTheLifeOfAProfile(t *testing.T) {
	propose := &mode.Policy{Promote: mode.Propose, After: 10 * time.Hour}
	auto := &mode.Policy{Promote: mode.Auto, After: 10 * time.Hour}
	decide := func(h float64, m profile.Mode, p *mode.Policy) mode.Decide {
		return mode.Decide{Now: at(h), Mode: m, Policy: p, Actor: "ana"}
	}
	protects := []mode.Input{mode.Image{Now: at(0), Version: "sha256:1"}, decide(0, profile.Protect, auto)}
	for _, tc := range []struct {
		name   string
		inputs []mode.Input
		want   []string // of the last input
	}{
		{"nothing by itself", []mode.Input{tick(0, 1), tick(100, 1)}, []string{"= discover, held to discover, learns true, asks discover"}},
		{"settled, not for long enough", []mode.Input{decide(0, profile.Discover, propose), tick(0, 1), tick(9, 1)}, []string{"= discover, held to discover, learns true, asks discover"}},
		{"settled with a break", []mode.Input{decide(0, profile.Discover, propose), tick(0, 1), tick(6, 0.5), tick(7, 1), tick(12, 1)}, []string{"= discover, held to discover, learns true, asks discover"}},
		{"proposed", []mode.Input{decide(0, profile.Discover, propose), tick(0, 1), tick(10, 1)},
			[]string{"ask monitor: The group could change from discover to monitor: its profile has been settled for 10h0m0s.", "= discover, held to discover, learns true, asks monitor"}},
		{"proposed once", []mode.Input{decide(0, profile.Discover, propose), tick(0, 1), tick(10, 1), tick(11, 1)}, []string{"= discover, held to discover, learns true, asks monitor"}},
		{"declined, and asked again as long after", []mode.Input{decide(0, profile.Discover, propose), tick(0, 1), tick(10, 1), mode.Decline{Now: at(11), Actor: "ana"}, tick(20, 1), tick(21, 1)},
			[]string{"ask monitor: The group could change from discover to monitor: its profile has been settled for 10h0m0s.", "= discover, held to discover, learns true, asks monitor"}},
		{"not settled any more", []mode.Input{decide(0, profile.Discover, propose), tick(0, 1), tick(10, 1), tick(11, 0.3)},
			[]string{"withdraw discover: monitor is not proposed any more: the profile is not settled any more.", "= discover, held to discover, learns true, asks discover"}},
		{"promoted to monitor", []mode.Input{decide(0, profile.Discover, auto), tick(0, 1), tick(10, 1)},
			[]string{"rules monitor: ", "record monitor: The group changed from discover to monitor by itself: its profile has been settled for 10h0m0s.", "= monitor, held to monitor, learns false, asks discover"}},
		{"promoted to protect", []mode.Input{decide(0, profile.Monitor, auto), tick(1, 0), tick(10, 0)},
			[]string{"rules protect: ", "record protect: The group changed from monitor to protect by itself: nothing has been outside its profile for 10h0m0s.", "= protect, held to protect, learns false, asks discover"}},
		{"something outside puts it off", []mode.Input{decide(0, profile.Monitor, auto), mode.Outside{Now: at(5)}, tick(14, 0)}, []string{"= monitor, held to monitor, learns false, asks discover"}},
		{"not further than it may", []mode.Input{decide(0, profile.Monitor, &mode.Policy{Promote: mode.Auto, After: time.Hour, Most: profile.Monitor}), tick(50, 1)}, []string{"= monitor, held to monitor, learns false, asks discover"}},
		{"clock set back", []mode.Input{decide(0, profile.Discover, auto), tick(100, 1), tick(0, 1), tick(5, 1)}, []string{"= discover, held to discover, learns true, asks discover"}},
		{"clock set forward", []mode.Input{decide(0, profile.Discover, auto), tick(0, 1), mode.ClockSet{Now: at(100)}, tick(100, 1), tick(109, 1)}, []string{"= discover, held to discover, learns true, asks discover"}},
		{"settled for long enough after the clock was set", []mode.Input{decide(0, profile.Monitor, auto), mode.ClockSet{Now: at(100)}, tick(110, 0)},
			[]string{"rules protect: ", "record protect: The group changed from monitor to protect by itself: nothing has been outside its profile for 10h0m0s.", "= protect, held to protect, learns false, asks discover"}},
		{"a person demotes", append(protects, mode.Decide{Now: at(1), Mode: profile.Discover, Actor: "ana", Reason: "new feature"}),
			[]string{"rules discover: ", "record discover: ana changed the mode from protect to discover: new feature", "= discover, held to discover, learns true, asks discover"}},
		{"decided as it is", append(protects, decide(1, profile.Protect, nil)), []string{"= protect, held to protect, learns false, asks discover"}},
		{"released", append(protects, mode.Release{Now: at(1), Actor: "ana", Reason: "incident 7"}),
			[]string{"rules monitor: ", "record protect: ana released the group: nothing is blocked until it is armed again: incident 7", "= protect, held to monitor, learns false, asks discover"}},
		{"armed again", append(protects, mode.Release{Now: at(1), Actor: "ana"}, mode.Arm{Now: at(2), Actor: "ana"}),
			[]string{"rules protect: ", "record protect: ana armed the group again.", "= protect, held to protect, learns false, asks discover"}},
		{"what is not protected can't be released", []mode.Input{mode.Release{Now: at(1)}}, []string{"= discover, held to discover, learns true, asks discover"}},
		{"new version is learned first", append(protects, mode.Image{Now: at(1), Version: "sha256:2", Reference: "shop:2"}),
			[]string{"rules monitor: ", "record protect: A new version came, shop:2: nothing is blocked until what it does has been learned.", "= protect, held to monitor, learns true, asks discover"}},
		{"new version has settled", append(protects, mode.Image{Now: at(1), Version: "sha256:2"}, tick(2, 0.4), tick(3, 1), tick(13, 1)),
			[]string{"rules protect: ", "record protect: What the new version does has settled: the group protects again.", "= protect, held to protect, learns false, asks discover"}},
		{"new version has not settled", append(protects, mode.Image{Now: at(1), Version: "sha256:2"}, tick(3, 1), tick(9, 0.4), tick(14, 1)),
			[]string{"= protect, held to monitor, learns true, asks discover"}},
		{"back to an earlier version", append(protects, mode.Image{Now: at(1), Version: "sha256:0", Known: true}), []string{"= protect, held to protect, learns false, asks discover"}},
		{"new version is held", []mode.Input{mode.Image{Now: at(0), Version: "sha256:1"}, decide(0, profile.Protect, &mode.Policy{NewVersion: mode.Hold}), mode.Image{Now: at(1), Version: "sha256:2"}},
			[]string{"record protect: A new version came, sha256:2: it is held to what earlier versions did.", "= protect, held to protect, learns false, asks discover"}},
		{"new version in discover starts the wait anew", []mode.Input{decide(0, profile.Discover, auto), mode.Image{Now: at(0), Version: "sha256:1"}, tick(0, 1), mode.Image{Now: at(9), Version: "sha256:2"}, tick(10, 1)},
			[]string{"= discover, held to discover, learns true, asks discover"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s mode.State
			var effects []mode.Effect
			for _, in := range tc.inputs {
				s, effects = mode.Step(s, in)
			}
			if diff := cmp.Diff(told(s, effects), tc.want); diff != "" {
				t.Errorf("step (-got +want):\n%s", diff)
			}
		})
	}
}

// TestRulesAreToldWheneverTheyChange walks through all inputs in many orders: what
// hosts hold a group to never changes without an effect that says so.
func TestRulesAreToldWheneverTheyChange(t *testing.T) {
	inputs := []func(time.Time) mode.Input{
		func(n time.Time) mode.Input { return mode.Tick{Now: n, Settled: profile.Settled{Measure: 1}} },
		func(n time.Time) mode.Input { return mode.Tick{Now: n} },
		func(n time.Time) mode.Input { return mode.Decide{Now: n, Mode: profile.Protect} },
		func(n time.Time) mode.Input {
			return mode.Decide{Now: n, Policy: &mode.Policy{Promote: mode.Auto, After: 1}}
		},
		func(n time.Time) mode.Input { return mode.Image{Now: n, Version: n.String()} },
		func(n time.Time) mode.Input { return mode.Release{Now: n} },
		func(n time.Time) mode.Input { return mode.Arm{Now: n} },
		func(n time.Time) mode.Input { return mode.Outside{Now: n} },
		func(n time.Time) mode.Input { return mode.Decline{Now: n} },
	}
	const depth = 5
	total := 1
	for range depth {
		total *= len(inputs)
	}
	for i := range total {
		var s mode.State
		for d, n := 0, i; d < depth; d, n = d+1, n/len(inputs) {
			before := s.Effective()
			var effects []mode.Effect
			s, effects = mode.Step(s, inputs[n%len(inputs)](at(float64(d))))
			said := false
			for _, e := range effects {
				said = said || e.Kind == mode.Rules && e.Mode == s.Effective()
			}
			if s.Effective() != before && !said {
				t.Fatalf("order %d, step %d: held to %s, was %s, and no effect says so", i, d, s.Effective(), before)
			}
		}
	}
}
