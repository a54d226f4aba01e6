package guest_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/test/vm/guest"
)

// Containers are held to their programs by the best rung of this kernel: refused by
// BPF LSM where it has that, killed elsewhere. They stay held when the program that
// set it up has ended.
func TestProgramsAreHeld(t *testing.T) {
	mountAt(t, "/sys/fs/bpf", "bpf", "")
	dir := filepath.Join("/sys/fs/bpf", "castellan")
	rules := func(paths ...profile.Pattern) profile.Rules {
		r := profile.Rules{Group: "a/b/c", Answers: map[profile.Control]profile.Answer{}}
		for _, c := range profile.Controls() {
			r.Answers[c] = profile.Deny
		}
		r.Exec.Paths = paths
		return r
	}
	l := layouts()[0]
	c := newContainer(t, newID(t), l.mount(t))
	g, err := bpf.OpenExecGuard(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := bpf.Release(dir); err != nil {
			t.Error(err)
		}
	})
	if err := g.Set(rules(guest.Subject)); err != nil {
		t.Fatal(err)
	}
	rung := g.Controls(rules().Answers)[0].Rung
	t.Logf("by %s", rung)
	if err := g.Hold(c.id, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if got := c.run(t, "exit", "5"); got != 5 {
		t.Errorf("a program of the profile: %d, want 5", got)
	}
	// What is refused makes the subject end with an error; what is killed has no code.
	for name, args := range map[string][]string{"written": {"drop", "/tmp/dropped", "exit", "5"}, "in memory": {"memory", "exit", "5"}} {
		if got := c.run(t, args...); got == 5 {
			t.Errorf("%s: it runs", name)
		}
	}
	g, err = bpf.OpenExecGuard(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Set(rules("/bin/other")); err != nil {
		t.Fatal(err)
	}
	if got := c.run(t, "exit", "5"); got == 5 {
		t.Error("a program that the profile does not have: it runs")
	}
	if err := g.Set(rules(guest.Subject)); err != nil {
		t.Fatal(err)
	}
	if got := c.run(t, "exit", "6"); got != 6 {
		t.Errorf("a program that the profile has again: %d, want 6", got)
	}
}
