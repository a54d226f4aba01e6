package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/store"
)

// statusAnswer is the API's answer about the server as a whole.
type statusAnswer struct {
	Version       string           `json:"version"`
	Started       time.Time        `json:"started"`
	CAFingerprint string           `json:"ca_fingerprint"`
	Store         *store.Health    `json:"store,omitempty"`
	Conditions    []live.Condition `json:"conditions"`
	Agents        struct {
		Total  int `json:"total"`
		Silent int `json:"silent"`
	} `json:"agents"`
	Workloads struct {
		Running int  `json:"running"`
		More    bool `json:"more,omitempty"`
	} `json:"workloads"`
	EventsStored uint64       `json:"events_stored"`
	Losses       []asset.Loss `json:"losses"`
}

func newStatus(g *globals) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "Show whether everything is well",
		Long: `Show whether everything is well: the server and its store, the agents with
their sensors, and what was lost. What needs somebody is said in a sentence.

Exits with 1 if something is wrong: a condition of the server, a silent agent, a
failed sensor, an agent without its spool, or an engine that is away.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	o.flags(c)
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		answer := struct {
			statusAnswer
			AgentList []asset.Agent `json:"agent_list"`
		}{}
		if err := api.get(c.Context(), "/status", nil, &answer.statusAnswer); err != nil {
			return err
		}
		var page agentPage
		if err := api.get(c.Context(), "/agents", nil, &page); err != nil {
			return err
		}
		answer.AgentList = page.Agents
		troubles := troubles(answer.statusAnswer, page.Agents, time.Now())
		if err := g.print(*f, answer, func() error { return g.status(answer.statusAnswer, page.Agents, troubles) }); err != nil {
			return err
		}
		if len(troubles) > 0 {
			return errUnwell
		}
		return nil
	}
	return c
}

// errUnwell makes status exit with 1; what is wrong has been printed already.
var errUnwell = silentError{}

// silentError fails a command without another line.
type silentError struct{}

func (silentError) Error() string { return "" }

// trouble is something that needs a person.
type trouble struct{ what, remedy string }

func troubles(s statusAnswer, agents []asset.Agent, now time.Time) []trouble {
	var all []trouble
	for _, c := range s.Conditions {
		all = append(all, trouble{c.Name + ": " + c.What + " (since " + ago(c.Since, now) + ")", c.Remedy})
	}
	for _, a := range agents {
		if a.Silent(now) {
			all = append(all, trouble{fmt.Sprintf("agent %s has been silent for %s", a.Hostname, ago(a.Seen, now)), "is castellan agent running there, and does it reach this server?"})
			continue
		}
		if !a.Engine.Connected {
			why := ""
			if a.Engine.Error != "" {
				why = ": " + a.Engine.Error
			}
			all = append(all, trouble{fmt.Sprintf("container engine on %s is away%s", a.Hostname, why), "is it running? new containers there are known by what the kernel shows only"})
		}
		if a.Spool.Error != "" {
			all = append(all, trouble{fmt.Sprintf("agent %s keeps no events on its disk: %s", a.Hostname, a.Spool.Error), "what waits for the server is held in memory there, and lost when the agent is killed"})
		}
		if d := a.Detection; d != nil && (d.Dropped > 0 || d.Error != "") {
			all = append(all, trouble{fmt.Sprintf("detection on %s: %s", a.Hostname, detectionLine(d, now)), "castellan agents NAME says more; does the agent reach this server, and is there room on its disk?"})
		}
		for _, sensor := range a.Sensors {
			if sensor.State == asset.SensorFailed {
				all = append(all, trouble{fmt.Sprintf("%s sensor on %s failed: %s", sensor.Name, a.Hostname, sensor.Reason), sensor.Remedy})
			}
		}
	}
	return all
}

func (g *globals) status(s statusAnswer, agents []asset.Agent, troubles []trouble) error {
	now := time.Now()
	field := func(name, value string) {
		fmt.Fprintf(g.out, "%s %s\n", g.paint(fmt.Sprintf("%-10s", name), faint), value)
	}
	field("server", fmt.Sprintf("%s, up for %s", printable(s.Version), ago(s.Started, now)))
	if s.Store != nil {
		field("store", fmt.Sprintf("%s, %d events, %s; %s free", s.Store.Engine, s.Store.Events, size(uint64(max(s.Store.Bytes, 0))), size(uint64(max(s.Store.FreeBytes, 0)))))
	}
	more := ""
	if s.Workloads.More {
		more = " or more"
	}
	field("workloads", fmt.Sprintf("%d%s running", s.Workloads.Running, more))
	field("events", fmt.Sprintf("%d stored since the start", s.EventsStored))
	var lost uint64
	for _, l := range s.Losses {
		lost += l.Count
	}
	if lost == 0 {
		field("lost", "none")
	}
	for _, l := range s.Losses {
		if l.Count > 0 {
			field("lost", g.paint(fmt.Sprintf("%d events in %s", l.Count, printable(l.Where)), bad))
		}
	}
	fmt.Fprintln(g.out)
	if err := g.agents(agents); err != nil {
		return err
	}
	if len(troubles) == 0 {
		fmt.Fprintf(g.out, "\n%s\n", g.paint("Everything is well.", good))
		return nil
	}
	fmt.Fprintln(g.out)
	for _, t := range troubles {
		fmt.Fprintf(g.out, "%s %s\n", g.paint("!", bad), printable(t.what))
		if t.remedy != "" {
			fmt.Fprintf(g.out, "  remedy: %s\n", printable(t.remedy))
		}
	}
	return nil
}
