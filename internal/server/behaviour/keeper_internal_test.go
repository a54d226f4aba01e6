package behaviour

import (
	"testing"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// What sensors saw and the kernel answered is one violation, whichever is told first.
func TestWhatTheKernelDidIsWhatHappened(t *testing.T) {
	script := profile.Executable{Path: "/usr/bin/perl", Scripts: []profile.Pattern{"/usr/bin/pg_dump"}}
	seen := profile.Violation{Group: "g", Fingerprint: "f", Count: 1, Sentence: "ran", Permit: &profile.Profile{Executables: []profile.Executable{script}}}
	killed := seen
	killed.Permit = &profile.Profile{Executables: []profile.Executable{{Path: "/usr/bin/perl"}}}
	killed.Reaction, killed.Sentence = event.ReactionKilled, "ran, and was killed"
	for _, order := range [][]profile.Violation{{seen, killed}, {killed, seen}} {
		k := &keeper{outside: map[outsideKey]*profile.Violation{}}
		for i := range order {
			k.add(&order[i])
		}
		if v := k.outside[outsideKey{"g", "f"}]; v.Reaction != event.ReactionKilled || v.Count != 1 || v.Sentence != killed.Sentence {
			t.Errorf("%+v", v)
		}
		again := killed
		again.Count = 2
		if k.add(&again); k.outside[outsideKey{"g", "f"}].Count != 3 {
			t.Errorf("counted %d, want 3", again.Count)
		}
		// Permitted, it would be outside again for its script, of which the kernel knows nothing.
		if p := k.outside[outsideKey{"g", "f"}].Permit; len(p.Executables[0].Scripts) != 1 {
			t.Errorf("permitted would be %+v", p.Executables[0])
		}
	}
}
