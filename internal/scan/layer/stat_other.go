//go:build !linux

package layer

import "io/fs"

// stat is what fs.FileInfo doesn't say, and what is only known on Linux.
type stat struct {
	device, rdev uint64
	uid, gid     int
}

func statOf(fs.FileInfo) stat { return stat{rdev: 1} }

func hasCapability(fs.File, string) bool { return false }

type mark struct{ opaque, redirect bool }

func overlayMark(fs.File) mark { return mark{} }
