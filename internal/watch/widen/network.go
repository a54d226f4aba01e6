package widen

import "net/netip"

// Thresholds of addresses.
const (
	neighbours = 3  // private addresses of one /24 (/64 for IPv6) that stand for themselves
	strangers  = 8  // public addresses that call; more are the internet
	subnets    = 32 // private networks that call; more are all of them
)

// Networks returns for each address the network that stands for it: itself, or its
// /24 where too many private addresses of that were seen. Public addresses always
// stand for themselves: nobody knows whose the next one is.
func Networks(addresses []netip.Addr) map[netip.Addr]netip.Prefix {
	seen := map[netip.Prefix]int{}
	for _, a := range addresses {
		if private(a) {
			seen[subnet(a)]++
		}
	}
	out := make(map[netip.Addr]netip.Prefix, len(addresses))
	for _, a := range addresses {
		out[a] = netip.PrefixFrom(a, a.BitLen())
		if private(a) && seen[subnet(a)] > neighbours {
			out[a] = subnet(a)
		}
	}
	return out
}

// Callers is Networks for those who call: a service of the internet is called from
// everywhere, and one of a private network from all of its subnets.
func Callers(addresses []netip.Addr) map[netip.Addr]netip.Prefix {
	out := Networks(addresses)
	public, nets := 0, map[netip.Prefix]bool{}
	for a, n := range out {
		if private(a) {
			nets[n] = true
		} else if !a.IsLinkLocalUnicast() {
			public++
		}
	}
	for a := range out {
		switch {
		case !private(a) && !a.IsLinkLocalUnicast() && public > strangers:
			out[a] = netip.PrefixFrom(a, 0).Masked()
		case private(a) && len(nets) > subnets:
			out[a] = block(a)
		}
	}
	return out
}

// carrier is the address block of RFC 6598, which AWS uses within VPCs.
var carrier = netip.MustParsePrefix("100.64.0.0/10")

func private(a netip.Addr) bool { return a.IsPrivate() || carrier.Contains(a) }

func subnet(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// block is the private block that an address is of.
func block(a netip.Addr) netip.Prefix {
	for _, p := range []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("fc00::/7"), carrier,
	} {
		if p.Contains(a) {
			return p
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// Neighbourhood returns the network that many private addresses like a come to, and
// false for a public one: nobody knows whose the next is.
func Neighbourhood(a netip.Addr) (netip.Prefix, bool) {
	if !private(a) {
		return netip.Prefix{}, false
	}
	return subnet(a), true
}
