package rehearse_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/rehearse"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func each(events []event.Event) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func ran(at time.Duration, workload, file string, origin event.Origin) event.Event {
	return event.Event{Time: start.Add(at), WorkloadID: workload, AgentID: "host-" + workload, Kind: event.KindExec, Process: event.Process{Executable: file, Parent: event.Key{PID: 1, Start: 1}},
		Exec: &event.Exec{Origin: origin, Ancestors: []event.Ancestor{{Executable: "/app"}}}}
}

func wrote(at time.Duration, workload, path string) event.Event {
	return event.Event{Time: start.Add(at), WorkloadID: workload, AgentID: "host-" + workload, Kind: event.KindFileWrite, File: &event.File{Path: path}}
}

// jumped are events that a server had within a minute, whatever the host's clock says.
func jumped(events []event.Event) []event.Event {
	for i := range events {
		events[i].Received = start.Add(time.Duration(i) * time.Second)
	}
	return events
}

// What one program did to many files of a folder is one case, as it is one violation.
func TestManyFilesOfAFolderAreOneCase(t *testing.T) {
	var events []event.Event
	for i := range 8 {
		workload := string(rune('a' + i%2))
		events = append(events, wrote(time.Duration(i)*time.Hour, workload, fmt.Sprintf("/srv/new/obj%d/%s.o", i, workload)))
	}
	events = append(events, wrote(0, "a", "/srv/new/obj2/a.o"))
	for _, n := range []int{profile.MaxApart, len(events)} {
		r, err := rehearse.Run(&profile.Profile{Group: "g", Writes: []profile.File{{Path: "/srv/old/**"}}}, each(events[:n]), rehearse.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n == profile.MaxApart {
			if len(r.Cases) != n {
				t.Errorf("few files are %d cases, want %d", len(r.Cases), n)
			}
			continue
		}
		if len(r.Cases) != 1 {
			t.Fatalf("%d cases, want one: %+v", len(r.Cases), r.Cases)
		}
		c := r.Cases[0]
		if c.Subject != "/srv/new" || c.Count != uint64(n) || c.Workloads != 2 || c.Hosts != 2 || c.Judgement != rehearse.Wrong || !c.First.Equal(start) || !c.Last.Equal(start.Add(7*time.Hour)) || r.Blocked != uint64(n) {
			t.Errorf("%+v", c)
		}
	}
}

func TestWouldItHaveBeenWrong(t *testing.T) {
	const hour = time.Hour
	nightly := func() (out []event.Event) {
		for d := range 6 {
			out = append(out, ran(time.Duration(d)*24*hour, "a", "/usr/bin/pg_dump", event.OriginImage))
		}
		return out
	}
	for _, tc := range []struct {
		name   string
		events []event.Event
		want   []string // cases
		says   string
	}{
		{"nothing", nil, nil, "There were no events of the group in this time: the rehearsal says nothing."},
		{"what is normal", []event.Event{wrote(0, "a", "/data/x")}, nil, "Of 1 events nothing would have been blocked."},
		{"nightly job", nightly(), []string{"wrong /usr/bin/pg_dump ×6 blocked true"}, "Of 6 events 6 would have been blocked, all of one kind; one kind looks like ordinary work and would have been blocked wrongly."},
		{"a host's clock that jumps", jumped(nightly()), []string{"unclear /usr/bin/pg_dump ×6 blocked true"}, ""},
		{"download and what it did", []event.Event{ran(hour, "a", "/tmp/x", event.OriginWritten), wrote(hour+time.Minute, "a", "/etc/cron.d/x")},
			[]string{"right /etc/cron.d/x ×1 blocked true", "right /tmp/x ×1 blocked true"}, "Of 2 events 2 would have been blocked, of 2 kinds; none of that looks like ordinary work."},
		{"once", []event.Event{wrote(0, "a", "/srv/x")}, []string{"unclear /srv/x ×1 blocked true"}, "Of 1 events 1 would have been blocked, all of one kind; none of that looks like ordinary work."},
		{"the same again is no incident beside itself", []event.Event{ran(0, "a", "/opt/t", event.OriginMount), ran(time.Minute, "a", "/opt/t", event.OriginMount)}, []string{"right /opt/t ×2 blocked true"}, ""},
		{"incident in another container", []event.Event{ran(hour, "a", "/tmp/x", event.OriginWritten), wrote(hour+time.Minute, "b", "/srv/x")}, []string{"right /tmp/x ×1 blocked true", "unclear /srv/x ×1 blocked true"}, ""},
		{"what is only reported", []event.Event{{Time: start, WorkloadID: "a", Kind: event.KindQuery, DNS: &event.DNS{Name: "x.test"}}}, []string{"unclear x.test ×1 blocked false"}, "Of 1 events nothing would have been blocked."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &profile.Profile{Group: "g", Writes: []profile.File{{Path: "/data/**"}}}
			r, err := rehearse.Run(p, each(tc.events), rehearse.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range r.Cases {
				got = append(got, fmt.Sprintf("%s %s ×%d blocked %v", c.Judgement, c.Subject, c.Count, c.Blocked))
				if len(c.Because) == 0 || !strings.HasPrefix(c.Because[0], "It happened") {
					t.Errorf("%s is judged because of %q", c.Subject, c.Because)
				}
			}
			if diff := cmp.Diff(sortedCopy(got), sortedCopy(tc.want)); diff != "" {
				t.Errorf("cases (-got +want):\n%s", diff)
			}
			if tc.says != "" && r.Sentence != tc.says {
				t.Errorf("got  %s\nwant %s", r.Sentence, tc.says)
			}
		})
	}
}

func sortedCopy(in []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range in {
		out[s] = true
	}
	return out
}

func TestAuditedControlsBlockNothing(t *testing.T) {
	r, err := rehearse.Run(&profile.Profile{Group: "g"}, each([]event.Event{wrote(0, "a", "/srv/x")}),
		rehearse.Options{Answers: map[profile.Control]profile.Answer{profile.ControlFile: profile.Audit}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Blocked != 0 || r.Reported != 1 {
		t.Errorf("blocked %d, reported %d, want 0 and 1", r.Blocked, r.Reported)
	}
}

func TestAnErrorEndsIt(t *testing.T) {
	broken := errors.New("the store is gone")
	_, err := rehearse.Run(&profile.Profile{Group: "g"}, func(yield func(event.Event, error) bool) { yield(event.Event{}, broken) }, rehearse.Options{})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestManyCasesAreBounded(t *testing.T) {
	var events []event.Event
	for i := range rehearse.MaxCases + 50 {
		events = append(events, wrote(0, "a", fmt.Sprintf("/srv/%c%c%c/x", 'a'+i%26, 'a'+i/26%26, 'a'+i/676)))
	}
	r, err := rehearse.Run(&profile.Profile{Group: "g"}, each(events), rehearse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) != rehearse.MaxCases || r.More != 50 || r.Blocked != uint64(len(events)) {
		t.Errorf("%d cases, %d more, %d blocked", len(r.Cases), r.More, r.Blocked)
	}
}
