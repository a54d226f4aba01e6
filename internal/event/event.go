// Package event holds the noun for what a sensor saw.
//
// An Event is a value: who reported it, when, which process of which workload,
// and one payload that its kind decides. It is not for what was concluded from
// it (threats, violations, findings).
package event

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Version is the version of the event form that this build writes. Fields are
// only added within a version; a reader ignores what it does not know.
const Version = 1

// Kind names what happened, as "sensor.action".
type Kind string

// The kinds of event.
const (
	KindFork Kind = "process.fork" // a process was created that did not execute a file at once; Process is the child
	KindExec Kind = "process.exec" // a process began to run another file
	KindExit Kind = "process.exit" // a process ended
)

// Kinds lists every kind, in the order in which they are shown.
func Kinds() []Kind { return []Kind{KindExec, KindFork, KindExit} }

// Event is one thing that a sensor saw.
//
// Text in it (paths, arguments, names) comes from programs that may be
// hostile: any byte but NUL can occur on the wire; decoders replace what is
// not valid UTF-8.
type Event struct {
	ID         int64     `json:"id"`      // given by the store, increasing; 0 before
	Version    int       `json:"version"` // form of this event, see Version
	AgentID    string    `json:"agent_id"`
	Boot       string    `json:"boot"` // the agent's start that Seq belongs to
	Seq        uint64    `json:"seq"`  // increasing by one within a boot; a gap is a loss
	Time       time.Time `json:"time"` // by the agent's clock
	Received   time.Time `json:"received"`
	Kind       Kind      `json:"kind"`
	WorkloadID string    `json:"workload_id,omitempty"` // empty for a process of the host itself
	Group      string    `json:"group,omitempty"`       // of the workload, when known
	Process    Process   `json:"process"`
	Exec       *Exec     `json:"exec,omitempty"`
	Exit       *Exit     `json:"exit,omitempty"`
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
	Key          Key    `json:"key"`
	ContainerPID uint32 `json:"container_pid,omitempty"` // in its innermost pid namespace
	Parent       Key    `json:"parent,omitzero"`
	Name         string `json:"name"`                 // the kernel's comm, 15 bytes at most
	Executable   string `json:"executable,omitempty"` // path as the process's own root shows it
	UID          uint32 `json:"uid"`                  // real, in the initial user namespace
	EUID         uint32 `json:"euid"`
	GID          uint32 `json:"gid"`
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
	Args          []string `json:"args"`
	ArgsTruncated bool     `json:"args_truncated,omitempty"`
	Cwd           string   `json:"cwd,omitempty"`
	// PathTruncated says that a path was deeper or longer than the sensor
	// follows; its end is right, its beginning is cut.
	PathTruncated bool         `json:"path_truncated,omitempty"`
	Origin        Origin       `json:"origin,omitempty"`
	Deleted       bool         `json:"deleted,omitempty"` // the file had no name left when it ran
	Inode         uint64       `json:"inode,omitempty"`
	Device        uint32       `json:"device,omitempty"` // the kernel's dev_t
	SetUID        bool         `json:"setuid,omitempty"`
	SetGID        bool         `json:"setgid,omitempty"`
	Capabilities  Capabilities `json:"capabilities"` // effective, after the exec
	// Entered says that the process came into the container from outside
	// (docker exec, ECS Exec), not from one of its own processes. A program that
	// joins namespaces but not the cgroup (nsenter) counts as the host's.
	Entered   bool       `json:"entered,omitempty"`
	Ancestors []Ancestor `json:"ancestors,omitempty"` // parent first, nearest MaxAncestors
}

// MaxAncestors bounds the parent chain of an exec: deeper trees are rare, and
// each step is a read in the kernel on every exec.
const MaxAncestors = 8

// Ancestor is one step of a parent chain.
type Ancestor struct {
	Key        Key    `json:"key"`
	Name       string `json:"name"`
	Executable string `json:"executable,omitempty"` // when the agent knew it
}

// Exit is the payload of KindExit.
type Exit struct {
	Code       int           `json:"code"`             // 0 to 255; 0 when a signal ended it
	Signal     int           `json:"signal,omitempty"` // 0 when it ended by itself
	CoreDumped bool          `json:"core_dumped,omitempty"`
	Lifetime   time.Duration `json:"lifetime_ns"`
}
