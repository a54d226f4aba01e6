package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/profile"
)

// pinsFolder is a file system for pins of its own.
func pinsFolder(t *testing.T) string {
	t.Helper()
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
	return dir
}

// A kernel that can't hold to a control is asked once, and each group says why.
func TestWhatAKernelCantHoldIsSaid(t *testing.T) {
	dir := pinsFolder(t)
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

// What passes, such as a host without memory, is no word on the kernel: it is asked again.
func TestWhatPassesIsTriedAgain(t *testing.T) {
	dir := pinsFolder(t)
	var asked int
	g := &Guard{
		what: "the network", log: slog.New(slog.DiscardHandler), dir: dir, wants: wantsNetwork, unloaded: netControls, news: make(chan struct{}),
		open: func() (programs, error) { asked++; return nil, fmt.Errorf("load programs: %w", unix.ENOMEM) },
	}
	r := profile.Rules{Group: "a/b/c", Answers: map[profile.Control]profile.Answer{}}
	for _, c := range profile.Controls() {
		r.Answers[c] = profile.Deny
	}
	for range 2 {
		if err := g.Set(r); err == nil {
			t.Error("rules are in force though nothing was loaded")
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want twice", asked)
	}
	for err, want := range map[error]bool{unix.EPERM: false, unix.EINVAL: false, ebpf.ErrNotSupported: false, os.ErrNotExist: false, unix.ENOENT: true, unix.EMFILE: true} {
		if got := passes(fmt.Errorf("load: %w", err)); got != want {
			t.Errorf("%v passes: %t, want %t", err, got, want)
		}
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
