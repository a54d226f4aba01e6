package kernel_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
)

// sameAddress compares addresses by what they say.
var sameAddress = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func recorded(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func addresses(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestAddresses(t *testing.T) {
	four, six := recorded(t, "fib_trie"), recorded(t, "if_inet6")
	for _, tc := range []struct {
		name, four, six string
		want            []netip.Addr
	}{
		{"a task with an interface of its own", four, six, addresses("10.0.2.77", "2001:db8:1::77")},
		{"no IPv6", four, "-", addresses("10.0.2.77")},
		{"nothing but loopback", "Local:\n  |-- 127.0.0.1\n     /32 host LOCAL\n", "00000000000000000000000000000001 01 80 10 80       lo\n", nil},
		{"empty", "", "", nil},
		{"cut short", "Local:\n |-- 10.0.0.1\n    /32 host LOC", "2001", nil},
		{"a leaf that is none", "|-- 10.0.0.1\n|-- ten\n /32 host LOCAL\n", "", nil},
		{"an address that another machine has", "", "20010db8000100000000000000000077 05 40 00 08     eth0\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proc := t.TempDir()
			write(t, filepath.Join(proc, "77/net/fib_trie"), tc.four)
			if tc.six != "-" {
				write(t, filepath.Join(proc, "77/net/if_inet6"), tc.six)
			}
			got, err := kernel.New(kernel.Options{Proc: proc}).Addresses(77)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, sameAddress); diff != "" && len(tc.want)+len(got) > 0 {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := kernel.New(kernel.Options{Proc: t.TempDir()}).Addresses(77); err == nil {
		t.Error("of a process that has gone: got no error")
	}
}

// Whatever the kernel, or who lies in its place, writes, an address that comes
// out is one that others could reach.
func FuzzAddresses(f *testing.F) {
	f.Add(recorded(f, "fib_trie"), recorded(f, "if_inet6"))
	f.Add("|-- 0.0.0.0\n/32 host LOCAL", "zz 1 1 1 1 x")
	proc := f.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "7/net"), 0o755); err != nil {
		f.Fatal(err)
	}
	h := kernel.New(kernel.Options{Proc: proc})
	f.Fuzz(func(t *testing.T, four, six string) {
		for name, text := range map[string]string{"fib_trie": four, "if_inet6": six} {
			if err := os.WriteFile(filepath.Join(proc, "7/net", name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := h.Addresses(7)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range got {
			if !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
				t.Errorf("got %s", a)
			}
			if i > 0 && !got[i-1].Less(a) {
				t.Errorf("%s stands before %s", got[i-1], a)
			}
		}
	})
}
