package learn_test

import (
	"slices"
	"testing"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// Code that a program compiles into a folder with another name at each start is of the
// profile when it starts again.
func TestCodeInFoldersThatChange(t *testing.T) {
	for name, tc := range map[string]struct {
		files, want []string
		origin      event.Origin
	}{
		"a folder of each start":   {[]string{"/v/vcl_boot.1796042527.039832/vgc.so", "/v/vcl_boot.1796042894.336166/vgc.so"}, []string{"/v/vcl_boot.*/vgc.so"}, event.OriginMount},
		"and of what is beside it": {[]string{"/v/r_20261130/a.so", "/v/r_20261201/a.so", "/v/own/a.so"}, []string{"/v/own/a.so", "/v/r_*/a.so"}, event.OriginWritten},
		"whose names count as well": {[]string{"/v/vcl_boot.1796042527.039832/vgc.so", "/v/vcl_boot.1796042894.336166/vgc.so", "/v/vcl_r2.1796042591.737051/vgc.so", "/v/vcl_r10.1796042618.632035/vgc.so", "/v/own/vgc.so"},
			[]string{"/v/own/vgc.so", "/v/vcl_*/vgc.so"}, event.OriginMount},
		"with little in common":    {[]string{"/v/a.1796042527/a.so", "/v/b.1796042591/a.so", "/v/c.1796042618/a.so"}, []string{"/v/a.1796042527/a.so", "/v/b.1796042591/a.so", "/v/c.1796042618/a.so"}, event.OriginMount},
		"a few that count":         {[]string{"/v/run2.1796042591/a.so", "/v/run3.1796042618/a.so"}, []string{"/v/run2.1796042591/a.so", "/v/run3.1796042618/a.so"}, event.OriginMount},
		"seen once":                {[]string{"/v/vcl_boot.1796042527.039832/vgc.so"}, []string{"/v/vcl_boot.1796042527.039832/vgc.so"}, event.OriginMount},
		"versions":                 {[]string{"/v/app-1.2/a.so", "/v/app-1.3/a.so"}, []string{"/v/app-1.2/a.so", "/v/app-1.3/a.so"}, event.OriginMount},
		"files whose names change": {[]string{"/v/lib8123456.so", "/v/lib8123457.so"}, []string{"/v/lib8123456.so", "/v/lib8123457.so"}, event.OriginMount},
		"where anybody may write":  {[]string{"/tmp/x_1796042527/a.so", "/tmp/x_1796042894/a.so"}, []string{"/tmp/x_1796042527/a.so", "/tmp/x_1796042894/a.so"}, event.OriginWritten},
		"unpacked by Java": {[]string{"/tmp/snappy-1.1.10-0b1f6c1e-4b8a-4a57-9f3d-0d5c6d2f7a11-libsnappyjava.so", "/tmp/snappy-1.1.10-5cce9a52-31f4-47a4-8f0e-7f5f3a7b9c02-libsnappyjava.so",
			"/tmp/libnetty_transport_native_epoll_x86_641234567890123.so", "/tmp/libnetty_transport_native_epoll_x86_643219876543210.so",
			"/tmp/jna-3506402/jna1234567890123.tmp", "/tmp/jna-3506402/jna3210987654321.tmp"},
			[]string{"/tmp/jna-*/jna*.tmp", "/tmp/libnetty_transport_native_epoll_x86_*.so", "/tmp/snappy-1.1.10-*-libsnappyjava.so"}, event.OriginWritten},
		"unpacked once":             {[]string{"/tmp/jffi8123456789012.so"}, []string{"/tmp/jffi8123456789012.so"}, event.OriginWritten},
		"by chance alone":           {[]string{"/tmp/8123456789012.so", "/tmp/8123456789013.so"}, []string{"/tmp/8123456789012.so", "/tmp/8123456789013.so"}, event.OriginWritten},
		"other endings":             {[]string{"/tmp/x_8123456789012.sox", "/tmp/x_8123456789013.sox"}, []string{"/tmp/x_8123456789012.sox", "/tmp/x_8123456789013.sox"}, event.OriginWritten},
		"other files in the folder": {[]string{"/v/r_20261130/a.so", "/v/r_20261201/b.so"}, []string{"/v/r_20261130/a.so", "/v/r_20261201/b.so"}, event.OriginMount},
	} {
		s := newScript()
		for _, file := range tc.files {
			s.add(event.Event{Kind: event.KindExecMap, Memory: &event.Memory{Call: "mmap", Path: file, Origin: tc.origin}})
		}
		var got []string
		for _, x := range s.learned(t).Executables {
			if x.Origin == tc.origin {
				got = append(got, string(x.Path))
			}
			if x.Origin == tc.origin && !slices.Equal(x.Parents, []profile.Pattern{"/usr/bin/app"}) {
				t.Errorf("%s: %s is mapped by %v", name, x.Path, x.Parents)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: learned %q, want %q", name, got, tc.want)
		}
	}
}
