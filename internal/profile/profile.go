// Package profile holds the nouns of behaviour: what the workloads of a group
// normally do, what of it a host's kernel holds them to, and what lay outside.
//
// A Profile is what people read, edit and sign. Rules are what it comes to for
// one host: nothing in them has to be looked up or understood any more. A
// Violation is what one or many events outside a profile come to.
package profile

import (
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Profile is the normal behaviour of a group. The lists are sorted by what they
// are about, so that one behaviour always gives one profile. The zero value
// permits nothing.
type Profile struct {
	Group    asset.Group `json:"group"`
	Revision int64       `json:"revision"` // increasing with each change of content; 0 before it is stored
	// Versions are the images whose behaviour was learned, the newest last.
	Versions []Version `json:"versions,omitempty"`

	Executables  []Executable `json:"executables,omitempty"`
	Writes       []File       `json:"writes,omitempty"` // files and folders made, changed, renamed, deleted
	Reads        []File       `json:"reads,omitempty"`  // sensitive files read; see event.File.Sensitive
	Listens      []Listen     `json:"listens,omitempty"`
	Peers        []Peer       `json:"peers,omitempty"`   // who connections are made to
	Callers      []Peer       `json:"callers,omitempty"` // whose connections are accepted; Port is the own one
	Names        []Name       `json:"names,omitempty"`
	Capabilities []Capability `json:"capabilities,omitempty"`
	Privileges   []Privilege  `json:"privileges,omitempty"`
	Calls        []Call       `json:"calls,omitempty"` // system calls; told while a group discovers
	Limits       Limits       `json:"limits,omitzero"`
	// UsesSeen says that hosts told which capabilities were used, so that those that
	// are not Used were only had.
	UsesSeen bool `json:"uses_seen,omitempty"`
}

// Version is an image that a group ran while it was learned from.
type Version struct {
	Digest    string    `json:"digest"`              // of the image: the manifest's, or the engine's id where that is unknown
	Reference string    `json:"reference,omitempty"` // by which it was started last
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

// Source says how an entry came into a profile.
type Source string

// The sources. The zero value is not one.
const (
	Learned Source = "learned"  // from events
	Person  Source = "person"   // somebody wrote or permitted it
	Initial Source = "starting" // from the starting profile of a well-known image
)

// Evidence is what an entry rests on.
type Evidence struct {
	Source Source    `json:"source"`
	First  time.Time `json:"first,omitzero"`
	Last   time.Time `json:"last,omitzero"`
	Count  uint64    `json:"count,omitempty"` // how often it was seen
	// Hosts are the agents on whose hosts it was seen, the first MaxHosts of them.
	Hosts []string `json:"hosts,omitempty"`
	// Version is the digest of the image that did it first.
	Version string `json:"version,omitempty"`
	// Latest is the digest of the newest image that did it. Where it is not that of
	// the profile's last version, only older versions do it.
	Latest string `json:"latest,omitempty"`
	// Sample is one thing that was seen and is covered by the entry, where the
	// entry is a pattern.
	Sample string `json:"sample,omitempty"`
	// Contents are, of a program that came with the image, what its file was seen to
	// hold, by the layer that it is from; the newest MaxContents of them.
	Contents []Content `json:"contents,omitempty"`
	// Used says, of a capability, that it was seen to be used, and not only had.
	Used bool `json:"used,omitempty"`
	// Comment is why a person permitted it; Actor is who.
	Comment string `json:"comment,omitempty"`
	Actor   string `json:"actor,omitempty"`
}

// Content is what a program's file holds in one layer of an image. A layer never
// changes: the same program of the same layer with another content was replaced.
type Content struct {
	Layer  string    `json:"layer"`  // diff id
	Digest string    `json:"digest"` // "sha256:HEX"
	Last   time.Time `json:"last"`   // when it was seen last
}

// MaxContents bounds the contents of one program: those of the versions of an image
// that a fleet runs beside each other.
const MaxContents = 8

// MaxHosts bounds the hosts that an entry names: more say nothing new.
const MaxHosts = 8

// Executable is a program that runs.
type Executable struct {
	Path Pattern `json:"path"` // of the file that runs, links followed
	// Origin is where the file came from. Anything but OriginImage means that
	// zero drift has an exception here.
	Origin event.Origin `json:"origin"`
	// Digest is that of its content, "sha256:HEX"; empty where it was not read or
	// differs between the versions of the image.
	Digest string `json:"digest,omitempty"`
	// Parents are the programs that start it, as paths; "" is the engine (the first
	// process of a container, or what was entered from outside).
	Parents []Pattern `json:"parents,omitempty"`
	Users   []uint32  `json:"users,omitempty"` // effective user ids
	// Scripts are the files that it was asked to run as an interpreter.
	Scripts []Pattern `json:"scripts,omitempty"`
	// Loose are those of Scripts that did not come with the image: they were written,
	// or lie on a volume.
	Loose []Pattern `json:"loose,omitempty"`
	// Loads are files and folders of code that it is told to load besides its script, by
	// options, variables or its standard input. They are reported alone.
	Loads []Pattern `json:"loads,omitempty"`
	Evidence
}

// File is a file or folder, or many by one pattern.
type File struct {
	Path Pattern `json:"path"`
	// Programs are the executables that did it, as paths.
	Programs []Pattern `json:"programs,omitempty"`
	Evidence
}

// Changes are the paths that may be changed by who may write f. To all below a folder
// belongs the folder itself: a new volume lacks it, and who may make, rename and remove
// all that is in it gains nothing by making, renaming and removing it.
func (f File) Changes() []Pattern {
	if folder, ok := f.Path.Folder(); ok {
		return []Pattern{f.Path, folder}
	}
	return []Pattern{f.Path}
}

// Listen is a port that is opened for others.
type Listen struct {
	Protocol string `json:"protocol"` // tcp, udp
	Port     Ports  `json:"port"`
	Evidence
}

// Peer is who is at the other end: exactly one of Group, Name, Network and Kind
// is set.
type Peer struct {
	Protocol string         `json:"protocol"` // tcp, udp, icmp
	Port     Ports          `json:"port,omitzero"`
	Group    asset.Group    `json:"group,omitempty"`  // a group of this fleet
	Name     string         `json:"name,omitempty"`   // a DNS name, or "*.example.com" for those below
	Network  netip.Prefix   `json:"network,omitzero"` // addresses
	Kind     event.PeerKind `json:"kind,omitempty"`   // self, host, service
	Evidence
}

// Name is what the DNS is asked for.
type Name struct {
	Name string `json:"name"` // or "*.example.com" for those below
	Evidence
}

// Capability is one that is used or gained.
type Capability struct {
	Name string `json:"name"` // without CAP_
	Evidence
}

// Privilege is a privileged call that is made.
type Privilege struct {
	Kind event.Kind `json:"kind"` // privilege.…, memory.… or network.raw
	// Detail narrows it, where the kind has more than one use: the flags of a
	// clone, the type of a mount, the name of a namespace; sorted, comma-separated.
	Detail string `json:"detail,omitempty"`
	Evidence
}

// Call is a system call.
type Call struct {
	Name string `json:"name"` // as seccomp profiles have it
	Evidence
}

// Limits are how much a container of the group may take. 0 means that nothing is
// set.
type Limits struct {
	Processes      uint64 `json:"processes,omitempty"`              // tasks, threads included
	Memory         uint64 `json:"memory_bytes,omitempty"`           // bytes
	CPU            uint64 `json:"cpu_millis,omitempty"`             // thousandths of a processor
	Descriptors    uint64 `json:"descriptors,omitempty"`            // open files of one process
	WriteBytes     uint64 `json:"write_bytes_second,omitempty"`     // to disks, bytes a second
	NewConnections uint64 `json:"new_connections_second,omitempty"` // connections begun a second
	Source         Source `json:"source,omitempty"`
}

// Ports is a range of ports; First and Last are the same for one. The zero value
// is no port.
type Ports struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// Has reports whether port is in the range.
func (p Ports) Has(port uint16) bool { return p.First <= port && port <= p.Last && p.Last != 0 }

// IsZero reports whether there is no port in it.
func (p Ports) IsZero() bool { return p == Ports{} }
