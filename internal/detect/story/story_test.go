package story_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/detect/story"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/threat"
)

var start = time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

// now is when all threats of a test were heard of.
var now = at(23 * time.Hour)

func key(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid) * 1000} }

func container(n int) string { return fmt.Sprintf("%064d", n) }

// act is a threat in short.
type act struct {
	rule      string
	at        time.Duration
	container int
	root      uint32
	peer      string
	severity  finding.Severity
	tactic    threat.Tactic
	about     string
	count     uint64
}

func (a act) threat() *threat.Threat {
	when := at(a.at)
	t := &threat.Threat{
		Version: threat.Version, Rule: a.rule, Title: "Title of " + a.rule, Severity: max(a.severity, finding.Medium), Tactic: a.tactic,
		Summary: a.rule + " happened", First: when, Last: when, Count: max(a.count, 1), AgentID: "agent", Group: "shop/web/nginx",
		Process: event.Process{Key: key(a.root), Name: "sh", Executable: "/bin/sh"}, Root: key(a.root),
		Evidence: []threat.Evidence{{Boot: "b", Seq: uint64(a.at), Time: when, Kind: event.KindExec, Words: "ran /bin/sh"}},
	}
	if a.container != 0 {
		t.WorkloadID = container(a.container)
	}
	if a.root == 0 {
		t.Root = event.Key{}
	}
	if a.peer != "" {
		t.Peers = []threat.Peer{{Address: netip.MustParseAddrPort(a.peer), Peer: event.Peer{Kind: event.PeerPublic}}}
	}
	t.Print = threat.PrintOf(t.Rule, t.AgentID, t.WorkloadID, t.Root, a.about)
	return t
}

// stories takes acts, and returns the rules of each story, in order.
func stories(acts ...act) [][]string {
	b := story.NewBook()
	found := map[*story.Story]bool{}
	for _, a := range acts {
		if s := b.Take(a.threat(), now); s != nil {
			found[s] = true
		}
	}
	var out [][]string
	n := 0
	for s := range found {
		if b.Has(s) {
			out = append(out, rulesOf(s.Incident(now)))
			n++
		}
	}
	if n != b.Len() {
		panic("stories were lost")
	}
	slices.SortFunc(out, func(a, b []string) int { return strings.Compare(strings.Join(a, " "), strings.Join(b, " ")) })
	return out
}

func rulesOf(i *threat.Incident) (out []string) {
	for _, f := range i.Rules {
		out = append(out, f.Rule)
	}
	slices.Sort(out)
	return out
}

func TestWhatIsOneStory(t *testing.T) {
	const peer = "203.0.113.9:4444"
	for _, tc := range []struct {
		name string
		acts []act
		want [][]string
	}{
		{"one tree", []act{{rule: "a", root: 7, container: 1}, {rule: "b", root: 7, container: 1, at: 29 * time.Minute}}, [][]string{{"a", "b"}}},
		{"one tree, too late", []act{{rule: "a", root: 7, container: 1}, {rule: "b", root: 7, container: 1, at: 31 * time.Minute}}, [][]string{{"a"}, {"b"}}},
		{"one container", []act{{rule: "a", root: 7, container: 1}, {rule: "b", root: 8, container: 1, at: 9 * time.Minute}}, [][]string{{"a", "b"}}},
		{"one container, too late", []act{{rule: "a", root: 7, container: 1}, {rule: "b", root: 8, container: 1, at: 11 * time.Minute}}, [][]string{{"a"}, {"b"}}},
		{"step by step", []act{
			{rule: "a", root: 7, container: 1}, {rule: "b", root: 8, container: 1, at: 9 * time.Minute}, {rule: "c", root: 9, container: 1, at: 18 * time.Minute},
		}, [][]string{{"a", "b", "c"}}},
		{"another container", []act{{rule: "a", root: 7, container: 1}, {rule: "b", root: 8, container: 2}}, [][]string{{"a"}, {"b"}}},
		{"one peer of two containers", []act{{rule: "a", root: 7, container: 1, peer: peer}, {rule: "b", root: 8, container: 2, peer: "203.0.113.9:80"}}, [][]string{{"a", "b"}}},
		{"a peer of the host itself", []act{{rule: "a", root: 7, container: 1, peer: "127.0.0.1:80"}, {rule: "b", root: 8, container: 2, peer: "127.0.0.1:80"}}, [][]string{{"a"}, {"b"}}},
		{"the metadata service", []act{{rule: "a", root: 7, container: 1, peer: "169.254.169.254:80"}, {rule: "b", root: 8, container: 2, peer: "169.254.169.254:80"}}, [][]string{{"a"}, {"b"}}},
		{"the host, two trees", []act{{rule: "a", root: 7}, {rule: "b", root: 8}}, [][]string{{"a"}, {"b"}}},
		{"a late report ties two", []act{
			{rule: "a", root: 7, container: 1}, {rule: "c", root: 9, container: 1, at: 15 * time.Minute}, {rule: "b", root: 8, container: 1, at: 8 * time.Minute},
		}, [][]string{{"a", "b", "c"}}},
		{"what ties comes by a third", []act{
			{rule: "a", root: 7, container: 1, peer: peer}, {rule: "b", root: 8, container: 2, at: 15 * time.Minute, peer: peer}, {rule: "c", root: 7, container: 1, at: 9 * time.Minute},
		}, [][]string{{"a", "b", "c"}}},
		{"the same thing hours later", []act{{rule: "a", root: 7, container: 1}, {rule: "a", root: 7, container: 1, at: 5 * time.Hour}}, [][]string{{"a"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, stories(tc.acts...)); d != "" {
				t.Errorf("stories (-want +got):\n%s", d)
			}
		})
	}
}

func TestOneContainerReachesAnother(t *testing.T) {
	b := story.NewBook()
	scan := act{rule: "scan", root: 7, container: 1}.threat()
	scan.Peers = []threat.Peer{{Address: netip.MustParseAddrPort("10.0.0.2:6379"), Peer: event.Peer{Kind: event.PeerWorkload, WorkloadID: container(2)}}}
	other := act{rule: "other-scan", root: 9, container: 3}.threat()
	other.Peers = scan.Peers
	first := b.Take(scan, now)
	if b.Take(other, now) == first {
		t.Error("two that reach one container are one story, though nothing happened in it")
	}
	if s := b.Take(act{rule: "shell", root: 8, container: 2}.threat(), now); b.Len() != 1 || len(s.Incident(now).Workloads) != 3 {
		t.Errorf("%d stories, workloads %v", b.Len(), s.Incident(now).Workloads)
	}
}

// TestTheOrderOfArrivalDoesNotMatter holds what reports in any order make against
// what they make in the order of time.
func TestTheOrderOfArrivalDoesNotMatter(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		inOrder(t, r, 2+r.IntN(30))
	}
}

func FuzzOrder(f *testing.F) {
	f.Add(uint64(1), uint8(10))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) { inOrder(t, rand.New(rand.NewPCG(seed, 2)), 2+int(n)%60) })
}

func inOrder(t *testing.T, r *rand.Rand, n int) {
	t.Helper()
	var acts []act
	for i := range n {
		a := act{rule: fmt.Sprintf("r%02d", i), at: time.Duration(r.IntN(300)) * time.Minute, container: 1 + r.IntN(4), root: uint32(1 + r.IntN(8))}
		if r.IntN(4) == 0 {
			a.peer = fmt.Sprintf("203.0.113.%d:443", r.IntN(3))
		}
		acts = append(acts, a)
		if r.IntN(5) == 0 { // a repeat
			a.at += time.Duration(r.IntN(200)) * time.Minute
			acts = append(acts, a)
		}
	}
	want := stories(acts...)
	for range 3 {
		r.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
		if d := cmp.Diff(want, stories(acts...)); d != "" {
			t.Fatalf("another order, other stories (-want +got):\n%s\n%+v", d, acts)
		}
	}
}

func TestRepeatsCountUpOnce(t *testing.T) {
	b := story.NewBook()
	first := act{rule: "a", root: 7, container: 1, count: 1}
	again := act{rule: "a", root: 7, container: 1, at: time.Minute, count: 40}
	s := b.Take(first.threat(), now)
	b.Take(again.threat(), now)
	if b.Take(again.threat(), now) != nil || b.Take(first.threat(), now) != nil {
		t.Error("what an agent told twice was taken twice")
	}
	i := s.Incident(now)
	if i.Count != 41 || len(i.Timeline) != 1 || i.Timeline[0].Count != 41 || len(i.Timeline[0].Evidence) != 2 || i.Rules[0].Count != 41 {
		t.Errorf("count %d, timeline %+v", i.Count, i.Timeline)
	}
	if !i.Opened.Equal(at(0)) || !i.Last.Equal(at(time.Minute)) {
		t.Errorf("from %v to %v", i.Opened, i.Last)
	}
}

func TestSeverityOfAChain(t *testing.T) {
	for _, tc := range []struct {
		name    string
		tactics []threat.Tactic
		want    finding.Severity
	}{
		{"one", []threat.Tactic{threat.Execution}, finding.Medium},
		{"two", []threat.Tactic{threat.Execution, threat.CommandAndControl}, finding.Medium},
		{"a chain", []threat.Tactic{threat.Execution, threat.Discovery, threat.CommandAndControl}, finding.High},
		{"without an aim", []threat.Tactic{threat.Execution, threat.Discovery, threat.Persistence, threat.DefenseEvasion}, finding.Medium},
		{"without a beginning", []threat.Tactic{threat.Discovery, threat.CredentialAccess, threat.Exfiltration}, finding.Medium},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := story.NewBook()
			var s *story.Story
			for i, tactic := range tc.tactics {
				s = b.Take(act{rule: fmt.Sprint("r", i), root: 7, container: 1, tactic: tactic}.threat(), now)
			}
			if got := s.Incident(now).Severity; got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestClocksThatWereSet(t *testing.T) {
	for _, tc := range []struct {
		name string
		by   time.Duration // of the clock, from what is right
	}{{"ahead by years", 50 * 365 * 24 * time.Hour}, {"back by years", -50 * 365 * 24 * time.Hour}} {
		t.Run(tc.name, func(t *testing.T) {
			b := story.NewBook()
			wrong := act{rule: "a", root: 7, container: 1, at: tc.by}.threat()
			s := b.Take(wrong, start)
			if o := b.Take(act{rule: "b", root: 7, container: 1}.threat(), start); o != s {
				t.Error("what happened now is another story than what is said to have happened then")
			}
			if i := s.Incident(start); !i.Opened.Equal(start) || !i.Last.Equal(start) {
				t.Errorf("from %v to %v, want both when it was heard of", i.Opened, i.Last)
			}
		})
	}
}

func TestAStoryEndsAfterADay(t *testing.T) {
	b := story.NewBook()
	made := map[*story.Story]bool{}
	for i := range 60 { // every half hour for thirty hours
		when := time.Duration(i) * 30 * time.Minute
		made[b.Take(act{rule: "a", root: 7, container: 1, at: when}.threat(), at(when))] = true
	}
	if len(made) != 2 {
		t.Fatalf("%d stories of 30 hours, want 2", len(made))
	}
	for s := range made {
		if i := s.Incident(now); i.Last.Sub(i.Opened) > threat.MaxOpenedFor {
			t.Errorf("one lasts %v", i.Last.Sub(i.Opened))
		}
	}
}

func TestResolvedOnesRecur(t *testing.T) {
	for _, tc := range []struct {
		name     string
		resolved time.Duration
		again    time.Duration
		state    threat.State // of the first story
		one      bool
	}{
		{"soon", 5 * time.Minute, 10 * time.Minute, threat.Reopened, true},
		{"what happened before", 5 * time.Minute, 4 * time.Minute, threat.Resolved, true},
		{"within a day, the same", 5 * time.Minute, 20 * time.Hour, threat.Reopened, true},
		{"long after", 5 * time.Minute, 25 * time.Hour, threat.Resolved, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := story.NewBook()
			s := b.Take(act{rule: "a", root: 7, container: 1}.threat(), at(0))
			b.Known(s, 1, 1)
			i := s.Incident(at(0))
			done := at(tc.resolved)
			i.State, i.Resolved, i.Resolution = threat.Resolved, &done, threat.Test
			s.Live(i)
			again := b.Take(act{rule: "a", root: 7, container: 1, at: tc.again}.threat(), at(tc.again))
			got := s.Incident(now)
			if got.State != tc.state || (again == s) != tc.one || s.Recurred() != (tc.state == threat.Reopened) {
				t.Errorf("state %s, one story: %v", got.State, again == s)
			}
			if tc.state == threat.Reopened && (got.Reopened != 1 || got.Resolved != nil || !strings.Contains(got.Timeline[1].Text, "again")) {
				t.Errorf("reopened %d times, timeline %+v", got.Reopened, got.Timeline)
			}
		})
	}
}

func TestViolations(t *testing.T) {
	violation := func(m profile.Mode, r event.Reaction, when time.Duration) *profile.Violation {
		return &profile.Violation{Group: asset.Group("shop/web/nginx"), Fingerprint: "f", Control: profile.ControlExec, Kind: event.KindExec, Reaction: r, Mode: m,
			Subject: "/tmp/x", Program: "/usr/sbin/nginx", Sentence: "nginx ran /tmp/x", WorkloadID: container(1), AgentID: "agent", Count: 1, First: at(when), Last: at(when)}
	}
	b := story.NewBook()
	if b.TakeViolation(violation(profile.Monitor, event.ReactionNone, time.Minute), now) != nil || b.Len() != 0 {
		t.Fatal("what was only seen is an incident of its own")
	}
	s := b.Take(act{rule: "a", root: 7, container: 1}.threat(), now)
	if i := s.Incident(now); len(i.Timeline) != 2 || i.Timeline[1].Kind != threat.EntryViolation || i.Severity != finding.Medium || !i.Last.Equal(at(0)) {
		t.Errorf("a violation before its threat: last %v, %+v", i.Last, i.Timeline)
	}
	if b.TakeViolation(violation(profile.Monitor, event.ReactionNone, 2*time.Minute), now) != s {
		t.Error("a violation after its threat is not of its story")
	}
	b = story.NewBook()
	s = b.TakeViolation(violation(profile.Protect, event.ReactionKilled, 0), now)
	if i := s.Incident(now); i.Severity != finding.Low || i.Reaction != event.ReactionKilled || !strings.HasSuffix(i.Story, "the kernel killed it.") {
		t.Errorf("what the kernel killed: %s: %s", i.Severity, i.Story)
	}
}

func TestRestore(t *testing.T) {
	b := story.NewBook()
	s := b.Take(act{rule: "a", root: 7, container: 1, tactic: threat.Execution}.threat(), now)
	s.Note(threat.Entry{Time: at(time.Second), Kind: threat.EntryComment, Text: "I look", By: "user:anna"})
	b.Known(s, 9, 3)
	kept, err := s.Memory()
	if err != nil {
		t.Fatal(err)
	}
	want := s.Incident(now)
	other := story.NewBook()
	again, err := other.Restore(want, kept)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, again.Incident(now), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Errorf("restored (-want +got):\n%s", d)
	}
	if other.Take(act{rule: "a", root: 7, container: 1}.threat(), now) != nil {
		t.Error("what was told before the restart was taken again")
	}
	if other.Take(act{rule: "b", root: 8, container: 1}.threat(), now) != again {
		t.Error("the restored story has lost its links")
	}
}

func TestBoundsOfAStory(t *testing.T) {
	b := story.NewBook()
	var s *story.Story
	const all = 5_000
	long := strings.Repeat("ä", threat.MaxText)
	for i := range all {
		v := act{rule: fmt.Sprintf("r%d", i%400), root: 7, container: 1, about: fmt.Sprint(i), at: time.Duration(i) * time.Millisecond}.threat()
		v.Techniques = []string{fmt.Sprintf("T%d", 1000+i%100)}
		v.Summary, v.Args, v.Files = long, []string{long}, []string{fmt.Sprint("/tmp/", i)}
		s = b.Take(v, now)
	}
	i := s.Incident(now)
	kept, err := s.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if i.Count != all || len(i.Timeline) > threat.MaxTimeline || len(i.Rules) > threat.MaxMembers || i.LeftOut+uint64(len(i.Timeline)) != all || len(kept) > 256<<10 {
		t.Errorf("count %d, %d in the timeline, %d rules, %d left out, %d bytes", i.Count, len(i.Timeline), len(i.Rules), i.LeftOut, len(kept))
	}
	if len(i.Techniques) != 100 {
		t.Errorf("%d techniques: those of what found no room are missing", len(i.Techniques))
	}
}

func TestWhatIsMadeUpLeavesRoom(t *testing.T) {
	b := story.NewBook()
	var s *story.Story
	for i := range 2_000 {
		a := act{rule: "a", root: 7, container: 1, about: fmt.Sprint(i), peer: fmt.Sprintf("203.0.%d.%d:443", i/200, i%200)}
		s = b.Take(a.threat(), now)
	}
	// The container reaches another one after all that, and there it goes on.
	reach := act{rule: "b", root: 8, container: 2, peer: "203.0.0.1:443"}.threat()
	if b.Take(reach, now) != s || b.Take(act{rule: "c", root: 9, container: 2}.threat(), now) != s {
		t.Error("a story that has many things and peers has no room for another container")
	}
}

func TestAHost(t *testing.T) {
	b := story.NewBook()
	v := act{rule: "a", root: 7}.threat()
	v.Group = ""
	i := b.Take(v, now).Incident(now)
	if i.Title != "Title of a, on host agent" || i.Story != "On host agent, a happened." {
		t.Errorf("%q, %q", i.Title, i.Story)
	}
}

func TestForgetting(t *testing.T) {
	b := story.NewBook()
	for i := range story.MaxStories + 10 {
		b.Take(act{rule: "a", root: uint32(i + 1), container: i + 1, at: time.Duration(i) * time.Second}.threat(), now)
	}
	b.Forget(at(time.Hour))
	if b.Len() != story.MaxStories {
		t.Errorf("%d stories, want %d", b.Len(), story.MaxStories)
	}
	b.Forget(at(100 * time.Hour))
	if b.Len() != 0 {
		t.Errorf("%d stories after days", b.Len())
	}
}
