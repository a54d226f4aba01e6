package detect_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/trial"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// own are rules of which nothing of the library's knows anything: files below /own.
const own = `
rules:
- {id: own-single, title: t, severity: medium, tactic: execution, meaning: m., on: [file.write], when: 'file.path.startsWith("/own/single/")', about: [file.path], says: "wrote {file.path}"}
- {id: own-count, title: t, severity: low, tactic: execution, meaning: m., on: [file.write], when: 'file.path == "/own/count"', count: {by: workload, within: 80s, reaches: 5}}
- {id: own-distinct, title: t, severity: low, tactic: execution, meaning: m., on: [file.write], when: 'file.path.startsWith("/own/distinct/")', count: {by: workload, within: 1m, reaches: 3, distinct: file.path}}
- id: own-sequence
  title: t
  severity: low
  tactic: execution
  meaning: m.
  sequence:
    by: workload
    within: 1m
    steps:
    - {on: [file.write], when: 'file.path == "/own/one"'}
    - {on: [file.write], when: 'file.path == "/own/two"'}
- id: own-either
  title: t
  severity: low
  tactic: execution
  meaning: m.
  sequence:
    by: workload
    within: 1m
    any_order: true
    steps:
    - {on: [file.write], when: 'file.path == "/own/a"'}
    - {on: [file.write], when: 'file.path == "/own/b"'}
- {id: own-file, title: t, severity: low, tactic: execution, meaning: m., on: [file.write, file.create, file.rename], files: [/own/files/exact, /own/files/folder/, /own/files/*.conf, "**/own-name", "**/.own/**"]}
- {id: own-file-program, title: t, severity: low, tactic: execution, meaning: m., on: [file.write], files: [/own/files/exact, lists.temporary_folders], programs: [tee], when: '!event.failed'}
- {id: own-first, title: t, severity: low, tactic: execution, meaning: m., on: [file.write], when: 'file.path.startsWith("/own/first/")', first: {by: group, of: file.path, after: 1h}}
`

func engineWith(t testing.TB, documents ...string) *detect.Engine {
	t.Helper()
	var texts []detect.Text
	for i, d := range documents {
		texts = append(texts, detect.Text{Name: fmt.Sprintf("%d.yaml", i+1), Body: []byte(d)})
	}
	e, err := detect.New(texts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wrote is an event of a file that was written, so long after the start.
func wrote(t testing.TB, path string, after time.Duration, changes ...func(*event.Event)) *event.Event {
	t.Helper()
	all, err := trial.Events([]trial.Event{{"on": "file.write", "path": path}}, start)
	if err != nil {
		t.Fatal(err)
	}
	e := all[0]
	e.Time, e.Seq = start.Add(after), uint64(after)
	for _, change := range changes {
		change(e)
	}
	return e
}

func group(name string) func(*event.Event) { return func(e *event.Event) { e.Group = name } }

// told are the threats of a rule that events give.
func told(e *detect.Engine, rule string, events ...*event.Event) []threat.Threat {
	var out []threat.Threat
	for _, ev := range events {
		out = append(out, e.Observe(ev)...)
	}
	return slices.DeleteFunc(out, func(t threat.Threat) bool { return t.Rule != rule })
}

func statsOf(t testing.TB, e *detect.Engine, rule string) detect.Stats {
	t.Helper()
	for _, s := range e.Stats() {
		if s.Rule == rule {
			return s
		}
	}
	t.Fatalf("no rule %s", rule)
	return detect.Stats{}
}

func TestRepeatsAreToldTogether(t *testing.T) {
	e := engineWith(t, own)
	const rule, path = "own-single", "/own/single/x"
	first := told(e, rule, wrote(t, path, 0))
	if len(first) != 1 || first[0].Repeat || first[0].Count != 1 || first[0].Summary != "wrote "+path {
		t.Fatalf("the first is %+v", first)
	}
	for i := 1; i <= 20; i++ {
		if got := told(e, rule, wrote(t, path, time.Duration(i)*time.Second, func(ev *event.Event) { ev.Count = 2 })); len(got) != 0 {
			t.Fatalf("repeat %d is told at once: %+v", i, got)
		}
	}
	other := told(e, rule, wrote(t, "/own/single/y", 21*time.Second))
	if len(other) != 1 || other[0].Repeat || other[0].Print == first[0].Print {
		t.Errorf("another file gives %+v, and is no repeat", other)
	}
	if got := e.Due(start.Add(59 * time.Second)); len(got) != 0 {
		t.Errorf("too early: %+v", got)
	}
	// Any event's time tells what is due.
	got := told(e, rule, wrote(t, "/srv/else", 61*time.Second))
	if len(got) != 1 || !got[0].Repeat || got[0].Count != 40 || got[0].Print != first[0].Print || !got[0].First.Equal(start.Add(time.Second)) || !got[0].Last.Equal(start.Add(20*time.Second)) {
		t.Fatalf("repeats are %+v, want one of 40 times", got)
	}
	if n := len(got[0].Evidence); n != threat.MaxEvidence || got[0].LeftOut != uint64(20-n) {
		t.Errorf("%d events are named and %d not", n, got[0].LeftOut)
	}
	told(e, rule, wrote(t, path, 70*time.Second))
	if rest := e.Rest(); len(rest) != 1 || rest[0].Count != 1 || !rest[0].Repeat {
		t.Errorf("the rest is %+v", rest)
	}
	if rest := append(e.Rest(), e.Due(start.Add(time.Hour))...); len(rest) != 0 {
		t.Errorf("told twice: %+v", rest)
	}
	if late := told(e, rule, wrote(t, path, 26*time.Hour)); len(late) != 1 || late[0].Repeat {
		t.Errorf("a day later it is news again: %+v", late)
	}
}

func TestRepeatsAreToldThoughAClockIsWrong(t *testing.T) {
	const rule, path = "own-single", "/own/single/x"
	ahead := func(ev *event.Event) { ev.AgentID, ev.Time = "ahead", ev.Time.AddDate(1, 0, 0) }
	t.Run("another host's is a year ahead", func(t *testing.T) {
		e := engineWith(t, own)
		told(e, rule, wrote(t, path, 0), wrote(t, path, time.Second))
		if got := told(e, rule, wrote(t, "/srv/x", 2*time.Second, ahead)); len(got) != 1 || got[0].Count != 1 {
			t.Errorf("got %+v", got)
		}
		told(e, rule, wrote(t, path, 3*time.Second))
		if got := told(e, rule, wrote(t, "/srv/x", 64*time.Second)); len(got) != 1 || got[0].Count != 1 {
			t.Errorf("the repeat waits for a year: %+v", got)
		}
	})
	t.Run("it steps back", func(t *testing.T) {
		e := engineWith(t, own)
		told(e, rule, wrote(t, path, time.Hour), wrote(t, path, time.Hour+time.Second), wrote(t, path, 0))
		if got := told(e, rule, wrote(t, "/srv/x", 61*time.Second)); len(got) != 1 || got[0].Count != 2 {
			t.Errorf("the repeats wait for an hour: %+v", got)
		}
	})
}

func TestSilences(t *testing.T) {
	const silences = `
silence:
- {rule: "own-*", groups: [shop/*/app], reason: it is how it works, until: 2026-11-29T09:00:00Z}
- {rule: own-single, about: /own/single/known, reason: it is known, until: 2027-01-01}
`
	e := engineWith(t, own, silences)
	const rule = "own-single"
	for _, tc := range []struct {
		name, path, group string
		after             time.Duration
		told              bool
	}{
		{"its group", "/own/single/a", "shop/web/app", 0, false},
		{"another group", "/own/single/a", "shop/web/db", 0, true},
		{"another depth", "/own/single/a", "shop/web/x/app", 0, true},
		{"just before its end", "/own/single/b", "shop/web/app", time.Hour - 1, false},
		{"at its end", "/own/single/b", "shop/web/app", time.Hour, true},
		{"what it is about", "/own/single/known/x", "shop/api/db", 0, false},
	} {
		got := told(e, rule, wrote(t, tc.path, tc.after, group(tc.group), func(ev *event.Event) { ev.WorkloadID = tc.name }))
		if (len(got) == 1) != tc.told {
			t.Errorf("%s: %d told, want told: %v", tc.name, len(got), tc.told)
		}
	}
	s := statsOf(t, e, rule)
	if s.Hits != 6 || s.Silenced != 3 || s.Errors != 0 || !s.Last.Equal(start) {
		t.Errorf("stats are %+v", s)
	}
	e.Silence(nil)
	if got := told(e, rule, wrote(t, "/own/single/known/x", time.Second, group("shop/api/db"))); len(got) != 1 || got[0].Repeat {
		t.Errorf("without silences it gives %+v", got)
	}
}

func TestStatsTellWhatCouldNotBeTold(t *testing.T) {
	e := engineWith(t, `rules:
- {id: own-broken, title: t, severity: low, tactic: execution, meaning: m., on: [process.exec], when: 'exec.args[7] == "x"'}`)
	all, err := trial.Events([]trial.Event{{"on": "process.exec", "run": "ls /"}}, start)
	if err != nil {
		t.Fatal(err)
	}
	if got := told(e, "own-broken", all...); len(got) != 0 {
		t.Errorf("it fires: %+v", got)
	}
	if s := statsOf(t, e, "own-broken"); s.Looked != 1 || s.Errors != 1 || !strings.Contains(s.Error, "index") {
		t.Errorf("stats are %+v", s)
	}
}

func TestProcessesOfHostsMeetOnlyRulesOfHosts(t *testing.T) {
	const two = `rules:
- {id: own-host, hosts: true, title: t, severity: low, tactic: execution, meaning: m., on: [file.write, file.write], when: 'file.path == "/own/h"'}
- {id: own-container, title: t, severity: low, tactic: execution, meaning: m., on: [file.write], when: 'file.path == "/own/h"'}`
	e := engineWith(t, two)
	host := wrote(t, "/own/h", 0, func(ev *event.Event) { ev.WorkloadID, ev.Group = "", "" })
	if got := rulesOf(e.Observe(host)); !slices.Equal(got, []string{"own-host"}) {
		t.Errorf("of the host fire %q", got)
	}
	if s := statsOf(t, e, "own-host"); s.Looked != 1 {
		t.Errorf("a kind that is named twice is looked at %d times", s.Looked)
	}
	if s := statsOf(t, e, "own-container"); s.Looked != 0 {
		t.Errorf("stats are %+v", s)
	}
}

func TestState(t *testing.T) {
	at := func(path string, seconds ...int) (out []*event.Event) {
		for _, s := range seconds {
			out = append(out, wrote(t, path, time.Duration(s)*time.Second))
		}
		return out
	}
	times := func(e *event.Event, n uint64) *event.Event { e.Count = n; return e }
	for _, tc := range []struct {
		name, rule string
		events     []*event.Event
		want       []uint64 // counts of the threats
	}{
		{"count reaches", "own-count", at("/own/count", 0, 1, 2, 3, 4), []uint64{5}},
		{"count lacks one", "own-count", at("/own/count", 0, 1, 2, 3), nil},
		{"count begins anew after it fired", "own-count", at("/own/count", 0, 1, 2, 3, 4, 5, 6, 7, 8), []uint64{5}},
		{"count slides", "own-count", at("/own/count", 0, 1, 75, 76, 77), []uint64{5}},
		{"count forgets", "own-count", at("/own/count", 0, 30, 60, 90, 120, 150), nil},
		{"count of one event that was many", "own-count", []*event.Event{times(wrote(t, "/own/count", 0), 7)}, []uint64{7}},
		{"count though the clock steps back a little", "own-count", at("/own/count", 30, 31, 10, 32, 11), []uint64{5}},
		{"count not though it steps back a day", "own-count", at("/own/count", 86400, 86401, 0, 1, 2), nil},
		{"distinct", "own-distinct", slices.Concat(at("/own/distinct/a", 0, 1, 2), at("/own/distinct/b", 3), at("/own/distinct/c", 4)), []uint64{3}},
		{"distinct forgets", "own-distinct", slices.Concat(at("/own/distinct/a", 0), at("/own/distinct/b", 40), at("/own/distinct/c", 80)), nil},
		{"sequence", "own-sequence", slices.Concat(at("/own/one", 0), at("/own/two", 60)), []uint64{1}},
		{"sequence too late", "own-sequence", slices.Concat(at("/own/one", 0), at("/own/two", 61)), nil},
		{"sequence in the wrong order", "own-sequence", slices.Concat(at("/own/two", 0), at("/own/one", 1)), nil},
		{"sequence once for its first step", "own-sequence", slices.Concat(at("/own/one", 0), at("/own/two", 1, 2)), []uint64{1}},
		{"any order", "own-either", slices.Concat(at("/own/b", 0), at("/own/a", 1)), []uint64{1}},
		{"any order too late", "own-either", slices.Concat(at("/own/b", 0), at("/own/a", 61)), nil},
		{"first while it learns", "own-first", at("/own/first/a", 0, 3599), nil},
		{"first of what is known", "own-first", at("/own/first/a", 0, 7200), nil},
		{"first", "own-first", slices.Concat(at("/own/first/a", 0), at("/own/first/b", 3600, 3700)), []uint64{1}},
		{"first though the clock steps back", "own-first", slices.Concat(at("/own/first/a", 7200), at("/own/first/b", 0)), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			worlds++
			for _, ev := range tc.events {
				ev.AgentID += fmt.Sprint(worlds)
				ev.WorkloadID += fmt.Sprint(worlds)
				ev.Group += fmt.Sprint(worlds)
			}
			var got []uint64
			for _, th := range told(stateful(t), tc.rule, tc.events...) {
				got = append(got, th.Count)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("threats of %v times, want %v", got, tc.want)
			}
		})
	}
}

var statefulEngine *detect.Engine

func stateful(t testing.TB) *detect.Engine {
	if statefulEngine == nil {
		statefulEngine = engineWith(t, own)
	}
	return statefulEngine
}

func TestFilesAreFoundByTheirPaths(t *testing.T) {
	e := engineWith(t, own)
	tee := func(ev *event.Event) { ev.Process.Executable, ev.Process.Key.PID = "/usr/bin/tee", 7000 }
	for _, tc := range []struct {
		path        string
		want        bool
		wantProgram bool
	}{
		{"/own/files/exact", true, true},
		{"/own/files/exactly", false, false},
		{"/own/files", false, false},
		{"/own/files/folder", true, false},
		{"/own/files/folder/a/b", true, false},
		{"/own/files/a.conf", true, false},
		{"/own/files/a/b.conf", false, false},
		{"/own/files/a.config", false, false},
		{"/srv/a/own-name", true, false},
		{"/srv/own-name/b", false, false},
		{"/srv/.own/a/b", true, false},
		{"/.own/a", true, false},
		{"own-name", false, false},
		{"/tmp/x", false, true},
		{"/", false, false},
		{"", false, false},
	} {
		if got := told(e, "own-file", wrote(t, tc.path, 0, group(tc.path), func(ev *event.Event) { ev.WorkloadID = tc.path })); len(got) == 1 != tc.want {
			t.Errorf("%q: told %d times, want it: %v", tc.path, len(got), tc.want)
		}
		if got := told(e, "own-file-program", wrote(t, tc.path, 0, tee, func(ev *event.Event) { ev.WorkloadID = "t" + tc.path })); len(got) == 1 != tc.wantProgram {
			t.Errorf("%q by tee: told %d times, want it: %v", tc.path, len(got), tc.wantProgram)
		}
	}
	if s := statsOf(t, e, "own-file-program"); s.Looked != s.Hits || s.Looked == 0 {
		t.Errorf("it was held against %d events, %d of which are its own", s.Looked, s.Hits)
	}
	// A renamed file is found by its new name.
	renamed := func(from, to string) *event.Event {
		return wrote(t, from, 0, func(ev *event.Event) { ev.Kind, ev.File.To, ev.WorkloadID = event.KindFileRename, to, "renamed" })
	}
	if got := told(e, "own-file", renamed("/tmp/x", "/own/files/exact"), renamed("/own/files/folder/x", "/srv/x")); len(got) != 1 || got[0].Files[1] != "/own/files/exact" {
		t.Errorf("renames give %+v", got)
	}
}

// A count is not upset by times at which no event can have been.
func TestCountOfImpossibleTimes(t *testing.T) {
	e := engineWith(t, own)
	for _, at := range []time.Time{{}, time.Unix(0, -1), time.Unix(-20, 0), time.Unix(0, 0), time.Unix(1<<40, 0), time.Unix(-1<<40, 0)} {
		for range 3 {
			told(e, "own-count", wrote(t, "/own/count", 0, func(ev *event.Event) { ev.Time = at }))
		}
	}
	// What came before is of another time.
	if got := told(e, "own-count", wrote(t, "/own/count", 0, func(ev *event.Event) { ev.WorkloadID, ev.Count = "w2", 5 })); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

// What strangers feed makes one forget the oldest, and not grow.
func TestStateIsBounded(t *testing.T) {
	e := engineWith(t, own)
	in := func(n int) func(*event.Event) {
		return func(ev *event.Event) { ev.WorkloadID = fmt.Sprint("w", n) }
	}
	const keys = 4096
	for n := range keys + 1 {
		told(e, "own-sequence", wrote(t, "/own/one", time.Duration(n)*time.Millisecond, in(n)))
	}
	if got := told(e, "own-sequence", wrote(t, "/own/two", 5*time.Second, in(0))); len(got) != 0 {
		t.Errorf("the first of %d is still known", keys+1)
	}
	if got := told(e, "own-sequence", wrote(t, "/own/two", 5*time.Second, in(keys))); len(got) != 1 {
		t.Errorf("the newest is not known")
	}
	for n := range 2000 { // a group that writes new files all the time has no normal
		told(e, "own-first", wrote(t, fmt.Sprintf("/own/first/%d", n), time.Second))
	}
	if got := told(e, "own-first", wrote(t, "/own/first/new", 2*time.Hour)); len(got) != 0 {
		t.Errorf("it fires: %+v", got)
	}
}

func TestChangesOfOtherRules(t *testing.T) {
	const base = `
lists:
  own_places: {value: [/own/list], meaning: places}
rules:
- id: own-tuned
  title: t
  severity: low
  tactic: execution
  meaning: m.
  params:
    harmless: {type: list(string), value: [/own/tuned/a], meaning: files that are not told}
  on: [file.write]
  when: under(file.path, ["/own/tuned"]) && !(file.path in params.harmless)
- {id: own-listed, title: t, severity: low, tactic: execution, meaning: m., on: [file.write], when: 'under(file.path, lists.own_places)', about: [file.path]}
`
	try := func(e *detect.Engine, rule, path string) int { return len(told(e, rule, wrote(t, path, 0))) }
	e := engineWith(t, base, `change:
- {rule: own-tuned, severity: critical, add: {harmless: [/own/tuned/b]}}
- {rule: lists, add: {own_places: [/own/more]}}
- {rule: escape-core-pattern, off: true}`)
	if try(e, "own-tuned", "/own/tuned/a")+try(e, "own-tuned", "/own/tuned/b") != 0 || try(e, "own-tuned", "/own/tuned/c") != 1 {
		t.Error("add does not keep what there was, or has more than was added")
	}
	if try(e, "own-listed", "/own/list/x") != 1 || try(e, "own-listed", "/own/more/x") != 1 {
		t.Error("the list has not both")
	}
	if got := told(e, "escape-core-pattern", wrote(t, "/proc/sys/kernel/core_pattern", 0)); len(got) != 0 {
		t.Error("a rule that is off fires")
	}
	for _, r := range e.Rules() {
		switch r.ID {
		case "own-tuned":
			if r.Severity != finding.Critical || r.Source != threat.Written || r.Parameters[0].Value != "[/own/tuned/a, /own/tuned/b]" || r.Parameters[0].Default != "[/own/tuned/a]" {
				t.Errorf("it is told as %+v", r)
			}
		case "escape-core-pattern":
			if !r.Off || r.Source != threat.BuiltIn {
				t.Errorf("it is told as %+v", r)
			}
		}
	}
	few := []trial.Event{{"on": "network.connect", "remote": "10.0.0.9:1{n}", "error": "ECONNREFUSED", "repeat": 5}}
	for n, document := range []string{base, "change: {rule: scan-port-sweep, params: {ports: 4}}", "change: {rule: scan-port-sweep, params: {ports: 4}, off: true}", "change: {rule: scan-port-sweep, params: {ports: 4}, add: {monitors: [app]}}"} {
		if got := slices.Contains(rulesOf(observed(t, engineWith(t, document), few)), "scan-port-sweep"); got != (n == 1) {
			t.Errorf("with %s a rule in Go fires: %v", document, got)
		}
	}
	e = engineWith(t, base, `change: {rule: own-tuned, params: {harmless: []}}`)
	if try(e, "own-tuned", "/own/tuned/a") != 1 {
		t.Error("params does not set")
	}
	if got := told(e, "escape-core-pattern", wrote(t, "/proc/sys/kernel/core_pattern", 0)); len(got) != 1 {
		t.Error("what one engine's documents change reached another's")
	}
}

func TestWhatIsWrongIsToldAtItsLine(t *testing.T) {
	const head = "rules:\n- id: own-x\n  title: t\n  severity: low\n  tactic: execution\n  meaning: m.\n  on: [file.write]\n"
	for _, tc := range []struct {
		name, text string
		line       int
		says       string
	}{
		{"no YAML", "rules: [", 1, ""},
		{"unknown field", "rulez: []", 1, `no field "rulez"`},
		{"unknown kind", "rules:\n- {id: x, title: t, severity: low, tactic: execution, meaning: m,\n   on: [file.eaten]}", 3, "file.eaten"},
		{"condition", head + "  when: file.pathh == \"x\"", 8, `no "file.pathh"`},
		{"condition on more lines", head + "  when: |\n    file.path == \"x\"\n    && file.size > 3", 10, ""},
		{"condition that is a text", head + "  when: file.path", 8, "must be true or false"},
		{"field of another kind", head + "  when: exec.deleted", 8, "exec.deleted"},
		{"files that nothing finds", head + "  files: [/etc/x,\n    \"**/*.so\"]", 8, "can't be found by \"**/*.so\""},
		{"files of what has none", strings.Replace(head, "file.write", "process.exec", 1) + "  files: [/etc]", 8, "never there"},
		{"says", head + "  says: \"{file.nothing}\"", 8, "file.nothing"},
		{"count without within", head + "  count: {by: process,\n    reaches: 3}", 8, "lacks within"},
		{"too long a span", head + "  count: {by: process, reaches: 3,\n    within: 48h}", 9, "length of time"},
		{"twice", head + "- id: escape-core-pattern\n  title: t\n  severity: low\n  tactic: execution\n  meaning: m.\n  on: [file.write]\n", 8, "there is a rule escape-core-pattern already"},
		{"change of no rule", "change:\n- {rule: nothing, off: true}", 2, `no rule "nothing"`},
		{"change of no parameter", "change:\n- rule: escape-kernel-knob\n  add:\n    nothing: [x]", 4, `no parameter "nothing"`},
		{"change to another type", "change:\n- rule: escape-kernel-knob\n  params:\n    harmless: {a: b}", 4, "harmless"},
		{"a value that a rule in Go can't have", "change:\n- rule: scan-port-sweep\n  params:\n    open: 50\n    ports: 0", 5, "parameter ports is \"0\": want a number from 2"},
		{"a port that is none", "change:\n- rule: network-flooding\n  add:\n    collectors: [http]", 4, "collectors"},
		{"a type that a rule in Go does not take", "change:\n- {rule: scan-port-sweep, params: {ports: many}}", 2, "ports"},
		{"off is a text", "change:\n- rule: escape-kernel-knob\n  off: nein", 3, "neither true nor false"},
		{"silence without reason", "silence:\n- {rule: x, until: 2027-01-01}", 2, "lacks reason"},
		{"silence without end", "silence:\n- {rule: x, reason: r}", 2, "lacks until"},
		{"silence until whenever", "silence:\n- {rule: x, reason: r,\n   until: soon}", 3, "no date"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := written.ProblemsOf(detect.Check([]detect.Text{{Name: "own.yaml", Body: []byte(tc.text)}}))
			if len(p) == 0 {
				t.Fatal("nothing is wrong")
			}
			if p[0].File != "own.yaml" || p[0].Line != tc.line || !strings.Contains(p[0].Text, tc.says) {
				t.Errorf("it says %v, want line %d and %q", p[0], tc.line, tc.says)
			}
		})
	}
}

func TestBrokenDocumentsAreToldTogether(t *testing.T) {
	broken := func(name, text string) detect.Text { return detect.Text{Name: name, Body: []byte(text)} }
	filesOf := func(err error) (out []string) {
		for _, p := range written.ProblemsOf(err) {
			out = append(out, p.File)
		}
		return out
	}
	_, err := detect.New([]detect.Text{broken("a.yaml", "rules: ["), broken("b.yaml", own), broken("c.yaml", "rulez: []\nmore: 1")})
	if got := filesOf(err); !slices.Equal(got, []string{"a.yaml", "c.yaml", "c.yaml"}) {
		t.Errorf("unreadable: problems of %q: %v", got, err)
	}
	err = detect.Check([]detect.Text{broken("a.yaml", "change: {rule: nothing}"), broken("b.yaml", own), broken("c.yaml", "change: {rule: nobody}")})
	if got := filesOf(err); !slices.Equal(got, []string{"a.yaml", "c.yaml"}) {
		t.Errorf("readable: problems of %q: %v", got, err)
	}
}

// A guard that only tells says of each connection that it was asked for, before the
// sensor says that nobody answered. That makes no scan one of peers that answer.
func TestWhatAGuardTellsOfIsNoAnswer(t *testing.T) {
	e, err := detect.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	fired := false
	for host := range 8 {
		for _, port := range []string{"22", "80", "3306", "6379"} {
			all, err := trial.Events([]trial.Event{{"on": "network.connect", "exe": "/bin/bash", "pid": 200 + host, "remote": fmt.Sprintf("10.0.0.%d:%s", host+2, port), "error": "ECONNREFUSED"}}, start.Add(time.Duration(host)*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			asked := *all[0]
			connection := *asked.Connection
			connection.Error = ""
			asked.Connection, asked.Reaction = &connection, event.ReactionAudited
			for _, ev := range []*event.Event{&asked, all[0]} {
				for _, x := range e.Observe(ev) {
					fired = fired || x.Rule == "scan-host-sweep"
				}
			}
		}
	}
	if !fired {
		t.Error("a scan of a group that is monitored is not found")
	}
}
