// Package caches finds what package managers fetched and left: files that are of
// no use to who runs an image, and make it larger.
//
// It says nothing of caches that builds need (Maven, Gradle): they are what a
// build image is for.
package caches

import (
	"context"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// Analyser looks at paths and never at content.
type Analyser struct{}

// Name is analyse.Analyser.
func (Analyser) Name() string { return "caches" }

// Wants is analyse.Analyser.
func (Analyser) Wants(e *analyse.Entry, _ []byte) bool {
	return e.Mode.IsRegular() && e.Size > 0 && Of(e.Path) != ""
}

// Take is analyse.Analyser.
func (Analyser) Take(_ context.Context, e *analyse.Entry, _ io.Reader, shown *analyse.Shown) error {
	shown.Files = append(shown.Files, inventory.File{Size: e.Size, Mode: uint32(e.Mode.Perm()), UID: e.UID, GID: e.GID, Why: inventory.PackageCache})
	return nil
}

// Of returns the folder of the cache that a file lies in, "" for none. The path
// may begin with a slash.
func Of(path string) string {
	path = strings.TrimPrefix(path, "/")
	if rest, ok := strings.CutPrefix(path, "var/"); ok {
		for _, folder := range [...]string{"cache/apt/archives/", "cache/apk/", "cache/yum/", "cache/dnf/", "cache/libdnf5/", "cache/zypp/", "lib/apt/lists/"} {
			if strings.HasPrefix(rest, folder) {
				return "/var/" + strings.TrimSuffix(folder, "/")
			}
		}
		return ""
	}
	for _, folder := range [...]string{"/.cache/pip/", "/.npm/_cacache/", "/.cache/yarn/"} {
		if i := strings.Index(path, folder); i >= 0 && (strings.HasPrefix(path, "root/") || strings.HasPrefix(path, "home/")) {
			return "/" + path[:i] + strings.TrimSuffix(folder, "/")
		}
	}
	return ""
}
