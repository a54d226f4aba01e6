package event

import (
	"net/netip"
	"time"
)

// Connection is the payload of the network.… kinds. Zero addresses are left
// out where the kernel had none: a raw socket, a connect that failed early.
type Connection struct {
	Protocol string         `json:"protocol"`           // tcp, udp, icmp, raw, packet, unix, or the number
	Local    netip.AddrPort `json:"local,omitzero"`     // of this side
	Remote   netip.AddrPort `json:"remote,omitzero"`    // of the peer
	NetNS    uint32         `json:"net_ns,omitempty"`   // inode number of the network namespace
	Incoming bool           `json:"incoming,omitempty"` // for close and stdio: the peer began
	Error    string         `json:"error,omitempty"`    // why connect failed: ECONNREFUSED, ETIMEDOUT, …
	// Resumed says that the connection was there before the agent: it was found
	// among the open ones, not seen to begin.
	Resumed bool `json:"resumed,omitempty"`

	BytesSent       uint64        `json:"bytes_sent,omitempty"`       // of the whole connection, for close; of a part of it, for flow; payload only
	BytesReceived   uint64        `json:"bytes_received,omitempty"`   // payload, for close and flow
	PacketsSent     uint64        `json:"packets_sent,omitempty"`     // for close and flow
	PacketsReceived uint64        `json:"packets_received,omitempty"` // for close and flow
	Duration        time.Duration `json:"duration_ns,omitempty"`      // for close and flow

	// Path is the name of a unix socket as its listener bound it, wherever the process
	// has it mounted; of one that refused, what the process asked for. One that is
	// abstract begins with @.
	Path string `json:"path,omitempty"`
	// Asked is what the process called that socket where that is another name, as it
	// claims: relative to where it is, and through links.
	Asked string `json:"asked,omitempty"`
	// Listener is who called listen on a unix socket, where that is known: init for
	// a socket that systemd made.
	Listener           Key    `json:"listener,omitzero"`
	ListenerName       string `json:"listener_name,omitempty"`        // the name of that process, 15 bytes at most
	ListenerWorkloadID string `json:"listener_workload_id,omitempty"` // its container; empty for the host's
	Outside            bool   `json:"outside,omitempty"`              // who listens at a unix socket is not of the same container: of another, or of the host
	Stream             string `json:"stream,omitempty"`               // for stdio: input, output, error

	// Name is what the workload asked the DNS for when it was told the remote
	// address; empty when it did not ask.
	Name string `json:"name,omitempty"`
	Peer Peer   `json:"peer,omitzero"` // who the remote address is
}

// PeerKind says what is at the other end of a connection.
type PeerKind string

// The kinds of peer. The zero value says that nobody found out.
const (
	PeerUnknown  PeerKind = ""
	PeerWorkload PeerKind = "workload" // a container of this fleet
	PeerHost     PeerKind = "host"     // a machine of this fleet, or who is behind its address translation
	PeerSelf     PeerKind = "self"     // the workload itself, by its own or a loopback address
	PeerService  PeerKind = "service"  // a link-local service: instance metadata, task metadata, resolver
	PeerPrivate  PeerKind = "private"  // a private address that nobody of this fleet has
	PeerPublic   PeerKind = "public"   // an address of the internet
)

// Peer is who a remote address is. The server fills it in from what all agents
// tell; it holds for the time of the event.
type Peer struct {
	Kind       PeerKind `json:"kind,omitempty"`        // workload, host, self, service, private, public
	WorkloadID string   `json:"workload_id,omitempty"` // of a workload
	Group      string   `json:"group,omitempty"`       // of a workload
	AgentID    string   `json:"agent_id,omitempty"`    // of a host, or of the workload's host
	// Port is the workload's own port where the connection went through a
	// published port of its host; 0 when it did not.
	Port uint16 `json:"port,omitempty"`
}

// DNS is the payload of the dns.… kinds: one question, and for an answer what
// was said to it.
type DNS struct {
	Protocol  string         `json:"protocol"`            // udp, tcp
	Server    netip.AddrPort `json:"server,omitzero"`     // who was asked
	Client    netip.AddrPort `json:"client,omitzero"`     // who asked
	ID        uint16         `json:"id"`                  // that ties an answer to its question
	Name      string         `json:"name"`                // lower case, without the last dot; "." is the root
	Type      string         `json:"type"`                // A, AAAA, CNAME, TXT, …, or TYPE65
	Code      string         `json:"code,omitempty"`      // of an answer: NOERROR, NXDOMAIN, SERVFAIL, …
	Answers   []string       `json:"answers,omitempty"`   // addresses, names and texts, MaxAnswers at most
	Truncated bool           `json:"truncated,omitempty"` // the answer did not fit (TC), or not all of it is here
	Size      int            `json:"size,omitempty"`      // bytes of the message
}

// MaxAnswers bounds the answers kept of one DNS message.
const MaxAnswers = 32
