// Package agent is the node daemon: it follows the container engine and the
// kernel's sensors on one host, ties what they say together, and reports it to
// a server.
//
// It sequences doors over time; what a container may do is decided elsewhere.
package agent

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
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

// Teller tells of events beside the sensors: what the kernel refused.
type Teller interface {
	// Run hands over what happens until ctx ends, as Sensors.Run does.
	Run(ctx context.Context, emit func([]event.Event)) error
}

// Lister lists what runs with the exact start times that the sensors tell.
type Lister interface {
	// Running lists what runs now, container or not, without the kernel's own
	// threads. An error means that Host.Processes is to be asked instead.
	Running(ctx context.Context) ([]event.Running, error)
}

// Inspector looks at one process.
type Inspector interface {
	// Executable returns the path of the file that the process runs, as its own
	// root shows it; empty when it has ended or is not ours to see.
	Executable(k event.Key) string
}

// ProgramReader reads the files of programs that were executed.
type ProgramReader interface {
	// ReadProgram has use read the file of an exec, as long as it is to be had and
	// unchanged; beside is another process of the same container, or none. It neither
	// blocks nor reads anything but that file.
	ReadProgram(e *event.Event, beside event.Key, use func(event.FileIdentity, io.Reader) error) error
}

// Addresser reads addresses of network namespaces, loopback and link-local ones
// left out.
type Addresser interface {
	// Addresses returns those of the namespace that the process is in.
	Addresses(pid int) ([]netip.Addr, error)
	// HostAddresses returns those of the host's own namespace, in order.
	HostAddresses() ([]netip.Addr, error)
	// WatchAddresses calls ring, first of all at once, when addresses of the host
	// may have changed or an interface came to it or went. It does until ctx
	// ends, and then returns ctx's error; any other error means that no change
	// is told any more.
	WatchAddresses(ctx context.Context, ring func()) error
}

// Decider keeps by what deployments are decided on this host; *brief.Keeper is it.
type Decider interface {
	// Wish says that the server told of another policy or other exceptions.
	Wish(w link.AdmissionWish)
	// Run keeps it up to date until ctx ends.
	Run(ctx context.Context)
}

// Holder holds containers to what their groups normally do; *hold.Keeper is it.
type Holder interface {
	// Wish says that the server told of other rules.
	Wish(w link.BehaviourWish)
	// Seen says what the engine knows of containers.
	Seen(inv asset.Inventory)
	// Starting ties a container that is about to start, or has just been made.
	Starting(ctx context.Context, id string, g asset.Group) error
	// Run keeps it up to date until ctx ends; what is in force stays so.
	Run(ctx context.Context)
}

// Herald tells at once of containers that the engine makes.
type Herald interface {
	// Announce has made called with each, which must not wait; it is called before
	// the engine is watched.
	Announce(made func(asset.Workload))
}

// Supervisor is what started the agent and starts it anew when it fails.
type Supervisor interface {
	// Ready says that the agent watches: what waits for that may start.
	Ready() error
	// Alive says that it still does. If it is not said for twice the time of Every, the
	// supervisor ends the agent.
	Alive() error
	// Every is how often Alive is to be said; 0: never.
	Every() time.Duration
	// Stopping says that the agent ends because it was told to.
	Stopping() error
}

// Sampler measures what workloads use.
type Sampler interface {
	// Samples measures these workloads, and tells of what happened to them
	// meanwhile: resource.… events, to be numbered with all others. What can't
	// be measured is left out; it returns within a second or when ctx ends.
	Samples(ctx context.Context, ws []asset.Workload) ([]asset.Sample, []event.Event)
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
