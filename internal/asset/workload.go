package asset

import (
	"net/netip"
	"strings"
	"time"
)

// State is where a workload is in its life, in the engine's own words.
type State string

// The states of a workload. Lost means that the engine no longer knows it and
// nobody saw it end.
const (
	Created State = "created"
	Running State = "running"
	Paused  State = "paused"
	Exited  State = "exited"
	Lost    State = "lost"
)

// Runs says that a workload in this state has processes, be they paused.
func (s State) Runs() bool { return s == Running || s == Paused }

// Workload is one container with its ECS identity. On plain Docker the ECS
// fields are empty and the container's own name stands in.
//
// Everything that comes from labels or from the engine is untrusted text:
// bounded in length where it is read, escaped where it is shown.
type Workload struct {
	ID        string     `json:"id"`       // the engine's container id: 64 lower-case hex digits
	AgentID   string     `json:"agent_id"` // the agent on whose host it runs
	Name      string     `json:"name"`     // the container's own name, without the leading slash
	ECS       ECS        `json:"ecs"`
	Group     Group      `json:"group"` // derived by GroupOf; stored so that it can be asked for
	Image     Image      `json:"image"`
	State     State      `json:"state"`
	PID       int        `json:"pid,omitempty"` // of its first process in the host's pid namespace; 0 when it does not run
	Created   time.Time  `json:"created"`
	Started   *time.Time `json:"started,omitempty"`
	Finished  *time.Time `json:"finished,omitempty"`
	ExitCode  *int       `json:"exit_code,omitempty"`
	OOMKilled bool       `json:"oom_killed,omitempty"`
	Settings  Settings   `json:"settings"`
	// Partial is true for a container that was gone before the engine could be
	// asked about it: what is known comes from the engine's event or the kernel.
	Partial bool `json:"partial,omitempty"`
	// Updated is when the agent last learned something about it.
	Updated time.Time `json:"updated"`
}

// ECS is the identity that Amazon ECS gives a container. The zero value means
// a container that ECS did not start.
type ECS struct {
	Account   string `json:"account,omitempty"`
	Region    string `json:"region,omitempty"`
	Cluster   string `json:"cluster,omitempty"` // name, not ARN
	Service   string `json:"service,omitempty"`
	Family    string `json:"family,omitempty"`
	Revision  string `json:"revision,omitempty"`
	TaskARN   string `json:"task_arn,omitempty"`
	TaskID    string `json:"task_id,omitempty"`
	Container string `json:"container,omitempty"` // the name in the task definition
}

// Image is what a workload was started from.
type Image struct {
	Reference string `json:"reference"`        // as the engine was asked for it
	ID        string `json:"id,omitempty"`     // the engine's image id, sha256:…
	Digest    string `json:"digest,omitempty"` // the registry manifest's digest, when the engine knows it
	// Layers are the diff ids of its layers, the base first; empty when it is not
	// known that the container's root is made of them.
	Layers []string `json:"layers,omitempty"`
}

// Repository returns an image's reference without tag and digest.
func Repository(reference string) string {
	name, _, _ := strings.Cut(reference, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}

// Settings are the parts of a container's configuration that matter to its
// isolation.
type Settings struct {
	User       string   `json:"user,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"` // path and arguments as the engine starts it
	// HealthCheck is the command by which the engine asks in the container whether all
	// is well, with its arguments; none if it does not ask.
	HealthCheck  []string     `json:"health_check,omitempty"`
	Privileged   bool         `json:"privileged,omitempty"`
	ReadOnlyRoot bool         `json:"read_only_root,omitempty"`
	NetworkMode  string       `json:"network_mode,omitempty"`
	PIDMode      string       `json:"pid_mode,omitempty"`
	IPCMode      string       `json:"ipc_mode,omitempty"`
	CapAdd       []string     `json:"cap_add,omitempty"`
	CapDrop      []string     `json:"cap_drop,omitempty"`
	SecurityOpt  []string     `json:"security_opt,omitempty"`
	Addresses    []netip.Addr `json:"addresses,omitempty"`
	Ports        []Port       `json:"ports,omitempty"`
	Mounts       []Mount      `json:"mounts,omitempty"`
	MemoryLimit  int64        `json:"memory_limit_bytes,omitempty"` // 0: none
	PidsLimit    int64        `json:"pids_limit,omitempty"`         // 0: none
}

// Port is one port that a container exposes; HostPort is 0 unless published.
type Port struct {
	Protocol string     `json:"protocol"` // tcp, udp, sctp
	Port     uint16     `json:"port"`
	HostAddr netip.Addr `json:"host_addr,omitzero"`
	HostPort uint16     `json:"host_port,omitempty"`
}

// Mount is one bind mount, volume or tmpfs of a container.
type Mount struct {
	Kind     string `json:"kind"`             // bind, volume, tmpfs
	Source   string `json:"source,omitempty"` // on the host; empty for tmpfs
	Target   string `json:"target"`           // in the container
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Group is what a policy is about: "cluster/service/container", or
// "cluster/family/container" for a task that no service owns. On plain Docker
// it is "docker/<name>".
type Group string

// GroupOf derives the group of w from its identity. It is never empty: a
// workload about which nothing is known is in the group "docker/<short id>".
func GroupOf(w Workload) Group {
	e := w.ECS
	if e.Cluster != "" && e.Container != "" {
		owner := e.Service
		if owner == "" {
			owner = e.Family
		}
		if owner != "" {
			return Group(e.Cluster + "/" + owner + "/" + e.Container)
		}
	}
	if w.Name != "" {
		return Group("docker/" + w.Name)
	}
	return Group("docker/" + ShortID(w.ID))
}

// ShortID returns the first twelve characters of a container id, the form that
// the engine's own command line prints.
func ShortID(id string) string {
	if len(id) > shortIDLen {
		return id[:shortIDLen]
	}
	return id
}

const shortIDLen = 12

// IsContainerID reports whether id is a container id in full, 64 lower-case hex
// digits: the only form that may become part of a path or a key.
func IsContainerID(id string) bool {
	const idLen = 64
	if len(id) != idLen {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
