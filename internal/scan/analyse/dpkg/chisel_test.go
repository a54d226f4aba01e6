package dpkg_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/dpkg"
)

const wall = `{"jsonwall":"1.0","schema":"1.0","count":6}
{"kind":"content","slice":"libc6_libs","path":"/usr/lib/x86_64-linux-gnu/libc.so.6"}
{"kind":"package","name":"libc6","version":"2.39-0ubuntu8.3","sha256":"ab","arch":"amd64"}
{"kind":"path","path":"/etc/hosts","mode":"0644","slices":["libc6_config"]}
{"kind":"path","path":"/usr/lib/x86_64-linux-gnu/libc.so.6","mode":"0755","slices":["libc6_libs","libc6_all"],"size":1}
{"kind":"slice","name":"libc6_libs"}
`

// packed compresses as Chisel does.
func packed(t testing.TB, text string) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll([]byte(text), nil)
}

func takeWall(b []byte) (analyse.Shown, error) {
	var shown analyse.Shown
	err := dpkg.Analyser{}.Take(context.Background(), &analyse.Entry{Path: "var/lib/chisel/manifest.wall", Size: int64(len(b))}, bytes.NewReader(b), &shown)
	return shown, err
}

func TestChisel(t *testing.T) {
	if !(dpkg.Analyser{}).Wants(&analyse.Entry{Path: "var/lib/chisel/manifest.wall"}, []byte{}) {
		t.Error("the manifest is not wanted")
	}
	libc := deb("libc6", "2.39-0ubuntu8.3", "amd64", "glibc", "2.39-0ubuntu8.3")
	shown, err := takeWall(packed(t, wall))
	want := analyse.Shown{Packages: []inventory.Package{libc},
		Owned: []analyse.Owned{{Type: "deb", Name: "libc6", Files: []string{"/usr/lib/x86_64-linux-gnu/libc.so.6"}}}}
	if d := cmp.Diff(shown, want); d != "" || err != nil {
		t.Errorf("%v (-got +want):\n%s", err, d)
	}
	for _, tc := range []struct {
		name    string
		content []byte
		err     string
	}{
		{"not compressed", []byte(wall), "magic number mismatch"},
		{"no JSON", packed(t, wall+"what\n"), "want a value"},
		{"too much", packed(t, wall+strings.Repeat(`{"kind":"slice","name":"libc6_libs"}`+"\n", 2<<20)), "more than 67108864 bytes"},
		{"one long line", packed(t, wall+strings.Repeat("x", 2<<20)), "token too long"},
		{"cut off", packed(t, wall)[:100], "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := takeWall(tc.content); err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}

// What the manifest does not tell is known of the packages that are in use.
func TestSlicedFrom(t *testing.T) {
	for name, want := range map[string]string{
		"libssl3t64": "openssl", "libc6": "glibc", "zlib1g": "zlib", "libgssapi-krb5-2": "krb5", "libk5crypto3": "krb5", "libexpat1": "expat",
		"libicu74": "icu", "openjdk-21-jre-headless": "openjdk-21", "libpython3.12-stdlib": "python3.12", "aspnetcore-runtime-8.0": "dotnet8",
		"libpcre2-8-0": "pcre2", "libdb5.3t64": "db5.3", "libbz2-1.0": "bzip2", "ca-certificates": "ca-certificates", "bash": "bash",
	} {
		shown, err := takeWall(packed(t, `{"kind":"package","name":"`+name+`","version":"1"}`))
		if err != nil || len(shown.Packages) != 1 || shown.Packages[0].Source.Name != want {
			t.Errorf("%s: %+v, %v, want %s", name, shown.Packages, err, want)
		}
	}
}

func FuzzChisel(f *testing.F) {
	f.Add(packed(f, wall))
	f.Fuzz(func(t *testing.T, b []byte) {
		shown, err := takeWall(b)
		if err == nil && !bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) && len(shown.Packages) > 0 {
			t.Errorf("%d packages of what is not compressed", len(shown.Packages))
		}
	})
}
