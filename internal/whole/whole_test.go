package whole_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/whole"
)

func TestWrite(t *testing.T) {
	for name, write := range map[string]func(string, []byte) error{"synced": whole.Write, "soon": whole.WriteSoon} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "file")
			for _, content := range []string{"first", "2"} {
				if err := write(file, []byte(content)); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(file)
				if err != nil || string(got) != content {
					t.Errorf("got %q, %v, want %q", got, err, content)
				}
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
				t.Errorf("mode is %v, %v", info.Mode(), err)
			}
			// What can't be put in place leaves nothing behind.
			if err := os.MkdirAll(filepath.Join(dir, "folder", "full"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := write(filepath.Join(dir, "folder"), []byte("x")); err == nil {
				t.Error("a folder was replaced")
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
				t.Errorf("left in the folder: %v, %v", entries, err)
			}
			if err := write(filepath.Join(dir, "none", "file"), nil); err == nil {
				t.Error("a file was written into a folder that is not there")
			}
		})
	}
}

// What a program that was killed had not finished goes; what somebody may be writing stays.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rules", "deeper"), 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * time.Hour)
	for name, stays := range map[string]bool{".new-1": false, "rules/.new-2": false, "rules/deeper/.new-3": true, "rules/old": true, "new-4": true} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, long, long)); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := os.Lstat(file); (err == nil) != stays {
				t.Errorf("%s: %v, want it to stay: %t", name, err, stays)
			}
		}()
	}
	young := filepath.Join(dir, ".new-5")
	if err := os.WriteFile(young, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := whole.Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(young); err != nil {
		t.Errorf("what is being written is gone: %v", err)
	}
}
