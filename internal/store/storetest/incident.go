package storetest

import (
	"net/netip"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

func incidentCases() []testCase {
	return []testCase{
		{"an incident is stored as a whole", testIncident},
		{"a change that fails leaves nothing", testIncidentsFail},
		{"who changes an incident knows its newest revision", testIncidentRevision},
		{"incidents are listed, the newest first", testIncidentList},
		{"pages are stable while incidents change", testIncidentPages},
		{"what became part of another leads to it", testIncidentMerged},
		{"a former one is found by its traces", testIncidentFormer},
		{"incidents are counted", testIncidentTotals},
		{"what incidents came to is counted by rule", testIncidentRules},
		{"what is old goes", testIncidentPrune},
		{"nothing is found of what is not there", testIncidentNone},
	}
}

// saved stores an incident, and returns it as it is then.
func (k *kit) saved(i threat.Incident, traces ...string) threat.Incident {
	k.Helper()
	k.ok(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &i, Memory: []byte("memory"), Traces: traces}}}))
	return i
}

func incidentOf(title string, change ...func(*threat.Incident)) threat.Incident {
	i := threat.Incident{
		Version: threat.Version, State: threat.Open, Severity: finding.Medium, Title: title, Story: "sh ran in shop/web", Opened: base(), Updated: base(), Last: base(), Count: 1,
		Rules: []threat.Fold{{Rule: "shell", Title: "A shell", First: base(), Last: base(), Count: 1}}, Agents: []string{"agent-a"}, Workloads: []string{"w1"}, Groups: []string{"shop/web/nginx"},
	}
	for _, f := range change {
		f(&i)
	}
	return i
}

// sameAddress compares addresses, which have no exported fields.
var sameAddress = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func testIncident(k *kit) {
	done := base().Add(time.Hour)
	all := incidentOf("whole", func(i *threat.Incident) {
		i.State, i.Assignee, i.Resolution, i.Resolved, i.Reopened, i.Former, i.Merged = threat.Resolved, "anna", threat.Test, &done, 2, 1, []int64{3}
		i.Tactics, i.Techniques = []threat.Tactic{threat.Execution}, []string{"T1059"}
		i.Processes = []threat.Node{{AgentID: "agent-a", Key: event.Key{PID: 7, Start: 8}, Name: "sh", Args: []string{"sh", "-c", "ä"}, Rules: []string{"shell"}}}
		i.Peers = []threat.Peer{{Address: netip.MustParseAddrPort("203.0.113.9:4444"), Name: "c2.example", Peer: event.Peer{Kind: event.PeerPublic}}}
		i.Files, i.Reaction, i.LeftOut = []string{"/tmp/x"}, event.ReactionKilled, 3
		i.Weaknesses = []threat.Weakness{{ID: "CVE-2026-1", Package: "nginx", Why: "it runs it"}}
		i.Timeline = []threat.Entry{{Time: base(), Kind: threat.EntryThreat, Rule: "shell", Text: "sh ran", Count: 1, Evidence: []threat.Evidence{{Boot: "b", Seq: 1, Time: base(), Words: "ran sh"}}}}
	})
	want := k.saved(all)
	if want.ID == 0 || want.Revision != 1 {
		k.Fatalf("id %d, revision %d", want.ID, want.Revision)
	}
	got, err := k.st.Incident(k.ctx, want.ID)
	k.ok(err)
	same(k, "incident", got, want, sameAddress)
	memory, err := k.st.IncidentMemory(k.ctx, want.ID)
	k.ok(err)
	same(k, "memory", string(memory), "memory")
	brief := want
	brief.Processes, brief.Peers, brief.Files, brief.Weaknesses, brief.Timeline = nil, nil, nil, nil, nil
	list, err := k.st.Incidents(k.ctx, store.IncidentQuery{})
	k.ok(err)
	same(k, "in brief", list, []threat.Incident{brief}, sameAddress)

	want.Title = "changed by a person"
	k.ok(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &want}}}))
	memory, err = k.st.IncidentMemory(k.ctx, want.ID)
	k.ok(err)
	if want.Revision != 2 || string(memory) != "memory" || len(k.incidents(store.IncidentQuery{Rule: "shell"})) != 1 {
		k.Errorf("revision %d, memory %q: want both kept where none is given", want.Revision, memory)
	}
}

// incidents returns the titles of a page.
func (k *kit) incidents(q store.IncidentQuery) (titles []string) {
	k.Helper()
	all, err := k.st.Incidents(k.ctx, q)
	k.ok(err)
	for i := range all {
		titles = append(titles, all[i].Title)
	}
	return titles
}

func testIncidentsFail(k *kit) {
	good, bad := incidentOf("good"), incidentOf("bad")
	bad.ID = 77
	k.wantFault(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &good}, {Incident: &bad}}}), fault.Conflict)
	if good.ID != 0 || good.Revision != 0 || k.incidents(store.IncidentQuery{}) != nil {
		k.Errorf("of a change that failed there is incident %d", good.ID)
	}
	big := incidentOf("big")
	k.wantFault(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &big, Memory: make([]byte, store.MaxIncidentMemory+1)}}}), fault.Invalid)
	big.Story = strings.Repeat("x", store.MaxIncident)
	k.wantFault(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &big}}}), fault.Invalid)
}

func testIncidentRevision(k *kit) {
	mine := k.saved(incidentOf("a"))
	theirs := mine
	theirs.Assignee = "bob"
	k.saved(theirs)
	mine.Assignee = "anna"
	k.wantFault(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &mine}}}), fault.Conflict)
	got, err := k.st.Incident(k.ctx, mine.ID)
	k.ok(err)
	same(k, "assignee", got.Assignee, "bob")
}

func testIncidentList(k *kit) {
	k.saved(incidentOf("one"))
	k.saved(incidentOf("two", func(i *threat.Incident) {
		i.State, i.Severity, i.Groups, i.Agents, i.Workloads = threat.Resolved, finding.Critical, []string{"shop/db/redis", "shop/web/nginx"}, []string{"agent-b"}, []string{"w2"}
		i.Last, i.Assignee = base().Add(time.Hour), "anna"
		i.Rules = append(i.Rules, threat.Fold{Rule: "escape"})
		i.Techniques = []string{"T1046", "T1059.004"}
	}))
	k.saved(incidentOf("three", func(i *threat.Incident) {
		i.State, i.Severity, i.Groups, i.Story = "", finding.Low, []string{"shop/webshop/app"}, "100% of _it"
	}))
	for _, tc := range []struct {
		name string
		q    store.IncidentQuery
		want []string
	}{
		{"all", store.IncidentQuery{}, []string{"three", "two", "one"}},
		{"open", store.IncidentQuery{States: []threat.State{threat.Open}}, []string{"three", "one"}},
		{"resolved", store.IncidentQuery{States: []threat.State{threat.Resolved, threat.Reopened}}, []string{"two"}},
		{"grave", store.IncidentQuery{Severity: finding.Medium}, []string{"two", "one"}},
		{"of a group", store.IncidentQuery{Group: "shop/web/nginx"}, []string{"two", "one"}},
		{"of groups", store.IncidentQuery{Group: "shop/web*"}, []string{"three", "two", "one"}},
		{"of a service's groups", store.IncidentQuery{Group: "shop/web/*"}, []string{"two", "one"}},
		{"of a rule", store.IncidentQuery{Rule: "escape"}, []string{"two"}},
		{"of a technique", store.IncidentQuery{Technique: "T1059.004"}, []string{"two"}},
		{"of parts of a technique", store.IncidentQuery{Technique: "T1059"}, []string{"two"}},
		{"of the end of a technique", store.IncidentQuery{Technique: "1059"}, nil},
		{"of an agent", store.IncidentQuery{AgentID: "agent-b"}, []string{"two"}},
		{"of a workload", store.IncidentQuery{Workload: "w1"}, []string{"three", "one"}},
		{"somebody's", store.IncidentQuery{Assignee: "anna"}, []string{"two"}},
		{"lately", store.IncidentQuery{Since: base().Add(time.Minute)}, []string{"two"}},
		{"before", store.IncidentQuery{Until: base().Add(time.Minute)}, []string{"three", "one"}},
		{"between", store.IncidentQuery{Since: base().Add(time.Minute), Until: base().Add(time.Hour)}, nil},
		{"with words", store.IncidentQuery{Text: "REDIS"}, []string{"two"}},
		{"with signs", store.IncidentQuery{Text: "0% of _"}, []string{"three"}},
		{"nothing", store.IncidentQuery{Text: "0_ of"}, nil},
		{"two of them", store.IncidentQuery{Rule: "shell", AgentID: "agent-b", Severity: finding.High}, []string{"two"}},
	} {
		same(k, tc.name, k.incidents(tc.q), tc.want)
	}
	_, err := k.st.Incidents(k.ctx, store.IncidentQuery{Text: strings.Repeat("x", 10_000)})
	k.wantFault(err, fault.Invalid)
}

func testIncidentPages(k *kit) {
	var all []threat.Incident
	for range 5 {
		all = append(all, k.saved(incidentOf("x")))
	}
	page, err := k.st.Incidents(k.ctx, store.IncidentQuery{Limit: 2})
	k.ok(err)
	seen := []int64{page[0].ID, page[1].ID}
	all[0].Last = base().Add(time.Hour) // the oldest goes on
	k.saved(all[0])
	k.saved(incidentOf("new"))
	for len(page) == 2 {
		page, err = k.st.Incidents(k.ctx, store.IncidentQuery{Limit: 2, Before: page[1].ID})
		k.ok(err)
		for i := range page {
			seen = append(seen, page[i].ID)
		}
	}
	same(k, "ids", seen, []int64{all[4].ID, all[3].ID, all[2].ID, all[1].ID, all[0].ID})
}

func testIncidentMerged(k *kit) {
	one, two, three := k.saved(incidentOf("one")), k.saved(incidentOf("two")), k.saved(incidentOf("three"))
	k.ok(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &two}}, Merged: map[int64]int64{three.ID: two.ID}}))
	k.ok(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &one}}, Merged: map[int64]int64{two.ID: one.ID}}))
	for _, id := range []int64{one.ID, two.ID, three.ID} {
		got, err := k.st.Incident(k.ctx, id)
		k.ok(err)
		same(k, "where it leads", got.ID, one.ID)
	}
	same(k, "the list", k.incidents(store.IncidentQuery{Rule: "shell"}), []string{"one"})
}

func testIncidentFormer(k *kit) {
	one, two := k.saved(incidentOf("one"), "a", "b"), k.saved(incidentOf("two"), "b", "c")
	for _, tc := range []struct {
		traces []string
		before int64
		want   int64
	}{
		{[]string{"a"}, 0, one.ID}, {[]string{"a", "b"}, 0, two.ID}, {[]string{"b"}, two.ID, one.ID}, {[]string{"d"}, 0, 0}, {nil, 0, 0},
	} {
		got, err := k.st.FormerIncident(k.ctx, tc.traces, tc.before)
		k.ok(err)
		if got != tc.want {
			k.Errorf("former of %v before %d: %d, want %d", tc.traces, tc.before, got, tc.want)
		}
	}
}

func testIncidentTotals(k *kit) {
	k.saved(incidentOf("a"))
	k.saved(incidentOf("b", func(i *threat.Incident) { i.State, i.Severity = threat.Assigned, finding.Critical }))
	k.saved(incidentOf("c", func(i *threat.Incident) { i.State = threat.Resolved }))
	got, err := k.st.IncidentTotals(k.ctx)
	k.ok(err)
	same(k, "totals", got, store.IncidentTotals{
		States: map[threat.State]int{threat.Open: 1, threat.Assigned: 1, threat.Resolved: 1},
		Active: map[finding.Severity]int{finding.Medium: 1, finding.Critical: 1},
	})
}

func testIncidentRules(k *kit) {
	came := func(to threat.Resolution, rules ...string) threat.Incident {
		return k.saved(incidentOf("a", func(i *threat.Incident) {
			i.State, i.Resolution, i.Rules = threat.Resolved, to, nil
			for _, r := range rules {
				i.Rules = append(i.Rules, threat.Fold{Rule: r})
			}
		}))
	}
	came(threat.FalseAlarm, "shell", "escape")
	came(threat.Attack, "shell", "miner")
	k.saved(incidentOf("open"))
	again := came(threat.FalseAlarm, "escape")
	counted := func(want map[string]int) {
		k.Helper()
		got, err := k.st.IncidentRules(k.ctx, threat.FalseAlarm)
		k.ok(err)
		same(k, "false alarms", got, want)
	}
	counted(map[string]int{"shell": 1, "escape": 2})
	again.State, again.Resolution = threat.Reopened, threat.Unresolved
	k.saved(again)
	counted(map[string]int{"shell": 1, "escape": 1})
}

func testIncidentPrune(k *kit) {
	old, other, young := k.saved(incidentOf("old"), "t"), k.saved(incidentOf("part")), k.saved(incidentOf("young", func(i *threat.Incident) { i.Updated = base().Add(48 * time.Hour) }))
	k.ok(k.st.SaveIncidents(k.ctx, &store.IncidentChange{Put: []store.IncidentPut{{Incident: &old}}, Merged: map[int64]int64{other.ID: old.ID}}))
	n, err := k.st.Prune(k.ctx, store.Retention{Incidents: 24 * time.Hour}, base().Add(50*time.Hour))
	k.ok(err)
	same(k, "removed", n, int64(1))
	same(k, "what is left", k.incidents(store.IncidentQuery{}), []string{"young"})
	for _, id := range []int64{old.ID, other.ID} {
		_, err = k.st.Incident(k.ctx, id)
		k.wantFault(err, fault.NotFound)
	}
	former, err := k.st.FormerIncident(k.ctx, []string{"t"}, 0)
	k.ok(err)
	same(k, "former", former, int64(0))
	_, err = k.st.Incident(k.ctx, young.ID)
	k.ok(err)
}

func testIncidentNone(k *kit) {
	_, err := k.st.Incident(k.ctx, 5)
	k.wantFault(err, fault.NotFound)
	_, err = k.st.IncidentMemory(k.ctx, 5)
	k.wantFault(err, fault.NotFound)
	same(k, "a list", k.incidents(store.IncidentQuery{}), nil)
}
