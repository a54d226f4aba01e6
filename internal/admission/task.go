package admission

import (
	"cmp"
	"encoding/json"
)

// Task is what shall run together: a task definition, or one container of an
// engine without ECS.
type Task struct {
	Family     string      `json:"family,omitempty"`
	Revision   string      `json:"revision,omitempty"`
	ARN        string      `json:"arn,omitempty"` // of the task or the task definition
	Launch     string      `json:"launch,omitempty"`
	Network    string      `json:"network,omitempty"` // host, bridge, awsvpc, none, container:…
	PID        string      `json:"pid,omitempty"`
	IPC        string      `json:"ipc,omitempty"`
	Roles      []Role      `json:"roles,omitempty"`
	Containers []Container `json:"containers"`
	Volumes    []Volume    `json:"volumes,omitempty"`
	// Exec says that ECS Exec is enabled, PublicIP that its interfaces get public
	// addresses; both are the service's to say.
	Exec     bool `json:"exec,omitempty"`
	PublicIP bool `json:"public_ip,omitempty"`
	// Count is how many of it shall run, 0 if not known.
	Count int `json:"count,omitempty"`
}

// Role is an IAM role that a task gets.
type Role struct {
	Use string `json:"use"` // "task" or "execution"
	ARN string `json:"arn"`
	// Policies are the documents of its policies, inline and attached. Known says
	// that they are all of them, and Boundary too where it is Bounded.
	Policies []json.RawMessage `json:"policies,omitempty"`
	Known    bool              `json:"known,omitempty"`
	// Bounded says that it has a permissions boundary, which is Boundary; nil where
	// nobody knows what that says.
	Bounded  bool            `json:"bounded,omitempty"`
	Boundary json.RawMessage `json:"boundary,omitempty"`
}

// Container is one container of a task.
type Container struct {
	Name  string `json:"name"`
	Image Image  `json:"image"`
	// Essential says that the task ends with it.
	Essential    bool              `json:"essential,omitempty"`
	Privileged   bool              `json:"privileged,omitempty"`
	User         string            `json:"user,omitempty"` // as configured; empty: the image's
	ReadOnlyRoot bool              `json:"read_only_root,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Command      []string          `json:"command,omitempty"`
	CapAdd       []string          `json:"cap_add,omitempty"`  // upper case, without CAP_
	CapDrop      []string          `json:"cap_drop,omitempty"` // upper case, without CAP_
	SecurityOpt  []string          `json:"security_opt,omitempty"`
	Devices      []string          `json:"devices,omitempty"` // paths on the host, and rules of device cgroups
	Mounts       []Mount           `json:"mounts,omitempty"`
	Ports        []Port            `json:"ports,omitempty"`
	Env          []Variable        `json:"env,omitempty"`
	Secrets      []Variable        `json:"secrets,omitempty"` // the value is where it comes from
	Labels       map[string]string `json:"labels,omitempty"`
	Sysctls      map[string]string `json:"sysctls,omitempty"`
	Ulimits      map[string]int64  `json:"ulimits,omitempty"` // hard limits
	MemoryBytes  int64             `json:"memory_bytes,omitempty"`
	CPUUnits     int64             `json:"cpu_units,omitempty"` // 1,024 are one processor
	PidsLimit    int64             `json:"pids_limit,omitempty"`
	// Modes of namespaces, as the engine writes them; empty: its own.
	Network string   `json:"network,omitempty"`
	PID     string   `json:"pid,omitempty"`
	IPC     string   `json:"ipc,omitempty"`
	UTS     string   `json:"uts,omitempty"`
	UserNS  string   `json:"userns,omitempty"`
	Cgroup  string   `json:"cgroup,omitempty"`
	Parent  string   `json:"cgroup_parent,omitempty"`
	Runtime string   `json:"runtime,omitempty"`
	Log     string   `json:"log,omitempty"` // its driver
	Health  bool     `json:"health,omitempty"`
	From    []string `json:"volumes_from,omitempty"` // containers whose volumes it gets
}

// Image is an image as it was asked for, and what that is.
type Image struct {
	Reference  string `json:"reference"`            // as written
	Registry   string `json:"registry,omitempty"`   // host, with docker.io for what names none
	Repository string `json:"repository,omitempty"` // without registry
	Tag        string `json:"tag,omitempty"`
	// Digest is the registry's, of the manifest or the index; empty if it is not
	// known. Pinned says that the reference itself names it.
	Digest string `json:"digest,omitempty"`
	Pinned bool   `json:"pinned,omitempty"`
	ID     string `json:"id,omitempty"` // the engine's
}

// Mount puts something into a container.
type Mount struct {
	Kind     string `json:"kind"`             // bind, volume, tmpfs, image
	Source   string `json:"source,omitempty"` // path on the host, or the volume's name
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
	// Propagation is of binds: rprivate, rshared, …
	Propagation string `json:"propagation,omitempty"`
	// Image is what is mounted by a mount of the kind image.
	Image *Image `json:"image,omitempty"`
}

// Images are the images that a container has: its own, and those that are mounted
// into it.
func (c *Container) Images() []*Image {
	out := []*Image{&c.Image}
	for i := range c.Mounts {
		if m := c.Mounts[i].Image; m != nil {
			out = append(out, m)
		}
	}
	return out
}

// Volume is a volume of a task, or of an engine.
type Volume struct {
	Name    string            `json:"name"`
	Host    string            `json:"host,omitempty"` // path on the host
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}

// Port is a port that is open to others.
type Port struct {
	Container uint16 `json:"container"`
	Host      uint16 `json:"host,omitempty"` // 0: whichever is free, or none
	Address   string `json:"address,omitempty"`
	Protocol  string `json:"protocol,omitempty"` // tcp, udp, sctp
}

// Variable is a variable of the environment. Doors leave out values that look
// like secrets: they give the faults of the scanner instead.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// Name is what people call the image: its reference, or what else is known of it.
func (i *Image) Name() string { return cmp.Or(i.Reference, i.Digest, i.ID, "an image") }
