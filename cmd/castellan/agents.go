package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// agentPage is the API's answer to a listing.
type agentPage struct {
	Agents []asset.Agent `json:"agents"`
}

func newAgents(g *globals) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "agents [ID or host name]",
		Short: "Show the hosts: kernel, engine, sensors, what could be enforced there",
		Long: `Show the agents and their hosts, or one of them with its sensors, with what its
kernel offers for enforcement, and with what was lost there. Agents on other
hosts join by an invitation, and may be revoked.
` + exitHelp,
		Args: cobra.MaximumNArgs(1),
	}
	f := outputFlag(c)
	for _, sub := range []*cobra.Command{g.agentInvite(&o), g.agentRevoke(&o), g.agentSettings(&o), g.agentCertificates(&o)} {
		sub.Long = sub.Short + ".\n" + sub.Long + exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page agentPage
		if err := api.get(c.Context(), "/agents", nil, &page); err != nil {
			return err
		}
		if len(args) == 0 {
			return g.print(*f, page, func() error { return g.agents(page.Agents) })
		}
		a, err := findAgent(page.Agents, args[0])
		if err != nil {
			return err
		}
		return g.print(*f, a, func() error { return g.describeAgent(a) })
	}
	return c
}

func findAgent(all []asset.Agent, name string) (asset.Agent, error) {
	var found []asset.Agent
	for _, a := range all {
		if a.ID == name || a.Hostname == name || strings.HasPrefix(a.ID, name) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return asset.Agent{}, fault.New(fault.NotFound, "no agent is called %q", name).With("list them: castellan agents")
	}
	return asset.Agent{}, fault.New(fault.Invalid, "%d agents are called %q", len(found), name).With("name one by its whole id: castellan agents -o json")
}

func (g *globals) agents(all []asset.Agent) error {
	now := time.Now()
	rows := make([][]cell, 0, len(all))
	for _, a := range all {
		sensors := make([]string, 0, len(a.Sensors))
		tone := good
		for _, s := range a.Sensors {
			sensors = append(sensors, s.Name+" "+string(s.State))
			if s.State == asset.SensorFailed {
				tone = bad
			}
		}
		lost := cell{fmt.Sprint(a.Lost()), plain}
		if a.Lost() > 0 {
			lost.tone = bad
		}
		rows = append(rows, []cell{
			text(a.Hostname), text(cut(a.ID, shortAgentID)), text(ago(a.Seen, now)), text(a.Host.Kernel + " " + a.Host.Arch),
			text(a.Host.Cgroup), engineCell(a.Engine), {printable(strings.Join(sensors, ", ")), tone}, {fmt.Sprint(a.Events), plain}, lost,
		})
	}
	return g.table([]string{"HOST", "AGENT", "SEEN", "KERNEL", "CGROUP", "ENGINE", "SENSORS", "EVENTS", "LOST"}, rows)
}

// detectionLine says how an agent holds what happens against the rules of detection;
// empty for one that does not.
func detectionLine(d *asset.Detection, now time.Time) string {
	if d == nil {
		return ""
	}
	out := fmt.Sprintf("%d rules", d.Rules)
	for _, part := range []struct {
		n    uint64
		what string
	}{{d.Missed, "events were missed"}, {d.Waiting, "threats wait for the server"}, {d.Dropped, "threats were dropped"}} {
		if part.n > 0 {
			out += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	if d.Waiting > 0 && !d.Oldest.IsZero() {
		out += ", the oldest for " + ago(d.Oldest, now)
	}
	for _, u := range d.Unusable {
		out += "; it can't use " + u
	}
	if d.Error != "" {
		out += "; " + d.Error
	}
	return out
}

const shortAgentID = 8

func engineCell(e asset.Engine) cell {
	if !e.Connected {
		return cell{"away", bad}
	}
	return text(strings.TrimSpace(e.Name + " " + e.Version))
}

func (g *globals) describeAgent(a asset.Agent) error {
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(g.out, "%s %s\n", g.paint(fmt.Sprintf("%-10s", name), faint), printable(value))
		}
	}
	now := time.Now()
	field("host", a.Hostname)
	field("agent", a.ID)
	field("version", a.Version)
	field("seen", ago(a.Seen, now))
	field("running", span(now.Sub(a.Started)))
	field("system", a.Host.OS)
	field("kernel", a.Host.Kernel+" "+a.Host.Arch+", cgroup "+a.Host.Cgroup)
	field("instance", a.Host.Instance)
	field("engine", engineCell(a.Engine).text)
	field("", a.Engine.Error)
	field("costs", fmt.Sprintf("%.1f s CPU, %s memory", a.Usage.CPUSeconds, size(a.Usage.RSS)))
	field("told", settingsLine(a.Settings))
	field("detection", detectionLine(a.Detection, now))
	rows := make([][]cell, 0, len(a.Sensors))
	for _, s := range a.Sensors {
		rows = append(rows, []cell{text(s.Name), text(string(s.State)), {fmt.Sprint(s.Events), plain}, {fmt.Sprint(s.Lost), plain}, text(strings.TrimSpace(s.Reason + " " + s.Remedy))})
	}
	fmt.Fprintln(g.out)
	if err := g.table([]string{"SENSOR", "STATE", "EVENTS", "LOST", ""}, rows); err != nil {
		return err
	}
	rows = rows[:0]
	for _, r := range a.Rungs {
		enforces := cell{"no", plain}
		if r.Enforces {
			enforces = cell{"yes", good}
		}
		rows = append(rows, []cell{text(r.Control), text(r.Best), enforces, text(r.Why)})
	}
	fmt.Fprintln(g.out)
	if err := g.table([]string{"CONTROL", "BEST RUNG", "ENFORCED", "WHY"}, rows); err != nil {
		return err
	}
	rows = rows[:0]
	for _, l := range a.Losses {
		rows = append(rows, []cell{text(l.Where), {fmt.Sprint(l.Count), plain}})
	}
	fmt.Fprintln(g.out)
	if err := g.table([]string{"LOST IN", "EVENTS"}, rows); err != nil {
		return err
	}
	for _, m := range a.Host.Missing {
		fmt.Fprintf(g.out, "\n%s %s\n", g.paint("missing", warn), printable(m))
	}
	return nil
}
