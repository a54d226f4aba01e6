package camera

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxNet bounds one table of the network, in bytes: some fifty thousand sockets.
const maxNet = 8 << 20

// Connection is one socket of a container's network, in connections.json.
type Connection struct {
	Protocol string         `json:"protocol"` // tcp, tcp6, udp, udp6
	Local    netip.AddrPort `json:"local"`
	Remote   netip.AddrPort `json:"remote"`
	State    string         `json:"state"`
	UID      uint64         `json:"uid"`
	Inode    uint64         `json:"inode"` // socket:[inode] among the open files of processes
}

// tcpStates are those of include/net/tcp_states.h.
var tcpStates = []string{"", "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait", "close", "close-wait", "last-ack", "listen", "closing", "new-syn-recv"}

// network takes what the container's network has: its tables as the kernel writes
// them, and those of connections in words.
func (s *shot) network(pid uint32) {
	dir, err := unix.Open(filepath.Join(s.o.Proc, strconv.FormatUint(uint64(pid), 10)), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		s.lack("network: %v", err)
		return
	}
	defer unix.Close(dir)
	var all []Connection
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6", "unix", "raw", "raw6", "packet", "dev", "route", "ipv6_route", "arp", "fib_trie"} {
		b, cut, err := readIn(dir, "net/"+name, maxNet)
		if err != nil {
			if name != "fib_trie" && name != "ipv6_route" { // kernels without them
				s.lack("network: %s: %v", name, err)
			}
			continue
		}
		s.put("network/"+name, b, cut)
		if slices.Contains([]string{"tcp", "tcp6", "udp", "udp6"}, name) {
			all = append(all, connections(name, b)...)
		}
	}
	s.putJSON("connections.json", all)
}

// connections reads a table of proc_net(5).
func connections(protocol string, table []byte) (out []Connection) {
	const local, remote, state, uid, inode = 1, 2, 3, 7, 9
	for line := range bytes.Lines(table) {
		f := bytes.Fields(line)
		if len(f) <= inode || string(f[0]) == "sl" {
			continue
		}
		c := Connection{Protocol: protocol, Local: address(f[local]), Remote: address(f[remote])}
		if n, err := strconv.ParseUint(string(f[state]), 16, 8); err == nil && int(n) < len(tcpStates) {
			c.State = tcpStates[n]
		}
		var err1, err2 error
		c.UID, err1 = strconv.ParseUint(string(f[uid]), 10, 32)
		c.Inode, err2 = strconv.ParseUint(string(f[inode]), 10, 64)
		if err1 == nil && err2 == nil {
			out = append(out, c)
		}
	}
	return out
}

// address reads HEX:PORT, whose words of 32 bits are in the order of the machine:
// little-endian on all that we run on.
func address(b []byte) netip.AddrPort {
	at, port, _ := bytes.Cut(b, []byte{':'})
	raw := make([]byte, hex.DecodedLen(len(at)))
	if _, err := hex.Decode(raw, at); err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(string(port), 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n))
}
