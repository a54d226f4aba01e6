// Package agent is the node daemon: it follows the container engine and the
// kernel's sensors on one host, ties what they say together, and reports it to
// a server.
//
// It sequences doors over time; what a container may do is decided elsewhere.
package agent

import (
	"context"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Engine is the container engine of this host.
type Engine interface {
	// Watch follows the engine until ctx ends and then returns ctx's error. It
	// reconnects by itself, with growing pauses; each time it connects it first
	// calls see with a Complete inventory, and when it loses the engine it calls
	// see with Engine.Connected false and the reason. Calls come one at a time.
	Watch(ctx context.Context, see func(asset.Inventory)) error
}

// Sensors are the kernel's eyes.
type Sensors interface {
	// Run hands over what happens until ctx ends, in the order of happening per
	// CPU, in batches; the slice may be kept. emit must not block for long:
	// while it does, the kernel's buffer fills. Events carry Kind, Time,
	// WorkloadID, Process and payload; the rest is the agent's to fill in.
	Run(ctx context.Context, emit func([]event.Event)) error
	// Status returns the sensors with their counters; it may be called at any time.
	Status() []asset.Sensor
	// Close detaches everything.
	Close() error
}

// Host is the machine underneath.
type Host interface {
	// Describe probes the kernel once; what cannot be found out is said in
	// Host.Missing, not an error.
	Describe(ctx context.Context) (asset.Host, []asset.Rung)
	// Processes lists what runs now, container or not.
	Processes(ctx context.Context) ([]event.Running, error)
	// Usage is what this process has cost so far.
	Usage() asset.Usage
}

// Identifier adds the ECS identity that labels alone don't tell.
type Identifier interface {
	// Identify fills empty ECS fields of the workloads in place. Where nothing
	// answers it leaves them; it returns within a second.
	Identify(ctx context.Context, ws []asset.Workload)
	// Instance names the ECS container instance and cluster of this host; empty
	// when it is not one.
	Instance(ctx context.Context) (arn, cluster string)
}
