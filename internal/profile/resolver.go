package profile

import (
	"net/netip"
	"slices"
)

// Resolvers are the DNS servers that are called alike everywhere: the engine's own, on
// networks that users make, and those of a VPC.
func Resolvers() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("169.254.169.253"), netip.MustParseAddr("fd00:ec2::253")}
}

// Reaches are the peers of p and what belongs to them: who asks one DNS server asks, on
// another network, the one that stands in its place there (Resolvers), and asks by TCP what
// is too long an answer for UDP (RFC 7766).
func (p *Profile) Reaches() []Peer {
	dns := Ports{First: 53, Last: 53}
	out := slices.Clip(p.Peers)
	at := func(network netip.Prefix) {
		for _, protocol := range []string{"udp", "tcp"} {
			out = append(out, Peer{Protocol: protocol, Port: dns, Network: network})
		}
	}
	for _, q := range p.Peers {
		if q.Port == dns && q.Network.IsSingleIP() {
			at(q.Network)
		}
	}
	if len(out) > len(p.Peers) {
		for _, a := range Resolvers() {
			at(netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}
