package pattern_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

var start = time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)

func TestSpread(t *testing.T) {
	var s pattern.Spread
	const most = 10
	for i := range 5 {
		s.Add(uint64(i), start.Add(time.Duration(i)*10*time.Second), time.Minute, most)
	}
	if n := s.Add(4, start.Add(45*time.Second), time.Minute, most); n != 5 {
		t.Errorf("five values, one of them twice, are %d", n)
	}
	if n := s.Add(9, start.Add(95*time.Second), time.Minute, most); n != 2 || s.Has(0) || !s.Has(4) {
		t.Errorf("of the minute before there are %d, want 2", n)
	}
	for i := range 100 {
		s.Add(uint64(100+i), start.Add(95*time.Second), time.Minute, most)
	}
	if s.Len() != most {
		t.Errorf("%d are remembered, want %d", s.Len(), most)
	}
	if n := s.Add(7, start, time.Minute, most); n != most {
		t.Errorf("though the clock stepped back there are %d", n)
	}
}

func TestRate(t *testing.T) {
	counted := func(n uint64, lasts time.Duration) *event.Event {
		return &event.Event{Time: start, Last: start.Add(lasts), Count: n}
	}
	for _, tc := range []struct {
		name   string
		event  *event.Event
		within time.Duration
		want   uint64
	}{
		{"once", &event.Event{Time: start}, 10 * time.Second, 1},
		{"a count of five seconds", counted(500, 5*time.Second), 10 * time.Second, 500},
		{"a count of a minute is not all of the last ten seconds", counted(600, time.Minute), 10 * time.Second, 100},
		{"but of the last hour", counted(600, time.Minute), time.Hour, 600},
		{"its end before its beginning", counted(600, -time.Minute), 10 * time.Second, 600},
	} {
		var r pattern.Rate
		if got := r.AddEvent(tc.event, tc.within); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	var r pattern.Rate
	for i := range 20 {
		r.Add(start.Add(time.Duration(i)*time.Second), 8*time.Second, 1)
	}
	if got := r.Add(start.Add(20*time.Second), 8*time.Second, 0); got != 7 {
		t.Errorf("one a second is %d in eight seconds of which the last has begun", got)
	}
	if got := r.Add(start.Add(-time.Minute), 8*time.Second, 3); got != 3 {
		t.Errorf("what comes a minute late is %d", got)
	}
	if got := r.Add(start.Add(20*time.Second), 8*time.Second, 0); got != 7 {
		t.Errorf("after something came late it is %d", got)
	}
	if got := r.Add(start.Add(-time.Hour), 8*time.Second, 1); got != 1 {
		t.Errorf("after the clock stepped back it is %d", got)
	}
	for _, at := range []time.Time{{}, time.Unix(1<<40, 0), time.Unix(-1<<40, 0)} {
		r.Add(at, time.Nanosecond, 1)
	}
}

func TestWhatIsNewToAGroup(t *testing.T) {
	k := pattern.NewKnown()
	at := func(after time.Duration, group, workload string) *event.Event {
		return &event.Event{AgentID: "a", Group: group, WorkloadID: workload, Time: start.Add(after)}
	}
	k.Age(at(0, "g", "w1"), "1")
	if got := k.Age(at(2*time.Hour, "g", "w2"), "2"); got != 2*time.Hour {
		t.Errorf("another container of the group learns anew: %s", got)
	}
	if got := k.Age(at(9*time.Hour, "g", "w1"), "2"); got != 2*time.Hour {
		t.Errorf("a value's age moves: %s", got)
	}
	if got := k.Age(at(9*time.Hour, "", "w1"), "2"); got != 0 {
		t.Errorf("what has no group is in another's: %s", got)
	}
	memory, err := k.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if k = pattern.NewKnown(); k.Remember(memory) != nil {
		t.Fatalf("%s is not taken up", memory)
	}
	if got := k.Age(at(10*time.Hour, "g", "w3"), "2"); got != 2*time.Hour {
		t.Errorf("a value's age is not remembered: %s", got)
	}
	if got := k.Age(at(10*time.Hour, "g", "w3"), "3"); got != 10*time.Hour {
		t.Errorf("since when the group is known is not remembered: %s", got)
	}
	for _, hostile := range []string{"", "{", `[{"key":{"id":"g"},"value":null}]`, `[{"key":{"id":"g"},"value":{"since":"2026-01-01T00:00:00Z"}}]`} {
		k := pattern.NewKnown()
		_ = k.Remember([]byte(hostile)) // whatever it is, the next must not fail at it
		if got := k.Age(at(9*time.Hour, "g", "w1"), "2"); got != 0 {
			t.Errorf("%q: a group that nothing is known of is %s old", hostile, got)
		}
	}
	for i := range 5000 {
		k.Age(at(time.Hour, "many", "w"), fmt.Sprint(i))
	}
	if got := k.Age(at(9*time.Hour, "many", "w"), "9999"); got != 0 {
		t.Errorf("a group with very many values has a normal: %s", got)
	}
}

func TestForeignProcesses(t *testing.T) {
	tr, f := tree.New(), pattern.NewForeign()
	exec := func(pid, parent uint32, file string, origin event.Origin) *tree.Process {
		e := &event.Event{AgentID: "a", WorkloadID: "w", Kind: event.KindExec, Time: start, Exec: &event.Exec{Origin: origin, Args: []string{file}},
			Process: event.Process{Key: event.Key{PID: pid, Start: 1}, Parent: event.Key{PID: parent, Start: 1}, Executable: file}}
		f.Exec(e)
		return tr.Observe(e)
	}
	fork := func(pid, parent uint32, file string) *tree.Process {
		return tr.Observe(&event.Event{AgentID: "a", WorkloadID: "w", Kind: event.KindFork, Time: start,
			Process: event.Process{Key: event.Key{PID: pid, Start: 1}, Parent: event.Key{PID: parent, Start: 1}, Executable: file}})
	}
	is := func(p *tree.Process) bool { return f.Is(tr, "a", p, start) }
	image, written := exec(1, 0, "/bin/sh", event.OriginImage), exec(2, 1, "/tmp/x", event.OriginWritten)
	if is(image) || !is(written) || !is(exec(3, 1, "/memfd:x", event.OriginMemory)) || is(exec(4, 1, "/x", event.OriginUnknown)) || is(exec(5, 1, "/srv/x", event.OriginMount)) {
		t.Error("what did not come with the image is what was written or is in memory")
	}
	if child := fork(10, 2, "/tmp/x"); !is(child) || !is(fork(11, 10, "/tmp/x")) {
		t.Error("copies of a foreign process are not")
	}
	if is(exec(10, 2, "/bin/ls", event.OriginImage)) {
		t.Error("what it runs of the image is")
	}
	if is(exec(2, 1, "/bin/ls", event.OriginImage)) {
		t.Error("it still is after it executed something of the image")
	}
}

func TestValues(t *testing.T) {
	r := pattern.Rule(threat.Rule{ID: "x"}, pattern.Int("n", 5, "a number"), pattern.Double("d", 0.5, "a share"), pattern.Duration("s", 90*time.Second, "a while"),
		pattern.List("l", "texts", "a", "b c"), pattern.List("none", "texts"), pattern.List("p", "ports", "80", "443"))
	v := pattern.ValuesOf(r)
	if v.Int("n", 1, 9) != 5 || v.Double("d", 0, 1) != 0.5 || v.Duration("s", time.Hour) != 90*time.Second || len(v.List("l")) != 2 || !v.Set("l")["b c"] || v.List("none") != nil || !v.Ports("p")[443] || v.Err() != nil {
		t.Errorf("parameters are not what was set: %v", v.Err())
	}
	if r.Source != threat.BuiltIn || !r.Code {
		t.Errorf("the rule is %+v", r)
	}
	for name, ask := range map[string]func(*pattern.Values){
		"too little":     func(v *pattern.Values) { v.Int("n", 6, 9) },
		"too much":       func(v *pattern.Values) { v.Int("n", 1, 4) },
		"too long":       func(v *pattern.Values) { v.Duration("s", time.Minute) },
		"no share":       func(v *pattern.Values) { v.Double("d", 0.6, 1) },
		"no ports":       func(v *pattern.Values) { v.Ports("l") },
		"no number":      func(v *pattern.Values) { v.Int("l", 0, 9) },
		"no such":        func(v *pattern.Values) { v.Int("zzz", -1, 9) },
		"no such, again": func(v *pattern.Values) { v.List("zzz") },
	} {
		v := pattern.ValuesOf(r)
		if ask(v); v.Err() == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

func TestPaths(t *testing.T) {
	for path, want := range map[string][3]string{
		"/srv/a.JPG":                        {"/srv", "a.JPG", "jpg"},
		"/srv/a.jpg.locked":                 {"/srv", "a.jpg.locked", "locked"},
		"/srv/.hidden":                      {"/srv", ".hidden", ""},
		"/srv/v1.2/file":                    {"/srv/v1.2", "file", ""},
		"file.":                             {"", "file.", ""},
		"/":                                 {"", "", ""},
		"":                                  {"", "", ""},
		"/x.aVeryLongTextThatIsNoExtension": {"", "x.aVeryLongTextThatIsNoExtension", ""},
	} {
		if got := [3]string{pattern.Folder(path), pattern.Name(path), pattern.Extension(path)}; got != want {
			t.Errorf("%q is %q, want %q", path, got, want)
		}
	}
	names := map[string]bool{"cache": true}
	for path, want := range map[string]bool{"/var/cache/x": true, "/cache/x": true, "/srv/cache": false, "/srv/mycache/x": false, "": false, "cache/x": true} {
		if got := pattern.AnyFolder(path, names); got != want {
			t.Errorf("AnyFolder(%q) = %v", path, got)
		}
	}
}

func TestPeersInVainAndThoseThatAnswered(t *testing.T) {
	for name, want := range map[string]bool{"": false, "ECONNREFUSED": true, "ETIMEDOUT": true, "ECANCELED": true, "EHOSTUNREACH": true, "EPERM": true, "ENETUNREACH": false, "EINPROGRESS": false, "EMFILE": false} {
		if got := pattern.Vain(&event.Connection{Error: name}); got != want {
			t.Errorf("Vain(%s) = %v", name, got)
		}
	}
	a := pattern.NewAnswered()
	to := func(group, peer string, after time.Duration) *event.Event {
		return &event.Event{AgentID: "a", WorkloadID: fmt.Sprint(group, after), Group: group, Time: start.Add(after), Connection: &event.Connection{Remote: netip.MustParseAddrPort(peer)}}
	}
	a.Note(to("g", "10.0.0.1:80", 0))
	if !a.Has(to("g", "10.0.0.1:80", time.Hour)) || !a.Has(to("g", "[::ffff:10.0.0.1]:80", time.Hour)) {
		t.Error("it is forgotten within an hour, or for another container of the group")
	}
	if a.Has(to("g", "10.0.0.1:81", 0)) || a.Has(to("h", "10.0.0.1:80", 0)) || a.Has(to("g", "10.0.0.1:80", 48*time.Hour)) {
		t.Error("another port, group or day has it")
	}
}

func TestEnds(t *testing.T) {
	ends := []string{".example.com", "203.0.113.9", "."}
	for name, want := range map[string]bool{"a.example.com": true, "example.com": true, "badexample.com": false, "203.0.113.9": true, "x": false, "": false} {
		if got := pattern.EndsAny(name, ends); got != want {
			t.Errorf("EndsAny(%q) = %v", name, got)
		}
	}
}

func TestWhoIsNamedBriefly(t *testing.T) {
	for want, p := range map[string]tree.Process{
		"nmap -sT db":                         {Line: "nmap -sT db", Program: "nmap"},
		"python3 -c import socket for p in x": {Line: "python3 -c\n import socket\n\tfor p in x"},
		"nginx":                               {Program: "nginx"},
		"a process":                           {},
		strings.Repeat("ü", 40) + "…":         {Line: strings.Repeat("ü", 90)},
		strings.Repeat("a", 79) + "…":         {Line: strings.Repeat("a", 79) + "ü"},
	} {
		if got := pattern.Brief(&p); got != want {
			t.Errorf("%q is %q, want %q", p.Line, got, want)
		}
	}
}
