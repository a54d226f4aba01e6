package camera

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestConnections(t *testing.T) {
	const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0200A8C0:C350 097100CB:0D05 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000
   2: 0200A8C0 097100CB:0D05 FF
`
	const tcp6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: B80D0120000000000000000001000000:01BB 0000000000000000FFFF0000097100CB:0D05 08 00000000:00000000 00:00000000 00000000     0        0 4713 1 0
`
	got := append(connections("tcp", []byte(tcp)), connections("tcp6", []byte(tcp6))...)
	at := netip.MustParseAddrPort
	want := []Connection{
		{"tcp", at("127.0.0.1:8080"), at("0.0.0.0:0"), "listen", 1000, 4711},
		{"tcp", at("192.168.0.2:50000"), at("203.0.113.9:3333"), "established", 0, 4712},
		{"tcp6", at("[2001:db8::1]:443"), at("203.0.113.9:3333"), "close-wait", 0, 4713},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzConnections(f *testing.F) {
	f.Add([]byte("  0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 1000 0 4711\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(connections("tcp", b)); n > len(b) {
			t.Errorf("%d connections in %d bytes", n, len(b))
		}
	})
}

func TestLayersOfEngines(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for path, want := range map[string]bool{
		"/var/lib/docker/overlay2/" + id + "/diff":                                   true,
		"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/42/fs": true,
		"/etc":                           false,
		"/mine/up":                       false,
		"/var/lib/docker/overlay2/" + id: false,
		"/var/lib/docker/overlay2/../../../etc/diff": false,
	} {
		if got := ofEngine.MatchString(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}
