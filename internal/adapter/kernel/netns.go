package kernel

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

const (
	// routesLimit holds some 20,000 routes; a container has a handful, a host
	// with a routing table of the internet loses what stands behind.
	routesLimit = 2 << 20
	// addressLimit bounds the addresses of one namespace.
	addressLimit = 256
)

// Addresses returns the addresses of the network namespace that a process is
// in, loopback and link-local ones left out, in order. It asks the kernel and
// not the engine, which knows nothing of an interface that something else
// moved into the namespace, as awsvpc tasks have. The error is of a process
// that has gone, or may not be looked at.
func (h *Host) Addresses(pid int) ([]netip.Addr, error) {
	dir := strconv.Itoa(pid)
	four, err := readBounded(h.inProc(dir, "net", "fib_trie"), routesLimit)
	if err != nil {
		return nil, fmt.Errorf("read the addresses of process %d: %w", pid, err)
	}
	found := localIPv4(four)
	// Without IPv6 in the kernel the file is not there.
	if six, err := readBounded(h.inProc(dir, "net", "if_inet6"), fileLimit); err == nil {
		found = append(found, localIPv6(six)...)
	}
	slices.SortFunc(found, netip.Addr.Compare)
	found = slices.Compact(found)
	return found[:min(len(found), addressLimit)], nil
}

// HostAddresses returns the addresses of the host's own network namespace, also
// where this program is in another one.
func (h *Host) HostAddresses() ([]netip.Addr, error) { return h.Addresses(h.netOf) }

// localIPv4 reads /proc/PID/net/fib_trie (net/ipv4/fib_trie.c): a leaf "|-- A"
// is followed by its routes, of which "/32 host LOCAL" is an address of the
// namespace itself.
func localIPv4(file []byte) []netip.Addr {
	var out []netip.Addr
	var leaf netip.Addr
	for line := range bytes.Lines(file) {
		line = bytes.TrimSpace(line)
		if text, ok := bytes.CutPrefix(line, []byte("|-- ")); ok {
			leaf, _ = netip.ParseAddr(string(text)) // an invalid one is not taken below
			continue
		}
		if bytes.Equal(line, []byte("/32 host LOCAL")) && leaf.Is4() && ours(leaf) && len(out) < addressLimit && !slices.Contains(out, leaf) {
			out = append(out, leaf)
		}
	}
	return out
}

// Flags of an address: include/uapi/linux/if_addr.h.
const (
	duplicate = 0x08 // IFA_F_DADFAILED: another machine has it
	tentative = 0x40 // IFA_F_TENTATIVE: not sure yet
)

// localIPv6 reads /proc/PID/net/if_inet6 (net/ipv6/addrconf.c): the address in
// 32 hex digits, the interface's number, the prefix' length, the scope, the
// flags and the interface's name.
func localIPv6(file []byte) []netip.Addr {
	var out []netip.Addr
	for line := range bytes.Lines(file) {
		field := bytes.Fields(line)
		const fields, flagsAt = 6, 4
		if len(field) != fields || len(out) == addressLimit {
			continue
		}
		var raw [16]byte
		if n, err := hex.Decode(raw[:], field[0][:min(len(field[0]), 2*len(raw))]); err != nil || n != len(raw) || len(field[0]) != 2*len(raw) {
			continue
		}
		flags, err := strconv.ParseUint(string(field[flagsAt]), 16, 32)
		a := netip.AddrFrom16(raw)
		if err == nil && flags&(duplicate|tentative) == 0 && !a.Is4In6() && ours(a) {
			out = append(out, a)
		}
	}
	return out
}

// ours reports an address that others can reach a namespace by.
func ours(a netip.Addr) bool {
	return a.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() && !a.IsMulticast()
}
