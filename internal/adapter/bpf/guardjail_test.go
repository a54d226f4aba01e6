package bpf_test

import (
	"path/filepath"
	"testing"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// What runs below another root is held by the path by which the sensors told of it, and
// by no path that it has there: nobody makes by a root of its own what a profile permits.
func TestExecGuardHoldsBelowAnotherRootByWhatWasTold(t *testing.T) {
	w := watch(t)
	g := execGuard(t, pins(t))
	v2, _ := hierarchies()
	for _, root := range []string{"/bin", "/volume"} {
		words := []string{"exec=/bin/tool", "tool", "script=chroot|" + root, "exec=/tool", "jailed", "exit=3"}
		id := newID(t)
		h := startIn(t, v2, "castellan-test-jail/docker/"+id, append([]string{"overlay=" + newRoot(t)}, words...)...)
		h.finish()
		learned := w.wait("exec below another root", func(e event.Event) bool {
			return e.Kind == event.KindExec && e.WorkloadID == id && e.Exec.Args[0] == "jailed"
		})
		for _, tc := range []struct {
			has    profile.Pattern
			killed bool
		}{{profile.Pattern(learned.Process.Executable), false}, {"/tool", true}, {profile.Pattern(filepath.Join("/other", learned.Process.Executable)), true}} {
			check(t, g.Set(execRules(profile.Deny, profile.ExecRules{Paths: []profile.Pattern{"/bin/tool", tc.has}, Written: []profile.Pattern{tc.has}})))
			id := newID(t)
			check(t, g.Hold(id, netGroup))
			killed, code := ran(t, id, words...)
			// In the image's own folder the profile has the program by its real name anyhow.
			if want := tc.killed && root != "/bin"; killed != want || !killed && code != 3 {
				t.Errorf("below %s, the profile having %s: killed %v with code %d, want killed %v", root, tc.has, killed, code, want)
			}
		}
	}
}
