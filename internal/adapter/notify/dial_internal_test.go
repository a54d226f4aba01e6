package notify

import (
	"net/netip"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
)

func TestPermittedAddresses(t *testing.T) {
	for _, tc := range []struct {
		address  string
		loopback bool // the target was addressed so
		want     bool
	}{
		{"10.1.2.3", false, true}, {"192.168.0.9", false, true}, {"172.31.0.1", false, true}, {"52.1.2.3", false, true},
		{"2a05:d018::1", false, true}, {"fd12:3456::1", false, true},
		{"127.0.0.1", true, true}, {"127.9.9.9", true, true}, {"::1", true, true},
		{"127.0.0.1", false, false}, {"::1", false, false}, {"::ffff:127.0.0.1", false, false},
		{"169.254.169.254", false, false}, {"169.254.170.2", false, false}, {"169.254.169.254", true, false},
		{"::ffff:169.254.169.254", false, false}, {"64:ff9b::a9fe:a9fe", false, false}, {"64:ff9b::a01:203", false, true},
		{"2002:a9fe:a9fe::1", false, false}, {"2002:7f00:1::", true, false}, {"::a9fe:a9fe", false, false},
		{"fd00:ec2::254", false, false}, {"fd00:ec2::23", false, false}, {"fe80::1", false, false}, {"fe80::1%eth0", false, false},
		{"168.63.129.16", false, false}, {"100.100.100.200", false, false}, {"100.100.100.201", false, true}, {"192.0.0.192", false, false},
		{"0.0.0.0", true, false}, {"0.1.2.3", false, false}, {"::", true, false},
		{"224.0.0.1", false, false}, {"255.255.255.255", false, false}, {"ff02::1", false, false},
	} {
		err := permitted(netip.MustParseAddr(tc.address), tc.loopback)
		if (err == nil) != tc.want {
			t.Errorf("permitted(%s, %v) = %v, want permitted %v", tc.address, tc.loopback, err, tc.want)
		}
		if err != nil && (!fault.Is(err, fault.Denied) || fault.Remedy(err) == "") {
			t.Errorf("%s: %v has no kind or remedy", tc.address, err)
		}
	}
}

// FuzzPermitted holds that no way of writing an IPv4 address within an IPv6 one
// leads where the IPv4 address itself does not.
func FuzzPermitted(f *testing.F) {
	f.Add([]byte{169, 254, 169, 254})
	f.Add([]byte{10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 4 {
			return
		}
		v4 := netip.AddrFrom4([4]byte(b))
		if permitted(v4, false) == nil {
			return
		}
		for _, a := range []netip.Addr{
			netip.AddrFrom16(v4.As16()),
			netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
			netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 15: 1}),
		} {
			if permitted(a, false) == nil {
				t.Errorf("%s is permitted, %s is not", a, v4)
			}
		}
	})
}
