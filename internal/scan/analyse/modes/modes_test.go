package modes_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/modes"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestModes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		entry analyse.Entry
		want  []inventory.File
	}{
		{"ordinary", analyse.Entry{Mode: 0o755}, nil},
		{"set-uid", analyse.Entry{Mode: 0o755 | fs.ModeSetuid, Size: 7, UID: 0, GID: 8}, []inventory.File{{Size: 7, Mode: 0o4755, GID: 8, Why: inventory.SetUID}}},
		{"set-gid", analyse.Entry{Mode: 0o755 | fs.ModeSetgid}, []inventory.File{{Mode: 0o2755, Why: inventory.SetGID}}},
		{"set-gid for locking", analyse.Entry{Mode: 0o644 | fs.ModeSetgid}, nil},
		{"both", analyse.Entry{Mode: 0o755 | fs.ModeSetuid | fs.ModeSetgid}, []inventory.File{{Mode: 0o6755, Why: inventory.SetUID}, {Mode: 0o6755, Why: inventory.SetGID}}},
		{"writable", analyse.Entry{Mode: 0o666}, []inventory.File{{Mode: 0o666, Why: inventory.WorldWritable}}},
		{"capabilities", analyse.Entry{Mode: 0o755, Capabilities: true}, []inventory.File{{Mode: 0o755, Why: inventory.Capabilities}}},
		{"writable folder", analyse.Entry{Mode: 0o777 | fs.ModeDir}, []inventory.File{{Mode: 0o777, Why: inventory.WorldWritable}}},
		{"sticky folder, to be taken out later", analyse.Entry{Mode: 0o777 | fs.ModeDir | fs.ModeSticky}, []inventory.File{{Mode: 0o1777, Why: inventory.WorldWritable}}},
		{"set-gid folder", analyse.Entry{Mode: 0o755 | fs.ModeDir | fs.ModeSetgid}, nil},
		{"symbolic link", analyse.Entry{Mode: 0o777 | fs.ModeSymlink}, nil},
		{"device", analyse.Entry{Mode: 0o666 | fs.ModeDevice | fs.ModeCharDevice}, nil},
		{"pipe", analyse.Entry{Mode: 0o666 | fs.ModeNamedPipe}, nil},
		{"hard link", analyse.Entry{Mode: 0o755 | fs.ModeSetuid, HardLink: true}, []inventory.File{{Mode: 0o4755, Why: inventory.SetUID}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var shown analyse.Shown
			a := modes.Analyser{}
			if a.Wants(&tc.entry, nil) {
				if err := a.Take(t.Context(), &tc.entry, strings.NewReader(""), &shown); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tc.want, shown.Files, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}
