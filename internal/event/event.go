// Package event holds the noun for what a sensor saw.
//
// An Event is a value: who reported it, when, which process of which workload,
// and one payload that its kind decides. It is not for what was concluded from
// it (threats, violations, findings).
package event

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Version is the version of the event form that this build writes. Fields are
// only added within a version; a reader ignores what it does not know.
const Version = 1

// Kind names what happened, as "sensor.action".
type Kind string

// Event is one thing that a sensor saw.
//
// Text in it (paths, arguments, names) comes from programs that may be
// hostile: any byte but NUL can occur on the wire; decoders replace what is
// not valid UTF-8.
type Event struct {
	ID         int64     `json:"id"`                    // given by the store, increasing; 0 before
	Version    int       `json:"version"`               // form of this event, see Version
	AgentID    string    `json:"agent_id"`              // who reported it
	Boot       string    `json:"boot"`                  // the agent's start that Seq belongs to
	Seq        uint64    `json:"seq"`                   // increasing by one within a boot; a gap is a loss
	Time       time.Time `json:"time"`                  // by the agent's clock
	Received   time.Time `json:"received"`              // by the server's clock
	Kind       Kind      `json:"kind"`                  // what happened: see the kinds
	WorkloadID string    `json:"workload_id,omitempty"` // empty for a process of the host itself
	Group      string    `json:"group,omitempty"`       // of the workload, when known
	// Count is how many times it happened; 0 means once. Sensors tell the first
	// of what is alike at once and count the others: those follow as one event
	// of the same content, with the time from which they were counted in Time
	// and that of the last in Last. The sum over all events is what happened.
	Count   uint64    `json:"count,omitempty"`
	Last    time.Time `json:"last,omitzero"` // see Count
	Process Process   `json:"process"`       // whose doing it was
	// Reaction is what the host's kernel did about it, where its group's profile
	// does not have it: audited, denied, killed.
	Reaction Reaction `json:"reaction,omitempty"`

	Exec       *Exec       `json:"exec,omitempty"`
	Exit       *Exit       `json:"exit,omitempty"`
	File       *File       `json:"file,omitempty"`
	Connection *Connection `json:"connection,omitempty"`
	DNS        *DNS        `json:"dns,omitempty"`
	Privilege  *Privilege  `json:"privilege,omitempty"`
	Memory     *Memory     `json:"memory,omitempty"`
	Resource   *Resource   `json:"resource,omitempty"`
	Calls      *Calls      `json:"calls,omitempty"`
	// Call is that of KindCall. No agent tells it, so it has no form on the wire.
	Call *Call `json:"-"`
}

// Reaction says what a host's kernel did about an event that its group's
// profile does not have.
type Reaction string

// The reactions. The zero value is for what is in the profile, and for what
// nobody held against one.
const (
	ReactionNone    Reaction = ""
	ReactionAudited Reaction = "audited" // done; it would have been denied
	ReactionDenied  Reaction = "denied"  // refused: it was not done
	ReactionKilled  Reaction = "killed"  // the process died of it, before it could go on
)

// Times returns how many times it happened, at least 1.
func (e *Event) Times() uint64 { return max(e.Count, 1) }

// Clone returns a copy that shares no payload with e. Texts and lists of texts
// are shared: nobody changes them.
func (e *Event) Clone() Event {
	c := *e
	c.Exec, c.Exit, c.File = clone(e.Exec), clone(e.Exit), clone(e.File)
	c.Connection, c.DNS, c.Privilege = clone(e.Connection), clone(e.DNS), clone(e.Privilege)
	c.Memory, c.Resource, c.Calls, c.Call = clone(e.Memory), clone(e.Resource), clone(e.Calls), clone(e.Call)
	if c.Exec != nil {
		c.Exec.Ancestors = slices.Clone(c.Exec.Ancestors)
	}
	return c
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// Key identifies a process on one host from boot to shutdown: a pid is used
// again, a pid with its start time is not.
type Key struct {
	PID   uint32 // thread group id in the host's pid namespace
	Start uint64 // nanoseconds from boot to the start of the process, suspend included
}

// IsZero reports whether k names no process.
func (k Key) IsZero() bool { return k == Key{} }

// tick is the resolution of start times in /proc/PID/stat: USER_HZ is 100 on
// every Linux architecture that Castellan runs on.
const tick = uint64(10 * time.Millisecond)

// Same reports whether k and o name one process when either may come from
// /proc, which tells start times in ticks of 10 ms, and the other from the
// kernel's sensors, which tell nanoseconds. Within one tick a pid is not used
// again.
func (k Key) Same(o Key) bool {
	apart := max(k.Start, o.Start) - min(k.Start, o.Start)
	return k.PID == o.PID && apart < tick
}

// String returns "pid-start", both decimal.
func (k Key) String() string {
	return strconv.FormatUint(uint64(k.PID), 10) + "-" + strconv.FormatUint(k.Start, 10)
}

// MarshalText writes the form of String; the zero key is empty text.
func (k Key) MarshalText() ([]byte, error) {
	if k.IsZero() {
		return nil, nil
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads the form that MarshalText writes.
func (k *Key) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*k = Key{}
		return nil
	}
	pid, start, ok := strings.Cut(string(b), "-")
	p, err := strconv.ParseUint(pid, 10, 32)
	if !ok || err != nil {
		return fmt.Errorf("parse process key %q: want pid-start", b)
	}
	s, err := strconv.ParseUint(start, 10, 64)
	if err != nil {
		return fmt.Errorf("parse process key %q: want pid-start", b)
	}
	*k = Key{PID: uint32(p), Start: s}
	return nil
}

// Process is the process that an event is about, as it was right after the
// event.
type Process struct {
	Key          Key    `json:"key"`                     // pid on the host and start in nanoseconds since boot
	ContainerPID uint32 `json:"container_pid,omitempty"` // in its innermost pid namespace
	Parent       Key    `json:"parent,omitzero"`         // empty for the first processes
	Name         string `json:"name"`                    // the kernel's comm, 15 bytes at most
	Executable   string `json:"executable,omitempty"`    // path as the process's own root shows it
	UID          uint32 `json:"uid"`                     // real, in the initial user namespace
	EUID         uint32 `json:"euid"`                    // effective
	GID          uint32 `json:"gid"`                     // real
}

// Origin says where an executed file came from.
type Origin string

// The origins. Unknown is the zero value: nothing was found out, so nothing
// may be concluded from it.
const (
	OriginUnknown Origin = ""
	OriginImage   Origin = "image"   // unchanged from the image: only in lower overlay layers
	OriginWritten Origin = "written" // written or changed after the container was made: overlay upper layer
	OriginMount   Origin = "mount"   // on another file system than the container's root: volume, bind mount, tmpfs
	OriginMemory  Origin = "memory"  // memfd: never had a name on a file system
	OriginHost    Origin = "host"    // a process of the host itself
)

// Exec is the payload of KindExec.
type Exec struct {
	// Requested is the path given to execve where it differs from the file that
	// runs: a script whose interpreter runs, or a symbolic link.
	Requested     string   `json:"requested,omitempty"`
	Args          []string `json:"args"`                     // with the program's own name as the first
	ArgsTruncated bool     `json:"args_truncated,omitempty"` // there were more, or they could not be read
	Cwd           string   `json:"cwd,omitempty"`            // working directory
	// PathTruncated says that a path was deeper or longer than the sensor
	// follows; its end is right, its beginning is cut.
	PathTruncated bool         `json:"path_truncated,omitempty"`
	Origin        Origin       `json:"origin,omitempty"`  // where the executed file came from: image, written, mount, memory, host
	Layer         Layer        `json:"layer,omitzero"`    // the layer of the image that it came with, where that is known
	Deleted       bool         `json:"deleted,omitempty"` // the file had no name left when it ran
	Digest        string       `json:"digest,omitempty"`  // of the file's content: "sha256:" and 64 hex digits; empty where it was not read
	Inode         uint64       `json:"inode,omitempty"`   // of the file, on Device
	Device        uint32       `json:"device,omitempty"`  // the kernel's dev_t
	SetUID        bool         `json:"setuid,omitempty"`  // the file has that bit
	SetGID        bool         `json:"setgid,omitempty"`  // the file has that bit
	Capabilities  Capabilities `json:"capabilities"`      // effective, after the exec
	// Entered says that the process came into the container from outside
	// (docker exec, ECS Exec), not from one of its own processes. A program that
	// joins namespaces but not the cgroup (nsenter) counts as the host's.
	Entered   bool       `json:"entered,omitempty"`
	Ancestors []Ancestor `json:"ancestors,omitempty"` // parent first, nearest MaxAncestors
	// Environment has the variables that change which code a program runs or what
	// is kept of its doing, as NAME=value: LD_PRELOAD, LD_AUDIT, PYTHONPATH,
	// NODE_OPTIONS, BASH_ENV, HISTFILE and their like. No other variable leaves the
	// kernel. Of options of Java and Node those are kept that load code.
	Environment []string `json:"environment,omitempty"`
	// EnvironmentTruncated says that there may be more of them, or that one is longer.
	EnvironmentTruncated bool `json:"environment_truncated,omitempty"`
	// Stdio is what the program is given as input, output and error: three, or none
	// where it was not looked at.
	Stdio []Stream `json:"stdio,omitempty"`
}

// MaxAncestors bounds the parent chain of an exec: deeper trees are rare, and
// each step is a read in the kernel on every exec.
const MaxAncestors = 8

// Ancestor is one step of a parent chain.
type Ancestor struct {
	Key        Key    `json:"key"`                  // pid and start
	Name       string `json:"name"`                 // the kernel's comm
	Executable string `json:"executable,omitempty"` // when the agent knew it
}

// Exit is the payload of KindExit.
type Exit struct {
	Code       int           `json:"code"`                  // 0 to 255; 0 when a signal ended it
	Signal     int           `json:"signal,omitempty"`      // 0 when it ended by itself
	CoreDumped bool          `json:"core_dumped,omitempty"` // the signal left a core dump
	Lifetime   time.Duration `json:"lifetime_ns"`           // from its start to its end
}

// Calls is the payload of KindCalls.
type Calls struct {
	// Names are the system calls that the workload made for the first time since
	// it was looked at, as seccomp profiles name them; sorted, MaxCalls at most.
	Names []string `json:"names"`
	// Capabilities are those that it used for the first time since then: that the
	// kernel let it do something for. To have one is not to use it.
	Capabilities Capabilities `json:"capabilities,omitempty"`
	// CapabilitiesSeen says that the host sees uses of capabilities, so that those
	// that are not told are not used.
	CapabilitiesSeen bool `json:"capabilities_seen,omitempty"`
}

// MaxCalls bounds the system calls of one event: no architecture has more.
const MaxCalls = 512
