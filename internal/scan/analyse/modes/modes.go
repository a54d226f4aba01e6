// Package modes finds files whose mode is noteworthy: set-uid, set-gid, writable
// by everybody, or with file capabilities.
//
// A file that everybody may write is no matter in a sticky folder such as /tmp.
// One file at a time is seen here, so those are shown too, and sticky folders
// that everybody may write with them; package scan takes them out when it has
// all of the image.
package modes

import (
	"context"
	"io"
	"io/fs"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

const anybodyWrites = 0o002

// Analyser looks at modes and never at content.
type Analyser struct{}

// Name is analyse.Analyser.
func (Analyser) Name() string { return "modes" }

// Wants is analyse.Analyser. Links have no mode of their own that counts, and
// devices and pipes are for sharing.
func (Analyser) Wants(e *analyse.Entry, _ []byte) bool {
	if e.Mode.IsDir() {
		return e.Mode&anybodyWrites != 0
	}
	return e.Mode.IsRegular() && (e.Mode&(fs.ModeSetuid|fs.ModeSetgid|anybodyWrites) != 0 || e.Capabilities)
}

// Take is analyse.Analyser: one file for each reason.
func (Analyser) Take(_ context.Context, e *analyse.Entry, _ io.Reader, shown *analyse.Shown) error {
	for _, reason := range [...]struct {
		why inventory.Why
		is  bool
	}{
		{inventory.SetUID, e.Mode&fs.ModeSetuid != 0 && !e.Mode.IsDir()},
		// Without the right to execute for the group, set-gid marks locking.
		{inventory.SetGID, e.Mode&fs.ModeSetgid != 0 && e.Mode&0o010 != 0 && !e.Mode.IsDir()},
		{inventory.WorldWritable, e.Mode&anybodyWrites != 0},
		{inventory.Capabilities, e.Capabilities},
	} {
		if reason.is {
			shown.Files = append(shown.Files, inventory.File{Size: e.Size, Mode: unixMode(e.Mode), UID: e.UID, GID: e.GID, Why: reason.why})
		}
	}
	return nil
}

// unixMode is the mode as stat(2) has it, without the type.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for _, bit := range [...]struct {
		fs   fs.FileMode
		unix uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&bit.fs != 0 {
			mode |= bit.unix
		}
	}
	return mode
}
