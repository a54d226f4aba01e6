package event

// Privilege is the payload of the privilege.… kinds. Which fields are set
// depends on the call; docs/events.md has a row for each.
type Privilege struct {
	Call   string `json:"call"`             // the system call, or "exec" for what an exec gave
	Source string `json:"source,omitempty"` // mount: what is mounted; as the process passed it
	Target string `json:"target,omitempty"` // mount point, path, module, keyring
	Type   string `json:"type,omitempty"`   // mount: type of file system; bpf: kind of program; setns: kind of namespace
	// Flags are the call's flags and commands in words: "bind", "newuser",
	// "attach", "prog_load".
	Flags      []string     `json:"flags,omitempty"`
	Process    Key          `json:"process,omitzero"`      // the other process, for ptrace and process_vm_writev
	WorkloadID string       `json:"workload_id,omitempty"` // of the other process; empty for the same or the host's
	Gained     Capabilities `json:"gained,omitempty"`      // capabilities that are new
	OldUID     uint32       `json:"old_uid,omitempty"`     // effective user before
	NewUID     uint32       `json:"new_uid,omitempty"`     // effective user after
	Device     uint32       `json:"device,omitempty"`      // the device's dev_t
	Error      string       `json:"error,omitempty"`       // why it failed: EPERM, …
}

// CapabilityUsed is among the flags of KindCapability where a capability was asked for,
// which a process had already.
const CapabilityUsed = "used"

// Memory is the payload of the memory.… kinds.
type Memory struct {
	Call       string   `json:"call"`                 // mmap, mprotect, memfd_create, …
	Path       string   `json:"path,omitempty"`       // the mapped file, or the memfd's name; empty for anonymous memory
	Origin     Origin   `json:"origin,omitempty"`     // where that file came from
	Layer      Layer    `json:"layer,omitzero"`       // the layer of the image that it came with, where that is known
	Protection []string `json:"protection,omitempty"` // read, write, execute: as asked for
	Length     uint64   `json:"length,omitempty"`     // bytes
	Error      string   `json:"error,omitempty"`      // why it failed: EACCES, …
}

// Resource is the payload of the resource.… kinds.
type Resource struct {
	What  string `json:"what"`            // memory, cpu, pids, descriptors
	Used  uint64 `json:"used,omitempty"`  // bytes, processes, or thousandths of a CPU
	Limit uint64 `json:"limit,omitempty"` // in the same unit; 0 when there is none
	// Scope says of a kill for want of memory whose memory ran out: that of a
	// container, of a cgroup around it or apart from any (the limit of an ECS task,
	// of a service of the host), or of the host. Used and Limit are that one's.
	// Empty where it was only counted.
	Scope    Scope  `json:"scope,omitempty"`
	Resident uint64 `json:"resident,omitempty"` // bytes in memory of the process that is killed
}

// Scope says whose a limit is.
type Scope string

// The scopes. The zero value says that nobody found out.
const (
	ScopeUnknown   Scope = ""
	ScopeContainer Scope = "container" // of the container itself, or of a cgroup that was made in it
	ScopeCgroup    Scope = "cgroup"    // of a cgroup around it, as an ECS task has, or of a service of the host
	ScopeHost      Scope = "host"      // none: the host has no memory left
)
