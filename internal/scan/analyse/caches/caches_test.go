package caches_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/caches"
)

func TestOf(t *testing.T) {
	for path, want := range map[string]string{
		"var/lib/apt/lists/deb.debian.org_dists_bookworm_InRelease": "/var/lib/apt/lists",
		"/var/cache/apt/archives/curl_8_amd64.deb":                  "/var/cache/apt/archives",
		"var/cache/apk/APKINDEX.00740ba1.tar.gz":                    "/var/cache/apk",
		"root/.cache/pip/http/1/2/3":                                "/root/.cache/pip",
		"home/app/.npm/_cacache/index-v5/a":                         "/home/app/.npm/_cacache",
		"var/cache/debconf/config.dat":                              "",
		"var/lib/apt/extended_states":                               "",
		"srv/root/.cache/pip/x":                                     "",
		"usr/share/doc/cache":                                       "",
	} {
		if got := caches.Of(path); got != want {
			t.Errorf("Of(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestTake(t *testing.T) {
	a := caches.Analyser{}
	for _, e := range []analyse.Entry{
		{Path: "var/cache/apk", Mode: fs.ModeDir | 0o755},
		{Path: "var/lib/apt/lists/lock", Mode: 0o640},
		{Path: "var/cache/apk/link", Mode: fs.ModeSymlink, Size: 3},
	} {
		if a.Wants(&e, nil) {
			t.Errorf("%s is wanted", e.Path)
		}
	}
	e := analyse.Entry{Path: "var/cache/apk/APKINDEX.tar.gz", Mode: 0o644, Size: 9}
	var shown analyse.Shown
	if !a.Wants(&e, nil) {
		t.Fatal("a cached index is not wanted")
	}
	if err := a.Take(t.Context(), &e, strings.NewReader(""), &shown); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shown.Files, []inventory.File{{Size: 9, Mode: 0o644, Why: inventory.PackageCache}}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}
