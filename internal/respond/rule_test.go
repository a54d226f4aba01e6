package respond_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// monday is one at noon in UTC.
var monday = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

func rules(t *testing.T, text string) []respond.Rule {
	t.Helper()
	all, err := respond.ReadRules("rules", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// miner is a case, changed.
func miner(change func(*respond.Case)) *respond.Case {
	c := &respond.Case{
		Threat: &threat.Threat{
			Rule: "miner-stratum", Severity: finding.High, Tactic: threat.Impact, WorkloadID: one, Group: "shop/web/web",
			Process: event.Process{Key: event.Key{PID: 7, Start: 1}}, Last: monday,
			Peers: []threat.Peer{{Address: netip.MustParseAddrPort("203.0.113.9:3333"), Peer: event.Peer{Kind: event.PeerPublic}}},
		},
		Incident: finding.High, Theme: "miner", Name: "web-1", At: monday,
	}
	if change != nil {
		change(c)
	}
	return c
}

func TestRulesFit(t *testing.T) {
	at := func(clock string) func(*respond.Case) {
		return func(c *respond.Case) {
			v, err := time.Parse(time.RFC3339, clock)
			if err != nil {
				t.Fatal(err)
			}
			c.At = v
		}
	}
	peer := func(kind event.PeerKind, address string) func(*respond.Case) {
		return func(c *respond.Case) {
			c.Threat.Peers = []threat.Peer{{Address: netip.MustParseAddrPort(address), Peer: event.Peer{Kind: kind}}}
		}
	}
	const night = "{severity: low, hours: {days: [mon], from: \"22:00\", to: \"06:00\", zone: Europe/Berlin}}"
	for _, tc := range []struct {
		name, on string
		change   func(*respond.Case)
		fits     bool
	}{
		{"its theme", "{themes: miner}", nil, true},
		{"another theme", "{themes: [shell, escape]}", nil, false},
		{"its rule", "{rules: miner-*}", nil, true},
		{"another rule", "{rules: shell-*}", nil, false},
		{"its tactic", "{tactics: impact}", nil, true},
		{"another tactic", "{tactics: [execution]}", nil, false},
		{"severity", "{severity: high}", nil, true},
		{"a graver one", "{severity: critical}", nil, false},
		{"of the incident", "{incident: critical}", func(c *respond.Case) { c.Incident = finding.Critical }, true},
		{"not of the incident", "{incident: critical}", nil, false},
		{"its group", "{themes: miner, groups: [other/*, shop/*/web]}", nil, true},
		{"another group", "{themes: miner, groups: other/*}", nil, false},
		{"its workload", "{themes: miner, workloads: web-*}", nil, true},
		{"by its id", "{themes: miner, workloads: 1111*}", nil, true},
		{"another workload", "{themes: miner, workloads: db}", nil, false},
		{"peer outside", "{themes: miner, external: true}", nil, true},
		{"peer of the fleet", "{themes: miner, external: true}", peer(event.PeerWorkload, "203.0.113.9:1"), false},
		{"peer nobody knows, public", "{themes: miner, external: true}", peer(event.PeerUnknown, "203.0.113.9:1"), true},
		{"peer nobody knows, private", "{themes: miner, external: true}", peer(event.PeerUnknown, "10.0.0.9:1"), false},
		{"no peer", "{themes: miner, external: true}", func(c *respond.Case) { c.Threat.Peers = nil }, false},
		{"by day", "{severity: low, hours: {from: \"08:00\", to: \"18:00\"}}", nil, true},
		{"its end", "{severity: low, hours: {from: \"08:00\", to: \"12:00\"}}", nil, false},
		{"not on this day", "{severity: low, hours: {days: [sat, sun]}}", nil, false},
		{"the evening", night, at("2026-01-05T21:30:00Z"), true},
		{"the morning after", night, at("2026-01-06T04:59:00Z"), true},
		{"the night before", night, at("2026-01-05T04:59:00Z"), false},
		{"before the evening", night, at("2026-01-05T20:59:00Z"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rules(t, "responses:\n- {id: x, owner: anna, do: kill, on: "+tc.on+"}")[0]
			if why := r.On.Fits(miner(tc.change)); (why == "") != tc.fits {
				t.Errorf("fits: %v (%q), want %v", why == "", why, tc.fits)
			}
		})
	}
}

// decided writes decisions as text.
func decided(all []respond.Decision) (out []string) {
	for _, d := range all {
		line := d.Rule.ID + ":"
		for _, a := range d.Do {
			line += " " + a.String() + ";"
		}
		if d.Held != "" {
			line += " held"
		}
		out = append(out, line+strings.Repeat(" lacks", len(d.Lacks)))
	}
	return out
}

func TestDecide(t *testing.T) {
	const two = `responses:
- {id: first, owner: anna, on: {themes: miner}, do: [kill, {notify: ops}], limit: {times: 2, within: 1h}, cool_down: 10m}
- {id: second, owner: anna, on: {severity: medium}, do: [{quarantine: freeze}, {notify: ops}], until: 1h}
- {id: third, owner: anna, on: {severity: medium}, do: stop, off: true}
`
	acted := func(rule, workload, group string, ago time.Duration) respond.Acted {
		return respond.Acted{Rule: rule, Group: group, Workload: workload, At: monday.Add(-ago)}
	}
	var everywhere respond.Memory
	for i := range respond.PerFleet {
		everywhere = everywhere.Add(acted("other", "w", fmt.Sprint("g", i), time.Minute))
	}
	for _, tc := range []struct {
		name, rules string
		change      func(*respond.Case)
		memory      respond.Memory
		want        []string
	}{
		{"both", two, nil, nil, []string{"first: kill the process; notify ops;", "second: quarantine and freeze; lacks"}},
		{"of the host", two, func(c *respond.Case) { c.Threat.WorkloadID = "" }, nil, []string{"first: notify ops; lacks", "second: lacks lacks"}},
		{"by nobody known", two, func(c *respond.Case) { c.Threat.Process = event.Process{} }, nil, []string{"first: notify ops; lacks", "second: quarantine and freeze; lacks"}},
		{"of yesterday", two, func(c *respond.Case) { c.Threat.Last = monday.Add(-24 * time.Hour) }, nil, []string{"first: notify ops; lacks", "second: lacks lacks"}},
		{"cools down", two, nil, respond.Memory{acted("first", one, "shop/web/web", 9*time.Minute)}, []string{"first: held", "second: quarantine and freeze; notify ops;"}},
		{"another workload does not", two, nil, respond.Memory{acted("first", "w2", "shop/web/web", 9*time.Minute)}, []string{"first: kill the process; notify ops;", "second: quarantine and freeze; lacks"}},
		{"has cooled down", two, nil, respond.Memory{acted("first", one, "shop/web/web", 10*time.Minute)}, []string{"first: kill the process; notify ops;", "second: quarantine and freeze; lacks"}},
		{"the limit of the group", two, nil, respond.Memory{acted("first", "w2", "shop/web/web", 50*time.Minute), acted("first", "w3", "shop/web/web", time.Minute)},
			[]string{"first: held", "second: quarantine and freeze; notify ops;"}},
		{"the limit of another group", two, nil, respond.Memory{acted("first", "w2", "g", 50*time.Minute), acted("first", "w3", "g", time.Minute)},
			[]string{"first: kill the process; notify ops;", "second: quarantine and freeze; lacks"}},
		{"the limit of the fleet", two, nil, everywhere, []string{"first: held", "second: held"}},
		{"dry, then not", strings.Replace(two, "cool_down: 10m", "dry_run: true", 1), nil, nil, []string{"first: kill the process; notify ops;", "second: quarantine and freeze; notify ops;"}},
		{"nothing fits", two, func(c *respond.Case) { c.Theme, c.Threat.Severity = "scan", finding.Low }, nil, nil},
		{"no rules", "responses: []", nil, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := slices.Clone(tc.memory)
			got := decided(respond.Decide(rules(t, tc.rules), miner(tc.change), tc.memory))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.memory); diff != "" {
				t.Errorf("the memory has changed:\n%s", diff)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var m respond.Memory
	for i := range 20_000 {
		m = m.Add(respond.Acted{At: monday.Add(time.Duration(i) * time.Second)})
	}
	if n := len(m); n > 14_400 || m[n-1].At.Sub(m[0].At) > respond.MaxWithin {
		t.Errorf("%d are remembered", n)
	}
}

func TestBrokenRules(t *testing.T) {
	const whole = "id: x, owner: anna, on: {themes: miner}, do: kill"
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", "rules: the document of rules is empty"},
		{"a list", "- x", "rules:1:1: the document is no map of fields"},
		{"a wrong field", "responses:\n- {" + whole + ", when: now}", `rules:2:55: a rule has no field "when"`},
		{"nothing in it", "responses:\n- {}", "rules:2:3: rule lacks id"},
		{"for all", "responses:\n- {id: x, owner: a, on: {groups: \"*\"}, do: kill}", "rules:2:25: on says for no threats: a rule is never for all"},
		{"does nothing", "responses:\n- {id: x, owner: a, on: {themes: a}, do: []}", "rules:2:42: do is empty"},
		{"explodes", "responses:\n- {id: x, owner: a, on: {themes: a}, do: explode}", `rules:2:42: "explode" is nothing that can be done`},
		{"two in one", "responses:\n- {id: x, owner: a, on: {themes: a}, do: [{kill: process, notify: ops}]}", "rules:2:43: an item of do is one thing, not 2"},
		{"undone, though nothing can be", "responses:\n- {" + whole + ", until: 1h}", "rules:2:62: nothing that the rule does can be undone"},
		{"twice", "responses:\n- {" + whole + "}\n- {" + whole + "}", "rules:3:3: there are two rules x"},
		{"an id with blanks", "responses:\n- {id: A b, owner: a, on: {themes: a}, do: kill}", `rules:2:8: the id of a rule can't be "A b"`},
		{"no severity", "responses:\n- {id: x, owner: a, on: {severity: bad}, do: kill}", `rules:2:36: "bad" is no severity`},
		{"no tactic", "responses:\n- {id: x, owner: a, on: {tactics: win}, do: kill}", `rules:2:35: "win" is no tactic`},
		{"no zone", "responses:\n- {id: x, owner: a, on: {themes: a, hours: {zone: Mars}}, do: kill}", `rules:2:51: there is no zone "Mars"`},
		{"no clock", "responses:\n- {id: x, owner: a, on: {themes: a, hours: {from: 25:00}}, do: kill}", `rules:2:51: from is no time of day: "25:00"`},
		{"too often", "responses:\n- {" + whole + ", limit: {times: 1000}}", "rules:2:70: times is no number of 1 to 100"},
		{"packets for an hour", "responses:\n- {id: x, owner: a, on: {themes: a}, do: [{snapshot: {packets: 1h}}]}", "rules:2:64: packets is no length of time from 0s to 1m: \"1h\""},
		{"an alias", "a: &x 1\nresponses: *x", "rules:1:4: anchors and aliases are not read in a document of rules: each line must say what it means"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := respond.ReadRules("rules", []byte(tc.text))
			problems := written.ProblemsOf(err)
			if len(problems) == 0 || problems[0].Error() != tc.want {
				t.Errorf("got %q, want %q", problems, tc.want)
			}
		})
	}
}

func FuzzReadRules(f *testing.F) {
	f.Add([]byte("responses:\n- {id: x, owner: a, on: {themes: a, hours: {days: [mon], from: \"08:00\"}}, do: [kill, {notify: ops}], until: 1h}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := respond.ReadRules("rules", b)
		if err != nil {
			if len(written.ProblemsOf(err)) == 0 {
				t.Fatalf("an error without problems: %v", err)
			}
			return
		}
		for i := range all {
			if all[i].ID == "" || all[i].Owner == "" || len(all[i].Do) == 0 || all[i].Times < 1 {
				t.Errorf("taken: %+v", all[i])
			}
			if r := all[i]; r.On.Fits(&respond.Case{Threat: &threat.Threat{}, At: monday}) == "" && len(r.On.Rules) == 0 && len(r.On.Themes) == 0 {
				t.Errorf("rule for nothing at all: %+v", r)
			}
		}
	})
}

// A quarantine of a person is not ended by a rule that had one too.
func TestRulesLeavePeoplesQuarantines(t *testing.T) {
	f := newFixture(t)
	f.do(t, response.Deed{Kind: response.Quarantine, By: "user:otto"})
	if a := f.do(t, response.Deed{Kind: response.Quarantine, Freeze: true, By: "rule:miners"}); a.State != response.Done {
		t.Fatal(a.Error)
	}
	if a := f.do(t, response.Deed{Kind: response.Release, By: "rule:miners"}); a.State != response.Refused || !strings.Contains(a.Error, "user:otto") {
		t.Errorf("released by the rule: %+v", a)
	}
	held, err := f.Quarantined()
	if err != nil || held[one].By != "user:otto" || !held[one].Freeze {
		t.Errorf("held: %+v, %v", held, err)
	}
	if a := f.do(t, response.Deed{Kind: response.Release, By: "user:anna"}); a.State != response.Done {
		t.Errorf("released by a person: %+v", a)
	}
}
