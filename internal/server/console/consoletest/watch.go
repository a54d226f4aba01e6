package consoletest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
)

// Groups whose behaviour the shop has: one that is protected, one that is monitored
// and could be more, and one that still learns.
const (
	Web     = asset.Group("shop/web/nginx")
	Reports = asset.Group("batch/reports/cron")
	Young   = asset.Group("shop/checkout/python")
)

// FillBehaviour brings it into a store.
func (s Shop) FillBehaviour(ctx context.Context, st store.Behaviour, now time.Time) error {
	c := s.Behaviour(now)
	return st.SaveBehaviour(ctx, &c)
}

// Behaviour is what is known of how the shop's groups behave.
func (s Shop) Behaviour(now time.Time) store.BehaviourChange {
	now = now.UTC().Truncate(time.Millisecond)
	days := func(n int) time.Time { return now.AddDate(0, 0, -n) }
	web := []*profile.Profile{webProfile(now, 1), webProfile(now, 2), webProfile(now, 3)}
	c := store.BehaviourChange{
		Groups: []store.BehaviourGroup{
			{
				Group: Web, Mode: profile.Protect, Since: days(6), By: "user:mira", Revision: 3, Version: web[2].Versions[1].Digest, First: days(26), Last: now.Add(-time.Minute),
				Answers: map[profile.Control]profile.Answer{profile.ControlNetwork: profile.Audit}, Starting: "nginx",
				Settled: profile.Settled{Measure: 0.97, Since: days(4)}, Quiet: now.Add(-time.Hour),
			},
			{
				Group: Reports, Mode: profile.Monitor, Since: days(3), By: "user:admin", Revision: 1, First: days(12), Last: now.Add(-9 * time.Hour),
				Proposal:  &store.BehaviourProposal{Mode: profile.Protect, At: now.Add(-2 * time.Hour), Why: "The group could change from monitor to protect: nothing has been outside its profile for 24h0m0s."},
				Promotion: &store.BehaviourPromotion{Promote: "propose", After: 24 * time.Hour, NewVersion: "hold"},
				Settled:   profile.Settled{Measure: 1, Since: days(7)}, Quiet: days(2),
			},
			{
				Group: Young, First: now.Add(-3 * time.Hour), Last: now.Add(-time.Minute), Since: now.Add(-3 * time.Hour), Starting: "python",
				Settled: profile.Settled{Measure: 0.41, Since: now.Add(-4 * time.Minute), Waits: []string{
					"Something new came 4 minutes ago: nothing new for two hours is waited for.", "It has been watched for 3 hours of a day.",
				}},
			},
		},
		Violations: webViolations(now),
	}
	for i, p := range web {
		c.Revisions = append(c.Revisions, store.BehaviourRevision{
			Group: Web, Revision: int64(i + 1), Created: days(20 - 7*i), Actor: "system", Comment: "learned", Entries: 20 + i, Profile: p,
		})
	}
	c.Revisions[2].Actor, c.Revisions[2].Comment = "user:mira", "now runs /data/plugins/helper: installed by the operator "+HostileName
	c.Revisions = append(c.Revisions, store.BehaviourRevision{
		Group: Reports, Revision: 1, Created: days(7), Actor: "system", Comment: "learned", Entries: 2, Profile: &profile.Profile{
			Group: Reports, Revision: 1, Executables: []profile.Executable{{Path: "/app/report", Origin: event.OriginImage, Parents: []profile.Pattern{""}, Evidence: seenBy(now, 12, 24)}},
			Writes: []profile.File{{Path: "/reports/report-*.csv", Evidence: seenBy(now, 12, 24)}},
		},
	})
	return c
}

// Held is what the shop's agents tell of how they hold its groups.
func Held(now time.Time) map[string][]profile.Held {
	controls := func(rung string, answers ...profile.Answer) (out []profile.HeldControl) {
		for i, c := range profile.Controls() {
			out = append(out, profile.HeldControl{Control: c, Answer: answers[i], Rung: rung})
		}
		return out
	}
	strong := controls("BPF LSM", profile.Deny, profile.Deny, profile.Audit, profile.Deny, profile.Deny)
	weak := controls("signal at exec", profile.Deny, profile.Audit, profile.Audit, profile.Audit, profile.Off)
	for i := range weak[1:4] {
		weak[i+1].Rung, weak[i+1].Error = "sensors", "the kernel of this host has no BPF LSM: it can only tell"
	}
	return map[string][]profile.Held{
		AgentID: {{Group: Web, Stamp: "stamp-of-older-rules", Revision: 2, Since: now.Add(-26 * time.Hour), Workloads: 3, Controls: strong}},
		Agent2ID: {{
			Group: Web, Stamp: "stamp-of-older-rules", Revision: 2, Since: now.Add(-2 * time.Hour), Workloads: 1, Controls: weak,
			Error: "the rules of revision 3 have more paths than this kernel's maps hold", Remedy: "have fewer or wider paths in the profile",
		}},
	}
}

// seenBy is evidence of something that was learned.
func seenBy(now time.Time, days int, times uint64) profile.Evidence {
	return profile.Evidence{
		Source: profile.Learned, First: now.AddDate(0, 0, -days), Last: now.Add(-time.Duration(times) * time.Minute), Count: times, Hosts: []string{AgentID, Agent2ID},
		Version: digestOf("web", 1), Latest: digestOf("web", 2),
	}
}

func digestOf(name string, n int) string {
	return "sha256:" + strings.Repeat(fmt.Sprintf("%02x%02x", len(name), n), 16)
}

// webProfile is the profile of the web server, as it was in one of its revisions.
func webProfile(now time.Time, revision int) *profile.Profile {
	older := seenBy(now, 26, 40)
	older.Latest = older.Version
	pattern := seenBy(now, 26, 1_204)
	pattern.Sample = "/var/cache/nginx/client_temp/0000000001"
	p := &profile.Profile{
		Group: Web, Revision: int64(revision),
		Versions: []profile.Version{
			{Digest: digestOf("web", 1), Reference: "public.ecr.aws/nginx/nginx:1.27", First: now.AddDate(0, 0, -26), Last: now.AddDate(0, 0, -8)},
			{Digest: digestOf("web", 2), Reference: "public.ecr.aws/nginx/nginx:1.28", First: now.AddDate(0, 0, -8), Last: now.Add(-time.Minute)},
		},
		Executables: []profile.Executable{
			{Path: "/bin/dash", Origin: event.OriginImage, Parents: []profile.Pattern{""}, Users: []uint32{0}, Scripts: []profile.Pattern{"/docker-entrypoint.sh"}, Evidence: seenBy(now, 26, 3)},
			{Path: "/usr/sbin/nginx", Origin: event.OriginImage, Digest: digestOf("nginx", 7), Parents: []profile.Pattern{"", "/usr/sbin/nginx"}, Users: []uint32{0, 101}, Evidence: seenBy(now, 26, 31)},
		},
		Writes: []profile.File{
			{Path: "/run/nginx.pid", Programs: []profile.Pattern{"/usr/sbin/nginx"}, Evidence: seenBy(now, 26, 3)},
			{Path: "/var/cache/nginx/**", Programs: []profile.Pattern{"/usr/sbin/nginx"}, Evidence: pattern},
		},
		Reads:        []profile.File{{Path: "/etc/ssl/private/shop.key", Programs: []profile.Pattern{"/usr/sbin/nginx"}, Evidence: seenBy(now, 20, 3)}},
		Listens:      []profile.Listen{{Protocol: "tcp", Port: profile.Ports{First: 80, Last: 80}, Evidence: seenBy(now, 26, 3)}},
		Peers:        []profile.Peer{{Protocol: "tcp", Port: profile.Ports{First: 8080, Last: 8080}, Group: "shop/api/api", Evidence: seenBy(now, 26, 8_412)}},
		Callers:      []profile.Peer{{Protocol: "tcp", Port: profile.Ports{First: 80, Last: 80}, Network: netip.MustParsePrefix("10.0.0.0/8"), Evidence: seenBy(now, 26, 98_120)}},
		Names:        []profile.Name{{Name: "api.shop.internal", Evidence: seenBy(now, 26, 812)}, {Name: "old.example.com", Evidence: older}},
		Capabilities: []profile.Capability{{Name: "CHOWN", Evidence: seenBy(now, 26, 3)}, {Name: "NET_BIND_SERVICE", Evidence: seenBy(now, 26, 3)}, {Name: "SETUID", Evidence: seenBy(now, 26, 3)}},
		Limits:       profile.Limits{Processes: 64, Memory: 512 << 20, CPU: 1000, Descriptors: 1024, WriteBytes: 16 << 20, NewConnections: 128, Source: profile.Learned},
	}
	for _, call := range strings.Fields("accept4 access arch_prctl bind brk clone close connect dup2 epoll_create epoll_ctl epoll_wait execve exit_group fcntl fstat futex getdents64") {
		p.Calls = append(p.Calls, profile.Call{Name: call, Evidence: seenBy(now, 26, 9)})
	}
	if revision > 1 {
		fresh := seenBy(now, 8, 88)
		fresh.Version = fresh.Latest
		p.Writes = append(p.Writes, profile.File{Path: "/var/log/nginx/access.log.*.gz", Evidence: fresh})
		p.Listens = append(p.Listens, profile.Listen{Protocol: "tcp", Port: profile.Ports{First: 443, Last: 443}, Evidence: fresh})
	}
	if revision > 2 {
		p.Executables = append(p.Executables, profile.Executable{Path: "/data/plugins/helper", Origin: event.OriginMount, Evidence: profile.Evidence{
			Source: profile.Person, First: now.AddDate(0, 0, -6), Last: now.AddDate(0, 0, -6), Actor: "user:mira", Comment: "installed by the operator " + HostileName,
		}})
	}
	return p
}

// webViolations are what lay outside the web server's profile.
func webViolations(now time.Time) []profile.Violation {
	of := func(n int, c profile.Control, k event.Kind, r event.Reaction, subject, program, sentence string, permit *profile.Profile) profile.Violation {
		return profile.Violation{
			Group: Web, Fingerprint: fmt.Sprint("shop-", n), Control: c, Kind: k, Reaction: r, Subject: subject, Program: program, Sentence: sentence, Permit: permit,
			Revision: 3, Mode: profile.Protect, WorkloadID: Storefront, AgentID: AgentID, Count: uint64(n*n + 1), First: now.Add(-30 * time.Hour), Last: now.Add(-time.Duration(n) * 17 * time.Minute),
		}
	}
	return []profile.Violation{
		of(0, profile.ControlExec, event.KindExec, event.ReactionKilled, "/bin/dash", "/usr/sbin/nginx", "nginx ran /bin/dash, and was killed: the profile allows that only to the engine.",
			&profile.Profile{Group: Web, Executables: []profile.Executable{{Path: "/bin/dash", Origin: event.OriginImage, Parents: []profile.Pattern{"/usr/sbin/nginx"}, Users: []uint32{101}}}}),
		of(1, profile.ControlFile, event.KindFileWrite, event.ReactionDenied, "/etc/nginx/nginx.conf", "/usr/sbin/nginx", "nginx opened /etc/nginx/nginx.conf for writing, which was denied: the profile allows the group to change nothing there.",
			&profile.Profile{Group: Web, Writes: []profile.File{{Path: "/etc/nginx/nginx.conf", Programs: []profile.Pattern{"/usr/sbin/nginx"}}}}),
		of(2, profile.ControlNetwork, event.KindConnect, event.ReactionAudited, "203.0.113.9 tcp/443", "/usr/sbin/nginx", "nginx connected to 203.0.113.9 at tcp/443: the profile allows connections to shop/api/api at tcp/8080 alone.",
			&profile.Profile{Group: Web, Peers: []profile.Peer{{Protocol: "tcp", Port: profile.Ports{First: 443, Last: 443}, Network: netip.MustParsePrefix("203.0.113.9/32")}}}),
		of(3, profile.ControlFile, event.KindFileCreate, event.ReactionDenied, "/tmp/"+HostileName, "/tmp/"+HostileName, "/tmp/"+HostileName+" created /tmp/"+HostileName+", which was denied: the profile has nothing of it.",
			&profile.Profile{Group: Web, Writes: []profile.File{{Path: profile.Pattern("/tmp/" + HostileName)}}}),
		of(4, profile.ControlResource, event.KindLimit, event.ReactionNone, "memory", "", "A container came close to its limit of memory: 510 MiB of 512 MiB.", nil),
	}
}
