package bpf

import (
	"errors"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/profile"
)

// A kernel that can't hold to a control is asked once, and each group says why.
func TestWhatAKernelCantHoldIsSaid(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	asked := 0
	g := &Guard{
		what: "the network", log: slog.New(slog.DiscardHandler), dir: dir, wants: wantsNetwork, unloaded: netControls, news: make(chan struct{}),
		open: func() (programs, error) { asked++; return nil, errors.New("too large") },
	}
	r := profile.Rules{Group: "a/b/c", Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Deny
	}
	for range 2 {
		if err := g.Set(r); err != nil {
			t.Fatal(err)
		}
	}
	if c := g.Controls(r.Answers)[0]; asked != 1 || c.Answer != profile.Off || c.Error == "" {
		t.Errorf("asked %d times, held as %+v", asked, c)
	}
	if err := g.Hold("x", r.Group); err == nil {
		t.Error("what is no container can be held")
	}
}

// Maps of another size are of another generation: those that are pinned can't be used.
func TestGenerationHasItsRing(t *testing.T) {
	object := []byte("programs")
	if a, b := generationOf(object, 4096), generationOf(object, 8192); a == b {
		t.Errorf("both are %s", a)
	}
	if a, b := generationOf(object, 4096), generationOf(object, 4096); a != b {
		t.Errorf("the same are %s and %s", a, b)
	}
}
