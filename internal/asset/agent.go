// Package asset holds the nouns for what Castellan guards: workloads and the
// hosts that agents watch.
//
// Values only, no input or output; the zero value of every type is safe. It is
// not for what happened to them (see event) nor for what is permitted.
package asset

import (
	"net/netip"
	"time"
)

// Agent is one Castellan agent, its host, and how well it can see there.
type Agent struct {
	ID       string    `json:"id"`   // random, made once, kept in the agent's data folder
	Boot     string    `json:"boot"` // new at each start of the agent; sequence numbers belong to it
	Hostname string    `json:"hostname"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Seen     time.Time `json:"seen"` // when the server last heard from it, by the server's clock
	Host     Host      `json:"host"`
	Engine   Engine    `json:"engine"`
	Sensors  []Sensor  `json:"sensors"`
	Rungs    []Rung    `json:"rungs"`
	Losses   []Loss    `json:"losses"`
	Usage    Usage     `json:"usage"`
	Events   uint64    `json:"events"` // reported since Started
	// Clock is how far the agent's clock is ahead of the server's, as of the
	// last report; behind is negative. It includes the time of the transport.
	Clock time.Duration `json:"clock_ahead_ns"`
	Spool Spool         `json:"spool"`
	// Abilities name what the agent does when the server asks, beyond sensing; an
	// agent that does not say is not asked.
	Abilities []string `json:"abilities,omitempty"`
	// Settings are those that the agent works by now.
	Settings AgentSettings `json:"settings"`
	// Detection is how it holds what happens against rules; nil: it does not.
	Detection *Detection `json:"detection,omitempty"`
	// Quarantine is what it holds in quarantine; nil: it does nothing about threats.
	Quarantine *Quarantine `json:"quarantine,omitempty"`
}

// Detection is how an agent holds what happens against rules of detection. Counting
// starts with the agent.
type Detection struct {
	Rules int    `json:"rules"`           // in force, those that are switched off counted
	Stamp string `json:"stamp,omitempty"` // of what users wrote, as the agent has it
	// Unusable are documents of rules that this agent can't use as they are.
	Unusable []string `json:"unusable,omitempty"`
	// Missed are events that no rule was held against: the agent had too much to do.
	Missed  uint64    `json:"missed"`
	Waiting uint64    `json:"waiting"`         // threats that the server has not got
	Oldest  time.Time `json:"oldest,omitzero"` // when the oldest of them happened first
	Dropped uint64    `json:"dropped"`         // threats for which there was no room, or that the server refused
	Error   string    `json:"error,omitempty"` // why threats that wait are in memory alone
}

// Spool is what waits on an agent's disk for its server.
type Spool struct {
	Events uint64    `json:"events"`
	Bytes  uint64    `json:"bytes"`
	Limit  uint64    `json:"limit_bytes"`
	Oldest time.Time `json:"oldest,omitzero"` // of the events in it
	Error  string    `json:"error,omitempty"` // why nothing is kept on disk; events are then held in memory
}

// Host is the machine under an agent.
type Host struct {
	OS       string   `json:"os"`     // PRETTY_NAME of os-release
	Kernel   string   `json:"kernel"` // uname -r
	Arch     string   `json:"arch"`   // as GOARCH says it
	BootID   string   `json:"boot_id"`
	CPUs     int      `json:"cpus"`
	Memory   uint64   `json:"memory_bytes"`
	Cgroup   string   `json:"cgroup"` // v1, hybrid or v2
	BTF      bool     `json:"btf"`
	LSMs     []string `json:"lsms,omitempty"`
	Instance string   `json:"instance,omitempty"` // ARN of the ECS container instance, when introspection told it
	Cluster  string   `json:"cluster,omitempty"`
	// Addresses are those of the host's own interfaces, bridges included,
	// loopback left out.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Missing says, one sentence each, what this kernel cannot give and what
	// that means for the user.
	Missing []string `json:"missing,omitempty"`
}

// Engine is the container engine as the agent last found it.
type Engine struct {
	Name       string `json:"name,omitempty"`
	Version    string `json:"version,omitempty"`
	APIVersion string `json:"api_version,omitempty"`
	Connected  bool   `json:"connected"`
	Error      string `json:"error,omitempty"` // why it is not connected
}

// SensorState says whether a sensor sees anything.
type SensorState string

// The states of a sensor.
const (
	SensorRunning SensorState = "running"
	SensorOff     SensorState = "off"    // switched off by configuration
	SensorFailed  SensorState = "failed" // wanted, but this kernel or these rights don't allow it
)

// Sensor is one kernel sensor with its counters since the agent started.
type Sensor struct {
	Name   string      `json:"name"`
	State  SensorState `json:"state"`
	Reason string      `json:"reason,omitempty"` // for failed and off
	Remedy string      `json:"remedy,omitempty"`
	Events uint64      `json:"events"`
	Lost   uint64      `json:"lost"` // records the kernel could not hand over
}

// Rung is how strongly one kind of control can be enforced on this host.
type Rung struct {
	Control string `json:"control"` // exec, file, network, privilege
	Best    string `json:"best"`    // the highest rung this kernel offers; "report only" if none
	// Enforces is false for a rung that only observes.
	Enforces bool   `json:"enforces"`
	Why      string `json:"why"` // what was probed and what it answered
}

// Loss counts events that were seen or could have been seen, and are not
// stored. Counting starts with the agent.
type Loss struct {
	Where string `json:"where"` // kernel ring, agent queue, server, …
	Count uint64 `json:"count"`
}

// Usage is what the agent itself costs.
type Usage struct {
	CPUSeconds float64 `json:"cpu_seconds"`
	RSS        uint64  `json:"rss_bytes"`
	Goroutines int     `json:"goroutines"`
}

// SilentAfter is how long after its last report an agent counts as silent:
// three of the heartbeats that it sends when nothing happens.
const SilentAfter = 15 * time.Second

// Silent reports whether the server has not heard from the agent lately. What
// is shown of its host may then be old.
func (a Agent) Silent(now time.Time) bool { return now.Sub(a.Seen) > SilentAfter }

// Lost returns the sum of all losses.
func (a Agent) Lost() uint64 {
	var n uint64
	for _, l := range a.Losses {
		n += l.Count
	}
	return n
}

// AgentSettings are what an operator decides about an agent from the server. The
// zero value changes nothing that the agent's own flags say.
type AgentSettings struct {
	// SensorsOff names sensors that are to be off, in addition to the agent's
	// own flags: nobody can switch on from afar what the host's owner has
	// switched off.
	SensorsOff []string `json:"sensors_off,omitempty"`
	// SensitivePaths are files whose reading is to be told, in addition to the
	// built-in rules: absolute paths as containers see them, "*" for any part of
	// one name.
	SensitivePaths []string `json:"sensitive_paths,omitempty"`
	// Window is how long what was told of a container is only counted; 0 is the
	// agent's default, less than 0 means that everything is told.
	Window time.Duration `json:"window_ns,omitempty"`
}
