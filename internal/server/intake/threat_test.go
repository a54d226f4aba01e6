package intake_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/intake"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/threat"
)

// recorder takes threats.
type recorder struct {
	got []*threat.Threat
	of  []string
	err error
}

func (r *recorder) Take(_ context.Context, agentID string, threats []*threat.Threat) error {
	if r.err != nil {
		return r.err
	}
	for _, t := range threats {
		if t.Rule == "refused" {
			return fault.New(fault.Invalid, "not this one")
		}
	}
	r.got = append(r.got, threats...)
	for range threats {
		r.of = append(r.of, agentID)
	}
	return nil
}

func told(number uint64, change ...func(*threat.Threat)) link.NumberedThreat {
	t := threat.Threat{
		Version: threat.Version, Print: strings.Repeat("0f", 16), Rule: "escape-core-pattern", Severity: finding.Critical, Tactic: threat.PrivilegeEscalation,
		Techniques: []string{"T1611"}, Title: "t", Summary: "s", First: start, Last: start, Count: 1, AgentID: agentA, WorkloadID: shop,
		Process:  event.Process{Key: event.Key{PID: 9, Start: 9}},
		Evidence: []threat.Evidence{{Boot: "b", Seq: number, ID: 77, Time: start, Kind: event.KindExec, Words: "w"}},
	}
	for _, c := range change {
		c(&t)
	}
	return link.NumberedThreat{Number: number, Threat: t}
}

func (f *fixture) tell(t *testing.T, agentID, series string, threats ...link.NumberedThreat) uint64 {
	t.Helper()
	r, err := f.Report(t.Context(), link.Report{
		Agent: asset.Agent{ID: agentID, Boot: "BOOTBOOT1"}, Threats: threats, ThreatSeries: series,
		Workloads: []asset.Workload{{ID: map[string]string{agentA: shop, agentB: other}[agentID], State: asset.Running, ECS: asset.ECS{Cluster: "shop", Service: agentID, Container: "web"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.ThreatsTaken
}

func TestThreatsAreTakenOnce(t *testing.T) {
	f, rec := newFixture(t), &recorder{}
	if got := f.tell(t, agentA, "S1", told(1)); got != 0 {
		t.Errorf("where nobody takes threats, those up to %d were taken", got)
	}
	f.Pass(rec)
	for _, step := range []struct {
		series string
		give   []link.NumberedThreat
		want   uint64
		all    int
	}{
		{"S1", []link.NumberedThreat{told(1), told(2)}, 2, 2},
		{"S1", []link.NumberedThreat{told(1), told(2)}, 2, 2}, // its answer was lost
		{"S1", []link.NumberedThreat{told(2), told(5)}, 5, 3},
		{"S2", []link.NumberedThreat{told(1)}, 1, 4}, // the agent's folder is new
		{"S2", nil, 0, 4},
	} {
		if got := f.tell(t, agentA, step.series, step.give...); got != step.want || len(rec.got) != step.all {
			t.Errorf("series %s: taken up to %d, %d in all, want %d, %d", step.series, got, len(rec.got), step.want, step.all)
		}
	}
	rec.err = fault.New(fault.Unavailable, "store away")
	if got := f.tell(t, agentA, "S2", told(2)); got != 1 {
		t.Errorf("while they can't be taken, those up to %d were", got)
	}
	if !slices.ContainsFunc(f.conditions.List(), func(c live.Condition) bool { return c.Name == intake.PartThreats }) {
		t.Error("no condition says that threats can't be taken")
	}
	rec.err = nil
	if got := f.tell(t, agentA, "S2", told(2)); got != 2 || len(rec.got) != 5 {
		t.Errorf("afterwards: taken up to %d, %d in all, want 2, 5", got, len(rec.got))
	}
}

func TestAnAgentTellsOfItsOwnThreatsAlone(t *testing.T) {
	f, rec := newFixture(t), &recorder{}
	f.Pass(rec)
	f.tell(t, agentB, "S")
	long := strings.Repeat("x", 100_000)
	got := f.tell(t, agentA, "S",
		told(1, func(t *threat.Threat) { t.AgentID, t.Group = agentB, "somebody/else/web" }),
		told(2, func(t *threat.Threat) { t.WorkloadID = other }),
		told(3, func(t *threat.Threat) { t.WorkloadID = "../etc" }),
		told(4, func(t *threat.Threat) { t.Print = "<script>" }),
		told(5, func(t *threat.Threat) { t.Count = 0 }),
		told(6, func(t *threat.Threat) {
			t.Summary, t.Title, t.Args, t.Files = long, "a\x00b\xff", slices.Repeat([]string{long}, 100), slices.Repeat([]string{long}, 100)
			t.Ancestors = slices.Repeat([]threat.Ancestor{{Name: long, Executable: long, Args: []string{long}}}, 100)
			t.Evidence = slices.Repeat(t.Evidence, 100)
			t.First, t.Last = time.Time{}, time.Time{}
			t.Peers = []threat.Peer{{Address: netip.MustParseAddrPort("203.0.113.7:4444"), Peer: event.Peer{Kind: event.PeerWorkload, Group: "mine"}}}
		}),
	)
	if got != 6 || len(rec.got) != 2 {
		t.Fatalf("taken up to %d, %d in all, want 6, and 2 of them", got, len(rec.got))
	}
	if diff := cmp.Diff([]string{agentA, agentA}, rec.of); diff != "" {
		t.Errorf("told by (-want +got):\n%s", diff)
	}
	if x := rec.got[0]; x.AgentID != agentA || x.Group != "shop/"+agentA+"/web" || x.Evidence[0].ID != 0 {
		t.Errorf("the first is of agent %s, group %s, rests on event %d of the store", x.AgentID, x.Group, x.Evidence[0].ID)
	}
	x := rec.got[1]
	if len(x.Summary) > threat.MaxText || x.Title != "a\ufffdb\ufffd" || len(strings.Join(x.Args, "")) > threat.MaxText || len(x.Files) > threat.MaxFiles || len(x.Ancestors) > threat.MaxAncestors || len(x.Evidence) > threat.MaxEvidence {
		t.Errorf("it is not bounded: %d bytes of summary, title %q, %d arguments, %d files, %d ancestors, %d of evidence",
			len(x.Summary), x.Title, len(x.Args), len(x.Files), len(x.Ancestors), len(x.Evidence))
	}
	if !x.First.Equal(f.now) || !x.Last.Equal(f.now) {
		t.Errorf("without a time it is from %v to %v, want %v", x.First, x.Last, f.now)
	}
	if diff := cmp.Diff(event.Peer{Kind: event.PeerPublic}, x.Peers[0].Peer); diff != "" {
		t.Errorf("its peer (-want +got):\n%s", diff)
	}
}

func TestOneThreatThatIsRefusedHoldsUpNoOther(t *testing.T) {
	f, rec := newFixture(t), &recorder{}
	f.Pass(rec)
	if got := f.tell(t, agentA, "S", told(1), told(2, func(t *threat.Threat) { t.Rule = "refused" }), told(3)); got != 3 || len(rec.got) != 2 {
		t.Errorf("taken up to %d, %d in all, want 3, and 2 of them", got, len(rec.got))
	}
}

func TestWhoTellsTooManyThreatsKeepsThem(t *testing.T) {
	f, rec := newFixture(t), &recorder{}
	f.Pass(rec)
	number := uint64(0)
	offer := func() uint64 {
		var all []link.NumberedThreat
		for range link.MaxThreats {
			number++
			all = append(all, told(number))
		}
		taken := f.tell(t, agentA, "S", all...)
		number = taken
		return taken
	}
	for range 30 {
		offer()
	}
	if len(rec.got) != 2000 {
		t.Errorf("%d threats were taken at once, want 2000", len(rec.got))
	}
	f.now = f.now.Add(10 * time.Second)
	if offer(); len(rec.got) != 2100 {
		t.Errorf("%d threats were taken ten seconds later, want 100 more", len(rec.got))
	}
}
