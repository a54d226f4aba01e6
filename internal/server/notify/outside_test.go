package notify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/profile"
)

// outside is a violation of a group.
func outside(group, what string, change ...func(*profile.Violation)) profile.Violation {
	v := profile.Violation{
		Group: "prod/web/app", Fingerprint: what, Control: profile.ControlExec, Sentence: "sh ran " + what + ", which the profile has not", Mode: profile.Monitor,
		WorkloadID: strings.Repeat("ab", 32), AgentID: "host-1", Count: 1, First: time.Now().UTC(), Last: time.Now().UTC(),
	}
	if group != "" {
		v.Group = asset.Group(group)
	}
	for _, c := range change {
		c(&v)
	}
	return v
}

func (p *post) outside(all ...profile.Violation) {
	p.t.Helper()
	if err := p.TellViolations(p.t.Context(), all); err != nil {
		p.t.Fatal(err)
	}
}

// titles writes what got through since the last time, a line for each notice.
func (p *post) titles() string {
	var out []string
	for _, s := range p.takes() {
		for _, n := range s.n.Notices {
			out = append(out, fmt.Sprintf("%s %s ×%d", n.Severity, n.Title, n.Count))
		}
	}
	return strings.Join(out, "\n")
}

func denied(v *profile.Violation) { v.Mode, v.Reaction = profile.Protect, event.ReactionDenied }

func TestViolationsAreTold(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{Kinds: []notice.Kind{notice.Violation}})
		p.add("grave", notice.Filter{Kinds: []notice.Kind{notice.Violation}, Severity: finding.Low})
		p.add("images", notice.Filter{})
		p.outside(outside("", "/bin/learned", func(v *profile.Violation) { v.Mode = profile.Discover }))
		later(time.Hour)
		if got := p.titles(); got != "" {
			t.Errorf("told of a group that learns: %s", got)
		}
		p.outside(outside("", "/bin/nc"))
		p.restart()
		later(time.Hour)
		if got, want := p.titles(), "negligible prod/web/app: sh ran /bin/nc, which the profile has not ×1"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		// The same is told once a day, and what the kernel refuses by now is another.
		p.outside(outside("", "/bin/nc"))
		later(time.Hour)
		p.outside(outside("", "/bin/nc"), outside("", "/bin/nc", denied))
		later(time.Hour)
		all := p.takes()
		var soc, grave int
		for _, s := range all {
			switch s.d.URL {
			case "https://soc":
				soc++
			case "https://grave":
				grave++
				if o := s.n.Notices[0].Outside; len(o) != 1 || o[0].Reaction != "denied" || s.n.Severity != finding.Low {
					t.Errorf("told of what was refused: %+v", s.n)
				}
			}
		}
		if soc != 2 || grave != 1 {
			t.Errorf("told %d and %d times, want 2 (once after the restart) and 1", soc, grave)
		}
		if n := all[0].n.Notices[0]; n.Link != "https://c/watch/violations?group=prod%2Fweb%2Fapp" || n.Workload.Host != "host-1" {
			t.Errorf("notice %+v", n)
		}
		later(25 * time.Hour)
		p.outside(outside("", "/bin/nc"))
		later(time.Hour)
		if got := p.titles(); got == "" {
			t.Error("not told again after a day")
		}
	})
}

// A storm is one notice of each group, whatever is made up in it.
func TestStormOfViolationsIsOneNotice(t *testing.T) {
	inBubble(t, func(t *testing.T, p *post) {
		p.add("soc", notice.Filter{Kinds: []notice.Kind{notice.Violation}})
		p.outside(outside("", "/first"))
		later(time.Minute)
		p.takes()
		for i := range 100 { // within the target's interval
			p.outside(outside("", fmt.Sprintf("/tmp/%d\n", i)), outside("", "/tmp/refused", denied), outside("prod/db/db", fmt.Sprint("/x", i)))
			later(time.Second)
		}
		later(time.Hour)
		all := p.takes()
		if len(all) != 1 || len(all[0].n.Notices) != 2 {
			t.Fatalf("sent %d notifications, of %d notices", len(all), len(all[0].n.Notices))
		}
		n := all[0].n.Notices[0]
		if n.Severity != finding.Low || len(n.Outside) != notice.MaxOutside || n.LeftOut != 101-notice.MaxOutside || n.Count != 101 {
			t.Errorf("severity %s, %d violations and %d left out, of %d", n.Severity, len(n.Outside), n.LeftOut, n.Count)
		}
		if !strings.HasPrefix(n.Title, "prod/web/app did 101 things that its profile has not: sh ran /tmp/refused") {
			t.Errorf("title %q", n.Title)
		}
		if lines := strings.Count(n.Detail, "\n"); lines != notice.MaxOutside {
			t.Errorf("detail has %d lines, names of others in it:\n%s", lines, n.Detail)
		}
	})
}
