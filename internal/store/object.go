package store

import (
	"iter"
	"net/netip"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// Objects yields the texts of what an event was about, beside its process:
// paths, peers, sockets and DNS names. They are searched by EventQuery.Text; some may be
// empty.
func Objects(e *event.Event) iter.Seq[string] {
	return func(yield func(string) bool) {
		if f := e.File; f != nil && !(yield(f.Path) && yield(f.To)) {
			return
		}
		if c := e.Connection; c != nil && !(yield(c.Name) && yield(c.Peer.WorkloadID) && yield(c.Peer.Group) &&
			yield(AddressText(c.Remote))) {
			return
		}
		if e.DNS != nil && !yield(e.DNS.Name) {
			return
		}
		if e.Privilege != nil && !yield(e.Privilege.Target) {
			return
		}
		if e.Memory != nil && !yield(e.Memory.Path) {
			return
		}
		if e.Connection != nil {
			yield(e.Connection.Path) // the last: it came when others were stored already
		}
	}
}

// Paths yields what EventQuery.Path is compared with.
func Paths(e *event.Event) iter.Seq[string] {
	return func(yield func(string) bool) {
		if f := e.File; f != nil && (f.Path != "" && !yield(f.Path) || f.To != "" && !yield(f.To)) {
			return
		}
		// The target of a mount is a path, that of a module its name.
		if p := e.Privilege; p != nil && strings.HasPrefix(p.Target, "/") && !yield(p.Target) {
			return
		}
		if m := e.Memory; m != nil && m.Path != "" && !yield(m.Path) {
			return
		}
		if c := e.Connection; c != nil && c.Path != "" {
			yield(c.Path)
		}
	}
}

// MatchesPath decides EventQuery.Path on one event. As with Executable, "*"
// alone and the empty path filter nothing.
func MatchesPath(e *event.Event, path string) bool {
	prefix, open := strings.CutSuffix(path, "*")
	if path == "" || open && prefix == "" {
		return true
	}
	for p := range Paths(e) {
		if p == path && !open || open && strings.HasPrefix(p, prefix) {
			return true
		}
	}
	return false
}

// Peers yields what EventQuery.Peer is compared with: the address without its
// port, names, the workload and its group.
func Peers(e *event.Event) iter.Seq[string] {
	return func(yield func(string) bool) {
		if c := e.Connection; c != nil {
			for _, text := range [...]string{plainText(c.Remote.Addr()), c.Name, c.Peer.WorkloadID, c.Peer.Group} {
				if text != "" && !yield(text) {
					return
				}
			}
		}
		if d := e.DNS; d != nil && d.Name != "" {
			yield(d.Name)
		}
	}
}

// MatchesPeer decides EventQuery.Peer on one event.
func MatchesPeer(e *event.Event, peer string) bool {
	if peer == "" {
		return true
	}
	text, port := ParsePeer(peer)
	if port != 0 {
		return e.Connection != nil && e.Connection.Remote.Port() == port && plainText(e.Connection.Remote.Addr()) == text
	}
	for p := range Peers(e) {
		if p == text {
			return true
		}
	}
	return false
}

// ParsePeer takes an EventQuery.Peer apart: the text as Peers yields it, and
// the port that was asked for, 0 for any. An address is told in one form
// however it was written.
func ParsePeer(peer string) (text string, port uint16) {
	if a, err := netip.ParseAddrPort(peer); err == nil {
		return plainText(a.Addr()), a.Port()
	}
	if a, err := netip.ParseAddr(peer); err == nil {
		return plainText(a), 0
	}
	return peer, 0
}

// AddressText returns "address:port", or what there is of it. An IPv4 address
// in IPv6 form is told as IPv4, and a zone is left out: they say how the
// kernel's socket was made, not who the peer is.
func AddressText(a netip.AddrPort) string {
	if !a.Addr().IsValid() || a.Port() == 0 {
		return plainText(a.Addr())
	}
	return netip.AddrPortFrom(PlainAddress(a.Addr()), a.Port()).String()
}

// PlainAddress returns the address by which a peer is told from others.
func PlainAddress(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func plainText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return PlainAddress(a).String()
}
