package learn

import (
	"net/netip"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

const dnsPort = 53

// peer is who a connection was with; incoming: who called, and the own port.
func peer(c *event.Connection, incoming bool) (peerKey, bool) {
	if c.Protocol == "unix" || c.Protocol == "raw" || c.Protocol == "packet" {
		return peerKey{}, false
	}
	k := peerKey{portKey: portKey{protocol: c.Protocol, port: c.Remote.Port()}}
	if incoming {
		k.port = c.Local.Port()
	}
	addr := c.Remote.Addr().Unmap().WithZone("")
	name := ""
	if !incoming {
		name = dnsName(c.Name)
	}
	switch {
	case !incoming && k.port == dnsPort && addr.IsLoopback():
		k.address = addr // the engine's resolver, whose answers count
	case c.Peer.Kind == event.PeerSelf || addr.IsLoopback():
		k.kind = event.PeerSelf
	case c.Peer.Kind == event.PeerWorkload && c.Peer.Group != "":
		k.group = asset.Group(c.Peer.Group)
		if c.Peer.Port != 0 && !incoming {
			k.port = c.Peer.Port
		}
	case c.Peer.Kind == event.PeerHost:
		k.kind = event.PeerHost
	case name != "" && !addr.IsLinkLocalUnicast():
		k.name = name
	case addr.IsValid() && !addr.IsUnspecified():
		// Link-local services too: the task's credentials and the host's are two of
		// them, at the same port.
		k.address = addr
	default:
		return peerKey{}, false
	}
	return k, true
}

// named is the name by which a group was found, besides the group itself. Where
// containers of a group are is told to hosts when they run already; the name is
// answered for with the new address before anybody can connect to it.
func named(c *event.Connection) (peerKey, bool) {
	name := dnsName(c.Name)
	if name == "" || c.Peer.Kind != event.PeerWorkload || c.Peer.Group == "" {
		return peerKey{}, false
	}
	if c.Peer.Port != 0 && c.Peer.Port != c.Remote.Port() {
		return peerKey{}, false // a host's name, at a port that is another one next time
	}
	return peerKey{portKey: portKey{protocol: c.Protocol, port: c.Remote.Port()}, name: name}, true
}

// maxName is the longest name that there is in the DNS, as text.
const maxName = 253

// dnsName returns a name as a profile has it; "" if it is none.
func dnsName(s string) string {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if s == "" || len(s) > maxName || strings.ContainsAny(s, "*/ ") || strings.Contains(s, "..") || s[0] == '.' {
		return ""
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return ""
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return ""
		}
	}
	return s
}

// PeerOf is who a connection was with, as one entry of a profile: with whom, at
// which port. It reports false where no entry can say it.
func PeerOf(c *event.Connection, incoming bool) (profile.Peer, bool) {
	k, ok := peer(c, incoming)
	if !ok {
		return profile.Peer{}, false
	}
	p := profile.Peer{Protocol: k.protocol, Group: k.group, Name: k.name, Kind: k.kind}
	if k.port != 0 {
		p.Port = profile.Ports{First: k.port, Last: k.port}
	}
	if k.address.IsValid() {
		p.Network = netip.PrefixFrom(k.address, k.address.BitLen())
	}
	return p, true
}

// DNSName returns a name as a profile has it; "" if it is none.
func DNSName(s string) string { return dnsName(s) }
