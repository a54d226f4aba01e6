package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/harden/intent"
)

// What is said alike of many paths is one line, and every other note one of its own.
func TestNotesThatAreAlikeAreOne(t *testing.T) {
	note := func(e harden.Effect, o harden.Output, about, text string) harden.Note {
		return harden.Note{Output: o, Note: intent.Note{Effect: e, About: about, Text: text}}
	}
	folder := func(about, folder string) harden.Note {
		return note(harden.Wider, harden.Landlock, about, "anything in "+folder+" may be changed: by folder")
	}
	notes := []harden.Note{
		folder("/a/x", "/a"), note(harden.Wider, harden.Seccomp, "", "files are not held"), folder("/b/*/y", "/b"), folder("/c/z", "/c"), folder("/d/z", "/d"),
		note(harden.Narrower, harden.Landlock, "/a/x", "it is refused"), note(harden.Wider, harden.AppArmor, "/a/x", "it may run"),
	}
	for effect, want := range map[harden.Effect][]string{
		harden.Wider:    {"/a/x, /b/*/y and 2 more: anything in its folder may be changed: by folder", "files are not held", "/a/x: it may run"},
		harden.Narrower: {"/a/x: it is refused"},
		harden.Advice:   nil,
	} {
		var got []string
		for _, n := range notesAlike(notes, effect) {
			got = append(got, n.words())
		}
		if d := cmp.Diff(got, want); d != "" {
			t.Errorf("%s (-got +want):\n%s", effect, d)
		}
	}
	one := notesAlike([]harden.Note{folder("/a/x", "/a")}, harden.Wider)
	if got, want := one[0].words(), "/a/x: anything in /a may be changed: by folder"; got != want {
		t.Errorf("one alone: got %q, want %q", got, want)
	}
}
