package notify

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/castellan-security/castellan/internal/fault"
)

// forbidden are addresses at which nobody receives notifications, and clouds
// answer with credentials. It is looked at what a name stands for at the moment
// of connecting, so that no answer of a resolver leads there.
var forbidden = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // this host, in disguise
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local: metadata of EC2, ECS tasks, Azure, Google
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's own services
	netip.MustParsePrefix("100.100.100.200/32"), // metadata of Alibaba
	netip.MustParsePrefix("192.0.0.0/24"),       // protocol assignments: metadata of Oracle
	netip.MustParsePrefix("224.0.0.0/3"),        // multicast, reserved, broadcast
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("fe80::/10"),     // link-local
	netip.MustParsePrefix("fd00:ec2::/32"), // metadata and other services of EC2
	netip.MustParsePrefix("ff00::/8"),      // multicast
}

// embedding are IPv6 addresses that lead to an IPv4 address within them, with
// the byte that it begins at.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("::/96"), 12},
}

// isLoopback reports whether a host, as it was written, is this one.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// permitted returns why no connection is made to an address; loopback says that
// this host was asked for by name. A name of elsewhere that leads to this host
// is somebody's trick.
func permitted(a netip.Addr, loopback bool) error {
	a = a.Unmap().WithZone("")
	for _, e := range embedding {
		if a.Is6() && e.prefix.Contains(a) && !a.IsLoopback() && !a.IsUnspecified() {
			b := a.As16()
			if err := permitted(netip.AddrFrom4([4]byte(b[e.at:e.at+4])), false); err != nil {
				return err
			}
		}
	}
	if a.IsLoopback() && !loopback {
		return refusedAddress(a, "it is this host")
	}
	for _, p := range forbidden {
		if p.Contains(a) {
			return refusedAddress(a, "it is link-local, a cloud's own, or not a host's")
		}
	}
	return nil
}

func refusedAddress(a netip.Addr, why string) error {
	return fault.New(fault.Denied, "notifications are not sent to %s: %s", a, why).
		With("address a host of your network or outside of it")
}

// dialer returns one that connects only where it is permitted.
func dialer(u *url.URL) *net.Dialer {
	loopback := isLoopback(u.Hostname())
	return &net.Dialer{
		Timeout: sendWithin,
		Control: func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return fault.New(fault.Denied, "notifications are not sent to %q: it is no address", address)
			}
			return permitted(to.Addr(), loopback)
		},
	}
}
