package taskdef

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// Each line that the diff takes away or brings is of a change, which has a reason.
func TestLinesThatChangeAreOfAChange(t *testing.T) {
	document, err := os.ReadFile("../testdata/task.json")
	if err != nil {
		t.Fatal(err)
	}
	p := profile.Profile{
		Group:       "shop/web/nginx",
		Executables: []profile.Executable{{Path: "/app/server", Origin: event.OriginImage, Parents: []profile.Pattern{"", "/app/server"}, Users: []uint32{1000}}},
		Writes:      []profile.File{{Path: "/tmp/*"}, {Path: "/data/**"}, {Path: "/srv/x/**"}},
		Limits:      profile.Limits{Memory: 1 << 28, Descriptors: 5000},
	}
	h := &hardener{p: &p, o: Options{Module: SELinux, SELinux: "x.process"}}
	before, after, err := h.harden(document)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, e := range compare(before, after) {
		if e.kind == ' ' {
			continue
		}
		changed++
		if !slices.ContainsFunc(h.changes, func(c Change) bool { return strings.HasPrefix(e.place, c.Path) }) {
			t.Errorf("%c%s (%s) has no reason", e.kind, e.text, e.place)
		}
	}
	if changed == 0 {
		t.Error("nothing changes")
	}
}
