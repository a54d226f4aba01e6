package event

import "net/netip"

// StreamKind says what a standard descriptor is.
type StreamKind string

// The kinds of stream. The zero value says that nobody looked.
const (
	StreamUnknown  StreamKind = ""
	StreamNone     StreamKind = "none"     // the descriptor is closed
	StreamFile     StreamKind = "file"     // a plain file
	StreamFolder   StreamKind = "folder"   // a folder
	StreamPipe     StreamKind = "pipe"     // a pipe, named or not
	StreamTerminal StreamKind = "terminal" // a terminal, or what looks like one
	StreamNull     StreamKind = "null"     // /dev/null
	StreamDevice   StreamKind = "device"   // another device
	StreamTCP      StreamKind = "tcp"      // a connection, or a socket that waits for some
	StreamUDP      StreamKind = "udp"      // a UDP socket
	StreamUnix     StreamKind = "unix"     // a unix socket
	StreamSocket   StreamKind = "socket"   // a socket of another kind
	StreamOther    StreamKind = "other"    // something else
)

// Valid reports whether k is a kind of stream, or the zero value.
func (k StreamKind) Valid() bool {
	switch k {
	case StreamUnknown, StreamNone, StreamFile, StreamFolder, StreamPipe, StreamTerminal, StreamNull, StreamDevice, StreamTCP,
		StreamUDP, StreamUnix, StreamSocket, StreamOther:
		return true
	}
	return false
}

// Streams is how many descriptors of an exec are told: input, output and error.
const Streams = 3

// Stream is what a program is given as one of its first three descriptors.
type Stream struct {
	Kind   StreamKind     `json:"kind,omitempty"`  // none, file, folder, pipe, terminal, null, device, tcp, udp, unix, socket, other
	Remote netip.AddrPort `json:"remote,omitzero"` // of a tcp or udp socket that has a peer
	Inode  uint64         `json:"inode,omitempty"` // of a pipe or socket: it is the same in all processes that have it
}
