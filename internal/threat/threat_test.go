package threat_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

func TestPrintTellsWhatIsAlike(t *testing.T) {
	root := event.Key{PID: 7, Start: 8}
	first := threat.PrintOf("r", "a", "w", root, "/x")
	for _, tc := range []struct {
		name string
		got  string
		same bool
	}{
		{"the same", threat.PrintOf("r", "a", "w", root, "/x"), true},
		{"another rule", threat.PrintOf("s", "a", "w", root, "/x"), false},
		{"another tree", threat.PrintOf("r", "a", "w", event.Key{PID: 7, Start: 9}, "/x"), false},
		{"another thing", threat.PrintOf("r", "a", "w", root, "/y"), false},
		{"parts moved", threat.PrintOf("ra", "", "w", root, "/x"), false},
	} {
		if (tc.got == first) != tc.same {
			t.Errorf("%s: %s, first %s, want the same: %v", tc.name, tc.got, first, tc.same)
		}
	}
}

func TestAddKeepsTheFirstAndTheNewest(t *testing.T) {
	at := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	one := func(i int) *threat.Threat {
		when := at.Add(time.Duration(i) * time.Second)
		return &threat.Threat{Count: 1, First: when, Last: when, Severity: finding.Low, Evidence: []threat.Evidence{{Seq: uint64(i), Time: when}}}
	}
	all := one(0)
	for i := 1; i < 100; i++ {
		all.Add(one(i))
	}
	if all.Count != 100 || !all.First.Equal(at) || !all.Last.Equal(at.Add(99*time.Second)) {
		t.Errorf("count %d from %v to %v", all.Count, all.First, all.Last)
	}
	if n := len(all.Evidence); n != threat.MaxEvidence || all.Evidence[0].Seq != 0 || all.Evidence[n-1].Seq != 99 || all.LeftOut != uint64(100-n) {
		t.Errorf("%d of evidence from %d to %d, %d left out", n, all.Evidence[0].Seq, all.Evidence[n-1].Seq, all.LeftOut)
	}
}

func TestClip(t *testing.T) {
	got := threat.Clip("a" + strings.Repeat("ä", threat.MaxText))
	if len(got) > threat.MaxText || !utf8.ValidString(got) || !strings.HasSuffix(got, "ä…") {
		t.Errorf("%d bytes, valid: %v, ends with %q", len(got), utf8.ValidString(got), got[len(got)-8:])
	}
	if got := threat.Clip("short"); got != "short" {
		t.Errorf("got %q", got)
	}
}

func TestStep(t *testing.T) {
	for _, tc := range []struct {
		from threat.State
		in   threat.Input
		want threat.State
		ok   bool
	}{
		{"", threat.Comment, threat.Open, true},
		{threat.Open, threat.Assign, threat.Assigned, true},
		{threat.Reopened, threat.Assign, threat.Assigned, true},
		{threat.Assigned, threat.Assign, threat.Assigned, true},
		{threat.Assigned, threat.Unassign, threat.Open, true},
		{threat.Open, threat.Unassign, threat.Open, false},
		{threat.Assigned, threat.Resolve, threat.Resolved, true},
		{threat.Resolved, threat.Resolve, threat.Resolved, false},
		{threat.Resolved, threat.Assign, threat.Resolved, false},
		{threat.Resolved, threat.Reopen, threat.Reopened, true},
		{threat.Resolved, threat.Recur, threat.Reopened, true},
		{threat.Open, threat.Reopen, threat.Open, false},
		{threat.Assigned, threat.Recur, threat.Assigned, true},
		{threat.Open, "explode", threat.Open, false},
	} {
		got, err := threat.Step(tc.from, tc.in)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("Step(%q, %s) = %s, %v, want %s, ok: %v", tc.from, tc.in, got, err, tc.want, tc.ok)
		}
	}
}

func TestCheckTechnique(t *testing.T) {
	for id, ok := range map[string]bool{"T1611": true, "T1059.004": true, "t1611": false, "T161": false, "T1059.4": false, "": false} {
		if err := threat.CheckTechnique(id); (err == nil) != ok {
			t.Errorf("CheckTechnique(%q) = %v, want ok: %v", id, err, ok)
		}
	}
}
