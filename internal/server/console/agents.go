package console

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	agentlink "github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
)

// agentView is an agent with what its state means.
type agentView struct {
	asset.Agent
	Tone   tone
	Health string   // one word or two
	Why    []string // what is not well besides losses, one sentence each
}

// admits reports that the engine of its host can ask it about deployments.
func (a *agentView) admits() bool { return slices.Contains(a.Abilities, agentlink.AbilityAdmit) }

// clockBound is how far the clocks of server and agent may be apart before it
// is said: the time of the transport is within it.
const clockBound = 2 * time.Second

// agentViews judges each agent at now.
func agentViews(agents []asset.Agent, now time.Time) []agentView {
	out := make([]agentView, 0, len(agents))
	for _, a := range agents {
		out = append(out, judge(a, now))
	}
	return out
}

// judge says how well an agent sees. Lost events make it impossible to say
// that nothing happened, so they count as unwell for as long as they count.
func judge(a asset.Agent, now time.Time) agentView {
	v := agentView{Agent: a, Tone: good, Health: "reporting"}
	worse := func(t tone, health, why string) {
		if why != "" {
			v.Why = append(v.Why, why)
		}
		if v.Tone == good || v.Tone == warn && t == danger {
			v.Tone, v.Health = t, health
		}
	}
	if a.Silent(now) {
		worse(danger, "silent", "Nothing heard from it for "+strings.TrimSuffix(ago(a.Seen, now), " ago")+". What happens on its host is not seen now.")
	}
	for _, s := range a.Sensors {
		if s.State == asset.SensorFailed {
			worse(danger, "sensor failed", "The sensor "+s.Name+" does not run: "+s.Reason+".")
		}
	}
	if a.Lost() > 0 {
		worse(warn, "losing events", "") // the page counts them, see agentTroubles
	}
	if apart := a.Clock.Abs(); apart > clockBound {
		worse(warn, "clock differs", "Its clock is "+lasted(apart)+" "+clockWord(a.Clock)+" the server's: times of its events are by its clock.")
	}
	if a.Spool.Error != "" {
		worse(warn, "no spool", "It keeps no events on its disk: "+a.Spool.Error+". What waits for the server is held in memory.")
	}
	if !a.Engine.Connected {
		worse(warn, "no engine", "It has no connection to the container engine: "+orElse(a.Engine.Error, "no reason given")+".")
	}
	return v
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// agentsData is the list of agents, and an invitation that was just made.
type agentsData struct {
	List    []agentView
	Losses  []asset.Loss // of the server
	Invites bool         // who looks may invite further ones
	Name    string       // as the form had it
	Problem string
	Command string // by which the invited agent joins; holds a secret
	Expires time.Time
}

func (c *Console) agents(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.showAgents(w, r, v, http.StatusOK, agentsData{})
}

func (c *Console) showAgents(w http.ResponseWriter, r *http.Request, v visit, status int, d agentsData) error {
	agents, err := c.Store.Agents(r.Context())
	if err != nil {
		return err
	}
	d.List, d.Losses = agentViews(agents, v.now), c.Conditions.Losses()
	d.Invites = c.Enrolment != nil && v.who.May(access.EnrolAgents)
	return c.show(w, r, status, agentsBody(c.page(r, v, "agents", "Agents"), d))
}

// agentData is the page of one agent.
type agentData struct {
	agentView
	Certificate *access.Certificate // the newest; nil for the agent in the server itself
	Revokes     bool                // who looks may cut it off
	Workloads   []asset.Workload
	Tree        tree // of the host's own processes
}

func (c *Console) agent(w http.ResponseWriter, r *http.Request, v visit) error {
	a, err := c.Store.Agent(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	running, err := c.Store.Workloads(r.Context(), store.WorkloadQuery{
		AgentID: a.ID, States: []asset.State{asset.Running}, Limit: store.DefaultPage,
	})
	if err != nil {
		return err
	}
	procs, known := c.Tables.Host(a.ID)
	d := agentData{agentView: judge(a, v.now), Workloads: running, Tree: newTree(hostPrograms(procs), known, a.ID)}
	if c.Enrolment != nil {
		have, err := c.Enrolment.Certificates(r.Context(), v.who, a.ID)
		if err != nil {
			return err
		}
		if len(have) > 0 {
			d.Certificate = &have[0]
			d.Revokes = have[0].Revoked == nil && v.who.May(access.EnrolAgents)
		}
	}
	return c.show(w, r, http.StatusOK, agentBody(c.page(r, v, "agents", a.Hostname), d))
}

// hostPrograms leaves out the kernel's own threads, which no file stands
// behind: they are many, and never news.
func hostPrograms(procs []event.Running) []event.Running {
	out := make([]event.Running, 0, len(procs))
	for _, p := range procs {
		if p.Process.Executable != "" || len(p.Args) > 0 {
			out = append(out, p)
		}
	}
	return out
}
