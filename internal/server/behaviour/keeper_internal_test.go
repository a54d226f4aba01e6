package behaviour

import (
	"testing"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// What sensors saw and the kernel answered is one violation, whichever is told first.
func TestWhatTheKernelDidIsWhatHappened(t *testing.T) {
	seen := profile.Violation{Group: "g", Fingerprint: "f", Count: 1, Sentence: "ran"}
	killed := seen
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
	}
}
