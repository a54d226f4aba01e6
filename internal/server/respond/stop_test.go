package respond_test

import (
	"context"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	server "github.com/castellan-security/castellan/internal/server/respond"
)

// tasks is ECS: why it stops no task and describes none; nil for that it does.
type tasks struct{ stop, look error }

func (e tasks) Stop(context.Context, string, string, string) error { return e.stop }
func (e tasks) Runs(context.Context, string, string) error         { return e.look }

// A task is stopped through ECS. Where that can't be, its container is, and the answer
// says what helps; a dry run says as much before.
func TestTasksAreStopped(t *testing.T) {
	denied := fault.New(fault.Denied, "AccessDenied").With("permit the role ecs:StopTask")
	ended := fault.New(fault.NotFound, "no such task").With("is it in this account?")
	away := fault.New(fault.Unavailable, "no answer in time").With("a VPC endpoint")
	for _, tc := range []struct {
		name      string
		ecs       tasks
		dry, away bool
		state     response.State
		did       string // by the agent
		says      []string
		remedy    string
	}{
		{name: "through ECS", state: response.Done, says: []string{"stopped task arn:aws:ecs:"}},
		{name: "not permitted", ecs: tasks{stop: denied}, state: response.Done, did: "stop", says: []string{"did stop", "may start the container anew: AccessDenied"}, remedy: "ecs:StopTask"},
		{name: "ended", ecs: tasks{stop: ended}, state: response.Done, did: "stop", says: []string{"did stop", "ECS has no such task"}, remedy: "account"},
		{name: "neither", ecs: tasks{stop: ended}, away: true, state: response.Failed, says: []string{"ECS did not stop its task, and the agent", "no such task"}, remedy: "account"},
		{name: "dry", dry: true, state: response.Done, says: []string{"would stop task arn:aws:ecs:", "known only when it is done"}},
		{name: "dry, may not look", ecs: tasks{look: denied}, dry: true, state: response.Done, says: []string{"would stop task arn:aws:ecs:", "could not be looked at: AccessDenied", "known only when"}, remedy: "permit the role"},
		{name: "dry, ended", ecs: tasks{look: ended}, dry: true, state: response.Done, did: "stop?", says: []string{"did stop", "ECS has no such task"}, remedy: "account"},
		{name: "dry, no answer", ecs: tasks{look: away}, dry: true, state: response.Done, did: "stop?", says: []string{"did stop", "no answer in time"}, remedy: "VPC endpoint"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := open(t)
			f.svc.Tasks, f.away = tc.ecs, tc.away
			f.task = asset.ECS{TaskARN: "arn:aws:ecs:eu-west-1:1:task/shop/1", Cluster: "shop"}
			r, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Stop, Workload: web, DryRun: tc.dry})
			if err != nil {
				t.Fatal(err)
			}
			if r, err = f.svc.Wait(t.Context(), otto, r.Deed.ID); err != nil {
				t.Fatal(err)
			}
			said := strings.Join(append(append(r.Answer.Did, r.Answer.Lacks...), r.Answer.Error), "\n")
			if r.Answer.State != tc.state || (r.Answer.Remedy == "") != (tc.remedy == "") || !strings.Contains(r.Answer.Remedy, tc.remedy) {
				t.Errorf("%s, remedy %q: %s", r.Answer.State, r.Answer.Remedy, said)
			}
			for _, want := range tc.says {
				if !strings.Contains(said, want) {
					t.Errorf("says %q, want %q in it", said, want)
				}
			}
			if got := strings.Join(f.did, ", "); got != tc.did {
				t.Errorf("the agent was asked to %q, want %q", got, tc.did)
			}
		})
	}
}
