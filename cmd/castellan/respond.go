package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// respondOptions are the flags of all deeds.
type respondOptions struct {
	ask   askOptions
	agent agentOptions // of --host
	host  bool
	deed  respond.Ask
	last  respond.Response // that has ended
}

// respondWait is how many seconds one question waits for the end of a response.
const respondWait = "15"

func newRespond(g *globals) *cobra.Command {
	o := &respondOptions{}
	c := &cobra.Command{
		Use:   "respond",
		Short: "Do something about a threat: kill, quarantine, snapshot, stop",
		Long: `Do something about a threat in a workload: kill a process or all of them, cut
its whole network, stop its task. What was done, or why not, is the answer, and
stands in the audit log with who asked.

  castellan respond quarantine storefront --freeze --reason "miner, case 42"
  castellan respond release storefront

With --host it is done by this program on the host itself, as root, with neither
a server nor an agent that answers; --dry-run changes nothing and says what
would be done.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	kill := g.respondDeed(o, response.Kill, "End a process of a workload, or all of them", `End a process of a workload, or with no --process all of them. A process is
named by its pid on the host; with its start, as events have it, nobody who has
got the pid since is hit. The engine or ECS may start the container anew.`)
	kill.Flags().StringVar(&o.deed.Process, "process", "", "`pid` on the host, or pid-start; all of the container without")
	quarantine := g.respondDeed(o, response.Quarantine, "Cut the whole network of a workload", `Cut the whole network of a workload: open connections, new ones, DNS, loopback.
It stays so without an agent and when the container starts anew, until it is
released. With --freeze its processes stand still, too.`)
	quarantine.Flags().BoolVar(&o.deed.Freeze, "freeze", false, "stop all its processes where they are")
	release := g.respondDeed(o, response.Release, "Undo the quarantine of a workload", "Undo the quarantine of a workload: it has its network back and its processes go on.")
	stop := g.respondDeed(o, response.Stop, "Stop the task of a workload through ECS, or its container", `Stop the whole task of a workload through ECS, which needs the server to have
the right ecs:StopTask; without, and on plain Docker, the container through its
engine. A service of ECS starts another task.`)
	revoke := g.respondDeed(o, response.Revoke, "Have AWS refuse the credentials that a task's role has given out", `Have AWS refuse the credentials that the role of a workload's task has given out
until now, wherever they are used: an inline policy of the role denies all to
sessions from before. Other tasks of the same role are refused, too, until ECS
renews their credentials. The server needs rights for it (docs/respond.md).`)
	reinstate := g.respondDeed(o, response.Reinstate, "Undo the revocation of a role's sessions", "Undo the revocation of a role's sessions: the inline policy is removed.")
	for _, sub := range []*cobra.Command{revoke, reinstate, kill, quarantine, release, stop, g.respondSnapshot(o)} {
		o.flags(sub)
		c.AddCommand(sub)
	}
	c.AddCommand(g.respondList(), g.respondRules(), g.respondRuns(), g.respondSnapshots())
	return c
}

func (o *respondOptions) flags(c *cobra.Command) {
	o.ask.flags(c)
	f := c.Flags()
	f.BoolVar(&o.deed.DryRun, "dry-run", false, "change nothing: say what would be done")
	f.StringVar(&o.deed.Reason, "reason", "", "why, for the audit log")
	f.BoolVar(&o.host, "host", false, "do it on this host itself, without a server")
	f.StringVar(&o.agent.dockerHost, "docker-host", "", "with --host: container engine, as in DOCKER_HOST")
	f.StringVar(&o.agent.proc, "proc", "/proc", "with --host: where the host's /proc is mounted")
	f.StringVar(&o.agent.sys, "sys", "/sys", "with --host: where the host's /sys is mounted")
	f.StringVar(&o.agent.hold.pins, "pins", bpf.DefaultPins, "with --host: the agent's --pins")
}

func (g *globals) respondDeed(o *respondOptions, k response.Kind, short, long string) *cobra.Command {
	c := &cobra.Command{Use: string(k) + " WORKLOAD", Short: short, Long: long + "\n" + exitHelp, Args: cobra.ExactArgs(1)}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		o.deed.Kind = k
		r, err := g.respond(c.Context(), o, args[0])
		if err != nil {
			return err
		}
		o.last = r
		if err := g.print(*f, r, func() error { g.showResponse(r, o.host); return nil }); err != nil {
			return err
		}
		if r.Answer.State != response.Done {
			return errSaid
		}
		return nil
	}
	return c
}

// respond has a deed done and waits for its end.
func (g *globals) respond(ctx context.Context, o *respondOptions, name string) (respond.Response, error) {
	if o.host {
		return g.respondHere(ctx, o, name)
	}
	api, err := g.dial(o.ask)
	if err != nil {
		return respond.Response{}, err
	}
	w, err := find(ctx, api, name)
	if err != nil {
		return respond.Response{}, err
	}
	d := &o.deed
	body := map[string]any{
		"kind": d.Kind, "workload": w.ID, "process": d.Process, "freeze": d.Freeze, "dry_run": d.DryRun, "reason": d.Reason,
	}
	if d.Kind == response.Snapshot {
		body["packets"], body["values"], body["files"] = int(d.Packets/time.Second), d.Values, d.Files
	}
	var r respond.Response
	if err := api.do(ctx, http.MethodPost, "/respond", body, &r); err != nil {
		return r, err
	}
	for !r.Answer.State.Ended() {
		if err := api.get(ctx, "/respond/"+url.PathEscape(r.Deed.ID), url.Values{"wait": {respondWait}}, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// showResponse says what came of a deed; here says that it was done on this host
// without a server.
func (g *globals) showResponse(r respond.Response, here bool) {
	a := r.Answer
	tone := good
	if a.State != response.Done {
		tone = bad
	}
	what := string(r.Deed.Kind) + " " + asset.ShortID(r.Deed.Workload) + " " + string(r.Group)
	if r.Deed.DryRun {
		what += " (dry run)"
	}
	fmt.Fprintf(g.out, "%s: %s\n", printable(what), g.paint(string(a.State), tone))
	for _, did := range a.Did {
		fmt.Fprintf(g.out, "  %s\n", printable(did))
	}
	if k := a.Kept; k != nil {
		fmt.Fprintf(g.out, "  kept on its host: %s, %s, %s\n", printable(k.File), size(uint64(max(k.Size, 0))), printable(k.Digest))
		if k.Sent {
			fmt.Fprintf(g.out, "  kept on the server: castellan respond snapshots download %s\n", printable(r.Deed.ID))
		}
	}
	for _, lack := range a.Lacks {
		fmt.Fprintf(g.out, "  but: %s\n", printable(lack))
	}
	if a.Error != "" {
		fmt.Fprintf(g.out, "  why: %s\n", printable(a.Error))
	}
	if a.Remedy != "" {
		fmt.Fprintf(g.out, "  remedy: %s\n", printable(a.Remedy))
	}
	if a.Holds() && !r.Deed.DryRun {
		where := ""
		if here {
			where = " --host"
		}
		fmt.Fprintf(g.out, "  undo: castellan respond %s %s%s\n", a.Undo, asset.ShortID(r.Deed.Workload), where)
	}
}

// reasonShown is how much of a reason a line of a list has, in bytes; its deed has all.
const reasonShown = 160

// reasonAndError is why a deed was asked for, and why it was not done.
func reasonAndError(r *respond.Response) string {
	why := r.Deed.Reason
	if r.Answer.Error != "" && r.Answer.State != response.Done {
		why = strings.TrimPrefix(why+"; "+string(r.Answer.State)+": "+r.Answer.Error, "; ")
	}
	return why
}

func (g *globals) respondList() *cobra.Command {
	var o askOptions
	var host, standing bool
	c := &cobra.Command{
		Use:   "list",
		Short: "What was done lately, what of it holds, and what undoes it",
		Long: `Show what was done about threats, the newest first, with the command that undoes
what still holds: all of that, and the newest of the rest. All that ever was is in
the audit log. What is in quarantine is as the agents tell that it is: a quarantine
whose container is gone is over. With --host: which containers of this host are in
quarantine now, whoever did it, without a server.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	o.flags(c)
	c.Flags().BoolVar(&host, "host", false, "show what is in quarantine on this host, without a server")
	c.Flags().BoolVar(&standing, "standing", false, "show only what is under way, or holds until it is undone")
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if host {
			return g.listHere(*f)
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page struct {
			Responses []respond.Response `json:"responses"`
		}
		query := url.Values{}
		if standing {
			query.Set("standing", "true")
		}
		if err := api.get(c.Context(), "/respond", query, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.showResponses(page.Responses, standing) })
	}
	return c
}

// showResponses prints a list of what was done.
func (g *globals) showResponses(all []respond.Response, standing bool) error {
	if len(all) == 0 {
		what := "nothing was done about threats yet: castellan respond --help says what can be"
		if standing {
			what = "nothing is under way, and nothing holds; castellan respond list shows what was done"
		}
		fmt.Fprintln(g.err, what)
		return nil
	}
	var rows [][]cell
	for i := range all {
		r := &all[i]
		what, undo := string(r.Deed.Kind), ""
		if r.Deed.DryRun {
			what += " (dry run)"
		}
		if r.Standing() && r.Answer.State.Ended() {
			undo = string(r.Answer.Undo)
		}
		rows = append(rows, []cell{
			text(r.Deed.Asked.Local().Format(time.DateTime)), text(what), text(string(r.Answer.State)), text(asset.ShortID(r.Deed.Workload)),
			text(string(r.Group)), text(r.Deed.By), text(undo), text(untrusted.Clip(reasonAndError(r), reasonShown)),
		})
	}
	return g.table([]string{"ASKED", "DEED", "STATE", "ID", "GROUP", "BY", "UNDO", "REASON, AND WHY NOT"}, rows)
}
