package git

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// A history of more than is looked at ends with an error that says so, and one of as
// much does not.
func TestLimits(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	folder := t.TempDir()
	run := func(words ...string) {
		c := exec.Command("git", append([]string{"-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org"}, words...)...)
		c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", words, err, out)
		}
	}
	run("init")
	for n := range 3 { // the third brings what the first had: a change, and no content
		if err := os.WriteFile(filepath.Join(folder, "a"), fmt.Appendf(nil, "%d", n%2), 0o644); err != nil {
			t.Fatal(err)
		}
		run("add", ".")
		run("commit", "-m", "x")
	}
	if err := os.WriteFile(filepath.Join(folder, "b"), []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	run("add", ".")
	run("commit", "-m", "x")
	for _, tc := range []struct {
		name string
		l    limits
		want string
	}{
		{"as much", limits{blobs: 3, changes: 4}, ""},
		{"changes", limits{blobs: 3, changes: 3}, "history has more than 3 changes"},
		{"contents", limits{blobs: 2, changes: 4}, "history has more than 2 contents"},
		{"contents of the newest", limits{blobs: 1, changes: 4}, "the newest commit has more than 1 contents"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := Open(t.Context(), folder)
			if err != nil {
				t.Fatal(err)
			}
			r.limits = tc.l
			err = r.Each(t.Context(), func(inventory.Blob, io.Reader) error { return nil })
			if tc.want == "" {
				if err != nil {
					t.Errorf("Each = %v", err)
				}
				return
			}
			if !fault.Is(err, fault.Exhausted) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Each = %v, want %q", err, tc.want)
			}
		})
	}
}
