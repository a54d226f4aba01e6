package git_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/git"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// made makes a repository by commands of git, each a list of words.
func made(t *testing.T, folder string, commands ...[]string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	for _, words := range commands {
		c := exec.Command("git", append([]string{"-C", folder, "-c", "user.name=A. Uthor", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"}, words...)...)
		c.Env = append(os.Environ(), "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z", "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", words, err, out)
		}
	}
}

func write(t *testing.T, folder, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func each(t *testing.T, folder string) []string {
	t.Helper()
	return eachOf(t, folder, func(*git.Repository) error { return nil })
}

// eachOf is what a repository hands over once it is told what is wanted of it.
func eachOf(t *testing.T, folder string, tell func(*git.Repository) error) (lines []string) {
	t.Helper()
	r, err := git.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := tell(r); err != nil {
		t.Fatal(err)
	}
	err = r.Each(t.Context(), func(b inventory.Blob, content io.Reader) error {
		text, err := io.ReadAll(content)
		if b.Message {
			return err
		}
		lines = append(lines, fmt.Sprintf("%q %q %d %v %s %s", b.Path, text, b.Size, b.Newest, b.Commit.Author, b.Commit.When.Format("2006-01-02")))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// Every content comes once for each path, with what is gone and what only other branches and
// tags have.
func TestEach(t *testing.T) {
	f := t.TempDir()
	write(t, f, "a.txt", "one")
	write(t, f, "odd name\n:100644", "two")
	made(t, f, []string{"init"}, []string{"add", "."}, []string{"commit", "-m", "first\n\x01not a commit"})
	write(t, f, "a.txt", "three")
	write(t, f, "copy.txt", "two")
	made(t, f, []string{"add", "."}, []string{"commit", "-m", "second"}, []string{"checkout", "-b", "side"})
	write(t, f, "side.txt", "")
	write(t, f, "deep/er.txt", "four\n")
	made(t, f, []string{"add", "."}, []string{"commit", "-m", "third"}, []string{"checkout", "main"}, []string{"rm", "copy.txt"}, []string{"commit", "-m", "fourth"})
	const by = " A. Uthor 2026-01-02"
	want := []string{`"a.txt" "one" 3 false` + by, `"odd name\n:100644" "two" 3 true` + by, `"a.txt" "three" 5 true` + by, `"copy.txt" "two" 3 true` + by,
		`"deep/er.txt" "four\n" 5 false` + by, `"side.txt" "" 0 false` + by}
	if d := cmp.Diff(each(t, f), want); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
}

// Of a branch what it has brought, of the index what the next commit will bring: the
// staged content, whatever the file has by now.
func TestSinceAndStaged(t *testing.T) {
	f := t.TempDir()
	write(t, f, "a.txt", "one")
	made(t, f, []string{"init"}, []string{"add", "."})
	staged := func(r *git.Repository) error { r.Staged(); return nil }
	const nobody = "  0001-01-01"
	if d := cmp.Diff(eachOf(t, f, staged), []string{`"a.txt" "one" 3 true` + nobody}); d != "" {
		t.Errorf("before the first commit (-got +want):\n%s", d)
	}
	made(t, f, []string{"commit", "-m", "first"}, []string{"checkout", "-b", "side"})
	write(t, f, "b.txt", "two")
	made(t, f, []string{"add", "."}, []string{"commit", "-m", "second"}, []string{"rm", "-q", "a.txt"})
	write(t, f, "c.txt", "three")
	made(t, f, []string{"add", "c.txt"})
	write(t, f, "c.txt", "changed since")
	since := func(r *git.Repository) error { return r.Since(t.Context(), "main") }
	if d := cmp.Diff(eachOf(t, f, since), []string{`"b.txt" "two" 3 true A. Uthor 2026-01-02`}); d != "" {
		t.Errorf("since main (-got +want):\n%s", d)
	}
	if d := cmp.Diff(eachOf(t, f, staged), []string{`"c.txt" "three" 5 true` + nobody}); d != "" {
		t.Errorf("staged (-got +want):\n%s", d)
	}
	r, err := git.Open(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []string{"none", "--all", "", "main --all", "a.txt"} {
		if err := r.Since(t.Context(), revision); !fault.Is(err, fault.NotFound) {
			t.Errorf("Since(%q) = %v, want fault.NotFound", revision, err)
		}
	}
}

// A repository's settings start nothing: whoever wrote them is not trusted.
func TestSettingsStartNothing(t *testing.T) {
	f := t.TempDir()
	mark := filepath.Join(t.TempDir(), "started")
	write(t, f, "a.txt", "one")
	write(t, f, ".gitattributes", "*.txt diff=evil filter=evil\n")
	run := filepath.Join(t.TempDir(), "evil")
	if err := os.WriteFile(run, []byte("#!/bin/sh\ntouch "+mark+"\ncat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	made(t, f, []string{"init"}, []string{"add", "."}, []string{"commit", "-m", "first"})
	for _, name := range []string{"core.fsmonitor", "core.pager", "pager.log", "diff.external", "diff.evil.command", "diff.evil.textconv", "filter.evil.smudge",
		"core.sshCommand", "gpg.program", "core.editor", "credential.helper", "alias.log"} {
		made(t, f, []string{"config", name, run}, []string{"config", "log.showSignature", "true"})
	}
	if got := each(t, f); len(got) != 2 {
		t.Errorf("got %v, want both files", got)
	}
	write(t, f, "b.txt", "two")
	made(t, f, []string{"-c", "core.fsmonitor=false", "-c", "filter.evil.smudge=", "add", "b.txt"})
	os.Remove(mark) //nolint:errcheck // git by itself may have started one to add
	if got := eachOf(t, f, func(r *git.Repository) error { r.Staged(); return nil }); len(got) != 1 {
		t.Errorf("staged is %v, want one file", got)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a setting of the repository started a program")
	}
	// The settings are such as start one: git by itself does.
	made(t, f, []string{"log", "-p", "--textconv", "--ext-diff"})
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the settings of this test start nothing: %v", err)
	}
}

// What a clone lacks is counted, and never fetched.
func TestWhatIsLacking(t *testing.T) {
	f, clone := t.TempDir(), t.TempDir()
	write(t, f, "a.txt", "one")
	made(t, f, []string{"init"}, []string{"add", "."}, []string{"commit", "-m", "first"}, []string{"config", "uploadpack.allowFilter", "true"})
	write(t, f, "a.txt", "two")
	made(t, f, []string{"commit", "-am", "second"}, []string{"clone", "--filter=blob:none", "--no-checkout", "file://" + f, clone + "/blobless"}, []string{"clone", "--depth=1", "file://" + f, clone + "/shallow"})
	for name, want := range map[string][]int{"blobless": {2, 0, 2, 0}, "shallow": {1, 1, 0, 1}} {
		r, err := git.Open(t.Context(), filepath.Join(clone, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Each(t.Context(), func(inventory.Blob, io.Reader) error { return nil }); err != nil {
			t.Fatal(err)
		}
		shallow := 0
		if r.Shallow {
			shallow = 1
		}
		if d := cmp.Diff([]int{r.Commits, r.Blobs, r.Missing, shallow}, want); d != "" {
			t.Errorf("%s: commits, contents, missing, shallow (-got +want):\n%s", name, d)
		}
	}
}

func TestWhatIsNoRepository(t *testing.T) {
	made(t, t.TempDir())
	if _, err := git.Open(t.Context(), t.TempDir()); !fault.Is(err, fault.NotFound) {
		t.Errorf("Open = %v, want fault.NotFound", err)
	}
	f := t.TempDir()
	made(t, f, []string{"init"})
	if got := each(t, f); len(got) != 0 {
		t.Errorf("an empty repository has %v", got)
	}
}

// What commits, merges, tags, notes and stashes say and bring is handed over, what is
// kept under a branch's name or not.
func TestMessages(t *testing.T) {
	folder := t.TempDir()
	made(t, folder, []string{"init", "-q"})
	write(t, folder, "a.txt", "one")
	made(t, folder, []string{"add", "."}, []string{"commit", "-qm", "first\n\nbody of it"}, []string{"checkout", "-qb", "side"})
	write(t, folder, "b.txt", "side")
	made(t, folder, []string{"add", "."}, []string{"commit", "-qm", "second"}, []string{"checkout", "-q", "main"}, []string{"mv", "a.txt", "c.txt"}, []string{"commit", "-qm", "third"},
		[]string{"merge", "-q", "--no-commit", "--no-ff", "side"})
	write(t, folder, "merged.txt", "only in the merge")
	made(t, folder, []string{"add", "."}, []string{"commit", "-qm", "merge"}, []string{"tag", "-am", "said of a tag", "v1"}, []string{"tag", "light"}, []string{"notes", "add", "-m", "a note"})
	write(t, folder, "stashed.txt", "put aside")
	made(t, folder, []string{"stash", "-q", "--include-untracked", "-m", "a stash"})
	r, err := git.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	var messages, contents []string
	if err := r.Each(t.Context(), func(b inventory.Blob, content io.Reader) error {
		text, err := io.ReadAll(content)
		if b.Message {
			if b.Path != "" || len(b.Commit.Hash) != 40 {
				t.Errorf("message %q of %+v", text, b)
			}
			messages = append(messages, string(text))
		} else {
			contents = append(contents, b.Path+": "+string(text))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first\n\nbody of it\n", "second\n", "third\n", "merge\n", "said of a tag\n", "On main: a stash"} {
		if !slices.Contains(messages, want) {
			t.Errorf("no message %q among %q", want, messages)
		}
	}
	for _, want := range []string{"a.txt: one", "b.txt: side", "c.txt: one", "merged.txt: only in the merge", "stashed.txt: put aside"} {
		if !slices.Contains(contents, want) {
			t.Errorf("no content %q among %q", want, contents)
		}
	}
	if !slices.ContainsFunc(contents, func(s string) bool { return strings.HasSuffix(s, ": a note\n") }) {
		t.Errorf("no note among %q", contents)
	}
}
