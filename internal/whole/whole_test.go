package whole_test

import (
	"os"
	"path/filepath"
	"testing"

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
